"""One recipe, a folder of photos:  python -m editing.batch photos/ --recipe recipe.json --out out/

Names and sub-folders are kept, inputs (and strange files in --out) are never written over, and a photo that
fails does not stop the others.  A result's hash is in the journal before one rename puts it in place, so a
run that was killed goes on where it stopped: what is finished is not done again, what failed is tried again.
While one photo is worked on, a thread opens the next and finds its faces.
`report.json` says how each photo fared; it holds nothing about a face.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from editing import invert as inverting
from editing.journal import Journal, file_sha256, run_key
from editing.prefetch import prefetch
from stylegan2 import console
from stylegan2.allocator import tune_allocator
from stylegan2.errors import Cancelled, PhotoError, UsageError, WplusError

STATE = ".wplus-batch"  # folder inside --out: the journal and the lock
REPORT = "report.json"
READABLE = {
    ".png",
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".webp",
    ".tif",
    ".tiff",
    ".avif",
    ".heic",
    ".heif",
    ".bmp",
    ".gif",
}

app = console.app("Apply one recipe to a folder of photos.")


@app.command()
def batch(
    photos: Annotated[Path, typer.Argument(help="Folder of photos (sub-folders too), or one photo.")],
    recipe: Annotated[Path | None, typer.Option(help="A recipe, or a picture that has one inside.")] = None,
    sets: Annotated[list[str] | None, typer.Option("--set", help="name=strength; may be repeated.")] = None,
    out: inverting.Out = Path("out"),
    format: Annotated[str | None, typer.Option(help="png, jpg, webp, tif ...; default: as the photo.")] = None,
    keep_inversions: Annotated[bool, typer.Option("--keep-inversions", help="Write NAME.inversion too.")] = False,
    method: Annotated[str | None, typer.Option(help="Inversion method (default: the recipe's, else tune).")] = None,
    steps: inverting.Steps = None,
    budget: inverting.Seconds = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the inversion (default: the recipe's, else 0).")] = None,
    device: inverting.Device = "cpu",
    directions: inverting.DirectionFiles = None,
    face: Annotated[int | None, typer.Option(min=0, help="Which face (default: the recipe's, else 0).")] = None,
    detector: inverting.Detector = "auto",
    aligned: inverting.Aligned = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report on stdout.")] = False,
) -> None:
    """Edit every photo of a folder; exit code 1 if some failed."""
    from editing.edit import beyond_safe, make_plan

    plan = make_plan(sets, recipe, None, None, face)
    made = plan.recipe.inversion
    if made is not None and method is None and steps is None and budget is None:
        method, steps, seed = made.method, made.steps or None, made.seed if seed is None else seed
    options = {"method": method or "tune", "seed": seed or 0, "detector": detector, "aligned": aligned}
    settings = options | {"steps": steps, "seconds": budget, "device": device}
    options["budget"] = inverting.make_budget(steps, budget)
    jobs = plan_jobs(photos, out, format)
    tune_allocator()
    from editing import session

    catalogue = session.load_catalogue(directions)
    editor = session.Editor(catalogue=catalogue, device=inverting.check_device(device))
    editor.check(options["method"], detector)
    pinned = session.pin(plan.recipe, editor.catalogue)
    for warning in beyond_safe(plan, editor.catalogue):
        print(warning, file=sys.stderr)
    with console.step_bar("photos") as bar:
        report = run(jobs, out, pinned, editor, options, settings, keep_inversions, bar)
    print(json.dumps(report, indent=1) if as_json else summary(report, out))
    if report["failed"]:
        raise SomeFailed(f"{report['failed']} of {report['photos']} photos failed; {Path(out) / REPORT} says why.")


class SomeFailed(WplusError):
    """Some photos of a batch could not be edited; the others were."""


def summary(report: dict, out: Path) -> str:
    return f"{report['done']} done now, {report['skipped']} before, {report['failed']} failed: {Path(out) / REPORT}"


# ---------------------------------------------------------------------------------------------- planning


@dataclass(frozen=True)
class Job:
    """One photo: where it is, its name below the input folder, and where its result goes."""

    source: Path
    name: str
    target: Path


def plan_jobs(photos: Path, out: Path, form: str | None = None) -> list[Job]:
    """Every photo below `photos`, by name, with its place below `out`.

    A folder `out` that lies inside `photos` is left out of the search.  Raises UsageError when a result
    would land on an input, or there is no such folder.
    """
    from editing.faces.saving import FORMATS

    suffix = None if form is None else f".{form.lower().lstrip('.')}"
    if suffix is not None and suffix not in FORMATS:
        raise UsageError(console.unknown("formats", form, [known.lstrip(".") for known in FORMATS]))
    if not photos.exists():
        raise UsageError(f"There is no folder {photos}.")
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is a file; give a folder.")
    sources = sorted(find_photos(photos, out)) if photos.is_dir() else [photos]
    base = photos if photos.is_dir() else photos.parent
    if not sources:
        raise UsageError(f"There are no photos in {photos}.")
    names = [source.relative_to(base) for source in sources]
    suffixes = [suffix or (n.suffix if n.suffix.lower() in FORMATS else ".png") for n in names]
    first = [name.with_suffix(kind) for name, kind in zip(names, suffixes, strict=True)]
    often = Counter(str(name).lower() for name in first)  # a.png and a.gif: the second becomes a.gif.png
    jobs = []
    for source, name, kind, plain in zip(sources, names, suffixes, first, strict=True):
        clash = plain != name and often[str(plain).lower()] > 1
        jobs.append(Job(source, name.as_posix(), out / (f"{name}{kind}" if clash else plain)))
    (target, count), *_ = Counter(job.target for job in jobs).most_common(1)
    if count > 1:
        raise UsageError(f"{count} photos would become {target}: rename one of them.")
    inputs = {source.resolve() for source in sources}
    for job in jobs:
        if job.target.resolve() in inputs:
            raise UsageError(f"{job.name} would be written over an input: choose another folder for --out.")
    return jobs


def find_photos(folder: Path, out: Path | None = None) -> Iterator[Path]:
    """Files with a picture's suffix below `folder`, without hidden ones and without what lies in `out`."""
    barred = out and out.resolve()
    for root, folders, files in os.walk(folder):
        here = Path(root)
        folders[:] = [n for n in folders if not n.startswith(".") and (here / n).resolve() != barred]
        for name in files:
            if Path(name).suffix.lower() in READABLE and not name.startswith("."):
                yield here / name


