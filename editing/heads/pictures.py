"""RBDN's, pix2pix's and BicycleGAN's idea on the latents: a picture that lacks something goes in, a code comes out.

    head = load(path)["pix2pix:sketch"]
    ws = head(pictures)                          # (B, 3, S, S) in [-1, 1] -> (B, 16, 512) in W+
    change = head.change(picture, inversion.ws)  # of a face that has a code: what to add to it

Ours, not the papers' networks: the shipped encoder, which reads 128 pixels and merges branches of several scales as
RBDN does (arXiv 1612.03268), with a beginning of its own; the frozen generator draws.  From pix2pix (1611.07004) and
BicycleGAN (1711.11586) come the losses (`paired`) and the random code.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from editing.heads.actions import MERGED, ROWS
from editing.heads.translators import under
from editing.translation.degrade import WAYS
from encoders import compact
from encoders.compact import LOW, SIZE
from encoders.efficientnet import EfficientNetLite0, normalised
from stylegan2 import w_statistics, weights
from stylegan2.engine import area_resize, to_float, to_uint8
from stylegan2.errors import UsageError, WplusError
from stylegan2.files import replacing

KEPT = 11  # first blocks of the backbone that are a head's own; those behind them are the encoder's
COMPONENTS = 192  # of W, whitened, that style is read from
FORMAT = "wplus-pictures-1"
PAINTED = 0.6  # of a standard deviation of W, for a z of 1, at the beginning of a training
WIDER = 1.25  # results differ by a fifth more than with codes as in training, and lines are kept nearly as well
BEFORE = 1.2  # in files that do not say it
KINDS = ("rbdn", "pix2pix", "bicyclegan")
MENDED = ("relit",)  # what a face that has a code already may be changed by: gray and noise are no codes
PLAIN = "plain"  # a way to lack nothing: what a reader says of a picture as it is


class Drawer(nn.Module):
    """Pictures (B, 3, SIZE, SIZE), numbers of their ways (B,) and, for BicycleGAN, codes z (B, Z) -> u (B, 16, 512),
    whitened.  z paints middle and fine rows: what is where, a picture says.

    The shipped encoder (`encoders.compact`) with another beginning, and something between its three vectors and its
    rows; what is the encoder's own is neither trained nor saved again.
    """

    def __init__(self, base: compact.CompactEncoder, ways: int, z: int = 0, hidden: int = 256) -> None:
        super().__init__()
        self.z, self.base = z, (base,)  # no submodule
        wide = base.w_dim
        backbone = EfficientNetLite0()
        self.stem, self.blocks = backbone.stem, backbone.blocks[:KEPT]
        self.place = nn.Parameter(torch.zeros(1, 32, SIZE // 2, SIZE // 2))
        self.way = nn.Parameter(torch.zeros(ways, 32))
        self.named = nn.Parameter(torch.zeros(ways, 3 * wide))
        self.narrow, self.light = nn.Linear(3 * LOW * LOW, 64), nn.Linear(64, 3 * wide)
        self.into, self.out = nn.Linear(3 * wide + z, hidden), nn.Linear(hidden, 3 * wide)
        if z:
            self.paint = nn.Linear(z, 2 * wide, bias=False)  # beginning with z's numbers as W's first components
            self.paint.weight.data.copy_(PAINTED * torch.eye(wide)[:, :z].repeat(2, 1))
        for layer in (self.light, self.out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.requires_grad_(True)

    def forward(self, pictures: Tensor, way: Tensor, z: Tensor | None = None) -> Tensor:
        return self.drawn(self.read(pictures, way), z)

    def read(self, pictures: Tensor, way: Tensor) -> Tensor:
        """-> the encoder's vectors for coarse, middle and fine rows, beside each other (B, 3 * 512)"""
        (base,) = self.base
        x = F.relu6(self.stem(normalised(pictures)) + self.place + self.way[way][:, :, None, None])  # (B, 32, S/2, S/2)
        taps = []
        for index, block in enumerate((*self.blocks, *base.backbone.blocks[KEPT:])):
            x = block(x)
            if index in compact.TAPS:
                taps.append(x)
        pixels = area_resize(pictures, LOW).flatten(1)
        vectors = torch.cat(base.vectors(taps, pixels)[::-1], 1)
        return vectors + self.named[way] + self.light(F.leaky_relu(self.narrow(pixels), 0.2))

    def drawn(self, vectors: Tensor, z: Tensor | None = None) -> Tensor:
        """From what was read."""
        x = F.leaky_relu(self.into(vectors if z is None else torch.cat([vectors, z], 1)), 0.2)
        (base,) = self.base
        rows = base.rows((vectors + self.out(x)).chunk(3, 1)[::-1])
        if z is None:
            return rows
        fine, middle, _ = compact.LEVELS
        coloured = (
            self.paint(z)
            .unflatten(1, (2, -1))
            .repeat_interleave(torch.tensor([fine - middle, rows.shape[1] - fine]), 1)
        )
        return torch.cat([rows[:, :middle], rows[:, middle:] + coloured], 1)


