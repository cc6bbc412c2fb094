"""What a command line was asked for, before anything slow starts: strengths, ranges, sentences and places as a Plan.

`editing.edit` carries plans out, `editing.batch` makes them for folders, and the page for its links and strips.  Every
mistake is a UsageError of one sentence.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from stylegan2.errors import UsageError

MAX_CELLS = 21  # of a strip, or of a grid's side
MAX_FRAMES = 1500


@dataclass(frozen=True)
class Range:
    """Strengths of one edit, in order, perhaps within a region."""

    name: str
    values: tuple[float, ...]
    region: str | None = None
    disentangle: bool = False

    def step(self, value: float, face: int = 0):
        """The edit at one of its strengths."""
        return step_of(self.name, value, face, self.region, self.disentangle)


@dataclass(frozen=True)
class Plan:
    """What one call is to do: a recipe, strips (one range) and grids (two ranges: across, down), and the faces."""

    recipe: object
    sheets: tuple[tuple[Range, ...], ...]
    face: int
    wants_edit: bool
    videos: tuple[Range, ...] = ()


def make_plan(sets, recipe_path, strips, grids, face: int | None, films=None, mask: str | None = None,
              disentangle: bool = False, more: Sequence = ()) -> Plan:  # fmt: skip
    """The options as a Plan; every mistake in them is a UsageError before anything slow starts.

    mask: the region that '@mask' stands for.  more: steps of sentences, and those that paint and move parts.
    """
    from editing import provenance
    from editing.types import Recipe

    recipe = provenance.load_recipe(recipe_path) if recipe_path else Recipe()
    if face is not None:
        recipe = recipe.model_copy(update={"steps": tuple(s.model_copy(update={"face": face}) for s in recipe.steps)})
    chosen = face if face is not None else next((step.face for step in recipe.steps), 0)
    recipe = recipe.then(*(step.model_copy(update={"face": chosen}) for step in more))
    recipe = recipe.then(*parse_sets(sets or (), chosen, mask, disentangle))
    how = {"mask": mask, "disentangle": disentangle}
    sheets = [(parse_range(text, **how),) for text in strips or ()] + [parse_grid(text, **how) for text in grids or ()]
    if not (sets or recipe_path or sheets or films or more):
        raise UsageError(
            "Nothing to do: give --set name=strength, --text, --paint, --move, --recipe, --strip, --grid or --video; "
            "--list shows the names."
        )
    videos = tuple(parse_range(text, MAX_FRAMES, **how) for text in films or ())
    if videos:
        from editing import video

        video.available()
    ranges = [*videos, *(part for sheet in sheets for part in sheet)]
    if disentangle and not (sets or ranges):
        raise UsageError("--disentangle is about --set, --strip, --grid and --video: the recipe's own steps stay.")
    if mask and mask not in [*(step.region for step in recipe.steps), *(part.region for part in ranges)]:
        raise UsageError("No edit uses --mask: limit one to it, for example --set smile=2@mask.")
    return Plan(recipe, tuple(sheets), chosen, bool(sets or recipe_path or more), videos)


def place_steps(paint: Path | None, move: Sequence[str] | None, boxes: Path | None, face: int) -> list:
    """Steps that paint a map's labels and move parts.  PhotoError, UsageError for files and moves that are none."""
    if not (paint or move or boxes):
        return []
    from editing import spatial

    steps = []
    if paint:
        labels = spatial.read_map(paint)
        if labels.shape[0] != labels.shape[1]:
            raise UsageError(f"{paint} is {labels.shape[1]}x{labels.shape[0]} pixels: the map of a face is square.")
        steps.append(spatial.paint_step(labels, face))
    if boxes:
        steps.append(spatial.boxes_step(spatial.read_layout(boxes, moved=True), face))
    if move:
        moves = [spatial.move_of(text) for text in move]
        if len(dict(moves)) < len(moves):
            raise UsageError("--move names a part twice: say in one how far it goes.")
        steps.append(spatial.moves_step(dict(moves), face))
    return steps


def text_steps(texts: Sequence[str], face: int, mask: str | None = None) -> list:
    """Sentences -> steps, 'darker @hair' within a region; what of them was not understood is said on stderr."""
    if not texts:
        return []
    from editing.text import edits

    steps = []
    for text in texts:
        sentence, region = edits.split_region(text)
        if region == "mask" and mask is None:
            raise UsageError(f"'{text}' needs the mask: give its picture with --mask.")
        step, notes = edits.told(sentence, face=face, region=mask if region == "mask" else region)
        steps.append(step)
        print("\n".join(notes), file=sys.stderr)
    return steps


