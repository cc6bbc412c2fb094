"""RBDN: a regression network with branches inside branches (Santhanam, Morariu and Davis, arXiv 1612.03268).

    conv 9x9 - pool ---------------------------------- merge - nine conv 3x3 - unpool - deconv 9x9
                 |                                       |
                 branch 1: conv - pool ------- merge - conv - unpool - deconv
                                  |              |
                                  branch 2: ...  (to branch K)

A branch takes the pooled picture, halves it, lets the next branch look, and gives back what it and the next one found;
unpooling puts values where the maxima had been.  Its channels are joined to those it branched from, and the next
convolution learns how to merge.  64 channels everywhere.  Names follow the published Caffe files.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHAIN = 9  # convolutions behind the outermost merge


class Step(nn.Module):
    """Convolution (or its transpose, Caffe's 'deconvolution'), batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, size: int = 3, transposed: bool = False) -> None:
        super().__init__()
        kind = nn.ConvTranspose2d if transposed else nn.Conv2d
        self.conv, self.norm = kind(inputs, outputs, size, padding=size // 2), nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)))


def pool(x: Tensor) -> tuple[Tensor, Tensor]:
    """x (B, C, H, W) -> maxima (B, C, H/2, W/2) and where they were."""
    return F.max_pool2d(x, 2, 2, return_indices=True)


class RBDN(nn.Module):
    """Pictures (B, inputs, H, W) -> (B, outputs, H, W), a regression without a bound; H and W multiples of `size`.

    branches: K, three in the paper.  Published weights see BGR of 0 to 255; trained here, pictures are as elsewhere.
    """

    def __init__(self, inputs: int = 3, outputs: int = 3, width: int = 64, branches: int = 3) -> None:
        super().__init__()
        self.branches, self.size = branches, 2 ** (branches + 1)
        self.conv1 = Step(inputs, width, 9)
        for k in range(1, branches + 1):
            self.add_module(f"convB{k}_1", Step(width, width))
            self.add_module(f"convB{k}_2", Step(width if k == branches else 2 * width, width))
            self.add_module(f"deconvB{k}_1", Step(width, width, transposed=True))
        for i in range(1, CHAIN + 1):
            self.add_module(f"conv2_{i}", Step(2 * width if i == 1 else width, width))
        self.deconv1 = nn.ConvTranspose2d(width, outputs, 9, padding=4)

    def _branch(self, k: int, x: Tensor) -> Tensor:
        """x (B, C, h, w) -> x with what branch k found beside it (B, 2C, h, w)."""
        y, places = pool(getattr(self, f"convB{k}_1")(x))
        y = y if k == self.branches else self._branch(k + 1, y)
        y = F.max_unpool2d(getattr(self, f"convB{k}_2")(y), places, 2)
        return torch.cat([x, getattr(self, f"deconvB{k}_1")(y)], 1)

    def forward(self, x: Tensor) -> Tensor:
        x, places = pool(self.conv1(x))  # (B, C, H/2, W/2)
        x = self._branch(1, x)
        for i in range(1, CHAIN + 1):
            x = getattr(self, f"conv2_{i}")(x)
        return self.deconv1(F.max_unpool2d(x, places, 2))
