"""pix2pix's generator: a U-Net whose levels nest (Isola et al., arXiv 1611.07004, section 3.2.1 and appendix 6.1).

Every level halves the picture with a 4x4 convolution and hands what it saw across to the level that doubles it again:
[x, up(inner(down(x)))].  Names follow the published PyTorch files: a level's parts are `model`, its inner level among
them.
"""

from __future__ import annotations

from math import log2

import torch
from torch import Tensor, nn

from editing.translation.networks.norms import Norm, normalised

WIDEST = 8  # times the first level's channels


class Level(nn.Module):
    """x (B, C, H, W) -> (B, C + up channels, H, W); the outermost level gives the picture alone."""

    def __init__(
        self,
        width: int,
        inner_width: int,
        inner: Level | None,
        norm: Norm,
        dropout: bool,
        pictures: tuple[int, int] | None,
    ) -> None:
        super().__init__()
        bias, self.outermost = norm != "batch", pictures is not None
        down = nn.Conv2d(pictures[0] if pictures else width, inner_width, 4, 2, 1, bias=bias)
        arriving = inner_width if inner is None else 2 * inner_width
        if self.outermost:
            up = nn.ConvTranspose2d(arriving, pictures[1], 4, 2, 1)
            parts = [down, inner, nn.ReLU(), up, nn.Tanh()]
        else:
            up = nn.ConvTranspose2d(arriving, width, 4, 2, 1, bias=bias)
            parts = [nn.LeakyReLU(0.2), down]
            parts += [] if inner is None else [normalised(inner_width, norm), inner]
            parts += [nn.ReLU(), up, normalised(width, norm), *([nn.Dropout(0.5)] if dropout else [])]
        self.model = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x) if self.outermost else torch.cat([x, self.model(x)], 1)


class UnetGenerator(nn.Module):
    """Pictures (B, inputs, H, W) -> (B, outputs, H, W) in [-1, 1]; H and W multiples of `size`.

    size: 256 or 128 as published (8 and 7 levels), any power of two from 32 on.
    """

    def __init__(
        self,
        inputs: int = 3,
        outputs: int = 3,
        size: int = 256,
        width: int = 64,
        norm: Norm = "batch",
        dropout: bool = True,
    ) -> None:
        super().__init__()
        levels = int(log2(size))
        if 2**levels != size or levels < 5:
            raise ValueError(f"size must be a power of two from 32 on, got {size}")
        self.size = size
        wide = WIDEST * width
        level = Level(wide, wide, None, norm, False, None)
        for _ in range(levels - 5):
            level = Level(wide, wide, level, norm, dropout, None)
        for factor in (4, 2, 1):
            level = Level(factor * width, 2 * factor * width, level, norm, False, None)
        self.model = Level(0, width, level, norm, False, (inputs, outputs))

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)
