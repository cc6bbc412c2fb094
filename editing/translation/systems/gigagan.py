"""GigaGAN: pictures from sentences (Kang et al., arXiv 2303.05511, sections 3.3 and 3.4).

The non-saturating logistic loss, the mean of the discriminator's predictions of all sizes and depths; the same with a
sentence of another picture, which counts as fake for real and drawn pictures alike, in the updates of both networks
(matching-aware); R1 on real pictures every 16 steps; AdamW, which shrinks attention's weights alone; a running mean of
the generator, which draws.  With `vision` a second discriminator looks at features of a frozen EfficientNet-Lite0,
where the paper has CLIP's (they are not to be had here); it begins late, as in Vision-aided GANs (Kumari et al., arXiv
2112.09130).  CLIP's contrastive loss is left out for the same reason.

PUBLISHED says what the paper trains with.  A run of `fit` takes its batch and width from the options instead, and
`small` networks: the paper's sizes are `PAPER` in `networks.gigagan`.  Like StyleGAN2-ADA's, the running mean covers a
twentieth of what was seen as long as that is less than the published one does.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from editing.translation import captioned, data
from editing.translation.networks.gigagan import (
    GigaGANDiscriminator,
    GigaGANGenerator,
    VisionHeads,
    discriminator,
    generator,
)
from editing.translation.systems.base import Batch, Settings, System
from encoders import efficientnet, sentence
from encoders.batches import epoch_order
from encoders.losses import perceptual
from stylegan2 import zoo
from stylegan2.errors import UsageError

PUBLISHED = {"batch": 512, "steps": 1_350_000, "rate": 2.5e-3, "betas": (0.0, 0.99), "decay": 0.01, "mean": 0.9999}
RECENT = 0.05  # of what was seen: the running mean of a short run
SIZES = (16, 256)  # of `small` networks
WORDS, KEPT = 32, 40_000  # tokens of a sentence that are read; sentences whose tokens are kept in memory


@dataclass(eq=False)
class Worded:
    """Captioned pictures as GigaGAN sees them: the middle of each, one of its captions a visit, as tokens."""

    pictures: captioned.Captioned
    b: None = None
    names: Sequence[str] = ()
    known: dict[str, Tensor] = field(default_factory=dict)

    @property
    def a(self) -> data.Pictures:
        return self.pictures.a

    def __len__(self) -> int:
        return len(self.pictures)

    def batch(self, number: int, count: int, size: int, seed: int) -> dict[str, Tensor]:
        """Batch `number` of a training, always the same: a (B, 3, size, size) in [-1, 1], mirrored every second time
        unless a caption speaks of sides, hidden (B, WORDS, 384), mask (B, WORDS)."""
        found, texts = [], []
        for place in epoch_order(len(self), count, number, seed):
            rng, captions = np.random.default_rng((seed, number, int(place))), self.pictures.captions[int(place)]
            mirror = not any(captioned.SIDE.search(text) for text in captions)
            found += data.cut([data.square(self.a[int(place)])], size, rng, by=1, mirror=mirror)
            texts.append(captions[int(rng.integers(len(captions)))])
        hidden, mask = self.tokens(texts)
        return {"a": torch.stack(found), "hidden": hidden, "mask": mask}

    def tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """-> hidden (B, WORDS, 384), mask (B, WORDS); computed once for a sentence, as long as there is room."""
        new = sorted({text for text in texts if text not in self.known})
        if len(self.known) + len(new) > KEPT:
            self.known, new = {}, sorted(set(texts))
        if new:
            hidden, mask = sentence.load().tokens(new)
            self.known |= {text: h[m][:WORDS].half() for text, h, m in zip(new, hidden, mask, strict=True)}
        return padded([self.known[text].float() for text in texts])


def padded(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Tokens (L, C) of sentences -> hidden (B, WORDS, C), mask (B, WORDS)"""
    hidden = torch.stack([F.pad(row[:WORDS], (0, 0, 0, max(0, WORDS - len(row)))) for row in rows])
    return hidden, torch.arange(WORDS) < torch.tensor([len(row) for row in rows])[:, None]


def scored(logits: Sequence[Tensor], real: bool) -> Tensor:
    """Mean of log(1 + exp(-+ logit)): over places, pictures, and then over all predictions."""
    losses = [F.softplus(-one if real else one) for one in logits]
    return sum(loss.mean() * j for j, loss in enumerate(losses, 1)) / sum(range(1, len(losses) + 1))


