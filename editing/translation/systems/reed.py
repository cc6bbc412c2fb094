"""GAN-CLS, GAN-INT and GAN-INT-CLS: pictures from sentences (Reed et al., arXiv 1605.05396, sections 4.2 and 4.3).

    L_D = BCE(D(x, t), 1) + c BCE(D(x_wrong, t), 0) + (1 - c) BCE(D(G(z, t), t), 0)        c = 0.5 with CLS, else 0
    L_G = mean of BCE(D(G(z, t'), t'), 1) over t' = all texts and, with INT, (t_i + t_j) / 2 of half as many pairs

Real, wrong and generated pictures go through D one after the other, each with statistics of its own.  Only G sees
interpolated texts.  Biases of convolutions are set to 0 before every step, as in the authors' scripts; weights of
convolutions begin as N(0, 0.02), scales of norms as N(1, 0.02), linear layers as PyTorch has them.  Rates are halved at
every sixth of the training (every 100 of 600 epochs, as for birds and flowers).

A wrong picture of the authors is one of another class; captioned pictures have none, so that it is one with other
captions (`captioned`).  The authors show each picture four times in a batch, cropped anew; here a batch is as many
pictures.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from editing.translation import captioned
from editing.translation.captioned import Captioned
from editing.translation.losses import adversarial
from editing.translation.networks import ReedDiscriminator, ReedGenerator
from editing.translation.networks.reed import SIZE
from editing.translation.systems.base import Batch, Settings, System
from encoders import sentence
from stylegan2.errors import UsageError

PARTS = 6  # of a training, each at half the rate of the one before
SAMPLES = 5  # columns of a grid


def initialised(network: nn.Module, seed: int) -> nn.Module:
    """Convolutions N(0, 0.02), scales of norms N(1, 0.02), their biases and shifts 0.  Returns the network."""
    rng = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0, 0.02, generator=rng)
        elif isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            nn.init.normal_(module.weight, 1, 0.02, generator=rng)
    return unbiased(network)


@torch.no_grad()
def unbiased(network: nn.Module) -> nn.Module:
    """With biases of convolutions 0.  Returns the network."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.bias.zero_()
    return network


def with_midpoints(text: Tensor) -> Tensor:
    """Embeddings (B, C) -> (B + B // 2, C): those, and the middle of each of the first half and one of the second."""
    half = len(text) // 2
    return torch.cat([text, (text[:half] + text[half : 2 * half]) / 2])


class PlainGAN(System):
    """Without both: D judges a picture and its text together, but sees no wrong pair.  The others set the switches."""

    data = "captions"
    images, batch, betas = 5_300_000, 64, (0.5, 0.999)  # 600 times the 8,855 birds that the authors trained on
    losses = ("D_real", "D_wrong", "D_fake", "G")
    wrong, interpolated = 0.0, False  # c of the module's formula, and INT
    text_dim = sentence.WIDTH

    @classmethod
    def source(cls, a: Path, b: Path | None = None, labels: Path | None = None) -> Captioned:
        if b is not None:
            raise UsageError("Captioned pictures are one folder: leave --b out.")
        return captioned.opened(a, labels)

    @classmethod
    def check(cls, name: str, settings: Settings) -> None:
        if settings.size != SIZE:
            raise UsageError(f"{name} is trained at {SIZE} pixels, not {settings.size}: --size {SIZE}.")
        if (settings.batch or cls.batch) < 2:
            raise UsageError(f"{name} takes batches of 2 pictures or more, not {settings.batch}.")

    def make(self, domains: int) -> dict[str, nn.Module]:
        s = self.settings
        torch.manual_seed(s.seed)  # linear layers
        networks = {"G": ReedGenerator(2 * s.width, self.text_dim), "D": ReedDiscriminator(s.width, self.text_dim)}
        return {name: initialised(network, s.seed + i) for i, (name, network) in enumerate(networks.items())}

    def begin(self, source: Captioned, out: Path) -> None:
        source.embedded(out / captioned.CACHE)

    def schedule(self, seen: int, images: int) -> float:
        return 0.5 ** (PARTS * seen // images)

    def step(self, batch: Batch, rate: float, rng: np.random.Generator) -> dict[str, float]:
        real, text = batch["a"], batch["text"]
        g, d = self.networks["G"], self.networks["D"]
        self.cleared()
        self.judges(True, ["D"])
        with torch.no_grad():
            fake = g(self.noise(text, rng), text)
        losses = {"D_real": adversarial(d(real, text), True, "vanilla")}
        if self.wrong:
            losses["D_wrong"] = adversarial(d(batch["wrong"], text), False, "vanilla")
        losses["D_fake"] = adversarial(d(fake, text), False, "vanilla")
        apart = self.wrong * losses.get("D_wrong", 0.0) + (1 - self.wrong) * losses["D_fake"]
        self.descend("D", losses["D_real"] + apart, rate)
        self.cleared()
        self.judges(False, ["D"])
        texts = with_midpoints(text) if self.interpolated else text
        losses["G"] = adversarial(d(g(self.noise(texts, rng), texts), texts), True, "vanilla")
        self.descend("G", losses["G"], rate)
        return {name: loss.item() for name, loss in losses.items()}

    def cleared(self) -> None:
        for network in self.networks.values():
            unbiased(network)

    def noise(self, text: Tensor, rng: np.random.Generator) -> Tensor:
        return torch.from_numpy(rng.standard_normal((len(text), self.networks["G"].nz), np.float32)).to(text)

    def rows(self, batch: Batch) -> list[Tensor]:
        """The picture that the text belongs to, and what is drawn from it."""
        text, found = batch["text"], [batch["a"]]
        for sample in range(SAMPLES):
            z = self.noise(text[:1], np.random.default_rng(sample))
            found.append(self.networks["G"](z.expand(len(text), -1), text))
        return found


class GANCLS(PlainGAN):
    wrong = 0.5


class GANINT(PlainGAN):
    interpolated = True


class GANINTCLS(GANCLS, GANINT):
    """Both."""
