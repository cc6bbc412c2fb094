"""Label maps: what SPADE is trained on and drawn from.

A map is a PNG of gray levels (mode L) or palette indices (mode P) whose values are the numbers of classes; 255 is
"don't care", which becomes a class of its own where it occurs.  Training takes a folder of maps and one of photos with
the same names, perhaps a folder of instance maps, whose edges become one more channel; or a folder of the factory of
the kind "parsed".  Classes are as many as the largest value says, or as `classes.txt` among the maps names, one a line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from editing.faces import photo as photos
from editing.translation import data
from editing.translation.networks import SPADEGenerator
from stylegan2 import engine
from stylegan2.errors import PhotoError, UsageError

UNKNOWN = 255  # in a map: don't care
DONT_CARE, EDGE = "(don't care)", "(edge)"  # names of the channels that are no class
LARGEST = 2048  # pixels along a side of what is drawn
LOSSY = (".jpg", ".jpeg", ".webp")
# COCO-Stuff, Cityscapes and ADE20K: channel of "don't care", edges or not
PUBLISHED = {184: (182, True), 36: (None, True), 151: (None, False)}


def read(path: Path, instances: bool = False) -> np.ndarray:
    """A map -> (H, W) uint8; of instances, which may be in 16 bits or more, (H, W) of any kind."""
    if path.suffix.lower() in LOSSY:
        raise PhotoError(f"{path.name} is no label map: {path.suffix[1:].upper()} does not keep values; PNG does.")
    photo = photos.load(path)
    if photo.mode not in (("L", "P", "I;16", "I") if instances else ("L", "P")):
        raise PhotoError(
            f"{path.name} is a picture ({photo.mode}), no label map: that is a PNG of gray levels or palette indices "
            "(mode L or P) whose values are the numbers of classes."
        )
    return photo.samples[..., 0]


class Maps:
    """Maps in files, read when asked for."""

    def __init__(self, paths: Sequence[Path], instances: bool = False) -> None:
        self.paths, self.instances = paths, instances

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> np.ndarray:
        return read(self.paths[index], self.instances)


@dataclass(frozen=True)
class Source:
    """Maps a, their photos b, perhaps instance maps; names of the channels: classes, DONT_CARE, EDGE."""

    a: Maps | data.Shards
    b: data.Pictures
    names: Sequence[str]
    instances: Maps | None = None

    def __len__(self) -> int:
        return len(self.a)

    def batch(self, number: int, count: int, size: int, seed: int) -> dict[str, Tensor]:
        """Batch `number` of a training, always the same: a (B, channels, size, size) of 0 and 1, b (B, 3, size, size)
        in [-1, 1], both cut and mirrored alike."""
        from encoders.batches import epoch_order

        rows: dict[str, list[Tensor]] = {"a": [], "b": []}
        for place in epoch_order(len(self), count, number, seed):
            rng, index = np.random.default_rng((seed, number, int(place))), int(place)
            maps = [self.a[index], *([self.instances[index]] if self.instances else [])]
            maps, picture = cut(maps, self.b[index], size, rng)
            unknown = list(self.names).index(DONT_CARE) if DONT_CARE in self.names else None
            rows["a"].append(channels(maps, len(self.names), unknown))
            rows["b"].append(picture)
        return {name: torch.stack(values) for name, values in rows.items()}


def opened(first: Path, second: Path | None = None, instances: Path | None = None) -> Source:
    """A folder of maps and one of photos, or one of the factory's.  UsageError if they do not fit."""
    if second is None:
        if not (first / "facts.json").exists():
            raise UsageError("SPADE learns from label maps and their photos: --a maps/ --b photos/")
        return parsed(first, instances)
    pairs = data.paired(first, second)
    maps = Maps(pairs.a.paths)
    edges = None if instances is None else Maps(data.paired(first, instances).b.paths, instances=True)
    names = named(first, maps)
    return Source(maps, pairs.b, [*names, EDGE] if edges else names, edges)