def halves(logits: Sequence[Tensor], batch: int) -> tuple[list[Tensor], list[Tensor]]:
    """Logits of pictures that entered as (real, drawn) at every level -> the real ones', the drawn ones'."""
    parts = [one.unflatten(0, (-1, 2, batch)) for one in logits]
    return [one[:, 0] for one in parts], [one[:, 1] for one in parts]


class GigaGAN(System):
    data = "captions"
    images, batch = PUBLISHED["batch"] * PUBLISHED["steps"], PUBLISHED["batch"]
    learning_rate, betas = PUBLISHED["rate"], PUBLISHED["betas"]
    losses = ("D_real", "D_fake", "D_match", "D_r1", "G_gan", "G_match", "V_D", "V_G")
    least, whole = SIZES[0], 2
    match, r1, every = 1.0, 0.2, 16
    vision = 0.5  # weight of the vision-aided part; without it nothing has to be fetched
    warm = 500_000  # pictures before it begins: at first nothing that is drawn could stand it
    looking = False  # whether it has begun

    @classmethod
    def source(cls, a: Path, b: Path | None = None, labels: Path | None = None) -> Worded:
        if b is not None:
            raise UsageError("GigaGAN learns from one folder of pictures and their captions: leave --b out.")
        return Worded(captioned.opened(a, labels))

    @classmethod
    def check(cls, name: str, settings: Settings) -> None:
        super().check(name, settings)
        if settings.size > SIZES[1]:
            raise UsageError(f"{name} is trained at up to {SIZES[1]} pixels here, not {settings.size}.")
        if (settings.batch or cls.batch) < 2:
            raise UsageError(f"{name} takes batches of 2 pictures or more: others' sentences count as wrong ones.")
        if cls.vision:
            zoo.path("efficientnet-lite0")

    def __init__(self, settings: Settings, domains: int = 0) -> None:
        super().__init__(settings, domains)
        rate = settings.rate or self.learning_rate
        for names in self.groups():
            parameters = [item for name in names for item in self.networks[name].named_parameters()]
            attention = [p for name, p in parameters if ".attention." in name]
            others = [p for name, p in parameters if ".attention." not in name]
            groups = [
                {"params": attention, "weight_decay": PUBLISHED["decay"]},
                {"params": others, "weight_decay": 0.0},
            ]
            self.adams["+".join(names)] = torch.optim.AdamW([g for g in groups if g["params"]], rate, self.betas)

    def make(self, domains: int) -> dict[str, nn.Module]:
        s = self.settings
        torch.manual_seed(s.seed)
        g = GigaGANGenerator(**generator.small(s.size, s.width))
        networks: dict[str, nn.Module] = {"G": g, "G_mean": copy.deepcopy(g).requires_grad_(False)}
        networks["D"] = GigaGANDiscriminator(**discriminator.small(s.size, s.width))
        if self.vision:
            networks["V"] = VisionHeads([efficientnet.WIDTHS[tap] for tap in perceptual.TAPS[1:]], s.width)
        return networks

    def groups(self) -> list[tuple[str, ...]]:
        return [("G",), ("D", "V")] if self.vision else [("G",), ("D",)]

    def step(self, batch: Batch, rate: float, rng: np.random.Generator) -> dict[str, float]:
        real, hidden, mask = batch["a"], batch["hidden"], batch["mask"]
        g, names = self.networks["G"], self.groups()[1]
        self.looking = bool(self.vision) and self.steps * len(real) >= self.warm
        shift = int(rng.integers(1, len(real)))  # whose sentence is the wrong one
        z = torch.from_numpy(rng.standard_normal((len(real), g.z_dim), np.float32)).to(real)
        drawn = g(z, hidden, mask)
        shown = generator.pyramid(real, len(drawn))
        self.judges(True, names)
        losses = self.discriminated(shown, [one.detach() for one in drawn], hidden, mask, shift)
        total = losses["D_real"] + losses["D_fake"] + self.match * losses["D_match"]
        if self.looking:
            total = total + self.vision * losses["V_D"]
        if self.steps % self.every == 0:
            losses["D_r1"] = self.steepness(shown, hidden, mask)
            total = total + self.r1 / 2 * self.every * losses["D_r1"]
        self.descend("+".join(names), total, 1.0)
        self.judges(False, names)
        losses |= self.generated(drawn, hidden, mask, shift)
        total = losses["G_gan"] + self.match * losses["G_match"]
        if self.looking:
            total = total + self.vision * losses["V_G"]
        self.descend("G", total, 1.0)
        self.steps += 1
        self.average()
        return {name: loss.item() for name, loss in losses.items()}

    def discriminated(
        self, shown: list[Tensor], drawn: list[Tensor], hidden: Tensor, mask: Tensor, shift: int
    ) -> dict[str, Tensor]:
        """The discriminators' losses: real pictures with their sentences are real, anything else is fake."""
        d, batch = self.networks["D"], len(hidden)
        token = d.text(hidden, mask)[1]
        right, wrong = (t.repeat(2, 1) for t in (token, token.roll(shift, 0)))
        both = [torch.cat(pair) for pair in zip(shown, drawn, strict=True)]
        seen = d.seen(both)
        (real, fake), (real_wrong, fake_wrong) = (halves(d.judged(seen, t), batch) for t in (right, wrong))
        losses = {"D_real": scored(real, True), "D_fake": scored(fake, False)}
        losses["D_match"] = scored(real_wrong, False) + scored(fake_wrong, False)
        if self.looking:
            v = self.networks["V"]
            seen = v.seen(self.features(both[0]))
            (real, fake), (real_wrong, fake_wrong) = (halves(v.judged(seen, t), batch) for t in (right, wrong))
            losses["V_D"] = level(real, True) + level(fake, False)
            losses["V_D"] = losses["V_D"] + self.match * (level(real_wrong, False) + level(fake_wrong, False))
        return losses

    def generated(self, drawn: list[Tensor], hidden: Tensor, mask: Tensor, shift: int) -> dict[str, Tensor]:
        """The generator's: real with the sentence it was drawn from, fake with another."""
        d = self.networks["D"]
        token = d.text(hidden, mask)[1]
        seen, wrong = d.seen(drawn), token.roll(shift, 0)
        losses = {"G_gan": scored(d.judged(seen, token), True), "G_match": scored(d.judged(seen, wrong), False)}
        if self.looking:
            v = self.networks["V"]
            seen = v.seen(self.features(drawn[0]))
            losses["V_G"] = level(v.judged(seen, token), True) + self.match * level(v.judged(seen, wrong), False)
        return losses

    def steepness(self, shown: list[Tensor], hidden: Tensor, mask: Tensor) -> Tensor:
        """R1: the squared slope of the mean prediction at real pictures, summed over their places of all sizes."""
        shown = [one.detach().requires_grad_() for one in shown]
        logits = self.networks["D"](shown, hidden, mask)
        count = sum(range(1, len(logits) + 1))
        total = sum(one.mean((1, 2, 3)).sum() for one in logits) / count
        slopes = torch.autograd.grad(total, shown, create_graph=True)
        return sum(slope.square().sum() for slope in slopes) / len(hidden)

    def features(self, pictures: Tensor) -> list[Tensor]:
        """Of the frozen network, of the depths that VisionHeads look at: strides 4, 8 and 16."""
        if self.eyes is None:
            self.eyes = efficientnet.from_state(load_file(zoo.path("efficientnet-lite0"))).to(pictures.device)
        return perceptual.features(self.eyes, pictures)[1:]

    @torch.no_grad()
    def average(self) -> None:
        """The running mean goes on by one step."""
        recent = max(1.0, RECENT * self.steps)  # steps that have a half of the weight
        kept = min(PUBLISHED["mean"], 0.5 ** (1 / recent))
        for mean, now in zip(self.networks["G_mean"].parameters(), self.networks["G"].parameters(), strict=True):
            mean.lerp_(now, 1 - kept)

    def rows(self, batch: Batch) -> list[Tensor]:
        g, hidden, mask = self.networks["G_mean"], batch["hidden"], batch["mask"]
        rng = np.random.default_rng(0)
        noise = [torch.from_numpy(rng.standard_normal((1, g.z_dim), np.float32)).to(hidden) for _ in range(4)]
        return [batch["a"], *(g(z.expand(len(hidden), -1), hidden, mask)[0].clamp(-1, 1) for z in noise)]


def level(logits: Sequence[Tensor], real: bool) -> Tensor:
    """`scored`, where every depth has one prediction."""
    return sum(F.softplus(-one if real else one).mean() for one in logits) / len(logits)
