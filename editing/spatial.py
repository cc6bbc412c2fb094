"""Edits that say where: labels painted into a map of a face's parts (SPADE), and parts moved by boxes (LostGANs).

    paint_step(labels)                                 # (S, S) uint8 over the crop, NOTHING where nothing is painted
    boxes_step({"mouth": (0.40, 0.72, 0.20, 0.07)})    # x, y, width, height in parts of the crop
    moves_step({"mouth": (0.0, 0.05, 1.0)})            # right, down, scale: the same for every face

Both change one map: what the parser says of the face as it was inverted (after drags), step by step.  The features of
STAGE follow it (`editing.heads.maps`), those of the face as all other edits have left it.  Parts that moved take theirs
along, there and in the next stage, whose cells are half as large, by whole cells: between two cells, features of an eye
are no eye.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from scipy import ndimage
from torch import Tensor

from editing.faces.photo import open_picture
from editing.heads import layouts, maps, repaint
from editing.heads.maps import CELLS, SIDE, Carried
from editing.inversion.residual import joined, render
from editing.judges import parsing
from editing.judges.parsing.labels import CLASSES, PALETTE
from editing.types import Inversion, Step
from stylegan2.engine import to_uint8
from stylegan2.errors import PhotoError, UsageError
from stylegan2.generator import FeatureEdit, Generator
from stylegan2.preview import STAGE

OPS = ("paint", "boxes")
FINER = "b64"  # the stage after STAGE
NOTHING = 255  # in a painted map: what is there stays
LARGEST = 1024  # pixels of a map that are looked at
FAR = 60  # of 441: a colour that is farther from the palette's was not painted with it
ALONG, FRINGE = 5, 2  # pixels of a map: how much around it a small part takes along, and a large one
SOFT = 1.6  # of a cell's share from which on it is all the part's: 1 / SOFT
NONE: Mapping = MappingProxyType({})
STAYED = 0.004  # of the picture: boxes that moved by less did not move
REACH = {"hair": 1.4}  # times as far as their boxes: less of the way is drawn than is asked for (`bench.places`)
BEYOND = 0.04  # of the picture: how far beyond its box such a part goes at most; no more was measured


# ---- steps


def paint_step(labels: np.ndarray, face: int = 0) -> Step:
    """(S, S) uint8 of indices into CLASSES and NOTHING, over the aligned crop -> a step of a recipe."""
    small = nearest(labels)
    stream = io.BytesIO()
    Image.fromarray(small).save(stream, "PNG", optimize=True)
    return Step(op="paint", parameters={"labels": base64.b64encode(stream.getvalue()).decode()}, face=face)


def boxes_step(boxes: layouts.Layout, face: int = 0) -> Step:
    """Parts (`repaint.PARTS`, left_ and right_ of those that there are two of) and where they shall be."""
    return Step(op="boxes", parameters={"boxes": checked_boxes(boxes)}, face=face)


def checked_boxes(boxes: Any) -> dict[str, list[float]]:
    """UsageError if these are no boxes of parts."""
    if not isinstance(boxes, Mapping) or not boxes:
        raise UsageError('Boxes are parts and their places: {"mouth": [0.4, 0.72, 0.2, 0.07]}')
    for part in boxes:
        repaint.of(np.zeros((1, 1), np.uint8), str(part))
    return {str(part): list(repaint.checked_box(box)) for part, box in boxes.items()}


def moves_step(moves: Mapping[str, Sequence[float]], face: int = 0) -> Step:
    """Parts, and how far right and down they shall go, in parts of the crop's width, and perhaps how much larger."""
    return Step(op="boxes", parameters={"moves": checked_moves(moves)}, face=face)


def checked_moves(moves: Any) -> dict[str, list[float]]:
    """UsageError if these are no moves of parts."""
    found = {}
    for part, move in moves.items() if isinstance(moves, Mapping) else ():
        repaint.of(np.zeros((1, 1), np.uint8), str(part))
        try:
            values = [float(value) for value in move]
        except (TypeError, ValueError, OverflowError):
            values = []
        if len(values) not in (2, 3) or not all(abs(v) <= 1 for v in values[:2]) or not 0.2 <= [*values, 1.0][2] <= 5:
            raise UsageError(
                f"{part} moves by two numbers, right and down, of at most 1, and perhaps a scale of 0.2 to 5."
            )
        found[str(part)] = values
    if not found:
        raise UsageError('Moves are parts and how far they go: {"mouth": [0, 0.05]}')
    return found


