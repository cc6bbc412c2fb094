"""The operators against their definitions, written out as loops and with numpy, and their derivatives."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from stylegan2.ops import Operator, bias_act, library, resample_padding, setup_fir, upfirdn2d

ACTS = {
    "linear": (lambda x: x, 1),
    "relu": (lambda x: np.maximum(x, 0), 2**0.5),
    "lrelu": (lambda x: np.where(x > 0, x, 0.2 * x), 2**0.5),
    "tanh": (np.tanh, 1),
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), 1),
    "elu": (lambda x: np.where(x > 0, x, np.expm1(x)), 1),
    "selu": (lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x)), 1),
    "softplus": (lambda x: np.log1p(np.exp(x)), 1),
    "swish": (lambda x: x / (1 + np.exp(-x)), 2**0.5),
}


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def upfirdn_by_definition(x, fir, up, down, pad, flip, gain):
    """One channel (H, W) at a time: zero-insert, pad or crop, slide the filter, keep every down-th pixel."""
    (up_x, up_y), (down_x, down_y), (left, right, top, bottom) = up, down, pad
    fir = np.outer(fir, fir) if fir.ndim == 1 else fir
    fir = fir if flip else fir[::-1, ::-1]
    big = np.zeros((x.shape[0] * up_y, x.shape[1] * up_x))
    big[::up_y, ::up_x] = x
    big = np.pad(big, ((max(top, 0), max(bottom, 0)), (max(left, 0), max(right, 0))))
    big = big[max(-top, 0) : big.shape[0] - max(-bottom, 0), max(-left, 0) : big.shape[1] - max(-right, 0)]
    kh, kw = fir.shape
    out = np.array(
        [
            [np.sum(big[i : i + kh, j : j + kw] * fir) for j in range(big.shape[1] - kw + 1)]
            for i in range(big.shape[0] - kh + 1)
        ]
    )
    return out[::down_y, ::down_x] * gain


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("shape,dim", [((3, 4), 1), ((2, 4, 3, 3), 1), ((2, 3, 4), -1), ((4, 2), 0)])
def test_bias_act_is_its_formula(act, shape, dim):
    x, b = draw(*shape), draw(4, seed=1)
    f, gain = ACTS[act]
    along = [1] * len(shape)
    along[dim] = 4
    expected = gain * f(x.numpy() + b.numpy().reshape(along))
    np.testing.assert_allclose(bias_act(x, b, dim=dim, act=act).numpy(), expected, rtol=1e-10, atol=1e-12)
    expected = np.clip(0.7 * f(x.numpy()), -0.3, 0.3)
    np.testing.assert_allclose(bias_act(x, act=act, gain=0.7, clamp=0.3).numpy(), expected, rtol=1e-10, atol=1e-12)


def test_bias_act_alpha_and_bad_arguments():
    x = draw(2, 3)
    assert torch.equal(bias_act(x, act="lrelu", alpha=0.5, gain=1), torch.where(x > 0, x, 0.5 * x))
    with pytest.raises(ValueError, match="unknown activation 'gelu'.*lrelu"):
        bias_act(x, act="gelu")
    with pytest.raises(ValueError, match="does not fit axis 1"):
        bias_act(x, draw(2))
    with pytest.raises(ValueError, match="clamp"):
        bias_act(x, clamp=-1)


@pytest.mark.parametrize("act", ACTS)
def test_bias_act_derivatives(act):
    x, b = (draw(2, 3, 2) + 0.05).requires_grad_(), draw(3, seed=1).requires_grad_()

    def f(x, b):
        return bias_act(x, b, act=act, clamp=1.0)

    assert torch.autograd.gradcheck(f, (x, b))
    assert torch.autograd.gradgradcheck(f, (x, b))


@pytest.mark.parametrize(
    "up,down,pad,flip,gain,kernel",
    [
        ((1, 1), (1, 1), (1, 1, 1, 1), False, 1.0, (4, 4)),
        ((2, 2), (1, 1), (2, 1, 2, 1), False, 4.0, (4, 4)),
        ((1, 1), (2, 2), (1, 1, 1, 1), True, 1.0, (3, 4)),
        ((2, 3), (3, 2), (3, 2, 0, 4), False, 0.5, (2, 3)),
        ((3, 1), (1, 2), (-1, 2, 1, -2), True, 2.0, (2, 4)),
        ((2, 1), (1, 1), (0, 0, 3, 2), False, 1.5, (5,)),
        ((1, 2), (2, 3), (4, -1, 2, 5), True, 3.0, (6,)),
    ],
)
def test_upfirdn2d_is_its_definition(up, down, pad, flip, gain, kernel):
    x, fir = draw(2, 3, 6, 7), draw(*kernel, seed=2)
    result = upfirdn2d(x, fir, up=up, down=down, padding=pad, flip=flip, gain=gain)
    for b in range(2):
        for c in range(3):
            expected = upfirdn_by_definition(x[b, c].numpy(), fir.numpy(), up, down, pad, flip, gain)
            np.testing.assert_allclose(result[b, c].numpy(), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kernel", [(3, 4), (5,)])
def test_upfirdn2d_derivatives(kernel):
    x, fir = draw(1, 2, 4, 5).requires_grad_(), draw(*kernel, seed=2).requires_grad_()

    def f(x, fir):
        return upfirdn2d(x, fir, up=(2, 1), down=(1, 2), padding=(3, 1, 2, 2), gain=2.0)

    assert torch.autograd.gradcheck(f, (x, fir))
    assert torch.autograd.gradgradcheck(f, (x, fir))


def test_upfirdn2d_without_filter_and_bad_arguments():
    x = draw(1, 1, 4, 4)
    assert torch.equal(upfirdn2d(x, None, down=2), x[..., ::2, ::2])
    for wrong, message in [
        ({"up": 0}, "up must be"),
        ({"padding": (1, 2, 3)}, "1, 2 or 4"),
        ({"padding": -2}, "smaller than"),
    ]:
        with pytest.raises(ValueError, match=message):
            upfirdn2d(x, setup_fir([1, 3, 3, 1]).double(), **wrong)
    with pytest.raises(ValueError, match="B, C, H, W"):
        upfirdn2d(x[0], None)


def test_filters_keep_brightness_and_place():
    fir = setup_fir([1, 3, 3, 1])
    assert fir.shape == (4, 4) and fir.sum() == pytest.approx(1)
    assert setup_fir([1.0] * 8).shape == (8,) and setup_fir([1, 2, 1], separable=True).shape == (3,)
    flat = torch.ones(1, 1, 8, 8)
    up = upfirdn2d(flat, fir, up=2, padding=resample_padding(fir, up=2), gain=4)
    down = upfirdn2d(flat, fir, down=2, padding=resample_padding(fir, down=2))
    assert up.shape[-2:] == (16, 16) and down.shape[-2:] == (4, 4)
    torch.testing.assert_close(up[..., 2:-2, 2:-2], torch.ones(1, 1, 12, 12))
    torch.testing.assert_close(down[..., 1:-1, 1:-1], torch.ones(1, 1, 2, 2))
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)  # pixel centres stay where they are: n -> 2n + 1/2
    up = upfirdn2d(ramp, fir, up=2, padding=resample_padding(fir, up=2), gain=4)
    torch.testing.assert_close(up[0, 0, 8, 4:12], (torch.arange(4.0, 12.0) - 0.5) / 2)


def test_a_compiled_implementation_takes_over_where_there_is_a_library_and_may_decline():
    op = Operator(lambda x: x + 1, lambda x: NotImplemented if x.dtype == torch.float64 else x + 2)
    x = torch.zeros(1)
    assert op(x) == 1
    with library.using("cpu", object()):
        assert op(x) == 2 and op(x.double()) == 1
    assert op(x) == 1


def test_a_crop_may_reach_into_the_padding_of_the_other_side():
    x = torch.ones(1, 1, 1, 3)
    assert torch.equal(upfirdn2d(x, None, padding=(-4, 3, 0, 0)), torch.zeros(1, 1, 1, 2))


def test_import_builds_and_loads_nothing():
    code = (
        "import sys, stylegan2.ops as ops; from stylegan2.ops import library; assert not library._libraries;"
        "assert 'stylegan2.ops.build' not in sys.modules and 'torch.utils.cpp_extension' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
