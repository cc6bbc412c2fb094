"""Perceptual distance from EfficientNet-Lite0 features.

The distance is LPIPS-like (Zhang et al., arXiv 1801.03924, eq. 1, unit weights): features of four
depths, normalised along their channels, squared difference, averaged.  VGG-based LPIPS cannot be had
without a download outside pip; numbers of this distance are not comparable with published LPIPS.
"""

from __future__ import annotations

import torch
from torch import Tensor

from encoders.efficientnet import EfficientNetLite0

TAPS = (0, 2, 4, 10)  # blocks of EfficientNet-Lite0 whose outputs are compared: strides 2, 4, 8, 16


def features(network: EfficientNetLite0, images: Tensor) -> list[Tensor]:
    """images (B, 3, H, W) RGB in [-1, 1] -> what `distance` compares."""
    return network(images, TAPS)


def distance(a: list[Tensor], b: list[Tensor]) -> Tensor:
    """Feature lists of two batches -> mean distance per image (B,): unit-normalised channels, squared difference."""
    return sum((unit(x) - unit(y)).square().sum(1).mean((1, 2)) for x, y in zip(a, b, strict=True)) / len(a)


def unit(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.square().sum(1, keepdim=True) + 1e-8)
