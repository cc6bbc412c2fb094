"""GigaGAN's generator (arXiv 2303.05511, sections 3.1 to 3.3): words and noise to a pyramid of pictures.

M makes w of the noise and the sentence's token.  From a learned constant of 4x4 on, every level doubles the size: a
few adaptive convolutions, attention to itself and to the words at low resolutions, and a picture of that size.

No code of the paper is public.  What it gives is used (64 pixels, z of 128, four layers of M and of T, the kind of
every part); `PAPER` holds the rest.  As a later public text-to-image GAN that builds on it documents: w of 1024, 1600
channels at most, 1, 1, 2, 4, 8 kernels and 3, 3, 3, 2, 2 blocks from 4 to 64 pixels, attention at 8, 16 and 32 pixels
two, two and one times.  Assumed: 32768 / resolution channels where that is less (the published number of weights is met
so); a block is one convolution, those after a level's first are residual with a gain of 0.4; sizes double bilinearly
before the first; a level's picture adds to the doubled one below (StyleGAN2's skips); no noise maps.  What comes out:
646.7 million weights where 652.5 are published (tests/editing/translation/test_gigagan.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from editing.translation.networks.gigagan.attention import Attention
from editing.translation.networks.gigagan.kernels import AdaptiveConv, Linear, channels
from editing.translation.networks.gigagan.text import TextTower

START, GAIN, SLOW = 4, 0.4, 0.01  # pixels of the first level; of residual convolutions; of M's learning rate
PAPER: Mapping[str, Any] = {
    "features": 768,
    "width": 768,
    "w_dim": 1024,
    "channels": (1600, 1600, 1600, 1024, 512),
    "kernels": (1, 1, 2, 4, 8),
    "blocks": (3, 3, 3, 2, 2),
    "attention": (0, 2, 2, 1, 0),
}


def small(size: int, width: int) -> dict[str, Any]:
    """Settings that learn on CPUs: see `kernels.channels`."""
    found = channels(size, width)
    return {
        "width": width,
        "w_dim": 2 * width,
        "channels": found,
        "kernels": [(1, 1, 2, 2, 4)[min(k, 4)] for k in range(len(found))],
        "blocks": [1] * len(found),
        "attention": [int(k in (1, 2)) for k in range(len(found))],
        "text_depth": 2,
    }


class Level(nn.Module):
    """x (B, inputs, H, W), w, words, mask -> x (B, channels, 2H, 2W), or H, W at the first level, and RGB of it."""

    def __init__(
        self, inputs: int, channels: int, w_dim: int, width: int, kernels: int, blocks: int, attention: int
    ) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            AdaptiveConv(channels if i else inputs, channels, w_dim, kernels) for i in range(blocks)
        )
        self.attention = nn.ModuleList(Attention(channels, width) for _ in range(attention))
        self.to_rgb = AdaptiveConv(channels, 3, w_dim, size=1, demodulate=False, act=False)

    def forward(self, x: Tensor, w: Tensor, words: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        first, *others = self.convs
        x = first(x, w)
        for conv in others:
            x = (x + GAIN * conv(x, w)) / sqrt(1 + GAIN**2)
        for attention in self.attention:
            x = attention(x, words, mask)
        return x, self.to_rgb(x, w)


class GigaGANGenerator(nn.Module):
    """z (B, z_dim), the encoder's tokens hidden (B, L, features) and mask (B, L) -> pictures (B, 3, S, S), then of half
    the size, and so on to 4x4; RGB in about [-1, 1].

    channels, kernels, blocks, attention: of every level from 4x4 on; S is 4, doubled by each after the first.
    """

    def __init__(
        self,
        features: int = 384,
        z_dim: int = 128,
        w_dim: int = 128,
        width: int = 64,
        channels: Sequence[int] = (64, 64, 64, 32, 16),
        kernels: Sequence[int] = (1, 1, 2, 2, 4),
        blocks: Sequence[int] = (1, 1, 1, 1, 1),
        attention: Sequence[int] = (0, 1, 1, 0, 0),
        text_depth: int = 4,
        mapping_depth: int = 4,
    ) -> None:
        super().__init__()
        self.features, self.z_dim, self.size = features, z_dim, START * 2 ** (len(channels) - 1)
        self.text = TextTower(features, width, text_depth)
        dims = [z_dim + width, *[w_dim] * mapping_depth]
        self.mapping = nn.Sequential(
            *(Linear(a, b, act=True, lr_mul=SLOW) for a, b in zip(dims, dims[1:], strict=False))
        )
        self.constant = nn.Parameter(torch.randn(1, channels[0], START, START))
        each = zip([channels[0], *channels], channels, kernels, blocks, attention, strict=False)
        self.levels = nn.ModuleList(Level(a, b, w_dim, width, n, m, depth) for a, b, n, m, depth in each)

    def mapped(self, z: Tensor, token: Tensor) -> Tensor:
        """Noise and the sentence's token -> w (B, w_dim)"""
        z = z * torch.rsqrt(z.square().mean(1, keepdim=True) + 1e-8)
        return self.mapping(torch.cat([z, token], 1))

    def synthesis(self, w: Tensor, words: Tensor, mask: Tensor) -> list[Tensor]:
        """w and words of the tower -> pictures, the largest first."""
        x, pictures = self.constant.expand(len(w), -1, -1, -1), []
        for k, level in enumerate(self.levels):
            x, rgb = level(doubled(x) if k else x, w, words, mask)
            pictures.append(rgb + doubled(pictures[-1]) if k else rgb)
        return pictures[::-1]

    def forward(self, z: Tensor, hidden: Tensor, mask: Tensor) -> list[Tensor]:
        words, token = self.text(hidden, mask)
        return self.synthesis(self.mapped(z, token), words, mask)


def doubled(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, 2H, 2W), bilinear"""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def pyramid(pictures: Tensor, levels: int) -> list[Tensor]:
    """(B, 3, S, S) -> that, and averages of 2x2 places again and again."""
    found = [pictures]
    for _ in range(levels - 1):
        found.append(F.avg_pool2d(found[-1], 2))
    return found
