"""RBDN, pix2pix, CycleGAN, BicycleGAN, StarGAN: networks, losses and order of updates, and rows of a picture grid.

pix2pix: arXiv 1611.07004, eq. 4.  CycleGAN: 1703.10593, eq. 1-3 and 5.2.  BicycleGAN: 1711.11586, eq. 1-9.  StarGAN:
1711.09020, eq. 1-8.  RBDN: 1612.03268, section 4.  Defaults are the published ones.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import islice
from math import log2

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from editing.translation.losses import Pool, adversarial, gradient_penalty, initialise
from editing.translation.networks import (
    RBDN,
    BicycleEncoder,
    BicycleGenerator,
    MultiScalePatchGAN,
    PatchGAN,
    ResnetGenerator,
    StarGANDiscriminator,
    StarGANGenerator,
    UnetGenerator,
)
from editing.translation.networks.norms import own_statistics, settle
from editing.translation.systems.base import Batch, System


class Pix2Pix(System):
    """L1 * 100 + a conditional PatchGAN that sees both pictures."""

    weight = 100.0
    whole, losses = 2, ("D_real", "D_fake", "G_gan", "G_l1")

    def make(self, domains: int) -> dict[str, nn.Module]:
        s = self.settings
        networks = {"G": UnetGenerator(3, 3, s.size, s.width), "D": PatchGAN(6, s.width, norm="batch")}
        return {name: initialise(network, "normal", s.seed + i) for i, (name, network) in enumerate(networks.items())}

    def step(self, batch: Batch, rate: float, rng: np.random.Generator) -> dict[str, float]:
        a, b = batch["a"], batch["b"]
        g, d = self.networks["G"], self.networks["D"]
        fake = g(a)
        self.judges(True, ["D"])
        real_loss = adversarial(d(torch.cat([a, b], 1)), True, "vanilla")
        fake_loss = adversarial(d(torch.cat([a, fake.detach()], 1)), False, "vanilla")
        self.descend("D", (real_loss + fake_loss) / 2, rate)
        self.judges(False, ["D"])
        fooled = adversarial(d(torch.cat([a, fake], 1)), True, "vanilla")
        close = F.l1_loss(fake, b)
        self.descend("G", fooled + self.weight * close, rate)
        return {"D_real": real_loss.item(), "D_fake": fake_loss.item(), "G_gan": fooled.item(), "G_l1": close.item()}

    def rows(self, batch: Batch) -> list[Tensor]:
        drawing = own_statistics(copy.deepcopy(self.networks["G"]))
        return [batch["a"], torch.cat([drawing(one) for one in batch["a"].split(1)]), batch["b"]]


class CycleGAN(System):
    """Two generators, two discriminators: least squares, cycle L1 * 10, identity L1 * 5, fakes through a pool of 50."""

    data, losses = "unpaired", ("G_gan", "cycle", "identity", "D_A", "D_B")
    cycle, identity = 10.0, 0.5

    def make(self, domains: int) -> dict[str, nn.Module]:
        s = self.settings
        blocks = 9 if s.size >= 256 else 6
        networks = {name: ResnetGenerator(3, 3, blocks, s.width) for name in ("G_A", "G_B")}
        networks |= {name: PatchGAN(3, s.width) for name in ("D_A", "D_B")}
        self.pools = {"a": Pool(50), "b": Pool(50)}
        return {name: initialise(network, "normal", s.seed + i) for i, (name, network) in enumerate(networks.items())}

    def groups(self) -> list[tuple[str, ...]]:
        return [("G_A", "G_B"), ("D_A", "D_B")]

    def step(self, batch: Batch, rate: float, rng: np.random.Generator) -> dict[str, float]:
        a, b = batch["a"], batch["b"]
        to_b, to_a, judge_b, judge_a = (self.networks[name] for name in ("G_A", "G_B", "D_A", "D_B"))
        fake_b, fake_a = to_b(a), to_a(b)
        self.judges(False, ["D_A", "D_B"])
        fooled = adversarial(judge_b(fake_b), True, "lsgan") + adversarial(judge_a(fake_a), True, "lsgan")
        cycle = F.l1_loss(to_a(fake_b), a) + F.l1_loss(to_b(fake_a), b)
        same = F.l1_loss(to_b(b), b) + F.l1_loss(to_a(a), a)
        self.descend("G_A+G_B", fooled + self.cycle * (cycle + self.identity * same), rate)
        self.judges(True, ["D_A", "D_B"])
        found = []
        for judge, real, fake, pool in ((judge_b, b, fake_b, "b"), (judge_a, a, fake_a, "a")):
            fake = self.pools[pool].swap(fake.detach(), rng)
            found.append((adversarial(judge(real), True, "lsgan") + adversarial(judge(fake), False, "lsgan")) / 2)
        self.descend("D_A+D_B", sum(found), rate)
        losses = {"G_gan": fooled, "cycle": cycle, "identity": same, "D_A": found[0], "D_B": found[1]}
        return {name: loss.item() for name, loss in losses.items()}

    def rows(self, batch: Batch) -> list[Tensor]:
        to_b, to_a = self.networks["G_A"], self.networks["G_B"]
        fake_b, fake_a = to_b(batch["a"]), to_a(batch["b"])
        return [batch["a"], fake_b, to_a(fake_b), batch["b"], fake_a, to_b(fake_a)]


class BicycleGAN(System):
    """cVAE-GAN (code of the answer, back to the answer) and cLR-GAN (random code, read back from the result)."""

    batch, least, whole, even = 2, 128, 2, True
    losses = ("G_gan", "G_l1", "kl", "z_l1", "D", "D2")
    nz, l1, kl, latent = 8, 10.0, 0.01, 0.5

    def make(self, domains: int) -> dict[str, nn.Module]:
        s = self.settings
        networks = {
            "G": BicycleGenerator(3, 3, self.nz, s.size, s.width, dropout=True),
            "E": BicycleEncoder(3, self.nz, s.width, blocks=int(log2(s.size)) - 4),
            "D": MultiScalePatchGAN(3, s.width),
            "D2": MultiScalePatchGAN(3, s.width),
        }
        return {name: initialise(network, "xavier", s.seed + i) for i, (name, network) in enumerate(networks.items())}

    def step(self, batch: Batch, rate: float, rng: np.random.Generator) -> dict[str, float]:
        if len(batch["a"]) % 2:
            raise ValueError("BicycleGAN takes batches of even size: one half has its own answers, one other reals")
        half = len(batch["a"]) // 2
        a, b, other = batch["a"][:half], batch["b"][:half], batch["b"][half:]
        g, e, d, d2 = (self.networks[name] for name in ("G", "E", "D", "D2"))
        random = torch.from_numpy(rng.standard_normal((2, half, self.nz), np.float32)).to(a)
        mean, log_variance = e(b)
        encoded = g(a, mean + (log_variance / 2).exp() * random[0])
        sampled = g(a, random[1])
        self.judges(False, ["D", "D2"])
        fooled = adversarial(d(encoded), True, "lsgan") + adversarial(d2(sampled), True, "lsgan")
        close = F.l1_loss(encoded, b)
        divergence = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum()
        for name in ("G", "E"):
            self.adams[name].zero_grad(set_to_none=True)
        (fooled + self.l1 * close + self.kl * divergence).backward(retain_graph=True)
        self.judges(False, ["E"])  # reading a random code back teaches the generator alone
        read = F.l1_loss(e(sampled)[0], random[1])
        (self.latent * read).backward()
        self.judges(True, ["E", "D", "D2"])
        for name in ("G", "E"):
            for group in self.adams[name].param_groups:
                group["lr"] = rate * (self.settings.rate or self.learning_rate)
            self.adams[name].step()
        found = {}
        for name, judge, real, fake in (("D", d, b, encoded), ("D2", d2, other, sampled)):
            found[name] = adversarial(judge(real), True, "lsgan") + adversarial(judge(fake.detach()), False, "lsgan")
            self.descend(name, found[name], rate)
        losses = {"G_gan": fooled, "G_l1": close, "kl": divergence, "z_l1": read, **found}
        return {name: loss.item() for name, loss in losses.items()}

    def rows(self, batch: Batch) -> list[Tensor]:
        a, b = batch["a"], batch["b"]
        codes = np.random.default_rng(0).standard_normal((4, 1, self.nz))
        samples = [self.networks["G"](a, torch.from_numpy(z).to(a).expand(len(a), -1)) for z in codes]
        return [a, b, self.networks["G"](a, self.networks["E"](b)[0]), *samples]


class StarGAN(System):
    """Wasserstein loss with gradient penalty, domain classification, reconstruction; five critic steps for one."""

    data, whole = "labelled", 32
    images, batch, learning_rate = 3_200_000, 16, 1e-4
    losses = ("D_w", "D_gp", "D_cls", "G_gan", "G_rec", "G_cls")
    reconstruction, penalty, classification, critics = 10.0, 10.0, 1.0, 5

    def make(self, domains: int) -> dict[str, nn.Module]:
        s = self.settings
        torch.manual_seed(s.seed)  # PyTorch's own initialisation, as published
        layers = 6 if s.size % 64 == 0 else 5
        discriminator = StarGANDiscriminator(s.size, domains, s.width, layers)
        return {"G": StarGANGenerator(domains, s.width), "D": discriminator}

    def classified(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits, labels, reduction="sum") / len(labels)

    def step(self, batch: Batch, rate: float, rng: np.random.Generator) -> dict[str, float]:
        x, c = batch["a"], batch["labels"]
        target = c[torch.from_numpy(rng.permutation(len(c)))]
        g, d = self.networks["G"], self.networks["D"]
        self.judges(True, ["D"])
        with torch.no_grad():
            fake = g(x, target)
        real_score, real_domains = d(x)
        share = torch.from_numpy(rng.random(len(x), np.float32)).to(x)
        penalty = gradient_penalty(lambda y: d(y)[0], x, fake, share)
        domains = self.classified(real_domains, c)
        wasserstein = d(fake)[0].mean() - real_score.mean()
        self.descend("D", wasserstein + self.penalty * penalty + self.classification * domains, rate)
        self.steps += 1
        losses = {"D_w": wasserstein, "D_gp": penalty, "D_cls": domains}
        if self.steps % self.critics == 0:
            self.judges(False, ["D"])
            fake = g(x, target)
            score, found = d(fake)
            back = F.l1_loss(g(fake, c), x)
            wrong = self.classified(found, target)
            self.descend("G", -score.mean() + self.reconstruction * back + self.classification * wrong, rate)
            losses |= {"G_gan": -score.mean(), "G_rec": back, "G_cls": wrong}
        return {name: loss.item() for name, loss in losses.items()}

    def rows(self, batch: Batch) -> list[Tensor]:
        flipped = [batch["labels"].clone() for _ in range(batch["labels"].shape[1])]
        for domain, labels in enumerate(flipped):
            labels[:, domain] = 1 - labels[:, domain]
        return [batch["a"], *(self.networks["G"](batch["a"], labels) for labels in flipped)]


class Regression(System):
    """RBDN: the mean squared error and nothing else.  Adam on pictures in [-1, 1]; the paper's SGD rate belongs to sums
    over 0 to 255."""

    batch, learning_rate, betas = 32, 1e-3, (0.9, 0.999)
    least, whole, losses = 16, 16, ("mse",)
    settled = 100  # batches that the statistics of norms are gathered from at the end; the authors took 475 or more

    def make(self, domains: int) -> dict[str, nn.Module]:
        torch.manual_seed(self.settings.seed)
        return {"G": RBDN(width=self.settings.width)}

    def step(self, batch: Batch, rate: float, rng: np.random.Generator) -> dict[str, float]:
        loss = F.mse_loss(self.networks["G"](batch["a"]), batch["b"])
        self.descend("G", loss, rate)
        return {"mse": loss.item()}

    def finished(self, batches: Iterator[Batch]) -> None:
        settle(self.networks["G"], (batch["a"] for batch in islice(batches, self.settled)))

    def rows(self, batch: Batch) -> list[Tensor]:
        return [batch["a"], self.networks["G"](batch["a"]).clamp(-1, 1), batch["b"]]
