"""Changing a map of a face's parts: parts moved, taken from another map, and what they leave behind filled.

Maps are (S, S) uint8 of indices into `CLASSES`.  A part is a group of classes that go together; positions and boxes
(x, y, width, height) are in parts of the picture, y down.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from editing.judges.parsing.labels import CLASSES
from stylegan2 import console
from stylegan2.errors import UsageError

PARTS = {
    "hair": ("hair",), "brows": ("brows",), "eyes": ("eyes",), "nose": ("nose",),
    "mouth": ("upper_lip", "mouth", "lower_lip"), "ears": ("ears",), "glasses": ("glasses",), "neck": ("neck",),
    "clothes": ("clothes",), "face": ("skin", "brows", "eyes", "nose", "upper_lip", "mouth", "lower_lip"),
}  # fmt: skip
SIDED = ("brows", "eyes", "ears")  # two instances: left_eyes is the one on the left of the picture
BENEATH = ("hair", "neck", "clothes")  # parts that do not cover the inner face
OVER = ("brows", "eyes", "nose", "upper_lip", "mouth", "lower_lip", "glasses")  # what other parts do not cover


def indices(names: Sequence[str]) -> list[int]:
    return [CLASSES.index(name) for name in names]


def of(labels: np.ndarray, part: str) -> np.ndarray:
    """Where a part is: (S, S) bool.  'left_eyes', 'right_brows' and so on name one of two.  UsageError for others."""
    side, _, name = part.partition("_") if part.startswith(("left_", "right_")) else ("", "", part)
    if name not in PARTS or (side and name not in SIDED):
        known = [*PARTS, *(f"{side}_{name}" for name in SIDED for side in ("left", "right"))]
        raise UsageError(console.unknown("parts", part, known))
    found = np.isin(labels, indices(PARTS[name]))
    if not side or not found.any():
        return found
    face = np.isin(labels, indices(PARTS["face"]))
    middle = np.nonzero(face if face.any() else found)[1].mean()
    columns = np.arange(labels.shape[1])[None]
    return found & (columns < middle if side == "left" else columns >= middle)


def box_of(inside: np.ndarray) -> tuple[float, float, float, float] | None:
    """(S, S) bool -> its box, None if it is empty."""
    ys, xs = np.nonzero(inside)
    if not len(ys):
        return None
    height, width = inside.shape
    return (xs.min() / width, ys.min() / height, (xs.max() + 1 - xs.min()) / width, (ys.max() + 1 - ys.min()) / height)


def without(labels: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The map with what is inside replaced by the nearest label that is not."""
    if not inside.any() or inside.all():
        return labels.copy()
    rows, columns = ndimage.distance_transform_edt(inside, return_distances=False, return_indices=True)
    return labels[rows, columns]


def carried(labels: np.ndarray, inside: np.ndarray, box: Sequence[float], to: Sequence[float]) -> np.ndarray:
    """The labels inside, moved and stretched from one box to another -> (S, S) int, -1 where there are none."""
    size = labels.shape[0]
    at = (np.arange(size) + 0.5) / size
    x = (at - to[0]) * box[2] / to[2] + box[0]
    y = (at - to[1]) * box[3] / to[3] + box[1]
    columns, rows = np.floor(x * size).astype(int), np.floor(y * size).astype(int)
    there = ((rows >= 0) & (rows < size))[:, None] & ((columns >= 0) & (columns < size))[None]
    rows, columns = rows.clip(0, size - 1), columns.clip(0, size - 1)
    there &= inside[rows][:, columns]
    return np.where(there, labels[rows][:, columns].astype(int), -1)


def pasted(labels: np.ndarray, part: np.ndarray, beneath: bool = False) -> np.ndarray:
    """The map under a part (S, S) int, -1 where it is not; beneath: not over the inner face."""
    over = part >= 0
    if beneath:
        over &= ~np.isin(labels, indices(OVER))
    return np.where(over, part, labels).astype(np.uint8)


def moved(labels: np.ndarray, part: str, to: Sequence[float]) -> np.ndarray:
    """The map with a part in another box.  UsageError if there is no such part, or the box lies outside."""
    inside = of(labels, part)
    box = box_of(inside)
    if box is None:
        raise UsageError(f"This face has no {part.replace('_', ' ')}.")
    checked_box(to)
    return pasted(
        without(labels, inside), carried(labels, inside, box, to), beneath=part in ("hair", "neck", "clothes")
    )


def checked_box(box: Sequence[float]) -> tuple[float, float, float, float]:
    """UsageError unless these are x, y, width and height of a box of which something lies in the picture."""
    try:
        x, y, width, height = found = tuple(map(float, box))
    except (TypeError, ValueError, OverflowError):
        raise UsageError("A box is four numbers: x, y, width, height, in parts of the picture.") from None
    if not (np.isfinite(found).all() and 0.005 <= width <= 2 and 0.005 <= height <= 2
            and -width < x < 1 and -height < y < 1):  # fmt: skip
        raise UsageError(f"The box {', '.join(f'{v:g}' for v in found)} does not lie in the picture.")
    return found


def shifted(box: Sequence[float], dx: float, dy: float, scale: float = 1.0) -> tuple[float, float, float, float]:
    """A box moved, and scaled about its middle."""
    x, y, width, height = box
    return (x + dx + width * (1 - scale) / 2, y + dy + height * (1 - scale) / 2, width * scale, height * scale)