def checked(step: Step) -> np.ndarray | dict[str, list[float]]:
    """A paint step's labels (SIDE, SIDE), or a boxes step's boxes.  UsageError if the step is none."""
    if step.region is not None:
        raise UsageError("Painted labels and moved boxes say themselves where they are: they take no region.")
    if step.op == "boxes" and "moves" in step.parameters:
        return checked_moves(step.parameters["moves"])
    if step.op == "boxes":
        return checked_boxes(step.parameters.get("boxes"))
    try:
        data = base64.b64decode(str(step.parameters.get("labels", "")), validate=True)
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            if image.size != (SIDE, SIDE) or image.mode != "L":
                raise UsageError(f"A step's painted labels are a gray PNG of {SIDE} pixels.")
            labels = np.asarray(image)
    except (ValueError, OSError, SyntaxError, Image.DecompressionBombError):
        raise UsageError("The painted labels of this recipe cannot be read.") from None
    if not np.isin(labels, [*range(len(CLASSES)), NOTHING]).all():
        raise UsageError(f"Painted labels are numbers from 0 to {len(CLASSES) - 1}, or {NOTHING}.")
    return labels


# ---- applying them


@dataclass(frozen=True)
class Plan:
    """A face's map before and after all steps, (SIDE, SIDE) uint8, parts that were moved with their new boxes, and what
    was painted after that (SIDE, SIDE) bool."""

    before: np.ndarray
    wanted: np.ndarray
    moves: Mapping[str, Sequence[float]] = field(default_factory=dict)
    over: np.ndarray = field(default_factory=lambda: np.zeros((SIDE, SIDE), bool))


@torch.no_grad()
def planned(
    generator: Generator, inversion: Inversion, steps: Sequence[Step], before: np.ndarray | None = None
) -> Plan:
    """What the steps ask of the face that an inversion draws; before: its map, where it is known.

    UsageError where it cannot be.
    """
    if before is None:
        features(generator, inversion)
        before = map_of(generator, inversion)
    shaped = {n: reshaped(generator, inversion, step) for n, step in enumerate(steps) if step.op == "head"}
    return Plan(before, *followed(before, steps, shaped, REACH))


def reshaped(generator: Generator, inversion: Inversion, step: Step) -> tuple[str, np.ndarray]:
    """The part whose shape a head changes, and the map of the face as the head alone would have it."""
    from editing.steps import checked_head

    head = checked_head(step)
    return head.paints, map_of(generator, replace(inversion, ws=head(inversion.ws, step.strength)))


def uncovered(labels: np.ndarray, after: np.ndarray, part: str) -> np.ndarray:
    """The map without what another has no more of a part: there it says what the other says, or what is around."""
    gone = repaint.of(labels, part) & ~repaint.of(after, part)
    seen = np.isin(after, repaint.indices(("background", "skin", "ears", "neck", "clothes")))
    return np.where(gone & seen, after, repaint.without(labels, gone)).astype(np.uint8)


@torch.no_grad()
def placed(generator: Generator, inversion: Inversion, plan: Plan) -> Inversion:
    """The inversion, edited or not, with features that follow the plan: of STAGE, and where parts move, of FINER."""
    x, own, ws = features(generator, inversion), dict(inversion.features or {}), inversion.ws
    came = carried(x, plan) if plan.moves else None
    edit = maps.shipped().edit(x, tensor(plan.before), tensor(plan.wanted), ws, came)
    found = {STAGE: joined(own.get(STAGE), edit)}
    if plan.moves:
        came = carried(generator.synthesis(ws, inversion.deltas, own, until=FINER), plan)
        painted = generator.synthesis(ws, inversion.deltas, found, until=FINER)
        found[FINER] = FeatureEdit(came.x - painted, came.mask, ws)
    return replace(inversion, features=own | found)


def map_of(generator: Generator, inversion: Inversion) -> np.ndarray:
    """What the parser says of the face that an inversion draws: (SIDE, SIDE) uint8."""
    return nearest(parsing.parse(to_uint8(render(generator, inversion))[0]))


def nearest(labels: np.ndarray) -> np.ndarray:
    """Labels (S, S), the parser's or of a file -> a map (SIDE, SIDE) uint8, the nearest pixels."""
    at = ((np.arange(SIDE) + 0.5) * labels.shape[0] / SIDE).astype(int)
    return labels[at][:, at].astype(np.uint8)


def tensor(labels: np.ndarray) -> Tensor:
    return torch.from_numpy(labels[None].astype(np.int64))


def features(generator: Generator, inversion: Inversion) -> Tensor:
    """A face's features of STAGE (1, C, CELLS, CELLS).  UsageError if heads were not made for this generator's."""
    channels = len(maps.shipped().painter.scale)
    x = generator.synthesis(inversion.ws, inversion.deltas, inversion.features, until=STAGE)
    if x.shape[1:] != (channels, CELLS, CELLS):
        raise UsageError("Painting and moving parts need the default generator: this one has other features.")
    return x


