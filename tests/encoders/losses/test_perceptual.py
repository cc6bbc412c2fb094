"""The perceptual distance: EfficientNet-Lite0 against its unfolded definition, and what a distance must do."""

import copy

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from encoders import efficientnet
from encoders.losses import perceptual
from stylegan2.engine import to_float
from stylegan2.errors import CheckpointError

# Tan & Le's table for B0, as Lite keeps it: (kernel, stride, expansion, channels) of each of the 16 blocks
BLOCKS = [
    (3, 1, 1, 16), (3, 2, 6, 24), (3, 1, 6, 24), (5, 2, 6, 40), (5, 1, 6, 40), (3, 2, 6, 80), (3, 1, 6, 80),
    (3, 1, 6, 80), (5, 1, 6, 112), (5, 1, 6, 112), (5, 1, 6, 112), (5, 2, 6, 192), (5, 1, 6, 192), (5, 1, 6, 192),
    (5, 1, 6, 192), (3, 1, 6, 320),
]  # fmt: skip


def random_state():
    """A state with the published names: convolutions and unfolded batch norms, all drawn."""
    rng, state = torch.Generator().manual_seed(0), {}

    def conv(name, out, inputs, kernel):
        state[f"{name}.weight"] = torch.randn(out, inputs, kernel, kernel, generator=rng) / (inputs**0.5 * kernel)

    def norm(name, channels):
        for part in ("weight", "bias", "running_mean"):
            state[f"{name}.{part}"] = 0.2 * torch.randn(channels, generator=rng) + (part == "weight")
        state[f"{name}.running_var"] = torch.rand(channels, generator=rng) * 0.3 + 0.1

    conv("_conv_stem", 32, 3, 3)
    norm("_bn0", 32)
    channels = 32
    for i, (kernel, _, expansion, out) in enumerate(BLOCKS):
        inner = channels * expansion
        if expansion > 1:
            conv(f"_blocks.{i}._expand_conv", inner, channels, 1)
            norm(f"_blocks.{i}._bn0", inner)
        conv(f"_blocks.{i}._depthwise_conv", inner, 1, kernel)
        norm(f"_blocks.{i}._bn1", inner)
        conv(f"_blocks.{i}._project_conv", out, inner, 1)
        norm(f"_blocks.{i}._bn2", out)
        channels = out
    conv("_conv_head", 1280, 320, 1)
    norm("_bn1", 1280)
    return state


