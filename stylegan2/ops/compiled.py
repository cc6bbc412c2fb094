"""The compiled operators for PyTorch: `torch.ops.wplus.*`, with shapes for tracing and gradients, and what calls them.

Every operator is registered with `torch.library`, has a fake implementation (torch.compile and torch.export pass
through it) and, where it can be trained through, an autograd formula in terms of the registered operators, so that
second derivatives (R1, path length: arXiv 1912.04958, section 3.2) come from the same kernels.

`bias_act`, `upfirdn2d`, `finish` and `inverse_haar` below take the arguments of their references, on devices that have
a library of kernels; they answer NotImplemented for what the kernels do not cover.
"""

from __future__ import annotations

from math import sqrt

import torch
from torch import Tensor

from stylegan2.ops import library
from stylegan2.ops.bias_act import ACTIVATIONS, settings
from stylegan2.ops.upfirdn2d import borders, checked, pair

KINDS = {name: place for place, name in enumerate(ACTIVATIONS)}
RECTIFIERS = ("linear", "relu", "lrelu")  # the slope can be read off the output, and there is no second derivative
SMALL = 4  # taps up to which a separable filter is quicker as one 2-D filter

_ops = torch.library.Library("wplus", "DEF")
_SETTINGS = "int dim, str act, float alpha, float gain, float clamp"
_SCHEMAS = {
    "bias_act": f"(Tensor x, Tensor? b, {_SETTINGS}) -> Tensor",
    "bias_act_slope": f"(Tensor g, Tensor x, Tensor? b, {_SETTINGS}, bool of_output) -> Tensor",
    "bias_act_bend": f"(Tensor g, Tensor v, Tensor x, Tensor? b, {_SETTINGS}) -> Tensor",
    "upfirdn2d": "(Tensor x, Tensor fir, int[] up, int[] down, int[] padding, bool flip, float gain) -> Tensor",
    "finish": "(Tensor x, Tensor? scale, Tensor? noise, Tensor? b, Tensor? fir, int[] padding, float fir_gain, "
    "float alpha, float gain, float clamp) -> Tensor",
    "inverse_haar": "(Tensor x, Tensor? gain) -> Tensor",
}


def covered(x: Tensor, *others: Tensor | None) -> bool:
    """Whether there are kernels for x's type, everything lies on its device, and derivatives are the ordinary ones:
    forward mode and function transforms (jvp, vmap) go through the reference."""
    if not torch.compiler.is_compiling() and (
        torch._C._functorch.maybe_current_level() is not None or torch.autograd.forward_ad._current_level >= 0
    ):
        return False
    return kernels(x).covers(x) and all(t is None or t.device == x.device for t in others)


def kernels(x: Tensor) -> library.Library:
    found = library.get(x.device.type)
    if found is None:
        raise RuntimeError(f"there are no compiled kernels for {x.device}; python -m stylegan2.ops info says why")
    return found


# ---- bias_act


def _bias_act(x, b, dim, act, alpha, gain, clamp):
    return kernels(x).bias_act(x, b, dim, KINDS[act], alpha, gain, clamp)


def _bias_act_slope(g, x, b, dim, act, alpha, gain, clamp, of_output):
    return kernels(x).bias_act(x, b, dim, KINDS[act], alpha, gain, clamp, order=1, g=g, of_output=of_output)


def _bias_act_bend(g, v, x, b, dim, act, alpha, gain, clamp):
    return kernels(x).bias_act(x, b, dim, KINDS[act], alpha, gain, clamp, order=2, g=g, v=v)


def _along(gradient: Tensor, dim: int) -> Tensor:
    """(...) -> (size of axis dim,), summed over the others: a bias's share."""
    others = [axis for axis in range(gradient.ndim) if axis != dim]
    return gradient.sum(others) if others else gradient


def _bias_act_setup(ctx, inputs, output) -> None:
    x, b, *ctx.settings = inputs
    _, act, alpha, gain, _ = ctx.settings
    ctx.of_output = act in RECTIFIERS and gain > 0 and (act != "lrelu" or alpha >= 0)  # then signs survive
    ctx.save_for_backward(output if ctx.of_output else x, None if ctx.of_output else b)
    ctx.has_bias = b is not None


