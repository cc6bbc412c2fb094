"""GigaGAN's networks: the paper's sizes, parts against plain formulas, and their files."""

import math

import pytest
import torch
import torch.nn.functional as F

from editing.translation import checkpoints
from editing.translation.networks import GigaGANDiscriminator, GigaGANGenerator, VisionHeads
from editing.translation.networks.gigagan import discriminator, generator
from editing.translation.networks.gigagan.attention import Attention, CrossAttention, L2Attention, distance_logits
from editing.translation.networks.gigagan.kernels import AdaptiveConv, Conv, Linear
from editing.translation.networks.gigagan.text import TextTower
from editing.translation.systems.gigagan import PUBLISHED, WORDS
from stylegan2.errors import CheckpointError
from tests.editing.translation.toywords import no_weights_are_needed, saved, tiny  # noqa: F401  a fixture


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
