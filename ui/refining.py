"""The real edit, drawn some time after its quick picture and judged: how far it is from the unedited face, what moved
besides what was meant, and less of it where the identity is locked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from editing.faces import align
from editing.judges import judge as judges
from editing.judges import population
from editing.session import Editor
from editing.types import Edit, Recipe
from ui.recipes import weaker

TOLD = 0.5  # standard deviations: a judge that moves less goes unmentioned
LOCKED = 0.4  # dlib distance that a locked identity stays below; 0.45 is another person


@dataclass(frozen=True)
class Result:
    """The real edit, some time after its quick picture: the edit, the crop cut from it (R, R, 3) uint8, the dlib
    distance from the unedited face (nan where one is not found), and how far each judge moved, in standard deviations;
    `recipe` is what was drawn: with a locked identity it may be less than what was asked for."""

    edit: Edit
    crop: np.ndarray
    distance: float
    moved: dict[str, float]
    recipe: Recipe


def refined(editor: Editor, face: int, before: judges.Scores | None, recipe: Recipe, lock: bool) -> Result:
    """A recipe drawn, and one face of it judged; before: that face unedited.

    lock: with less of every edit, as long as the face is not recognised as the same person (`LOCKED`).
    """
    for _ in range(4):
        edit = editor.edit(recipe)
        crop = align.crop(edit.photo.rgb, editor.inversion(face).quad, editor.generator.resolution)
        after = judges.judge(crop) if edit.changed else None
        if not edit.changed or before is None or after is None:
            return Result(edit, crop, 0.0 if not edit.changed else float("nan"), {}, recipe)
        distance = judges.distance(before.descriptor, after.descriptor)
        if not lock or distance < LOCKED:
            break
        recipe = weaker(recipe, face, 0.97 * LOCKED / distance)
    names, _, spread = population.arrays()
    moved = {n: (after.values[n] - before.values[n]) / s for n, s in zip(names, spread, strict=True)}
    return Result(edit, crop, distance, moved, recipe)


def told(moved: dict[str, float], targets: Iterable[str]) -> list[tuple[str, float]]:
    """What moved besides the targets, most first: (judge, standard deviations), where it is worth telling."""
    aimed = {target.lstrip("-") for target in targets}
    others = [(name, value) for name, value in moved.items() if name not in aimed and abs(value) >= TOLD]
    return sorted(others, key=lambda pair: -abs(pair[1]))
