"""Channels to space by the inverse Haar transform: how MobileStyleGAN up-samples (arXiv 2104.04767, eq. 2)."""

from __future__ import annotations

import torch
from torch import Tensor


def inverse_haar(x: Tensor, gain: Tensor | float = 1.0) -> Tensor:
    """Channels to space: gain * x (B, 4C, H, W) -> (B, C, 2H, 2W), orthonormal.

    gain: a number or (B, 4C, 1, 1).  Channels are band-major: C of the low band LL, then C each of the details LH, HL,
    HH.  Every output pixel is half the signed sum of its four bands.  Written for channels_last memory, where a pixel's
    channels lie together and every step below is one contiguous pass.
    """
    batch, channels, height, width = x.shape
    bands = (x * (gain * 0.5)).permute(0, 2, 3, 1).reshape(batch, height, width, 4, channels // 4)
    low, lh, hl, hh = bands.unbind(3)
    low_plus, low_minus, high_plus, high_minus = low + lh, low - lh, hl + hh, hl - hh
    pairs = ((low_plus, high_plus), (low_minus, high_minus))  # of the upper row and of the lower
    if torch.is_inference_mode_enabled():  # no derivatives: written where it belongs, in a quarter less time
        pixels = bands.new_empty(batch, height, 2, width, 2, channels // 4)
        for row, (a, b) in zip(pixels.unbind(2), pairs, strict=True):
            torch.add(a, b, out=row[:, :, :, 0])
            torch.sub(a, b, out=row[:, :, :, 1])
    else:
        pixels = torch.stack([torch.stack((a + b, a - b), 3) for a, b in pairs], 2)
    return pixels.view(batch, 2 * height, 2 * width, channels // 4).permute(0, 3, 1, 2)
