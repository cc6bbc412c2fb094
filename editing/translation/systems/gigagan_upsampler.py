"""GigaGAN's up-sampler (Kang et al., arXiv 2303.05511, section 3.5), as a network of AuraSR's layout without text.

Learns from a folder of pictures: each is made four times smaller (averages of 4x4 places) and gets noise, of a strength
drawn anew for every picture, so that what comes out of other networks is taken too.  Losses: the generator's logistic
one against a discriminator of all sizes (that of `gigagan`, with a sentence that never changes), L1, and a perceptual
one * 10.  The paper's is LPIPS; here it is the distance of `encoders.losses.perceptual` (EfficientNet-Lite0), of
another scale.  The L1 term is an assumption: short runs need it.  AdamW, R1 and the running mean are as in
`gigagan`; there is no vision-aided part, as published.  AuraSR's layers are not equalised, so the generator learns at
2e-4, the rate of the public code that they come from.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from editing.translation import data
from editing.translation.networks.gigagan import AuraUpsampler, GigaGANDiscriminator, discriminator, generator
from editing.translation.systems.base import Batch, Settings, System
from editing.translation.systems.gigagan import GigaGAN, scored
from encoders.batches import epoch_order
from stylegan2 import zoo
from stylegan2.errors import UsageError

SCALE, NOISE = 4, 0.1  # times smaller; the most noise, of pictures in [0, 1]
LEAST, MOST = 32, 256  # pixels of results


@dataclass(eq=False)
class Pictures:
    """Pictures alone, as `data.Source` has them."""

    a: data.Pictures
    b: None = None
    names: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.a)

    def batch(self, number: int, count: int, size: int, seed: int) -> dict[str, Tensor]:
        """Batch `number` of a training, always the same: a (B, 3, size, size) in [-1, 1], cut out anywhere of pictures
        that are larger, and mirrored every second time; noise (B,), how strong, in [0, NOISE]."""
        found, noise = [], []
        for place in epoch_order(len(self), count, number, seed):
            rng = np.random.default_rng((seed, number, int(place)))
            picture = data.square(self.a[int(place)])
            side = max(size, len(picture))
            found += data.cut([picture], size, rng, by=side / size)
            noise.append(rng.uniform(0, NOISE))
        return {"a": torch.stack(found), "noise": torch.tensor(noise, dtype=torch.float32)}


def smaller(pictures: Tensor) -> Tensor:
    """(B, 3, S, S) in [-1, 1] -> (B, 3, S / 4, S / 4) in [0, 1]"""
    return (F.avg_pool2d(pictures, SCALE) + 1) / 2


class GigaGANUpsampler(GigaGAN):
    data = "pictures"
    losses = ("D_real", "D_fake", "D_r1", "G_gan", "G_l1", "G_perceptual")
    least, vision = LEAST, 0.0
    slower = 0.08  # the generator's rate for one of the discriminator's
    l1, perceptual = 10.0, 10.0  # without the last nothing has to be fetched

    @classmethod
    def source(cls, a: Path, b: Path | None = None, labels: Path | None = None) -> Pictures:
        if b is not None or labels is not None:
            raise UsageError("GigaGAN's up-sampler learns from one folder of pictures: leave --b and --labels out.")
        return Pictures(data.Shards(a, "a") if (a / "facts.json").exists() else data.Files(a))

    @classmethod
    def check(cls, name: str, settings: Settings) -> None:
        System.check.__func__(cls, name, settings)
        if settings.size > MOST:
            raise UsageError(f"{name} is trained at up to {MOST} pixels, not {settings.size}: results are tiles.")
        if cls.perceptual:
            zoo.path("efficientnet-lite0")

    def make(self, domains: int) -> dict[str, nn.Module]:
        s = self.settings
        torch.manual_seed(s.seed)
        g = AuraUpsampler(max(4, s.width // 4), blocks=1, heads=1, w_dim=2 * s.width, middle=1, depths=(0, 0, 0, 1, 1))
        d = discriminator.small(s.size, s.width) | {"features": 1, "text_depth": 0}
        networks: dict[str, nn.Module] = {"G": g, "G_mean": copy.deepcopy(g).requires_grad_(False)}
        return networks | {"D": GigaGANDiscriminator(**d)}

    def groups(self) -> list[tuple[str, ...]]:
        return [("G",), ("D",)]

    def step(self, batch: Batch, rate: float, rng: np.random.Generator) -> dict[str, float]:
        real, g, d = batch["a"], self.networks["G"], self.networks["D"]
        drawn = g(self.seen(batch, rng), self.noise(rng, real)) * 2 - 1
        levels, silence = d.depth, nothing(real)
        self.judges(True, ["D"])
        shown = generator.pyramid(real, levels)
        losses = {"D_real": scored(d(shown, *silence), True)}
        losses["D_fake"] = scored(d(generator.pyramid(drawn.detach(), levels), *silence), False)
        total = losses["D_real"] + losses["D_fake"]
        if self.steps % self.every == 0:
            losses["D_r1"] = self.steepness(shown, *silence)
            total = total + self.r1 / 2 * self.every * losses["D_r1"]
        self.descend("D", total, 1.0)
        self.judges(False, ["D"])
        losses["G_gan"] = scored(d(generator.pyramid(drawn, levels), *silence), True)
        losses["G_l1"] = F.l1_loss(drawn, real)
        total = losses["G_gan"] + self.l1 * losses["G_l1"]
        if self.perceptual:
            losses["G_perceptual"] = self.looks(drawn, real)
            total = total + self.perceptual * losses["G_perceptual"]
        self.descend("G", total, self.slower)
        self.steps += 1
        self.average()
        return {name: loss.item() for name, loss in losses.items()}

    def seen(self, batch: Batch, rng: np.random.Generator) -> Tensor:
        """Small pictures with noise, (B, 3, S / 4, S / 4) in [0, 1]"""
        x = smaller(batch["a"])
        noise = torch.from_numpy(rng.standard_normal(tuple(x.shape), np.float32)).to(x)
        return (x + batch["noise"].view(-1, 1, 1, 1) * noise).clamp(0, 1)

    def noise(self, rng: np.random.Generator, like: Tensor) -> Tensor:
        z_dim = self.networks["G"].z_dim
        return torch.from_numpy(rng.standard_normal((len(like), z_dim), np.float32)).to(like)

    def rows(self, batch: Batch) -> list[Tensor]:
        """What goes in, enlarged without a network; what comes out; what it should be."""
        rng = np.random.default_rng(0)
        x = self.seen(batch, rng)
        drawn = self.networks["G_mean"](x, self.noise(rng, x)) * 2 - 1
        return [
            F.interpolate(x * 2 - 1, scale_factor=SCALE, mode="bicubic").clamp(-1, 1),
            drawn.clamp(-1, 1),
            batch["a"],
        ]


def nothing(like: Tensor) -> tuple[Tensor, Tensor]:
    """The sentence of every picture: one token of zeros."""
    return like.new_zeros(len(like), 1, 1), torch.ones(len(like), 1, dtype=torch.bool, device=like.device)
