"""MobileStyleGAN on small random networks: each promise of the Generator contract, checked against plain formulas."""

import copy

import pytest
import torch
import torch.nn.functional as F

from stylegan2.checkpoints.native import fingerprint
from stylegan2.errors import CheckpointError
from stylegan2.generator import Delta, FeatureEdit, Generator
from stylegan2.mobile import MobileStyleGAN
from stylegan2.ops import inverse_haar

CONV, DEPTHWISE, POINTWISE, LATE, IMAGE = LAYERS = (
    "conv1",
    "layers.0.conv1.depthwise",
    "layers.0.conv2.pointwise",
    "layers.1.conv2.depthwise",
    "layers.1.to_img",
)


def draw(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def small(channels=(16, 12, 8), w_dim=10):
    """4, 8 and 16 pixels, so 32-pixel pictures; all tensors drawn, so that a test sees each of them."""
    net = MobileStyleGAN(channels, w_dim, mapping_layers=3)
    for seed, (name, tensor) in enumerate(net.state_dict().items()):
        fan_in = 1 if name.endswith(("bias", "noise", "input", "w_avg")) else max(tensor[0].numel(), 1)
        tensor.copy_(draw(*tensor.shape, seed=seed) / fan_in**0.5 + name.endswith("modulation.bias"))
    return net


@pytest.fixture(scope="module")
def g():
    return small()


@pytest.fixture
def ws(g):
    return draw(3, g.num_ws, g.w_dim, seed=100)


@pytest.fixture(scope="module")
def exact(g):
    """The same network in float64, where a comparison leaves no room for rounding."""
    return copy.deepcopy(g).double()


def test_contract_and_rows(g):
    assert isinstance(g, Generator) and g.family == "mobilestylegan-32"
    assert (g.z_dim, g.w_dim, g.num_ws, g.resolution, tuple(g.w_avg.shape)) == (10, 10, 6, 32, (10,))
    assert {name: (layer.row, layer.kind, layer.shape, layer.resolution) for name, layer in g.layers.items()} == {
        "conv1": (0, "conv", (16, 16, 3, 3), 4),
        "layers.0.conv1.depthwise": (1, "depthwise", (4, 1, 3, 3), 8),
        "layers.0.conv1.pointwise": (1, "pointwise", (12, 4), 8),
        "layers.0.conv2.depthwise": (2, "depthwise", (12, 1, 3, 3), 8),
        "layers.0.conv2.pointwise": (2, "pointwise", (12, 12), 8),
        "layers.1.conv1.depthwise": (3, "depthwise", (3, 1, 3, 3), 16),
        "layers.1.conv1.pointwise": (3, "pointwise", (8, 3), 16),
        "layers.1.conv2.depthwise": (4, "depthwise", (8, 1, 3, 3), 16),
        "layers.1.conv2.pointwise": (4, "pointwise", (8, 8), 16),
        "layers.1.to_img": (5, "to_rgb", (12, 8), 16),
    }


def test_the_size_of_the_real_network():
    with torch.device("meta"):
        real = MobileStyleGAN((512, 512, 512, 512, 512, 256, 128, 64))
    assert (real.num_ws, real.resolution, real.family) == (16, 1024, "mobilestylegan-1024")
    assert {layer.row for layer in real.layers.values()} == set(range(16))


@pytest.mark.parametrize("channels", [(8,), (6, 8), (8, 6, 8), (8,) * 9])
def test_impossible_channels_are_refused(channels):
    with pytest.raises(ValueError, match="channels must be"):
        MobileStyleGAN(channels, 4, 1)


def forward_haar(images):
    """Images (B, C, 2H, 2W) -> bands (B, 4C, H, W): LL, LH, HL, HH of every 2x2 square, by the definition."""
    a, b = images[..., ::2, ::2], images[..., ::2, 1::2]
    c, d = images[..., 1::2, ::2], images[..., 1::2, 1::2]
    return torch.cat([a + b + c + d, a + b - c - d, a - b + c - d, a - b - c + d], 1) / 2


def test_inverse_haar_inverts_the_haar_transform_and_keeps_lengths():
    images = draw(2, 3, 6, 10, dtype=torch.float64)
    torch.testing.assert_close(inverse_haar(forward_haar(images)), images)
    bands = draw(2, 12, 3, 5, seed=1, dtype=torch.float64)
    torch.testing.assert_close(forward_haar(inverse_haar(bands)), bands)
    assert inverse_haar(bands).square().sum().item() == pytest.approx(bands.square().sum().item())
    gain = draw(2, 12, 1, 1, seed=2, dtype=torch.float64)
    torch.testing.assert_close(inverse_haar(bands, gain), inverse_haar(bands * gain))
    slow = inverse_haar(bands, gain)
    with torch.inference_mode():
        assert torch.equal(inverse_haar(bands, gain), slow)


def render_by_definition(g, ws, weights):
    """One image (1, num_ws, w_dim), from the paper's formulas and a dictionary of weights; also every stage."""
    state, stages = g.state() | weights, []

    def style(name, row):
        return (state[f"{name}.modulation.weight"] @ ws[0, row] + state[f"{name}.modulation.bias"])[None, :, None, None]

    def finish(x, name):
        return F.leaky_relu(x + state[f"{name}.noise"] + state[f"{name}.bias"][None, :, None, None], 0.2)

    x = finish(F.conv2d(state["input"] * style("conv1", 0), state["conv1.weight"], padding=1), "conv1")
    stages.append(x)
    for i in range(len(g.channels) - 1):
        x = inverse_haar(x * style(f"layers.{i}.up", 2 * i + 1))
        for part, row in (("conv1", 2 * i + 1), ("conv2", 2 * i + 2)):
            name = f"layers.{i}.{part}"
            x = F.conv2d(x * style(name, row), state[f"{name}.depthwise"], padding=1, groups=x.shape[1])
            x = finish(torch.einsum("oc,bchw->bohw", state[f"{name}.pointwise"], x), name)
        stages.append(x)
    name = f"layers.{i}.to_img"
    x = torch.einsum("oc,bchw->bohw", state[f"{name}.weight"], x * style(name, g.num_ws - 1))
    return inverse_haar(x + state[f"{name}.bias"][None, :, None, None]), stages


def test_renders_the_papers_formulas_alone_and_in_a_batch(g, ws):
    batch = g.synthesis(ws)
    assert batch.shape == (3, 3, 32, 32) and batch.std() > 0.1
    for i in range(3):
        expected, stages = render_by_definition(g, ws[i : i + 1], {})
        torch.testing.assert_close(g.synthesis(ws[i : i + 1]), expected, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(batch[i : i + 1], expected, atol=1e-5, rtol=1e-4)
        for stage, activation in zip(("b4", "b8", "b16"), stages, strict=True):
            torch.testing.assert_close(g.synthesis(ws, until=stage)[i : i + 1], activation, atol=1e-5, rtol=1e-4)


def test_mapping_is_stylegan2s(g):
    x = z = draw(4, 10)
    x = x / (x.square().mean(1, keepdim=True) + 1e-8).sqrt()
    for i in range(3):
        x = x @ g.state()[f"mapping.{i}.weight"].T + g.state()[f"mapping.{i}.bias"]
        x = torch.where(x > 0, x, 0.2 * x) * 2**0.5
    torch.testing.assert_close(g.mapping(z), x)


def test_each_row_reaches_only_its_layers(g, ws):
    """A changed row leaves every stage before its first layer as it was, and changes the picture."""
    for row in range(g.num_ws):
        changed = ws.clone()
        changed[:, row] += 1
        first = 32 if row == g.num_ws - 1 else min(layer.resolution for layer in g.layers.values() if layer.row == row)
        for resolution in (4, 8, 16):
            stage = f"b{resolution}"
            same = torch.equal(g.synthesis(ws, until=stage), g.synthesis(changed, until=stage))
            assert same == (resolution < first)
        assert (g.synthesis(ws) - g.synthesis(changed)).abs().amax((1, 2, 3)).min() > 0.01


def test_rows_of_one_image_do_not_reach_another(g, ws):
    changed = ws.clone()
    changed[1] += 1
    differs = (g.synthesis(ws) - g.synthesis(changed)).abs().amax((1, 2, 3))
    assert differs[1] > 0.01 and differs[0] == differs[2] == 0


DELTAS = {
    "add": lambda shape, n: Delta("add", (0.5 * draw(n, *shape, seed=7),)),
    "mul": lambda shape, n: Delta("mul", (0.5 * draw(n, *shape, seed=8),)),
    "mul per filter": lambda shape, n: Delta("mul", (0.5 * draw(n, shape[0], *[1] * (len(shape) - 1), seed=9),)),
    "lowrank": lambda shape, n: Delta(
        "lowrank", (0.5 * draw(n, shape[0], 2, seed=9), draw(n, 2, shape[1:].numel(), seed=4))
    ),
}


def offset_weight(weight, delta, image):
    """The weight of one image, written out: W + D, W (1 + D), W + U V."""
    factors = [factor[min(image, len(factor) - 1)].to(weight) for factor in delta.factors]
    if delta.kind == "add":
        return weight + factors[0]
    if delta.kind == "mul":
        return weight * (1 + factors[0])
    return weight + (factors[0] @ factors[1]).reshape(weight.shape)


def weight_name(layer):
    return layer if layer.endswith(("depthwise", "pointwise")) else f"{layer}.weight"


@pytest.mark.parametrize("kind", DELTAS)
@pytest.mark.parametrize("layer", LAYERS)
def test_delta_is_another_weight_for_that_image(exact, ws, kind, layer):
    g, ws = exact, ws.double()
    weight = g.state()[weight_name(layer)]
    for copies in (3, 1):
        delta = DELTAS[kind](weight.shape, copies)
        batch = g.synthesis(ws, deltas={layer: delta})
        for i in range(3):
            expected, _ = render_by_definition(g, ws[i : i + 1], {weight_name(layer): offset_weight(weight, delta, i)})
            one = Delta(delta.kind, tuple(factor[i : i + 1] if copies == 3 else factor for factor in delta.factors))
            torch.testing.assert_close(batch[i : i + 1], expected)
            torch.testing.assert_close(g.synthesis(ws[i : i + 1], deltas={layer: one}), expected)
        assert (batch - g.synthesis(ws)).abs().amax((1, 2, 3)).min() > 0.01
        torch.testing.assert_close(g.synthesis(ws, {layer: delta.scaled(0)}), g.synthesis(ws))


def test_deltas_on_every_layer_at_once(exact, ws):
    g, ws = exact, ws.double()
    deltas = {name: DELTAS["add"](torch.Size(layer.shape), 3) for name, layer in g.layers.items()}
    batch = g.synthesis(ws, deltas)
    weights = {weight_name(name): g.state()[weight_name(name)] + delta.factors[0][1] for name, delta in deltas.items()}
    expected, _ = render_by_definition(g, ws[1:2], weights)
    torch.testing.assert_close(batch[1:2], expected)


def test_demodulation_is_folded_so_a_delta_changes_the_gain(g, ws):
    """Doubling the last weight doubles the picture (less its bias); StyleGAN2 normalises such a delta away."""
    silent = copy.deepcopy(g)
    silent.blocks[-1].to_img.bias.zero_()
    double = Delta("mul", (torch.ones(1, 1, 1),))
    torch.testing.assert_close(silent.synthesis(ws, {IMAGE: double}), 2 * silent.synthesis(ws))
    for block in silent.blocks:
        for conv in (block.conv1, block.conv2):
            conv.bias.zero_()
            conv.noise.zero_()
    torch.testing.assert_close(silent.synthesis(ws, {POINTWISE: double}), 2 * silent.synthesis(ws))


def test_a_feature_edit_changes_the_stage_inside_its_mask(g, ws):
    for stage, size in (("b4", 4), ("b8", 8), ("b16", 16)):
        x = g.synthesis(ws, until=stage)
        mask = torch.zeros(3, 1, size, size)
        mask[1, :, : size // 4, : size // 2] = 0.5
        edit = FeatureEdit(torch.full_like(x, 2.0), mask, ws)
        edited = g.synthesis(ws, features={stage: edit}, until=stage)
        torch.testing.assert_close(edited - x, 2 * mask.expand_as(x), atol=1e-5, rtol=0)
        changed = (g.synthesis(ws, features={stage: edit}) - g.synthesis(ws)).abs().amax((1, 2, 3))
        assert changed[1] > 0.01 and changed[0] == changed[2] == 0
    assert torch.equal(g.synthesis(ws, features={}), g.synthesis(ws))


def test_a_later_latent_edit_still_moves_the_picture_under_a_feature_edit(g, ws):
    x = g.synthesis(ws, until="b8")
    edit = {"b8": FeatureEdit(torch.ones_like(x), torch.ones(3, 1, 8, 8), ws)}
    moved = g.synthesis(ws + 0.5, features=edit, until="b8") - g.synthesis(ws, features=edit, until="b8")
    torch.testing.assert_close(moved, g.synthesis(ws + 0.5, until="b8") - x, atol=1e-5, rtol=1e-4)


def test_wrong_calls_are_refused(g, ws):
    for arguments, message in [
        ({"deltas": {"layers.7.conv1": None}}, r"no such layer.*layers\.7\.conv1"),
        ({"features": {"b64": None}}, "no such stage.*b64"),
        ({"until": "b32"}, "no such stage.*b32"),
    ]:
        with pytest.raises(ValueError, match=message):
            g.synthesis(ws, **arguments)
    for wrong in (ws[:, 0], ws[:, :5], ws[..., :9]):
        with pytest.raises(ValueError, match=r"ws must be \(B, 6, 10\)"):
            g.synthesis(wrong)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("batch", [1, 3])
def test_a_delta_for_another_batch_is_refused(g, ws, layer, batch):
    delta = DELTAS["add"](g.state()[weight_name(layer)].shape, 2)
    with pytest.raises(ValueError, match=f"a delta for 2 images does not fit a batch of {batch}"):
        g.synthesis(ws[:batch], {layer: delta})


def test_use_leaves_the_generator_as_it_was(g, ws):
    before = fingerprint(g)
    deltas = {name: DELTAS["add"](torch.Size(layer.shape), 1) for name, layer in g.layers.items()}
    codes = ws.clone().requires_grad_()
    for part in (codes, codes[:1]):
        x = g.synthesis(part, until="b8").detach()
        edit = FeatureEdit(torch.ones_like(x), torch.ones(len(x), 1, 8, 8), ws)
        g.synthesis(part, deltas, {"b8": edit}).square().mean().backward()
    assert torch.equal(codes, ws) and fingerprint(g) == before
    assert not g.training and all(p.grad is None and not p.requires_grad for p in g.parameters())


@pytest.mark.parametrize("batch", [1, 2])
def test_first_and_second_derivatives(batch):
    """Against finite differences in float64, through ws and through a delta of each kind of layer."""
    net = small((8, 4, 4), w_dim=3).double()
    ws = draw(batch, net.num_ws, 3, seed=1, dtype=torch.float64).requires_grad_()
    probe = draw(batch, 3, 32, 32, seed=2, dtype=torch.float64)
    names = (CONV, DEPTHWISE, POINTWISE, IMAGE)
    directions = [draw(batch, *net.layers[name].shape, seed=5, dtype=torch.float64) for name in names]

    def loss(ws, amounts):
        deltas = {n: Delta("add", (a * d,)) for n, a, d in zip(names, amounts, directions, strict=True)}
        return (net.synthesis(ws, deltas).tanh() * probe).sum()

    amounts = (0.1 * draw(len(names), seed=3, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(loss, (ws, amounts))
    assert torch.autograd.gradgradcheck(loss, (ws, amounts))


def test_state_round_trip_and_independence(g, ws):
    state = g.state()
    other = MobileStyleGAN.from_state(state)
    assert other.channels == g.channels and fingerprint(other) == fingerprint(g)
    assert torch.equal(other.synthesis(ws), g.synthesis(ws)) and not any(p.requires_grad for p in other.parameters())
    other.conv1.weight.zero_()
    assert state["conv1.weight"].abs().max() > 0
    half = MobileStyleGAN.from_state({name: tensor.half() for name, tensor in state.items()})
    assert half.conv1.weight.dtype == torch.float32


def wide(state):
    """Small tensors that promise large ones: 2**18 channels would be a stem of 2.5 TB."""
    return state | {"input": torch.zeros(1, 2**18, 4, 4), "layers.0.conv2.bias": torch.zeros(2**18)}


NOT_STATES = {
    "empty": (lambda s: {}, "max"),
    "lacking a tensor": (lambda s: {k: v for k, v in s.items() if k != "layers.1.conv2.bias"}, "layers.1.conv2.bias"),
    "lacking the input": (lambda s: {k: v for k, v in s.items() if k != "input"}, "input is missing"),
    "lacking a block": (lambda s: {k: v for k, v in s.items() if not k.startswith("layers.0.")}, "layers.0.conv2.bias"),
    "one too many": (lambda s: s | {"extra": torch.zeros(1)}, "extra"),
    "odd block name": (lambda s: s | {"layers.x.conv1": torch.zeros(1)}, "invalid literal"),
    "wrong shape": (lambda s: s | {"conv1.weight": torch.zeros(16, 16, 1, 1)}, "conv1.weight has the shape"),
    "no axes": (lambda s: s | {"input": torch.zeros(())}, "index"),
    "odd channels": (lambda s: s | {"input": torch.zeros(1, 18, 4, 4)}, "channels must be"),
    "huge by its channels": (wide, "conv1.weight has the shape"),
    "huge by its w": (lambda s: s | {"mapping.0.weight": torch.zeros(1, 2**18)}, "has the shape"),
    "not finite": (lambda s: s | {"conv1.bias": torch.full((16,), torch.nan)}, "conv1.bias .* not finite"),
}


@pytest.mark.parametrize("case", NOT_STATES)
def test_another_state_is_refused_before_anything_is_allocated(g, case):
    change, message = NOT_STATES[case]
    with pytest.raises(CheckpointError, match=message) as caught:
        MobileStyleGAN.from_state(change(g.state()))
    assert str(caught.value).startswith("These weights are not a MobileStyleGAN: ") and "\n" not in str(caught.value)


@pytest.mark.weights
def test_rows_of_the_real_generator(mobile):
    """The published file takes one style for all rows, so what each row may change is checked here."""
    w = mobile.mapping(draw(2, 512))
    ws = w[:1, None].repeat(1, 16, 1)
    stages = ("b4", "b16", "b64")
    base = {stage: mobile.synthesis(ws, until=stage) for stage in stages}
    for row in (0, 2, 3, 4, 7, 8, 9):
        mixed = ws.clone()
        mixed[:, row] = w[1]
        first = 4 if row == 0 else 4 * 2 ** ((row + 1) // 2)
        for stage in stages:
            assert torch.equal(base[stage], mobile.synthesis(mixed, until=stage)) == (int(stage[1:]) < first)


def test_a_style_is_the_gain_of_its_layers_input_and_its_row_drives_it(g, ws):
    """Moving the row of w, or scaling the layer's weights by what that does to the style: the same picture."""
    assert [style.row for style in g.styles.values()] == [0, 1, 1, 2, 3, 3, 4, 5]
    assert list(g.styles)[:4] == ["conv1", "layers.0.up", "layers.0.conv1", "layers.0.conv2"]
    cases = {"conv1": ("conv1", (3, 1, -1, 1, 1)), "layers.0.conv2": ("layers.0.conv2.depthwise", (3, -1, 1, 1, 1)),
             "layers.1.to_img": ("layers.1.to_img", (3, 1, -1))}  # fmt: skip
    for name, (layer, shape) in cases.items():
        style, moved = g.styles[name], ws.clone()
        moved[:, style.row] += 0.1
        before, after = (codes[:, style.row] @ style.weight.T + style.bias for codes in (ws, moved))
        delta = {layer: Delta("mul", ((after / before - 1).view(shape),))}
        torch.testing.assert_close(g.synthesis(ws, delta), g.synthesis(moved), atol=1e-4, rtol=1e-3)
        assert not torch.allclose(g.synthesis(ws), g.synthesis(moved), atol=1e-3)


def test_split_draws_what_a_feature_edit_draws(g, ws):
    deltas = {POINTWISE: Delta("mul", (torch.full((1, 1, 1), 0.2),))}
    for stage in ("b4", "b8", "b16"):
        x, draw = g.split(ws, stage, deltas)
        assert torch.equal(x, g.synthesis(ws, deltas, until=stage))
        edit = FeatureEdit(torch.randn_like(x), torch.ones_like(x[:, :1]), ws)
        torch.testing.assert_close(draw(x), g.synthesis(ws, deltas))
        torch.testing.assert_close(draw(x + edit.residual), g.synthesis(ws, deltas, {stage: edit}))
    with pytest.raises(ValueError, match="no such stage.*b64"):
        g.split(ws, "b64")
