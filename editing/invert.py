"""Find a face in the latent space:  python -m editing.invert --img face.jpg

Writes into --out, all files or none: the aligned crop, the inversion, the reconstruction, both side
by side, and the metrics.  The inversion is biometric data: keep it as you would keep the photo.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from stylegan2 import console
from stylegan2.allocator import tune_allocator
from stylegan2.errors import UsageError

app = console.app("Find a face's code in the latent space.")

Photo = Annotated[Path, typer.Option("--img", help="The photo.", show_default=False)]
Out = Annotated[Path, typer.Option("--out", help="Folder for the results.")]
Method = Annotated[
    str, typer.Option(help="encoder (a second), hyper (seconds), hyper+tune, tune, auto, optimise, pivot, ...")
]
Steps = Annotated[int | None, typer.Option(min=1, help="Gradient steps; gives the same result on every run.")]
Seconds = Annotated[float | None, typer.Option("--budget", help="Seconds; turned into steps, which are recorded.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps.")]
DirectionFiles = Annotated[
    list[Path] | None, typer.Option("--directions", help="A file of more edits (editing.directions); repeatable.")
]
FaceIndex = Annotated[int, typer.Option("--face", min=0, help="Which face; 0 is the one found with most confidence.")]
Detector = Annotated[str, typer.Option(help="Face detector: auto, hog, cnn, fan.")]
Aligned = Annotated[bool, typer.Option("--aligned", help="The picture is an aligned square crop: detect nothing.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


@app.command()
def invert(
    img: Photo,
    out: Out = Path("out"),
    method: Method = "tune",
    steps: Steps = None,
    budget: Seconds = None,
    seed: Seed = 0,
    device: Device = "cpu",
    face: FaceIndex = 0,
    detector: Detector = "auto",
    aligned: Aligned = False,
    as_json: AsJson = False,
) -> None:
    """Invert one face of a photo and write what was found."""
    tune_allocator()
    from editing import session

    editor = session.Editor(device=check_device(device))
    paths, metrics = run(
        editor, img, out, method=method, budget=make_budget(steps, budget), seed=seed, face=face, detector=detector,
        aligned=aligned,
    )  # fmt: skip
    if as_json:
        print(json.dumps(metrics | {"files": {name: str(path) for name, path in paths.items()}}, indent=1))
        return
    for path in paths.values():
        print(path)


def run(editor, img: Path, out: Path, **options) -> tuple[dict[str, Path], dict]:
    """Invert `img` with an Editor and write the files; returns their paths and the metrics.  options: as set_photo."""
    from editing import provenance, session
    from editing.faces import photo as photos
    from editing.output import staged
    from editing.types import Recipe

    photo = photos.load(img)
    started = time.monotonic()
    with staged(out) as scratch:
        with progress(options["method"]) as callback:
            inversion = editor.set_photo(photo, callback=callback, **options)
        face = options.get("face", 0)
        seconds = round(time.monotonic() - started, 2)
        stem = stem_of(photo, face)
        crop, rendered = (session.to_rgb(image) for image in (editor.targets[face].crop, editor.reconstruction(face)))
        names = {kind: f"{stem}.{suffix}" for kind, suffix in FILES.items()}
        recipe = Recipe().about(inversion)
        photos.save(photos.from_rgb(crop), scratch / names["aligned"])
        inversion.save(scratch / names["inversion"])
        provenance.save(photos.from_rgb(rendered), scratch / names["reconstruction"], recipe, sidecar=False)
        side_by_side = photos.from_rgb(beside(crop, rendered))
        provenance.save(side_by_side, scratch / names["comparison"], recipe, sidecar=False)
        metrics = facts(inversion) | {"photo": str(img), "seconds": seconds}
        (scratch / names["metrics"]).write_text(json.dumps(metrics, indent=1) + "\n")
    return {kind: Path(out) / name for kind, name in names.items()}, metrics


FILES = {
    "aligned": "aligned.png",
    "inversion": "inversion",
    "reconstruction": "reconstruction.png",
    "comparison": "comparison.png",
    "metrics": "metrics.json",
}


def facts(inversion) -> dict:
    """What may be reported about an inversion: how it was made and how good it is, nothing of the face."""
    names = ("method", "steps", "seed", "device", "dtype", "threads", "family")
    return {name: getattr(inversion, name) for name in names} | dict(inversion.metrics)


def stem_of(photo, face: int) -> str:
    """holiday.jpg, face 0 -> 'holiday'; face 2 -> 'holiday.face2'"""
    stem = photo.path.stem if photo.path else "face"
    return stem if face == 0 else f"{stem}.face{face}"


def beside(*pictures):
    """(H, W, 3) pictures of one height -> one picture, left to right."""
    import numpy as np

    return np.concatenate(pictures, axis=1)


def make_budget(steps: int | None, seconds: float | None):
    """--steps and --budget as a Budget, or None for the method's default.  UsageError if both or not positive."""
    if steps is None and seconds is None:
        return None
    if steps is not None and seconds is not None:
        raise UsageError("Give --steps or --budget, not both.")
    if seconds is not None and not 0 < seconds < float("inf"):
        raise UsageError(f"--budget must be a positive number of seconds, not {seconds}.")
    from editing.inversion import Budget

    return Budget(steps=steps) if seconds is None else Budget(seconds=seconds)


def check_device(device: str):
    """The torch device of that name.  UsageError if there is none on this machine."""
    import torch

    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise UsageError(f"There is no device '{device}' on this machine.") from None
    return chosen


@contextmanager
def progress(label: str):
    """Yields a callback(step, total, ...) for strategies: a bar on a terminal, nothing elsewhere."""
    with console.step_bar(label) as bar:
        yield lambda step, total, *_, **__: bar(step, total)


def main(args: Sequence[str] | None = None, prog: str = "python -m editing.invert") -> None:
    console.run(app, prog, args)


if __name__ == "__main__":
    main()
