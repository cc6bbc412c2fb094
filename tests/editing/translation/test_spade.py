"""SPADE: published layouts and counts, spectral norm as stored, losses against formulas, trainings that learn, use."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from editing.translation import checkpoints, fit, maps
from editing.translation.networks import SPADEDiscriminator, SPADEGenerator, StyleEncoder, spade
from editing.translation.systems import SYSTEMS, Settings
from editing.translation.systems.spade import SpadePlain, diverging, hinge, matched
from stylegan2.errors import CheckpointError, UsageError
from tests.editing.translation.test_checkpoints import seeded

COLOURS = np.array([(200, 60, 60), (60, 200, 60), (60, 60, 200)], np.uint8)


# ---- published files


def written(tmp_path, state, name="latest_net_G.pth"):
    torch.save(state, tmp_path / name, _use_new_zipfile_serialization=False)
    return tmp_path / name


def planes_of(figures):
    labels = figures.inputs["seg_logits"].argmax(1)
    planes = F.one_hot(labels, 19).permute(0, 3, 1, 2).float()
    return planes.repeat_interleave(16, 2).repeat_interleave(16, 3)


def test_the_published_generator_gives_the_recorded_figures(golden, tmp_path):
    figures = golden("spade_g_ngf16")
    network = checkpoints.load(written(tmp_path, figures.state()))
    assert type(network) is SPADEGenerator and (network.labels, network.nz, network.size) == (19, 0, 32)
    planes = planes_of(figures)
    with torch.no_grad():
        figures.check("head_0", network.head_0(network.begin(planes), planes))
        figures.check("output", network(planes))


def test_the_published_discriminator_gives_the_recorded_figures(golden, tmp_path):
    figures = golden("spade_d_multiscale")
    network = checkpoints.load(written(tmp_path, figures.state(), "latest_net_D.pth"))
    assert type(network) is SPADEDiscriminator
    with torch.no_grad():
        scales = network(figures.inputs["image"])
    assert [len(features) for features in scales] == [5, 5]
    for number, features in enumerate(scales):
        figures.check(f"scale{number}_logits", features[-1])
        figures.check(f"scale{number}_feat1", features[1])


def test_files_from_before_torch_1_1_hold_the_divided_weight(golden, tmp_path):
    figures = golden("spade_g_ngf16")
    state = figures.state()
    for stem in [name.removesuffix("_orig") for name in state if name.endswith("weight_orig")]:
        rows, u, v = state[f"{stem}_orig"].flatten(1), state[f"{stem}_u"], state.pop(f"{stem}_v")
        state[stem] = state[f"{stem}_orig"] / torch.dot(u, rows @ v)
    state = {name: tensor for name, tensor in state.items() if not name.endswith("tracked")}
    network, planes = checkpoints.load(written(tmp_path, state)), planes_of(figures)
    with torch.no_grad():
        figures.check("output", network(planes))
    state["head_0.conv_0.weight"][0] *= 2
    with pytest.raises(CheckpointError, match="'head_0.conv_0.weight' is no multiple of 'head_0.conv_0.weight_orig'"):
        checkpoints.load(written(tmp_path, state))


def test_a_second_vector_is_made_of_shapes_that_belong_together_alone(tmp_path, monkeypatch):
    row, column, u = torch.ones(1, 3, 1, 1), torch.ones(3, 1, 1, 1), torch.ones(1)
    for weight_orig, weight_u, weight in (
        (row, u, column),
        (row, u, row.expand(3, 3, 1, 1)),
        (row, torch.ones(3), row),
    ):
        with pytest.raises(ValueError, match="shapes that belong together"):
            spade.second_vector(weight_orig, weight_u, weight)
    state = seeded(lambda: SPADEGenerator(3, 2)).state_dict()
    del state["head_0.conv_0.weight_v"]
    path = written(tmp_path, state | {"head_0.conv_0.weight": torch.ones(1, 32, 3, 3)})
    with pytest.raises(CheckpointError, match="'head_0.conv_0.weight' is no multiple"):
        checkpoints.load(path)
    monkeypatch.setattr(spade, "second_vector", lambda *_: pytest.fail("made for what the network does not have"))
    state = seeded(lambda: SPADEGenerator(3, 2)).state_dict()
    other = {"x.weight_orig": row, "x.weight_u": u, "x.weight": row}
    with pytest.raises(CheckpointError, match="'x.weight' and 2 more tensors too many"):
        checkpoints.load(written(tmp_path, state | other))


@pytest.mark.parametrize(
    "make,entries,parameters",
    [
        (lambda: SPADEGenerator(184), 234, 97_480_899),
        (lambda: SPADEGenerator(151), 234, 96_492_483),
        (lambda: SPADEGenerator(36, upsampling="more"), 234, 93_048_003),
        (lambda: SPADEGenerator(19), 234, 92_538_819),
        (lambda: SPADEGenerator(19, nz=256), 234, 109_205_443),
        (lambda: SPADEDiscriminator(22), 26, 5_566_594),
        (StyleEncoder, 22, 10_463_424),
    ],
)
def test_networks_have_the_published_sizes(make, entries, parameters):
    with torch.device("meta"):
        network = make()
    assert len(network.state_dict()) == entries
    assert sum(p.numel() for p in network.parameters()) == parameters


NETWORKS = {
    "plain": lambda: SPADEGenerator(5, 2),
    "more": lambda: SPADEGenerator(36, 2, "more"),
    "most": lambda: SPADEGenerator(4, 4, "most"),
    "codes": lambda: SPADEGenerator(4, 2, nz=7, start=(2, 2)),
    "codes, wide": lambda: SPADEGenerator(4, 2, nz=7, start=(1, 2)),
    "codes, most": lambda: SPADEGenerator(3, 2, "most", nz=7, start=(1, 1)),
    "discriminator": lambda: SPADEDiscriminator(8, 4),
    "discriminator of three": lambda: SPADEDiscriminator(8, 4, 3, 3),
    "encoder": lambda: StyleEncoder(2, 9),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_written_is_read_back_as_the_same_network(tmp_path, monkeypatch, name):
    monkeypatch.setattr(spade, "HIDDEN", 8)
    network = seeded(NETWORKS[name])
    if isinstance(network, SPADEGenerator):
        height, width = network.drawn or (network.size, 2 * network.size)
        x = [torch.rand(1, network.labels, height, width), *([torch.randn(1, 7)] if network.nz else [])]
    else:
        x = [torch.randn(1, 3 if isinstance(network, StyleEncoder) else 8, 64, 64)]
    torch.save({f"module.{key}": tensor for key, tensor in network.state_dict().items()}, tmp_path / "net.pth")
    checkpoints.save(network, tmp_path / "net.safetensors")
    with torch.no_grad():
        expected = network(*x)
        for file in ("net.pth", "net.safetensors"):
            again = checkpoints.load(tmp_path / file)
            assert type(again) is type(network)
            torch.testing.assert_close(again(*x), expected)
    if isinstance(network, SPADEGenerator):
        assert expected.shape == (1, 3, height, width) and (again.start, again.size) == (network.start, network.size)


@pytest.mark.parametrize(
    "changes,words",
    [
        ({"head_0.norm_0.mlp_shared.0.weight": torch.zeros(128, 30000, 1, 1)}, "which no network of this kind has"),
        ({"head_0.norm_0.mlp_shared.0.weight": None}, "lacks the tensor 'head_0.norm_0.mlp_shared.0.weight'"),
        ({"fc.weight": None}, "lacks the tensor 'fc.weight'"),
        ({"fc.weight": torch.zeros(96, 7)}, "'fc.weight' in the shape \\(96, 7\\)"),
        ({"fc.weight": "text"}, "something other than a tensor"),
        ({"conv_img.weight": torch.zeros(3, 4, 3, 3)}, "is needed"),
        ({"up_2.conv_s.weight_u": torch.full((4,), float("nan"))}, "not finite"),
        ({"extra": torch.zeros(1)}, "'extra' too many"),
    ],
)
def test_what_does_not_fit_is_one_sentence(tmp_path, changes, words):
    state = seeded(lambda: SPADEGenerator(3, 2)).state_dict() | changes
    path = written(tmp_path, {name: tensor for name, tensor in state.items() if tensor is not None})
    with pytest.raises(CheckpointError, match=words) as caught:
        checkpoints.load(path)
    assert str(caught.value).count(str(path)) == 1 and "\n" not in str(caught.value)


# ---- networks


def test_spectral_norm_is_pytorchs_old_one():
    ours = spade.SpectralConv2d(3, 5, 3, padding=1)
    theirs = torch.nn.utils.spectral_norm(torch.nn.Conv2d(3, 5, 3, padding=1))
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, 8, 8)
    for _ in range(3):
        torch.testing.assert_close(ours(x), theirs(x))
    ours(x).square().sum().backward(), theirs(x).square().sum().backward()
    torch.testing.assert_close(ours.weight_orig.grad, theirs.weight_orig.grad)
    (ours(x) * ours(x)).sum().backward()  # twice, each with vectors of its own
    theirs(x), theirs(x)
    before = ours.eval().weight_u.clone()
    torch.testing.assert_close(ours(x), theirs.eval()(x))
    assert torch.equal(ours.weight_u, before)
    for _ in range(200):
        ours.train()(x)
    assert torch.linalg.svdvals(ours.weight().detach().flatten(1))[0].item() == pytest.approx(1, abs=1e-4)


def test_a_spade_norm_is_equation_1():
    norm = spade.SPADE(4, 2).train()
    x, labels = torch.randn(3, 4, 8, 8), torch.rand(3, 2, 16, 16)
    small = labels[:, :, ::2, ::2]  # nearest
    shared = F.relu(F.conv2d(small, norm.mlp_shared[0].weight, norm.mlp_shared[0].bias, padding=1))
    mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), correction=0, keepdim=True)
    expected = (x - mean) / (variance + 1e-5).sqrt() * (1 + norm.mlp_gamma(shared)) + norm.mlp_beta(shared)
    torch.testing.assert_close(norm(x, labels), expected)


# ---- losses and steps


def test_losses_are_their_formulas():
    torch.manual_seed(0)
    fake, real = ([[torch.randn(2, 3, 4, 4), torch.randn(2, 1, 2, 2)] for _ in range(2)] for _ in range(2))
    logits = [scale[-1] for scale in real]
    assert hinge(real, True).item() == pytest.approx(sum((1 - x).clamp(0).mean().item() for x in logits) / 2)
    assert hinge(real, False).item() == pytest.approx(sum((1 + x).clamp(0).mean().item() for x in logits) / 2)
    expected = sum((a[0] - b[0]).abs().mean().item() for a, b in zip(fake, real, strict=True)) / 2
    assert matched(fake, real).item() == pytest.approx(expected)
    mean, log_variance = torch.randn(2, 5), torch.randn(2, 5)
    found = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, (log_variance / 2).exp()), torch.distributions.Normal(0.0, 1.0)
    )
    assert diverging(mean, log_variance).item() == pytest.approx(found.sum().item(), rel=1e-5)


def blocks(folder, count=8, size=64, lit=True):
    """Maps of three classes in blocks of 16 pixels, and what they should become; lit: from the left, or the right."""
    rng = np.random.default_rng(0)
    (folder / "a").mkdir(parents=True), (folder / "b").mkdir()
    for index in range(count):
        labels = np.kron(rng.integers(0, 3, (4, 4)), np.ones((16, 16), int)).astype(np.uint8)[:size, :size]
        Image.fromarray(labels).save(folder / "a" / f"{index}.png")
        light = np.linspace(0.2, 1.2, size)[:: 1 if index % 2 else -1][None, :, None] if lit else 1
        Image.fromarray((COLOURS[labels] * light).astype(np.uint8)).save(folder / "b" / f"{index}.png")
    return folder / "a", folder / "b"


@pytest.fixture
def small(monkeypatch):
    """Networks with few hidden channels, and no weights that have to be fetched."""
    monkeypatch.setattr(spade, "HIDDEN", 16)
    monkeypatch.setattr(SpadePlain, "perceptual", 0.0)


def trained(name, source, images, rate, count=2):
    system = SYSTEMS[name](Settings(64, images, count, rate, 4), len(source.names))
    for network in system.networks.values():
        network.train()
    for number in range(images // count):
        system.step(source.batch(number, count, 64, 0), 1.0, np.random.default_rng(number))
        yield system


def test_one_step_moves_everybody_at_a_pace_of_its_own_and_d_not_by_gs_loss(tmp_path, small):
    source = maps.opened(*blocks(tmp_path))
    system = SYSTEMS["spade"](Settings(64, 0, 2, 0.0, 4), 3)
    before = {name: [p.clone() for p in net.parameters()] for name, net in system.networks.items()}
    gathered = []
    descend = system.descend

    def watched(names, loss, rate):
        gathered.append((names, [p.requires_grad for p in system.networks["D"].parameters()]))
        descend(names, loss, rate)

    system.descend = watched
    read, given, judged = [], [], []
    system.networks["D"].register_forward_hook(lambda module, inputs, found: judged.append([x[-1] for x in found]))
    system.networks["E"].register_forward_hook(lambda module, inputs, found: read.append(found))
    system.networks["G"].register_forward_pre_hook(lambda module, inputs: given.append(inputs[1]))
    losses = system.step(source.batch(0, 2, 64, 0), 1.0, np.random.default_rng(0))
    ((mean, log_variance),), (z,) = read, given
    noise = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 256), np.float32))
    torch.testing.assert_close(z, mean + (log_variance / 2).exp() * noise)
    first, second = ([scale.detach().chunk(2) for scale in scales] for scales in judged)  # (fake, real) of each scale
    assert losses["G_gan"] == pytest.approx(-sum(fake.mean().item() for fake, _ in first) / 2, rel=1e-4)
    assert losses["D_fake"] == pytest.approx(sum(F.relu(1 + fake).mean().item() for fake, _ in second) / 2, rel=1e-4)
    assert losses["D_real"] == pytest.approx(sum(F.relu(1 - real).mean().item() for _, real in second) / 2, rel=1e-4)
    assert losses["kl"] == pytest.approx(diverging(mean, log_variance).item(), rel=1e-5)
    assert list(losses) == ["kl", "G_gan", "G_feat", "D_real", "D_fake"] and set(losses) < set(system.losses)
    assert [names for names, _ in gathered] == ["G+E", "D"]
    assert not any(gathered[0][1]) and all(gathered[1][1])
    rates = {name: adam.param_groups[0]["lr"] for name, adam in system.adams.items()}
    assert rates == {"G+E": 1e-4, "D": 4e-4} and system.adams["D"].param_groups[0]["betas"] == (0.0, 0.9)
    for name, network in system.networks.items():
        moved = [not torch.equal(a, b) for a, b in zip(before[name], network.parameters(), strict=True)]
        assert sum(moved) > 0.8 * len(moved), name


def test_fake_and_real_are_judged_in_one_pass_with_their_map(small):
    system = SYSTEMS["spade-plain"](Settings(64, 0, 2, 0.0, 4), 3)
    d = system.networks["D"].eval()
    a, fake, real = torch.rand(2, 3, 64, 64), torch.randn(2, 3, 64, 64), torch.randn(2, 3, 64, 64)
    seen = []
    hook = d.register_forward_hook(lambda module, inputs, _: seen.append(len(inputs[0])))
    of_fake, of_real = system.judged(a, fake, real)
    hook.remove()
    assert seen == [4]
    for found, picture in ((of_fake, fake), (of_real, real)):
        for scale, expected in zip(found, d(torch.cat([a, picture], 1)), strict=True):
            torch.testing.assert_close(scale, expected, rtol=1e-4, atol=1e-5)


def test_a_plain_network_learns_what_colour_a_class_has(tmp_path, small, monkeypatch):
    monkeypatch.setattr(spade, "HIDDEN", 128)
    source = maps.opened(*blocks(tmp_path, lit=False))
    held = source.batch(999, 4, 64, 0)
    errors = []
    for number, system in enumerate(trained("spade-plain", source, 110, 2e-3)):
        if number in (0, 46, 50, 54):
            network = system.networks["G"].eval()
            with torch.no_grad():
                errors.append((network(held["a"]) - held["b"]).abs().mean().item())
            network.train()
    flat = (held["b"].mean((0, 2, 3), keepdim=True) - held["b"]).abs().mean().item()  # the best without the map
    assert np.mean(errors[1:]) < 0.6 * errors[0] and np.mean(errors[1:]) < 0.75 * flat, (errors, flat)


def test_a_style_is_read_from_one_picture_and_drawn_into_another(tmp_path, small, monkeypatch):
    """Light from the left or the right: with the code of its own photo a map is drawn with the right one.

    What takes seconds: pixels' errors for the perceptual term, a discriminator that stays as it is, and little KL.
    """
    monkeypatch.setattr(SpadePlain, "perceptual", 10.0)
    monkeypatch.setattr(SpadePlain, "divergence", 0.001)
    monkeypatch.setattr(SpadePlain, "paces", {"G+E": 0.5, "D": 0.0})
    monkeypatch.setattr(SpadePlain, "looks", lambda self, fake, real: F.l1_loss(fake, real))
    source = maps.opened(*blocks(tmp_path))
    held = source.batch(999, 8, 64, 0)
    right = held["b"][..., 32:].mean((1, 2, 3)) > held["b"][..., :32].mean((1, 2, 3))
    own, others = [], []
    for number, system in enumerate(trained("spade", source, 100, 3e-3)):
        if number not in (41, 45, 49):
            continue
        g, e = system.networks["G"].eval(), system.networks["E"].eval()
        with torch.no_grad():
            codes = e(held["b"])[0]
            swapped = torch.where(right[:, None], codes[~right][:1], codes[right][:1])
            for found, z in ((own, codes), (others, swapped)):
                found.append((g(held["a"], z) - held["b"]).abs().mean().item())
        g.train(), e.train()
    assert np.mean(own) < 0.7 * np.mean(others), (own, others)


def test_with_36_channels_the_size_is_doubled_once_more(small):
    """As Cityscapes' published network; other files of 36 channels are read in the same way, so ours are made so."""
    g = SYSTEMS["spade"](Settings(128, 0, 2, 0.0, 4), 36).networks["G"]
    assert g.size == 64 and g.drawn == (128, 128) and SYSTEMS["spade-plain"].data == "maps"
    with pytest.raises(UsageError, match="a multiple of 64"):
        SYSTEMS["spade-plain"](Settings(96, 0, 2, 0.0, 4), 36)