# ---------------------------------------------------------------------------------------------- working


def run(
    jobs: Sequence[Job],
    out: Path,
    recipe,
    editor,
    options: dict,
    settings: dict | None = None,
    keep_inversions: bool = False,
    progress: Callable[..., None] = lambda *_: None,
) -> dict:
    """Do every job that is not done yet; returns the report, which is also written to `out`/report.json.

    options go to `Editor.set_photo`; settings (default: options) are what, with the recipe, decides whether an
    earlier result still counts.  Raises WplusError when `out` cannot be written or the disk is full.
    """
    out = Path(out)
    key = run_key(recipe, settings or options)
    results, started = [], time.monotonic()
    with working_folder(out) as state:
        journal = Journal(state, key)
        try:
            with closing(prefetch(lambda job: prepare(job, journal, recipe, editor, options), jobs)) as ahead:
                for index, (job, ready) in enumerate(zip(jobs, ahead, strict=True)):
                    progress(index, len(jobs), job.name)
                    results.append(_one(job, ready, journal, recipe, editor, options, keep_inversions))
            progress(len(jobs), len(jobs), "")
        finally:
            report = make_report(results, len(jobs), recipe, settings or options, time.monotonic() - started)
            _write_json(out / REPORT, report)
    return report


@dataclass(frozen=True)
class Prepared:
    """A photo that was opened, and its faces that the recipe asks for; no photo: its result is there already."""

    sha256: str
    photo: Any = None
    targets: dict[int, Any] = field(default_factory=dict)


def prepare(job: Job, journal: Journal, recipe, editor, options: dict) -> Prepared:
    """What can be done before the photo's turn; runs in the thread that reads ahead."""
    from editing import session
    from editing.faces import photo as photos

    digest = file_sha256(job.source)
    if journal.is_done(job, digest):
        return Prepared(digest)
    photo = photos.load(job.source)
    faces = list(dict.fromkeys(step.face for step in recipe.steps)) or [0]
    where = {name: options[name] for name in ("detector", "aligned") if name in options}
    return Prepared(
        digest, photo, {face: session.find(photo, editor.generator.resolution, face, **where) for face in faces}
    )


