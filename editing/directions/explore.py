"""Random small moves of one face, to look at and choose from: what would this person look like, a little otherwise?

    python -m editing.directions explore --inversion holiday.inversion --seed 3 --rows 4:8 --out moves/
    python -m editing.edit --img holiday.jpg --set sefa-4-8-3.5=3      # the sixth of them

A move is a random mix of the strongest components of a space: SeFa's, to which the generator is most sensitive, or
those of W (`pca`, GANSpace's).  Each component is measured in its own standard deviations and a mix has the length 1,
so that a strength counts sigmas.  Move i of a seed is always the same, however many are drawn: its name says all of it,
and every catalogue of `session.load_catalogue` knows it (`WithMoves`).
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from editing.directions import files, sefa
from editing.directions.catalogue import MERGED, Catalogue, Direction
from stylegan2 import w_statistics
from stylegan2.errors import UsageError
from stylegan2.generator import Generator, seeded_z

SPACES = ("sefa", "pca")
COMPONENTS = 20  # that a move is mixed from
MOST = 64  # moves of one sheet
KEPT = 256  # moves that a catalogue remembers
DEFAULT = "mobilestylegan-ffhq-1024"  # whose components names are about
NAME = re.compile(
    r"(sefa|pca)-([0-9]{1,2})-([0-9]{1,2})-([0-9]{1,16})\.([0-9]{1,2})"
)  # space, first and last row, seed, number


def components(generator: Generator | None, space: str, rows: tuple[int, int]) -> Tensor:
    """(COMPONENTS, 512): the strongest of a space, each as long as one standard deviation of W along it.

    generator: None will do for pca.  UsageError for an unknown space.
    """
    if space == "sefa":
        return torch.stack([direction.vector for direction in sefa.directions(generator, rows, COMPONENTS)])
    if space == "pca":
        statistics = w_statistics.load()
        return (statistics.components * statistics.stdev[:, None])[:COMPONENTS]
    raise UsageError(f"There is no space '{space}': take one of {', '.join(SPACES)}.")


def moves(generator: Generator | None, space: str, rows: tuple[int, int], seed: int, count: int) -> list[Direction]:
    """`count` random directions of one sigma on rows [start, end) of ws, named by space, rows, seed and number."""
    return mixed(components(generator, space, rows), space, rows, seed, count)


def mixed(basis: Tensor, space: str, rows: tuple[int, int], seed: int, count: int) -> list[Direction]:
    """The same, of these components (COMPONENTS, 512)."""
    mixes = seeded_z([seed * MOST + index for index in range(count)], len(basis))
    mixes = mixes / mixes.norm(dim=1, keepdim=True)
    source = f"a random move of one sigma along {len(basis)} components of {space}, seed {seed}"
    return [
        Direction(name_of(space, rows, seed, index), mix @ basis, rows, "random", source)
        for index, mix in enumerate(mixes)
    ]


def name_of(space: str, rows: tuple[int, int], seed: int, index: int) -> str:
    """What move `index` of a seed is called."""
    return f"{space}-{rows[0]}-{rows[1] - 1}-{seed}.{index}"


def named(name: str) -> Direction:
    """The move of one sigma of that name, along components of the default generator.

    KeyError where no move has such a name, WeightsMissing without the generator.
    """
    match = NAME.fullmatch(name)
    if match is None:
        raise KeyError(name)
    space, (first, last, seed, number) = match[1], (int(group) for group in match.groups()[1:])
    rows = (first, last + 1)
    if not first <= last < MERGED or number >= MOST or name != name_of(space, rows, seed, number):
        raise KeyError(name)
    made = mixed(_basis(space, rows), space, rows, seed, number + 1)[number]
    return replace(made, identity=f"{name} of {DEFAULT}")


@lru_cache(64)
def _basis(space: str, rows: tuple[int, int]) -> Tensor:
    """The default generator's components."""
    from editing.session import load_generator

    return components(load_generator() if space == "sefa" else None, space, rows)


class WithMoves(Catalogue):
    """A catalogue that also knows every random move, by its name; they are not among those that it lists.

    It keeps those that it was asked for: whoever gets a copy of it draws the same, bit by bit.
    """

    def __init__(self, directions: list[Direction]) -> None:
        super().__init__(directions)
        self._moves: dict[str, Direction] = {}

    def __getitem__(self, name: str) -> Direction:
        if not isinstance(name, str):
            raise KeyError(name)
        if name in self._directions:
            return self._directions[name]
        if name not in self._moves:
            self._moves = dict([*self._moves.items()][1 - KEPT :]) | {name: named(name)}
        return self._moves[name]


def write(editor, found: list[Direction], folder: Path, sigmas: float = 1.0, cell: int = 256) -> list[Path]:
    """A sheet, the face first and then every move of it by so many sigmas, and the moves as a file of directions;
    returns their paths.

    `editor` must know the moves by name: its catalogue is `Catalogue(found)`.
    """
    import numpy as np
    from PIL import Image

    from editing import provenance, sheets
    from editing.faces import photo as photos
    from editing.output import staged
    from editing.session import to_rgb
    from editing.types import Recipe

    cells = []
    for direction in [None, *found]:
        picture = sheets.resized(to_rgb(editor.render({direction.name: sigmas} if direction else {})), cell)
        cells.append(sheets.labelled(Image.fromarray(picture), direction.name if direction else "as it is"))
    across = int(np.ceil(np.sqrt(len(cells))))
    cells += [np.full_like(cells[0], 255)] * (-len(cells) % across)
    rows = [np.concatenate(cells[i : i + across], axis=1) for i in range(0, len(cells), across)]
    with staged(folder) as scratch:
        sheet = photos.from_rgb(np.concatenate(rows, axis=0))
        provenance.save(sheet, scratch / "moves.png", editor.recipe(Recipe()), sidecar=False)
        files.write(scratch / "moves.safetensors", found)
    return [folder / "moves.png", folder / "moves.safetensors"]
