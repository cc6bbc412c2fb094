"""Edit a face and put it back:  python -m editing.edit --img face.jpg --set smile=2 --set age=-3

The first edit of a photo inverts its face, which takes about a minute, and keeps the inversion in --out;
later ones find it there and take seconds.  Strips and grids show a range of strengths side by side.
The result carries its recipe, in the picture and as JSON beside it; `--recipe` applies one again.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from editing import invert as inverting
from stylegan2 import console
from stylegan2.allocator import tune_allocator
from stylegan2.errors import InversionError, UsageError

MAX_CELLS = 21  # of a strip, or of a grid's side
MAX_FRAMES, VIDEO = 1500, ".mp4"

app = console.app("Change a face and put it back into its photo.")

Disentangle = Annotated[bool, typer.Option("--disentangle", help="--set moves as little else as possible.")]
GeneratorFile = Annotated[Path | None, typer.Option("--generator", help="Another generator, a checkpoint file.")]


@app.command()
def edit(
    img: Annotated[Path | None, typer.Option("--img", help="The photo.")] = None,
    inversion: Annotated[Path | None, typer.Option(help="An inversion made before; add --img to paste back.")] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="name=strength, name=strength@region; heads, too.")
    ] = None,
    texts: Annotated[
        list[str] | None, typer.Option("--text", help="What to change, in words; '... @hair' for a region; repeatable.")
    ] = None,
    paint: Annotated[Path | None, typer.Option(help="A map; the face takes its labels where they are painted.")] = None,
    move: Annotated[
        list[str] | None, typer.Option(help="PART=RIGHT,DOWN[,SCALE], in parts of the crop: mouth=0,0.05; repeatable.")
    ] = None,
    boxes: Annotated[Path | None, typer.Option(help="A layout (JSON); parts go where their boxes are.")] = None,
    mask: Annotated[Path | None, typer.Option(help="A picture, white where '@mask' edits, black elsewhere.")] = None,
    recipe: Annotated[Path | None, typer.Option(help="A recipe, or a picture that has one inside.")] = None,
    strip: Annotated[list[str] | None, typer.Option(help="name=from:to:step, e.g. smile=-2:2:1; repeatable.")] = None,
    grid: Annotated[list[str] | None, typer.Option(help="Two ranges: smile=-2:2:1,age=-3:3:3; repeatable.")] = None,
    film: Annotated[list[str] | None, typer.Option("--video", help="smile=0:2:0.05: an MP4; repeatable.")] = None,
    cell: Annotated[int, typer.Option(min=16, max=1024, help="Pixels of a cell; a video is twice as wide.")] = 256,
    out: Annotated[Path, typer.Option(help="Folder for the results, or the file name of the edited picture.")] = Path(
        "out"
    ),
    disentangle: Disentangle = False,
    crop: Annotated[bool, typer.Option("--crop", help="Write the edited crop, not the whole photo.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Invert again even if --out has an inversion.")] = False,
    transfer: Annotated[bool, typer.Option("--transfer", help="Draw an inversion of a sister generator.")] = False,
    generator: GeneratorFile = None,
    directions: inverting.DirectionFiles = None,
    listing: Annotated[bool, typer.Option("--list", help="Show the edits there are.")] = False,
    method: Annotated[str | None, typer.Option(help="Inversion method (default: the recipe's, else tune).")] = None,
    steps: inverting.Steps = None,
    budget: inverting.Seconds = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the inversion (default: the recipe's, else 0).")] = None,
    device: inverting.Device = "cpu",
    face: Annotated[int | None, typer.Option(min=0, help="Which face (default: the recipe's, else 0).")] = None,
    detector: inverting.Detector = "auto",
    aligned: inverting.Aligned = False,
    as_json: inverting.AsJson = False,
) -> None:
    """Edit a face along named directions."""
    from editing import regions

    if listing:
        print(list_edits(as_json, directions))
        return
    own = regions.read(mask) if mask else None
    named = regions.named(own) if mask else None
    more = [*place_steps(paint, move, boxes, face or 0), *text_steps(texts or (), face or 0, named)]
    plan = make_plan(sets, recipe, strip, grid, face, film, named, disentangle, more)
    carry_out(plan, img, inversion, out, own=own, crop=crop, cell=cell, generator=generator, directions=directions,
              device=device, as_json=as_json, method=method, steps=steps, budget=budget, seed=seed, detector=detector,
              aligned=aligned, fresh=fresh, transfer=transfer)  # fmt: skip


def carry_out(
    plan: Plan, img: Path | None, inversion: Path | None, out: Path, *, own=None, crop: bool = False, cell: int = 256,
    generator: Path | None = None, directions: Sequence[Path] | None = None, device: str = "cpu",
    as_json: bool = False, **prepare,
) -> None:  # fmt: skip
    """Do what a plan asks for and print the paths of the results.  own: a mask's picture; prepare: see `bring`."""
    from editing import regions, session

    if img is None and inversion is None:
        raise UsageError("Give a photo with --img, or an inversion with --inversion.")
    tune_allocator()
    place = inverting.check_device(device)
    catalogue = session.load_catalogue(directions)
    editor = session.Editor(load_generator(generator, place), catalogue=catalogue, device=place)
    if own is not None:
        editor.masks[regions.named(own)] = own
    check_names(plan, editor)
    for warning in beyond_safe(plan, editor.catalogue):
        print(warning, file=sys.stderr)
    folder, filename = split_out(out, img or inversion, "crop" if crop or img is None else "photo", plan.face)
    bring(editor, plan, img, inversion, folder, **prepare)
    paths = write(editor, plan, folder, filename, crop or img is None, cell)
    print(json.dumps({"files": [str(path) for path in paths]}, indent=1) if as_json else "\n".join(map(str, paths)))