def start(ways: int, z: int = 0) -> Drawer:
    """A new one, whose answers are the encoder's."""
    base = encoder()
    drawer = Drawer(base, ways, z)
    drawer.stem.load_state_dict(base.backbone.stem.state_dict())
    drawer.blocks.load_state_dict(base.backbone.blocks[:KEPT].state_dict())
    drawer.place.data.copy_(base.place)
    return drawer


def encoder() -> compact.CompactEncoder:
    """The shipped encoder, on the CPU."""
    return compact.shipped(torch.device("cpu"))


@cache
def encoder_sha256() -> str:
    return hashlib.sha256(compact.SHIPPED.read_bytes()).hexdigest()


class StyleReader(nn.Module):
    """BicycleGAN's encoder: the view (B, 3, COMPONENTS) of a result -> mean and log variance of its z (B, Z).

    It begins with the first components of the fine rows, and sure of them: a z that says nothing at first, a drawer
    learns to ignore.
    """

    def __init__(self, z: int, hidden: int = 256) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(len(ROWS) * COMPONENTS, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, hidden), nn.LeakyReLU(0.2),
            nn.Linear(hidden, 2 * z),
        )  # fmt: skip
        nn.init.zeros_(self.net[-1].weight)
        self.net[-1].bias.data.copy_(torch.tensor([0.0, -2.0]).repeat_interleave(z))

    def forward(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.net(seen.flatten(1)).chunk(2, 1)
        return mean + seen[:, -1, : mean.shape[1]], log_variance.clamp(-8, 8)


def view(u: Tensor) -> Tensor:
    """u (B, num_ws, 512), whitened -> (B, 3, COMPONENTS), the means of coarse, middle and fine rows."""
    return torch.stack([u[:, start:end, :COMPONENTS].mean(1) for start, end in ROWS.values()], 1)


@dataclass(frozen=True)
class Family:
    """Heads of one file.  kind: of KINDS; ways: keys of `degrade.WAYS`, what their pictures lack; wider: than trained
    with, codes are drawn."""

    kind: str
    ways: Sequence[str]
    drawer: Drawer
    style: StyleReader | None = None
    sha256: str = ""
    wider: float = WIDER

    @cached_property
    def names(self) -> list[str]:
        return [f"{self.kind}:{way}" for way in self.ways if way != PLAIN]


@dataclass(frozen=True)
class PictureHead:
    """One way to draw a face from a picture that lacks something.  seed: which result, where there are many."""

    name: str
    family: Family
    seed: int = 0

    @property
    def sha256(self) -> str:
        """Of its file."""
        return self.family.sha256

    @property
    def way(self) -> str:
        return self.name.split(":")[1]

    @property
    def varies(self) -> bool:
        """Whether there are many results."""
        return self.family.drawer.z > 0

    @property
    def edits(self) -> bool:
        """Whether it is of use on a face that has a code already: what came from lines or halves has nothing to add."""
        return self.varies or self.way in MENDED

    @torch.no_grad()
    def __call__(self, pictures: Tensor, seeds: Sequence[int] | None = None, z: Tensor | None = None) -> Tensor:
        """pictures (B, 3, S, S) RGB in [-1, 1], aligned as FFHQ is -> ws (B, 16, 512).

        seeds: instead of the head's own: one a picture, or several for one picture.  z (B, Z): codes themselves, as
        `style` reads them.
        """
        vectors = self._read(pictures, self.way)
        if self.varies and z is None:
            z = noise([self.seed] * len(vectors) if seeds is None else seeds, self.family.drawer.z) * self.family.wider
        if z is not None:
            vectors, z = vectors.expand(len(z), -1), z.to(vectors)
        return self._unwhitened(vectors, z).to(pictures.device)

    @torch.no_grad()
    def style(self, ws: Tensor) -> Tensor:
        """ws (B, num_ws, w_dim) of a face -> z (B, Z), with which others get its style.  UsageError if it has none."""
        if self.family.style is None:
            raise UsageError(f"{self.name} gives one result: there is no style to read.")
        return self.family.style(view(w_statistics.load().whiten(ws.float().cpu())))[0].to(ws.device)

    @torch.no_grad()
    def change(self, picture: Tensor, ws: Tensor) -> Tensor:
        """picture (1, 3, S, S) of the code ws (1, num_ws, w_dim) -> what to add to it, of the shape of ws.

        The answer less the same reader's answer to the picture as it is: what is lacking, and not how well faces are
        read.  Where there are many results: the seed's less that with the face's own style.
        """
        if self.varies:
            given = WAYS[self.way](to_uint8(area_resize(picture, SIZE))[0], np.random.default_rng(0))
            x = to_float(given).to(picture.device)
            found = self(x) - self(x, z=self.style(ws))
        else:
            plain = self._unwhitened(self._read(picture, PLAIN))
            found = self(picture) - plain.to(picture.device)
        return found[:, torch.arange(ws.shape[1]).clamp(max=MERGED - 1)].to(ws)

    def _read(self, pictures: Tensor, way: str) -> Tensor:
        number = torch.full((len(pictures),), self.family.ways.index(way))
        return self.family.drawer.read(area_resize(pictures.float().cpu(), SIZE), number)

    def _unwhitened(self, vectors: Tensor, z: Tensor | None = None) -> Tensor:
        return w_statistics.load().unwhiten(self.family.drawer.drawn(vectors, z))


def noise(seeds: Sequence[int], size: int) -> Tensor:
    """Codes (B, size), one a seed, whatever is drawn beside it."""
    drawn = [np.random.default_rng((11, seed % 2**63)).standard_normal(size) for seed in seeds]
    return torch.from_numpy(np.stack(drawn)).float()


def save(family: Family, path: Path) -> None:
    """As safetensors, float16."""
    networks = {"drawer": family.drawer} | ({"style": family.style} if family.style else {})
    tensors = {f"{part}.{k}": v for part, network in networks.items() for k, v in weights.half(network).items()}
    facts = {
        "format": FORMAT,
        "kind": family.kind,
        "ways": list(family.ways),
        "encoder": encoder_sha256(),
        "wider": family.wider,
    }
    with replacing(path) as part:
        save_file(tensors, part, metadata={"heads": json.dumps(facts)})


def load(path: Path) -> dict[str, PictureHead]:
    """Heads by name.  UsageError if the file holds none."""
    try:
        with safe_open(path, "pt") as file:
            facts = json.loads((file.metadata() or {}).get("heads", "{}"))
        if facts.get("format") != FORMAT or facts.get("kind") not in KINDS or not set(facts["ways"]) <= {*WAYS, PLAIN}:
            raise UsageError(f"{path} holds no heads that read pictures.")
        wider = float(facts.get("wider", BEFORE))
        if not 0 <= wider <= 10:
            raise ValueError(f"{wider} as a spread of codes")
        if facts["encoder"] != encoder_sha256():
            raise UsageError(f"{path} was trained on another version of the encoder than this package's.")
    except (OSError, SafetensorError) as error:
        raise WplusError(f"{path} cannot be read: {error}") from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path} holds no heads: {error}") from None
    state = weights.read(path, "heads")
    with weights.described(path, "a file of heads"):
        ways, hidden = facts["ways"], len(state["drawer.into.bias"])
        z = state["drawer.into.weight"].shape[1] - 3 * encoder().w_dim
        drawer = weights.filled(lambda: Drawer(encoder(), len(ways), z, hidden), under(state, "drawer."))
        style = None
        if z:
            style = weights.filled(lambda: StyleReader(z, len(state["style.net.0.bias"])), under(state, "style."))
    family = Family(facts["kind"], ways, drawer, style, hashlib.sha256(Path(path).read_bytes()).hexdigest(), wider)
    return {name: PictureHead(name, family) for name in family.names}
