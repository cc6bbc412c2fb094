"""Layouts: boxes with classes, what LostGANs is trained on and draws from.

Training takes a folder of pictures and one JSON file, `--labels layouts.json`: our own,

    {"classes": ["sky", "tree"], "pictures": {"a.jpg": [{"class": "sky", "box": [0, 0, 1, 0.4]}, ...], ...}}

with boxes [x, y, width, height] in fractions of the picture, or COCO's (`instances_train2017.json`, `stuff_...json`),
whose boxes are in pixels; or a folder of the factory of the kind "parsed", where every connected part of a class of
`editing.judges.parsing` is an object.  To draw, a layout is {"boxes": [{"class": ..., "box": [...]}, ...]}.

Classes count from 1 in the order of their names (COCO: of their ids); 0 pads.  What does not fit is a UsageError of one
sentence.
"""

from __future__ import annotations

import colorsys
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from editing.translation import data
from stylegan2 import console, engine
from stylegan2.errors import UsageError

MOST = 31  # objects of a picture, as on Visual Genome
PADDING = (-0.6, -0.6, 0.5, 0.5)
FEWEST, COCO_MOST, COCO_AREA = 3, 8, 0.02  # of COCO's: objects of a picture, and the share of it that a box covers
PART = 0.001  # share of a face's pixels from which a part of a class is an object
EDGE = 1e-3  # how far a box may stand out of the picture by rounding
LEAST = 1e-4  # of the picture that a box covers
GOLDEN = 0.618  # of the colour circle, from one class to the next

Box = tuple[float, float, float, float]
Objects = list[tuple[int, Box]]  # class and box


@dataclass(frozen=True)
class Layouts:
    """Objects a of pictures b, and the names of classes 1, 2, ..."""

    a: Sequence[Objects]
    b: data.Pictures
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.a)

    def batch(self, number: int, count: int, size: int, seed: int) -> dict[str, Tensor]:
        """Batch `number` of a training, always the same: b (B, 3, size, size) in [-1, 1], labels (B, O), boxes
        (B, O, 4), padded to the most objects of the batch.  A picture is squeezed into the square, as published, and
        mirrored every second time, which the authors have as a second copy of it."""
        from encoders.batches import epoch_order

        pictures, found = [], []
        for place in epoch_order(len(self), count, number, seed):
            mirrored = np.random.default_rng((seed, number, int(place))).random() < 0.5
            picture = Image.fromarray(self.b[int(place)]).resize((size, size), Image.Resampling.BICUBIC)
            pixels, objects = np.asarray(picture), self.a[int(place)]
            if mirrored:
                pixels = pixels[:, ::-1]
                objects = [(label, (1 - x - w, y, w, h)) for label, (x, y, w, h) in objects]
            pictures.append(engine.to_float(np.ascontiguousarray(pixels))[0])
            found.append(objects)
        labels, boxes = padded(found)
        return {"b": torch.stack(pictures), "labels": labels, "boxes": boxes}


def padded(layouts: Sequence[Objects]) -> tuple[Tensor, Tensor]:
    """-> labels (B, O), boxes (B, O, 4), O the most that a layout has, at least 1"""
    most = max(1, *map(len, layouts))
    rows = [[*objects, *[(0, PADDING)] * (most - len(objects))] for objects in layouts]
    labels = torch.tensor([[label for label, _ in row] for row in rows])
    return labels, torch.tensor([[box for _, box in row] for row in rows], dtype=torch.float32)


# ---- faces of the factory


def parts(parsed: np.ndarray, classes: int) -> Objects:
    """Classes of a picture (S, S) uint8, 0 is background -> its objects, at most MOST: connected parts (corners
    connect) of PART of the pixels or more, those with the largest boxes first."""
    from scipy import ndimage

    found = []
    for label in range(1, classes):
        numbered, _ = ndimage.label(parsed == label, np.ones((3, 3)))
        areas = np.bincount(numbered.ravel())[1:]
        for area, (rows, columns) in zip(areas, ndimage.find_objects(numbered), strict=True):
            if area >= PART * parsed.size:
                (height, width), (y, x) = parsed.shape, (rows.start, columns.start)
                found.append((label, (x / width, y / height, (columns.stop - x) / width, (rows.stop - y) / height)))
    return sorted(found, key=lambda entry: -entry[1][2] * entry[1][3])[:MOST]


