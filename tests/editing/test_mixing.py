"""Two inversions mixed and one given to a sister generator: what arrives in the result, and what is refused."""

from dataclasses import replace

import pytest
import torch

from editing import mixing
from editing.inversion import residual
from editing.types import Inversion
from hyperstyle import refine
from stylegan2.checkpoints import Provenance
from stylegan2.engine import broadcast, latents
from stylegan2.errors import InversionError, UsageError
from stylegan2.generator import Delta, FeatureEdit, Layer
from tests.hyperstyle import toys

FINE = "b128.conv0"
OWN, SISTER = "a" * 64, "b" * 64


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def generator():
    """256 pixels, so that it has fine layers, and a few channels."""
    made = toys.generator(256, 512)
    made.provenance = Provenance(OWN, OWN, "toy")
    return made


def face(generator, seed, maps=3, kind="add"):
    """An inversion with a code, offsets of a coarse and a fine layer, and a residual at its own code."""
    ws = broadcast(generator, latents(generator, [seed])).clone()
    stage = residual.stage(generator)
    channels, size = generator.synthesis(ws, until=stage).shape[1:3]
    basis, drawn = draw(1, channels, maps, seed=seed), draw(1, maps, size, size, seed=seed + 1)
    features = {stage: FeatureEdit(drawn, torch.full((1, 1, size, size), 0.5), ws, basis=basis)}
    deltas = {name: offset(generator, name, kind, seed) for name in ("b4.conv1", FINE)}
    place = {"quad": draw(4, 2, seed=seed).numpy(), "photo_sha256": f"{seed:064}", "metrics": {"l2": 0.1}}
    made = {"family": generator.family, "generator_sha256": OWN, "method": "tune", "steps": 9}
    return Inversion(ws=ws, deltas=deltas, features=features, **place, **made)


def offset(generator, name, kind, seed):
    shape = generator.layers[name].shape
    if kind == "lowrank":
        return Delta(kind, (0.1 * draw(1, shape[0], 2, seed=seed), draw(1, 2, shape[1] * 9, seed=seed + 1)))
    return Delta(kind, (0.3 * draw(1, *shape, seed=seed),))


@pytest.fixture(scope="module")
def pair(generator):
    return face(generator, 1), face(generator, 5, maps=2)


# ------------------------------------------------------------------------------------------- interpolate


def test_the_ends_are_the_ends_to_the_bit(generator, pair):
    a, b = pair
    drawn = [residual.render(generator, mixing.interpolate(generator, a, b, amount)) for amount in (0, 1)]
    assert torch.equal(drawn[0], residual.render(generator, a))
    assert torch.equal(drawn[1], residual.render(generator, b))
    assert not torch.equal(*drawn)


def test_both_orders_draw_the_same_and_the_middle_differs_from_both(generator, pair):
    a, b = pair
    there, back = mixing.interpolate(generator, a, b, 0.3), mixing.interpolate(generator, b, a, 0.7)
    one, other = (residual.render(generator, inversion) for inversion in (there, back))
    assert torch.allclose(one, other, atol=1e-4)
    assert all((one - residual.render(generator, end)).abs().mean() > 1e-3 for end in pair)


def test_every_part_takes_part_and_the_residuals_apply_as_they_would_at_the_new_code(generator, pair):
    mixed = mixing.interpolate(generator, *pair, 0.25)
    assert torch.allclose(mixed.ws, 0.75 * pair[0].ws + 0.25 * pair[1].ws, atol=1e-6)
    weight = torch.zeros(generator.layers[FINE].shape)
    apart = [0.75 * pair[0].deltas[FINE].apply(weight), 0.25 * pair[1].deltas[FINE].apply(weight)]
    assert torch.allclose(mixed.deltas[FINE].apply(weight), sum(apart), atol=1e-6)
    (edit,) = mixed.features.values()
    assert torch.equal(edit.base_ws, mixed.ws) and edit.mask.eq(1).all() and edit.residual.shape[1] == 3 + 2
    expected = 0
    for inversion, share in zip(pair, (0.75, 0.25), strict=True):
        (followed,) = residual.gated(generator, inversion.features, mixed.ws).values()
        expected = expected + share * followed.mask * mixing.whole(followed)
    assert torch.allclose(mixing.whole(edit), expected, atol=1e-5)


