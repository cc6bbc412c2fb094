"""GigaGAN: the paper's sizes, parts against plain formulas, the matching-aware losses, training and drawing."""

import math
import zlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from editing.translation import captioned, checkpoints, fit
from editing.translation.gigagan_drawing import draw, mean_w
from editing.translation.networks import GigaGANDiscriminator, GigaGANGenerator, VisionHeads
from editing.translation.networks.gigagan import discriminator, generator
from editing.translation.networks.gigagan.attention import Attention, CrossAttention, L2Attention, distance_logits
from editing.translation.networks.gigagan.kernels import AdaptiveConv, Conv, Linear
from editing.translation.networks.gigagan.text import TextTower
from editing.translation.systems import SYSTEMS, Settings
from editing.translation.systems.gigagan import PUBLISHED, WORDS, GigaGAN, Worded, halves, padded, scored
from encoders import sentence
from stylegan2.errors import CheckpointError, UsageError


class Fake:
    """A sentence encoder of random words, as many tokens as there are."""

    def tokens(self, texts):
        rows = [torch.stack([self.word(word) for word in text.split()]) for text in texts]
        longest = max(map(len, rows))
        mask = torch.arange(longest) < torch.tensor([len(row) for row in rows])[:, None]
        return torch.stack([F.pad(row, (0, 0, 0, longest - len(row))) for row in rows]), mask

    def word(self, word):
        return torch.randn(384, generator=torch.Generator().manual_seed(zlib.crc32(word.encode())))


@pytest.fixture(autouse=True)
def no_weights_are_needed(monkeypatch):
    monkeypatch.setattr(sentence, "load", Fake)
    monkeypatch.setattr(GigaGAN, "vision", 0.0)


def tiny(seed=0):
    torch.manual_seed(seed)
    g = GigaGANGenerator(12, 6, 10, 8, (8, 8, 4), (1, 2, 3), (1, 2, 1), (0, 1, 1), 1, 2)
    return g, GigaGANDiscriminator(12, 8, (4, 8, 8), (1, 0, 2), (0, 1, 0), 5, 1)


def words(batch=3, features=12):
    mask = torch.arange(5) < torch.tensor([5, 3, 1, 4])[:batch, None]
    return torch.randn(batch, 5, features), mask


# ---- the paper's sizes


def test_the_papers_networks_have_its_sizes_to_two_percent_and_run():
    with torch.device("meta"):
        g, d = GigaGANGenerator(**generator.PAPER), GigaGANDiscriminator(**discriminator.PAPER)
        hidden, mask = torch.randn(2, 77, 768), torch.ones(2, 77, dtype=torch.bool)
        pictures = g(torch.randn(2, 128), hidden, mask)
        assert [tuple(p.shape) for p in pictures] == [(2, 3, s, s) for s in (64, 32, 16, 8, 4)]
        sum(logits.mean() for logits in d(pictures, hidden, mask)).backward()
    counts = [sum(p.numel() for p in network.parameters()) / 1e6 for network in (g, d)]
    print(f"G {counts[0]:.1f} M for 652.5 M, D {counts[1]:.1f} M for 381.4 M")
    assert counts == [pytest.approx(652.5, rel=0.02), pytest.approx(381.4, rel=0.02)]
    assert all(p.grad is not None for network in (g, d) for p in network.parameters())
    assert (PUBLISHED["batch"], PUBLISHED["rate"], PUBLISHED["betas"]) == (512, 2.5e-3, (0.0, 0.99))


@pytest.mark.parametrize("size", [16, 64, 256])
def test_small_networks_fit_each_other(size):
    g, d = GigaGANGenerator(**generator.small(size, 8)), GigaGANDiscriminator(**discriminator.small(size, 8))
    hidden, mask, levels = torch.randn(1, WORDS, 384), torch.ones(1, WORDS, dtype=torch.bool), int(math.log2(size)) - 1
    with torch.no_grad():
        pictures = g(torch.randn(1, 128), hidden, mask)
        assert g.size == size and len(pictures) == levels == len(d(pictures, hidden, mask))
    assert [p.shape[-1] for p in pictures] == [s.shape[-1] for s in generator.pyramid(pictures[0], levels)]


