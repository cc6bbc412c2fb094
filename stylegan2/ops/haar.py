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
    top = torch.stack((low_plus + high_plus, low_plus - high_plus), 3)
    bottom = torch.stack((low_minus + high_minus, low_minus - high_minus), 3)
    pixels = torch.stack((top, bottom), 2)  # (B, H, 2, W, 2, C)
    return pixels.view(batch, 2 * height, 2 * width, channels // 4).permute(0, 3, 1, 2)
