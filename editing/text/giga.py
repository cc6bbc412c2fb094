"""GigaGAN's idea on the latents: a sentence and a seed give a face of the frozen generator (arXiv 2303.05511, sect. 3).

    giga = load()
    inversion = giga.draw(generator, "an elderly man with glasses", seed=1)
    between = giga.draw(generator, "a smiling woman", seed=1, to="a serious woman", t=0.5)
    mixed = giga.draw(generator, "a young woman", seed=1, fine="a woman with red hair and dark lips")

As in the paper a tower T reads the tokens of a frozen encoder and gives words and one token for the whole; M makes the
code of noise and token; image places ask the words in cross-attention, after a convolution whose kernels the token
chooses.  The synthesis network is the frozen generator's.  So M is the generator's own mapping plus what the sentence
changes, for every row of W+, in principal components of W (a global skip), and cross-attention is an adapter: it sees
the features at 16x16 and answers with a residual there.  Both begin as nothing.  `gigafit` trains them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from editing.heads import files
from editing.translation.networks.gigagan.attention import Attention
from editing.translation.networks.gigagan.kernels import AdaptiveConv, Linear
from editing.translation.networks.gigagan.text import TextTower
from editing.types import Inversion, generator_sha256
from encoders import sentence
from stylegan2 import engine, w_statistics, weights
from stylegan2.errors import UsageError
from stylegan2.generator import FeatureEdit, Generator, truncate

FILE = Path(__file__).with_name("data") / "giga.safetensors"
DOOR = "b16"
ROWS, PARTS = 16, 64  # of W+; components, of W and of the door's channels
SEEN = 128  # components of W that M sees
WIDTH, HIDDEN, NARROW, DEPTH, KERNELS = 128, 384, 96, 2, 4
FARTHEST, REACH = 3.0, 1.5  # standard deviations that a sentence can move a component of a row, and of the features
BASE = 0.8  # truncation of the codes that sentences change
FINE = 8  # first row of colours, skin and light, where prompts are mixed
CENTRE = 64  # seeds whose mean is a sentence's middle
FACTS = {"format": "wplus-giga-1", "door": DOOR, "features": sentence.WIDTH}


# ---------------------------------------------------------------------------------------- networks


class Stage(nn.Module):
    """Features x (B, C, H, W) -> whitened components of their channels (B, parts, H, W)"""

    def __init__(self, channels: int = 512, parts: int = PARTS) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("basis", torch.zeros(parts, channels))  # orthonormal rows
        self.register_buffer("size", torch.ones(parts))

    @classmethod
    def of(cls, x: Tensor, parts: int = PARTS) -> Stage:
        rows = x.permute(0, 2, 3, 1).flatten(0, 2)
        found = cls(x.shape[1], min(parts, x.shape[1]))
        found.mean.copy_(rows.mean(0))
        rows = rows - found.mean
        variance, vectors = torch.linalg.eigh(rows.T @ rows / len(rows))
        count = len(found.size)
        found.basis.copy_(vectors[:, -count:].T.flip(0))
        found.size.copy_(variance[-count:].flip(0).clamp_min(1e-8).sqrt())
        return found

    def forward(self, x: Tensor) -> Tensor:
        weight = self.basis / self.size[:, None]
        return F.conv2d(x, weight[:, :, None, None], -weight @ self.mean)

    @property
    def units(self) -> Tensor:
        """(C, parts): what a unit of every component is"""
        return (self.basis * self.size[:, None]).T


class Mapper(nn.Module):
    """Whitened components of the seed's own w (B, SEEN), the sentence's token (B, width) -> what the sentence changes,
    (B, ROWS, PARTS) in standard deviations of components of W."""

    def __init__(self, width: int = WIDTH, hidden: int = HIDDEN) -> None:
        super().__init__()
        dims = [SEEN + width, hidden, hidden]
        self.body = nn.Sequential(*(Linear(a, b, act=True) for a, b in zip(dims, dims[1:], strict=False)))
        self.out = Linear(hidden, ROWS * PARTS)
        nn.init.zeros_(self.out.weight)

    def forward(self, u: Tensor, token: Tensor) -> Tensor:
        u = u * torch.rsqrt(u.square().mean(1, keepdim=True) + 1e-8)
        change = self.out(self.body(torch.cat([u, token], 1))).unflatten(1, (ROWS, PARTS))
        return FARTHEST * torch.tanh(change / FARTHEST)


class Adapter(nn.Module):
    """Components of the door's features (B, parts, 16, 16), words (B, L, width) with their mask, token (B, width)
    -> a residual in those components (B, parts, 16, 16)."""

    def __init__(self, parts: int = PARTS, width: int = WIDTH, narrow: int = NARROW) -> None:
        super().__init__()
        self.enter = AdaptiveConv(parts, narrow, width, KERNELS)
        self.attention = Attention(narrow, width)
        self.out = AdaptiveConv(narrow, parts, width, size=1, demodulate=False, act=False)
        self.gate = nn.Parameter(torch.zeros(parts, 1, 1))

    def forward(self, x: Tensor, words: Tensor, mask: Tensor, token: Tensor) -> Tensor:
        x = self.attention(self.enter(x, token), words, mask)
        return REACH * torch.tanh(self.gate * self.out(x, token) / REACH)


class Network(nn.Module):
    """T, M, the adapter and the door's components."""

    def __init__(self, channels: int = 512, width: int = WIDTH, depth: int = DEPTH) -> None:
        super().__init__()
        self.tower = TextTower(sentence.WIDTH, width, depth)
        self.mapping, self.adapter, self.stage = Mapper(width), Adapter(width=width), Stage(channels)

    def residual(self, x: Tensor, words: Tensor, mask: Tensor, token: Tensor, ws: Tensor) -> FeatureEdit:
        """Features x (B, C, 16, 16) that ws draws -> the edit of the door."""
        maps = self.adapter(self.stage(x), words, mask, token)
        basis = self.stage.units.expand(len(maps), -1, -1)
        return FeatureEdit(maps, torch.ones_like(maps[:, :1]), ws, basis=basis)