def _bias_act_backward(ctx, g):
    x, b = ctx.saved_tensors
    dx = torch.ops.wplus.bias_act_slope(g, x, b, *ctx.settings, ctx.of_output)
    db = _along(dx, ctx.settings[0]) if ctx.has_bias and ctx.needs_input_grad[1] else None
    return dx, db, None, None, None, None, None


def _slope_setup(ctx, inputs, output) -> None:
    g, x, b, *ctx.settings, ctx.of_output = inputs
    ctx.save_for_backward(g, x, b)


def _slope_backward(ctx, v):
    g, x, b = ctx.saved_tensors
    dg = dx = db = None
    if ctx.needs_input_grad[0]:
        dg = torch.ops.wplus.bias_act_slope(v, x, b, *ctx.settings, ctx.of_output)
    if ctx.settings[1] not in RECTIFIERS:
        dx = torch.ops.wplus.bias_act_bend(g, v, x, b, *ctx.settings)
        db = None if b is None else _along(dx, ctx.settings[0])
    return dg, dx, db, None, None, None, None, None, None


def bias_act(x, b=None, dim=1, act="linear", alpha=None, gain=None, clamp=None):
    """`bias_act.bias_act`, compiled."""
    alpha, gain = settings(x, b, dim, act, alpha, gain, clamp)
    if not covered(x, b):
        return NotImplemented
    b = None if b is None else b.to(x.dtype)
    return torch.ops.wplus.bias_act(x, b, dim % max(x.ndim, 1), act, alpha, gain, library.bound(clamp))


# ---- upfirdn2d


def _upfirdn2d(x, fir, up, down, padding, flip, gain):
    return kernels(x).upfirdn2d(x, fir, tuple(up), tuple(down), tuple(padding), flip, gain)


def _upfirdn2d_setup(ctx, inputs, output) -> None:
    x, fir, *ctx.settings = inputs
    ctx.size = x.shape[2:]
    ctx.save_for_backward(fir)


def _upfirdn2d_backward(ctx, g):
    """The transpose is the same operator: factors exchanged, filter turned round, other borders."""
    (fir,) = ctx.saved_tensors
    up, down, padding, flip, gain = ctx.settings
    borders = []
    for axis, first in ((0, 0), (1, 2)):  # x, y
        taps, size, out = fir.shape[1 - axis], ctx.size[1 - axis], g.shape[3 - axis]
        before = taps - 1 - padding[first]
        borders += [before, size * up[axis] - out * down[axis] + padding[first] - up[axis] + 1]
    dx = torch.ops.wplus.upfirdn2d(g, fir, down, up, borders, not flip, gain)
    return dx, None, None, None, None, None, None


def _order(x: Tensor) -> torch.memory_format:
    """As `library.arranged` chooses."""
    last = not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def _upfirdn2d_shape(x, fir, up, down, padding, flip, gain):
    size = library.resampled(x.shape[2], x.shape[3], fir.shape, up, down, padding)
    return torch.empty((*x.shape[:2], *size), dtype=x.dtype, device=x.device, memory_format=_order(x))


def upfirdn2d(x, fir, up=1, down=1, padding=0, flip=False, gain=1.0):
    """`upfirdn2d.upfirdn2d`, compiled; not for a filter that is trained."""
    checked(x, fir, up, down, padding)
    if not covered(x, fir) or (fir is not None and fir.requires_grad and torch.is_grad_enabled()):
        return NotImplemented
    up, down, padding = pair(up, "up"), pair(down, "down"), borders(padding)
    fir = torch.ones(1, 1, device=x.device) if fir is None else fir
    fir = fir.to(torch.float64 if x.dtype == torch.float64 else torch.float32)
    if fir.ndim == 1 and fir.shape[0] <= SMALL:
        fir = torch.outer(fir, fir)
    if fir.ndim == 2:
        return torch.ops.wplus.upfirdn2d(x, fir, up, down, padding, flip, gain)
    left, right, top, bottom = padding
    share = sqrt(gain)
    x = torch.ops.wplus.upfirdn2d(x, fir[None], (up[0], 1), (down[0], 1), (left, right, 0, 0), flip, share)
    return torch.ops.wplus.upfirdn2d(x, fir[:, None], (1, up[1]), (1, down[1]), (0, 0, top, bottom), flip, share)


# ---- what is only drawn


