"""What follows a StyleGAN2 convolution, as one operator: filter, demodulation, noise, bias, leaky ReLU, gain, clamp.

    y = clamp(gain * lrelu(fir(x * scale) + noise + b))

Demodulating activations instead of weights is StyleGAN2's grouped arithmetic rearranged (arXiv 1912.04958, section
2.2).  The reference is a composition of the other operators, differentiable any number of times; compiled, the whole
line is one pass over memory, for pictures that are only drawn.
"""

from __future__ import annotations

from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor


def finish(
    x: Tensor,
    scale: Tensor | None = None,
    noise: Tensor | None = None,
    b: Tensor | None = None,
    *,
    fir: Tensor | None = None,
    padding: int | tuple[int, ...] = 0,
    fir_gain: float = 1.0,
    alpha: float = 0.2,
    gain: float = sqrt(2),
    clamp: float | None = None,
    inplace: bool = False,
) -> Tensor:
    """x (B, C, H, W) -> same shape, or what `fir` makes of it (see `upfirdn2d`: padding and fir_gain).

    scale: (B, C) or None.  noise: (H', W'), (1, 1, H', W') or (B, 1, H', W') or None, of the result's size.  b: (C,)
    or None.  alpha, gain, clamp: as in `bias_act`.  inplace: the result may take the memory of x, which nobody else
    needs; it does where nothing is differentiated.
    """
    from stylegan2.ops import bias_act, upfirdn2d

    if inplace and not (
        torch.is_grad_enabled() and any(t.requires_grad for t in (x, scale, noise, b) if t is not None)
    ):
        x = x if scale is None else x.mul_(scale.to(x.dtype)[:, :, None, None])
        x = x if fir is None else upfirdn2d(x, fir, padding=padding, gain=fir_gain)
        x = x if noise is None else x.add_(noise.to(x.dtype))
        x = x if b is None else x.add_(b.to(x.dtype)[:, None, None])
        x = F.leaky_relu(x, alpha, inplace=True)
        x = x if gain == 1 else x.mul_(gain)
        return x if clamp is None else x.clamp_(-clamp, clamp)
    if scale is not None:
        x = x * scale.to(x.dtype)[:, :, None, None]
    if fir is not None:
        x = upfirdn2d(x, fir, padding=padding, gain=fir_gain)
    if noise is not None:
        x = x + noise.to(x.dtype)
    return bias_act(x, b, act="lrelu", alpha=alpha, gain=gain, clamp=clamp)
