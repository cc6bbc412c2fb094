"""Directions of one's own:  python -m editing.directions list|fit|sefa|stylespace|explore|import|export

    python -m editing.directions fit --positive hats/ --negative bare/ --name hat --out mine.safetensors
    python -m editing.directions fit --formula "smile - 0.5 * mouth_open" --name closed_smile --out mine.safetensors
    python -m editing.edit --img face.jpg --directions mine.safetensors --set hat=2

A file is added to, not overwritten, when it is there; a name that it has already is refused.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from stylegan2 import console
from stylegan2.errors import InversionError, UsageError, WplusError

app = console.app("Directions of one's own: fitted, found in the weights, imported, shared.")

Out = Annotated[Path, typer.Option(help="A .safetensors file of directions, new or to be added to.")]
Name = Annotated[str | None, typer.Option(help="What the edit is called in --set.")]


@app.command("list")
def list_directions(files: Annotated[list[Path] | None, typer.Argument(help="Files; none: the catalogue.")] = None):
    """Show the directions of the catalogue, or of files."""
    from editing.directions import catalogue
    from editing.directions import files as store

    found = [d for path in files for d in store.read(path)] if files else list(catalogue.load().values())
    width = max((len(d.name) for d in found), default=0)
    for d in found:
        print(f"{d.name:{width}}  rows {d.rows[0]}-{d.rows[1] - 1}  {d.description or d.source}")


@app.command("import")
def import_directions(file: Annotated[Path, typer.Argument(help=".pt, .npy or .safetensors; nothing in it is run.")],
                      out: Out, name: Name = None) -> None:  # fmt: skip
    """Take over published directions (InterFaceGAN's, GANSpace's, anyone's)."""
    from editing.directions import files as store

    found = store.read(file)
    add(out, store.renamed(found, name) if name else found)


@app.command("export")
def export(names: Annotated[list[str], typer.Argument(help="Edits of the catalogue.")], out: Out) -> None:
    """Write edits of the catalogue into a file to share."""
    from editing.session import load_catalogue
    from editing.steps import direction

    known = load_catalogue()
    add(out, [direction(known, name) for name in names])


@app.command("sefa")
def sefa(
    out: Out,
    rows: Annotated[str, typer.Option(help="first:last row of ws, both included.")] = "4:7",
    count: Annotated[int, typer.Option(min=1, max=512, help="How many, the strongest first.")] = 10,
) -> None:
    """What the generator's own weights are most sensitive to: directions without a name."""
    from editing.directions import sefa as method
    from editing.session import load_generator

    generator = load_generator()
    add(out, method.directions(generator, span(rows, generator.num_ws), count))


def span(rows: str, num_ws: int) -> tuple[int, int]:
    """'4:7' -> (4, 8).  UsageError unless both are rows."""
    first, _, last = rows.partition(":")
    if not (first.isdigit() and last.isdigit() and int(first) <= int(last) < num_ws):
        raise UsageError(f"--rows takes two rows from 0 to {num_ws - 1}, for example 4:7; not '{rows}'.")
    return int(first), int(last) + 1


@app.command("stylespace")
def stylespace(
    out: Out,
    channel: Annotated[list[str] | None, typer.Option(help="LAYER:INDEX[:SIGMAS]; several make one edit.")] = None,
    name: Annotated[str | None, typer.Option(help="What the edit of --channel is called in --set.")] = None,
    judge: Annotated[str | None, typer.Option(help="Channels that tell this judge's highest scores.")] = None,
    samples: Annotated[Path | None, typer.Option(help="Folder of `editing.directions.sampling`, for --judge.")] = None,
    region: Annotated[str | None, typer.Option(help="Channels that change this region only, e.g. lips.")] = None,
    faces: Annotated[int, typer.Option(min=1, help="Generated faces to look at, for --region.")] = 4,
    count: Annotated[int, typer.Option(min=1, max=200, help="How many channels, for --judge and --region.")] = 5,
) -> None:
    """Single style channels: chosen by hand, by a judge, or by the region that they change."""
    from editing.directions import stylespace as method
    from editing.session import load_generator

    if sum(map(bool, (channel, judge, region))) != 1 or bool(judge) != bool(samples) or bool(channel) != bool(name):
        raise UsageError("Give --channel with --name, or --judge with --samples, or --region.")
    room(out, [name] if name else [])
    generator = load_generator()
    if channel:
        add(out, [method.of_channels(generator, list(map(method.parsed, channel)), name)])
        return
    if judge:
        found = [(f"theta {theta:.2f}", found) for theta, found in method.by_judge(generator, samples, judge)]
    else:
        found = [(f"{share:.0%} inside", found) for share, _, found in method.by_region(generator, region, faces)]
    word = judge or region.replace("+", "_")
    add(out, [
        method.of_channels(generator, [one], f"{word}-{one[0]}-{one[1]}", f"{word}, {figure}")
        for figure, one in found[:count]
    ])  # fmt: skip


@app.command("text")
def text(
    sentence: Annotated[str, typer.Argument(help="How the face is to be: 'a person with red hair'.")],
    name: Annotated[str, typer.Option(help="What the edit is called in --set.")],
    out: Annotated[Path, typer.Option(help="File for it, a new one or one that it is added to.")],
    neutral: Annotated[str, typer.Option("--from", help="How faces are without it.")] = "a person",
    beta: Annotated[float, typer.Option(min=0, max=0.99, help="More: less else moves, and less of it.")] = 0.15,
    weights: Annotated[Path | None, typer.Option("--clip", help="CLIP's weights, for those who have them.")] = None,
    model: Annotated[str, typer.Option(help="What open_clip calls the model of --clip.")] = "ViT-B-32",
) -> None:
    """An edit from one sentence to another (StyleCLIP's global direction), by the bridge that ships or by CLIP."""
    from editing.session import load_generator
    from editing.text import directing

    room(out, [name])
    generator = load_generator()
    bridge = directing.bridge_of(generator, weights, model)
    add(out, [directing.direction(generator, bridge, name, sentence, neutral, beta)])


@app.command("explore")
def explore(
    out: Annotated[Path, typer.Option(help="Folder for moves.png and moves.safetensors.")],
    img: Annotated[Path | None, typer.Option("--img", help="A photo; its face is inverted by hyper.")] = None,
    inversion: Annotated[Path | None, typer.Option(help="An inversion made before.")] = None,
    space: Annotated[str, typer.Option(help="sefa or pca.")] = "sefa",
    rows: Annotated[str, typer.Option(help="first:last row of ws, both included.")] = "4:8",
    count: Annotated[int, typer.Option(min=1, max=64, help="How many moves.")] = 8,
    size: Annotated[float, typer.Option(min=0.01, max=20, help="How far each goes on the sheet, in sigmas.")] = 3.0,
    seed: Annotated[int, typer.Option(min=0, max=2**53, help="Another seed, other moves.")] = 0,
    cell: Annotated[int, typer.Option(min=16, max=1024, help="Pixels of a cell.")] = 256,
) -> None:
    """Random small moves of one face on a sheet; one that is liked is used with --set, by its name."""
    from editing.directions import Catalogue
    from editing.directions import explore as method
    from editing.session import Editor, load_generator
    from editing.types import Inversion

    if (img is None) == (inversion is None):
        raise UsageError("Give a photo with --img, or an inversion with --inversion.")
    kept = Inversion.load(inversion) if inversion else None
    generator = load_generator()
    found = method.moves(generator, space, span(rows, generator.num_ws), seed, count)
    editor = Editor(generator, catalogue=Catalogue(found))
    if kept:
        editor.set_inversion(kept)
    else:
        editor.set_photo(img, method="hyper")
    print("\n".join(map(str, method.write(editor, found, out, size, cell))))


@app.command("fit")
def fit(
    out: Out,
    name: Annotated[str, typer.Option(help="What the edit is called in --set.")],
    formula: Annotated[str | None, typer.Option(help="Judges, e.g. 'smile - 0.5 * mouth_open'.")] = None,
    positive: Annotated[Path | None, typer.Option(help="Folder of photos that have it.")] = None,
    negative: Annotated[Path | None, typer.Option(help="Folder of photos that have it not.")] = None,
    keep: Annotated[str, typer.Option(help="Judges to leave alone, by commas: age,male")] = "",
    aligned: Annotated[bool, typer.Option("--aligned", help="The photos are aligned crops.")] = False,
) -> None:
    """A direction from a formula of judges, or from two folders of photos."""
    from editing.directions import own
    from editing.session import Editor

    kept = tuple(part.strip() for part in keep.split(",") if part.strip())
    if (formula is None) == (positive is None) or (positive is None) != (negative is None):
        raise UsageError("Give --formula, or both --positive and --negative.")
    room(out, [name])  # before anything slow
    failed: list[WplusError] = []
    if formula is not None:
        found = own.from_formula(name, formula, kept)
    else:
        editor = Editor()
        codes = [own.codes(editor, folder, aligned, failed) for folder in (positive, negative)]
        found = own.from_examples(name, *codes, kept)
    for error in failed:
        print(f"left out: {error}", file=sys.stderr)
    add(out, [found])
    if failed:
        raise InversionError(f"{len(failed)} photos were left out; the direction was made from the others.")


def room(out: Path, names: list[str]) -> list:
    """The directions that the file has already.  UsageError if these names cannot join them there."""
    from editing.directions import files as store

    if out.suffix.lower() != ".safetensors":
        raise UsageError(f"Directions are written as .safetensors, not as '{out.name}'.")
    before = store.read(out) if out.exists() else []
    taken = {d.name for d in before} & {store.checked(name) for name in names}
    if taken:
        raise UsageError(f"{out} has a direction called '{min(taken)}' already.")
    return before


def add(out: Path, directions: list) -> None:
    """The directions into the file, after those that are there."""
    from editing.directions import files as store

    before = room(out, [direction.name for direction in directions])
    store.write(out, [*before, *directions])
    print(f"{out}: {len(before) + len(directions)} directions")


def main(args: Sequence[str] | None = None, prog: str = "python -m editing.directions") -> None:
    console.run(app, prog, args)


if __name__ == "__main__":
    main()