def test_a_residual_halfway_is_half_of_each_where_nothing_moved(generator, pair):
    """At one common code nothing fades, so the sum can be written down."""
    a = pair[0]
    b = replace(pair[1], ws=a.ws, features={s: replace(e, base_ws=a.ws) for s, e in pair[1].features.items()})
    (edit,) = mixing.interpolate(generator, a, b, 0.5).features.values()
    (one,), (other,) = a.features.values(), b.features.values()
    expected = 0.5 * 0.5 * (mixing.whole(one) + mixing.whole(other))  # share and mask
    assert torch.allclose(mixing.whole(edit), expected, atol=1e-5)


def test_what_only_one_of_them_has_is_scaled(generator, pair):
    plain = replace(pair[1], deltas=None, features=None)
    mixed = mixing.interpolate(generator, pair[0], plain, 0.25)
    assert torch.allclose(mixed.deltas[FINE].factors[0], 0.75 * pair[0].deltas[FINE].factors[0])
    bare = mixing.interpolate(generator, plain, plain, 0.25)
    assert bare.deltas is None and bare.features is None


@pytest.mark.parametrize("kinds", [("lowrank", "lowrank"), ("add", "lowrank"), ("lowrank", "add"), ("mul", "mul")])
def test_the_sum_of_two_offsets_is_exact_where_there_is_one(generator, kinds):
    weight, layer = draw(*generator.layers[FINE].shape, seed=9), generator.layers[FINE]
    a, b = (offset(generator, FINE, kind, seed) for seed, kind in enumerate(kinds))
    both = mixing.added(a, b, layer)
    assert torch.allclose(both.apply(weight) - weight, a.apply(weight) + b.apply(weight) - 2 * weight, atol=1e-5)
    assert both.kind == ("add" if len(set(kinds)) == 2 else kinds[0])


def test_offsets_that_have_no_sum_are_refused_in_a_sentence(generator):
    with pytest.raises(InversionError, match=r"multiplies the weights of b4\.conv1.*one method"):
        mixing.interpolate(generator, face(generator, 1), face(generator, 2, kind="mul"), 0.5)


def test_residuals_without_a_basis_and_on_the_skip_image_are_summed_too():
    ws, mask = torch.zeros(1, 1, 1), torch.rand(1, 1, 4, 4)
    dense = FeatureEdit(draw(1, 6, 4, 4), mask, ws, rgb=draw(1, 3, 4, 4, seed=3))
    factored = FeatureEdit(draw(1, 2, 4, 4, seed=1), torch.ones(1, 1, 4, 4), ws, basis=draw(1, 6, 2, seed=2))
    both = mixing.total([(dense, 0.25), (factored, 0.75)], ws)
    assert both.basis is None
    expected = 0.25 * mask * dense.residual + 0.75 * mixing.whole(factored)
    assert torch.allclose(both.residual, expected, atol=1e-6)
    assert torch.allclose(both.mask * both.rgb, 0.25 * mask * dense.rgb)


def test_the_result_is_an_inversion_like_others(generator, pair, tmp_path):
    mixed = mixing.interpolate(generator, *pair, 0.5).compact()
    assert (mixed.method, mixed.steps, mixed.metrics) == ("interpolate", 0, {})
    assert (mixed.photo_sha256, mixed.generator_sha256) == (pair[0].photo_sha256, OWN)
    assert (mixed.quad == pair[0].quad).all()
    again = Inversion.load(mixed.save(tmp_path / "a.inversion"))
    assert torch.equal(residual.render(generator, again), residual.render(generator, mixed))
    smile = replace(again, ws=again.ws + 0.1)  # an edit goes on from here
    assert residual.render(generator, smile).isfinite().all()


@pytest.mark.parametrize("amount", [-0.1, 1.1, float("nan"), "half"])
def test_amounts_outside_are_refused(generator, pair, amount):
    with pytest.raises(UsageError):
        mixing.interpolate(generator, *pair, amount)