def by_definition(state, images):
    """The network with its batch norms apart (eps 1e-3) and TensorFlow's padding, per step: (block outputs, pooled)."""

    def step(x, conv, norm, stride=1, groups=1, relu=True):
        weight = state[f"{conv}.weight"]
        pads = []
        for size in (x.shape[3], x.shape[2]):
            total = max((-(-size // stride) - 1) * stride + weight.shape[-1] - size, 0)
            pads += [total // 2, total - total // 2]
        x = F.conv2d(F.pad(x, pads), weight, None, stride, groups=groups)
        mean, variance = state[f"{norm}.running_mean"], state[f"{norm}.running_var"]
        x = F.batch_norm(x, mean, variance, state[f"{norm}.weight"], state[f"{norm}.bias"], eps=1e-3)
        return x.clamp(0, 6) if relu else x

    x = step(((images + 1) * 127.5 - 127) / 128, "_conv_stem", "_bn0", 2)
    outputs = []
    for i, (_, stride, expansion, channels) in enumerate(BLOCKS):
        name, y = f"_blocks.{i}.", x
        if expansion > 1:
            y = step(y, name + "_expand_conv", name + "_bn0")
        y = step(y, name + "_depthwise_conv", name + "_bn1", stride, groups=y.shape[1])
        y = step(y, name + "_project_conv", name + "_bn2", relu=False)
        x = x + y if stride == 1 and x.shape[1] == channels else y
        outputs.append(x)
    return outputs, step(x, "_conv_head", "_bn1").mean((2, 3))


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def state():
    return random_state()


@pytest.fixture(scope="module")
def network(state):
    return efficientnet.from_state(state)


def check_definition(network, state, images):
    """In float64, where only the rounding of the folded weights to float32 is left."""
    network = copy.deepcopy(network).double()
    state = {name: tensor.double() for name, tensor in state.items()}
    images = images.double()
    outputs, pooled = by_definition(state, images)
    features = network(images, range(16))
    assert tuple(f.shape[1] for f in features) == efficientnet.WIDTHS
    assert [f.shape[-2] for f in features] == [-(-images.shape[-2] // stride) for stride in efficientnet.STRIDES]
    for index, (feature, output) in enumerate(zip(features, outputs, strict=True)):
        deep = 10 if index > max(perceptual.TAPS) else 1  # drawn weights amplify the rounding from block to block
        assert (feature - output).abs().max() < deep * 1e-4 * output.abs().max()
    taps = perceptual.features(network, images)
    assert all(torch.equal(tap, features[index]) for tap, index in zip(taps, perceptual.TAPS, strict=True))
    assert (network.embed(images) - pooled).abs().mean() < 1e-3 * pooled.max()


@pytest.mark.parametrize("size", [(64, 64), (65, 50)])
def test_folding_the_norms_changes_nothing(network, state, size):
    check_definition(network, state, draw(2, 3, *size).clamp(-1, 1))


@pytest.mark.weights
def test_real_weights_fold_as_well(weights, generated):
    state = load_file(weights("efficientnet-lite0"))
    check_definition(efficientnet.from_state(state), state, to_float(generated(1)[::8, ::8]))


def test_distance_is_zero_for_equal_and_symmetric_and_per_image(network):
    a, b = draw(3, 3, 64, 64), draw(3, 3, 64, 64, seed=1)
    b[1] = a[1]
    fa, fb = perceptual.features(network, a), perceptual.features(network, b)
    d = perceptual.distance(fa, fb)
    assert d.shape == (3,) and d[1] == 0 and d[0] > 1e-4 and d[2] > 1e-4
    assert torch.equal(d, perceptual.distance(fb, fa))
    alone = perceptual.distance(perceptual.features(network, a[2:]), perceptual.features(network, b[2:]))
    torch.testing.assert_close(alone, d[2:], atol=1e-5, rtol=1e-4)


def test_distance_by_hand():
    """One feature map of one pixel: unit vectors at a right angle are 2 apart, whatever their lengths."""
    a = [torch.tensor([3.0, 0.0]).view(1, 2, 1, 1), torch.tensor([1.0, 1.0]).view(1, 2, 1, 1)]
    b = [torch.tensor([0.0, 9.0]).view(1, 2, 1, 1), torch.tensor([4.0, 4.0]).view(1, 2, 1, 1)]
    assert perceptual.distance(a, b).item() == pytest.approx((2 + 0) / 2, abs=1e-6)
    with pytest.raises(ValueError):
        perceptual.distance(a, b[:1])


def test_distance_has_a_gradient_that_lowers_it(network):
    image, goal = draw(1, 3, 64, 64).requires_grad_(), perceptual.features(network, draw(1, 3, 64, 64, seed=1))
    before = perceptual.distance(perceptual.features(network, image), goal).sum()
    (gradient,) = torch.autograd.grad(before, image)
    assert gradient.isfinite().all() and gradient.abs().amax() > 0
    after = perceptual.distance(
        perceptual.features(network, image - 0.05 * before * gradient / gradient.square().sum()), goal
    ).sum()
    assert after < before
    same = draw(1, 3, 64, 64, seed=2).requires_grad_()
    flat = perceptual.distance(perceptual.features(network, torch.zeros_like(same) * same), goal).sum()
    assert torch.autograd.grad(flat, same)[0].isfinite().all()
    assert not any(p.requires_grad for p in network.parameters())


@pytest.mark.weights
def test_real_weights_judge_damage_as_people_do(weights, generated):
    network = efficientnet.from_state(load_file(weights("efficientnet-lite0")))
    faces = F.avg_pool2d(torch.cat([to_float(generated(1)), to_float(generated(2))]), 4)

    def away(other):
        return perceptual.distance(perceptual.features(network, faces[:1]), perceptual.features(network, other)).item()

    brighter = away(faces[:1] * 0.9 + 0.05)
    little, much = (away(faces[:1] + amount * draw(1, 3, 256, 256)) for amount in (0.02, 0.2))
    blurred = away(F.interpolate(F.avg_pool2d(faces[:1], 8), scale_factor=8, mode="bilinear"))
    assert 0 < brighter < blurred < away(faces[1:]) and 0 < little < much


def test_another_state_is_refused(state):
    cases = {
        "_conv_stem.weight is missing": {k: v for k, v in state.items() if k != "_conv_stem.weight"},
        r"_blocks\.7\._bn1\.running_var is missing": {k: v for k, v in state.items() if "7._bn1.running_var" not in k},
        r"_blocks\.0\._depthwise_conv\.weight has the shape \(1, 1, 3, 3\)": state
        | {"_blocks.0._depthwise_conv.weight": torch.zeros(1, 1, 3, 3)},  # copying would broadcast these
        r"_bn0\.bias has the shape \(1,\)": state | {"_bn0.bias": torch.zeros(1)},
        r"_bn0\.weight has the shape \(\)": state | {"_bn0.weight": torch.ones(())},
    }
    for message, wrong in cases.items():
        with pytest.raises(CheckpointError, match=f"not EfficientNet-Lite0: {message}"):
            efficientnet.from_state(wrong)
