"""LostGANs' idea on the latents: labelled boxes become masks, masks a map, and the map a face (`editing.heads.maps`).

    head = load(path)
    wanted = head.map_of({"hair": (0.2, 0.05, 0.6, 0.7), "face": ..., "mouth": ...}, seed=1)      # (SIDE, SIDE) labels

Every object has a label's embedding and a random code of its shape; a small network sees both with the object's own box
and all boxes, and regresses a mask (Sun and Wu, arXiv 1908.07500, section 3.2), which is laid into the box.  The masks
compete at every pixel.  Not the paper's network: there masks modulate a generator that is trained for them (ISLA norm),
here SPADE's head takes the map from there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from editing.heads import files, repaint
from editing.heads.maps import SIDE
from editing.heads.translators import under
from editing.judges.parsing.labels import CLASSES
from stylegan2 import console, weights
from stylegan2.errors import UsageError

OBJECTS = ("clothes", "neck", "hair", "face", "left_ears", "right_ears", "left_brows", "right_brows", "left_eyes",
           "right_eyes", "nose", "mouth", "glasses")  # fmt: skip
NEEDED = ("hair", "face")  # a layout without them is filled up from what is usual
GRID = 32  # of a mask, before it is laid into its box
SHADES = 3  # classes that an object can consist of: the mouth's lips and what is between them
FORMAT = "wplus-layouts-1"
FILE = Path(__file__).with_name("data") / "lostgans.safetensors"
Layout = Mapping[str, Sequence[float]]  # object -> box: x, y, width, height in parts of the picture


def shades(name: str) -> tuple[str, ...]:
    """The classes that an object consists of in a map: a face's inner parts are objects of their own."""
    part = name.removeprefix("left_").removeprefix("right_")
    return ("skin",) if part == "face" else repaint.PARTS[part]


def boxes_of(labels: np.ndarray) -> dict[str, tuple[float, float, float, float]]:
    """A map's objects and their boxes."""
    found = {name: repaint.box_of(repaint.of(labels, name)) for name in OBJECTS}
    return {name: box for name, box in found.items() if box is not None}


def checked(layout: Layout) -> dict[str, tuple[float, float, float, float]]:
    """UsageError for objects that there are not, and boxes outside the picture."""
    if not isinstance(layout, Mapping) or not layout:
        raise UsageError('A layout names objects and their boxes: {"mouth": [0.4, 0.68, 0.2, 0.07], ...}')
    for name in layout:
        if name not in OBJECTS:
            raise UsageError(console.unknown("objects", str(name), OBJECTS))
    return {name: repaint.checked_box(box) for name, box in layout.items()}


def tensors_of(layouts: Sequence[Layout]) -> tuple[Tensor, Tensor]:
    """-> boxes (B, O, 4) with zeros where an object is not there, and which there are (B, O) float."""
    boxes, there = torch.zeros(len(layouts), len(OBJECTS), 4), torch.zeros(len(layouts), len(OBJECTS))
    for row, layout in enumerate(layouts):
        for name, box in layout.items():
            place = OBJECTS.index(name)
            boxes[row, place], there[row, place] = torch.tensor(box), 1.0
    return boxes, there


class MaskRegressor(nn.Module):
    """Boxes (B, O, 4), which there are (B, O), codes z (B, O, Z) -> logits of masks (B, O, SHADES, GRID, GRID)."""

    def __init__(self, z: int = 8, hidden: int = 128, width: int = 24) -> None:
        super().__init__()
        self.z, self.width, count = z, width, len(OBJECTS)
        self.label = nn.Parameter(torch.randn(count, 16) * 0.5)
        self.into = nn.Sequential(
            nn.Linear(16 + z + 4 + 5 * count, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, hidden), nn.LeakyReLU(0.2),
            nn.Linear(hidden, width * 64), nn.LeakyReLU(0.2),
        )  # fmt: skip
        self.conv = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.LeakyReLU(0.2), nn.Upsample(scale_factor=2),
            nn.Conv2d(width, width, 3, padding=1), nn.LeakyReLU(0.2), nn.Upsample(scale_factor=2),
            nn.Conv2d(width, width, 3, padding=1), nn.LeakyReLU(0.2), nn.Conv2d(width, SHADES, 3, padding=1),
        )  # fmt: skip

    def forward(self, boxes: Tensor, there: Tensor, z: Tensor) -> Tensor:
        batch, count = there.shape
        every = torch.cat([boxes * there[..., None], there[..., None]], 2).flatten(1)[:, None].expand(-1, count, -1)
        seen = torch.cat([self.label.expand(batch, -1, -1), z, boxes, every], 2)
        x = self.into(seen).view(batch * count, self.width, 8, 8)
        return self.conv(x).view(batch, count, SHADES, GRID, GRID)


