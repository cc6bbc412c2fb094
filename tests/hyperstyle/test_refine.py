"""Iterative refinement: sums of offsets, codes and generator that stay as they are, cancelling between passes."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from encoders.checkpoints import encode
from hyperstyle.checkpoints import LoadedHyperStyle
from hyperstyle.networks import ALL_LAYERS, HyperStyleConfig
from hyperstyle.refine import add, invert, refine, transferable
from stylegan2.checkpoints import tensors_sha256
from stylegan2.errors import Cancelled, CheckpointError
from stylegan2.generator import Delta
from tests.hyperstyle import toys


@pytest.fixture
def loaded(hypernet):
    return LoadedHyperStyle(hypernet, None, Path("h.pt"))


@pytest.fixture(scope="module")
def w_encoder():
    return toys.w_encoder()


def fingerprint(network):
    return tensors_sha256({f"{name} ": tensor.float() for name, tensor in network.state_dict().items()})


def close(one, other, **tolerance):
    assert list(one) == list(other)
    for name in one:
        torch.testing.assert_close(one[name].factors[0], other[name].factors[0], **tolerance)


# ---- sets of offsets


def test_add():
    one = {"a": Delta("mul", (torch.ones(1, 2, 2, 1, 1),)), "b": Delta("add", (torch.zeros(1, 2, 2, 3, 3),))}
    other = {"b": Delta("add", (torch.ones(1, 2, 2, 3, 3),)), "a": Delta("mul", (torch.full((1, 2, 2, 1, 1), 2.0),))}
    total = add(one, other)
    assert [total[name].kind for name in ("a", "b")] == ["mul", "add"]
    assert torch.equal(total["a"].factors[0], torch.full((1, 2, 2, 1, 1), 3.0))
    assert torch.equal(total["b"].factors[0], torch.ones(1, 2, 2, 3, 3))
    assert one["a"].factors[0].max() == 1 and other["a"].factors[0].max() == 2  # untouched


def test_what_cannot_be_added():
    flat, full = torch.zeros(1, 2, 2, 1, 1), torch.zeros(1, 2, 2, 3, 3)
    with pytest.raises(ValueError, match="different layers.*: b"):
        add({"a": Delta("mul", (flat,))}, {"a": Delta("mul", (flat,)), "b": Delta("mul", (flat,))})
    low = Delta("lowrank", (torch.zeros(1, 2, 1), torch.zeros(1, 1, 2)))
    for other in (Delta("add", (flat,)), Delta("mul", (full,)), low):
        with pytest.raises(ValueError, match="deltas of a cannot be added"):
            add({"a": Delta("mul", (flat,))}, {"a": other})
    with pytest.raises(ValueError, match="low rank"):
        add({"a": low}, {"a": low})


def test_fine_layers_are_transferable():
    config = HyperStyleConfig(layers=ALL_LAYERS)
    deltas = {layer.name: Delta("mul", (torch.full((1,), float(i)),)) for i, layer in config.tuned.items()}
    kept = transferable(deltas)
    assert [int(delta.factors[0]) for delta in kept.values()] == [14, 15, 17, 18, 20, 21, 23, 24]
    assert all(kept[name] is deltas[name] for name in kept)


# ---- passes


def test_every_pass_adds_to_the_last(loaded, w_encoder, generator, images):
    ws, deltas = invert(loaded, w_encoder, generator, images, passes=3)
    assert torch.equal(ws, encode(w_encoder, images))
    photo, total = F.avg_pool2d(images, 2), {}
    with torch.no_grad():
        for _ in range(3):
            picture = F.interpolate(generator.synthesis(ws, total or None), size=(256, 256), mode="area")
            found = loaded.hypernet(torch.cat([photo, picture], dim=1))
            total = {n: Delta("mul", (d.factors[0] + (total[n].factors[0] if total else 0),)) for n, d in found.items()}
    close(deltas, total)
    one = invert(loaded, w_encoder, generator, images, passes=1)[1]
    assert all((deltas[name].factors[0] - 3 * one[name].factors[0]).abs().max() > 1e-4 for name in one)


def test_five_passes_unless_told_otherwise(loaded, w_encoder, generator, images):
    calls = []
    _, five = invert(loaded, w_encoder, generator, images[:1], callback=lambda: calls.append(1))
    assert len(calls) == 5
    close(five, invert(loaded, w_encoder, generator, images[:1], passes=5)[1])
    ws, none = invert(loaded, w_encoder, generator, images[:1], passes=0)
    assert none == {} and torch.equal(ws, encode(w_encoder, images[:1]))


def test_images_of_a_batch_do_not_see_each_other(loaded, w_encoder, generator, images):
    ws, both = invert(loaded, w_encoder, generator, images, passes=2)
    one, alone = invert(loaded, w_encoder, generator, images[1:], passes=2)
    torch.testing.assert_close(ws[1:], one, atol=1e-5, rtol=1e-4)
    close({name: Delta("mul", (d.factors[0][1:],)) for name, d in both.items()}, alone, atol=1e-3, rtol=1e-3)


def test_a_pass_sees_the_photo_first_and_the_render_second(generator):
    seen = []

    def network(pair):
        seen.append(pair)
        return {"b4.conv1": Delta("mul", (torch.full((1, 8, 8, 1, 1), float(len(seen))),))}

    photo, ws = torch.full((1, 3, 64, 64), 0.25), torch.zeros(1, 8, 8)
    deltas = refine(network, generator, photo, ws, passes=3)
    assert [tuple(pair.shape) for pair in seen] == [(1, 6, 256, 256)] * 3
    assert all(torch.equal(pair[:, :3], torch.full((1, 3, 256, 256), 0.25)) for pair in seen)
    assert deltas["b4.conv1"].factors[0].max() == 1 + 2 + 3
    for pair, total in zip(seen, (0, 1, 1 + 2), strict=True):
        now = {"b4.conv1": Delta("mul", (torch.full((1, 8, 8, 1, 1), float(total)),))}
        picture = generator.synthesis(ws, now)
        torch.testing.assert_close(pair[:, 3:], F.interpolate(picture, size=(256, 256), mode="area"))


def test_no_graph_is_kept(generator):
    """Not even from networks that are being trained: five renders would fill the memory."""
    offset = torch.ones(1, 8, 8, 1, 1, requires_grad=True)
    deltas = refine(lambda pair: {"b4.conv1": Delta("mul", (offset * 2,))}, generator, torch.zeros(1, 3, 64, 64),
                    torch.zeros(1, 8, 8), passes=1)  # fmt: skip
    assert not deltas["b4.conv1"].factors[0].requires_grad


# ---- nothing is changed


def test_generator_and_networks_stay_as_they_are(loaded, w_encoder, generator, images):
    networks = (generator, loaded.hypernet, w_encoder.encoder)
    before = [fingerprint(network) for network in networks]
    picture = generator.synthesis(torch.zeros(1, 8, 8))
    ws, deltas = invert(loaded, w_encoder, generator, images[:1], passes=2)
    assert [fingerprint(network) for network in networks] == before
    assert torch.equal(generator.synthesis(torch.zeros(1, 8, 8)), picture)
    assert (generator.synthesis(ws, deltas) - generator.synthesis(ws)).abs().max() > 1e-3

    calls = []

    def cancel():
        calls.append(1)
        if len(calls) == 2:
            raise Cancelled("enough")

    with pytest.raises(Cancelled, match="enough"):
        invert(loaded, w_encoder, generator, images[:1], callback=cancel)
    assert len(calls) == 2  # nothing went on after it
    assert [fingerprint(network) for network in networks] == before
    assert torch.equal(generator.synthesis(torch.zeros(1, 8, 8)), picture)


def test_fingerprints_see_a_changed_weight(generator):
    changed = toys.generator()
    assert fingerprint(changed) == fingerprint(generator)
    changed.synthesis.b8.conv0.weight[0, 0, 0, 0] += 1e-3
    assert fingerprint(changed) != fingerprint(generator)


# ---- what fits


def test_averages_of_the_codes(hypernet, generator, images):
    encoder = toys.w_encoder(average=None)
    with torch.no_grad():
        codes = encoder.encoder(F.avg_pool2d(images, 2))
    generator = toys.generator()
    generator.w_avg.fill_(0.5)
    for average, expected in ((None, codes + 0.5), (toys.AVERAGE, codes + toys.AVERAGE)):
        ws, _ = invert(LoadedHyperStyle(hypernet, average, Path("h.pt")), encoder, generator, images, passes=0)
        torch.testing.assert_close(ws, expected)
    own = toys.w_encoder(average=torch.ones(8, 8))
    ws, _ = invert(LoadedHyperStyle(hypernet, toys.AVERAGE, Path("h.pt")), own, generator, images, passes=0)
    torch.testing.assert_close(ws, codes + 1)


def test_generators_that_do_not_fit(loaded, w_encoder, images):
    with pytest.raises(CheckpointError, match=r"^h\.pt tunes the layer b32\.conv0 .* stylegan2-16 does not have"):
        invert(loaded, w_encoder, toys.generator(16), images)
    averages = LoadedHyperStyle(loaded.hypernet, torch.zeros(10, 8), loaded.path)
    for encoder in (w_encoder, toys.w_encoder(average=None)):
        with pytest.raises(CheckpointError, match=r"^w\.pt gives 8 rows of 8 numbers, .* takes 10 of 8"):
            invert(averages, encoder, toys.generator(64), images)


def test_other_channels_do_not_fit(loaded, w_encoder, images):
    with pytest.raises(CheckpointError, match=r"b32\.conv0 in the shape \(4, 8, 3, 3\)"):
        invert(loaded, w_encoder, toys.generator(channel_base=256), images)