class Parts(Sequence):
    """Objects of the factory's faces, found when asked for and kept."""

    def __init__(self, maps: data.Shards, classes: int) -> None:
        self.maps, self.classes, self.found = maps, classes, {}

    def __len__(self) -> int:
        return len(self.maps)

    def __getitem__(self, index: int) -> Objects:
        if index not in self.found:
            self.found[index] = parts(self.maps[index], self.classes)
        return self.found[index]


def parsed(folder: Path) -> Layouts:
    from editing.judges.parsing import CLASSES

    kind = data.facts(folder).get("kind")
    if kind != "parsed":
        raise UsageError(f"{folder} holds {kind} pairs, not parsed faces: make some with --kind parsed")
    return Layouts(Parts(data.Shards(folder, "a"), len(CLASSES)), data.Shards(folder, "b"), CLASSES[1:])


# ---- pictures and a JSON file


def opened(folder: Path, table: Path | None = None) -> Layouts:
    """See the module."""
    if (folder / "facts.json").exists():
        if table is not None:
            raise UsageError("Faces of the factory have their own layouts: leave --labels out.")
        return parsed(folder)
    files = data.Files(folder)
    if table is None:
        raise UsageError("LostGANs learns from layouts: --labels layouts.json")
    content = read(table)
    try:
        names, layouts = coco(content) if "annotations" in content else own(content)
    except (KeyError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
        said = str(error) if type(error) is ValueError else f"{type(error).__name__} {str(error)[:60]}"
        raise UsageError(f"{table} is no table of layouts: {said}") from None
    known = {path.relative_to(folder).as_posix(): path for path in files.paths}
    if not layouts:
        raise UsageError(f"{table} has no picture with objects that fit.")
    for name in layouts:
        if name not in known:
            raise UsageError(f"{table} has boxes for {name[:80]!r}, which is not in {folder}.")
    files.paths = [known[name] for name in layouts]
    return Layouts(list(layouts.values()), files, names)


def read(path: Path) -> dict:
    """The JSON object in a file."""
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}).") from None
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise UsageError(f"{path} is no layout: that is a JSON object, in text.")
    return content


def own(content: Mapping[str, Any]) -> tuple[list[str], dict[str, Objects]]:
    """Our own table -> names of the classes, and the objects of each picture by its name."""
    names = content.get("classes")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError('it needs "classes", a list of names.')
    if len(set(names)) < len(names):
        raise ValueError("a class is named twice.")
    if not isinstance(content.get("pictures"), dict):
        raise ValueError('it needs "pictures", the objects of each by its name.')
    numbers, found = {name: number for number, name in enumerate(names, 1)}, {}
    for name, entries in content["pictures"].items():
        try:
            found[name] = objects(entries, numbers, len(names) + 1)
        except ValueError as error:
            raise ValueError(f"{name[:80]}: {error}") from None
    return names, {name: layout for name, layout in found.items() if layout}


def coco(content: Mapping[str, Any]) -> tuple[list[str], dict[str, Objects]]:
    """COCO's table -> the same.  As published, boxes below COCO_AREA of the picture are left out, and pictures with
    fewer than FEWEST or more than COCO_MOST objects."""
    categories = sorted(content["categories"], key=lambda entry: int(entry["id"]))
    numbers = {entry["id"]: number for number, entry in enumerate(categories, 1)}
    pictures = {entry["id"]: entry for entry in content["images"]}
    found: dict[str, Objects] = {}
    for entry in content["annotations"]:
        picture = pictures[entry["image_id"]]
        if not isinstance(picture["file_name"], str):
            raise ValueError(f"a picture's file_name is {str(picture['file_name'])[:40]!r}, which is no name.")
        size = (picture["width"], picture["height"]) * 2
        x, y, width, height = (value / side for value, side in zip(entry["bbox"], size, strict=True))
        x, y, right, bottom = (min(max(value, 0.0), 1.0) for value in (x, y, x + width, y + height))
        box = (x, y, right - x, bottom - y)
        if box[2] * box[3] >= COCO_AREA:
            found.setdefault(picture["file_name"], []).append((numbers[entry["category_id"]], box))
    kept = {name: layout for name, layout in found.items() if FEWEST <= len(layout) <= COCO_MOST}
    return [str(entry["name"]) for entry in categories], kept