def followed(
    labels: np.ndarray,
    steps: Sequence[Step],
    shaped: Mapping[int, tuple[str, np.ndarray]] = NONE,
    reach: Mapping[str, float] = NONE,
) -> tuple[np.ndarray, dict[str, list[float]], np.ndarray]:
    """A map after the steps, the parts that were moved, with the boxes they went to, and what was painted since.

    shaped: `reshaped` of the steps that are heads; reach: how many times as far some parts go.
    """
    moves, over = {}, np.zeros(labels.shape, bool)
    ways: dict[str, tuple[Sequence[float], Sequence[float]]] = {}  # of parts that go farther: from, and by rights to
    for number, step in enumerate(steps):
        if step.op != "boxes":
            ways = {}
        if step.op == "head":
            labels = uncovered(labels, shaped[number][1], shaped[number][0])
            continue
        found = checked(step)
        if step.op == "paint":
            if not (found == NOTHING).any():
                found = np.where(meant(found != labels), found, NOTHING)
            labels = np.where(found == NOTHING, labels, found).astype(np.uint8)
            over |= found != NOTHING
            continue
        for part, to in (each_side(labels, found) if "moves" in step.parameters else found).items():
            box = repaint.box_of(repaint.of(labels, part))
            home, box = ways.get(part, (box, box))
            if box is not None and "moves" in step.parameters:
                to = list(repaint.checked_box(repaint.shifted(box, *to)))
            if box is None or np.abs(np.subtract(box, to)).max() > STAYED:
                if box is not None and part in reach:
                    ways[part], to = (home, to), farther(home, to, reach[part])
                before, labels = labels, repaint.moved(labels, part, to)
                over &= before == labels
                moves[part] = to
    return labels, moves, over


def farther(home: Sequence[float], to: Sequence[float], times: float) -> list[float]:
    """The box beyond `to`, so many times as far from `home` by its middle, as long as it lies in the picture."""
    middles = np.array([[x + width / 2, y + height / 2] for x, y, width, height in (home, to)])
    more = (times - 1) * (middles[1] - middles[0])
    more *= min(1.0, BEYOND / max(np.hypot(*more), 1e-9))
    try:
        return list(repaint.checked_box((to[0] + more[0], to[1] + more[1], *to[2:])))
    except UsageError:
        return list(to)


def meant(differs: np.ndarray) -> np.ndarray:
    """Where a whole map differs from the face's by more than the seams between parts, which are never quite the same in
    a photo and in its inversion."""
    inner = ndimage.binary_opening(differs, np.ones((3, 3)))
    return ndimage.binary_dilation(inner, iterations=2) & differs


def each_side(labels: np.ndarray, moves: Mapping[str, Sequence[float]]) -> dict[str, Sequence[float]]:
    """The moves with those of a pair that the face has on their own: an eye is scaled about its own middle."""
    found = {}
    for part, move in moves.items():
        sides = [f"{side}_{part}" for side in ("left", "right")] if part in repaint.SIDED else []
        there = [side for side in sides if repaint.of(labels, side).any()]
        found |= dict.fromkeys(there or [part], move)
    return found


def carried(x: Tensor, plan: Plan) -> Carried:
    """Features (1, C, S, S) of a face, each part's at the box it went to, and where that is (1, 1, S, S).

    Larger parts first, and without those within them that go ways of their own.
    """
    size, before, inner = x.shape[-1], plan.before, repaint.indices(repaint.OVER)
    where = {part: repaint.of(before, part) for part in plan.moves}
    where = {part: where[part] for part in sorted(where, key=lambda part: -where[part].sum()) if where[part].any()}
    came, at = x.clone(), torch.zeros(1, 1, size, size).to(x)
    centres = (torch.arange(size) + 0.5) / size
    for number, (part, inside) in enumerate(where.items()):  # what was painted first has no features to take along
        box, to = repaint.box_of(inside), plan.moves[part]
        near = ndimage.binary_dilation(inside, iterations=FRINGE if part in repaint.BENEATH else ALONG)
        for other in list(where.values())[number + 1 :]:
            if (other & inside).any():
                near &= ~ndimage.binary_dilation(other, iterations=ALONG)
        moved = repaint.carried(np.zeros_like(before), near, box, to) >= 0
        moved &= ~np.isin(plan.wanted, [label for label in inner if label not in before[inside]]) & ~plan.over
        columns = ((centres - to[0]) * box[2] / to[2] + box[0]).mul(size).floor().long().clamp(0, size - 1)
        rows = ((centres - to[1]) * box[3] / to[3] + box[1]).mul(size).floor().long().clamp(0, size - 1)
        share = F.interpolate(torch.from_numpy(moved[None, None].astype(np.float32)), (size, size), mode="area")
        share = (SOFT * share).clamp(max=1).to(x)
        came, at = torch.lerp(came, x[:, :, rows][..., columns], share), torch.maximum(at, share)
    return Carried(came, at)


