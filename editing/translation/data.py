"""What translation networks are trained on: folders of pictures, or shards of the pair factory.

Paired: a folder with `facts.json` (shards), two folders whose files have the same names, or one folder of files with
A and B side by side (pix2pix's own layout).  Unpaired: two folders, of any names.  Labelled: a folder and a table of 0
and 1 (a CSV with a header, or CelebA's list_attr text), or shards.  What does not fit is a UsageError of one sentence.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from editing.faces import photo as photos
from editing.judges.parsing.labels import PALETTE
from stylegan2 import engine
from stylegan2.errors import UsageError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
LARGER = 286 / 256  # of the size that crops are cut from
LABELS = {"0": 0.0, "1": 1.0, "-1": 0.0}  # as they are written


class Shards:
    """One array of a factory's folder, read when asked for."""

    def __init__(self, folder: Path, name: str) -> None:
        starts = sorted(int(path.stem) for path in folder.glob("[0-9]*.seeds"))  # of finished shards
        files = [path for start in starts if (path := folder / f"{start}.{name}.npy").exists()]
        self.parts = [part for part in map(opened, files) if len(part)]
        if not self.parts:
            raise UsageError(f"{folder} holds no {name!r}: make pairs with python -m editing.translate pairs {folder}")
        self.ends = np.cumsum([len(part) for part in self.parts])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, index: int) -> np.ndarray:
        part = int(np.searchsorted(self.ends, index, side="right"))
        return np.asarray(self.parts[part][index - (self.ends[part - 1] if part else 0)])


class Painted(Shards):
    """Label maps as pictures, in the parser's palette."""

    def __getitem__(self, index: int) -> np.ndarray:
        return PALETTE[super().__getitem__(index)]


