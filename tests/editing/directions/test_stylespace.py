"""Style channels: what is drawn equals a generator whose styles were changed, what is found is what was planted."""

import copy
import hashlib

import numpy as np
import pytest
import torch

from editing import session, steps
from editing.directions import __main__ as command
from editing.directions import files, sampling, stylespace
from editing.directions.catalogue import Catalogue, Direction
from editing.steps import direction_sha256
from editing.types import Inversion, latent_step
from stylegan2 import engine
from stylegan2.errors import CheckpointError, InversionError, UsageError
from stylegan2.generator import Delta, FeatureEdit
from stylegan2.networks import StyleGAN2, StyleGAN2Config
from tests.encoders import toys


def stylegan():
    torch.manual_seed(0)
    config = StyleGAN2Config(resolution=32, w_dim=512, z_dim=512, channel_base=512, channel_max=16)
    return StyleGAN2(config).eval().requires_grad_(False)


@pytest.fixture(scope="module", params=["mobile", "stylegan2"])
def generator(request):
    return toys.generator(4) if request.param == "mobile" else stylegan()


def codes(generator, count=2):
    return torch.randn(count, generator.num_ws, generator.w_dim, generator=torch.Generator().manual_seed(3))


def change_of(generator, scale=0.7):
    random = torch.Generator().manual_seed(4)
    styles = generator.styles
    return {n: scale * torch.randn(len(styles[n].bias), generator=random) for n in stylespace.editable(generator)}


def restyled(generator, change):
    """A copy whose own biases were changed."""
    other = copy.deepcopy(generator)
    for name, amount in change.items():
        if isinstance(other, StyleGAN2):
            other.synthesis.get_submodule(name).affine.bias += (
                amount / other.synthesis.get_submodule(name).affine.lr_mul
            )
        else:
            other.styles[name].bias.add_(amount)  # the very parameter
    return other


def test_the_picture_is_that_of_a_generator_with_other_styles(generator):
    ws, change = codes(generator), change_of(generator)
    expected = restyled(generator, change).synthesis(ws)
    found = generator.synthesis(ws, stylespace.deltas(generator, ws, change))
    assert (expected - generator.synthesis(ws)).abs().mean() > 0.05
    torch.testing.assert_close(found, expected, atol=2e-4 * float(expected.abs().max()), rtol=0)
    one = generator.synthesis(ws[:1], stylespace.deltas(generator, ws[:1], change, 1.0))  # another path in the code
    torch.testing.assert_close(one, expected[:1], atol=2e-4 * float(expected.abs().max()), rtol=0)


def test_every_style_alone_reaches_its_own_layer(generator):
    ws = codes(generator, 1)
    for name, amount in change_of(generator).items():
        expected = restyled(generator, {name: amount}).synthesis(ws)
        (layer,) = found = stylespace.deltas(generator, ws, {name: amount})
        assert generator.layers[layer].row == generator.styles[name].row
        torch.testing.assert_close(generator.synthesis(ws, found), expected, atol=1e-4 * float(expected.abs().max()),
                                   rtol=0, msg=name)  # fmt: skip


def test_nothing_is_nothing(generator):
    ws = codes(generator)
    still = generator.synthesis(ws, stylespace.deltas(generator, ws, change_of(generator), 0.0))
    torch.testing.assert_close(still, generator.synthesis(ws), atol=1e-5, rtol=0)  # another grouping of the sums


def test_upsampling_has_no_layer_and_unknown_styles_are_one_sentence():
    generator = toys.generator(4)
    assert set(generator.styles) - set(stylespace.editable(generator)) == {f"layers.{i}.up" for i in range(3)}
    for name in ("layers.0.up", "layers.9.conv1"):
        with pytest.raises(UsageError, match=name.replace(".", r"\.")):
            stylespace.deltas(generator, codes(generator), {name: torch.zeros(16)})
    with pytest.raises(UsageError, match="16 channels"):
        stylespace.deltas(generator, codes(generator), {"conv1": torch.zeros(5)})


def test_a_gain_near_zero_takes_what_it_can():
    generator = toys.generator(4)
    ws, style = codes(generator, 1), generator.styles["conv1"]
    gains = ws[:, 0] @ style.weight.T + style.bias
    style.bias.sub_(gains[0] * torch.tensor([1.0] + [0.0] * 15))  # the first gain is zero now, or nearly
    found = stylespace.deltas(generator, ws, {"conv1": torch.ones(16)})["conv1"]
    assert found.factors[0].isfinite().all() and found.factors[0].abs().max() <= 1 / stylespace.SMALL + 1
    assert generator.synthesis(ws, {"conv1": found}).isfinite().all()


