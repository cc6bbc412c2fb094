"""What the GigaGAN head learns from: judged codes, the generator's features of them, and sentences about them.

    codes = codes_of(faces, moves, actions)
    stages = Stages.of(generator, codes.ws[:256])
    seen = cached(out, generator, stages, codes.ws)     # b8, b16 and b32 of every code, once

Features are kept as whitened principal components of their channels (a fixed projection, as the critics of Projected
GANs have, arXiv 2111.01007): PARTS of 512 a stage, float16.  A sentence's meaning for judges is a pair of bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from editing.heads.actions import MERGED, Actions, moved
from editing.judges.judge import NAMES
from editing.text import captions
from editing.text import poles as known
from editing.text.giga import Stage
from encoders import sentence
from stylegan2.files import replacing
from stylegan2.generator import Features, Generator

DOORS = ("b8", "b16", "b32")
CHUNK = 16
CHILDISH = frozenset(word for (grown, _), words in captions.NOUNS.items() if not grown for word in words) | {"child"}
GROWN_UP = frozenset(word for (grown, _), words in captions.NOUNS.items() if grown for word in words)


class Stages(nn.ModuleDict):
    """A `Stage` for every door."""

    @classmethod
    def of(cls, generator: Generator, ws: Tensor) -> Stages:
        rows = [drawn(generator, some) for some in ws.split(CHUNK)]
        return cls({name: Stage.of(torch.cat([row[name] for row in rows])) for name in DOORS})

    def forward(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: self[name](x) for name, x in features.items()}


def through(generator: Generator, ws: Tensor, features: Features | None = None) -> dict[str, Tensor]:
    """ws -> activations (B, C, H, W) of DOORS, with gradients; no later stage is computed."""
    found = {}
    for name, x in generator.stages(ws) if features is None else generator.stages(ws, None, features):
        if name in DOORS:
            found[name] = x
        if name == DOORS[-1]:
            return found
    raise ValueError(f"this generator has no {DOORS[-1]}")


@torch.no_grad()
def drawn(generator: Generator, ws: Tensor) -> dict[str, Tensor]:
    return through(generator, ws)


def cached(
    out: Path, generator: Generator, stages: Stages, ws: Tensor, report: Callable[[str], None] = print
) -> dict[str, np.ndarray]:
    """Components of every code's features (N, PARTS, H, W) float16, computed once and kept in `out`."""
    files = {name: out / f"{name}.npy" for name in DOORS}
    if all(file.exists() and len(np.load(file, mmap_mode="r")) == len(ws) for file in files.values()):
        return {name: np.load(file) for name, file in files.items()}
    found: dict[str, np.ndarray] = {}
    for start in range(0, len(ws), CHUNK):
        with torch.no_grad():
            seen = stages(drawn(generator, ws[start : start + CHUNK]))
        for name, x in seen.items():
            whole = found.setdefault(name, np.empty((len(ws), *x.shape[1:]), np.float16))
            whole[start : start + CHUNK] = x.half().numpy()
        if start % (CHUNK * 50) == 0:
            report(f"features of {start} of {len(ws)} codes")
    for name, file in files.items():
        with replacing(file) as part, open(part, "wb") as stream:
            np.save(stream, found[name])
    return found


# ------------------------------------------------------------------------------------------ codes


@dataclass(frozen=True)
class Codes:
    """Faces as they were drawn, then moved ones: ws (N, num_ws, w_dim); scores (N, J) as the judges gave them; face
    (N,): whose code it was."""

    ws: Tensor
    scores: np.ndarray
    face: np.ndarray

    def __len__(self) -> int:
        return len(self.ws)


def codes_of(
    faces: Mapping[str, np.ndarray], moves: Mapping[str, np.ndarray], actions: Actions, num_ws: int = MERGED
) -> Codes:
    w = torch.from_numpy(faces["w"]).float()[:, None].expand(-1, num_ws, -1)
    amounts = torch.from_numpy(moves["amounts"]).float()
    after = [
        moved(w[face], some, actions.vectors)
        for face, some in zip(torch.from_numpy(moves["face"]).split(500), amounts.split(500), strict=True)
    ]
    return Codes(
        torch.cat([w, *after]),
        np.concatenate([faces["scores"], moves["scores"]]).astype(np.float32),
        np.concatenate([np.arange(len(w)), moves["face"]]),
    )