def opened(file: Path) -> np.ndarray:
    try:
        return np.load(file, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise UsageError(f"{file} is damaged: {error}") from None


def facts(folder: Path) -> dict:
    """What a folder of the factory says of itself."""
    try:
        return json.loads((folder / "facts.json").read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder}/facts.json cannot be read: {error}") from None


class Files:
    """Pictures of a folder, sorted by name; `side` 0 or 1: the left or right half of each."""

    def __init__(self, folder: Path, side: int | None = None) -> None:
        if not folder.is_dir():
            raise UsageError(f"{folder} is not a folder.")
        self.paths = sorted(
            path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.name[0] != "."
        )
        self.folder, self.side = folder, side
        if not self.paths:
            raise UsageError(f"There are no pictures in {folder}.")

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> np.ndarray:
        pixels = photos.load(self.paths[index]).rgb
        if self.side is None:
            return pixels
        middle = pixels.shape[1] // 2
        return pixels[:, :middle] if self.side == 0 else pixels[:, middle : 2 * middle]


Pictures = Shards | Files


@dataclass(frozen=True)
class Source:
    """a, and b (paired, or of another domain) or labels (N, L) with their names; paired: a[i] belongs to b[i]."""

    a: Pictures
    b: Pictures | None = None
    labels: np.ndarray | None = None
    names: Sequence[str] = ()
    paired: bool = False

    def __len__(self) -> int:
        return len(self.a) if self.b is None or self.paired else max(len(self.a), len(self.b))

    def batch(self, number: int, count: int, size: int, seed: int) -> dict[str, Tensor]:
        return batch(self, number, count, size, seed)


def paired(first: Path, second: Path | None = None) -> Source:
    if second is None:
        if (first / "facts.json").exists():
            if facts(first).get("kind") == "judged":
                raise UsageError(f"{first} holds two sets without pairs, which are for cyclegan.")
            shards = Painted if facts(first).get("kind") == "parsed" else Shards
            return Source(shards(first, "a"), Shards(first, "b"), paired=True)
        return Source(Files(first, 0), Files(first, 1), paired=True)
    a, b = Files(first), Files(second)
    if len(a) != len(b):
        raise UsageError(f"Pairs need as many pictures in both folders: {first} has {len(a)}, {second} has {len(b)}.")
    for one, other in zip(a.paths, b.paths, strict=True):
        if one.stem != other.stem:
            raise UsageError(f"Pairs need the same names in both folders: {one.name} has no counterpart in {second}.")
    return Source(a, b, paired=True)


def unpaired(first: Path, second: Path | None = None) -> Source:
    if second is None:
        if not (first / "facts.json").exists():
            raise UsageError("Two domains need two folders: --a first/ --b second/")
        return Source(Shards(first, "a"), Shards(first, "b"))
    return Source(Files(first), Files(second))


def labelled(folder: Path, table: Path | None = None) -> Source:
    if (folder / "facts.json").exists():
        names = facts(folder).get("labels")
        if not names:
            raise UsageError(f"{folder} holds pairs without labels: make some with --kind labelled")
        labels = Shards(folder, "labels")
        rows = np.stack([labels[index] for index in range(len(labels))])
        return Source(Shards(folder, "a"), labels=rows, names=list(names))
    if table is None:
        raise UsageError("Labelled pictures need a table of 0 and 1: --labels attributes.csv")
    files = Files(folder)
    names, rows = _table(table)
    known = [path for path in files.paths if path.name in rows]
    if not known:
        raise UsageError(f"No picture of {folder} has a row in {table}.")
    files.paths = known
    return Source(files, labels=np.array([rows[path.name] for path in known], np.float32), names=names)


def _table(path: Path) -> tuple[list[str], dict[str, list[float]]]:
    """File name -> its labels; CelebA's text has a count, a line of names, and -1 for 0."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    split = [line.split() for line in lines] if "," not in "".join(lines[:3]) else list(csv.reader(lines))
    try:
        if split and len(split[0]) == 1 and split[0][0].isdigit():
            split = [["file", *split[1]], *split[2:]]
        names = [name.strip() for name in split[0][1:]]
        rows = {row[0].strip(): [LABELS[value.strip()] for value in row[1:]] for row in split[1:] if row}
    except (KeyError, IndexError):
        raise UsageError(f"{path} is no table of labels: a header, then a file name and 0 or 1 in each row.") from None
    if not names or any(len(values) != len(names) for values in rows.values()):
        raise UsageError(f"{path} is no table of labels: every row needs {len(names)} of them.")
    return names, rows


# ---- batches


def cut(
    pictures: Sequence[np.ndarray], size: int, rng: np.random.Generator, by: float = LARGER, mirror: bool = True
) -> list[Tensor]:
    """The same random crop and mirroring of several pictures (H, W, 3) -> (3, size, size) each, in [-1, 1].

    Resized to `by` times the size first, and cropped: the family's usual augmentation.  mirror: every second time.
    """
    larger = round(size * by)
    top, left = rng.integers(0, larger - size + 1, 2)
    mirrored = rng.random() < 0.5 and mirror
    found = []
    for picture in pictures:
        resized = np.asarray(Image.fromarray(picture).resize((larger, larger), Image.Resampling.BICUBIC))
        crop = resized[top : top + size, left : left + size]
        found.append(engine.to_float(crop[:, ::-1] if mirrored else crop)[0])
    return found


def square(picture: np.ndarray) -> np.ndarray:
    """The middle of a picture."""
    side = min(picture.shape[:2])
    top, left = (picture.shape[0] - side) // 2, (picture.shape[1] - side) // 2
    return picture[top : top + side, left : left + side]


def one_of(pictures: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One of several answers (K, H, W, 3), or the only one (H, W, 3)."""
    return pictures[int(rng.integers(len(pictures)))] if pictures.ndim == 4 else pictures


def batch(source: Source, number: int, count: int, size: int, seed: int) -> dict[str, Tensor]:
    """Batch `number` of a training, always the same: a and b (B, 3, size, size), labels (B, L)."""
    from encoders.batches import epoch_order

    places = epoch_order(len(source), count, number, seed)
    rows: dict[str, list] = {"a": [], "b": [], "labels": []}
    for place in places:
        rng = np.random.default_rng((seed, number, int(place)))
        index = int(place) % len(source.a)
        if source.b is None:
            rows["a"] += cut([square(source.a[index])], size, rng, by=1)  # StarGAN's: the middle, and mirroring
            rows["labels"].append(torch.from_numpy(source.labels[index]))
            continue
        if source.paired:
            one, other = cut([source.a[index], one_of(source.b[index], rng)], size, rng)
        else:
            (one,) = cut([source.a[index]], size, rng)
            (other,) = cut([one_of(source.b[int(rng.integers(len(source.b)))], rng)], size, rng)
        rows["a"].append(one)
        rows["b"].append(other)
    return {name: torch.stack(values) for name, values in rows.items() if values}