# ---------------------------------------------------------------------------------- what was asked for


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


def list_edits(as_json: bool, directions: Sequence[Path] | None = None) -> str:
    """The catalogue as text (or JSON): name, group, safe range, what one unit does."""
    from editing.heads.registry import heads
    from editing.session import load_catalogue

    catalogue = load_catalogue(directions)
    rows = [
        {
            "name": name,
            "group": getattr(catalogue[name], "group", ""),
            "safe_range": list(getattr(catalogue[name], "safe_range", ()) or ()),
            "effect": getattr(catalogue[name], "effect", None),
            "description": getattr(catalogue[name], "description", ""),
        }
        for name in catalogue
    ]
    if as_json:
        about = {"group": "heads", "safe_range": [0, 1], "effect": None, "description": "a translation head"}
        rows += [{"name": name, **about} for name in heads()]
        return json.dumps(rows, indent=1, default=str)
    width = max((len(row["name"]) for row in rows), default=0)
    lines, group = [], None
    for row in sorted(rows, key=lambda row: (row["group"], row["name"])):
        if row["group"] != group:
            group = row["group"]
            lines.append(f"{group}:")
        safe = " to ".join(f"{value:+g}" for value in row["safe_range"])
        lines.append(f"  {row['name'].ljust(width)}  {safe.ljust(10)}  {row['description']}".rstrip())
    return "\n".join([*lines, "heads (strength 1 is what they were trained for):", *(f"  {name}" for name in heads())])


# ------------------------------------------------------------------------------ inverting, or not again


def load_generator(path: Path | None, device):
    """The generator in a checkpoint file; None without a path, which stands for the default one."""
    if path is None:
        return None
    from stylegan2 import checkpoints

    return checkpoints.load(path).to(device)


def bring(
    editor, plan: Plan, img: Path | None, inversion: Path | None, folder: Path, *, method=None, steps=None, budget=None,
    seed=None, detector="auto", aligned=False, fresh=False, transfer=False,
) -> None:  # fmt: skip
    """Have every face of the plan in the editor: from --inversion, from an earlier one in `folder`, or inverted now."""
    from editing import regions
    from editing.faces import photo as photos
    from editing.mixing import transferred
    from editing.output import make_folder, staged
    from editing.types import Inversion

    photo = photos.load(img) if img else None
    for own in editor.masks.values():
        regions.check_size(own, photo and photo.size)
    if inversion is not None:
        found = Inversion.load(inversion)
        editor.set_inversion(transferred(found, editor.generator) if transfer else found, photo, plan.face)
        return
    made = plan.recipe.inversion
    if made is not None and method is None and steps is None and budget is None:
        method, steps, seed = made.method, made.steps or None, made.seed if seed is None else seed
    wanted = {"method": method or "tune", "seed": seed or 0}
    budget = inverting.make_budget(steps, budget)
    make_folder(folder)
    with staged(folder):  # a folder that cannot be written is refused before the slow part
        pass
    for face in dict.fromkeys([plan.face, *(step.face for step in plan.recipe.steps)]):
        kept = folder / f"{inverting.stem_of(photo, face)}.inversion"
        earlier = None if fresh else reusable(kept, editor, photo, **wanted, steps=steps, aligned=aligned)
        if earlier is not None:
            print(f"using the inversion {kept} (--fresh makes a new one)", file=sys.stderr)
            editor.set_inversion(earlier, photo, face)
            continue
        with inverting.progress(wanted["method"]) as callback:
            found = editor.set_photo(
                photo, face=face, budget=budget, detector=detector, aligned=aligned, callback=callback, **wanted
            )
        found.save(kept)


