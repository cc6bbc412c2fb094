"""StyleGAN2 on small random networks: each promise of the Generator contract, checked against plain formulas."""

import copy
from dataclasses import FrozenInstanceError
from math import log2, sqrt

import pytest
import torch
import torch.nn.functional as F

from stylegan2.discriminator import Discriminator, DiscriminatorConfig, minibatch_stddev
from stylegan2.generator import Delta, FeatureEdit, Generator
from stylegan2.layers import modulated_conv2d
from stylegan2.networks import StyleGAN2, StyleGAN2Config, broadcast, mix_styles, truncate_rows


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=rng(seed), dtype=dtype)


def small(resolution=32, **changes):
    torch.manual_seed(1)
    settings = {"z_dim": 12, "w_dim": 10, "channel_base": resolution * 4, "channel_max": 8, "mapping_layers": 3}
    net = StyleGAN2(StyleGAN2Config(resolution=resolution, **(settings | changes)))
    for name, parameter in net.named_parameters():  # nothing stays zero, or a test would not see it
        if name.endswith(("bias", "noise_strength")):
            parameter.data += 0.3 * draw(*parameter.shape, seed=len(name))
    net.w_avg.copy_(draw(net.w_dim, seed=5))
    return net.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def g():
    return small()


@pytest.fixture
def ws(g):
    return draw(3, g.num_ws, g.w_dim, seed=3)


def test_contract_and_rows(g):
    assert isinstance(g, Generator) and g.family == "stylegan2-32"
    assert (g.z_dim, g.w_dim, g.num_ws, g.resolution) == (12, 10, 8, 32)
    rows = {name: layer.row for name, layer in g.layers.items()}
    assert list(rows.items()) == [
        ("b4.conv1", 0), ("b4.to_rgb", 1),
        ("b8.conv0", 1), ("b8.conv1", 2), ("b8.to_rgb", 3),
        ("b16.conv0", 3), ("b16.conv1", 4), ("b16.to_rgb", 5),
        ("b32.conv0", 5), ("b32.conv1", 6), ("b32.to_rgb", 7),
    ]  # fmt: skip
    for name, layer in g.layers.items():
        weight = g.state()[f"synthesis.{name}.weight"]
        assert layer.shape == tuple(weight.shape) and layer.resolution == int(name.split(".")[0][1:])
        assert layer.kind == ("to_rgb" if name.endswith("to_rgb") else "conv")


def test_config():
    config = StyleGAN2Config()
    assert [config.channels(r) for r in config.resolutions] == [512, 512, 512, 512, 512, 256, 128, 64, 32]
    assert config.num_ws == 18
    with pytest.raises(FrozenInstanceError):
        config.resolution = 8
    for wrong in (4, 48, 0):
        with pytest.raises(ValueError, match="power of two"):
            StyleGAN2Config(resolution=wrong)


@pytest.mark.parametrize("resolution", [8, 16, 128])
def test_any_power_of_two(resolution):
    net = small(resolution)
    assert net.num_ws == 2 * int(log2(resolution)) - 2
    images = net(draw(2, 12))
    assert images.shape == (2, 3, resolution, resolution) and images.isfinite().all()


def test_each_row_reaches_only_its_layers(g, ws):
    """A changed row leaves every stage before its first layer as it was, and changes the picture."""
    base = list(g.synthesis.stages(ws))
    for row in range(g.num_ws):
        changed = ws.clone()
        changed[:, row] += 1
        first = min(layer.resolution for layer in g.layers.values() if layer.row == row)
        for (stage, x, rgb), (_, y, other) in zip(base, g.synthesis.stages(changed), strict=True):
            assert torch.equal(rgb, other) == (int(stage[1:]) < first)
            assert torch.equal(x, y) == (int(stage[1:]) < min_conv(g, row))


def min_conv(g, row):
    return min(
        (layer.resolution for layer in g.layers.values() if layer.row == row and layer.kind == "conv"), default=99
    )


