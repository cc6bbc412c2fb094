"""Edit a face and put it back:  python -m editing.edit --img face.jpg --set smile=2 --set age=-3

The first edit of a photo inverts its face, which takes about a minute, and keeps the inversion in --out;
later ones find it there and take seconds.  Strips and grids show a range of strengths side by side.
The result carries its recipe, in the picture and as JSON beside it; `--recipe` applies one again.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from editing import invert as inverting
from editing import plans, sheets
from stylegan2 import console
from stylegan2.allocator import tune_allocator
from stylegan2.errors import InversionError, UsageError

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
    more = [*plans.place_steps(paint, move, boxes, face or 0), *plans.text_steps(texts or (), face or 0, named)]
    plan = plans.make_plan(sets, recipe, strip, grid, face, film, named, disentangle, more)
    carry_out(plan, img, inversion, out, own=own, crop=crop, cell=cell, generator=generator, directions=directions,
              device=device, as_json=as_json, method=method, steps=steps, budget=budget, seed=seed, detector=detector,
              aligned=aligned, fresh=fresh, transfer=transfer)  # fmt: skip


def carry_out(
    plan: plans.Plan, img: Path | None, inversion: Path | None, out: Path, *, own=None, crop: bool = False,
    cell: int = 256, generator: Path | None = None, directions: Sequence[Path] | None = None, device: str = "cpu",
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
    plans.check_names(plan, editor)
    for warning in plans.beyond_safe(plan, editor.catalogue):
        print(warning, file=sys.stderr)
    folder, filename = plans.split_out(out, img or inversion, "crop" if crop or img is None else "photo", plan.face)
    bring(editor, plan, img, inversion, folder, **prepare)
    paths = sheets.write(editor, plan, folder, filename, crop or img is None, cell)
    print(json.dumps({"files": [str(path) for path in paths]}, indent=1) if as_json else "\n".join(map(str, paths)))


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
    editor, plan: plans.Plan, img: Path | None, inversion: Path | None, folder: Path, *, method=None, steps=None,
    budget=None, seed=None, detector="auto", aligned=False, fresh=False, transfer=False,
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
    if made is not None and made.method in editor.strategies and (method, steps, budget) == (None, None, None):
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


def main(args: Sequence[str] | None = None, prog: str = "python -m editing.edit") -> None:
    console.run(app, prog, args)


if __name__ == "__main__":
    main()