def test_own_offsets_that_multiply_stay_and_those_that_add_are_refused(generator):
    ws, name = codes(generator, 1), stylespace.editable(generator)[2]
    layer = stylespace.layer_of(generator, name)
    own = Delta("mul", (0.3 * torch.randn(1, *generator.layers[layer].shape),))
    change = {name: change_of(generator)[name]}
    both = stylespace.added(generator, Inversion(ws, generator.family, deltas={layer: own}), change)
    expected = restyled(generator, change).synthesis(ws, {layer: own})
    torch.testing.assert_close(generator.synthesis(ws, both.deltas), expected,
                               atol=2e-4 * float(expected.abs().max()), rtol=0)  # fmt: skip
    elsewhere = next(n for n in generator.layers if n != layer)
    adding = {n: Delta("add", (torch.ones(1, *generator.layers[n].shape),)) for n in (layer, elsewhere)}
    kept = stylespace.added(generator, Inversion(ws, generator.family, deltas={elsewhere: adding[elsewhere]}), change)
    assert kept.deltas[elsewhere] is adding[elsewhere]
    with pytest.raises(InversionError, match="invert the photo again"):
        stylespace.added(generator, Inversion(ws, generator.family, deltas={layer: adding[layer]}), change)


# ----------------------------------------------------------------------------------- in an editor


def editor_of(generator, **directions):
    editor = session.Editor(generator, catalogue=Catalogue(list(directions.values())))
    editor.set_inversion(Inversion(codes(generator, 1), generator.family))
    return editor


def test_edits_of_styles_and_of_codes_go_together_in_any_order():
    generator = toys.generator(3)
    change = {"layers.0.conv2": torch.randn(16), "layers.1.to_img": torch.randn(16)}
    vector = 0.3 * torch.randn(512)
    made = {
        "move": Direction("move", vector, (0, 6)),
        "lips": Direction("lips", torch.zeros(512), (2, 6), styles=change),
        "both": Direction("both", vector, (0, 6), styles={"conv1": torch.ones(16), **change}),
    }
    editor = editor_of(generator, **made)
    expected = restyled(generator, {n: 0.5 * c for n, c in change.items()}).synthesis(codes(generator, 1) + 2 * vector)
    for strengths in ({"move": 2, "lips": 0.5}, {"lips": 0.5, "move": 2}):
        torch.testing.assert_close(editor.render(strengths), expected, atol=1e-3, rtol=0)
    twice = {"conv1": torch.ones(16), **{n: 2 * c for n, c in change.items()}}
    expected = restyled(generator, twice).synthesis(codes(generator, 1) + vector)
    torch.testing.assert_close(editor.render({"lips": 1, "both": 1}), expected, atol=1e-3, rtol=0)
    assert editor.render({"lips": 0}) is editor.reconstruction()
    assert editor.inversion().deltas is None
    step = latent_step("lips", 1.0).model_copy(update={"region": "mask:own"})
    (outside, inside) = (
        steps.restyled(generator, layer, [step], editor.catalogue)
        for layer in steps.layers(editor.inversion(), [step], editor.catalogue)
    )
    assert outside.inversion is editor.inversion() and set(inside.inversion.deltas) == {
        "layers.0.conv2.depthwise", "layers.1.to_img",
    }  # fmt: skip


def test_a_style_of_another_generator_is_one_sentence():
    edit = Direction("lips", torch.zeros(512), (2, 6), styles={"b64.conv1": torch.ones(16)})
    with pytest.raises(UsageError, match="b64"):
        editor_of(toys.generator(3), lips=edit).render({"lips": 1})


def test_the_hash_covers_styles_and_is_what_it_was_without():
    plain = Direction("a", torch.linspace(-1, 1, 512), (2, 5))
    before = b"(2, 5) (512,) " + plain.vector.numpy().tobytes()
    assert direction_sha256(plain) == hashlib.sha256(before).hexdigest()
    hashes = {direction_sha256(plain)}
    others = ({"conv1": torch.ones(4)}, {"conv1": torch.zeros(4)}, {"conv2": torch.ones(4)}, {"conv1": torch.ones(5)})
    for styles in others:
        hashes.add(direction_sha256(Direction("a", plain.vector, plain.rows, styles=styles)))
    assert len(hashes) == 5


def test_files_keep_styles(tmp_path):
    path = tmp_path / "mine.safetensors"
    edit = Direction("lips red", torch.zeros(512), (2, 6), styles={"layers.0.conv1": torch.randn(16)})
    files.write(path, [edit, Direction("plain", torch.ones(512), (0, 16))])
    styled, plain = files.read(path)
    assert files.same(styled, edit) and plain.styles is None
    assert direction_sha256(styled) == direction_sha256(edit)
    other = Direction("lips red", torch.zeros(512), (2, 6), styles={"layers.0.conv1": torch.randn(16)})
    with pytest.raises(UsageError, match="already"):
        files.joined(Catalogue([other]), [path])
    assert len(files.joined(Catalogue([edit]), [path])) == 2