# ---- files


def read_map(path: Path) -> np.ndarray:
    """A picture in the palette's colours, or of the classes' numbers in gray -> labels (H, W) uint8; NOTHING where it
    is transparent, or 255 in gray.  PhotoError if it is no picture, UsageError if it is no map."""
    try:
        with open_picture(path) as image:
            if max(image.size) > LARGEST:  # every map becomes one of SIDE pixels
                scale = LARGEST / max(image.size)
                image = image.resize([max(1, round(side * scale)) for side in image.size], Image.Resampling.NEAREST)
            gray = image.mode in ("L", "I", "I;16")
            samples = np.asarray(image if gray else image.convert("RGBA"))
    except Exception:  # Pillow's plugins raise whatever their parsers meet
        raise PhotoError(f"{path} is not a picture that can be read.") from None
    if not gray:
        return labels_of(samples, path)
    if not np.isin(samples.astype(np.int64), [*range(len(CLASSES)), NOTHING]).all():
        raise UsageError(f"{path} is a gray picture, but its numbers are not those of parts: 0 to "
                         f"{len(CLASSES) - 1}, and {NOTHING} for nothing.")  # fmt: skip
    return samples.astype(np.uint8)


def labels_of(colours: np.ndarray, path: Path | str = "This picture") -> np.ndarray:
    """RGBA (H, W, 4) uint8 in the palette's colours -> labels (H, W) uint8.  UsageError for other pictures."""
    flat, places = np.unique(colours.reshape(-1, 4), axis=0, return_inverse=True)
    off = np.linalg.norm(flat[:, None, :3].astype(np.float32) - PALETTE[None].astype(np.float32), axis=2)
    nearest, seen = off.argmin(1).astype(np.uint8), flat[:, 3] >= 128
    nearest[~seen] = NOTHING
    wrong = ((off.min(1) > FAR) & seen)[places]
    if wrong.mean() > 0.1:
        raise UsageError(f"{path} is no map of a face's parts: make one with python -m editing.translate parse.")
    return nearest[places].reshape(colours.shape[:2])


def write_map(labels: np.ndarray, path: Path) -> None:
    """Labels (H, W) uint8 -> a PNG in the palette's colours, whose indices are the labels; NOTHING is transparent."""
    from editing.faces.saving import write_atomically

    image = Image.fromarray(labels).convert("P")
    image.putpalette([*PALETTE.ravel().tolist(), *[0] * (768 - PALETTE.size)])
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=True, **({"transparency": NOTHING} if (labels == NOTHING).any() else {}))
    write_atomically(path, stream.getvalue())


def read_layout(path: Path, moved: bool = False) -> dict[str, list[float]]:
    """A JSON file of boxes, {"boxes": {"mouth": [x, y, width, height], ...}}, or as LostGANs' layouts are, {"boxes":
    [{"class": "mouth", "box": [...]}, ...]}.  UsageError in one sentence otherwise.

    moved: only those that are not where "from", as `write_layout` writes it, has them; UsageError if none is.
    """
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} is no layout: {str(error).splitlines()[0]}") from None
    boxes = found.get("boxes", found) if isinstance(found, Mapping) else None
    if isinstance(boxes, list) and all(isinstance(box, Mapping) and {"class", "box"} <= set(box) for box in boxes):
        boxes = {str(box["class"]): box["box"] for box in boxes}
    boxes, before = checked_boxes(boxes), found.get("from") if isinstance(found, Mapping) else None
    if not moved or before is None:
        return boxes
    before = checked_boxes(before)
    away = {part: box for part, box in boxes.items() if box != before.get(part)}
    if not away:
        raise UsageError(f"No box of {path} has moved: change numbers under 'boxes', and leave those under 'from'.")
    return away


def write_layout(labels: np.ndarray, path: Path) -> None:
    """The boxes of a map's objects twice, as `read_layout` reads them: to be changed, and where they are from."""
    from editing.faces.saving import write_atomically

    boxes = {name: [round(float(value), 4) for value in box] for name, box in layouts.boxes_of(labels).items()}
    write_atomically(path, (json.dumps({"boxes": boxes, "from": boxes}, indent=1) + "\n").encode())


def move_of(text: str) -> tuple[str, list[float]]:
    """'mouth=0,0.05' or 'eyes=0,-0.03,1.1' -> a part, and its move.  UsageError if it is neither."""
    part, _, numbers = text.partition("=")
    try:
        return part.strip(), [float(value) for value in numbers.split(",")]
    except ValueError:
        raise UsageError(f"{text!r} is not PART=RIGHT,DOWN or PART=RIGHT,DOWN,SCALE, as in mouth=0,0.05.") from None
