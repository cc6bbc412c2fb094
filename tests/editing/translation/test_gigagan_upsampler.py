"""GigaGAN's up-sampler in AuraSR's layout: names and shapes, parts against plain formulas, tiles, use and training."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file

from editing.translation import checkpoints, fit
from editing.translation.networks import AuraUpsampler
from editing.translation.networks.gigagan import tiles
from editing.translation.networks.gigagan.upsampler import Attention, Kernels, Norm
from editing.translation.systems import SYSTEMS, Settings
from editing.translation.systems.gigagan import scored
from editing.translation.systems.gigagan_upsampler import NOISE, GigaGANUpsampler, nothing, smaller
from stylegan2.errors import CheckpointError, UsageError


def small(seed=0, **more):
    torch.manual_seed(seed)
    options = {"width": 4, "heads": 1, "w_dim": 16, "z_dim": 8, "blocks": 2, "middle": 1, "depths": (0, 0, 0, 1, 2)}
    network = AuraUpsampler(**options | more)
    with torch.no_grad():
        network.style_to_conv_modulations.weight.mul_(20)  # so that noise is seen
    return network.eval().requires_grad_(False)


# ---- the published layout

SHAPES = {
    "style_network.net.0.weight": (512, 128),
    "style_network.net.6.bias": (512,),
    "init_conv.weight": (128, 3, 7, 7),
    "downs.0.0.0.block1.proj.weights": (4, 128, 128, 3, 3),
    "downs.2.0.5.block2.proj.weights": (4, 512, 512, 3, 3),
    "downs.0.1.1.weight": (256, 128, 3, 3),
    "mid_block1.block1.proj.weights": (4, 1024, 1024, 3, 3),
    "mid_attn.layers.3.0.to_qkv.weight": (1536, 1024, 1, 1),
    "mid_attn.layers.3.0.norm.g": (1, 1024, 1, 1),
    "mid_attn.layers.3.1.1.weight": (4096, 1024, 1, 1),
    "mid_attn.layers.3.1.0.g": (1, 1024, 1, 1),
    "ups.0.0.0.block1.proj.weights": (4, 512, 1024, 3, 3),
    "ups.0.0.0.res_conv.weight": (512, 1024, 1, 1),
    "ups.0.1.0.conv.weight": (512, 1024, 3, 3),
    "ups.0.1.1.layers.3.0.attend.scale": (1,),
    "ups.1.1.1.layers.1.0.to_out.bias": (256,),
    "final_res_block.block1.proj.weights": (4, 64, 64, 3, 3),
    "final_to_rgb.weight": (3, 64, 1, 1),
    "style_to_conv_modulations.weight": (33048, 512),
}


def test_the_published_layout():
    with torch.device("meta"):
        network = AuraUpsampler()
        assert network(torch.rand(2, 3, 64, 64), torch.randn(2, 128)).shape == (2, 3, 256, 256)
    state = network.state_dict()
    assert (len(state), sum(p.numel() for p in network.parameters())) == (268, 617_554_917)
    assert {name: tuple(state[name].shape) for name in SHAPES} == SHAPES
    names = " ".join(state)
    assert "ups.2.1.1" not in names and "downs.0.1.0" not in names and "downs.0.0.0.res_conv" not in names
    again = checkpoints._aura(state)  # what a file of these shapes is taken for
    with torch.device("meta"):
        known = again().state_dict()
    assert {n: t.shape for n, t in known.items()} == {n: t.shape for n, t in state.items()}


@pytest.mark.parametrize("name", ["model.safetensors", "model.ckpt"])
def test_published_files_load_strictly(tmp_path, name):
    network = small()
    if name.endswith("safetensors"):
        save_file(network.state_dict(), tmp_path / name)
    else:
        torch.save(network.state_dict(), tmp_path / name)
    again = checkpoints.load_generator(tmp_path / name)
    assert isinstance(again, AuraUpsampler) and again.scale == 4
    x, z = torch.rand(2, 3, 16, 16), torch.randn(2, 8)
    torch.testing.assert_close(again(x, z), network(x, z))
    checkpoints.save(network, tmp_path / "own.safetensors")
    torch.testing.assert_close(checkpoints.load(tmp_path / "own.safetensors")(x, z), network(x, z))


@pytest.mark.parametrize(
    "change,words",
    [
        (lambda s: s.pop("mid_attn.layers.0.0.attend.scale"), "lacks the tensor"),
        (lambda s: s.update({"ups.2.1.1.layers.0.0.to_out.bias": torch.zeros(4)}), "too many"),
        (lambda s: s.update({"style_to_conv_modulations.weight": torch.zeros(7, 16)}), "shape"),
        (lambda s: s.update({"ups.0.1.0.conv.weight": torch.zeros(32, 63, 3, 3)}), "multiples"),
        (lambda s: s.update({"ups.0.1.0.conv.weight": torch.zeros(1).expand(32, 1 << 40, 3, 3)}), "no network of"),
        (lambda s: s.update({f"ups.{k}.1.0.conv.weight": torch.zeros(1) for k in range(50)}), "levels"),
        (lambda s: s.update({f"mid_attn.layers.{k}.0.to_out.weight": torch.zeros(1) for k in range(2000)}), "layers"),
        (lambda s: s.update({f"downs.{k}.1.1.weight": torch.zeros(8, 8, 3, 3) for k in range(7)}), "multiples"),
        (lambda s: s.update({"final_to_rgb.bias": torch.full((3,), math.nan)}), "final_to_rgb.bias"),
    ],
)
def test_a_file_that_does_not_fit_is_one_sentence(tmp_path, change, words):
    state = dict(small().state_dict())
    change(state)
    torch.save(state, tmp_path / "model.ckpt")
    with pytest.raises(CheckpointError, match=words) as caught:
        checkpoints.load(tmp_path / "model.ckpt")
    assert "\n" not in str(caught.value)


# ---- parts


def test_kernels_are_a_convolution_of_its_own_for_every_picture():
    torch.manual_seed(0)
    layer, x = Kernels(5, 7, 4).double(), torch.randn(2, 5, 6, 6).double()
    modulation, logits = torch.randn(2, 5).double(), torch.randn(2, 4).double()
    found = layer(x, modulation, logits)
    for b in range(2):
        shares = logits[b].exp() / logits[b].exp().sum()
        kernel = (
            sum(p * k for p, k in zip(shares, layer.weights, strict=True)) * (1 + modulation[b])[None, :, None, None]
        )
        kernel = kernel / kernel.square().sum((1, 2, 3), keepdim=True).sqrt()
        torch.testing.assert_close(found[b : b + 1], F.conv2d(x[b : b + 1], kernel, padding=1))


def test_attention_is_the_dot_products():
    torch.manual_seed(0)
    layer, x = Attention(6, 2), torch.randn(1, 6, 2, 3)
    normed = Norm(6)(x)
    torch.testing.assert_close(normed.square().mean(1), torch.ones(1, 2, 3))
    q, k, v = (layer.to_qkv.weight[:, :, 0, 0] @ normed[0].flatten(1)).split(128)  # (128, 6) each
    heads = [v[part] @ (q[part].T @ k[part] / math.sqrt(64)).softmax(1).T for part in (slice(0, 64), slice(64, 128))]
    expected = layer.to_out.weight[:, :, 0, 0] @ torch.cat(heads) + layer.to_out.bias[:, None]
    torch.testing.assert_close(layer(x)[0].flatten(1), expected, atol=1e-5, rtol=1e-4)


def test_modulations_are_split_in_the_order_of_the_blocks():
    network, seen = small(), []
    for name, module in network.named_modules():
        if isinstance(module, Kernels):
            module.register_forward_hook(lambda m, inputs, _, n=name: seen.append((n, inputs[1], inputs[2])))
    z = torch.randn(1, 8)
    network(torch.rand(1, 3, 16, 16), z)
    order = [f"{part}.{block}.proj" for part in
             [*(f"downs.{i}.0.{k}" for i in range(3) for k in range(2)), "mid_block1", "mid_block2",
              *(f"ups.{i}.0.{k}" for i in range(5) for k in range(2)), "final_res_block"]
             for block in ("block1", "block2")]  # fmt: skip
    assert [name for name, *_ in seen] == order
    style = F.normalize(z, dim=1)
    for layer in network.style_network.net:
        linear = hasattr(layer, "weight")
        style = F.linear(style, layer.weight / 10, layer.bias / 10) if linear else F.leaky_relu(style, 0.2)
    whole = torch.cat([part for _, *parts in seen for part in parts], 1)
    torch.testing.assert_close(whole, network.style_to_conv_modulations(style))


def test_what_went_down_comes_back_on_the_way_up_the_last_one_first():
    network, down, up = small(), [], []
    for i in range(3):
        for k in range(2):
            network.downs[i][0][k].register_forward_hook(lambda m, x, y: down.append(y))
    for i in range(5):
        for k in range(2):
            network.ups[i][0][k].register_forward_hook(lambda m, x, y: up.append(x[0]))
    network(torch.rand(1, 3, 16, 16), torch.randn(1, 8))
    for x, y in zip(up[:6], reversed(down), strict=True):
        torch.testing.assert_close(x[:, x.shape[1] - y.shape[1] :], 0.4 * y)
    assert [x.shape[1] for x in up[6:]] == [4] * 4


# ---- tiles


class Plain(torch.nn.Module):
    """Four times as large as it is; with a stain in the corner of every tile where noise says so."""

    scale, z_dim = 4, 8

    def __init__(self, stain=0.0):
        super().__init__()
        self.stain, self.batches = torch.nn.Parameter(torch.tensor(stain)), []

    def forward(self, x, z):
        self.batches.append(len(x))
        assert x.shape[1:] == (3, 64, 64) and z.shape == (len(x), 8) and x.min() >= 0 and x.max() <= 1
        y = F.interpolate(x, scale_factor=4, mode="nearest")
        y[:, :, :8, :8] += self.stain * z[:, :1, None, None].abs()
        return y


@pytest.mark.parametrize("size", [(64, 64), (63, 65), (1, 1), (130, 70), (33, 200)])
@pytest.mark.parametrize("overlapped", [False, True])
def test_tiles_join_into_the_picture_for_any_size(size, overlapped):
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    found = tiles.upscale(Plain(), picture, 0, overlapped)
    assert found.dtype == np.uint8 and found.shape == (4 * size[0], 4 * size[1], 3)
    expected = picture.repeat(4, 0).repeat(4, 1).astype(int)
    assert np.abs(found - expected).max() <= 2  # the noise of 0.001 that networks see, and rounding


def test_overlapped_tiles_count_most_in_their_middles():
    picture = np.full((128, 128, 3), 60, np.uint8)
    plain, overlapped = (tiles.upscale(Plain(0.5), picture, 0, how).astype(int) for how in (False, True))
    assert plain[:8, :8].min() > 70 and plain[:8, 256:264].min() > 70  # a stain at each tile's corner
    assert np.abs(overlapped[:8, :8] - 60).max() <= 1 and np.abs(overlapped[:8, 256:264] - 60).max() <= 1
    weights = tiles.weights(256)
    d = (np.linspace(-1, 1, 256)[10] ** 2 + np.linspace(-1, 1, 256)[99] ** 2) ** 0.5
    assert weights[10, 99] == pytest.approx(math.exp(-(d**2) / (2 * 0.5**2)) ** 8)
    share = tiles.shares(256, 600)[..., 0]
    assert share.shape == (256, 600) and share[128, 128] > 0.999 and share[0, 256] < 0.001
    assert share[60, 300] == pytest.approx(weights[60, 44] / (weights[60, 44] + weights[188, 172]), rel=1e-4)


def test_a_tiles_noise_is_of_the_seed_and_its_place_alone(monkeypatch):
    picture, network = np.full((128, 192, 3), 60, np.uint8), Plain(0.5)
    one = tiles.upscale(network, picture, 3, False)
    assert max(network.batches) <= tiles.TOGETHER
    monkeypatch.setattr(tiles, "TOGETHER", 1)
    assert np.array_equal(tiles.upscale(network, picture, 3, False), one)
    assert not np.array_equal(tiles.upscale(network, picture, 4, False), one)
    corners = {int(one[256 * i, 256 * j, 0]) for i in range(2) for j in range(3)}
    assert len(corners) > 3  # every tile has its own


def test_rows_are_made_once_and_one_after_another(monkeypatch):
    made, row_of = [], tiles.row_of
    monkeypatch.setattr(tiles, "row_of", lambda *given: made.append(given[3:]) or row_of(*given))
    tiles.upscale(Plain(), np.zeros((130, 64, 3), np.uint8), 0)
    assert sorted(made) == [(False, 0), (False, 1), (False, 2), (True, 0), (True, 1), (True, 2)]


# ---- use


def test_a_photo_is_made_four_times_larger(tmp_path, run):
    network, picture = small(), np.random.default_rng(0).integers(0, 256, (70, 65, 3), dtype=np.uint8)
    save_file(network.state_dict(), tmp_path / "aura.safetensors")
    Image.fromarray(picture).save(tmp_path / "photo.png")
    common = ("apply", "--network", tmp_path / "aura.safetensors", "--img", tmp_path / "photo.png")
    code, lines, _ = run(*common, "--out", tmp_path / "out", "--seed", 5)
    assert code == 0 and lines == [str(tmp_path / "out" / "photo.png")]
    with Image.open(lines[0]) as result:
        assert np.array_equal(np.asarray(result), tiles.upscale(network, picture, 5))
        assert "rainedAlgorithmicMedia" in str(result.info)
    for option in (("--size", 64), ("--faces",), ("--how", "gray")):
        code, _, error = run(*common, *option)
        assert (code, error.count("\n")) == (2, 1) and "not for up-samplers" in error
    assert "--label is for StarGAN" in run(*common, "--label", 1)[2]
    Image.new("RGB", (2050, 4)).save(tmp_path / "photo.png")
    code, _, error = run(*common, "--out", tmp_path / "out2")
    assert code == 1 and "at most 2048 along a side" in error and error.count("\n") == 1


# ---- training


@pytest.fixture
def blind(monkeypatch):
    """Without the perceptual term, which needs fetched weights."""
    monkeypatch.setattr(GigaGANUpsampler, "perceptual", 0.0)


def stripes(folder, count=12, size=40):
    """Edges at random places: sharp ones can be drawn from what is left of them at a quarter of the size."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(count):
        pixels = np.full((size, size, 3), 40, np.uint8)
        pixels[:, int(rng.integers(8, size - 8)) :] = 200
        Image.fromarray(pixels).save(folder / f"{index:02d}.png")
    return folder


