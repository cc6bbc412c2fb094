"""How good is an inversion strategy?  python -m editing.evaluate photos/ --method tune --budget 60 --aligned

Prints a table: one row a photo, then the means - L2 and MS-SSIM at 256x256, dlib distance, whether it is
still the same person (nearer than 0.45, and the photo is the nearest of 1,001), seconds.  `--edits` adds
how much of an edit survives (see `editing.editability`).  The time of one render in the same run
stands beside every figure of seconds.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median
from typing import Annotated

import typer

from editing import invert as inverting
from stylegan2 import console
from stylegan2.allocator import tune_allocator
from stylegan2.errors import UsageError, WplusError

app = console.app("Measure an inversion strategy on a folder of photos.")


@app.command()
def evaluate(
    folder: Annotated[Path, typer.Argument(help="Folder of photos (sub-folders too), or one photo.")],
    method: inverting.Method = "tune",
    steps: inverting.Steps = None,
    budget: inverting.Seconds = None,
    aligned: inverting.Aligned = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Take only the first N photos.")] = None,
    edits: Annotated[bool, typer.Option("--edits", help="Add editability, with 95% intervals.")] = False,
    sheet: Annotated[Path | None, typer.Option(help="Write a contact sheet: photo, reconstruction, edits.")] = None,
    seed: inverting.Seed = 0,
    device: inverting.Device = "cpu",
    as_json: inverting.AsJson = False,
) -> None:
    """Invert every photo of a folder and print how good the results are."""
    tune_allocator()
    import torch

    from editing import session
    from editing.batch import find_photos
    from editing.inversion.budget import render_seconds

    photos = [folder] if folder.is_file() else sorted(find_photos(folder, folder / ".none"))[:limit]
    if not photos:
        raise UsageError(f"There are no photos in {folder}.")
    if sheet:
        check_sheet(sheet)
    editor = session.Editor(device=inverting.check_device(device))
    editor.check(method)
    options = {"method": method, "budget": inverting.make_budget(steps, budget), "seed": seed, "aligned": aligned}
    rows, inversions = measure(editor, photos, options)
    result = summary(rows) | {"method": method, "budget": budget, "render_seconds": render_seconds(editor.generator)}
    result |= {"seed": seed, "device": device, "threads": torch.get_num_threads()}
    if edits and inversions:
        result["editability"] = editability_of(editor, inversions)
    print(json.dumps(finite(result | {"photos": rows}), indent=1) if as_json else table(result, rows))
    if sheet and inversions:
        contact_sheet(editor, inversions, sheet)
    if result["skipped"]:
        raise WplusError(f"{result['skipped']} of {len(rows)} photos could not be measured; the table says why.")


def finite(value):
    """The same with None for every number that is not finite: JSON has no name for those."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def check_sheet(path: Path) -> None:
    """UsageError or WplusError, before anything slow starts, if no picture can be written there."""
    from editing.faces.saving import FORMATS
    from editing.output import make_folder

    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"Cannot write a picture as '{path.name}': use one of {', '.join(FORMATS)}.")
    make_folder(path.parent)


def measure(editor, photos: Sequence[Path], options: dict) -> tuple[list[dict], list]:
    """Invert each photo -> one row of figures each (or of what went wrong), and the inversions that were made."""
    from editing.judges.gallery import same_person
    from editing.judges.judge import describe
    from editing.session import to_rgb

    rows, inversions = [], []
    with console.step_bar(str(options["method"])) as bar:
        for index, path in enumerate(photos):
            bar(index, len(photos), path.name)
            start = time.perf_counter()
            try:
                inversion = editor.set_photo(path, **options)
            except WplusError as error:
                rows.append({"photo": path.name, "error": str(error)})
                continue
            seconds = time.perf_counter() - start
            photo, copy = describe(to_rgb(editor.targets[0].crop)), describe(to_rgb(editor.reconstruction()))
            inversions.append((path, inversion))
            rows.append(
                {"photo": path.name, **inversion.metrics, "same_person": same_person(photo, copy)}
                | {"steps": inversion.steps, "seconds": seconds, "bytes": inversion.nbytes}
            )
        bar(len(photos), len(photos))
    return rows, inversions