# ---- parts


@pytest.mark.parametrize("kernels,size,demodulate,act", [(4, 3, True, True), (1, 3, True, False), (3, 1, False, False)])
def test_adaptive_kernels_are_a_convolution_of_its_own_for_every_picture(kernels, size, demodulate, act):
    torch.manual_seed(0)
    conv = AdaptiveConv(5, 7, 6, kernels, size, demodulate, act).double()
    conv.bias.data.normal_()
    x, w = torch.randn(3, 5, 6, 6).double(), torch.randn(3, 6).double()
    found = conv(x, w)
    for b in range(3):
        shares = torch.ones(1).double()
        if kernels > 1:
            logits = conv.select.weight @ w[b] / math.sqrt(6) + conv.select.bias
            shares = logits.exp() / logits.exp().sum()
        kernel = sum(p * k for p, k in zip(shares, conv.weight, strict=True)) / math.sqrt(5 * size**2)
        style = conv.affine.weight @ w[b] / math.sqrt(6) + conv.affine.bias
        kernel = kernel * style[None, :, None, None]
        if demodulate:
            kernel = kernel / (kernel.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        expected = F.conv2d(x[b : b + 1], kernel, conv.bias, padding=size // 2)
        expected = F.leaky_relu(expected, 0.2) * math.sqrt(2) if act else expected
        torch.testing.assert_close(found[b : b + 1], expected)


def test_equalised_layers_keep_the_variance():
    torch.manual_seed(0)
    x = torch.randn(64, 50, 8, 8)
    assert Conv(50, 60, 3)(x)[..., 1:-1, 1:-1].square().mean().item() == pytest.approx(1, rel=0.1)
    assert Linear(50, 60, lr_mul=0.01)(x[:, :, 0, 0]).square().mean().item() == pytest.approx(1, rel=0.15)
    assert Linear(50, 60, lr_mul=0.01).weight.std().item() == pytest.approx(100, rel=0.1)


def test_l2_attention_is_its_formula():
    torch.manual_seed(0)
    attention, x = L2Attention(128).double(), torch.randn(2, 6, 128).double()  # two heads
    found = attention(x)
    project = {name: (layer.weight / math.sqrt(128), layer.bias) for name, layer in attention.named_children()}
    q, v = (x @ project[name][0].T + project[name][1] for name in ("to_qk", "to_v"))
    for b in range(2):
        heads = []
        for part in (slice(0, 64), slice(64, 128)):
            rows = []
            for i in range(6):
                logits = torch.stack([-(q[b, i, part] - q[b, j, part]).square().sum() / 8 for j in range(6)])
                rows.append(logits.softmax(0) @ v[b, :, part])
            heads.append(torch.stack(rows))
        expected = torch.cat(heads, 1) @ project["to_out"][0].T + project["to_out"][1]
        torch.testing.assert_close(found[b], expected)


def test_l2_attention_sees_distances_alone_and_no_order():
    torch.manual_seed(0)
    q, shift = torch.randn(2, 6, 8).double(), torch.randn(8).double()
    torch.testing.assert_close(distance_logits(q + shift, q + shift), distance_logits(q, q))
    assert distance_logits(q, q).diagonal(dim1=1, dim2=2).abs().max() < 1e-12  # nothing is nearer than itself
    attention, order = L2Attention(16), torch.tensor([3, 1, 5, 0, 2, 4])
    x = torch.randn(2, 6, 16)
    torch.testing.assert_close(attention(x[:, order]), attention(x)[:, order])
    shifted = L2Attention(16)
    shifted.load_state_dict(attention.state_dict())
    shifted.to_qk.bias.data += 1.0
    torch.testing.assert_close(shifted(x), attention(x), atol=1e-5, rtol=1e-5)


def test_words_that_are_not_there_are_not_seen():
    torch.manual_seed(0)
    cross, tower, (hidden, mask) = CrossAttention(16, 12), TextTower(12, 16, 2), words()
    other = torch.where(mask[..., None], hidden, torch.randn_like(hidden))
    x = torch.randn(3, 4, 16)
    torch.testing.assert_close(cross(x, hidden, mask), cross(x, other, mask))
    torch.testing.assert_close(tower(hidden, mask)[1], tower(other, mask)[1])
    assert not torch.allclose(tower(hidden, mask)[1], tower(hidden + 1e-1 * torch.randn_like(hidden), mask)[1])
    attention = Attention(16, 12)
    picture = torch.randn(3, 16, 4, 4)
    assert not torch.allclose(attention(picture, hidden, mask), attention(picture, hidden.flip(0), mask))


def test_words_and_noise_reach_all_pictures_of_the_pyramid():
    g, _ = tiny()
    (hidden, mask), z = words(2), torch.randn(2, 6)
    with torch.no_grad():
        pictures = g(z, hidden, mask)
        assert [tuple(p.shape) for p in pictures] == [(2, 3, s, s) for s in (16, 8, 4)]
        for others in (g(-z, hidden, mask), g(z, hidden.flip(0), mask)):
            assert all(not torch.allclose(a, b) for a, b in zip(pictures, others, strict=True))
        torch.testing.assert_close(g(3 * z, hidden, mask)[0], pictures[0], atol=1e-4, rtol=1e-4)
        local, token = g.text(hidden, mask)
        one = g.synthesis(g.mapped(z, token), local, mask)[0]
        assert not torch.allclose(one, g.synthesis(g.mapped(z, token), -local, mask)[0])  # cross-attention
        rgb = []
        for level in g.levels:
            level.to_rgb.register_forward_hook(lambda m, x, y: rgb.append(y))
        large, middle, little = g.synthesis(g.mapped(z, token), local, mask)
    torch.testing.assert_close(little, rgb[0])
    for picture, below, own in ((middle, little, rgb[1]), (large, middle, rgb[2])):
        torch.testing.assert_close(picture, own + F.interpolate(below, scale_factor=2, mode="bilinear"))


def test_there_are_15_predictions_and_each_is_of_one_picture():
    d = GigaGANDiscriminator(12, 8, (4, 4, 8, 8, 8), (0,) * 5, (0, 0, 1, 1, 0), 5, 1)
    (hidden, mask), pictures = words(), generator.pyramid(torch.randn(3, 3, 64, 64), 5)
    with torch.no_grad():
        logits = d(pictures, hidden, mask)
        sides = (32, 16, 8, 4, 4)
        assert [tuple(one.shape) for one in logits] == [(3 * j, 1, s, s) for j, s in enumerate(sides, 1)]
        assert sum(len(one) // 3 for one in logits) == 15
        for i in range(5):
            changed = list(pictures)
            changed[i] = torch.randn_like(pictures[i])
            for j, (one, other) in enumerate(zip(logits, d(changed, hidden, mask), strict=True), 1):
                same = [torch.allclose(a, b, atol=1e-5) for a, b in zip(one.split(3), other.split(3), strict=True)]
                assert same == [k != i for k in range(j)]
        wrong = d(pictures, hidden.flip(0), mask.flip(0))
        assert all(not torch.allclose(a, b) for a, b in zip(logits, wrong, strict=True))
        x, token = d.seen(pictures)[1], d.text(hidden, mask)[1]
        head = d.heads[1]
        without = head(x, token.repeat(2, 1)) - head.plain(x)  # the unconditional part is added
        y = x
        for layer in head.layers:
            y = layer(y, token.repeat(2, 1))
        torch.testing.assert_close(without, y, atol=1e-5, rtol=1e-4)
        assert len(head.layers) == 4


# ---- files


def saved(tmp_path, network):
    checkpoints.save(network, tmp_path / "own.safetensors")
    return tmp_path / "own.safetensors"


def test_what_is_written_is_read_back_as_the_same_networks(tmp_path):
    (g, d), (hidden, mask), z = tiny(), words(), torch.randn(3, 6)
    with torch.no_grad():
        again = checkpoints.load_generator(saved(tmp_path, g))
        pictures = g(z, hidden, mask)
        for one, other in zip(again(z, hidden, mask), pictures, strict=True):
            torch.testing.assert_close(one, other)
        again = checkpoints.load(saved(tmp_path, d))
        for one, other in zip(again(pictures, hidden, mask), d(pictures, hidden, mask), strict=True):
            torch.testing.assert_close(one, other)
        v = VisionHeads((5, 7), 8, 6)
        again, token = checkpoints.load(saved(tmp_path, v)), d.text(hidden, mask)[1]
        features = [torch.randn(3, 5, 4, 4), torch.randn(3, 7, 2, 2)]
        for one, other in zip(
            again.judged(again.seen(features), token), v.judged(v.seen(features), token), strict=True
        ):
            torch.testing.assert_close(one, other)
    with pytest.raises(CheckpointError, match="draws nothing"):
        checkpoints.load_generator(saved(tmp_path, d))


@pytest.mark.parametrize(
    "change,words",
    [
        (lambda s: s.pop("levels.1.convs.0.select.weight"), "lacks the tensor"),
        (lambda s: s.update({"extra": torch.zeros(1)}), "too many"),
        (lambda s: s.update({"levels.2.convs.0.weight": torch.zeros(1).expand(1 << 40, 4, 8, 3, 3)}), "no network of"),
        (lambda s: s.update({"levels.2.convs.0.weight": torch.zeros(3, 9, 8, 3, 3)}), "shape"),
        (lambda s: s.update({"mapping.0.weight": torch.zeros(10, 8)}), "room for noise"),
        (lambda s: s.update({f"levels.{k}.to_rgb.weight": torch.zeros(1) for k in range(99)}), "levels"),
        (lambda s: s.update({"constant": torch.full((1, 8, 4, 4), math.nan)}), "constant"),
    ],
)
def test_a_file_that_does_not_fit_is_one_sentence(tmp_path, change, words):
    state = dict(tiny()[0].state_dict())
    change(state)
    torch.save(state, tmp_path / "G.pth")
    with pytest.raises(CheckpointError, match=words) as caught:
        checkpoints.load(tmp_path / "G.pth")
    assert "\n" not in str(caught.value)


# ---- data


def squares(folder, count=24, size=16, colours=("red", "green", "blue")):
    """Squares of a colour somewhere on gray, captioned."""
    folder.mkdir()
    rng, rows = np.random.default_rng(0), []
    for index in range(count):
        colour, pixels = colours[index % len(colours)], np.full((size, size, 3), 127, np.uint8)
        top, left = rng.integers(0, size // 4, 2)
        side, rgb = 3 * size // 4, [230 if c == colour else 20 for c in ("red", "green", "blue")]
        pixels[top : top + side, left : left + side] = rgb
        Image.fromarray(pixels).save(folder / f"{index:02d}.png")
        rows.append(f"{index:02d}.png,a {colour} square")
    (folder / "captions.csv").write_text("file,caption\n" + "\n".join(rows) + "\n")
    return folder


def test_batches_are_pictures_and_tokens_and_always_the_same(tmp_path):
    source = SYSTEMS["gigagan"].source(squares(tmp_path / "a"))
    batch, again = source.batch(3, 5, 16, 0), Worded(source.pictures).batch(3, 5, 16, 0)
    shapes = {"a": (5, 3, 16, 16), "hidden": (5, WORDS, 384), "mask": (5, WORDS)}
    assert {k: tuple(t.shape) for k, t in batch.items()} == shapes
    assert all(torch.equal(batch[k], again[k]) for k in batch)
    assert (batch["mask"].sum(1) == 3).all() and (batch["hidden"][:, 3:] == 0).all()
    for picture, hidden in zip(batch["a"], batch["hidden"], strict=True):
        colour = ("red", "green", "blue")[int(picture[:, 8, 8].argmax())]
        torch.testing.assert_close(hidden[1], Fake().word(colour).half().float())
    long = padded([torch.randn(50, 7)])
    assert long[0].shape == (1, WORDS, 7) and long[1].all()
    with pytest.raises(UsageError, match="leave --b out"):
        SYSTEMS["gigagan"].source(tmp_path / "a", tmp_path / "a")


def test_pictures_whose_captions_speak_of_sides_are_not_mirrored():
    picture = np.zeros((16, 16, 3), np.uint8)
    picture[:, 8:] = 255
    for texts, expected in ((("light from the right", "LEFT"), {True}), (("upright", "some light"), {True, False})):
        source = Worded(captioned.Captioned([picture, picture], [(text,) for text in texts]))
        assert {bool(x[0, 0, 12] > 0) for n in range(8) for x in source.batch(n, 2, 16, 0)["a"]} == expected


# ---- losses


def test_losses_are_their_formulas():
    torch.manual_seed(0)
    logits = [torch.randn(6 * j, 1, s, s) for j, s in ((1, 4), (2, 2))]
    real, fake = halves(logits, 3)
    assert torch.equal(real[1][1], logits[1][6:9]) and torch.equal(fake[1][0], logits[1][3:6])
    parts = [logits[0][:3], logits[1][:3], logits[1][6:9]]  # three predictions of the real pictures
    expected = sum(torch.log(1 + torch.exp(-one)).mean() for one in parts) / 3
    torch.testing.assert_close(scored(real, True), expected)
    expected = sum(torch.log(1 + torch.exp(one)).mean() for one in parts) / 3
    torch.testing.assert_close(scored(real, False), expected)


def system(size=16, width=8, **more):
    return SYSTEMS["gigagan"](Settings(size, 100, 4, 0.0, width, **more))


def told(found, batch, rng=0):
    """Losses that each optimiser is given in one step."""
    losses = {}
    found.descend = lambda names, loss, rate: losses.update({names: loss.item()})
    parts = found.step(batch, 1.0, np.random.default_rng(rng))
    return losses, parts


def test_other_sentences_count_as_fake_in_both_updates(tmp_path):
    source = SYSTEMS["gigagan"].source(squares(tmp_path / "a"))
    batch, found = source.batch(0, 4, 16, 0), system()
    found.steps = 1  # no R1
    losses, parts = told(found, batch)
    rng = np.random.default_rng(0)
    shift = int(rng.integers(1, 4))
    z = torch.from_numpy(rng.standard_normal((4, 128), np.float32))
    g, d, hidden, mask = found.networks["G"], found.networks["D"], batch["hidden"], batch["mask"]
    other = (hidden.roll(shift, 0), mask.roll(shift, 0))
    with torch.no_grad():
        drawn = g(z, hidden, mask)
        shown = generator.pyramid(batch["a"], 3)

        def loss(pictures, words, sign):
            logits = [one for each in d(pictures, *words) for one in each.split(4)]
            assert len(logits) == 6
            return sum(F.softplus(sign * one).mean() for one in logits).item() / 6

        right = (hidden, mask)
        expected = {
            "D_real": loss(shown, right, -1),
            "D_fake": loss(drawn, right, 1),
            "D_match": loss(shown, other, 1) + loss(drawn, other, 1),
            "G_gan": loss(drawn, right, -1),
            "G_match": loss(drawn, other, 1),
        }
    for name, value in expected.items():
        assert parts[name] == pytest.approx(value, rel=1e-4), name
    assert losses["D"] == pytest.approx(expected["D_real"] + expected["D_fake"] + expected["D_match"], rel=1e-4)
    assert losses["G"] == pytest.approx(expected["G_gan"] + expected["G_match"], rel=1e-4)


def test_r1_is_the_squared_slope_at_real_pictures_every_16_steps(tmp_path):
    source, found = SYSTEMS["gigagan"].source(squares(tmp_path / "a")), system()
    batch = source.batch(0, 4, 16, 0)
    losses, parts = told(found, batch)
    rest = parts["D_real"] + parts["D_fake"] + parts["D_match"]
    assert losses["D"] == pytest.approx(rest + found.r1 / 2 * 16 * parts["D_r1"], rel=1e-4)
    steps = []
    for found.steps in (1, 15, 16, 17, 32):
        steps += ["D_r1" in told(found, batch)[1]]
    assert steps == [False, False, True, False, True]
    slopes = [torch.randn(3, 4, 4), torch.randn(3, 4, 4), torch.randn(3, 2, 2)]

    class Linear(torch.nn.Module):
        """Two pictures in, three predictions out, all of known slopes."""

        def forward(self, pictures, hidden, mask):
            x, y, z = (
                (p * slope).sum((1, 2, 3)).view(-1, 1, 1, 1)
                for p, slope in zip((pictures[0], *pictures), slopes, strict=True)
            )
            return [x, torch.cat([y, z])]

    found.networks["D"] = Linear()
    value = found.steepness([torch.randn(4, 3, 4, 4), torch.randn(4, 3, 2, 2)], batch["hidden"], batch["mask"])
    expected = ((slopes[0] + slopes[1]) / 3).square().sum() + (slopes[2] / 3).square().sum()
    torch.testing.assert_close(value, expected)


def test_optimisers_shrink_attention_alone():
    found = system()
    for names in ("G", "D"):
        attention, others = found.adams[names].param_groups
        assert isinstance(found.adams[names], torch.optim.AdamW)
        assert (attention["weight_decay"], others["weight_decay"], others["lr"]) == (0.01, 0.0, 2.5e-3)
        inside = {id(p) for name, p in found.networks[names].named_parameters() if ".attention." in name}
        assert inside == {id(p) for p in attention["params"]} and others["betas"] == (0.0, 0.99)
        assert len(attention["params"]) + len(others["params"]) == len(list(found.networks[names].parameters()))


def test_every_part_moves_and_the_mean_follows(tmp_path):
    source, found = SYSTEMS["gigagan"].source(squares(tmp_path / "a")), system()
    before = {key: {n: p.clone() for n, p in net.named_parameters()} for key, net in found.networks.items()}
    for number in range(3):
        losses = found.step(source.batch(number, 4, 16, 0), 1.0, np.random.default_rng(number))
    assert all(math.isfinite(value) for value in losses.values())
    for key, net in found.networks.items():
        still = [n for n, p in net.named_parameters() if torch.equal(p, before[key][n])]
        assert not [name for name in still if not name.endswith("to_qk.bias") and not name.endswith("to_k.bias")], key
    assert not found.networks["D"].heads[0].plain.weight.requires_grad  # left alone by the generator's update
    weight = found.networks["G_mean"].constant
    found.steps, now = 10_000_000, found.networks["G"].constant.detach().clone()
    expected = torch.lerp(weight.clone(), now, 1 - PUBLISHED["mean"])
    found.average()
    torch.testing.assert_close(weight, expected)
    found.steps, expected = 40, torch.lerp(weight.clone(), now, 1 - 0.5**0.5)  # a half in two of forty steps
    found.average()
    torch.testing.assert_close(weight, expected)


@pytest.mark.parametrize(
    "settings,words",
    [
        (Settings(48, 8, 2, 0.0, 8), "a power of two from 16"),
        (Settings(512, 8, 2, 0.0, 8), "up to 256"),
        (Settings(32, 8, 1, 0.0, 8), "2 pictures or more"),
    ],
)
def test_sizes_that_cannot_work_are_refused(tmp_path, settings, words):
    with pytest.raises(UsageError, match=words):
        GigaGAN.check("gigagan", settings)


@pytest.mark.weights
def test_the_vision_aided_part_learns_and_teaches(tmp_path, weights, monkeypatch):
    weights("efficientnet-lite0")
    monkeypatch.setattr(GigaGAN, "vision", 0.5)
    monkeypatch.setattr(GigaGAN, "warm", 20)
    source, found = SYSTEMS["gigagan"].source(squares(tmp_path / "a")), system(32)
    batch, v = source.batch(0, 4, 32, 0), found.networks["V"]
    before = {n: t.clone() for n, t in v.state_dict().items()}
    found.steps = 4  # of four pictures each
    assert "V_D" not in found.step(batch, 1.0, np.random.default_rng(0))
    assert all(torch.equal(t, before[n]) for n, t in v.state_dict().items())
    parts = found.step(batch, 1.0, np.random.default_rng(0))
    assert parts["V_D"] > 0 and parts["V_G"] > 0 and found.groups() == [("G",), ("D", "V")]
    moved = {n for n, t in v.state_dict().items() if not torch.equal(t, before[n])}
    assert moved == {n for n, _ in v.named_parameters()}  # and no random projection
    fresh = system(32)
    fresh.looking = True
    hidden, mask = batch["hidden"], batch["mask"]
    drawn = fresh.networks["G"](torch.randn(4, 128), hidden, mask)
    fresh.generated(drawn, hidden, mask, 1)["V_G"].backward()
    assert fresh.networks["G"].constant.grad.abs().max() > 0
    assert all(p.grad is None for p in fresh.eyes.parameters())


def test_a_tiny_network_learns_to_draw_the_colour_that_a_sentence_names(tmp_path):
    source = SYSTEMS["gigagan"].source(squares(tmp_path / "a", 48))
    settings = Settings(16, 16 * 90, 16, 0.0, 16, 0)
    fit.fit("gigagan", source, tmp_path / "run", settings)
    sentences = [f"a {colour} square" for colour in ("red", "green", "blue")]
    pictures = draw(tmp_path / "run" / "latest_net_G_mean.safetensors", sentences, range(8))
    middles = pictures[:, 5:11, 5:11].reshape(3, 8, -1, 3).mean(2)  # (sentence, seed, RGB)
    right = (middles.argmax(2) == np.arange(3)[:, None]).mean()
    print(f"{right:.0%} of {middles.shape[0] * middles.shape[1]} in the right colour")
    assert right >= 0.8


# ---- drawing


def test_drawing_is_of_sentence_and_seed_alone(tmp_path):
    torch.manual_seed(0)
    network = GigaGANGenerator(**generator.small(16, 8)).eval()
    file, texts = saved(tmp_path, network), ["a red square", "something blue"]
    pictures = draw(file, texts, [3, 4, 5])
    assert pictures.shape == (6, 16, 16, 3) and pictures.dtype == np.uint8
    assert np.abs(draw(network, texts[1:], [5])[0].astype(int) - pictures[5]).max() <= 1
    assert not np.array_equal(pictures[0], pictures[1]) and not np.array_equal(pictures[0], pictures[3])
    same = draw(network, texts, [3, 4], psi=0)
    assert np.array_equal(same[0], same[1]) and not np.array_equal(same[0], same[2])  # what it says stays
    hidden, mask = padded(list(Fake().tokens(texts[:1])[0]))
    with torch.no_grad():
        local, token = network.text(hidden, mask)
        z = torch.from_numpy(np.random.default_rng(3).standard_normal((1, 128), np.float32))
        w = network.mapped(z, token) * 0.5 + mean_w(network, token) * 0.5
        expected = network.synthesis(w, local, mask)[0].clamp(-1, 1) * 127.5 + 127.5
        found = draw(network, texts[:1], [3], psi=0.5)[0]
        assert np.abs(found - expected[0].permute(1, 2, 0).numpy()).max() <= 0.51
        z = torch.randn(4000, 128)
        torch.testing.assert_close(
            mean_w(network, token)[0], network.mapped(z, token.expand(4000, -1)).mean(0), atol=0.3, rtol=0
        )
    for words, arguments in (("seed are needed", ([], [1])), ("seed are needed", ([" "], [1])), ("seed", (texts, []))):
        with pytest.raises(UsageError, match=words):
            draw(network, *arguments)
    with pytest.raises(UsageError, match="tokens of 12 numbers"):
        draw(tiny()[0], texts, [0])
    with pytest.raises(UsageError, match="not GigaGAN's generator"):
        draw(torch.nn.Linear(2, 2), texts, [0])