def test_batches_are_crops_and_what_is_left_of_them(tmp_path):
    source = SYSTEMS["gigagan-upsampler"].source(stripes(tmp_path / "a"))
    batch, again = source.batch(1, 5, 32, 0), source.batch(1, 5, 32, 0)
    assert batch["a"].shape == (5, 3, 32, 32) and all(torch.equal(batch[k], again[k]) for k in batch)
    assert 0 <= batch["noise"].min() < batch["noise"].max() <= NOISE
    assert set(torch.unique((batch["a"] * 127.5 + 127.5).round()).tolist()) == {40.0, 200.0}  # cut out, not resized
    x = smaller(batch["a"])
    assert x.shape == (5, 3, 8, 8)
    assert x[2, 1, 3, 4].item() == pytest.approx((batch["a"][2, 1, 12:16, 16:20].mean().item() + 1) / 2)
    with pytest.raises(UsageError, match="one folder of pictures"):
        SYSTEMS["gigagan-upsampler"].source(tmp_path / "a", tmp_path / "a")
    with pytest.raises(UsageError, match="up to 256"):
        GigaGANUpsampler.check("gigagan-upsampler", Settings(512, 8, 2, 0.0, 16))


def test_losses_are_their_formulas(tmp_path, blind):
    found, told = SYSTEMS["gigagan-upsampler"](Settings(32, 100, 4, 0.0, 16)), []
    batch = SYSTEMS["gigagan-upsampler"].source(stripes(tmp_path / "a")).batch(0, 4, 32, 0)
    found.descend = lambda names, loss, rate: told.append((names, loss.item(), rate))
    parts = found.step(batch, 1.0, np.random.default_rng(0))
    (d, d_loss, d_rate), (g, g_loss, g_rate) = told
    assert (d, g, d_rate, found.learning_rate * g_rate) == ("D", "G", 1.0, pytest.approx(2e-4))
    assert d_loss == pytest.approx(parts["D_real"] + parts["D_fake"] + found.r1 * 8 * parts["D_r1"], rel=1e-4)
    assert g_loss == pytest.approx(parts["G_gan"] + 10 * parts["G_l1"], rel=1e-4)
    rng = np.random.default_rng(0)
    with torch.no_grad():
        noise = torch.from_numpy(rng.standard_normal((4, 3, 8, 8), np.float32))
        x = (smaller(batch["a"]) + batch["noise"].view(-1, 1, 1, 1) * noise).clamp(0, 1)
        drawn = found.networks["G"](x, torch.from_numpy(rng.standard_normal((4, 128), np.float32))) * 2 - 1
        assert parts["G_l1"] == pytest.approx(F.l1_loss(drawn, batch["a"]).item(), rel=1e-4)
        pictures = [F.avg_pool2d(drawn, 2**k) if k else drawn for k in range(4)]
        logits = found.networks["D"](pictures, *nothing(drawn))
        assert parts["G_gan"] == pytest.approx(scored(logits, True).item(), rel=1e-4)


def test_a_tiny_up_sampler_learns_edges_and_its_file_enlarges_pictures(tmp_path, blind, run):
    source, out = SYSTEMS["gigagan-upsampler"].source(stripes(tmp_path / "a")), tmp_path / "run"
    settings = Settings(32, 8 * 50, 8, 0.01, 16, 0)
    fit.fit("gigagan-upsampler", source, out, settings)
    file = out / "latest_net_G_mean.safetensors"
    network, batch = checkpoints.load_generator(file), source.batch(0, 8, 32, 9)
    with torch.no_grad():
        drawn = network(smaller(batch["a"]), torch.randn(8, 128)) * 2 - 1
    error, others = (F.l1_loss(drawn, x).item() for x in (batch["a"], batch["a"].roll(3, 0)))
    assert error < 0.55 * others, (error, others)
    code, lines, _ = run("apply", "--network", file, "--img", tmp_path / "a" / "00.png", "--out", tmp_path / "out")
    assert code == 0
    with Image.open(lines[0]) as result:
        assert result.size == (160, 160)
