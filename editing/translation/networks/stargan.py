"""StarGAN: one generator for all domains, a discriminator that also names the domain (Choi et al., arXiv 1711.09020).

The target label stands beside the picture as constant planes.  Borders are padded with zeros, on purpose: an instance
norm removes a constant, and what is left of a label plane is what the border made of it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from editing.translation.networks.norms import TrackedInstanceNorm


class LabelledBlock(nn.Module):
    """x (B, C, H, W) -> x + conv(relu(conv(x)))"""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            TrackedInstanceNorm(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            TrackedInstanceNorm(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.main(x)


class StarGANGenerator(nn.Module):
    """Pictures (B, 3, H, W), labels (B, domains) of 0 and 1 -> pictures in [-1, 1]; H and W multiples of 4."""

    def __init__(self, domains: int = 5, width: int = 64, blocks: int = 6) -> None:
        super().__init__()
        self.size, self.domains = 4, domains
        layers: list[nn.Module] = [nn.Conv2d(3 + domains, width, 7, padding=3, bias=False)]
        layers += [TrackedInstanceNorm(width), nn.ReLU()]
        for channels in (width, 2 * width):
            layers += [nn.Conv2d(channels, 2 * channels, 4, 2, 1, bias=False)]
            layers += [TrackedInstanceNorm(2 * channels), nn.ReLU()]
        layers += [LabelledBlock(4 * width) for _ in range(blocks)]
        for channels in (4 * width, 2 * width):
            layers += [nn.ConvTranspose2d(channels, channels // 2, 4, 2, 1, bias=False)]
            layers += [TrackedInstanceNorm(channels // 2), nn.ReLU()]
        self.main = nn.Sequential(*layers, nn.Conv2d(width, 3, 7, padding=3, bias=False), nn.Tanh())

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        planes = c[:, :, None, None].to(x).expand(-1, -1, *x.shape[2:])
        return self.main(torch.cat([x, planes], 1))


class StarGANDiscriminator(nn.Module):
    """Pictures (B, 3, S, S) -> how real, a logit a patch (B, 1, s, s), and which domains, logits (B, domains).

    size: S, a multiple of 2^layers.
    """

    def __init__(self, size: int = 128, domains: int = 5, width: int = 64, layers: int = 6) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        channels = 3
        for depth in range(layers):
            parts += [nn.Conv2d(channels, width * 2**depth, 4, 2, 1), nn.LeakyReLU(0.01)]
            channels = width * 2**depth
        self.main = nn.Sequential(*parts)
        self.conv1 = nn.Conv2d(channels, 1, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(channels, domains, size // 2**layers, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.main(x)
        return self.conv1(x), self.conv2(x).flatten(1)