def parse_sets(texts: Iterable[str], face: int = 0, mask: str | None = None, disentangle: bool = False) -> list:
    """['smile=2', 'lip_red=3@lips'] -> Steps; '@mask' is the region `mask`, the name of the picture that was given."""
    from editing.types import finite

    steps = []
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        value, region = split_region(value, mask)
        if not equals or not name:
            raise UsageError(f"--set takes name=strength, for example smile=2, or smile=2@mouth; not '{text}'.")
        step = step_of(name, finite(value, name), face, region, disentangle)
        if any((step.region, name) == (other.region, other.parameters["name"]) for other in steps):
            raise UsageError(f"--set {name} is given twice.")
        steps.append(step)
    return steps


def split_region(text: str, mask: str | None) -> tuple[str, str | None]:
    """'3@lips' -> '3', 'lips'; '@mask' is the region `mask`.  UsageError if none was given, or there is no word."""
    value, at, region = (part.strip() for part in text.partition("@"))
    if at and not region:
        raise UsageError(f"There is no region after '@' in '{text}': for example 2@mouth.")
    if region == "mask" and mask is None:
        raise UsageError(f"'{text}' needs the mask: give its picture with --mask.")
    return value, mask if region == "mask" else region or None


def step_of(name: str, strength: float, face: int, region: str | None, disentangle: bool):
    from editing.types import is_head, latent_step

    step = latent_step(name, strength, face)
    if disentangle and is_head(name):
        raise UsageError(f"'{name}' is a head: --disentangle is for edits of the catalogue.")
    parameters = step.parameters | ({"disentangle": True} if disentangle else {})
    return step.model_copy(update={"region": region, "parameters": parameters})


def parse_range(text: str, most: int = MAX_CELLS, mask: str | None = None, disentangle: bool = False) -> Range:
    """'smile=-2:2:1' -> smile at -2, -1, 0, 1, 2 (both ends included; the step may be left out: 1).

    '@mouth' may follow; mask and disentangle as in `make_plan`.
    """
    from editing.types import finite

    name, equals, spec = text.partition("=")
    spec, region = split_region(spec, mask)
    parts = spec.split(":")
    if not equals or not name.strip() or len(parts) not in (2, 3):
        raise UsageError(f"A range looks like smile=-2:2:1 (from:to:step), not '{text}'.")
    low, high, step = (finite(part, name) for part in (*parts, "1")[:3])
    if step == 0 or (high - low) * step < 0:
        raise UsageError(f"The range {text} never gets from {low:g} to {high:g} in steps of {step:g}.")
    count = int((high - low) / step + 1e-6) + 1
    if count > most:
        raise UsageError(f"The range {text} has {count} values; at most {most} fit: take a larger step.")
    return Range(name.strip(), tuple(round(low + step * i, 9) + 0.0 for i in range(count)), region, disentangle)


def parse_grid(text: str, **how) -> tuple[Range, Range]:
    """'smile=-2:2:1,age=-3:3:3' -> (across, down)"""
    parts = text.split(",")
    if len(parts) != 2:
        raise UsageError(f"A grid is two ranges, for example smile=-2:2:1,age=-3:3:3; not '{text}'.")
    across, down = (parse_range(part, **how) for part in parts)
    if (across.name, across.region) == (down.name, down.region):
        raise UsageError(f"The grid {text} has '{across.name}' in both directions.")
    return across, down


def check_names(plan: Plan, editor) -> None:
    """Refuse unknown edits and regions (UsageError with the nearest name), and forms that there are none of."""
    from editing.steps import pin

    ranges = [*plan.videos, *(part for sheet in plan.sheets for part in sheet)]
    ends = [part.step(value) for part in ranges for value in (min(part.values), max(part.values))]
    pin(plan.recipe.then(*ends), editor.catalogue, editor.masks)


def beyond_safe(plan: Plan, catalogue) -> list[str]:
    """One sentence for every strength of the recipe that lies outside what was measured to look right."""
    warnings = []
    for step in plan.recipe.steps:
        safe = getattr(catalogue[step.parameters["name"]], "safe_range", None) if step.op == "latent" else None
        if safe and not min(safe) <= step.strength <= max(safe):
            name = step.parameters["name"]
            warnings.append(f"note: {name}={step.strength:g} is outside its safe range {safe[0]:+g} to {safe[1]:+g}.")
    return warnings


def split_out(out: Path, source: Path, kind: str, face: int = 0) -> tuple[Path, str]:
    """--out as (folder, file name of the edited picture): a name with a picture's suffix is a file."""
    from editing.batch import READABLE
    from editing.faces.saving import FORMATS

    if out.suffix.lower() in FORMATS and not out.is_dir():
        if source.exists() and out.exists() and out.samefile(source):
            raise UsageError("--out is the photo itself: the original is never overwritten.")
        return out.parent, out.name
    if out.suffix.lower() in READABLE and not out.is_dir():
        raise UsageError(f"Cannot write a picture as '{out.name}': use one of {', '.join(FORMATS)}.")
    stem = source.stem if face == 0 or kind == "crop" else f"{source.stem}.face{face}"
    return out, f"{stem}.edited.png" if kind == "photo" else f"{stem}.edited.crop.png"
