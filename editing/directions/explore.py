"""Random small moves of one face, to look at and choose from: what would this person look like, a little otherwise?

    python -m editing.directions explore --inversion holiday.inversion --seed 3 --rows 4:8 --out moves/

A move is a random mix of the strongest components of a space: SeFa's, to which the generator is most sensitive, or
those of W (`pca`, GANSpace's).  Each component is measured in its own standard deviations and a mix has the length 1,
so that a strength counts sigmas.  Move i of a seed is always the same, however many are drawn.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from editing.directions import files, sefa
from editing.directions.catalogue import Direction
from stylegan2 import w_statistics
from stylegan2.errors import UsageError
from stylegan2.generator import Generator, seeded_z

SPACES = ("sefa", "pca")
COMPONENTS = 20  # that a move is mixed from
MOST = 64  # moves of one sheet


def components(generator: Generator, space: str, rows: tuple[int, int]) -> Tensor:
    """(COMPONENTS, 512): the strongest of a space, each as long as one standard deviation of W along it.

    UsageError for an unknown space.
    """
    if space == "sefa":
        return torch.stack([direction.vector for direction in sefa.directions(generator, rows, COMPONENTS)])
    if space == "pca":
        statistics = w_statistics.load()
        return (statistics.components * statistics.stdev[:, None])[:COMPONENTS]
    raise UsageError(f"There is no space '{space}': take one of {', '.join(SPACES)}.")


def moves(generator: Generator, space: str, rows: tuple[int, int], seed: int, count: int, size: float = 1.0
          ) -> list[Direction]:  # fmt: skip
    """`count` random directions of `size` sigmas on rows [start, end) of ws, named by space, rows, seed and number."""
    basis = components(generator, space, rows)
    mixes = seeded_z([seed * MOST + index for index in range(count)], len(basis))
    mixes = size * mixes / mixes.norm(dim=1, keepdim=True)
    source = f"a random move of {size:g} sigmas along {len(basis)} components of {space}, seed {seed}"
    return [
        Direction(f"{space}-{rows[0]}-{rows[1] - 1}-{seed}.{index}", mix @ basis, rows, "random", source)
        for index, mix in enumerate(mixes)
    ]


def write(editor, found: list[Direction], folder: Path, cell: int = 256) -> list[Path]:
    """A sheet, the face first and then every move of it, and the moves as a file of directions; returns their paths.

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
        picture = sheets.resized(to_rgb(editor.render({direction.name: 1.0} if direction else {})), cell)
        cells.append(sheets.labelled(Image.fromarray(picture), direction.name if direction else "as it is"))
    across = int(np.ceil(np.sqrt(len(cells))))
    cells += [np.full_like(cells[0], 255)] * (-len(cells) % across)
    rows = [np.concatenate(cells[i : i + across], axis=1) for i in range(0, len(cells), across)]
    with staged(folder) as scratch:
        sheet = photos.from_rgb(np.concatenate(rows, axis=0))
        provenance.save(sheet, scratch / "moves.png", editor.recipe(Recipe()), sidecar=False)
        files.write(scratch / "moves.safetensors", found)
    return [folder / "moves.png", folder / "moves.safetensors"]
