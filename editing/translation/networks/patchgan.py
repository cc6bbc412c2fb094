"""Discriminators that judge patches: pix2pix's PatchGAN, its one-pixel sister, BicycleGAN's at several sizes.

A patch's size is what one logit sees: 70 pixels with three strided layers, 16 with one, 1 without
(arXiv 1611.07004, section 3.2.2 and appendix 6.1.2; several sizes: arXiv 1711.11586, appendix).  Logits, no sigmoid.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from editing.translation.networks.norms import Norm, normalised


def patch_layers(inputs: int, width: int, layers: int, norm: Norm, bias: bool) -> nn.Sequential:
    """4x4 convolutions: `layers` of stride 2, one of stride 1, and one to a logit; no norm on the first and last."""
    parts: list[nn.Module] = [nn.Conv2d(inputs, width, 4, 2, 1), nn.LeakyReLU(0.2)]
    channels = width
    for depth in range(1, layers + 1):
        wider = width * min(2**depth, 8)
        stride = 2 if depth < layers else 1
        parts += [nn.Conv2d(channels, wider, 4, stride, 1, bias=bias), normalised(wider, norm), nn.LeakyReLU(0.2)]
        channels = wider
    return nn.Sequential(*parts, nn.Conv2d(channels, 1, 4, 1, 1))


class PatchGAN(nn.Module):
    """Pictures (B, inputs, H, W) -> logits (B, 1, h, w); 30x30 of 70x70 pixels each for 256 pixels and three layers.

    pix2pix's sees [A, B] (6 channels), CycleGAN's one picture.
    """

    def __init__(self, inputs: int = 3, width: int = 64, layers: int = 3, norm: Norm = "instance") -> None:
        super().__init__()
        self.model = patch_layers(inputs, width, layers, norm, bias=norm != "batch")

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


class PixelGAN(nn.Module):
    """Pictures (B, inputs, H, W) -> a logit for every pixel (B, 1, H, W)."""

    def __init__(self, inputs: int = 3, width: int = 64, norm: Norm = "instance") -> None:
        super().__init__()
        bias = norm != "batch"
        self.net = nn.Sequential(
            nn.Conv2d(inputs, width, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 1, bias=bias),
            normalised(2 * width, norm),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 1, 1, bias=bias),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class MultiScalePatchGAN(nn.Module):
    """Pictures (B, inputs, H, W) -> logits of every scale; each scale sees half the picture of the one before."""

    def __init__(
        self, inputs: int = 3, width: int = 64, layers: int = 3, norm: Norm = "instance", scales: int = 2
    ) -> None:
        super().__init__()
        self.scales = scales
        for scale in range(scales):
            name = f"model_{scale}" if scales > 1 else "model"
            self.add_module(name, patch_layers(inputs, round(width / 2**scale), layers, norm, bias=True))

    def forward(self, x: Tensor) -> list[Tensor]:
        found = []
        for network in self.children():
            found.append(network(x))
            x = F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)
        return found
