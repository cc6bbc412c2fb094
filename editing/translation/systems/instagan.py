"""InstaGAN: sets of instances between two domains, two at a time (Mo, Cho, Shin, arXiv 1812.10889, section 2.2, 2.3).

Least squares, cycle and identity of pictures and masks, and the context-preserving loss: what belongs to no instance,
before or after, stays as it is.  Weights and order of updates are the published code's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from editing.translation.instances import Instances, two_domains
from editing.translation.losses import Pool, adversarial, initialise
from editing.translation.networks.instagan import (
    PER_PASS,
    SetDiscriminator,
    SetGenerator,
    occupied,
    one_after_another,
    united,
)
from editing.translation.systems.base import Batch, System
from stylegan2.errors import UsageError

WAYS = (("a", "b", "G_A", "G_B", "D_A"), ("b", "a", "G_B", "G_A", "D_B"))  # from, to, there, back, judge of `to`


def context_loss(before: Tensor, after: Tensor, masks: Tensor, drawn: Tensor) -> Tensor:
    """Mean change between two pictures (B, 3, H, W) outside of all masks (B, N, H, W) of either, in [-1, 1]."""
    return ((1 - united(torch.cat([masks, drawn], 1))) * (before - after).abs()).mean()


@dataclass
class Way:
    """One direction of a batch between passes; nothing in it keeps a graph.

    picture (B, 3, H, W): as the passes so far left it.  masks (B, N, H, W): of the input.  done: translated masks,
    PER_PASS a pass.
    """

    picture: Tensor
    masks: Tensor
    done: list[Tensor] = field(default_factory=list)

    @property
    def current(self) -> Tensor:
        return self.masks[:, PER_PASS * len(self.done) :][:, :PER_PASS]

    def seen(self, picture: Tensor, drawn: Tensor, rows: Tensor) -> Tensor:
        """What the discriminator sees of some rows: a picture, masks so far and these, -1 for those to come."""
        masks = [*(masks[rows] for masks in self.done), drawn]
        left = self.masks.shape[1] - sum(mask.shape[1] for mask in masks)
        return torch.cat([picture, *masks, drawn.new_full((len(drawn), left, *drawn.shape[2:]), -1)], 1)

    def advance(self, picture: Tensor, drawn: Tensor, rows: Tensor) -> None:
        """What the next pass begins with; other rows stay as they are."""
        self.picture = self.picture.index_copy(0, rows, picture.detach())
        self.done.append(self.current.index_copy(0, rows, drawn.detach()))


class InstaGAN(System):
    """Two set generators, two set discriminators; both learn after every pass of two instances."""

    data, whole = "instances", 4
    losses = ("G_gan", "cycle", "identity", "context", "D_A", "D_B")
    most, blocks = 4, 9
    cycle, identity, context = 10.0, 1.0, 1.0  # the last two: as often as the weight of the cycle

    @classmethod
    def source(cls, a: Path, b: Path | None = None, labels: Path | None = None) -> Instances:
        if labels is not None:
            raise UsageError("InstaGAN finds masks beside the pictures, as NAME.mask0.png: leave --labels out.")
        return two_domains(a, b, cls.most)

    def make(self, domains: int) -> dict[str, nn.Module]:
        s = self.settings
        torch.manual_seed(s.seed)  # PyTorch's own under spectral norms: the published N(0, 0.02) does not reach there
        judges = {name: SetDiscriminator(3, s.width) for name in ("D_A", "D_B")}
        drawing = {name: SetGenerator(3, 3, self.blocks, s.width) for name in ("G_A", "G_B")}
        self.pools = {"a": Pool(50), "b": Pool(50)}
        return {n: initialise(network, "normal", s.seed + i) for i, (n, network) in enumerate(drawing.items())} | judges

    def groups(self) -> list[tuple[str, ...]]:
        return [("G_A", "G_B"), ("D_A", "D_B")]

    def step(self, batch: Batch, rate: float, rng: np.random.Generator) -> dict[str, float]:
        """Once over all instances; losses are means over the passes."""
        ways = {name: Way(batch[name], batch[f"{name}_masks"]) for name in "ab"}
        found: dict[str, list[float]] = defaultdict(list)
        for _ in range(0, self.most, PER_PASS):
            for name, loss in self.one_pass(batch, ways, rate, rng).items():
                found[name].append(loss)
        return {name: float(np.mean(values)) for name, values in found.items()}

    def one_pass(
        self, batch: Batch, ways: Mapping[str, Way], rate: float, rng: np.random.Generator
    ) -> dict[str, float]:
        """The next instances of both ways, generators first; no losses where no picture has any left."""
        networks, losses, fakes = self.networks, defaultdict(list), {}
        self.judges(False, ["D_A", "D_B"])
        for name, _, there, back, judge in WAYS:
            way = ways[name]
            rows = occupied(way.current).any(1).nonzero()[:, 0]
            picture, masks = way.picture[rows], way.current[rows]
            if not len(rows):
                way.advance(picture, masks, rows)
                continue
            real = torch.cat([picture, masks], 1)
            fake = networks[there](real)
            drawn, shapes = fake[:, :3], fake[:, 3:]
            fakes[judge] = way.seen(drawn, shapes, rows)
            losses["G_gan"].append(adversarial(networks[judge](fakes[judge]), True, "lsgan"))
            losses["cycle"].append(F.l1_loss(networks[back](fake), real))
            losses["identity"].append(F.l1_loss(networks[back](real), real))
            losses["context"].append(context_loss(picture, drawn, masks, shapes))
            way.advance(drawn, shapes, rows)
        if not fakes:
            return {}
        totals = {name: sum(values) for name, values in losses.items()}
        kept = self.identity * totals["identity"] + self.context * totals["context"]
        self.descend("G_A+G_B", totals["G_gan"] + self.cycle * (totals["cycle"] + kept), rate)
        self.judges(True, ["D_A", "D_B"])
        for _, target, _, _, judge in WAYS:
            if judge in fakes:
                real = torch.cat([batch[target], batch[f"{target}_masks"]], 1)
                fake = self.pools[target].swap(fakes[judge].detach(), rng)
                right = adversarial(networks[judge](real), True, "lsgan")
                totals[judge] = (right + adversarial(networks[judge](fake), False, "lsgan")) / 2
        self.descend("D_A+D_B", sum(totals[judge] for judge in fakes), rate)
        return {name: loss.item() for name, loss in totals.items()}

    def rows(self, batch: Batch) -> list[Tensor]:
        """Pictures and their united masks, before and after, of both ways."""
        columns = []
        for name, network in (("a", "G_A"), ("b", "G_B")):
            pairs = list(zip(batch[name].split(1), batch[f"{name}_masks"].split(1), strict=True))
            drawn = [one_after_another(self.networks[network], *pair) for pair in pairs]
            for found in (pairs, drawn):
                pictures, masks = (torch.cat(parts) for parts in zip(*found, strict=True))
                columns += [pictures, united(masks).mul(2).sub(1).expand(-1, 3, -1, -1)]
        return columns
