"""Fine-tuned and blended generators: they learn, they keep what they should, and the loaded one stays as it was."""

import numpy as np
import pytest
import torch

from hyperstyle import domain
from stylegan2 import checkpoints
from stylegan2.engine import broadcast, latents
from stylegan2.errors import UsageError
from stylegan2.mobile import MobileStyleGAN
from tests.hyperstyle import toys


def mobile(channels=(16, 12, 8)):
    """4, 8 and 16 pixels, so 32-pixel pictures; every tensor drawn."""
    net, rng = MobileStyleGAN(channels, 8, mapping_layers=2), torch.Generator().manual_seed(0)
    for name, tensor in net.state_dict().items():
        fan_in = 1 if name.endswith(("bias", "noise", "input", "w_avg")) else max(tensor[0].numel(), 1)
        drawn = torch.randn(tensor.shape, generator=rng) * (0.1 if "modulation" in name or "noise" in name else 1)
        tensor.copy_(drawn / fan_in**0.5 + name.endswith("modulation.bias"))
    return net


FAMILIES = pytest.mark.parametrize("make", [toys.generator, mobile], ids=["stylegan2", "mobile"])


def negative(images):
    return -images


def lighter(images):
    return images + 1


def ws_of(generator, seed=500):
    return broadcast(generator, latents(generator, [seed], domain.PSI))


# --------------------------------------------------------------------------------------------- styles