def parsed(folder: Path, instances: Path | None = None) -> Source:
    """Faces of the factory with the classes of `editing.judges.parsing`."""
    from editing.judges.parsing import CLASSES

    kind = data.facts(folder).get("kind")
    if kind != "parsed":
        raise UsageError(f"{folder} holds {kind} pairs, not label maps: make some with --kind parsed")
    if instances is not None:
        raise UsageError("Faces of the factory have no instances: leave --labels out.")
    return Source(data.Shards(folder, "a"), data.Shards(folder, "b"), CLASSES)


def named(folder: Path, maps: Maps) -> list[str]:
    """Names of the classes, and DONT_CARE if it occurs; reads every map once.  UsageError for values without a name."""
    found = np.zeros(256, np.int64)
    largest, owner = 0, maps.paths[0]
    for index, path in enumerate(maps.paths):
        counts = np.bincount(maps[index].ravel(), minlength=256)
        found += counts
        last = int(np.flatnonzero(counts[:UNKNOWN]).max(initial=0))
        if last > largest:
            largest, owner = last, path
    table = folder / "classes.txt"
    names = listed(table) if table.exists() else [str(label) for label in range(largest + 1)]
    if largest >= len(names):
        raise UsageError(f"{owner.name} has the label {largest}, but {table} names {len(names)} classes, from 0 on.")
    return [*names, DONT_CARE] if found[UNKNOWN] else names


def listed(table: Path) -> list[str]:
    try:
        names = [line.strip() for line in table.read_text(encoding="utf-8-sig").rstrip().split("\n")]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{table} cannot be read: {error}") from None
    if not all(names) or not 0 < len(names) <= UNKNOWN or {DONT_CARE, EDGE} & set(names):
        raise UsageError(f"{table} is no list of classes: one name a line, {UNKNOWN} at most, no line empty.")
    return names


# ---- from maps to channels


def nearest(labels: np.ndarray, height: int, width: int) -> np.ndarray:
    """A map of another size, whose values are the map's own."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.int64)
        for new, old in zip((height, width), labels.shape, strict=True)
    )
    return labels[rows[:, None], columns]


def cut(
    maps: Sequence[np.ndarray], picture: np.ndarray, size: int, rng: np.random.Generator
) -> tuple[list[np.ndarray], Tensor]:
    """The same random crop and mirroring of maps (H, W) -> (size, size) each and a picture (H, W, 3) uint8 ->
    (3, size, size) in [-1, 1], as `data.cut`."""
    larger = round(size * data.LARGER)
    top, left = rng.integers(0, larger - size + 1, 2)
    turn = -1 if rng.random() < 0.5 else 1
    pixels = np.asarray(Image.fromarray(picture).resize((larger, larger), Image.Resampling.BICUBIC))
    layers = [*(nearest(one, larger, larger) for one in maps), pixels]
    *crops, seen = (one[top : top + size, left : left + size][:, ::turn] for one in layers)
    return crops, engine.to_float(seen)[0]


def edges(instances: np.ndarray) -> np.ndarray:
    """(H, W) -> bool: where one of the four neighbours is another instance."""
    found = np.zeros(instances.shape, bool)
    across, down = instances[:, 1:] != instances[:, :-1], instances[1:] != instances[:-1]
    found[:, 1:] |= across
    found[:, :-1] |= across
    found[1:] |= down
    found[:-1] |= down
    return found


def channels(maps: Sequence[np.ndarray], count: int, unknown: int | None = None) -> Tensor:
    """[labels (H, W), perhaps instances] -> (count, H, W) of 0 and 1; the last channel holds the instances' edges.

    unknown: the channel of UNKNOWN.  UsageError if there is a label without a channel.
    """
    labels, *instances = maps
    planes, classes = labels.astype(np.int64), count - len(instances)
    if unknown is not None:
        planes[planes == UNKNOWN] = unknown
    if planes.max() >= classes:
        raise UsageError(f"the label {planes.max()} is none of the {classes} that are known, which count from 0.")
    found = torch.zeros(count, *planes.shape).scatter_(0, torch.from_numpy(planes)[None], 1.0)
    if instances:
        found[-1] = torch.from_numpy(edges(instances[0]))
    return found


def colours(count: int) -> np.ndarray:
    """(count, 3) uint8: PASCAL VOC's colours, whose bits are those of the label."""
    labels, table = np.arange(count), np.zeros((count, 3), np.int64)
    for bit in range(8):
        for channel in range(3):
            table[:, channel] |= (labels >> (3 * bit + channel) & 1) << (7 - bit)
    return table.astype(np.uint8)