def unwhitened(change: Tensor) -> Tensor:
    """Standard deviations of the first components (..., P) -> a change of w (..., w_dim)"""
    statistics, parts = w_statistics.load(), change.shape[-1]
    return (change * statistics.stdev[:parts].to(change)) @ statistics.components[:parts].to(change)


def whitened(w: Tensor, parts: int) -> Tensor:
    """w (..., w_dim) -> its first whitened components (..., parts)"""
    statistics = w_statistics.load()
    axes = (statistics.components[:parts] / statistics.stdev[:parts, None]).to(w)
    return (w - statistics.mean.to(w)) @ axes.T


def changed(w: Tensor, change: Tensor, num_ws: int = ROWS) -> Tensor:
    """The seed's own w (B, w_dim), what `Mapper` answers -> ws (B, num_ws, w_dim); rows beyond ROWS as the last one."""
    return w[:, None] + unwhitened(change)[:, torch.arange(num_ws).clamp(max=ROWS - 1)]


def codes(network: Network, w: Tensor, token: Tensor, num_ws: int = ROWS) -> Tensor:
    """The seed's own w, the token (B, width) -> ws (B, num_ws, w_dim)"""
    return changed(w, network.mapping(whitened(w, SEEN), token), num_ws)


# --------------------------------------------------------------------------------------------- use


@dataclass(frozen=True)
class Face:
    """One face of one sentence: ws (1, num_ws, w_dim), and the edit of the door, None without an adapter."""

    ws: Tensor
    door: FeatureEdit | None