def faces(size=64):
    """Dark with a little noise on the left, bright and flat on the right: (R, R, 3) in [0, 1]."""
    picture = np.full((size, size, 3), 0.75)
    dark = 0.25 + 0.02 * np.random.default_rng(0).standard_normal((size, size // 2, 3))
    picture[:, : size // 2] = dark
    return picture


def test_smoothing_takes_noise_and_keeps_the_edge_and_the_border():
    picture = faces()
    smooth = domain.smoothed(picture, 3)
    assert smooth.shape == picture.shape
    assert smooth[:, :28].std() < 0.4 * picture[:, :28].std()
    assert smooth[:, 31].mean() < 0.35 and smooth[:, 32].mean() > 0.65  # a mean would be halfway
    assert smooth[:, :3].max() < 0.35 and smooth[:, -3:].min() > 0.65  # nothing comes round from the other side


@pytest.mark.parametrize("name", domain.STYLES)
def test_styles_are_pictures_of_the_same_thing_and_the_same_every_time(name):
    images = torch.from_numpy(faces()).permute(2, 0, 1)[None].float() * 2 - 1
    one, other = (domain.stylised(images, domain.STYLES[name]) for _ in range(2))
    assert torch.equal(one, other) and one.shape == images.shape and one.dtype == images.dtype
    assert one.min() >= -1 and one.max() <= 1
    assert one[..., 40:].mean() > one[..., :24].mean() + 0.5
    assert (one - images).abs().mean() > 0.01


# ------------------------------------------------------------------------------------------ fine-tuning


@FAMILIES
def test_a_copy_learns_and_the_generator_stays_as_it_was(make):
    generator = make()
    before, losses = checkpoints.source_sha256(generator), []
    report = lambda done, steps, loss: losses.append(loss)  # noqa: E731
    tuned = domain.fine_tune(generator, lighter, 60, rate=0.03, callback=report)
    assert checkpoints.source_sha256(generator) == before != checkpoints.source_sha256(tuned)
    assert not any(tensor.requires_grad for tensor in (*generator.parameters(), *tuned.parameters()))
    assert (tuned.family, tuned.provenance.sha256) == (generator.family, checkpoints.source_sha256(tuned))
    ws = ws_of(generator)
    goal = lighter(generator.synthesis(ws))
    apart = [float(domain.difference(drawer.synthesis(ws), goal, None)) for drawer in (generator, tuned)]
    assert apart[1] < 0.4 * apart[0] and len(losses) == 60


@FAMILIES
def test_only_fine_layers_learn(make):
    generator = make()
    tuned = domain.fine_tune(generator, negative, 1, first=16)
    theirs = tuned.state_dict()
    changed = {name for name, tensor in generator.state_dict().items() if not torch.equal(tensor, theirs[name])}
    assert changed and all(domain.place(name) >= 16 for name in changed)
    assert not [name for name in changed if "modulation" in name or "affine" in name or name.endswith("noise")]
    assert torch.equal(tuned.w_avg, generator.w_avg)
    ws = ws_of(generator)
    assert torch.equal(tuned.synthesis(ws, until="b8"), generator.synthesis(ws, until="b8"))


@FAMILIES
def test_the_same_seed_gives_the_same_generator_and_its_file_the_same_pictures(make, tmp_path):
    generator = make()
    one, other, third = (domain.fine_tune(generator, negative, 3, seed=seed) for seed in (4, 4, 5))
    assert one.provenance.sha256 == other.provenance.sha256 != third.provenance.sha256
    checkpoints.save(one, tmp_path / "a.safetensors")
    again = checkpoints.load(tmp_path / "a.safetensors")
    assert again.provenance.sha256 == one.provenance.sha256 and again.family == generator.family
    assert torch.equal(again.synthesis(ws_of(generator)), one.synthesis(ws_of(generator)))


def test_a_fingerprint_of_the_file_it_came_from_does_not_stick(tmp_path):
    checkpoints.save(mobile(), tmp_path / "a.safetensors")
    loaded = checkpoints.load(tmp_path / "a.safetensors")
    tuned = domain.fine_tune(loaded, negative, 1)
    assert tuned.provenance.sha256 != loaded.provenance.sha256 == checkpoints.source_sha256(loaded)


# --------------------------------------------------------------------------------------------- blending


@FAMILIES
def test_a_blend_has_the_coarse_layers_of_one_and_the_fine_ones_of_the_other(make):
    one = make()
    other = domain.fine_tune(one, negative, 2, first=4, rate=0.2)
    mixed = domain.blend(one, other, 16)
    for name, tensor in mixed.state_dict().items():
        assert torch.equal(tensor, (other if domain.place(name) >= 16 else one).state_dict()[name]), name
    ws = ws_of(one)
    assert torch.equal(mixed.synthesis(ws, until="b8"), one.synthesis(ws, until="b8"))
    assert not torch.equal(mixed.synthesis(ws), one.synthesis(ws))
    hashes = {checkpoints.source_sha256(generator) for generator in (one, other, mixed)}
    assert len(hashes) == 3 and mixed.provenance.sha256 in hashes and mixed.family == one.family


@FAMILIES
def test_every_layer_has_its_place(make):
    generator = make()
    names = generator.state_dict()
    places = {name: domain.place(name) for name in names}
    for layer in generator.layers.values():
        own = {
            f"synthesis.{layer.name}.weight",
            layer.name.replace("layers.", "blocks."),
            f"{layer.name.replace('layers.', 'blocks.')}.weight",
        } & set(names)
        assert own and {places[name] for name in own} == {layer.resolution}
    assert all(places[name] == 0 for name in names if "mapping" in name or name == "w_avg")
    assert all(place for name, place in places.items() if "mapping" not in name and name != "w_avg")


def test_two_families_are_not_blended():
    with pytest.raises(UsageError, match="of one family"):
        domain.blend(mobile(), toys.generator(), 16)


# ----------------------------------------------------------------------------------------- command line


def call(capsys, *args):
    with pytest.raises(SystemExit) as ended:
        domain.main([str(arg) for arg in args])
    captured = capsys.readouterr()
    return ended.value.code, captured.out, captured.err


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["--style", "drwaing", "--out", "{tmp}/a.safetensors"], 2, "did you mean drawing"),
        (["--style", "drawing", "--out", "{tmp}/a.png"], 2, "a.png"),
        (["--style", "drawing", "--out", "{tmp}/none/a.safetensors"], 2, "folder that exists"),
        (
            ["--style", "drawing", "--out", "{tmp}/g.safetensors", "--generator", "{tmp}/g.safetensors"],
            2,
            "overwritten",
        ),
        (["--style", "drawing", "--out", "{tmp}/a.safetensors", "--generator", "{tmp}/none.pkl"], 1, "none.pkl"),
        (["--style", "drawing", "--out", "{tmp}/a.safetensors", "--steps", "0"], 2, "steps"),
        (["--style", "drawing"], 2, "--out"),
    ],
)
def test_bad_calls_are_a_line_and_write_nothing(capsys, tmp_path, args, code, says):
    checkpoints.save(mobile(), tmp_path / "g.safetensors")
    before = (tmp_path / "g.safetensors").read_bytes()
    found, out, err = call(capsys, *(arg.format(tmp=tmp_path) for arg in args))
    assert found == code and says in err and err.startswith("error: ") and len(err.splitlines()) == 1 and not out
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("g.safetensors", before)]


@pytest.mark.weights
def test_the_command_writes_a_generator_of_the_family(capsys, weights, tmp_path):
    weights("efficientnet-lite0")
    checkpoints.save(mobile((16, 12, 8, 8)), tmp_path / "g.safetensors")
    target = tmp_path / "a.safetensors"
    found, out, err = call(
        capsys, "--style", "painting", "--generator", tmp_path / "g.safetensors", "--out", target, "--steps", 2
    )
    assert (found, out.strip()) == (0, str(target)) and "step 2 of 2" in err
    made, start = checkpoints.load(target), checkpoints.load(tmp_path / "g.safetensors")
    assert made.family == start.family and made.provenance.sha256 != start.provenance.sha256
