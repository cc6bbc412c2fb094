"""One space for sentences and for codes of faces, so that how well they fit is an angle: CLIP's idea (arXiv 2103.00020,
section 2.3) between a frozen sentence encoder and W+.

    bridge = load()
    bridge.score(ws, ["a smiling woman", "a bearded man"])       # (B, 2), cosines
    bridge.latent(ws)                                            # (B, D), unit length, with gradients

Nothing is rendered: a tower reads the means of a code's coarse, middle and fine rows.  What it knows of a face is what
the project's judges said of faces like it; what no judge measures (hats, earrings, feelings) it cannot tell.
`editing.text.clip` offers the same with a CLIP model, for who has one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from editing.heads import files
from editing.heads.actions import MERGED
from editing.heads.response import Whitening
from stylegan2 import weights
from stylegan2.errors import UsageError

FILE = Path(__file__).with_name("data") / "bridge.safetensors"
FACTS = {"format": "wplus-bridge-1"}
SENTENCE, WIDTH, SPACE = 384, 384, 128
COMPONENTS = 160


class Bridge(Protocol):
    """What sees sentences, codes and pictures side by side: unit vectors of one space, rows (., D)."""

    def text(self, sentences: Sequence[str]) -> Tensor:
        """-> (N, D)"""

    def latent(self, ws: Tensor) -> Tensor:
        """ws (B, num_ws, w_dim) in W+ -> (B, D), with gradients"""

    def image(self, pictures: Tensor) -> Tensor:
        """pictures (B, 3, H, W) RGB in [-1, 1], aligned faces -> (B, D)"""


class Tower(nn.Module):
    """(B, inputs) -> (B, SPACE), unit length."""

    def __init__(self, inputs: int, width: int = WIDTH, space: int = SPACE, dropout: float = 0.0) -> None:
        super().__init__()
        self.skip = nn.Linear(inputs, space)
        self.body = nn.Sequential(
            nn.Linear(inputs, width), nn.SiLU(), nn.Dropout(dropout),
            nn.Linear(width, width), nn.SiLU(), nn.Dropout(dropout),
        )  # fmt: skip
        self.out = nn.Linear(width, space)

    def forward(self, x: Tensor) -> Tensor:
        return self.finished(x, self.body(x))

    def finished(self, x: Tensor, hidden: Tensor) -> Tensor:
        """From x and what `body` makes of it (B, width)."""
        return F.normalize(self.skip(x) + self.out(hidden), dim=1)


class LatentBridge(nn.Module):
    """The bridge of this project: two small towers."""

    def __init__(
        self, w_dim: int = 512, components: int = COMPONENTS, width: int = WIDTH, space: int = SPACE,
        sentence: int = SENTENCE, dropout: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.whitening = Whitening(w_dim, components)
        self.faces = Tower(3 * components, width, space, dropout)
        self.sentences = Tower(sentence, width, space, 0.5 * dropout)
        self.scale = nn.Parameter(torch.tensor(2.7))  # logarithm of what cosines are multiplied by

    def text(self, sentences: Sequence[str]) -> Tensor:
        from encoders import sentence

        return self.embedded(sentence.load()(sentences).to(self.scale))

    def embedded(self, embedding: Tensor) -> Tensor:
        """Numbers of the sentence encoder (N, 384) -> (N, D)"""
        return self.sentences(lifted(embedding))

    def latent(self, ws: Tensor) -> Tensor:
        if ws.shape[1] < MERGED or ws.shape[2] != len(self.whitening.mean):
            raise UsageError(
                f"The bridge reads codes of {MERGED} rows or more of {len(self.whitening.mean)} numbers, as FFHQ's, "
                f"not {ws.shape[1]} of {ws.shape[2]}."
            )
        return self.faces(self.whitening.view(ws.to(self.scale)))

    def image(self, pictures: Tensor) -> Tensor:
        """By the shipped encoder's code of it; no gradients."""
        from encoders import compact

        return self.latent(compact.encode(compact.shipped(self.scale.device), pictures.to(self.scale)))

    def score(self, ws: Tensor, sentences: Sequence[str]) -> Tensor:
        """-> cosines (B, N)"""
        return self.latent(ws) @ self.text(sentences).T


def lifted(embedding: Tensor) -> Tensor:
    """Unit vectors (N, C) -> so long that their numbers are about 1, as networks like them."""
    return embedding.shape[1] ** 0.5 * embedding


def save(bridge: LatentBridge, path: Path) -> None:
    shape = {"components": len(bridge.whitening.basis), "width": bridge.faces.out.in_features}
    files.write(path, FACTS | shape, {"bridge": bridge})


def read(path: Path) -> LatentBridge:
    """Frozen.  UsageError or CheckpointError if it is not a bridge's file."""
    tensors = files.checked(path, "bridge of sentences and faces", FACTS)
    with weights.described(path, "a bridge of sentences and faces"):
        state = {name.removeprefix("bridge."): tensor for name, tensor in tensors.items()}
        components, w_dim = state["whitening.basis"].shape
        space, sentence = state["sentences.skip.weight"].shape
        width = state["faces.out.weight"].shape[1]
        return weights.filled(lambda: LatentBridge(w_dim, components, width, space, sentence), state)


@lru_cache(maxsize=1)
def load() -> LatentBridge:
    """The bridge that ships."""
    return read(FILE)
