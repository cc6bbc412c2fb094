"""GAN-CLS and its kin: the published networks and the port's files, losses and switches, learning, drawing."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from editing.translation import captioned, captioned_drawing, checkpoints, fit
from editing.translation.captioned_drawing import draw, sheet
from editing.translation.networks import (
    ReedDiscriminator,
    ReedGenerator,
    ReedPortDiscriminator,
    ReedPortGenerator,
    ResnetGenerator,
)
from editing.translation.systems import SYSTEMS, Settings
from editing.translation.systems.reed import with_midpoints
from stylegan2.errors import CheckpointError, UsageError
from tests.editing.translation.test_captioned import painted, toy, toy_encode  # noqa: F401  a fixture
from tests.editing.translation.test_checkpoints import seeded

NAMES = ("gan", "gan-cls", "gan-int", "gan-int-cls")


# ---- networks


@pytest.mark.parametrize(
    "make,entries,parameters,shapes",
    [
        (ReedPortGenerator, 32, 4_756_736, {"netG.0.weight": (228, 512, 4, 4), "netG.12.weight": (64, 3, 4, 4),
                                            "projection.0.weight": (128, 1024), "netG.1.running_var": (512,)}),
        (ReedPortDiscriminator, 27, 2_899_072, {"netD_2.0.weight": (1, 640, 4, 4), "netD_1.9.bias": (512,),
                                                "netD_1.8.weight": (512, 256, 4, 4),
                                                "projector.projection.1.weight": (128,)}),
        (ReedGenerator, 74, 18_909_699, {"text.0.weight": (128, 1024), "draw.0.weight": (228, 1024, 4, 4)}),
        (ReedDiscriminator, 60, 4_032_321, {"look.0.weight": (64, 3, 4, 4), "judge.0.weight": (512, 640, 1, 1)}),
    ],
)  # fmt: skip
def test_networks_have_the_published_sizes(make, entries, parameters, shapes):
    with torch.device("meta"):
        network = make()
    state = network.state_dict()
    assert (len(state), sum(p.numel() for p in network.parameters())) == (entries, parameters)
    assert {name: tuple(state[name].shape) for name in shapes} == shapes


def test_layers_are_the_published_ones_in_their_order():
    """Quirks of main_cls_int: no activation after the first norm of G and the third of D; main_cls has that one."""

    def kinds(sequence):
        return "".join({"Conv2d": "c", "ConvTranspose2d": "t", "BatchNorm2d": "b", "BatchNorm1d": "b", "ReLU": "r",
                        "LeakyReLU": "l", "Linear": "f", "Tanh": "h", "Residual": "R"}[type(m).__name__]
                       for m in sequence)  # fmt: skip

    small = {"width": 2, "text_dim": 3, "nt": 4}
    g, d, plain = ReedGenerator(**small), ReedDiscriminator(**small), ReedDiscriminator(**small, plain=True)
    assert (kinds(g.text), kinds(g.draw), kinds(g.draw[2].branch)) == ("fl", "tbRrtbRrtbrtbrth", "cbrcbrcb")
    assert (kinds(d.look), kinds(d.text), kinds(d.judge)) == ("clcblcbcbRl", "fbl", "cblc")
    assert (kinds(plain.look), kinds(plain.text)) == ("clcblcblcbRl", "fl")
    assert kinds(ReedGenerator(**small, large=True).draw) == "tbRRrtbRRrtbrtbrth"
    assert all(m.negative_slope == 0.2 for m in d.modules() if isinstance(m, nn.LeakyReLU))


def test_networks_are_their_formulas():
    """Every layer written out, from the tensors alone."""
    g, d = seeded(lambda: ReedGenerator(3, 20, 6, 5)), seeded(lambda: ReedDiscriminator(3, 20, 6))
    z, text = torch.randn(2, 5), torch.randn(2, 20)
    leaky, relu = (lambda x: F.leaky_relu(x, 0.2)), F.relu

    def layers(network):
        state = network.state_dict()

        def conv(x, name, stride=1, padding=0, turned=False):
            function = F.conv_transpose2d if turned else F.conv2d
            return function(x, state[f"{name}.weight"], state[f"{name}.bias"], stride, padding)

        def norm(x, name):
            kept = (state[f"{name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias"))
            return F.batch_norm(x, *kept)

        def residual(x, name, activation):
            y = activation(norm(conv(x, f"{name}.branch.0"), f"{name}.branch.1"))
            y = activation(norm(conv(y, f"{name}.branch.3", 1, 1), f"{name}.branch.4"))
            return activation(x + norm(conv(y, f"{name}.branch.6", 1, 1), f"{name}.branch.7"))

        return conv, norm, residual, lambda x: F.linear(x, state["text.0.weight"], state["text.0.bias"])

    with torch.no_grad():
        conv, norm, residual, linear = layers(g)
        x = torch.cat([z, leaky(linear(text))], 1).view(2, 11, 1, 1)
        x = residual(norm(conv(x, "draw.0", turned=True), "draw.1"), "draw.2", relu)
        x = residual(norm(conv(x, "draw.4", 2, 1, True), "draw.5"), "draw.6", relu)
        for place in (8, 11):
            x = relu(norm(conv(x, f"draw.{place}", 2, 1, True), f"draw.{place + 1}"))
        x = torch.tanh(conv(x, "draw.14", 2, 1, True))
        torch.testing.assert_close(g(z, text), x)
        conv, norm, residual, linear = layers(d)
        y = leaky(norm(conv(leaky(conv(x, "look.0", 2, 1)), "look.2", 2, 1), "look.3"))
        y = norm(conv(norm(conv(y, "look.5", 2, 1), "look.6"), "look.7", 2, 1), "look.8")
        y, t = residual(y, "look.9", leaky), leaky(norm(linear(text), "text.1"))
        y = torch.cat([y, t.view(2, 6, 1, 1).expand(2, 6, 4, 4)], 1)
        y = conv(leaky(norm(conv(y, "judge.0"), "judge.1")), "judge.3")
        torch.testing.assert_close(d(x, text), y.view(2))


def test_noise_comes_first_here_and_the_text_first_in_the_port():
    for make, first, part in ((ReedGenerator, "draw", slice(None, 5)), (ReedPortGenerator, "netG", slice(-5, None))):
        network = seeded(lambda make=make: make(2, 7, 6, 5))
        with torch.no_grad():
            network.get_submodule(first)[0].weight[part] = 0  # what reads the noise
            one, other = (network(torch.randn(1, 5), torch.ones(1, 7)) for _ in range(2))
        assert torch.equal(one, other) and one.shape == (1, 3, 64, 64)


MADE = {
    "G": lambda: ReedGenerator(3, 20, 6, 5),
    "G for COCO": lambda: ReedGenerator(3, 20, 6, 5, large=True),
    "D": lambda: ReedDiscriminator(3, 20, 6),
    "D of main_cls": lambda: ReedDiscriminator(3, 20, 6, plain=True),
    "G of the port": lambda: ReedPortGenerator(3, 20, 6, 5),
    "D of the port": lambda: ReedPortDiscriminator(3, 20, 6),
}


@pytest.mark.parametrize("name", MADE)
def test_what_is_written_is_read_back_as_the_same_network(tmp_path, name):
    network = seeded(MADE[name])
    for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm1d)):
        norm.running_mean.normal_(std=0.1)
        norm.running_var.uniform_(0.5, 1.5)
    path = tmp_path / ("gen_200.pth" if name[0] == "G" else "disc_200.pth")
    torch.save({f"module.{key}": tensor for key, tensor in network.state_dict().items()}, path)
    checkpoints.save(network, tmp_path / "own.safetensors")
    text = torch.randn(2, 20)
    given = (torch.randn(2, 5), text) if name[0] == "G" else (torch.randn(2, 3, 64, 64), text)
    with torch.no_grad():
        expected = network(*given)
        for file in (path, tmp_path / "own.safetensors"):
            again = checkpoints.load(file)
            assert type(again) is type(network) and not any(p.requires_grad for p in again.parameters())
            torch.testing.assert_close(again(*given), expected)
    assert expected.shape == ((2, 3, 64, 64) if name[0] == "G" else (2,))
    if name[0] == "D":
        with pytest.raises(CheckpointError, match="draws nothing"):
            checkpoints.load_generator(path)


@pytest.mark.parametrize(
    "change,words",
    [
        ({"netG.0.weight": torch.zeros(6, 24, 4, 4)}, "from 6 to 24 channels, for a text of 6"),
        ({"netG.0.weight": torch.zeros(11, 4, 4, 4)}, "from 11 to 4"),
        ({"netG.0.weight": torch.zeros(1).expand(1 << 40, 24, 4, 4)}, "no network of this kind"),
        ({"netG.3.weight": torch.zeros(24, 13, 4, 4)}, "shape"),
        ({"projection.0.weight": torch.zeros(6)}, "2 axes are needed"),
        ({"netG.4.weight": torch.full((12,), torch.inf)}, "not finite"),
        ({"netG.99.weight": torch.zeros(1)}, "too many"),
        ({"projection.1.weight": None}, "lacks the tensor|something other"),
    ],
)
def test_a_file_that_does_not_fit_is_one_sentence(tmp_path, change, words):
    state = dict(seeded(MADE["G of the port"]).state_dict()) | change
    torch.save({name: tensor for name, tensor in state.items() if tensor is not None}, tmp_path / "gen_200.pth")
    with pytest.raises(CheckpointError, match=words) as caught:
        checkpoints.load(tmp_path / "gen_200.pth")
    assert str(caught.value).count("gen_200.pth") == 1 and "\n" not in str(caught.value)


# ---- training


@pytest.fixture
def batch():
    rng = torch.Generator().manual_seed(0)
    shapes = {"a": (6, 3, 64, 64), "wrong": (6, 3, 64, 64), "text": (6, 384)}
    return {name: torch.randn(shape, generator=rng) for name, shape in shapes.items()}


def spied(system):
    """What D is asked and answers, and what optimisers are given, in order."""
    seen, told = [], []
    system.networks["D"].register_forward_hook(lambda module, given, out: seen.append((*given, out)))
    system.descend = lambda names, loss, rate: told.append((names, loss.item(), rate))
    return seen, told


@pytest.mark.parametrize("name", NAMES)
def test_losses_are_the_published_formulas(name, batch):
    system = SYSTEMS[name](Settings(64, 100, 6, 0.0, 4))
    seen, told = spied(system)
    found = system.step(batch, 0.25, np.random.default_rng(0))
    c, interpolated = (0.5 if "cls" in name else 0.0), "int" in name

    def bce(scores, answer):
        return F.binary_cross_entropy(torch.sigmoid(scores), torch.full_like(scores, answer)).item()

    text = batch["text"]
    texts = [text] * (3 if c else 2)
    pictures = [batch["a"], batch["wrong"]] if c else [batch["a"]]
    assert len(seen) == len(texts) + 1  # one forward each: their norms never mix them
    for (x, t, _), expected in zip(seen, pictures, strict=False):
        assert torch.equal(x, expected) and torch.equal(t, text)
    real, fake = bce(seen[0][2], 1.0), bce(seen[len(pictures)][2], 0.0)
    wrong = bce(seen[1][2], 0.0) if c else 0.0
    assert [(names, rate) for names, _, rate in told] == [("D", 0.25), ("G", 0.25)]
    assert told[0][1] == pytest.approx(real + c * wrong + (1 - c) * fake, rel=1e-5)
    x, t, scores = seen[-1]
    assert told[1][1] == pytest.approx(bce(scores, 1.0), rel=1e-5) and len(x) == (9 if interpolated else 6)
    assert torch.equal(t[:6], text) and all(torch.equal(given, text) for _, given, _ in seen[:-1])
    for i in range(3 if interpolated else 0):
        torch.testing.assert_close(t[6 + i], 0.5 * text[i] + 0.5 * text[3 + i])
    assert set(found) == {"D_real", "D_fake", "G"} | ({"D_wrong"} if c else set())
    assert not torch.equal(seen[len(pictures)][0], x[:6])  # G draws anew for its own step


def test_midpoints_of_an_odd_batch():
    assert with_midpoints(torch.arange(5.0)[:, None]).flatten().tolist() == [0, 1, 2, 3, 4, 1, 2]


def test_beginnings_and_settings_are_the_published_ones():
    system = SYSTEMS["gan-int-cls"](Settings(64, 100, 2, 0.0, 8))
    assert (system.networks["G"].width, system.networks["D"].width, system.networks["G"].nz) == (16, 8, 100)
    for network in system.networks.values():
        modules = list(network.modules())
        weights = torch.cat([m.weight.flatten() for m in modules if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)])
        assert weights.std().item() == pytest.approx(0.02, rel=0.02) and abs(weights.mean().item()) < 1e-3
        scales = torch.cat([m.weight for m in modules if isinstance(m, nn.BatchNorm2d | nn.BatchNorm1d)])
        assert scales.mean().item() == pytest.approx(1, abs=0.005) and scales.std().item() == pytest.approx(
            0.02, rel=0.2
        )
        (linear,) = (m for m in modules if isinstance(m, nn.Linear))
        assert linear.weight.abs().max().item() == pytest.approx(384**-0.5, rel=0.01)
    group = system.adams["G"].param_groups[0]
    assert (group["lr"], group["betas"], system.batch) == (2e-4, (0.5, 0.999), 64)
    rates = [system.schedule(seen, 600) for seen in (0, 99, 100, 199, 200, 599)]
    assert rates == [1, 1, 0.5, 0.5, 0.25, 0.5**5]
    again = SYSTEMS["gan-int-cls"](Settings(64, 100, 2, 0.0, 8)).networks["G"]
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), system.networks["G"].parameters(), strict=True))


def test_every_part_moves_and_biases_of_convolutions_are_never_used(batch):
    system = SYSTEMS["gan-int-cls"](Settings(64, 100, 6, 1e-3, 4))
    before = {key: {n: t.clone() for n, t in net.state_dict().items()} for key, net in system.networks.items()}
    biases, hooks = [], []
    for network in system.networks.values():
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                hooks.append(
                    module.register_forward_hook(lambda m, given, out: biases.append(m.bias.abs().max().item()))
                )
    for number in range(2):
        system.step(batch, 1.0, np.random.default_rng(number))
    assert len(biases) > 100 and max(biases) == 0
    of_convolutions = {
        f"{key}.{name}.bias"
        for key, network in system.networks.items()
        for name, m in network.named_modules()
        if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)
    }
    still = {
        f"{key}.{name}"
        for key, network in system.networks.items()
        for name, tensor in network.state_dict().items()
        if torch.equal(tensor, before[key][name])
    }
    assert still <= of_convolutions, still - of_convolutions


def test_the_discriminator_is_not_taught_by_gs_step(batch):
    system = SYSTEMS["gan"](Settings(64, 100, 6, 0.0, 4))
    seen = []
    descend = system.descend

    def spy(names, loss, rate):
        before = [p.clone() for p in system.networks["D"].parameters()]
        descend(names, loss, rate)
        after = list(system.networks["D"].parameters())
        assert {p.requires_grad for p in after} == {names == "D"}
        seen.append((names, all(torch.equal(a, b) for a, b in zip(before, after, strict=True))))

    system.descend = spy
    system.step(batch, 1.0, np.random.default_rng(0))
    assert seen == [("D", False), ("G", True)]


def test_it_learns_to_draw_what_a_sentence_says(tmp_path, toy):  # noqa: F811
    """One colour a sentence: after some steps a sentence gets its colour, and D knows the wrong one."""
    painted(tmp_path / "a", 8, names=("red", "blue"))
    source, out, settings = captioned.opened(tmp_path / "a"), tmp_path / "run", Settings(64, 480, 4, 6e-3, 4, 0)
    system = fit.fit("gan-int-cls", source, out, settings)
    assert len(toy) == 1 and (out / captioned.CACHE).exists()
    fit.fit("gan-int-cls", captioned.opened(tmp_path / "a"), out, settings)
    assert len(toy) == 1  # a run that goes on reads them
    drawn = draw(fit.file_of(out, "G"), ["a red picture", "a blue picture"], range(6))
    red, blue = drawn.reshape(2, 6, -1, 3).mean((1, 2))
    assert red[0] - red[2] > 15 and blue[2] - blue[0] > 15, (red, blue)
    found, judge = source.batch(0, 8, 64, 0), system.networks["D"].eval()
    with torch.no_grad():
        assert (judge(found["a"], found["text"]) - judge(found["wrong"], found["text"])).mean() > 1


@pytest.mark.parametrize("name", NAMES)
def test_sizes_and_batches_that_cannot_work(tmp_path, name, toy):  # noqa: F811
    source = captioned.opened(painted(tmp_path / "a"))
    for settings, words in ((Settings(128), "64 pixels, not 128"), (Settings(64, 2, 1), "2 pictures or more, not 1")):
        with pytest.raises(UsageError, match=words):
            fit.fit(name, source, tmp_path / "run", settings)
    assert not (tmp_path / "run").exists()
    with pytest.raises(UsageError, match="leave --b out"):
        SYSTEMS[name].source(tmp_path / "a", tmp_path / "a")


# ---- drawing


def test_a_picture_is_its_sentence_and_its_seed(toy):  # noqa: F811
    network = seeded(lambda: ReedGenerator(3, 384, 6, 5))
    for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.weight.data *= 3  # so that noise and text count
    many = draw(network, ["red", "blue"], [3, 1])
    assert many.shape == (4, 64, 64, 3) and many.dtype == np.uint8
    apart = [np.abs(many[i].astype(int) - many[j]).max() for i in range(4) for j in range(i)]
    assert min(apart) > 20, apart
    for place, (sentence, seed) in enumerate((("red", 3), ("red", 1), ("blue", 3), ("blue", 1))):
        assert np.abs(draw(network, [sentence], [seed])[0].astype(int) - many[place]).max() <= 1
    z = torch.from_numpy(np.random.default_rng(3).standard_normal((1, 5), np.float32))
    with torch.no_grad():
        expected = network(z, toy_encode(["red"]))[0]
    assert np.abs(many[0] - (expected.permute(1, 2, 0).numpy() + 1) * 127.5).max() < 1
    assert np.array_equal(sheet(many, 2, 2)[128:, ::2][::2], np.concatenate([many[2], many[3]], 1))


@pytest.mark.parametrize("port", [True, False])
def test_published_networks_need_embeddings(tmp_path, port, toy):  # noqa: F811
    network = seeded(lambda: (ReedPortGenerator if port else ReedGenerator)(3, 20, 6, 5))
    path = tmp_path / "gen_200.pth"
    torch.save(network.state_dict(), path)
    with pytest.raises(UsageError, match="gen_200.pth reads sentences as 20 numbers .* --embeddings file.npy"):
        draw(path, ["red"], [0])
    rows = np.random.default_rng(0).standard_normal((2, 20))
    np.save(tmp_path / "rows.npy", rows)
    found = draw(path, [], [0, 1], tmp_path / "rows.npy")
    assert found.shape == (4, 64, 64, 3) and np.array_equal(found, draw(path, ["a", "b"], [0, 1], rows))
    assert not np.array_equal(found[0], found[2]) and not toy


@pytest.mark.parametrize(
    "embeddings,sentences,words",
    [
        (np.zeros((2, 19)), [], "reads \\(sentences, 20\\)"),
        (np.zeros((0, 20)), [], "shape"),
        (np.zeros((2, 20)), ["one"], "2 rows for 1 sentences"),
        (np.full((1, 20), np.nan), [], "no number"),
        (np.array([["a"] * 20]), [], "no number"),
        (b"no array", [], "no array of numbers"),
        (b"", [], "no array of numbers"),
        (np.array([{}], object), [], "no array of numbers"),
        (None, [], "cannot be read"),
    ],
)
def test_embeddings_that_do_not_fit(tmp_path, embeddings, sentences, words):
    path = tmp_path / "rows.npy"
    if isinstance(embeddings, bytes):
        path.write_bytes(embeddings)
    elif embeddings is not None:
        np.save(path, embeddings, allow_pickle=True)
    with pytest.raises(UsageError, match=words):
        draw(seeded(lambda: ReedGenerator(3, 20, 6, 5)), sentences, [0], path)


def test_what_cannot_be_drawn(tmp_path, toy):  # noqa: F811
    network = seeded(lambda: ReedGenerator(3, 384, 6, 5))
    for sentences, seeds, words in ((["  "], [0], "is empty"), ([], [0], "Nothing"), (["red"], [], "Nothing")):
        with pytest.raises(UsageError, match=words):
            draw(network, sentences, seeds)
    torch.save(seeded(lambda: ResnetGenerator(3, 3, 2, 4)).state_dict(), tmp_path / "G.pth")
    with pytest.raises(UsageError, match="G.pth is a ResnetGenerator, which draws nothing from sentences"):
        draw(tmp_path / "G.pth", ["red"], [0])


def test_pictures_are_not_for_these_networks(tmp_path, run):
    checkpoints.save(seeded(MADE["G"]), tmp_path / "G.safetensors")
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    code, out, err = run("apply", "--network", tmp_path / "G.safetensors", "--img", tmp_path / "a.png")
    assert (code, out) == (2, []) and "python -m editing.text generate" in err


def test_the_commands(tmp_path, run, toy, capsys):  # noqa: F811
    painted(tmp_path / "a")
    code, out, err = run("fit", "gan-cls", "--a", tmp_path / "a", "--out", tmp_path / "run", "--size", 64,
                         "--images", 8, "--batch", 4, "--width", 4)  # fmt: skip
    assert code == 0 and out[-1] == str(tmp_path / "run"), err
    made = [str(fit.file_of(tmp_path / "run", "G")), str(tmp_path / "sheet.webp")]
    with pytest.raises(SystemExit) as ended:
        captioned_drawing.main([*made, "--sentence", "a red picture", "--sentence", "blue", "--seeds", "3"])
    assert not ended.value.code and Image.open(made[1]).size == (192, 128)
    code, _, err = run("fit", "gan-cls", "--a", tmp_path / "a", "--out", tmp_path / "other")
    assert code == 2 and "--size 64" in err