# ---- one layout


def objects(entries: Any, numbers: Mapping[str, int], classes: int) -> Objects:
    """[{"class": name or number, "box": [x, y, width, height]}, ...] -> its objects; ValueError, one sentence.

    numbers: of the names that are known.  classes: how many the network has, with 0.
    """
    if not isinstance(entries, list):
        raise ValueError('boxes are a list of {"class": ..., "box": [x, y, width, height]}.')
    if len(entries) > MOST:
        raise ValueError(f"it has {len(entries)} objects; at most {MOST} are drawn.")
    found = []
    for entry in entries:
        if not isinstance(entry, dict) or "class" not in entry or "box" not in entry:
            raise ValueError('every object is {"class": ..., "box": [x, y, width, height]}.')
        found.append((number(entry["class"], numbers, classes), checked(entry["box"])))
    return found


def number(named: Any, numbers: Mapping[str, int], classes: int) -> int:
    if isinstance(named, str):
        if named in numbers:
            return numbers[named]
        if not numbers:
            raise ValueError(
                f"this network has no name for {named[:40]!r}: give numbers from 1 to {classes - 1}, or the names of "
                'all classes in order as "classes" in the layout.'
            )
        raise ValueError(console.unknown("classes", named[:40], numbers))
    if not isinstance(named, int) or isinstance(named, bool) or not 1 <= named < classes:
        raise ValueError(f"there is no class {str(named)[:40]}: they are numbered from 1 to {classes - 1}.")
    return named


def checked(box: Any) -> Box:
    """A box, cut off at the picture's edges where it stands out by rounding."""
    sound = isinstance(box, list) and len(box) == 4 and all(map(is_number, box))
    if not sound:
        raise ValueError(f"a box is four numbers, x, y, width and height in fractions, not {str(box)[:60]}.")
    x, y, width, height = box
    if min(width, height) <= 0:
        raise ValueError(f"the box {str(box)[:60]} has no area.")
    if min(x, y) < -EDGE or max(x + width, y + height) > 1 + EDGE:
        raise ValueError(f"the box {str(box)[:60]} is not inside the picture, which goes from 0 to 1.")
    left, top = max(x, 0.0), max(y, 0.0)
    width, height = min(width - (left - x), 1 - left), min(height - (top - y), 1 - top)
    if width * height < LEAST:
        raise ValueError(f"the box {str(box)[:60]} is too small: it covers less than {LEAST:.2%} of the picture.")
    return float(left), float(top), float(width), float(height)


def is_number(value: Any) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return abs(value) <= sys.float_info.max  # neither infinite nor NaN, nor an int that no float holds


def painted(labels: Tensor, boxes: Tensor, size: int) -> Tensor:
    """labels (B, O), boxes (B, O, 4) -> (B, 3, size, size) in [-1, 1]: a colour a class, large boxes behind."""
    pictures = torch.full((len(labels), 3, size, size), -1.0)
    for picture, row, places in zip(pictures, labels.tolist(), boxes.tolist(), strict=True):
        for label, (x, y, width, height) in sorted(
            zip(row, places, strict=True), key=lambda entry: -entry[1][2] * entry[1][3]
        ):
            if label:
                colour = torch.tensor(colorsys.hsv_to_rgb(label * GOLDEN % 1, 0.7, 1.0)) * 2 - 1
                left, top, right, bottom = (round(v * size) for v in (x, y, x + width, y + height))
                picture[:, top:bottom, left:right] = colour[:, None, None]
    return pictures