IMPOSSIBLE = [
    {"conv1": torch.full((4,), torch.nan)},
    {"conv1": torch.ones(2, 2)},
    {"a/b": torch.ones(4)},
    {"conv1": torch.zeros(4)},
]


@pytest.mark.parametrize("styles", IMPOSSIBLE)
def test_files_with_changes_that_none_can_be_are_refused(tmp_path, styles):
    path = tmp_path / "bad.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "sound", lambda direction: True)  # else it would not be written
        files.write(path, [Direction("bad", torch.zeros(512), (2, 6), styles=styles)])
    with pytest.raises(CheckpointError, match=r"bad\.safetensors") as caught:
        files.read(path)
    assert "\n" not in str(caught.value)


# --------------------------------------------------------------------------------------- finding


def test_channels_by_hand():
    generator = toys.generator(4)
    assert stylespace.parsed("layers.1.conv2:7") == ("layers.1.conv2", 7, 1.0)
    assert stylespace.parsed("conv1:7:-2.5") == ("conv1", 7, -2.5)
    for text in ("conv1", "conv1:x", "conv1:1:nan", ":1", "a:1:2:3", "conv1:1:1e9"):
        with pytest.raises(UsageError, match="LAYER:INDEX"):
            stylespace.parsed(text)
    edit = stylespace.of_channels(generator, [("layers.1.conv2", 7, 2.0), ("layers.2.conv2", 0, -1.0)], "two")
    spread = stylespace.deviations(generator, "layers.1.conv2")
    assert edit.rows == (4, 7) and not edit.vector.any()
    assert edit.styles["layers.1.conv2"].nonzero().tolist() == [[7]]
    assert float(edit.styles["layers.1.conv2"][7]) == pytest.approx(2 * float(spread[7]))
    for channel in (("layers.1.up", 0, 1.0), ("layers.1.conv2", 99, 1.0), ("layers.1.conv2", -1, 1.0)):
        with pytest.raises(UsageError):
            stylespace.of_channels(generator, [channel], "bad")


def test_a_unit_is_a_deviation_of_the_gain_over_w(mobile):
    w = mobile.mapping(torch.randn(2000, 512, generator=torch.Generator().manual_seed(5)))
    for name in ("conv1", "layers.4.conv2"):
        gains = w @ mobile.styles[name].weight.T
        assert torch.allclose(stylespace.deviations(mobile, name), gains.std(0), rtol=0.12)


def test_the_channel_that_makes_the_score_is_found_first():
    generator = toys.generator(4)
    w = torch.randn(1500, 512, generator=torch.Generator().manual_seed(6))
    style = generator.styles["layers.1.conv2"]
    scores = -(w @ style.weight[5]) + 0.001 * torch.randn(1500)
    (theta, first), (second, _), *_ = stylespace.ranked_by_scores(generator, w, scores)
    assert first == ("layers.1.conv2", 5, -1.0) and theta > 1.5 * second


def test_energy_inside_is_what_single_passes_say():
    """Random signs against the exact derivative, a channel at a time."""
    generator = toys.generator(3)
    ws, mask = codes(generator, 2), torch.zeros(2, 32, 32)
    mask[:, 8:20, 8:20] = 1
    table = {c[:2]: (share, size) for share, size, c in stylespace.ranked_by_region(generator, ws, mask, probes=64)}
    ahead = {}
    for name, index in list(table)[:5] + list(table)[-5:]:
        unit = torch.zeros_like(generator.styles[name].bias)
        unit[index] = 1e-3
        moved = (
            generator.synthesis(ws, stylespace.deltas(generator, ws, {name: unit})) - generator.synthesis(ws)
        ) * 1e3
        energy = (moved**2).sum(1)
        share = float((energy * mask).sum() / energy.sum())
        size = float(((energy * mask).sum() / 3 / mask.sum()).sqrt() * stylespace.deviations(generator, name)[index])
        ahead[name, index] = share
        assert table[name, index][0] == pytest.approx(share, abs=0.12)
        assert table[name, index][1] == pytest.approx(size, rel=0.35)
    shares = list(ahead.values())
    assert min(shares[:5]) > max(shares[5:])


