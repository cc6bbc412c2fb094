"""Faces from sentences: the GAN-CLS family (Reed et al., arXiv 1605.05396) on codes of a frozen generator.

    family = load()
    ws = family.ws(generator, ["an elderly man with a beard"], seeds=[1])          # (1, num_ws, w_dim), to be rendered

The paper's generator draws 64 pixels from noise and a sentence; this one says what the sentence adds to the code that
the frozen mapping network makes of the noise, in principal components of codes, so that it begins as the unconditional
generator and stays where faces are.  A sentence is read by the bridge's tower (`editing.text.bridge`), whose weights
are in the file: the paper's text encoder, too, was first trained to fit pictures.  Training:
`editing.text.adversarial`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from editing.heads import files
from editing.heads.actions import MERGED, ROWS
from editing.heads.response import Whitening
from editing.text.bridge import SPACE, Tower, lifted
from stylegan2 import engine, weights
from stylegan2.errors import UsageError
from stylegan2.generator import Generator

FILE = Path(__file__).with_name("data") / "gancls.safetensors"
FACTS = {"format": "wplus-gancls-1"}
VARIANTS = ("gan", "cls", "int", "int-cls")
COMPONENTS, WIDTH = 64, 192
PSI = 0.8  # of the faces that it was trained with
SHARP = 8.0  # what spectral norms leave of a matcher's answer is this many times too little


class Maker(nn.Module):
    """Noise as the mapping network's code, in components u (B, C), and a sentence t (B, SPACE), unit length -> what the
    sentence adds to the coarse, middle and fine rows, in components (B, 3, C).  Nothing, before training."""

    def __init__(self, components: int = COMPONENTS, space: int = SPACE, width: int = WIDTH) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(components + space, width), nn.LeakyReLU(0.2),
            nn.Linear(width, width), nn.LeakyReLU(0.2),
            nn.Linear(width, 3 * components),
        )  # fmt: skip
        nn.init.zeros_(self.net[-1].weight)
        nn.init.zeros_(self.net[-1].bias)

    def forward(self, u: Tensor, t: Tensor) -> Tensor:
        return self.net(torch.cat([u, t.shape[1] ** 0.5 * t], 1)).unflatten(1, (3, -1))


class Matcher(nn.Module):
    """The discriminator: the view of a code x (B, 3 * C) and a sentence t (B, SPACE) -> a logit (B,) that the code is
    a face's, and of one that fits.  Spectral norms, for codes are told apart by trifles otherwise."""

    def __init__(self, components: int = COMPONENTS, space: int = SPACE, width: int = WIDTH) -> None:
        super().__init__()
        self.said = spectral_norm(nn.Linear(space, space))
        self.net = nn.Sequential(
            spectral_norm(nn.Linear(3 * components + space, width)), nn.LeakyReLU(0.2),
            spectral_norm(nn.Linear(width, width)), nn.LeakyReLU(0.2),
            spectral_norm(nn.Linear(width, width)), nn.LeakyReLU(0.2),
        )  # fmt: skip
        self.out, self.fits = spectral_norm(nn.Linear(width, 1)), spectral_norm(nn.Linear(width, space, bias=False))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        said = self.said(t.shape[1] ** 0.5 * t)
        hidden = self.net(torch.cat([x, said], 1))
        return SHARP * (self.out(hidden)[:, 0] + (self.fits(hidden) * t).sum(1))