@dataclass(frozen=True)
class Giga:
    """The trained networks, the family of generators whose features the adapter knows, and its file's sha256."""

    network: Network
    family: str
    sha256: str = ""

    def words(self, text: str) -> tuple[Tensor, Tensor, Tensor]:
        """A sentence -> words (1, L, width), mask (1, L), token (1, width).  UsageError for an empty one."""
        if not text.strip():
            raise UsageError("Say in a sentence what the face is to be like.")
        hidden, mask = sentence.load().tokens([text])
        words, token = self.network.tower(hidden, mask)
        return words, mask, token

    def ws(self, generator: Generator, text: str, seed: int, psi: float = 1.0) -> Tensor:
        """-> (1, num_ws, w_dim).  psi: 1 as learned; less goes towards the middle of the *sentence's* faces, the mean
        of CENTRE of them, so that faces become more alike and say more surely what it says."""
        token = self.words(text)[2]
        ws = codes(self.network, engine.latents(generator, [seed], BASE), token, generator.num_ws)
        return ws if psi == 1 else truncate(ws, self.centre(generator, token), psi)

    def centre(self, generator: Generator, token: Tensor) -> Tensor:
        w = engine.latents(generator, range(CENTRE), BASE)
        return codes(self.network, w, token.expand(CENTRE, -1), generator.num_ws).mean(0, keepdim=True)

    @torch.no_grad()
    def face(
        self, generator: Generator, text: str, seed: int, psi: float = 1.0, fine: str | None = None,
        adapter: bool = True,
    ) -> Face:  # fmt: skip
        """fine: another sentence, from which the rows from FINE on are (prompt mixing)."""
        checked(generator)
        words, mask, token = self.words(text)
        ws = self.ws(generator, text, seed, psi)
        if fine is not None:
            ws = torch.cat([ws[:, :FINE], self.ws(generator, fine, seed, psi)[:, FINE:]], 1)
        if not adapter or generator.family != self.family:
            return Face(ws, None)
        return Face(ws, self.network.residual(generator.synthesis(ws, until=DOOR), words, mask, token, ws))

    def between(self, a: Face, b: Face, t: float) -> Face:
        """Interpolation of two faces of one seed: codes, and residuals."""
        ws = torch.lerp(a.ws, b.ws, t)
        if a.door is None or b.door is None:
            return Face(ws, None)
        maps = torch.lerp(a.door.residual, b.door.residual, t)
        return Face(ws, FeatureEdit(maps, a.door.mask, ws, basis=a.door.basis))

    def draw(
        self, generator: Generator, text: str, seed: int = 0, psi: float = 1.0, fine: str | None = None,
        to: str | None = None, t: float = 0.0, adapter: bool = True,
    ) -> Inversion:  # fmt: skip
        """A sentence's face of this seed, as what any edit can go on from.  to, t: t of the way to the face of another
        sentence.  The same whatever else is drawn beside it."""
        found = self.face(generator, text, seed, psi, fine, adapter)
        if to is not None:
            found = self.between(found, self.face(generator, to, seed, psi, fine, adapter), t)
        return Inversion(
            ws=found.ws, family=generator.family, generator_sha256=generator_sha256(generator),
            features=None if found.door is None else {DOOR: found.door}, method="giga", seed=seed,
            device=str(found.ws.device), threads=torch.get_num_threads(),
        )  # fmt: skip

    def ws_and_features(
        self, generator: Generator, sentences: Sequence[str], seeds: Sequence[int], psi: float = 1.0,
        fine: Sequence[str] | None = None, adapter: bool = True,
    ) -> tuple[Tensor, Mapping[str, FeatureEdit] | None]:  # fmt: skip
        """Sentences and seeds (N each) -> ws (N, num_ws, w_dim), features for `synthesis`.  Every face is made by
        itself, so that it does not depend on the others."""
        rows = [
            self.face(generator, text, seed, psi, fine[i] if fine else None, adapter)
            for i, (text, seed) in enumerate(zip(sentences, seeds, strict=True))
        ]
        ws = torch.cat([row.ws for row in rows])
        if any(row.door is None for row in rows):
            return ws, None
        residual, mask, basis = (
            torch.cat([getattr(row.door, part) for row in rows]) for part in ("residual", "mask", "basis")
        )
        return ws, {DOOR: FeatureEdit(residual, mask, ws, basis=basis)}


def checked(generator: Generator) -> None:
    """UsageError if sentences cannot change this generator's codes."""
    if generator.num_ws < ROWS or generator.w_dim != w_statistics.load().mean.shape[0]:
        raise UsageError("Sentences draw faces with FFHQ's generators alone, of 16 rows of 512 numbers or more.")


def save(network: Network, family: str, path: Path) -> None:
    files.write(path, FACTS | {"family": family}, {"giga": network})


def read(path: Path) -> Giga:
    """UsageError or CheckpointError if it is no such file."""
    tensors = files.checked(path, "text head", FACTS)
    family = files.facts(path).get("family", "")
    with weights.described(path, "GigaGAN's head on the latents"):
        state = {name.removeprefix("giga."): tensor for name, tensor in tensors.items()}
        return Giga(weights.filled(Network, state), str(family), files.sha256(path))


@lru_cache(maxsize=1)
def load() -> Giga:
    """The head that ships."""
    return read(FILE)
