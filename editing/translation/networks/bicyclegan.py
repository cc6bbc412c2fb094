"""BicycleGAN's generator and encoder (Zhu et al., arXiv 1711.11586, section 3 and appendix).

The generator is pix2pix's U-Net with a noise code z: a copy of z at every pixel, beside the input of every level.  The
encoder reads a picture's code back, as mean and logarithm of the variance.
"""

from __future__ import annotations

from math import log2

import torch
from torch import Tensor, nn

from editing.translation.networks.norms import Norm, normalised


class CodedLevel(nn.Module):
    """x (B, C, H, W), z (B, nz) -> (B, up channels + C, H, W); the outermost level gives the picture alone.

    Unlike in pix2pix, what comes up stands before what is handed across.
    """

    def __init__(
        self,
        width: int,
        inner_width: int,
        inner: CodedLevel | None,
        nz: int,
        norm: Norm,
        dropout: bool,
        pictures: tuple[int, int] | None,
    ) -> None:
        super().__init__()
        self.outermost = pictures is not None
        down = nn.Conv2d((pictures[0] if pictures else width) + nz, inner_width, 4, 2, 1)
        up = nn.ConvTranspose2d(
            inner_width if inner is None else 2 * inner_width, pictures[1] if pictures else width, 4, 2, 1
        )
        if self.outermost:
            self.down, after = nn.Sequential(down), [nn.Tanh()]
        else:
            middle = [] if inner is None else [normalised(inner_width, norm)]
            self.down = nn.Sequential(nn.LeakyReLU(0.2), down, *middle)
            after = [normalised(width, norm), *([nn.Dropout(0.5)] if dropout else [])]
        self.up = nn.Sequential(nn.ReLU(), up, *after)
        self.submodule = inner

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        planes = z[:, :, None, None].expand(-1, -1, *x.shape[2:])
        y = self.down(torch.cat([x, planes], 1))
        y = y if self.submodule is None else self.submodule(y, z)
        y = self.up(y)
        return y if self.outermost else torch.cat([y, x], 1)


class BicycleGenerator(nn.Module):
    """Pictures (B, inputs, H, W), codes (B, nz) -> (B, outputs, H, W) in [-1, 1]; H and W multiples of `size`."""

    def __init__(
        self,
        inputs: int = 3,
        outputs: int = 3,
        nz: int = 8,
        size: int = 256,
        width: int = 64,
        norm: Norm = "instance",
        dropout: bool = False,
    ) -> None:
        super().__init__()
        levels = int(log2(size))
        if 2**levels != size or levels < 5:
            raise ValueError(f"size must be a power of two from 32 on, got {size}")
        self.size, self.nz, wide = size, nz, 8 * width
        level = CodedLevel(wide, wide, None, nz, norm, False, None)
        for _ in range(levels - 5):
            level = CodedLevel(wide, wide, level, nz, norm, dropout, None)
        for factor in (4, 2, 1):
            level = CodedLevel(factor * width, 2 * factor * width, level, nz, norm, False, None)
        self.model = CodedLevel(0, width, level, nz, norm, False, (inputs, outputs))

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        return self.model(x, z)


class HalvingBlock(nn.Module):
    """x (B, C, H, W) -> (B, C', H/2, W/2): twice normalise, rectify, convolve; average; plus a 1x1 of the average."""

    def __init__(self, channels: int, wider: int, norm: Norm) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            normalised(channels, norm),
            nn.LeakyReLU(0.2),
            nn.Conv2d(channels, channels, 3, padding=1),
            normalised(channels, norm),
            nn.LeakyReLU(0.2),
            nn.Sequential(nn.Conv2d(channels, wider, 3, padding=1), nn.AvgPool2d(2)),
        )
        self.shortcut = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(channels, wider, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + self.shortcut(x)


class BicycleEncoder(nn.Module):
    """Pictures (B, inputs, S, S) -> mean (B, nz) and log-variance (B, nz) of their codes; S is 16 * 2^blocks."""

    def __init__(self, inputs: int = 3, nz: int = 8, width: int = 64, norm: Norm = "instance", blocks: int = 4) -> None:
        super().__init__()
        widths = [width * min(k, 4) for k in range(1, blocks + 2)]
        layers: list[nn.Module] = [nn.Conv2d(inputs, width, 4, 2, 1)]
        layers += [HalvingBlock(a, b, norm) for a, b in zip(widths, widths[1:], strict=False)]
        self.conv = nn.Sequential(*layers, nn.LeakyReLU(0.2), nn.AvgPool2d(8))
        self.fc = nn.Sequential(nn.Linear(widths[-1], nz))
        self.fcVar = nn.Sequential(nn.Linear(widths[-1], nz))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.conv(x).flatten(1)
        return self.fc(x), self.fcVar(x)