def painted(planes: Tensor) -> Tensor:
    """Channels (B, C, H, W) of 0 and 1 -> pictures (B, 3, H, W) in [-1, 1], a colour a class."""
    table = torch.from_numpy(colours(planes.shape[1])).to(planes) / 127.5 - 1
    return table[planes.argmax(1)].permute(0, 3, 1, 2)


# ---- use


@contextmanager
def in_memory(name: str) -> Iterator[None]:
    """PhotoError that names the map if what is done takes more memory than there is."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or "allocate" in str(error) or "out of memory" in str(error):
            raise PhotoError(f"{name} needs more memory than there is: --size makes it smaller.") from None
        raise


def meaning(file: Path, count: int) -> tuple[int | None, bool | None]:
    """(channel of "don't care", whether edges are the last) of a network's file: what the settings of the run beside it
    say, or what published networks of as many channels have; (None, None) if nothing is known of it."""
    try:
        names = json.loads((file.parent / "settings.json").read_text())["domains"]
        if len(names) == count:
            return (names.index(DONT_CARE) if DONT_CARE in names else None), EDGE in names
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    return PUBLISHED.get(count, (None, None))


def instance_files(instances: Path | None) -> set[Path]:
    """The files of --instances, resolved."""
    if instances is None or not instances.is_dir():
        return {instances.resolve()} if instances else set()
    return {path.resolve() for path in instances.iterdir()}


def prepared(network: SPADEGenerator, file: Path, path: Path, instances: Path | None, size: int | None) -> Tensor:
    """The map in `path` -> (1, channels, H, W), as the network from `file` wants it.

    instances: a map, or a folder with one of the same name; without it the edges are those between labels.  size:
    pixels along a side that the map is resized to.
    """
    labels = read(path)
    height, width = (size, size) if size else labels.shape
    if network.drawn:
        high, wide = network.drawn
        if (height, width) != (high, wide) and size != wide:
            found = f"{path.name} is {width}x{height} pixels" if not size else f"--size is {size}"
            raise PhotoError(f"{found}; this network draws {wide}x{high} alone: --size {wide}.")
        height, width = high, wide
    if max(height, width) > LARGEST:
        raise PhotoError(f"{path.name} is {width}x{height} pixels; at most {LARGEST} fit: --size 512 makes it smaller.")
    unknown, edged = meaning(file, network.labels)
    if instances is not None:
        edged, owner = True, instances
        if instances.is_dir():
            owner = next((one for one in sorted(instances.iterdir()) if one.stem == path.stem), None)
            if owner is None:
                raise PhotoError(f"{path.name} has no instance map of the same name in {instances}.")
        other = read(owner, instances=True)
        if other.shape != labels.shape:
            raise PhotoError(f"{path.name} and its instance map are not of the same size.")
    else:
        other = labels
    maps = [nearest(one, height, width) for one in ([labels, other] if edged else [labels])]
    try:
        return channels(maps, network.labels, unknown)[None]
    except UsageError as error:
        raise PhotoError(f"{path.name} does not fit this network: {error}") from None


@torch.no_grad()
def drawn(network: SPADEGenerator, planes: Tensor, calls: Sequence[tuple[Tensor, ...]], name: str) -> list[np.ndarray]:
    """Channels (1, C, H, W) and codes, one a result -> pictures (H, W, 3) uint8; any H and W without codes."""
    height, width = planes.shape[2:]
    step = network.size
    with in_memory(name):
        padded = F.pad(planes, (0, -width % step, 0, -height % step), mode="replicate")
        return [engine.to_uint8(network(padded, *call)[..., :height, :width])[0] for call in calls]
