"""GAN-CLS, GAN-INT and GAN-INT-CLS (Reed et al., ICML 2016, arXiv 1605.05396, section 4): 64-pixel pictures from the
embedding of a sentence, phi(t), and noise.

`ReedGenerator` and `ReedDiscriminator` are those of the authors' scripts main_cls_int and main_cls, whose files are
Torch7's and have no names (`editing.translation.torch7` reads them).  `ReedPort...` are the plain DCGANs of the PyTorch
port whose files are `gen_200.pth` and `disc_200.pth`, with its names.  They differ in the order in which noise and text
are joined, too.  Discriminators give logits, of which the published ones take the sigmoid.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

SIZE, START = 64, 4  # pixels of a picture, and cells that it begins and ends with
SLOPE = 0.2


class Residual(nn.Module):
    """x plus what three convolutions make of it; what comes after, an activation, is not part of it."""

    def __init__(self, channels: int, inner: int, activation: nn.Module) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(channels, inner, 1), nn.BatchNorm2d(inner), activation,
            nn.Conv2d(inner, inner, 3, padding=1), nn.BatchNorm2d(inner), activation,
            nn.Conv2d(inner, channels, 3, padding=1), nn.BatchNorm2d(channels),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


class ReedGenerator(nn.Module):
    """Noise (B, nz) and embeddings (B, text_dim) -> pictures (B, 3, 64, 64), RGB in [-1, 1].

    width: channels of the last picture but one (ngf).  nt: numbers that an embedding is reduced to; main_cls has 256 of
    them where nothing else is said.  large: residuals twice, which main_cls has for COCO, with width 196.
    """

    size = SIZE

    def __init__(self, width: int = 128, text_dim: int = 1024, nt: int = 128, nz: int = 100, large: bool = False):
        super().__init__()
        self.width, self.text_dim, self.nz = width, text_dim, nz
        self.text = nn.Sequential(nn.Linear(text_dim, nt), nn.LeakyReLU(SLOPE))

        def residuals(channels: int, inner: int) -> list[nn.Module]:
            return [Residual(channels, inner, nn.ReLU()) for _ in range(2 if large else 1)]

        self.draw = nn.Sequential(
            nn.ConvTranspose2d(nz + nt, 8 * width, START), nn.BatchNorm2d(8 * width),  # no activation
            *residuals(8 * width, 2 * width), nn.ReLU(),
            nn.ConvTranspose2d(8 * width, 4 * width, 4, 2, 1), nn.BatchNorm2d(4 * width),
            *residuals(4 * width, width), nn.ReLU(),
            nn.ConvTranspose2d(4 * width, 2 * width, 4, 2, 1), nn.BatchNorm2d(2 * width), nn.ReLU(),
            nn.ConvTranspose2d(2 * width, width, 4, 2, 1), nn.BatchNorm2d(width), nn.ReLU(),
            nn.ConvTranspose2d(width, 3, 4, 2, 1), nn.Tanh(),
        )  # fmt: skip

    def forward(self, z: Tensor, text: Tensor) -> Tensor:
        return self.draw(torch.cat([z, self.text(text)], 1)[..., None, None])


class ReedDiscriminator(nn.Module):
    """Pictures (B, 3, 64, 64) and embeddings (B, text_dim) -> how real, and how well they fit, logits (B,).

    width: channels of the first layer (ndf).  plain: as main_cls has it, without the norm of the text and with an
    activation after the third norm, which main_cls_int leaves out.
    """

    size = SIZE

    def __init__(self, width: int = 64, text_dim: int = 1024, nt: int = 128, plain: bool = False) -> None:
        super().__init__()
        self.width, self.text_dim = width, text_dim
        leaky = nn.LeakyReLU(SLOPE)
        self.look = nn.Sequential(
            nn.Conv2d(3, width, 4, 2, 1), leaky,
            nn.Conv2d(width, 2 * width, 4, 2, 1), nn.BatchNorm2d(2 * width), leaky,
            nn.Conv2d(2 * width, 4 * width, 4, 2, 1), nn.BatchNorm2d(4 * width), *([leaky] if plain else []),
            nn.Conv2d(4 * width, 8 * width, 4, 2, 1), nn.BatchNorm2d(8 * width),
            Residual(8 * width, 2 * width, leaky), leaky,
        )  # fmt: skip
        self.text = nn.Sequential(nn.Linear(text_dim, nt), *([] if plain else [nn.BatchNorm1d(nt)]), leaky)
        self.judge = nn.Sequential(
            nn.Conv2d(8 * width + nt, 8 * width, 1), nn.BatchNorm2d(8 * width), leaky,
            nn.Conv2d(8 * width, 1, START),
        )  # fmt: skip

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        return self.judge(joined(self.look(x), self.text(text))).flatten()


class ReedPortGenerator(nn.Module):
    """The port's: noise (B, nz) and embeddings (B, text_dim) -> pictures (B, 3, 64, 64), RGB in [-1, 1]."""

    size = SIZE

    def __init__(self, width: int = 64, text_dim: int = 1024, nt: int = 128, nz: int = 100) -> None:
        super().__init__()
        self.width, self.text_dim, self.nz = width, text_dim, nz
        self.projection = projection(text_dim, nt)
        layers: list[nn.Module] = [nn.ConvTranspose2d(nt + nz, 8 * width, START, bias=False)]
        for channels in (8 * width, 4 * width, 2 * width):
            layers += [nn.BatchNorm2d(channels), nn.ReLU()]
            layers += [nn.ConvTranspose2d(channels, channels // 2, 4, 2, 1, bias=False)]
        layers += [nn.BatchNorm2d(width), nn.ReLU(), nn.ConvTranspose2d(width, 3, 4, 2, 1, bias=False), nn.Tanh()]
        self.netG = nn.Sequential(*layers)

    def forward(self, z: Tensor, text: Tensor) -> Tensor:
        return self.netG(torch.cat([self.projection(text), z], 1)[..., None, None])


class ReedPortDiscriminator(nn.Module):
    """The port's: pictures (B, 3, 64, 64) and embeddings (B, text_dim) -> logits (B,)."""

    size = SIZE

    def __init__(self, width: int = 64, text_dim: int = 1024, nt: int = 128) -> None:
        super().__init__()
        self.width, self.text_dim = width, text_dim
        layers: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, 1, bias=False), nn.LeakyReLU(SLOPE)]
        for channels in (width, 2 * width, 4 * width):
            layers += [nn.Conv2d(channels, 2 * channels, 4, 2, 1, bias=False)]
            layers += [nn.BatchNorm2d(2 * channels), nn.LeakyReLU(SLOPE)]
        self.netD_1 = nn.Sequential(*layers)
        self.projector = nn.ModuleDict({"projection": projection(text_dim, nt)})
        self.netD_2 = nn.Sequential(nn.Conv2d(8 * width + nt, 1, START, bias=False))

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        return self.netD_2(joined(self.netD_1(x), self.projector["projection"](text))).flatten()


def projection(text_dim: int, nt: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(text_dim, nt), nn.BatchNorm1d(nt), nn.LeakyReLU(SLOPE))


def joined(seen: Tensor, text: Tensor) -> Tensor:
    """Features (B, C, 4, 4) and a text's (B, nt), put into every cell -> (B, C + nt, 4, 4)"""
    return torch.cat([seen, text[..., None, None].expand(-1, -1, *seen.shape[2:])], 1)