def _one(
    job: Job, ready: Callable[[], Prepared], journal: Journal, recipe, editor, options: dict, keep_inversions: bool
) -> dict:
    """Do one job; a photo's own failure is a result, a full disk ends the run."""
    started = time.monotonic()
    try:
        prepared = ready()
        if prepared.photo is None:
            return {"photo": job.name, "status": "skipped", "output": str(job.target)}
        journal.refuse_strange(job)
        finished, settled = edit_one(job, prepared, recipe, editor, options, journal.folder, keep_inversions)
        journal.add(job, prepared.sha256, finished)
        os.replace(finished, job.target)
    except (KeyboardInterrupt, Cancelled):
        raise
    except Exception as error:
        if disk_full(error):
            raise WplusError(f"The disk is full: stopped at {job.name}. Free some space and run it again.") from error
        known = isinstance(error, (WplusError, OSError, MemoryError))
        sentence = " ".join(str(error).split()) if known else f"unexpected {type(error).__name__}: {error}"
        return {"photo": job.name, "status": "failed", "error": sentence or type(error).__name__}
    return {"photo": job.name, "status": "done", "output": str(job.target), **settled, "seconds": _since(started)}


def edit_one(
    job: Job, prepared: Prepared, recipe, editor, options: dict, folder: Path, keep_inversions: bool
) -> tuple[Path, dict]:
    """Invert, edit and paste one photo; returns the finished file in `folder`, and what to report about it."""
    from editing import provenance
    from editing.output import make_folder

    make_folder(job.target.parent)
    inversions = {
        face: editor.set_photo(prepared.photo, face=face, target=target, **options)
        for face, target in prepared.targets.items()
    }
    edit = editor.edit(recipe)
    if keep_inversions:
        for face, inversion in inversions.items():
            suffix = ".inversion" if face == 0 else f".face{face}.inversion"
            inversion.save(job.target.with_name(job.target.name + suffix))
    finished = folder / f"finished{job.target.suffix}"
    provenance.save(edit.photo, finished, edit.recipe, sidecar=False, changed=edit.changed)
    first = next(iter(inversions.values()))
    return finished, {"changed": edit.changed, "steps": first.steps, "metrics": dict(first.metrics)}


def disk_full(error: BaseException | None) -> bool:
    """Whether a full disk (or quota) is anywhere among the causes of an error."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False


# ------------------------------------------------------------------------------------------------ report


def make_report(results: Sequence[dict], photos: int, recipe, settings: dict, seconds: float) -> dict:
    count = {kind: sum(result["status"] == kind for result in results) for kind in ("done", "skipped", "failed")}
    return {
        "photos": photos,
        **count,
        "not_reached": photos - len(results),
        "seconds": round(seconds, 2),
        "settings": {
            name: value if isinstance(value, (int, float, type(None))) else str(value)
            for name, value in settings.items()
        },
        "recipe": json.loads(recipe.model_dump_json()),
        "results": list(results),
    }


@contextmanager
def working_folder(out: Path) -> Iterator[Path]:
    """The state folder inside `out`, locked against a second batch at the same time.  Raises UsageError, WplusError."""
    import filelock

    from editing.faces.saving import reason
    from editing.output import make_folder

    state = out / STATE
    make_folder(state)
    try:
        with filelock.FileLock(state / "lock", timeout=0):
            for leftover in state.glob("*finished.*"):  # of a run that was killed
                leftover.unlink()
            yield state
    except filelock.Timeout:
        raise UsageError(f"Another batch is writing into {out} right now.") from None
    except OSError as error:
        raise WplusError(f"Cannot write into {out}: {reason(error)}.") from error


def _write_json(path: Path, data: dict) -> None:
    from editing.faces.saving import write_atomically

    try:
        write_atomically(path, (json.dumps(data, indent=1) + "\n").encode())
    except PhotoError as error:
        raise WplusError(str(error)) from error


def _since(started: float) -> float:
    return round(time.monotonic() - started, 2)


def main(args: Sequence[str] | None = None, prog: str = "python -m editing.batch") -> None:
    console.run(app, prog, args)


if __name__ == "__main__":
    main()
