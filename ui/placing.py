"""What is behind the views that paint and move parts of a face: its map, what is painted on it, where its parts are.

Steps that paint and steps that move are done one after the other.  Each view shows the map as the steps before its own
last one left it; what is done there replaces that step, or is a new one where something else was done since.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from editing import spatial
from editing.dragging import Drags
from editing.heads import layouts
from editing.heads.maps import SIDE
from editing.steps import PLACES
from editing.types import Inversion, Recipe, Step

PARTS = tuple(part for part in layouts.OBJECTS if part != "face")  # that have a box of their own
SMALLEST = 0.012  # of the crop's side: what is thinner is no part, but a few pixels that the parser was wrong about
SHADE = {"mouth": "lower_lip"}  # the class whose colour a part is shown in, where it is not its name
Box = tuple[float, float, float, float]  # x, y, width, height in parts of the crop


@dataclass(frozen=True)
class Part:
    """Where a part was before it was moved, and where it is."""

    home: Box
    box: Box


def split(steps: Sequence[Step], op: str) -> tuple[list[Step], Step | None]:
    """A face's steps -> those that make the map which a view shows, and the last, if it is one that the view can
    replace."""
    places = [step for step in steps if step.op in PLACES and step.strength]
    if not places or places[-1].op != op or not _known(places[-1]):
        return places, None
    return places[:-1], places[-1]


def _known(step: Step) -> bool:
    """Does a step move only parts that the view shows?"""
    return step.op != "boxes" or set(step.parameters.get("boxes") or step.parameters.get("moves") or ()) <= set(PARTS)


def map_of(drags: Drags, inversion: Inversion, steps: Sequence[Step], op: str) -> np.ndarray:
    """The map of a face's parts (SIDE, SIDE) uint8 that its last step of an op, 'paint' or 'boxes', begins from."""
    before, _ = split(steps, op)
    dragged = drags(inversion, [step for step in steps if step.op == "drag" and step.strength])
    return spatial.followed(drags.labels(dragged), before)[0]


def painted(last: Step | None) -> np.ndarray:
    """What a step paints: (SIDE, SIDE) uint8, spatial.NOTHING elsewhere."""
    return np.full((SIDE, SIDE), spatial.NOTHING, np.uint8) if last is None else spatial.checked(last)


def parts(labels: np.ndarray, last: Step | None) -> dict[str, Part]:
    """The parts of a map, and where a step moves them."""
    homes = layouts.boxes_of(labels)
    to = spatial.followed(labels, [last])[1] if last else {}
    return {
        part: Part(_numbers(homes[part]), _numbers(to.get(part, homes[part])))
        for part in PARTS  # what lies behind comes first, here and in a step
        if part in homes and min(homes[part][2:]) >= SMALLEST
    }


def moved(known: Mapping[str, Part], changes: Mapping[str, Sequence[float] | None], face: int) -> Step | None:
    """The step after some parts went to other boxes, or back (None); None if all are where they were."""
    boxes = {part: each.box for part, each in known.items()}
    for part, box in changes.items():
        if part in known:
            boxes[part] = known[part].home if box is None else tuple(spatial.checked_boxes({part: box})[part])
    away = {
        part: [round(float(v), 4) for v in box]
        for part, box in boxes.items()
        if np.abs(np.subtract(box, known[part].home)).max() > spatial.STAYED
    }
    return spatial.boxes_step(away, face) if away else None


def replaced(recipe: Recipe, last: Step | None, step: Step | None) -> Recipe:
    """The recipe with a step for its last one of that kind; last None: after all others; step None: without it."""
    steps = list(recipe.steps)
    place = len(steps) if last is None else max(i for i, each in enumerate(steps) if each == last)
    steps[place : place + 1] = [] if step is None else [step]
    return recipe.model_copy(update={"steps": tuple(steps)})


def _numbers(box: Sequence[float]) -> Box:
    x, y, width, height = map(float, box)
    return x, y, width, height
