"""Faces from a map of their parts (SPADE) or from labelled boxes (LostGANs): files in, faces and their inversions out.

    python -m editing.translate apply --head spade:map --img map.png --samples 4 --out faces/
    python -m editing.translate apply --head spade:map --img map.png --like photo.jpg --out faces/
    python -m editing.translate apply --head lostgans:layout --img layout.json --out faces/

What is where comes from the map; colours and light from a seed's code, or from another face's.  The layout head draws
first; what the parser then sees elsewhere than the map has it, the painter mends, twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from editing import mixing, provenance, session, spatial
from editing.faces import align
from editing.faces import photo as photos
from editing.heads import layouts, maps
from editing.translation.applying import places, written
from editing.types import Inversion, Recipe, generator_sha256
from stylegan2 import engine
from stylegan2.errors import Cancelled, UsageError, WplusError
from stylegan2.generator import Generator

HEADS = ("spade:map", "lostgans:layout")
PASSES = 2  # of the painter
PSI = 0.8  # of seeds' styles
SUFFIXES = {"spade:map": (".png", ".webp", ".bmp"), "lostgans:layout": (".json",)}


@dataclass(frozen=True)
class Order:
    """head: of HEADS; samples: faces for one map, seeds from `seed` on; like: a photo or an inversion whose style they
    have."""

    head: str
    samples: int = 1
    seed: int = 0
    like: Path | None = None


def style(generator: Generator, seed: int) -> Tensor:
    """A seed's code (1, num_ws, w_dim), truncated."""
    return engine.broadcast(generator, engine.latents(generator, [seed], PSI)).clone()


def composed(generator: Generator, wanted: np.ndarray, ws: Tensor, passes: int = PASSES,
             callback: Callable[[int, int, str], bool | None] | None = None) -> Inversion:  # fmt: skip
    """Map (SIDE, SIDE) uint8 and a code for the style -> a face as an inversion.  Cancelled if the callback says so."""
    head = maps.shipped()
    inversion = Inversion(ws=head.draw(spatial.tensor(wanted), ws), family=generator.family, method="spade:map")
    for number in range(passes):
        if callback is not None and callback(number, passes, "spade:map") is False:
            raise Cancelled(f"Cancelled after {number} of {passes} passes.")
        inversion = spatial.placed(generator, inversion, spatial.Plan(spatial.map_of(generator, inversion), wanted))
    return inversion


def wanted_of(order: Order, path: Path, seed: int) -> np.ndarray:
    """The map (SIDE, SIDE) that a file asks for.  UsageError or PhotoError if it asks for none."""
    if order.head == "lostgans:layout":
        return layouts.shipped().map_of(spatial.read_layout(path), seed)
    labels = spatial.read_map(path)
    if labels.shape[0] != labels.shape[1]:
        raise UsageError(f"{path} is {labels.shape[1]}x{labels.shape[0]} pixels: a map of a face is square.")
    if (labels == spatial.NOTHING).any():
        raise UsageError(f"{path} says nothing in some places: a face needs a whole map.")
    return spatial.nearest(labels)


def run(editor: session.Editor, order: Order, img: Path, out: Path) -> Iterator[tuple[Path, Path | WplusError]]:
    """Every map or layout of a file or folder: (its path, a written face or what was wrong with it).  Beside NAME.png
    lies its inversion."""
    if order.head not in HEADS:
        raise UsageError(f"There is no head {order.head!r}; there are {', '.join(HEADS)}.")
    ws = None if order.like is None else code_of(editor, order.like)
    found = places(img, out, SUFFIXES[order.head])
    sources = {path.resolve() for path, _ in found} | ({order.like.resolve()} if order.like else set())
    samples = 1 if order.like and order.head == "spade:map" else order.samples  # all would be the same
    for path, base in found:
        try:
            files = written(base, samples, sources)
            if any(file.with_suffix(".inversion").resolve() in sources for file in files):
                raise UsageError(f"{order.like} would be overwritten: choose another --out.")
            for seed, file in zip(range(order.seed, order.seed + samples), files, strict=True):
                wanted = wanted_of(order, path, seed)
                write(editor, composed(editor.generator, wanted, style(editor.generator, seed) if ws is None else ws),
                      order, seed, file)  # fmt: skip
        except WplusError as error:
            yield path, error
            continue
        yield from ((path, file) for file in files)


def code_of(editor: session.Editor, like: Path) -> Tensor:
    """The code of a photo's first face, or of a saved inversion."""
    if like.suffix == ".inversion":
        inversion = Inversion.load(like)
        mixing.check(editor.generator, inversion)
        return inversion.ws
    return editor.set_photo(like, method="encoder").ws


def write(editor: session.Editor, inversion: Inversion, order: Order, seed: int, file: Path) -> None:
    rgb = session.to_rgb(session.synthesise(editor.generator, inversion))
    inversion = replace(
        inversion, method=order.head, seed=seed, generator_sha256=generator_sha256(editor.generator),
        device=str(editor.device), threads=torch.get_num_threads(), quad=align.border(rgb),
    ).compact()  # fmt: skip
    provenance.save(photos.from_rgb(rgb), file, Recipe().about(inversion), sidecar=False)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    replace(inversion, photo_sha256=sha256).save(file.with_suffix(".inversion"))


def heads(names: Sequence[str]) -> str | None:
    """The one of these heads that begins with a map or a layout.  UsageError if there are others beside it."""
    found = [name for name in names if name in HEADS]
    if found and len(names) > 1:
        raise UsageError(f"{found[0]} draws a face: it goes alone.  Change what it drew with editing.edit.")
    return found[0] if found else None