@pytest.mark.parametrize("name", ["spade", "spade-plain"])
def test_batches_of_one_are_refused_where_the_network_begins_with_one_pixel(tmp_path, small, name):
    a, b = blocks(tmp_path)
    (a / "classes.txt").write_text("\n".join(f"class {n}" for n in range(36)) + "\n")
    source, out = maps.opened(a, b), tmp_path / "run"
    with pytest.raises(UsageError, match="--batch 2 or more"):
        fit.fit(name, source, out, Settings(64, 2, 1, 0.0, 4))
    assert not out.exists()
    system = SYSTEMS[name](Settings(128, 2, 1, 0.0, 4), 36)
    assert np.isfinite(system.step(source.batch(0, 1, 128, 0), 1.0, np.random.default_rng(0))["G_gan"])


def test_a_killed_run_goes_on_where_it_was(tmp_path, small):
    source, out = maps.opened(*blocks(tmp_path)), tmp_path / "run"
    settings = Settings(64, 8, 2, 0.0, 4)
    fit.fit("spade", source, out, settings, until=0.0)
    assert json.loads((out / "settings.json").read_text())["domains"] == ["0", "1", "2"]
    stored = checkpoints.load(fit.file_of(out, "G")).state_dict()
    system, seen = fit.opened("spade", source, out, settings, "cpu")
    assert seen == 2 and sorted(system.networks) == ["D", "E", "G"]
    assert all(torch.equal(tensor, stored[name]) for name, tensor in system.networks["G"].state_dict().items())
    fit.fit("spade", source, out, settings)
    assert json.loads((out / "seen.json").read_text())["seen"] == 8
    assert type(checkpoints.load(fit.file_of(out, "E"))) is StyleEncoder
    with Image.open(out / "grid.jpg") as grid:
        assert grid.size == (5 * 64, fit.SHOWN * 64)


@pytest.mark.weights
def test_the_perceptual_term_sees_what_differs(tmp_path, monkeypatch, weights):
    weights("efficientnet-lite0")
    monkeypatch.setattr(spade, "HIDDEN", 8)
    system = SYSTEMS["spade-plain"](Settings(64, 0, 2, 0.0, 4), 3)
    picture = torch.rand(2, 3, 64, 64) * 2 - 1
    assert system.looks(picture, picture).item() < 1e-6 < system.looks(picture.flip(3), picture).item()
    source = maps.opened(*blocks(tmp_path))
    losses = system.step(source.batch(0, 2, 64, 0), 1.0, np.random.default_rng(0))
    assert losses["G_perc"] > 0.1 and not any(p.requires_grad for p in system.eyes.parameters())
