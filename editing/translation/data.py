"""What translation networks are trained on: folders of pictures, or shards of the pair factory.

Paired: a folder with `facts.json` (shards), two folders whose files have the same names, or one folder of files with
A and B side by side (pix2pix's own layout).  Unpaired: two folders, of any names.  Labelled: a folder and a table of 0
and 1 (a CSV with a header, or CelebA's list_attr text), or shards.  What does not fit is a UsageError of one sentence.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from stylegan2 import engine
from stylegan2.errors import PhotoError, UsageError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
LARGER = 286 / 256  # of the size that crops are cut from


class Shards:
    """One array of a factory's folder, read when asked for."""

    def __init__(self, folder: Path, name: str) -> None:
        files = sorted(folder.glob(f"[0-9]*.{name}.npy"), key=lambda path: int(path.name.split(".")[0]))
        self.parts = [part for part in (np.load(file, mmap_mode="r") for file in files) if len(part)]
        if not self.parts:
            raise UsageError(f"{folder} holds no {name!r}: make pairs with python -m editing.translate pairs {folder}")
        self.ends = np.cumsum([len(part) for part in self.parts])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, index: int) -> np.ndarray:
        part = int(np.searchsorted(self.ends, index, side="right"))
        return np.asarray(self.parts[part][index - (self.ends[part - 1] if part else 0)])


class Files:
    """Pictures of a folder, sorted by name; `side` 0 or 1: the left or right half of each."""

    def __init__(self, folder: Path, side: int | None = None) -> None:
        if not folder.is_dir():
            raise UsageError(f"{folder} is not a folder.")
        self.paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
        self.folder, self.side = folder, side
        if not self.paths:
            raise UsageError(f"There are no pictures in {folder}.")

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> np.ndarray:
        try:
            with Image.open(self.paths[index]) as picture:
                pixels = np.asarray(picture.convert("RGB"))
        except (UnidentifiedImageError, OSError) as error:
            raise PhotoError(f"{self.paths[index]} cannot be read: {error}") from None
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


def paired(first: Path, second: Path | None = None) -> Source:
    if second is None:
        if (first / "facts.json").exists():
            return Source(Shards(first, "a"), Shards(first, "b"), paired=True)
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
        import json

        facts = json.loads((folder / "facts.json").read_text())
        if not facts.get("labels"):
            raise UsageError(f"{folder} holds pairs without labels: make some with --kind labelled")
        labels = Shards(folder, "labels")
        rows = np.stack([labels[index] for index in range(len(labels))])
        return Source(Shards(folder, "a"), labels=rows, names=list(facts["labels"]))
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
    if split and len(split[0]) == 1 and split[0][0].isdigit():
        split = [split[1], *split[2:]]
        split[0] = ["file", *split[0]]
    try:
        names = [name.strip() for name in split[0][1:]]
        rows = {row[0].strip(): [float(float(value) > 0) for value in row[1:]] for row in split[1:] if row}
    except (ValueError, IndexError):
        raise UsageError(f"{path} is no table of labels: a header, then a file name and 0 or 1 in each row.") from None
    if not names or any(len(values) != len(names) for values in rows.values()):
        raise UsageError(f"{path} is no table of labels: every row needs {len(names)} of them.")
    return names, rows


# ---- batches


def cut(pictures: Sequence[np.ndarray], size: int, rng: np.random.Generator, flip: bool = True) -> list[Tensor]:
    """The same random crop and mirroring of several pictures (H, W, 3) -> (3, size, size) each, in [-1, 1].

    Resized to 286/256 of the size first, and cropped: the family's usual augmentation.
    """
    larger = round(size * LARGER)
    top, left = rng.integers(0, larger - size + 1, 2)
    mirrored = flip and rng.random() < 0.5
    found = []
    for picture in pictures:
        resized = np.asarray(Image.fromarray(picture).resize((larger, larger), Image.Resampling.BICUBIC))
        crop = resized[top : top + size, left : left + size]
        found.append(engine.to_float(crop[:, ::-1] if mirrored else crop)[0])
    return found


def batch(source: Source, number: int, count: int, size: int, seed: int) -> dict[str, Tensor]:
    """Batch `number` of a training, always the same: a and b (B, 3, size, size), labels (B, L)."""
    from encoders.batches import epoch_order

    places = epoch_order(len(source), count, number, seed)
    rows: dict[str, list] = {"a": [], "b": [], "labels": []}
    for place in places:
        rng = np.random.default_rng((seed, number, int(place)))
        index = int(place) % len(source.a)
        if source.b is None:
            rows["a"] += cut([source.a[index]], size, rng)
            rows["labels"].append(torch.from_numpy(source.labels[index]))
            continue
        if source.paired:
            b = source.b[index]
            b = b[int(rng.integers(len(b)))] if b.ndim == 4 else b  # one of several answers
            one, other = cut([source.a[index], b], size, rng)
        else:
            (one,) = cut([source.a[index]], size, rng)
            (other,) = cut([source.b[int(rng.integers(len(source.b)))]], size, rng)
        rows["a"].append(one)
        rows["b"].append(other)
    return {name: torch.stack(values) for name, values in rows.items() if values}