@pytest.mark.parametrize(
    "wrong",
    [
        {"family": "stylegan2-1024"},
        {"generator_sha256": SISTER},
        {"ws": torch.zeros(1, 2, 8)},
        {"deltas": {"b512.conv0": Delta("add", (torch.zeros(1),))}},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_inversions_of_something_else_are_refused(generator, pair, wrong):
    for a, b in ((pair[0], replace(pair[1], **wrong)), (replace(pair[0], **wrong), pair[1])):
        with pytest.raises(InversionError):
            mixing.interpolate(generator, a, b, 0.5)
        with pytest.raises(InversionError):
            mixing.style_mix(generator, a, b)


# --------------------------------------------------------------------------------------------- style mix


def test_rows_and_the_offsets_of_their_layers_go_together(generator, pair):
    content, style = pair
    row = generator.layers[FINE].row
    for first_row, fine in ((row, style), (row + 1, content)):
        mixed = mixing.style_mix(generator, content, style, first_row)
        assert torch.equal(mixed.ws[:, :first_row], content.ws[:, :first_row])
        assert torch.equal(mixed.ws[:, first_row:], style.ws[:, first_row:])
        assert mixed.deltas["b4.conv1"] is content.deltas["b4.conv1"]
        assert mixed.deltas[FINE] is fine.deltas[FINE]
        assert mixed.features is content.features  # with the code it was made for, so that it fades
        assert (mixed.method, mixed.metrics, mixed.photo_sha256) == ("style mix", {}, content.photo_sha256)


def test_an_offset_that_the_style_lacks_is_not_taken_from_the_content(generator, pair):
    mixed = mixing.style_mix(generator, pair[0], replace(pair[1], deltas=None))
    assert set(mixed.deltas) == {"b4.conv1"}


@pytest.mark.parametrize("first_row", [0, -1, 14])
def test_a_style_of_all_or_nothing_is_refused(generator, pair, first_row):
    with pytest.raises(UsageError, match=rf"between 1 and 13 here, not at {first_row}"):
        mixing.style_mix(generator, *pair, first_row)


# ------------------------------------------------------------------------------------- another generator


@pytest.fixture
def sister(generator):
    other = toys.generator(256, 512)
    other.provenance = Provenance(SISTER, SISTER, "toy")
    return other


def test_a_sister_gets_the_code_and_the_offsets_of_the_fine_layers(sister, pair):
    given = mixing.transferred(pair[0], sister)
    assert torch.equal(given.ws, pair[0].ws) and given.generator_sha256 == SISTER
    assert set(given.deltas) == {FINE} and given.features is None and given.metrics == {}
    assert mixing.transferred(pair[0], sister, keep_features=True).features is pair[0].features
    given.require(sister.family, SISTER)  # no longer needs a transfer
    assert residual.render(sister, given).isfinite().all()


def test_the_kept_layers_are_the_published_ones(sister, pair):
    deltas = {name: offset(sister, name, "add", 0) for name, layer in sister.layers.items()}
    kept = mixing.transferred(replace(pair[0], deltas=deltas), sister).deltas
    assert kept == refine.transferable(deltas) and len(kept) == 4


def test_the_last_layer_of_the_default_generator_is_not_kept(sister, pair):
    fine, last, coarse = "layers.6.conv2.pointwise", "layers.6.to_img", "layers.3.conv1.pointwise"
    facts = {fine: ("pointwise", 512), last: ("to_rgb", 512), coarse: ("pointwise", 64)}
    layers = {name: Layer(name, (2, 2), 1, *kind_and_size) for name, kind_and_size in facts.items()}

    class Mobile:
        family, num_ws, w_dim, provenance = sister.family, sister.num_ws, sister.w_dim, sister.provenance

    Mobile.layers = layers
    deltas = {name: Delta("add", (torch.zeros(1, 2, 2),)) for name in facts}
    assert set(mixing.transferred(replace(pair[0], deltas=deltas), Mobile()).deltas) == {fine}


def test_its_own_generator_gets_the_inversion_as_it_is_and_another_family_nothing(generator, sister, pair):
    assert mixing.transferred(pair[0], generator) is pair[0]
    with pytest.raises(InversionError, match="cannot be used"):
        mixing.transferred(replace(pair[0], family="mobilestylegan-1024"), sister)


@pytest.mark.weights
def test_faces_between_faces_are_bit_equal_at_the_ends_and_may_be_edited(mobile):
    from editing.directions import apply, catalogue

    def person(seed):
        ws = broadcast(mobile, latents(mobile, [seed], 0.7)).clone()
        maps, mask = 0.1 * draw(1, 4, 128, 128, seed=seed), torch.ones(1, 1, 128, 128)
        lift = FeatureEdit(maps, mask, ws, basis=draw(1, 256, 4, seed=seed))
        return Inversion(ws=ws, family=mobile.family, features={"b128": lift})

    a, b = person(19), person(12)
    assert torch.equal(residual.render(mobile, mixing.interpolate(mobile, a, b, 1)), residual.render(mobile, b))
    middle = mixing.interpolate(mobile, a, b, 0.5)
    picture = residual.render(mobile, middle)
    smiling = residual.render(mobile, replace(middle, ws=apply(middle.ws, catalogue.load()["smile"], 2.0)))
    assert (smiling - picture)[..., 600:800, 300:700].abs().mean() > 0.02
