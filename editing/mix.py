"""Mix two inversions:  python -m editing.mix ANNA.inversion BEN.inversion --between 0:1:0.25 --out strip.png

Several amounts make a labelled strip or, with `--out morph.mp4`, a video; one makes a picture of full size; `--style 7`
takes colours and light from the second.  `--save` keeps the result as an inversion of its own, to edit it further.  A
picture of two people is as much about them as a photo of each: both must have agreed to it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from editing import edit as editing
from editing import invert as inverting
from editing import plans, sheets
from stylegan2 import console
from stylegan2.allocator import tune_allocator
from stylegan2.errors import InversionError, UsageError

app = console.app("Mix two inversions into one face.  Mix real people only if both have agreed.")


@app.command()
def mix(
    first: Annotated[Path, typer.Argument(help="An inversion.", show_default=False)],
    second: Annotated[Path, typer.Argument(help="Another one, of the same generator.", show_default=False)],
    amounts: Annotated[
        str | None, typer.Option("--between", help="0 is the first, 1 the second: an amount, or from:to:step.")
    ] = None,
    style: Annotated[
        int | None, typer.Option(help="First row taken from the second: 7 is colours and light, 3 the shape too.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The picture, or an .mp4.")] = Path("out/mix.png"),
    save: Annotated[Path | None, typer.Option(help="Keep the result too, as a .inversion.")] = None,
    cell: Annotated[int, typer.Option(min=16, max=1024, help="Pixels of a cell; a video is twice as wide.")] = 256,
    generator: editing.GeneratorFile = None,
    device: inverting.Device = "cpu",
    as_json: inverting.AsJson = False,
) -> None:
    """Mix two inversions into one face.  Mix real people only if both have agreed."""
    if (amounts is None) == (style is None):
        raise UsageError("Give --between with amounts from 0 to 1, or --style with a row; one of the two.")
    film = out.suffix.lower() == sheets.VIDEO
    values = () if amounts is None else parse_amounts(amounts, plans.MAX_FRAMES if film else plans.MAX_CELLS)
    check_places(out, save, len(values), (first, second))
    tune_allocator()
    from editing import session
    from editing.types import Inversion

    pair = tuple(Inversion.load(path) for path in (first, second))
    place = inverting.check_device(device)
    editor = session.Editor(editing.load_generator(generator, place), device=place)
    paths = write(editor, pair, values, style, out, save, cell)
    print(json.dumps({"files": [str(path) for path in paths]}, indent=1) if as_json else "\n".join(map(str, paths)))


def parse_amounts(text: str, most: int = plans.MAX_CELLS) -> tuple[float, ...]:
    """'0:1:0.25' -> 0, 0.25, 0.5, 0.75, 1; '0.3' -> 0.3.  UsageError unless all are from 0 to 1."""
    from editing.types import finite

    if text.count(":") in (1, 2):
        values = plans.parse_range(f"--between={text}", most).values
    else:
        values = (finite(text, "--between"),)
    if not all(0 <= value <= 1 for value in values):
        raise UsageError(f"--between takes amounts from 0 (the first) to 1 (the second), not {text}.")
    return values


def check_places(out: Path, save: Path | None, amounts: int, inputs: Sequence[Path]) -> None:
    """UsageError, before anything slow starts, for places that cannot be written or hold one of the inputs."""
    from editing.faces.saving import FORMATS

    if out.suffix.lower() == sheets.VIDEO:
        from editing import video

        video.available()
        if amounts < 2:
            raise UsageError("A video needs several amounts, for example --between 0:1:0.02.")
    elif out.suffix.lower() not in FORMATS or out.is_dir():
        raise UsageError(f"Cannot write a picture as '{out}': give a file ending in one of {', '.join(FORMATS)}.")
    if save is None:
        return
    if amounts > 1:
        raise UsageError("--save keeps one mix: give one amount, for example --between 0.5.")
    if save.suffix.lower() != ".inversion" or save.is_dir():
        raise UsageError(f"--save takes the name of a file ending in .inversion, not '{save}'.")
    if save.resolve() in [path.resolve() for path in inputs]:
        raise UsageError("--save is one of the two inversions: they are never overwritten.")


def write(editor, pair, values: Sequence[float], style: int | None, out: Path, save: Path | None,
          cell: int) -> list[Path]:  # fmt: skip
    """Draw the mix or the strip of mixes and write the files, all or none; returns their paths."""
    from editing import mixing, provenance, session, video
    from editing.faces import photo as photos
    from editing.output import staged
    from editing.types import Recipe, Step

    first, second = (inversion.to(editor.device) for inversion in pair)
    with ExitStack() as stack:
        pictures = stack.enter_context(staged(out.parent))  # a folder that cannot be written is refused first
        inversions = stack.enter_context(staged(save.parent)) if save else None
        film = out.suffix.lower() == sheets.VIDEO

        def mixed(value: float | None):
            if value is None:
                return mixing.style_mix(editor.generator, first, second, style).compact()
            return mixing.interpolate(editor.generator, first, second, value).compact()

        def drawn(value: float | None):
            return session.to_rgb(session.synthesise(editor.generator, mixed(value)))

        asked = {"first_row": style} if values == () else {"amounts": list(values)}
        try:
            made = mixed(values[0] if values else None)
            step = Step(op=made.method, parameters=asked | {"other_photo_sha256": second.photo_sha256})
            recipe = Recipe(steps=(step,)).about(made)
            if film:
                frames = (sheets.resized(drawn(value), 2 * cell) for value in values)
                video.save(video.counted(frames, len(values)), pictures / out.name, recipe)
            else:
                crops = [drawn(value) for value in values or (None,)]
                picture = photos.from_rgb(strip(crops, values, cell) if len(crops) > 1 else crops[0])
                provenance.save(picture, pictures / out.name, recipe, sidecar=len(crops) == 1)
        except (ValueError, RuntimeError):
            raise InversionError(
                "The weight or feature offsets of these inversions do not fit the generator: invert the photos again."
            ) from None
        if inversions:
            made.save(inversions / save.name)
    sidecars = [provenance.sidecar_path(out)] if film or len(values) < 2 else []
    return [out, *sidecars, *([save] if save else [])]


def strip(drawn, amounts: Sequence[float], cell: int):
    """Crops (R, R, 3) uint8, one an amount -> one labelled row (H, W, 3) uint8."""
    from PIL import Image

    small = (Image.fromarray(picture).resize((cell, cell), Image.Resampling.BOX) for picture in drawn)
    cells = [sheets.labelled(picture, f"{amount:g}") for picture, amount in zip(small, amounts, strict=True)]
    return inverting.beside(*cells)


def main(args: Sequence[str] | None = None, prog: str = "python -m editing.mix") -> None:
    console.run(app, prog, args)


if __name__ == "__main__":
    main()
