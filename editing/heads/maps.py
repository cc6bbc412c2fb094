"""SPADE's idea on the latents: a map of a face's parts goes in, a face with those parts where the map says comes out.

    head = load(path)
    ws = head.draw(wanted, style)                    # what is where from the map, colours and light from another code
    edit = head.edit(x, before, wanted, ws)          # and what is still elsewhere, at its place: a FeatureEdit of STAGE
    edit = head.edit(x, before, wanted, ws, carried) # with parts whose features came along from where they were

A map is (B, SIDE, SIDE) of indices into the parser's `CLASSES`, over the aligned crop.  Two networks: `layout` says
which code a map could be (`editing.heads.pictures.Drawer`, shown the map in its palette); `painter` fills the
generator's features where the map changes, from those around them and from those of the same part elsewhere in the
face (a collage, as in Suzuki et al., arXiv 1811.10153), with SPADE's normalisation (Park et al., arXiv 1903.07291,
eq. 1):

    gamma(map) * (h - mean(h)) / std(h) + beta(map)

Not the paper's network: the frozen generator draws, and style comes from W+.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor, nn

from editing.heads import files, pictures
from editing.heads.translators import under
from editing.judges.parsing.labels import CLASSES, PALETTE
from stylegan2 import w_statistics, weights
from stylegan2.generator import FeatureEdit

SIDE = 128  # of maps
CELLS = 32  # of STAGE's features
SHAPED = 4  # first rows of a code, those that say what is where: the others are the style
FORMAT = "wplus-maps-1"
FILE = Path(__file__).with_name("data") / "spade.safetensors"
REACH = 9  # pixels of a map: how far around what changes features change, too
LARGE = ("background", "skin", "hair", "neck", "clothes")
PURE = 0.9  # share of a class from which on a cell is of no other
KNOWN = 0.5  # of `changed`: features below it are the face's own


class SpadeBlock(nn.Module):
    """x (B, C, H, W), what was read of the map (B, M, H, W) -> x plus twice normalise, modulate, rectify, convolve."""

    def __init__(self, channels: int, seen: int) -> None:
        super().__init__()
        self.modulate = nn.ModuleList(nn.Conv2d(seen, 2 * channels, 3, padding=1) for _ in range(2))
        self.conv = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=d, dilation=d) for d in (1, 3))

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        h = x
        for modulate, conv in zip(self.modulate, self.conv, strict=True):
            gamma, beta = modulate(seen).chunk(2, 1)
            h = conv(F.leaky_relu(F.instance_norm(h) * (1 + gamma) + beta, 0.2))
        return x + h


class Painter(nn.Module):
    """Features x (B, C, CELLS, CELLS) of STAGE, which of them are known (B, 1, CELLS, CELLS), and the map that they
    should show -> features everywhere.  scale (C,): their standard deviations."""

    def __init__(self, channels: int = 512, width: int = 80, seen: int = 48, blocks: int = 2) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(channels))
        self.maps = nn.Sequential(
            nn.Conv2d(len(CLASSES), 32, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(32, seen, 4, 2, 1),
            nn.LeakyReLU(0.2), nn.Conv2d(seen, seen, 3, padding=1), nn.LeakyReLU(0.2),
        )  # fmt: skip
        self.into = nn.Conv2d(channels + 2, width, 1)
        self.blocks = nn.ModuleList(SpadeBlock(width, seen) for _ in range(blocks))
        self.out = nn.Conv2d(width, channels, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, known: Tensor, wanted: Tensor) -> Tensor:
        scale = self.scale[None, :, None, None]
        begun, copied = collage(x, known, wanted)
        seen = self.maps(one_hot(wanted))
        h = self.into(torch.cat([begun / scale, known, copied], 1))
        for block in self.blocks:
            h = block(h, seen)
        return begun + self.out(F.leaky_relu(h, 0.2)) * scale


def collage(x: Tensor, known: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Features that are not known become those of the nearest known cell of the same class, and of no other where there
    is such a one; 0 where there is none -> the features, and where they were copied (B, 1, CELLS, CELLS)."""
    share, begun = shares(wanted), x.clone()
    cells, copied = coarse(share).numpy(), torch.zeros_like(known)
    pure = (share.amax(1) > PURE).numpy()
    for row, free in enumerate((known[:, 0] < 0.5).cpu().numpy()):
        begun[row, :, torch.from_numpy(free)] = 0
        for label in np.unique(cells[row][free]):
            need, have = free & (cells[row] == label), ~free & (cells[row] == label)
            have = have & pure[row] if (have & pure[row]).any() else have
            if have.any():
                rows, columns = ndimage.distance_transform_edt(~have, return_distances=False, return_indices=True)
                source = torch.from_numpy(rows[need]), torch.from_numpy(columns[need])
                begun[row][:, torch.from_numpy(need)] = x[row][:, source[0], source[1]]
                copied[row, 0, torch.from_numpy(need)] = 1
    return begun, copied


