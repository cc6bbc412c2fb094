"""A folder of photos:  python -m editing.batch photos/ --recipe recipe.json --out out/

Names and sub-folders are kept, inputs (and strange files in --out) are never written over, and a photo that
fails does not stop the others.  `--set smile=-3:3:1` makes one result for every value, `--strengths table.csv` gives
every photo its own.  A run that was killed goes on where it stopped: what is finished is not done again, what failed
is tried again.  `report.json` says how each result fared; it holds nothing about a face.
The parts are in `editing.batching`.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from editing import invert as inverting
from editing.batching import crew
from editing.batching.desk import REPORT, Desk, working_folder, write_report
from editing.batching.planning import READABLE, Job, find_photos, find_places, plan_jobs
from editing.batching.work import Setup, Work, make_editor
from stylegan2 import console
from stylegan2.allocator import tune_allocator
from stylegan2.errors import UsageError, WplusError

__all__ = ["READABLE", "batch", "find_photos", "main", "run"]  # others take the first two from here

app = console.app("Apply one recipe to a folder of photos.")

Sets = Annotated[
    list[str] | None,
    typer.Option("--set", help="name=strength, or name=from:to:step: a result each, as NAME.smile-3.png; repeatable."),
]
Table = Annotated[
    Path | None,
    typer.Option(
        help="A CSV file with the header photo,smile,age and a line per photo: strengths to add. "
        "An empty cell is no edit; a photo without a line is left out."
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=256,
        help="Photos at a time, a process each (default 1). They share one copy of the weights, and the CPU threads "
        "evenly; with --device cuda each has a copy on the GPU.",
    ),
]
Ray = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="Work on a Ray cluster: auto, host:port, ray://host:port, or local for one that ends with the run. "
        "--workers says how many (default: one a CPU); each has one thread and its own copy of the weights.",
    ),
]


@app.command()
def batch(
    photos: Annotated[Path, typer.Argument(help="Folder of photos (sub-folders too), or one photo.")],
    recipe: Annotated[Path | None, typer.Option(help="A recipe, or a picture that has one inside.")] = None,
    sets: Sets = None,
    texts: Annotated[
        list[str] | None, typer.Option("--text", help="What to change, in words; '... @hair' for a region; repeatable.")
    ] = None,
    strengths: Table = None,
    mask: Annotated[
        Path | None, typer.Option(help="A picture, white where '@mask' edits: square, over the face.")
    ] = None,
    disentangle: Annotated[bool, typer.Option("--disentangle", help="--set moves as little else as possible.")] = False,
    out: inverting.Out = Path("out"),
    format: Annotated[str | None, typer.Option(help="png, jpg, webp, tif ...; default: as the photo.")] = None,
    keep_inversions: Annotated[bool, typer.Option("--keep-inversions", help="Write NAME.inversion too.")] = False,
    workers: Workers = None,
    ray: Ray = None,
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
    from editing import plans, regions
    from editing.batching import strengths as table
    from editing.heads import registry
    from editing.inversion import STRATEGIES

    own = regions.read(mask) if mask else None
    named = regions.named(own) if mask else None
    said = plans.text_steps(texts or (), face or 0, named)
    plan = make_plan(sets, recipe, face, strengths is not None, named, disentangle, said)
    masks = {} if own is None else {regions.named(own): own}
    ranges = [part for (part,) in plan.sheets]
    made = plan.recipe.inversion
    if made is not None and made.method in STRATEGIES and (method, steps, budget) == (None, None, None):
        method, steps, seed = made.method, made.steps or None, made.seed if seed is None else seed
    options = {"method": method or "tune", "seed": seed or 0, "detector": detector, "aligned": aligned}
    settings = options | {"steps": steps, "seconds": budget, "device": device}
    options["budget"] = inverting.make_budget(steps, budget)
    places = find_places(photos, out, format)
    tune_allocator()
    from editing import session
    from editing.steps import pin
    from editing.types import Recipe

    inverting.check_device(device)
    catalogue = session.load_catalogue(directions)
    make = partial(make_editor, catalogue, device, masks)  # whoever it is, wherever: the files are read here
    editor = make()
    editor.check(options["method"], detector)
    pinned = pin(plan.recipe, catalogue, masks)
    pin(Recipe(steps=[part.step(value) for part in ranges for value in part.values]), catalogue, masks)
    names = [place.name for place in places]
    known = lambda name: registry.known(name) or name in catalogue  # noqa: E731  heads with seeds, random moves
    rows = None if strengths is None else table.read(strengths, names, [*catalogue, *registry.heads()], known)
    for warning in notes(plan, catalogue, rows, names):
        print(warning, file=sys.stderr)
    jobs = plan_jobs(places, plan.recipe, ranges, rows, plan.face, lambda recipe: pin(recipe, catalogue, masks))
    with console.step_bar("photos") as bar:
        report = run(
            jobs, out, pinned, Setup(make, options, device), settings,
            keep_inversions=keep_inversions, workers=workers, ray=ray, progress=bar,
        )  # fmt: skip
    print(json.dumps(report, indent=1) if as_json else summary(report, out))
    if report["failed"]:
        what = "photos" if report["planned"] == report["photos"] else "results"
        raise SomeFailed(f"{report['failed']} of {report['planned']} {what} failed; {Path(out) / REPORT} says why.")


class SomeFailed(WplusError):
    """Some photos of a batch could not be edited; the others were."""


def summary(report: dict, out: Path) -> str:
    return f"{report['done']} done now, {report['skipped']} before, {report['failed']} failed: {Path(out) / REPORT}"


def make_plan(sets: Sequence[str] | None, recipe: Path | None, face: int | None, table: bool,
              mask: str | None = None, disentangle: bool = False, said: Sequence = ()):  # fmt: skip
    """The options as an `editing.plans.Plan`, whose sheets are the ranges.  UsageError for every mistake in them."""
    from editing import plans
    from editing.types import Recipe

    if not (sets or recipe or said):
        if not table:
            raise UsageError("Nothing to do: give --set name=strength, --text, --recipe or --strengths.")
        return plans.Plan(Recipe(), (), face or 0, False)
    ranges = [text for text in sets or () if ":" in text.partition("=")[2].partition("@")[0]]
    plain = [text for text in sets or () if text not in ranges]
    plan = plans.make_plan(plain, recipe, ranges, None, face, None, mask, disentangle, said)
    names = [part.name for (part,) in plan.sheets]
    for name in names:
        if names.count(name) > 1 or any(text.partition("=")[0].strip() == name for text in plain):
            raise UsageError(f"--set {name} is given twice.")
    return plan


def notes(plan, catalogue, rows: Mapping[str, Mapping[str, float]] | None, names: Sequence[str]) -> Iterator[str]:
    """What a person should know before it starts: strengths that nobody has measured, photos that are left out."""
    from editing.plans import beyond_safe
    from editing.types import latent_step

    ends = [(part.name, value) for (part,) in plan.sheets for value in (min(part.values), max(part.values))]
    columns: dict[str, list[float]] = {}
    for row in (rows or {}).values():
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    ends += [(name, value) for name, values in columns.items() for value in (min(values), max(values))]
    steps = [latent_step(name, value) for name, value in dict.fromkeys(ends)]
    yield from beyond_safe(replace(plan, recipe=plan.recipe.then(*steps)), catalogue)
    left = [name for name in names if rows is not None and name not in rows]
    if left:
        yield f"note: {len(left)} of {len(names)} photos are not in the table and are left out, {left[0]} first."


# ------------------------------------------------------------------------------------------------- working


def run(
    jobs: Sequence[Job],
    out: Path,
    recipe: Any,
    setup: Setup,
    settings: Mapping[str, Any] | None = None,
    *,
    keep_inversions: bool = False,
    workers: int | None = None,
    ray: str | None = None,
    progress: Callable[..., None] = lambda *_: None,
) -> dict:
    """Make every result that is not done yet; returns the report, which is also written to `out`/report.json.

    recipe: what the results have in common, for the report.  setup: whose editor does it, with which options; for
    workers and Ray its `make` has to pickle.  settings (default: those options) are what, with a result's recipe,
    decides whether an earlier one still counts.  Raises WplusError when `out` cannot be written, the disk is full,
    or no worker can be started.
    """
    import torch

    out, settings, started = Path(out), settings or setup.options, time.monotonic()
    count = min(workers or 1, max(1, len(jobs)))
    setup = replace(setup, threads=1 if ray else max(1, torch.get_num_threads() // count))
    with working_folder(out) as state:
        desk = Desk(jobs, state, settings, progress)
        progress(0, desk.planned, "")
        try:
            with closing(answers(desk.works(setup.options, keep_inversions), setup, count, workers, ray)) as stream:
                for work, answer in stream:
                    desk.take(work, answer)
        finally:
            facts = {"workers": workers or "all" if ray else count, "threads": setup.threads, "ray": ray}
            report = desk.report(recipe, settings, time.monotonic() - started, **facts)
            write_report(out / REPORT, report, state)
    return report


def answers(works: Iterable[Work], setup: Setup, count: int, asked: int | None, ray: str | None) -> Iterator:
    """(work, answer) for every result of the works, by whoever was asked to do them."""
    if not ray and count == 1:
        yield from crew.alone(works, setup.make())
        return
    if ray:
        from editing.batching.cluster import Cluster

        workers = Cluster(ray, setup, asked and count)
    else:
        from editing.batching.workers import Processes

        workers = Processes(setup, count)
    try:
        yield from crew.together(works, workers)
    finally:
        workers.close()


def main(args: Sequence[str] | None = None, prog: str = "python -m editing.batch") -> None:
    console.run(app, prog, args)


if __name__ == "__main__":
    main()
