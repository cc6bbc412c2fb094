"""GigaGAN's data, the matching-aware losses against formulas, training, and drawing what sentences say."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from editing.translation import captioned, fit
from editing.translation.gigagan_drawing import draw, mean_w
from editing.translation.networks import GigaGANGenerator
from editing.translation.networks.gigagan import generator
from editing.translation.systems import SYSTEMS, Settings
from editing.translation.systems.gigagan import PUBLISHED, WORDS, GigaGAN, Worded, halves, padded, scored
from stylegan2.errors import UsageError
from tests.editing.translation.toywords import Fake, no_weights_are_needed, saved, squares, tiny  # noqa: F401  a fixture

# ---- data


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