def shares(maps: Tensor) -> Tensor:
    """Maps (B, SIDE, SIDE) -> the share of every class in a cell (B, classes, CELLS, CELLS)."""
    return F.interpolate(one_hot(maps), (CELLS, CELLS), mode="area").cpu()


def coarse(share: Tensor) -> Tensor:
    """Shares -> (B, CELLS, CELLS): the class that a cell has most of, small parts counting double."""
    large = torch.tensor([name in LARGE for name in CLASSES])
    return (share * torch.where(large, 1.0, 2.0)[:, None, None]).argmax(1)


def one_hot(maps: Tensor) -> Tensor:
    """(B, H, W) -> (B, classes, H, W) float"""
    return F.one_hot(maps.long(), len(CLASSES)).permute(0, 3, 1, 2).float()


def painted(maps: Tensor) -> Tensor:
    """(B, H, W) -> RGB in the palette's colours (B, 3, H, W) in [-1, 1]"""
    return (torch.from_numpy(PALETTE).to(maps.device)[maps.long()].permute(0, 3, 1, 2).float() / 127.5) - 1


def changed(before: Tensor, wanted: Tensor) -> Tensor:
    """Two maps (B, S, S) -> (B, 1, CELLS, CELLS) in [0, 1]: 1 at what differs and a little around it, 0 elsewhere."""
    near = F.max_pool2d((before != wanted).float()[:, None], REACH, 1, REACH // 2)
    return F.avg_pool2d(F.interpolate(near, (CELLS, CELLS), mode="area"), 3, 1, 1, count_include_pad=False)


def shrunk(labels: np.ndarray, side: int = SIDE) -> Tensor:
    """The parser's labels (H, H) or (B, H, H) -> maps (B, side, side) int64, the nearest pixel."""
    labels = labels if labels.ndim == 3 else labels[None]
    step = labels.shape[-1] // side
    at = np.arange(side) * step + step // 2
    return torch.from_numpy(labels[:, at][:, :, at].astype(np.int64))


@dataclass(frozen=True)
class Carried:
    """Features that came along with parts: x (B, C, CELLS, CELLS), where they count (B, 1, CELLS, CELLS) in [0, 1]."""

    x: Tensor
    mask: Tensor


@dataclass(frozen=True)
class MapHead:
    """The two networks, frozen, on the CPU."""

    layout: pictures.Drawer
    painter: Painter
    sha256: str = ""

    @torch.no_grad()
    def draw(self, wanted: Tensor, style: Tensor) -> Tensor:
        """maps (B, SIDE, SIDE), codes (B, num_ws, w_dim) -> ws (B, num_ws, w_dim) in W+: shape rows from the maps."""
        u = self.layout(painted(wanted), torch.zeros(len(wanted), dtype=torch.long))
        shaped = w_statistics.load().unwhiten(u[:, :SHAPED])
        return torch.cat([shaped.to(style), style[:, SHAPED:]], 1)

    @torch.no_grad()
    def edit(
        self, x: Tensor, before: Tensor, wanted: Tensor, ws: Tensor, carried: Carried | None = None
    ) -> FeatureEdit:
        """Features x (B, C, CELLS, CELLS) of codes ws, which show `before` -> what makes that `wanted`."""
        given, mask = x.float().cpu(), changed(before, wanted)
        known, seen = (mask < KNOWN).float(), given
        if carried is not None:
            came, at = carried.x.float().cpu(), carried.mask.cpu()
            seen = torch.lerp(given, came, at)
            known = torch.maximum(known, (at > KNOWN).float())
            mask = torch.maximum(mask, at)
        found = self.painter(seen, known, wanted)
        if carried is not None:
            found = torch.lerp(found, came, at)
        return FeatureEdit((found - given).to(x), mask.to(x), ws)


def facts() -> dict:
    return {"format": FORMAT, "classes": list(CLASSES), "encoder": pictures.encoder_sha256()}


def save(head: MapHead, path: Path) -> None:
    """As safetensors, float16."""
    files.write(path, facts(), {part: getattr(head, part) for part in MAKERS})


def load(path: Path = FILE) -> MapHead:
    """UsageError or CheckpointError if the file holds no such head."""
    state = files.checked(path, "head for maps", facts())
    with weights.described(path, "a head for maps"):
        networks = (make(under(state, f"{name}.")) for name, make in MAKERS.items())
        return MapHead(*networks, files.sha256(path))


def _layout(state: Mapping[str, Tensor]) -> pictures.Drawer:
    return weights.filled(lambda: pictures.Drawer(pictures.encoder(), 1, 0, len(state["into.bias"])), state)


def _painter(state: Mapping[str, Tensor]) -> Painter:
    channels, width, seen = len(state["scale"]), len(state["into.bias"]), len(state["maps.2.bias"])
    blocks = sum(name.endswith("conv.0.bias") for name in state)
    return weights.filled(lambda: Painter(channels, width, seen, blocks), state)


MAKERS = {"layout": _layout, "painter": _painter}


@lru_cache(maxsize=1)
def shipped() -> MapHead:
    with torch.inference_mode(False):
        return load()
