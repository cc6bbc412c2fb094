"""SPADE with a style encoder, which is GauGAN, and without: losses, order of updates (Park et al., arXiv 1903.07291).

Losses are pix2pixHD's with the hinge (section 3, appendix A): adversarial at two scales, feature matching * 10, a
perceptual term * 10, and with a style the KL divergence of its codes * 0.05.  The generator moves at half the rate, the
discriminator at twice (TTUR, arXiv 1706.08500).  The published perceptual term compares VGG19's features, which are not
to be had here: ours is the distance of `encoders.losses.perceptual` (EfficientNet-Lite0), of another scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from editing.translation import maps
from editing.translation.networks import SPADEDiscriminator, SPADEGenerator, StyleEncoder
from editing.translation.networks.spade import CODE, UPSAMPLINGS, SpectralConv2d, upsampling_of
from editing.translation.systems.base import Batch, Settings, System
from stylegan2 import zoo
from stylegan2.errors import UsageError

GAIN = 0.02
Scales = Sequence[Sequence[Tensor]]


def hinge(scales: Scales, real: bool) -> Tensor:
    """Mean over the scales, for the discriminator: logits (the last features of each) above 1, or below -1."""
    sign = 1 if real else -1
    return torch.stack([F.relu(1 - sign * features[-1]).mean() for features in scales]).mean()


def matched(fake: Scales, real: Scales) -> Tensor:
    """Feature matching: mean absolute difference, summed over all layers but the logits, mean over the scales."""
    pairs = [zip(a[:-1], b[:-1], strict=True) for a, b in zip(fake, real, strict=True)]
    return sum(F.l1_loss(a, b.detach()) for scale in pairs for a, b in scale) / len(fake)


def diverging(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL divergence of the codes' distributions from N(0, 1), summed over numbers and pictures."""
    return -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum()


def initialised(network: nn.Module, seed: int) -> nn.Module:
    """Weights from Xavier's normal distribution with the family's gain, biases 0.  Returns the network."""
    rng = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, SpectralConv2d | nn.Conv2d | nn.Linear):
            weight = module.weight_orig if isinstance(module, SpectralConv2d) else module.weight
            nn.init.xavier_normal_(weight.data, GAIN, generator=rng)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network


class SpadePlain(System):
    """A map has one picture, as in the published files: networks G and D."""

    data, style = "maps", False
    batch, betas = 16, (0.0, 0.9)
    least, whole = 64, 32
    losses = ("G_gan", "G_feat", "G_perc", "D_real", "D_fake")
    matching, perceptual, divergence = 10.0, 10.0, 0.05  # weights; without a perceptual term nothing has to be fetched
    paces = {"G": 0.5, "G+E": 0.5, "D": 2.0}  # of the rate

    @classmethod
    def source(cls, a: Path, b: Path | None = None, labels: Path | None = None) -> maps.Source:
        """labels: a folder of instance maps."""
        return maps.opened(a, b, labels)

    @classmethod
    def check(cls, name: str, settings: Settings) -> None:
        super().check(name, settings)
        if cls.perceptual:
            zoo.path("efficientnet-lite0")

    def make(self, domains: int) -> dict[str, nn.Module]:
        s, upsampling = self.settings, upsampling_of(domains)
        step = 2 ** UPSAMPLINGS[upsampling]
        if s.size % step:
            raise UsageError(
                f"With {domains} channels, as Cityscapes has, the size is a multiple of {step}: --size 256"
            )
        if s.size == step and (s.batch or self.batch) < 2:  # the first norm sees one pixel
            raise UsageError(f"At {step} pixels the network begins with one: --batch 2 or more, or a larger --size")
        torch.manual_seed(s.seed)  # the first vectors of spectral norms
        code = (CODE, (s.size // step, s.size // step)) if self.style else (0,)
        networks = {"G": SPADEGenerator(domains, s.width, upsampling, *code)}
        networks["D"] = SPADEDiscriminator(domains + 3, s.width)
        if self.style:
            networks["E"] = StyleEncoder(s.width)
        return {name: initialised(network, s.seed + i) for i, (name, network) in enumerate(networks.items())}

    def groups(self) -> list[tuple[str, ...]]:
        return [("G", "E") if self.style else ("G",), ("D",)]

    def descend(self, names: str, loss: Tensor, rate: float) -> None:
        super().descend(names, loss, self.paces[names] * rate)

    def judged(self, a: Tensor, fake: Tensor, real: Tensor) -> tuple[Scales, Scales]:
        """What the discriminator makes of both in one pass: (fake's features, real's)."""
        found = self.networks["D"](torch.cat([torch.cat([a, fake], 1), torch.cat([a, real], 1)]))
        split = [[feature.chunk(2) for feature in scale] for scale in found]
        return tuple([[halves[side] for halves in scale] for scale in split] for side in (0, 1))

    def step(self, batch: Batch, rate: float, rng: np.random.Generator) -> dict[str, float]:
        a, b = batch["a"], batch["b"]
        losses: dict[str, Tensor] = {}
        if self.style:
            mean, log_variance = self.networks["E"](b)
            noise = torch.from_numpy(rng.standard_normal(mean.shape, np.float32)).to(a)
            fake = self.networks["G"](a, mean + (log_variance / 2).exp() * noise)
            losses["kl"] = diverging(mean, log_variance)
        else:
            fake = self.networks["G"](a)
        self.judges(False, ["D"])
        seen, wanted = self.judged(a, fake, b)
        losses["G_gan"] = -torch.stack([features[-1].mean() for features in seen]).mean()
        losses["G_feat"] = matched(seen, wanted)
        total = losses["G_gan"] + self.matching * losses["G_feat"]
        if self.perceptual:
            losses["G_perc"] = self.looks(fake, b)
            total = total + self.perceptual * losses["G_perc"]
        if self.style:
            total = total + self.divergence * losses["kl"]
        self.descend("+".join(self.groups()[0]), total, rate)
        self.judges(True, ["D"])
        seen, wanted = self.judged(a, fake.detach(), b)
        losses |= {"D_real": hinge(wanted, True), "D_fake": hinge(seen, False)}
        self.descend("D", losses["D_real"] + losses["D_fake"], rate)
        return {name: loss.item() for name, loss in losses.items()}

    def rows(self, batch: Batch) -> list[Tensor]:
        return [maps.painted(batch["a"]), self.networks["G"](batch["a"]), batch["b"]]


class Spade(SpadePlain):
    """A map has a picture for every code, and an encoder reads the code of a picture: networks G, D and E."""

    style = True
    losses = ("G_gan", "G_feat", "G_perc", "kl", "D_real", "D_fake")

    def rows(self, batch: Batch) -> list[Tensor]:
        """The map, its picture with the photo's own style, two of random styles, and the photo."""
        a, b = batch["a"], batch["b"]
        codes = [torch.from_numpy(z).to(a) for z in np.random.default_rng(0).standard_normal((2, 1, CODE), np.float32)]
        g = self.networks["G"]
        return [maps.painted(a), g(a, self.networks["E"](b)[0]), *(g(a, z.expand(len(a), -1)) for z in codes), b]
