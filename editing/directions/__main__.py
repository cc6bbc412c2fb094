"""Directions of one's own:  python -m editing.directions list|fit|sefa|import|export

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
    width = max(len(d.name) for d in found)
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
    from editing.directions import catalogue
    from editing.session import direction

    known = catalogue.load()
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

    first, _, last = rows.partition(":")
    generator = load_generator()
    if not (first.isdigit() and last.isdigit() and int(first) <= int(last) < generator.num_ws):
        raise UsageError(f"--rows takes two rows from 0 to {generator.num_ws - 1}, for example 4:7; not '{rows}'.")
    add(out, method.directions(generator, (int(first), int(last) + 1), count))


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