def summary(rows: list[dict]) -> dict:
    """A folder: n, skipped, same_person (counts), l2, ms_ssim, id_distance (means), seconds, bytes (medians)."""
    good = [row for row in rows if "error" not in row]
    result = {"n": len(good), "skipped": len(rows) - len(good)}
    for name in ("l2", "ms_ssim", "id_distance"):
        values = [row[name] for row in good if name in row]
        result[name] = mean(values) if values else None
    result["same_person"] = sum(row["same_person"] for row in good)
    result["id_distance_max"] = max((row.get("id_distance", float("inf")) for row in good), default=None)
    for name in ("seconds", "bytes"):
        result[name] = median(row[name] for row in good) if good else None
    return result


def editability_of(editor, inversions: list) -> dict[str, dict]:
    """Editability of the inverted photos, per edit."""
    from dataclasses import asdict

    from editing import editability

    generated = editability.reference(editor.generator, editor.catalogue)
    ours = editability.changes(editor.generator, [inversion for _, inversion in inversions], editor.catalogue)
    return {name: asdict(value) for name, value in editability.editability(ours, generated).items()}


def contact_sheet(editor, inversions: list, path: Path, size: int = 224) -> None:
    """One row a photo: crop, reconstruction, then every edit of `editability.EDITS`."""
    import numpy as np
    from PIL import Image

    from editing import provenance
    from editing.editability import EDITS
    from editing.faces import photo as pictures
    from editing.session import to_rgb
    from editing.types import Recipe

    rows = []
    for photo, inversion in inversions:
        editor.set_inversion(inversion, photo)
        images = [editor.targets[0].crop, editor.reconstruction()]
        images += [editor.render({name: strength}) for name, strength in EDITS]
        rows.append(np.hstack([np.asarray(Image.fromarray(to_rgb(i)).resize((size, size))) for i in images]))
    provenance.save(pictures.from_rgb(np.vstack(rows)), path, Recipe(), sidecar=False)


def table(result: dict, rows: list[dict]) -> str:
    """Markdown: the photos, their mean, and editability where it was measured."""
    lines = ["| photo | L2 | MS-SSIM | distance | same | steps | seconds |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        if "error" in row:
            lines.append(f"| {row['photo']} | {row['error']} | | | | | |")
            continue
        distance = f"{row['id_distance']:.3f}" if "id_distance" in row else "no face"
        lines.append(
            f"| {row['photo']} | {row['l2']:.4f} | {row['ms_ssim']:.3f} | {distance} | "
            f"{'yes' if row['same_person'] else 'no'} | {row['steps']} | {row['seconds']:.1f} |"
        )
    if result["n"]:
        lines.append(
            f"| **{result['method']}**, {result['n']} photos | {result['l2']:.4f} | {result['ms_ssim']:.3f} | "
            f"{result['id_distance'] or float('nan'):.3f} | {result['same_person']}/{result['n']} | | "
            f"{result['seconds']:.1f} |"
        )
    lines.append(f"\nOne render takes {result['render_seconds']:.3f} s on this machine.")
    if result["n"]:
        lines.append(f"An inversion takes {result['bytes'] / 1e6:.1f} MB.")
    for name, value in result.get("editability", {}).items():
        lines.append(
            f"editability {name:8} {value['ratio']:6.1%}  (95% interval {value['low']:.0%} to {value['high']:.0%}, "
            f"{value['faces']} faces), identity moves {value['drift']:.0%} as far"
        )
    return "\n".join(lines)


def main(args: Sequence[str] | None = None, prog: str = "python -m editing.evaluate") -> None:
    console.run(app, prog, args)


if __name__ == "__main__":
    main()
