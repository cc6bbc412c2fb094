"""Pictures with masks of their instances: what InstaGAN is trained on and applied to (arXiv 1812.10889).

Masks of `sheep/dolly.jpg` lie in `sheep_seg/dolly_0.png`, `sheep_seg/dolly_1.png`, ... as in the published data, or
beside it as `sheep/dolly.mask0.png`, ...; white (or 1 in a file of 0 and 1) is the instance.  Numbers may have gaps.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from editing.faces import photo as photos
from editing.translation.data import SUFFIXES, cut
from stylegan2.errors import PhotoError, UsageError

LARGER = 220 / 200  # of the size that crops are cut from, as published for COCO
BESIDE, APART = re.compile(r"(.+)\.mask(\d{1,6})"), re.compile(r"(.+)_(\d{1,6})")


def folder_of_masks(path: Path) -> Path:
    """sheep/dolly.jpg -> sheep_seg"""
    folder = path.absolute().parent
    return folder.with_name(f"{folder.name}_seg") if folder.name else folder


def without_masks(paths: Iterable[Path], folder: Path) -> list[Path]:
    """Of all pictures under a folder those that are no masks of others."""
    apart = (p for p in paths if p.parent == folder or not p.parent.name.endswith("_seg"))
    return [p for p in apart if not BESIDE.fullmatch(p.stem)]


def listed(folder: Path, pattern: re.Pattern[str]) -> dict[str, list[Path]]:
    """Masks of a folder by the name of their picture, in the order of their numbers."""
    found: dict[str, list[tuple[int, Path]]] = defaultdict(list)
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.suffix.lower() in SUFFIXES and path.name[0] != "." and (match := pattern.fullmatch(path.stem)):
            found[match[1]].append((int(match[2]), path))
    return {name: [path for _, path in sorted(numbered)] for name, numbered in found.items()}


def masks_of(pictures: Iterable[Path]) -> list[list[Path]]:
    """The files of every picture's masks; none where there are none."""
    folders: dict[Path, tuple[dict[str, list[Path]], dict[str, list[Path]]]] = {}
    found = []
    for path in pictures:
        apart = folder_of_masks(path)
        if apart not in folders:
            folders[apart] = listed(path.absolute().parent, BESIDE), listed(apart, APART)
        beside, seg = folders[apart]
        found.append(beside.get(path.stem) or seg.get(path.stem) or [])
    return found


def missing(path: Path) -> str:
    wanted = f"{path.stem}.mask0.png beside it, or {path.stem}_0.png in {folder_of_masks(path).name}/"
    return f"{path} has no mask of an instance: {wanted} is looked for."


def read(path: Path, size: tuple[int, int]) -> np.ndarray:
    """A mask (H, W) uint8 of 0 to 255.  PhotoError if it is not of its picture's size (W, H)."""
    photo = photos.load(path)
    if photo.size != size:
        of = f"its picture {size[0]}x{size[1]}"
        raise PhotoError(f"The mask {path.name} is {photo.size[0]}x{photo.size[1]} pixels, {of}.")
    levels = photo.rgb.max(2)
    return levels * np.uint8(255) if levels.max() == 1 else levels


def scene(path: Path, masks: Sequence[Path]) -> tuple[np.ndarray, list[np.ndarray]]:
    """A picture (H, W, 3) and its masks (H, W), all uint8.  PhotoError if there are none."""
    photo = photos.load(path)
    if not masks:
        raise PhotoError(missing(path))
    return photo.rgb, [read(mask, photo.size) for mask in masks]


def seen(masks: Sequence[np.ndarray], size: int | None, multiple: int) -> Tensor:
    """Masks (H, W) uint8 -> (1, N, H', W') in [-1, 1]; of `size` pixels if that is given, padded with their borders to
    multiples of a number."""
    if size:
        masks = [np.asarray(Image.fromarray(mask).resize((size, size), Image.Resampling.BOX)) for mask in masks]
    x = torch.from_numpy(np.stack(masks)).float()[None] / 127.5 - 1
    return F.pad(x, (0, -x.shape[3] % multiple, 0, -x.shape[2] % multiple), mode="replicate")


class Scenes:
    """Pictures of a folder, sorted by name, each with the masks of its instances."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise UsageError(f"{folder} is not a folder.")
        files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.name[0] != ".")
        self.paths = without_masks(files, folder)
        if not self.paths:
            raise UsageError(f"There are no pictures in {folder}.")
        self.masks = masks_of(self.paths)
        for path, masks in zip(self.paths, self.masks, strict=True):
            if not masks:
                raise UsageError(missing(path))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[np.ndarray, list[np.ndarray]]:
        return scene(self.paths[index], self.masks[index])


def largest(masks: Tensor, most: int) -> Tensor:
    """masks (N, H, W) in [-1, 1] -> (most, H, W): the largest first, and -1 where there are no more."""
    order = masks.mean((1, 2)).sort(descending=True, stable=True).indices[:most]
    return torch.cat([masks[order], masks.new_full((most - len(order), *masks.shape[1:]), -1)])


def augmented(
    picture: np.ndarray, masks: Sequence[np.ndarray], size: int, most: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """The same crop and mirroring of a picture (H, W, 3) and its masks (H, W) -> (3, size, size), (most, size, size),
    in [-1, 1]."""
    image, *cropped = cut([picture, *(np.dstack([mask] * 3) for mask in masks)], size, rng, LARGER)
    return image, largest(torch.stack([mask[0] for mask in cropped]), most)


@dataclass(frozen=True)
class Instances:
    """Two domains of pictures with masks; of each picture the `most` largest instances are used."""

    a: Scenes
    b: Scenes
    most: int = 4
    names: Sequence[str] = ()

    def __len__(self) -> int:
        return max(len(self.a), len(self.b))

    def batch(self, number: int, count: int, size: int, seed: int) -> dict[str, Tensor]:
        """Batch `number` of a training, always the same: a and b (B, 3, size, size) with masks a_masks and b_masks
        (B, most, size, size).  Pictures of a in turn, those of b by chance, as published."""
        from encoders.batches import epoch_order

        rows: dict[str, list[Tensor]] = defaultdict(list)
        for place in epoch_order(len(self), count, number, seed):
            rng = np.random.default_rng((seed, number, int(place)))
            chosen = self.a[int(place) % len(self.a)], self.b[int(rng.integers(len(self.b)))]
            for name, (picture, masks) in zip("ab", chosen, strict=True):
                image, masks = augmented(picture, masks, size, self.most, rng)
                rows[name].append(image)
                rows[f"{name}_masks"].append(masks)
        return {name: torch.stack(tensors) for name, tensors in rows.items()}


def two_domains(first: Path, second: Path | None, most: int) -> Instances:
    if second is None:
        raise UsageError("Instances of two domains need two folders: --a sheep/ --b giraffe/")
    return Instances(Scenes(first), Scenes(second), most)