class ShapeReader(nn.Module):
    """Masks in their boxes (B, O, SHADES, GRID, GRID) in {0, 1} -> mean and log variance of z (B, O, Z)."""

    def __init__(self, z: int = 8, width: int = 16) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(SHADES, width, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(width, 2 * width, 4, 2, 1),
            nn.LeakyReLU(0.2), nn.Conv2d(2 * width, 2 * width, 4, 2, 1), nn.LeakyReLU(0.2),
        )  # fmt: skip
        self.out = nn.Linear(2 * width * (GRID // 8) ** 2, 2 * z)

    def forward(self, masks: Tensor) -> tuple[Tensor, Tensor]:
        x = self.conv(masks.flatten(0, 1)).flatten(1)
        mean, log_variance = self.out(x).view(*masks.shape[:2], -1).chunk(2, 2)
        return mean, log_variance.clamp(-8, 8)


def laid(masks: Tensor, boxes: Tensor, there: Tensor, side: int = SIDE) -> Tensor:
    """Logits of masks (B, O, SHADES, GRID, GRID) in their boxes -> logits of classes (B, classes, side, side)."""
    batch, count = there.shape
    at = (torch.arange(side, device=masks.device) + 0.5) / side
    x = (at - boxes[..., :1]) / boxes[..., 2:3].clamp_min(1e-3)  # (B, O, side), 0 to 1 within the box
    y = (at - boxes[..., 1:2]) / boxes[..., 3:4].clamp_min(1e-3)
    grid = torch.stack([x[:, :, None].expand(-1, -1, side, -1), y[..., None].expand(-1, -1, -1, side)], -1) * 2 - 1
    picture = F.grid_sample(masks.flatten(0, 1), grid.flatten(0, 1), padding_mode="border", align_corners=False)
    inside = ((grid.abs() <= 1).all(-1) & (there[..., None, None] > 0))[:, :, None]
    picture = torch.where(inside, picture.view(batch, count, SHADES, side, side), torch.full((), -20.0))
    logits = [picture.new_zeros(batch, side, side) if name == "background" else None for name in CLASSES]
    for place, name in enumerate(OBJECTS):
        for shade, each in enumerate(shades(name)):
            index, found = CLASSES.index(each), picture[:, place, shade]
            logits[index] = found if logits[index] is None else torch.logaddexp(logits[index], found)
    return torch.stack(logits, 1)


def cut(labels: Tensor, boxes: Tensor, there: Tensor) -> Tensor:
    """Maps (B, S, S) -> every object's masks in its box (B, O, SHADES, GRID, GRID) float."""
    at = (torch.arange(GRID) + 0.5) / GRID
    x, y = boxes[..., :1] + at * boxes[..., 2:3], boxes[..., 1:2] + at * boxes[..., 3:4]  # (B, O, GRID)
    size = labels.shape[-1]
    columns, rows = (x * size).long().clamp(0, size - 1), (y * size).long().clamp(0, size - 1)
    which = torch.arange(len(labels))[:, None, None, None]
    seen = labels[which, rows[..., None], columns[:, :, None]]  # (B, O, GRID, GRID)
    wanted = [[CLASSES.index(n) for n in shades(name)] for name in OBJECTS]
    masks = [
        torch.stack([seen[:, o] == (names[k] if k < len(names) else -1) for k in range(SHADES)], 1)
        for o, names in enumerate(wanted)
    ]
    return torch.stack(masks, 1).float() * there[..., None, None, None]


@dataclass(frozen=True)
class LayoutHead:
    """The two networks, frozen, on the CPU.  usual (O, 4): the mean box of every object."""

    regressor: MaskRegressor
    shape: ShapeReader
    usual: Tensor
    sha256: str = ""

    @torch.no_grad()
    def map_of(self, layout: Layout, seed: int | None = None, like: np.ndarray | None = None) -> np.ndarray:
        """Boxes -> map (SIDE, SIDE) uint8.  seed: of random shapes, None for the mean; like: a map whose objects'
        shapes are kept.  What a layout must have and lacks, hair and face, comes to its usual place."""
        layout = checked(layout)
        layout |= {name: tuple(self.usual[OBJECTS.index(name)].tolist()) for name in NEEDED if name not in layout}
        boxes, there = tensors_of([layout])
        z = torch.zeros(1, len(OBJECTS), self.regressor.z)
        if seed is not None:
            rng = np.random.default_rng((13, seed))
            z = torch.from_numpy(rng.standard_normal(z.shape, np.float32))
        if like is not None:
            theirs = boxes_of(like)
            known = tensors_of([theirs])
            read = self.shape(cut(torch.from_numpy(like[None].astype(np.int64)), *known))[0]
            z = torch.where(known[1][..., None] > 0, read, z)
        return laid(self.regressor(boxes, there, z), boxes, there).argmax(1)[0].numpy().astype(np.uint8)


MAKERS = {"regressor": MaskRegressor, "shape": ShapeReader}


FACTS = {"format": FORMAT, "objects": list(OBJECTS)}


def save(head: LayoutHead, path: Path) -> None:
    """As safetensors, float16."""
    files.write(path, FACTS, {part: getattr(head, part) for part in MAKERS}, usual=head.usual)


def load(path: Path = FILE) -> LayoutHead:
    """UsageError or CheckpointError if the file holds no such head."""
    state = files.checked(path, "head for layouts", FACTS)
    with weights.described(path, "a head for layouts"):
        z = state["shape.out.bias"].shape[0] // 2
        hidden, width = state["regressor.into.0.bias"].shape[0], state["regressor.conv.0.bias"].shape[0]
        regressor = weights.filled(lambda: MaskRegressor(z, hidden, width), under(state, "regressor."))
        shape = weights.filled(lambda: ShapeReader(z, state["shape.conv.0.bias"].shape[0]), under(state, "shape."))
        if state["usual"].shape != (len(OBJECTS), 4):
            raise ValueError("its usual boxes do not fit")
    return LayoutHead(regressor, shape, state["usual"].float(), files.sha256(path))


@lru_cache(maxsize=1)
def shipped() -> LayoutHead:
    with torch.inference_mode(False):
        return load()