@dataclass(frozen=True)
class Family:
    """A generator of codes with all that it needs beside the frozen one.  kind: one of VARIANTS."""

    kind: str
    whitening: Whitening
    sentences: Tower
    maker: Maker
    sha256: str = ""

    def read(self, embedding: Tensor) -> Tensor:
        """Numbers of the sentence encoder (B, 384) -> sentences as this family knows them (B, SPACE), unit length"""
        return self.sentences(lifted(embedding))

    def added(self, w: Tensor, t: Tensor) -> Tensor:
        """w (B, w_dim) and sentences (B, SPACE) -> what they add to the rows (B, 16, w_dim)"""
        return lengthened(self.whitening, self.maker(self.whitening(w), t))

    @torch.no_grad()
    def codes(self, generator: Generator, t: Tensor, seeds: Sequence[int], psi: float = PSI) -> Tensor:
        """Sentences (B, SPACE) and as many seeds -> ws (B, num_ws, w_dim).  Each is made for itself, so that it does
        not depend on what stands beside it."""
        if (rows := generator.num_ws) < MERGED or generator.w_dim != len(self.whitening.mean):
            raise UsageError(
                f"Faces from sentences are codes of {MERGED} rows or more of {len(self.whitening.mean)} numbers, as "
                f"FFHQ's; this generator takes {rows} of {generator.w_dim}."
            )
        if len(t) != len(seeds):
            raise UsageError(f"There are {len(t)} sentences and {len(seeds)} seeds: as many are needed.")
        found = []
        for one, seed in zip(t, seeds, strict=True):
            w = engine.latents(generator, [seed], psi)
            added = self.added(w.to(one), one[None]).to(w)
            found.append(w[:, None] + added[:, torch.arange(rows).clamp(max=MERGED - 1)])
        return torch.cat(found) if found else torch.empty(0, rows, generator.w_dim)

    def ws(self, generator: Generator, sentences: Sequence[str], seeds: Sequence[int], psi: float = PSI) -> Tensor:
        """A code a sentence: (B, num_ws, w_dim).  psi: of the noise's own code; less is nearer to the mean face."""
        from encoders import sentence

        encoder = sentence.load()
        embedding = torch.cat([encoder([text]) for text in sentences]) if sentences else torch.empty(0, sentence.WIDTH)
        return self.codes(generator, self.read(embedding), seeds, psi)

    def between(
        self, generator: Generator, first: str, second: str, seed: int, steps: int = 8, psi: float = PSI
    ) -> Tensor:
        """From one sentence to another with the same noise -> ws (steps, num_ws, w_dim), both ends among them."""
        from encoders import sentence

        a, b = (self.read(sentence.load()([text])) for text in (first, second))
        t = torch.cat([between(a, b, amount) for amount in torch.linspace(0, 1, steps)])
        return self.codes(generator, t, [seed] * steps, psi)


def between(a: Tensor, b: Tensor, amount: float | Tensor) -> Tensor:
    """Sentences (B, SPACE) -> the paper's (1 - amount) a + amount b (equation 5), unit length as sentences are."""
    return nn.functional.normalize((1 - amount) * a + amount * b, dim=1)


def lengthened(whitening: Whitening, added: Tensor) -> Tensor:
    """Components (B, 3, C) -> changes of the rows (B, 16, w_dim)"""
    axes = whitening.basis / whitening.basis.square().sum(1, keepdim=True)  # (C, w_dim): a component's unit in w
    parts = added @ axes
    return torch.cat([parts[:, i, None].expand(-1, end - start, -1) for i, (start, end) in enumerate(ROWS.values())], 1)


def save(family: Family, path: Path) -> None:
    networks = {"whitening": family.whitening, "sentences": family.sentences, "maker": family.maker}
    files.write(path, FACTS | {"kind": family.kind}, networks)


def read(path: Path) -> Family:
    """UsageError or CheckpointError if it is not such a file."""
    tensors = files.checked(path, "generator from sentences", FACTS)
    kind = files.facts(path).get("kind")
    with weights.described(path, "a generator from sentences"):
        parts: dict[str, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            part, _, rest = name.partition(".")
            parts.setdefault(part, {})[rest] = tensor
        if kind not in VARIANTS:
            raise ValueError(f"there is no variant {kind!r}")
        components, w_dim = parts["whitening"]["basis"].shape
        space, inputs = parts["sentences"]["skip.weight"].shape
        width, made = parts["sentences"]["out.weight"].shape[1], parts["maker"]["net.2.weight"].shape[0]
        return Family(
            kind,
            weights.filled(lambda: Whitening(w_dim, components), parts["whitening"]),
            weights.filled(lambda: Tower(inputs, width, space), parts["sentences"]),
            weights.filled(lambda: Maker(components, space, made), parts["maker"]),
            files.sha256(path),
        )


@lru_cache(maxsize=1)
def load() -> Family:
    """The generator from sentences that ships."""
    return read(FILE)