def test_a_residual_fades_where_a_style_changes_what_is_below_it():
    generator = toys.generator(5)
    ws = codes(generator, 1)
    x = generator.synthesis(ws, until="b16")
    own = {"b16": FeatureEdit(torch.randn_like(x), torch.ones_like(x[:, :1]), ws)}
    inversion = Inversion(ws, generator.family, features=own)
    change = {"layers.0.conv1": torch.randn(4)}
    little = {"layers.0.conv1": 1e-4 * change["layers.0.conv1"]}
    faded, kept = (stylespace.added(generator, inversion, c) for c in (change, little))
    assert faded.features["b16"].mask.mean() < 0.5 < 0.999 < kept.features["b16"].mask.min()
    assert session.without(faded, own).features is None  # the photo gets the edit without it, faded or not
    later = {f"layers.3.{part}": torch.ones(16) for part in ("conv2", "to_img")}
    assert stylespace.added(generator, inversion, later).features["b16"].mask.min() == 1  # above the residual


# ------------------------------------------------------------------------------- the command line


@pytest.fixture
def run(monkeypatch, capsys):
    """run(arguments) -> (exit code, what was printed), with a small generator."""
    monkeypatch.setattr(session, "load_generator", lambda *_: toys.generator(4))

    def call(*arguments):
        with pytest.raises(SystemExit) as caught:
            command.main(["stylespace", *map(str, arguments)])
        printed = capsys.readouterr()
        return caught.value.code, printed.out + printed.err

    return call


def samples(folder, w, judge, scores):
    folder.mkdir()
    table = np.full((len(w), len(sampling.JUDGES)), np.nan, np.float32)
    table[:, sampling.JUDGES.index(judge)] = scores
    np.savez(folder / "0.npz", w=w.numpy(), scores=table, descriptor=np.zeros((len(w), 128), np.float32))


def test_the_command_line_writes_channels_by_hand_and_by_judge(run, tmp_path):
    out, folder = tmp_path / "mine.safetensors", tmp_path / "samples"
    several = ("--channel", "layers.1.conv2:7", "--channel", "conv1:2:-3")
    assert run(*several, "--name", "two", "--out", out)[0] == 0
    (two,) = files.read(out)
    assert two.name == "two" and set(two.styles) == {"conv1", "layers.1.conv2"} and float(two.styles["conv1"][2]) < 0
    w = torch.randn(400, 512, generator=torch.Generator().manual_seed(6))
    gains = (w @ toys.generator(4).styles["layers.1.conv2"].weight[5]).numpy()
    gains[:50] = np.nan  # nothing to measure there
    samples(folder, w, "smile", -gains)
    assert run("--judge", "smile", "--samples", folder, "--count", 2, "--out", out)[0] == 0
    names = [d.name for d in files.read(out)]
    assert names[:2] == ["two", "smile-layers.1.conv2-5"] and len(names) == 3
    assert float(files.read(out)[1].styles["layers.1.conv2"][5]) < 0  # less of it is more of a smile


def test_what_is_wrong_on_the_command_line_is_one_sentence(run, tmp_path):
    out, folder = tmp_path / "mine.safetensors", tmp_path / "samples"
    samples(folder, torch.zeros(3, 512), "smile", 0.0)
    (tmp_path / "none").mkdir()
    for arguments, about in {
        (): "Give --channel",
        ("--channel", "conv1:0"): "Give --channel",
        ("--judge", "smile"): "Give --channel",
        ("--channel", "conv1:0", "--name", "a", "--region", "hair"): "Give --channel",
        ("--channel", "conv1:99", "--name", "a"): "channels 0 to 15",
        ("--channel", "layers.0.up:0", "--name", "a"): "layers.0.up",
        ("--judge", "smiles", "--samples", folder): "smile",
        ("--judge", "smile", "--samples", tmp_path / "none"): "no samples",
        ("--region", "lipps"): "lips",
    }.items():
        code, printed = run(*arguments, "--out", out)
        assert code == 2 and about in printed and printed.count("\n") == 1, arguments
    assert not out.exists()


@pytest.mark.weights
def test_channels_of_the_eyes_open_them_and_leave_the_rest(mobile):
    """The most local channels of the eyes on real faces: what moves is in the eyes' neighbourhood."""
    (share, change, (name, index, _)), *_ = stylespace.by_region(mobile, "eyes", faces=1)
    assert share > 0.6 and change > 0.005
    ws = engine.broadcast(mobile, engine.latents(mobile, [0]))
    edit = stylespace.of_channels(mobile, [(name, index, 1.0)], "eyes")
    with torch.inference_mode():
        moved = (mobile.synthesis(ws, stylespace.deltas(mobile, ws, edit.styles, 3.0)) - mobile.synthesis(ws)) ** 2
    rows = moved.sum((0, 1, 3))
    assert rows[420:560].sum() > 0.7 * rows.sum()  # eyes of aligned faces lie at 480 of 1024