def test_truncation_cutoff_and_mixing(g):
    z = draw(2, 12)
    w = g.mapping(z)
    assert torch.equal(g.ws(z), broadcast(w, 8))
    torch.testing.assert_close(g.ws(z, psi=0.5), broadcast((w + g.w_avg) / 2, 8))
    cut = g.ws(z, psi=0.5, cutoff=3)
    torch.testing.assert_close(cut[:, :3], g.ws(z, psi=0.5)[:, :3])
    assert torch.equal(cut[:, 3:], g.ws(z)[:, 3:])
    assert torch.equal(truncate_rows(cut, g.w_avg, 0.0), g.w_avg.expand(2, 8, -1))
    a, b = g.ws(z[:1]), g.ws(z[1:])
    mixed = mix_styles(a, b, 3)
    assert torch.equal(mixed[:, :3], a[:, :3]) and torch.equal(mixed[:, 3:], b[:, 3:])


def modulated_by_definition(x, weight, style, demodulate=True, up=False):
    """Eq. 1 and 3 of the paper on the weights, one image at a time."""
    images = []
    for image, s in zip(x, style, strict=True):
        kernel = weight / sqrt(weight[0].numel()) * s[None, :, None, None]
        if demodulate:
            kernel = kernel / (kernel.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if up:
            images.append(F.conv_transpose2d(image[None], kernel.transpose(0, 1), stride=2))
        else:
            images.append(F.conv2d(image[None], kernel, padding=kernel.shape[-1] // 2))
    return torch.cat(images)


@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("up", [True, False])
def test_scaled_activations_are_scaled_weights(demodulate, up):
    x, weight, style = draw(3, 4, 6, 6), draw(5, 4, 3, 3, seed=1), draw(3, 4, seed=2) + 1
    expected = modulated_by_definition(x, weight, style, demodulate, up)
    actual, scale = modulated_conv2d(x, weight, style, demodulate=demodulate, up=up)
    actual = actual * scale[:, :, None, None] if demodulate else actual
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


DELTAS = {
    "add": lambda layer, n: Delta("add", (0.5 * draw(n, *layer.shape, seed=7),)),
    "mul": lambda layer, n: Delta("mul", (0.5 * draw(n, *layer.shape, seed=8),)),
    "mul per channel": lambda layer, n: Delta("mul", (0.5 * draw(n, *layer.shape[:2], 1, 1, seed=9),)),
    "lowrank": lambda layer, n: Delta(
        "lowrank", (0.5 * draw(n, layer.shape[0], 2, seed=9), draw(n, 2, layer.shape[1] * layer.shape[2] ** 2, seed=4))
    ),
}


def offset_weight(weight, delta, image):
    """The weight of one image, written out: W + D, W (1 + D), W + U V."""
    factors = [factor[min(image, len(factor) - 1)] for factor in delta.factors]
    if delta.kind == "add":
        return weight + factors[0]
    if delta.kind == "mul":
        return weight * (1 + factors[0])
    return weight + (factors[0] @ factors[1]).reshape(weight.shape)


@pytest.mark.parametrize("kind", DELTAS)
@pytest.mark.parametrize("name", ["b4.conv1", "b16.conv0", "b32.conv1", "b8.to_rgb"])
@pytest.mark.parametrize("copies", [3, 1])
def test_delta_is_another_weight_for_that_image(g, ws, kind, name, copies):
    delta = DELTAS[kind](g.layers[name], copies)
    actual = g.synthesis(ws, deltas={name: delta})
    for image in range(3):
        other = copy.deepcopy(g)
        weight = other.get_submodule(f"synthesis.{name}").weight
        weight.data = offset_weight(weight.data, delta, image)
        torch.testing.assert_close(
            actual[image : image + 1], other.synthesis(ws[image : image + 1]), atol=2e-4, rtol=1e-4
        )
    assert (actual - g.synthesis(ws)).abs().max() > 0.01
    torch.testing.assert_close(g.synthesis(ws, deltas={name: delta.scaled(0)}), g.synthesis(ws), atol=1e-4, rtol=1e-4)


def test_deltas_on_several_layers_at_once(g, ws):
    names = ["b4.conv1", "b8.conv0", "b32.to_rgb"]
    deltas = {name: DELTAS["add"](g.layers[name], 3) for name in names}
    one = {name: Delta("add", (delta.factors[0][1:2],)) for name, delta in deltas.items()}
    torch.testing.assert_close(g.synthesis(ws, deltas)[1:2], g.synthesis(ws[1:2], one), atol=1e-4, rtol=1e-4)


def test_a_pure_gain_is_normalised_away(g, ws):
    """Demodulation comes after the delta, so doubling a convolution's weight changes nothing; to_rgb has none."""
    double = {name: Delta("mul", (torch.ones(1, 1, 1, 1, 1),)) for name in ("b8.conv1", "b8.to_rgb")}
    same = g.synthesis(ws, deltas={"b8.conv1": double["b8.conv1"]})
    torch.testing.assert_close(same, g.synthesis(ws), atol=1e-4, rtol=1e-4)
    assert (g.synthesis(ws, deltas={"b8.to_rgb": double["b8.to_rgb"]}) - g.synthesis(ws)).abs().max() > 0.1


def test_wrong_calls_are_refused(g, ws):
    delta = DELTAS["add"](g.layers["b8.conv1"], 2)
    for arguments, message in [
        ({"deltas": {"b8.conv9": delta}}, "no such layer.*b8.conv9"),
        ({"deltas": {"b8.conv1": delta}}, "a delta for 2 images does not fit a batch of 3"),
        ({"features": {"b64": None}}, "no such stage.*b64"),
        ({"until": "b64"}, "no such stage.*b64"),
        ({"noise_mode": "loud"}, "const, none, random"),
        ({"noise_mode": "random"}, "needs rng"),
        ({"noise_mode": "random", "rng": [rng()]}, "1 random generators for 3 images"),
    ]:
        with pytest.raises(ValueError, match=message):
            g.synthesis(ws, **arguments)
    with pytest.raises(ValueError, match=r"ws must be \(B, 8, 10\)"):
        g.synthesis(ws[:, 0])


def test_until_gives_the_stage(g, ws):
    for stage, x, _ in g.synthesis.stages(ws):
        assert torch.equal(g.synthesis(ws, until=stage), x)
        assert x.shape == (3, g.config.channels(int(stage[1:])), int(stage[1:]), int(stage[1:]))
    *_, (_, _, rgb) = g.synthesis.stages(ws)
    assert torch.equal(g.synthesis(ws), rgb)


def test_a_style_is_the_gain_of_its_layers_input_and_its_row_drives_it(g, ws):
    """Moving to_rgb's row of w alone, or scaling its weights by what that does to the style: the same picture."""
    assert list(g.styles) == list(g.layers)
    assert all(g.styles[name].row == layer.row for name, layer in g.layers.items())
    style, moved = g.styles["b32.to_rgb"], ws.clone()
    moved[:, style.row] += 0.1
    before, after = (codes[:, style.row] @ style.weight.T + style.bias for codes in (ws, moved))
    delta = {"b32.to_rgb": Delta("mul", ((after / before - 1)[:, None, :, None, None],))}
    torch.testing.assert_close(g.synthesis(ws, delta), g.synthesis(moved), atol=1e-4, rtol=1e-3)
    for name in ("b4.conv1", "b8.conv0", "b16.conv1"):
        style, affine = g.styles[name], g.synthesis.get_submodule(name).affine
        torch.testing.assert_close(ws[:, style.row] @ style.weight.T + style.bias, affine(ws[:, style.row]))


def test_split_draws_what_a_feature_edit_draws(g, ws):
    deltas = {"b16.conv0": DELTAS["add"](g.layers["b16.conv0"], 3)}
    for stage in (f"b{r}" for r in g.config.resolutions):
        x, draw = g.split(ws, stage, deltas)
        assert torch.equal(x, g.synthesis(ws, deltas, until=stage))
        edit = FeatureEdit(torch.randn_like(x), torch.ones_like(x[:, :1]), ws)
        torch.testing.assert_close(draw(x), g.synthesis(ws, deltas))
        torch.testing.assert_close(draw(x + edit.residual), g.synthesis(ws, deltas, {stage: edit}))
    with pytest.raises(ValueError, match="no such stage.*b64"):
        g.split(ws, "b64")


def test_feature_edit_changes_the_state_inside_its_mask(g, ws):
    x = g.synthesis(ws, until="b16")
    mask = torch.zeros(3, 1, 16, 16)
    mask[..., 2:6, 9:13] = 1
    edit = FeatureEdit(torch.ones_like(x), mask, ws)
    edited = g.synthesis(ws, features={"b16": edit}, until="b16")
    torch.testing.assert_close(edited - x, mask.expand_as(x), atol=1e-5, rtol=0)
    changed = (g.synthesis(ws, features={"b16": edit}) - g.synthesis(ws)).abs().amax(1)
    assert changed[:, 6:10, 20:24].min() > 0 and changed[:, 26:, :12].max() == 0
    before = {stage: rgb for stage, _, rgb in g.synthesis.stages(ws)}["b16"]
    with_rgb = FeatureEdit(torch.zeros_like(x), mask, ws, rgb=torch.ones_like(before))
    after = {stage: rgb for stage, _, rgb in g.synthesis.stages(ws, features={"b16": with_rgb})}["b16"]
    torch.testing.assert_close(after - before, mask.expand_as(before), atol=1e-5, rtol=0)


def test_noise_modes(g, ws):
    const, none = g.synthesis(ws), g.synthesis(ws, noise_mode="none")
    silent = copy.deepcopy(g)
    for name, parameter in silent.named_parameters():
        if name.endswith("noise_strength"):
            parameter.data.zero_()
    assert not torch.equal(const, none)
    assert torch.equal(silent.synthesis(ws), none)
    a = g.synthesis(ws, noise_mode="random", rng=rng(4))
    assert torch.equal(a, g.synthesis(ws, noise_mode="random", rng=rng(4)))
    assert not torch.allclose(a, g.synthesis(ws, noise_mode="random", rng=rng(5)))


def test_random_noise_does_not_depend_on_the_batch(g, ws):
    together = g.synthesis(ws, noise_mode="random", rng=[rng(i) for i in range(3)])
    for i in range(3):
        alone = g.synthesis(ws[i : i + 1], noise_mode="random", rng=[rng(i)])
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-5, rtol=1e-5)
    one, shared = rng(9), g.synthesis(ws, noise_mode="random", rng=rng(9))
    parts = [g.synthesis(part, noise_mode="random", rng=one) for part in (ws[:1], ws[1:])]
    torch.testing.assert_close(shared, torch.cat(parts), atol=1e-5, rtol=1e-5)


def test_use_changes_nothing(g, ws):
    before, state = {k: v.clone() for k, v in g.state().items()}, torch.random.get_rng_state()
    edit = FeatureEdit(torch.ones(3, 8, 16, 16), torch.ones(3, 1, 16, 16), ws)
    deltas = {name: DELTAS["add"](layer, 3) for name, layer in g.layers.items()}
    g.synthesis(ws, deltas, {"b16": edit}, noise_mode="random", rng=rng())
    g(draw(2, 12), psi=0.7)
    assert all(torch.equal(before[k], v) for k, v in g.state().items())
    assert torch.equal(state, torch.random.get_rng_state())
    with pytest.raises(TypeError):
        g.layers["b4.conv1"] = None


def test_conv_clamp_bounds_the_activations(ws):
    loose, tight = small(), small(conv_clamp=0.05)
    assert loose.synthesis(ws, until="b16").abs().max() > 0.1
    assert tight.synthesis(ws, until="b16").abs().max() <= 0.05
    assert tight.synthesis(ws).abs().max() < 0.3


def test_from_state_round_trip_and_strictness(g, ws):
    again = StyleGAN2.from_state(g.state(), g.config)
    assert torch.equal(again.synthesis(ws), g.synthesis(ws))
    state = g.state()
    del state["synthesis.b8.conv1.bias"]
    with pytest.raises(RuntimeError, match="b8.conv1.bias"):
        StyleGAN2.from_state(state, g.config)


def test_path_length_gradients_exist_twice():
    """d/dtheta |J^T y| needs the derivative of a derivative (arXiv 1912.04958 sec. 3.2); compared with differences."""
    net = small(8).double().requires_grad_(True)
    ws, y = draw(1, 4, 10, dtype=torch.float64).requires_grad_(), draw(1, 3, 8, 8, seed=1, dtype=torch.float64)

    def path_length():
        (gradient,) = torch.autograd.grad((net.synthesis(ws) * y).sum(), ws, create_graph=True)
        return gradient.square().sum().sqrt()

    weight = net.synthesis.b8.conv0.weight
    (analytic,) = torch.autograd.grad(path_length(), weight)
    step = torch.zeros_like(weight)
    step[1, 2, 0, 1] = 1e-5
    values = []
    for sign in (1, -1):
        weight.data += sign * step
        values.append(path_length().item())
        weight.data -= sign * step
    assert analytic[1, 2, 0, 1].item() == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-5)


def test_gradients_flow_to_ws_and_deltas(g, ws):
    ws = ws.clone().requires_grad_()
    factor = torch.zeros(3, *g.layers["b16.conv1"].shape, requires_grad=True)
    g.synthesis(ws, {"b16.conv1": Delta("add", (factor,))}).square().sum().backward()
    assert (ws.grad.abs().sum(dim=(0, 2)) > 0).all() and factor.grad.abs().sum() > 0


# ---- discriminator


def tiny_discriminator():
    torch.manual_seed(2)
    return Discriminator(DiscriminatorConfig(resolution=16, channel_base=64, channel_max=6))


def test_minibatch_stddev_groups():
    x = draw(8, 2, 3, 3)
    y = minibatch_stddev(x, 4)
    assert y.shape == (8, 3, 3, 3) and torch.equal(y[:, :2], x)
    for i in range(8):
        group = x[i % 2 :: 2]
        expected = (group - group.mean(0)).square().mean(0).add(1e-8).sqrt().mean()
        torch.testing.assert_close(y[i, 2], expected.expand(3, 3))
    assert minibatch_stddev(x[:6], 4).shape == (6, 3, 3, 3)  # groups of 3
    assert minibatch_stddev(x[:1], 4)[0, 2].max() == pytest.approx(1e-4)


def test_discriminator_shapes_and_independence():
    d, images = tiny_discriminator(), draw(4, 3, 16, 16)
    assert d(images).shape == (4, 1) and d.features(images).shape == (4, 6, 4, 4)
    torch.testing.assert_close(d.features(images)[:1], d.features(images[:1]))
    with pytest.raises(ValueError, match="3, 16, 16"):
        d(images[..., :8])
    again = Discriminator.from_state(d.state(), d.config)
    assert torch.equal(again(images), d(images)) and all(p.requires_grad for p in again.parameters())


def test_r1_gradients_exist_twice():
    d = tiny_discriminator().double()
    images = draw(2, 3, 16, 16, dtype=torch.float64).requires_grad_()
    (gradient,) = torch.autograd.grad(d(images).sum(), images, create_graph=True)
    gradient.square().sum().backward()
    assert d.from_rgb.weight.grad.abs().sum() > 0