def _finish(x, scale, noise, b, fir, padding, fir_gain, alpha, gain, clamp):
    if fir is None:
        return kernels(x).styled_act(x, scale, noise, b, alpha, gain, clamp)
    after = (scale, noise, b, alpha, gain, clamp)
    return kernels(x).upfirdn2d(x, fir, (1, 1), (1, 1), tuple(padding), False, fir_gain, after)


def _finish_shape(x, scale, noise, b, fir, padding, *settings):
    if fir is not None:
        return _upfirdn2d_shape(x, fir, (1, 1), (1, 1), padding, False, 1.0)
    return torch.empty_like(x, memory_format=_order(x))


def _drawn(*tensors: Tensor | None) -> bool:
    """Whether nobody asks for gradients."""
    return not (torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors))


def finish(
    x, scale=None, noise=None, b=None, *, fir=None, padding=0, fir_gain=1.0, alpha=0.2, gain=sqrt(2), clamp=None,
    inplace=False,
):  # fmt: skip
    """`finish.finish`, compiled, for float32 and 16-bit pictures without gradients and 2-D filters up to 4x4."""
    small = fir is None or (fir.ndim == 2 and max(fir.shape) <= SMALL)
    lined_up = fir is None or _order(x) == torch.contiguous_format or x.shape[1] % (16 // x.element_size()) == 0
    if x.dtype == torch.float64 or not (small and lined_up and covered(x, scale, noise, b, fir)):
        return NotImplemented
    batch, channels, *size = x.shape
    if fir is not None:
        checked(x, fir, 1, 1, padding)
        fir, size = fir.to(torch.float32), library.resampled(*size, fir.shape, (1, 1), (1, 1), borders(padding))
    maps = (tuple(size), (1, 1, *size), (batch, 1, *size))  # whatever else broadcasts is the reference's
    fits = (scale is None or scale.shape == (batch, channels)) and (b is None or b.shape == (channels,))
    if not (fits and (noise is None or tuple(noise.shape) in maps) and _drawn(x, scale, noise, b)):
        return NotImplemented
    settings = (list(borders(padding)), fir_gain, alpha, gain, library.bound(clamp))
    return torch.ops.wplus.finish(x, scale, noise, b, fir, *settings)


def _inverse_haar(x, gain):
    return kernels(x).inverse_haar(x, gain)


def _inverse_haar_shape(x, gain):
    batch, channels, height, width = x.shape
    shape = (batch, channels // 4, 2 * height, 2 * width)
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=_order(x))


def inverse_haar(x, gain=1.0):
    """`haar.inverse_haar`, compiled, for pictures without gradients."""
    given = isinstance(gain, Tensor)
    batch, channels = x.shape[:2]
    fits = not given or tuple(gain.shape) in ((1, channels, 1, 1), (batch, channels, 1, 1))
    others = (gain,) if given else ()
    if channels % 4 or not (fits and covered(x, *others) and _drawn(x, *others)):
        return NotImplemented
    if not given and gain != 1:
        gain, given = torch.full((1, x.shape[1], 1, 1), gain, device=x.device), True
    return torch.ops.wplus.inverse_haar(x, gain.expand(x.shape[0], -1, 1, 1).flatten(1) if given else None)


# ---- registration


def _like_x(x, *_):
    return torch.empty_like(library.dense(x))


def _register() -> None:
    names = {
        "bias_act": (_bias_act, _like_x),
        "bias_act_slope": (_bias_act_slope, lambda g, x, *_: _like_x(x)),
        "bias_act_bend": (_bias_act_bend, lambda g, v, x, *_: _like_x(x)),
        "upfirdn2d": (_upfirdn2d, _upfirdn2d_shape),
        "finish": (_finish, _finish_shape),
        "inverse_haar": (_inverse_haar, _inverse_haar_shape),
    }
    for name, (kernel, shape) in names.items():
        _ops.define(name + _SCHEMAS[name])
        for key in ("CUDA", "CPU"):  # CPU: the host build of the same sources, in the tests
            _ops.impl(name, kernel, key)
        torch.library.register_fake(f"wplus::{name}", shape, lib=_ops)
    register = torch.library.register_autograd
    register("wplus::bias_act", _bias_act_backward, setup_context=_bias_act_setup, lib=_ops)
    register("wplus::bias_act_slope", _slope_backward, setup_context=_slope_setup, lib=_ops)
    register("wplus::upfirdn2d", _upfirdn2d_backward, setup_context=_upfirdn2d_setup, lib=_ops)


_register()