# -------------------------------------------------------------------------------------- sentences


@dataclass(frozen=True)
class Said:
    """Sentences: code (N,) whom each describes, text, tokens of each (L, 384) float16, what judges are to say (N, J),
    low and high, infinite where nothing is said; free (N, J): 1 where something is said, or may come along."""

    code: np.ndarray
    text: Sequence[str]
    hidden: Sequence[Tensor]
    low: Tensor
    high: Tensor
    free: Tensor

    def __len__(self) -> int:
        return len(self.text)


def bounds(caption: captions.Caption) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What a caption says, in the judges' own units: (J,) lowest and highest, and which judges may move for it."""
    low, high = np.full(len(NAMES), -np.inf, np.float32), np.full(len(NAMES), np.inf, np.float32)
    free, poles = np.zeros(len(NAMES), np.float32), known.load()

    def within(judge: str, ends: tuple[float, float], like: str) -> None:
        place = NAMES.index(judge)
        low[place], high[place] = max(low[place], ends[0]), min(high[place], ends[1])
        free[[NAMES.index(name) for name in {judge, *poles[like].judges, *poles[like].along}]] = 1

    for name in caption.poles:
        for judge, ends in poles[name].seen.items():
            within(judge, ends, name)
    if caption.male is not None:
        ends = (captions.CERTAIN, np.inf) if caption.male else (-np.inf, -captions.CERTAIN)
        within("male", ends, "masculine")
    if not any("age" in poles[name].seen for name in caption.poles):
        words = set(caption.text.replace(",", " ").split())
        if words & CHILDISH:
            within("age", (0, captions.GROWN - 3), "younger")
        elif words & GROWN_UP:
            within("age", (captions.GROWN, 100), "older")
    return low, high, free


def said(codes: Codes, each: int, seed: int = 0) -> tuple[np.ndarray, list[captions.Caption]]:
    """Captions of every code that judges spoke of: whose, and what."""
    rng = np.random.default_rng(seed)
    places, found = [], []
    for place, row in enumerate(codes.scores):
        values = dict(zip(NAMES, map(float, row), strict=True))
        if np.isfinite([values["age"], values["male"], values["smile"]]).all():
            found += captions.describe(values, each, rng)
            places += [place] * each
    return np.array(places), found


def embedded(texts: Sequence[str], report: Callable[[str], None] = print) -> list[Tensor]:
    """Tokens of every sentence (L, 384) in float16; those of like length are done together."""
    encoder, order = sentence.load(), np.argsort([len(text) for text in texts], kind="stable")
    found: list[Tensor | None] = [None] * len(texts)
    for start in range(0, len(order), 64):
        some = order[start : start + 64]
        hidden, mask = encoder.tokens([texts[i] for i in some])
        for i, h, m in zip(some, hidden, mask, strict=True):
            found[i] = h[m].half()
        if start % 6400 == 0:
            report(f"{start} of {len(texts)} sentences embedded")
    return found


def padded(hidden: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Tokens (L, 384) each -> (B, L, 384) and the mask (B, L), True where there is a token"""
    longest = max(map(len, hidden))
    mask = torch.arange(longest) < torch.tensor([len(h) for h in hidden])[:, None]
    return torch.nn.utils.rnn.pad_sequence([h.float() for h in hidden], batch_first=True), mask


def opened(
    out: Path, codes: Codes, mean: Tensor, std: Tensor, each: int = 1, report: Callable[[str], None] = print
) -> Said:
    """Sentences about all codes, bounds in standard deviations; embedded once and kept in `out`."""
    places, found = said(codes, each)
    texts, file = [caption.text for caption in found], out / "sentences.pt"
    kept = torch.load(file, weights_only=True) if file.exists() else {}
    if kept.get("texts") != texts:
        kept = {"texts": texts, "hidden": embedded(texts, report)}
        with replacing(file) as part:
            torch.save(kept, part)
    low, high, free = (torch.from_numpy(np.stack(rows)) for rows in zip(*map(bounds, found), strict=True))
    return Said(places, texts, kept["hidden"], (low - mean) / std, (high - mean) / std, free)
