"""The heads that ship, by name.

Two kinds: those that change a face (`heads`: 'cyclegan:young2old', 'rbdn:gray', 'bicyclegan:sketch:7', the last number
a seed), which are steps of recipes, and those that draw one from a picture (`drawers`: 'pix2pix:sketch'), which are
methods of inversion.  Some are both.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from editing.heads import pictures, translators
from stylegan2 import console
from stylegan2.errors import UsageError

DATA = Path(__file__).with_name("data")
DRAWERS = (
    "bicyclegan:sketch", "bicyclegan:gray", "pix2pix:sketch", "pix2pix:gray", "pix2pix:low", "pix2pix:half",
    "rbdn:noise", "rbdn:gray", "rbdn:relit", "rbdn:low", "rbdn:sketch", "rbdn:half",
)  # fmt: skip
SHOWN = 4  # results of heads that have many, in lists

AnyHead = translators.Head | pictures.PictureHead


@lru_cache(maxsize=1)
def drawers() -> Mapping[str, pictures.PictureHead]:
    """Heads that read pictures, DRAWERS by name."""
    return joined(pictures.load, pictures.KINDS)


@lru_cache(maxsize=1)
def heads() -> Mapping[str, AnyHead]:
    """Heads that change a face; of those with many results, the first few."""
    found: dict[str, AnyHead] = joined(translators.load, translators.KINDS)
    for name, head in drawers().items():
        if head.varies:
            found |= {f"{name}:{seed}": seeded(head, seed) for seed in range(1, SHOWN + 1)}
        elif head.edits:
            found[name] = head
    return found


def joined(load: Callable[[Path], Mapping[str, AnyHead]], kinds: Sequence[str]) -> dict[str, AnyHead]:
    files = [DATA / f"{kind}.safetensors" for kind in kinds]
    return {name: head for path in files if path.exists() for name, head in load(path).items()}


def seeded(head: pictures.PictureHead, seed: int) -> pictures.PictureHead:
    return replace(head, name=f"{head.name}:{seed}", seed=seed)


def known(name: str) -> bool:
    try:
        find(name)
    except UsageError:
        return False
    return True


def find(name: str) -> AnyHead:
    """UsageError, with the nearest name, if there is none."""
    if name in heads():
        return heads()[name]
    base, _, seed = name.rpartition(":")
    head = drawers().get(base)
    if head is not None and head.varies and re.fullmatch("0|[1-9][0-9]{0,8}", seed):
        return seeded(head, int(seed))
    if name in DRAWERS:
        raise UsageError(f"{name} begins with a picture, not with a face that was found: --method {name}")
    raise UsageError(console.unknown("heads", name, heads()))