def reusable(kept: Path, editor, photo, *, method: str, seed: int, steps: int | None, aligned: bool):
    """The inversion in file `kept` if it is the one that would be made now, else None."""
    from editing.session import generator_sha256
    from editing.types import Inversion

    try:
        found = Inversion.load(kept).require(editor.generator.family, generator_sha256(editor.generator))
    except InversionError:
        return None
    same = found.photo_sha256 == photo.sha256 and (found.method, found.seed) == (method, seed)
    same = same and (found.landmarks is None) == aligned
    return found if same and (steps is None or found.steps == steps) else None


# ------------------------------------------------------------------------------------------ the results


def write(editor, plan: Plan, folder: Path, filename: str, crop: bool, cell: int) -> list[Path]:
    """Render what the plan asks for and write it, all files or none; returns their paths."""
    from editing import provenance, session
    from editing.faces import photo as photos
    from editing.output import staged

    names = []
    with staged(folder) as scratch:
        if plan.wants_edit:
            result = editor.edit(plan.recipe)
            picture = photos.from_rgb(session.to_rgb(result.crop)) if crop else result.photo
            provenance.save(picture, scratch / filename, result.recipe, changed=result.changed or crop)
            names += [filename, provenance.sidecar_path(Path(filename)).name]
        stem = Path(filename).stem.removesuffix(".crop").removesuffix(".edited")
        for sheet in plan.sheets:
            kind = f"{'strip' if len(sheet) == 1 else 'grid'}-{'-'.join(in_files(part.name) for part in sheet)}"
            again = sum(known.startswith(f"{stem}.{kind}.") for known in names)  # two strips of one edit: two files
            name = f"{stem}.{kind}.{again + 1}.png" if again else f"{stem}.{kind}.png"
            recipe = editor.recipe(plan.recipe, plan.face)
            picture = photos.from_rgb(contact_sheet(editor, plan, sheet, cell))
            provenance.save(picture, scratch / name, recipe, sidecar=False)
            names.append(name)
        for part in plan.videos:
            kind = in_files(part.name)
            again = sum(known.startswith(f"{stem}.{kind}.") and known.endswith(VIDEO) for known in names)
            name = f"{stem}.{kind}.{again + 1}{VIDEO}" if again else f"{stem}.{kind}{VIDEO}"
            save_video(editor, plan, part, scratch / name, 2 * cell)
            names += [name, provenance.sidecar_path(Path(name)).name]
    return [folder / name for name in names]


def in_files(name: str) -> str:
    """The name of an edit or a head as part of a file's: heads have a colon."""
    return re.sub(r"[^\w.+-]", "_", name)


def save_video(editor, plan: Plan, part: Range, path: Path, side: int) -> None:
    """The edited crop at every strength of the range, a frame each; its recipe is that of the last frame."""
    from editing import video
    from editing.session import to_rgb

    recipes = [plan.recipe.then(part.step(value, plan.face)) for value in part.values]
    frames = (resized(to_rgb(editor.render(recipe, plan.face)), side) for recipe in recipes)
    video.save(video.counted(frames, len(recipes)), path, editor.recipe(recipes[-1], plan.face))


def resized(picture, side: int):
    """(R, R, 3) uint8 -> (side, side, 3), area-averaged; never larger than it was."""
    import numpy as np
    from PIL import Image

    side = min(side, len(picture))
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BOX))


def contact_sheet(editor, plan: Plan, sheet: tuple[Range, ...], cell: int):
    """Edited crops for one range (a row) or two (columns and rows), labelled: (H, W, 3) uint8."""
    import numpy as np
    from PIL import Image

    from editing.session import to_rgb

    across, down = sheet if len(sheet) == 2 else (sheet[0], None)
    rows = []
    for below in down.values if down else (None,):
        row = []
        for value in across.values:
            amounts = [(across, value)] + ([] if down is None else [(down, below)])
            recipe = plan.recipe.then(*(part.step(amount, plan.face) for part, amount in amounts))
            picture = Image.fromarray(to_rgb(editor.render(recipe, plan.face))).resize(
                (cell, cell), Image.Resampling.BOX
            )
            row.append(labelled(picture, ", ".join(f"{part.name} {amount:+g}" for part, amount in amounts)))
        rows.append(np.concatenate(row, axis=1))
    return np.concatenate(rows, axis=0)


def labelled(picture, text: str):
    """A picture with a line of text under it: (H + line, W, 3) uint8."""
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    size = max(picture.width // 16, 9)
    line = Image.new("RGB", (picture.width, size + size // 2), "white")
    pen = ImageDraw.Draw(line)
    pen.text((picture.width / 2, line.height / 2), text, fill="black", font=ImageFont.load_default(size), anchor="mm")
    return np.concatenate([np.asarray(picture), np.asarray(line)], axis=0)


def main(args: Sequence[str] | None = None, prog: str = "python -m editing.edit") -> None:
    console.run(app, prog, args)


if __name__ == "__main__":
    main()
