"""The normalisations of this family: batch norm with its scale and shift, instance norm without, or none."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

Norm = Literal["batch", "instance", "none"]


def normalised(channels: int, norm: Norm) -> nn.Module:
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    return nn.InstanceNorm2d(channels) if norm == "instance" else nn.Identity()


class TrackedInstanceNorm(nn.InstanceNorm2d):
    """Instance norm with scale, shift and running statistics, which StarGAN's files carry and its sampling ignores.

    In training the running statistics are updated, as there.  Otherwise the picture's own statistics are used, like the
    published sampling code, which never leaves training mode, and nothing is changed; with `stored` the running ones.
    """

    stored = False

    def __init__(self, channels: int) -> None:
        super().__init__(channels, affine=True, track_running_stats=True)

    def forward(self, x: Tensor) -> Tensor:
        if self.training or self.stored:
            return super().forward(x)
        return F.instance_norm(x, weight=self.weight, bias=self.bias, eps=self.eps)
