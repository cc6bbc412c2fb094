"""Who judges the GigaGAN head while it learns: critics of codes and of features, and readers that know the judges.

Critics are GigaGAN's (arXiv 2303.05511, section 3.4): features of 32, 16 and 8 pixels enter where they fit and are
judged at every later depth, each time with the sentence and without.  Another critic sees the code.  Readers were
taught what the judges say of renders; they are frozen while the head learns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from editing.heads.response import far
from editing.text.giga import PARTS, ROWS, whitened
from editing.text.gigadata import DOORS, Codes
from editing.translation.networks.gigagan.discriminator import GigaGANDiscriminator
from editing.translation.networks.gigagan.kernels import Conv
from editing.translation.networks.gigagan.text import TextTower
from encoders import sentence

GROUPS = ((0, 2), (2, 4), (4, 6), (6, 8), (8, 10), (10, ROWS))  # rows of a code that readers see the means of
CHANNELS = (48, 64, 80)  # of the critic, at 32, 16 and 8 pixels
TOWER, HEAD = 96, 48
CELLS = 8  # of features, a side, that readers see
CODE_PARTS, CODE_NOISE = 48, 0.5  # components of a row that the critic of codes sees, and noise on them
STEPS, BATCH, RATE = {"codes": 2500, "features": 1500}, {"codes": 256, "features": 64}, 1e-3
HELD = 20  # every HELD-th face tells how good readers are


# ---------------------------------------------------------------------------------------- critics


class FeatureCritic(GigaGANDiscriminator):
    """Components of features, 32x32 first, with tokens -> logits of every depth (see `GigaGANDiscriminator`)."""

    def __init__(self) -> None:
        super().__init__(sentence.WIDTH, TOWER, CHANNELS, (0, 0, 0), (0, 1, 0), HEAD, 1)
        self.from_rgb = nn.ModuleList(Conv(PARTS, channels, 1) for channels in CHANNELS)


class CodeCritic(nn.Module):
    """Codes (B, ROWS, CODE_PARTS) in whitened components, tokens -> logits (B,)"""

    def __init__(self, width: int = 256) -> None:
        super().__init__()
        self.text = TextTower(sentence.WIDTH, TOWER, 1)
        norm = nn.utils.parametrizations.spectral_norm
        self.body = nn.Sequential(
            norm(nn.Linear(ROWS * CODE_PARTS, width)), nn.LeakyReLU(0.2),
            norm(nn.Linear(width, width)), nn.LeakyReLU(0.2),
        )  # fmt: skip
        self.plain, self.said = nn.Linear(width, 1), nn.Linear(TOWER, width)

    def seen(self, u: Tensor) -> Tensor:
        return self.body((u + CODE_NOISE * torch.randn_like(u)).flatten(1))

    def judged(self, seen: Tensor, token: Tensor) -> Tensor:
        return self.plain(seen)[:, 0] + (seen * self.said(token)).sum(1) / seen.shape[1] ** 0.5


def rows_of(ws: Tensor) -> Tensor:
    """ws (B, num_ws, w_dim) -> what the critic of codes sees (B, ROWS, CODE_PARTS)"""
    return whitened(ws[:, :ROWS], CODE_PARTS)


# ---------------------------------------------------------------------------------------- readers


def view(ws: Tensor) -> Tensor:
    """ws (B, num_ws, w_dim) -> whitened components of the means of GROUPS (B, 6 * PARTS)"""
    means = torch.stack([ws[:, start:end].mean(1) for start, end in GROUPS], 1)
    return whitened(means, PARTS).flatten(1)


class CodeReader(nn.Module):
    """A view (B, 6 * PARTS) -> what judges would say (B, J), in standard deviations."""

    def __init__(self, judges: int, width: int = 384) -> None:
        super().__init__()
        seen = len(GROUPS) * PARTS
        self.skip = nn.Linear(seen, judges)
        self.net = nn.Sequential(
            nn.Linear(seen, width), nn.SiLU(), nn.Dropout(0.3), nn.Linear(width, width), nn.SiLU(), nn.Dropout(0.3),
            nn.Linear(width, judges),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.skip(x) + self.net(x)


class FeatureReader(nn.Module):
    """Components of features of the finest two DOORS, averaged to CELLS, and a view -> what judges would say (B, J)."""

    def __init__(self, judges: int, width: int = 256) -> None:
        super().__init__()
        seen = len(GROUPS) * PARTS
        self.skip = nn.Linear(seen, judges)
        self.net = nn.Sequential(
            nn.Dropout(0.3), nn.Linear(2 * PARTS * CELLS**2 + seen, width), nn.SiLU(), nn.Dropout(0.3),
            nn.Linear(width, width), nn.SiLU(), nn.Linear(width, judges),
        )  # fmt: skip

    def forward(self, features: Mapping[str, Tensor], x: Tensor) -> Tensor:
        averaged = [F.adaptive_avg_pool2d(features[name], CELLS).flatten(1) for name in DOORS[-2:]]
        return self.skip(x) + self.net(torch.cat([*averaged, x], 1))


def held(codes: Codes) -> np.ndarray:
    """Which codes readers are not taught (N,)"""
    return codes.face % HELD == 0


def explained(found: Tensor, wanted: Tensor) -> Tensor:
    """Share of the variance (J,), where judges had something to say."""
    known = wanted.isfinite()
    middle = wanted.nan_to_num().sum(0) / known.sum(0)
    off = ((found - wanted.nan_to_num()).square() * known).sum(0)
    return 1 - off / ((wanted.nan_to_num() - middle).square() * known).sum(0)


def fit_reader(
    reader: nn.Module, inputs: Callable[[np.ndarray, bool], tuple], scores: Tensor, codes: Codes, steps: int,
    batch: int, seed: int = 0, report: Callable[[str], None] = print,
) -> Tensor:  # fmt: skip
    """Teach a reader, whose inputs for places of the table `inputs` gives (with noise for training) -> what share it
    explains of held-back codes' scores (J,)."""
    torch.manual_seed(seed)
    rng, rest = np.random.default_rng(seed), np.flatnonzero(~held(codes))
    optimiser = torch.optim.AdamW(reader.parameters(), lr=RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps, pct_start=0.1)
    reader.train()
    for step in range(steps):
        some = rng.choice(rest, batch)
        loss = far(reader(*inputs(some, True)), scores[some])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 500 == 499:
            report(f"{step + 1} reader {loss.item():.3f}")
    reader.eval().requires_grad_(False)
    with torch.no_grad():
        places = np.flatnonzero(held(codes))
        found = torch.cat([reader(*inputs(some, False)) for some in np.array_split(places, max(1, len(places) // 64))])
    return explained(found, scores[places])


def features_of(cache: Mapping[str, np.ndarray], some: np.ndarray) -> dict[str, Tensor]:
    """Of places of the table (B,), float32."""
    return {name: torch.from_numpy(cache[name][some]).float() for name in DOORS}
