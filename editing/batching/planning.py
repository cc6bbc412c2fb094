"""What a batch is to do, as data: every photo, and every result of it with its recipe and its place.

Everything here is checked before anything slow starts: no result lands on an input, no two in one place.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stylegan2 import console
from stylegan2.errors import UsageError

MAX_RESULTS = 100  # of one photo
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


@dataclass(frozen=True)
class Place:
    """One photo: where it is, its name below the input folder, and where its one result would go."""

    source: Path
    name: str
    target: Path


@dataclass(frozen=True)
class Result:
    """One picture to be made: where it goes, by which recipe, and the strengths that it has for itself."""

    target: Path
    recipe: Any
    strengths: Mapping[str, float]


@dataclass(frozen=True)
class Job:
    """One photo and all that is to be made of it; it is inverted once."""

    place: Place
    results: tuple[Result, ...]


# ------------------------------------------------------------------------------------------------ photos


def find_places(photos: Path, out: Path, form: str | None = None) -> list[Place]:
    """Every photo below `photos`, by name, with its place below `out`.

    A folder `out` that lies inside `photos` is left out of the search.  Raises UsageError if there is no such
    folder, nothing in it, or no such format.
    """
    from editing.faces.saving import FORMATS

    suffix = None if form is None else f".{form.lower().lstrip('.')}"
    if suffix is not None and suffix not in FORMATS:
        raise UsageError(console.unknown("formats", form, [known.lstrip(".") for known in FORMATS]))
    if not photos.exists():
        raise UsageError(f"There is no folder {photos}.")
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is a file; give a folder.")
    if photos.is_dir() and out.resolve() == photos.resolve():
        raise UsageError("--out is the folder of the photos: choose another folder.")
    sources = sorted(find_photos(photos, out)) if photos.is_dir() else [photos]
    base = photos if photos.is_dir() else photos.parent
    if not sources:
        raise UsageError(f"There are no photos in {photos}.")
    names = [source.relative_to(base) for source in sources]
    suffixes = [suffix or (n.suffix if n.suffix.lower() in FORMATS else ".png") for n in names]
    first = [name.with_suffix(kind) for name, kind in zip(names, suffixes, strict=True)]
    often = Counter(str(name).lower() for name in first)  # a.png and a.gif: the second becomes a.gif.png
    places = []
    for source, name, kind, plain in zip(sources, names, suffixes, first, strict=True):
        clash = plain != name and often[str(plain).lower()] > 1
        places.append(Place(source, name.as_posix(), out / (f"{name}{kind}" if clash else plain)))
    return places


def find_photos(folder: Path, out: Path | None = None) -> Iterator[Path]:
    """Files with a picture's suffix below `folder`, without hidden ones and without what lies in `out`."""
    barred = out and out.resolve()
    for root, folders, files in os.walk(folder):
        here = Path(root)
        folders[:] = [n for n in folders if not n.startswith(".") and (here / n).resolve() != barred]
        for name in files:
            if Path(name).suffix.lower() in READABLE and not name.startswith("."):
                yield here / name


# ----------------------------------------------------------------------------------------------- results


def plan_jobs(
    places: Sequence[Place],
    recipe: Any,
    ranges: Sequence[Any] = (),
    rows: Mapping[str, Mapping[str, float]] | None = None,
    face: int = 0,
    pin: Callable[[Any], Any] = lambda recipe: recipe,
) -> list[Job]:
    """A job for every photo: the recipe, then one value of each range (a result for all their pairs), then its row.

    ranges: `editing.plans.Range`s.  rows: photo -> strengths; photos without a row are left out.  pin completes every
    recipe.  Raises UsageError for too many results, and where one would land on an input or on another.
    """
    from editing.types import latent_step

    count = 1
    for part in ranges:
        count *= len(part.values)
    if count > MAX_RESULTS:
        raise UsageError(
            f"These ranges make {count} results of every photo; at most {MAX_RESULTS} fit: take larger steps."
        )
    jobs = []
    for place in places:
        if rows is not None and place.name not in rows:
            continue
        row, results = dict(rows[place.name]) if rows else {}, []
        for values in itertools.product(*(part.values for part in ranges)):
            chosen = [(part.name, value) for part, value in zip(ranges, values, strict=True)]
            steps = [part.step(value, face) for part, value in zip(ranges, values, strict=True)]
            steps += [latent_step(name, value, face) for name, value in row.items()]
            tags = [tag(value, part) for part, value in zip(ranges, values, strict=True)]
            name = ".".join([place.target.stem, *tags]) + place.target.suffix
            results.append(Result(place.target.with_name(name), pin(recipe.then(*steps)), dict(chosen) | row))
        jobs.append(Job(place, tuple(results)))
    check_targets(jobs, [place.source for place in places])
    return jobs


def tag(value: float, part: Any) -> str:
    """smile=-3:3:1 -> 'smile-3' ... 'smile+3': all of a range with as many digits, so that files sort within a sign."""
    texts = [f"{abs(other):.9f}".rstrip("0") for other in part.values]
    decimals = max(len(text.partition(".")[2]) for text in texts)
    whole = max(len(text.partition(".")[0]) for text in texts)
    width = 1 + whole + (decimals + 1 if decimals else 0)
    from editing.sheets import in_files

    return in_files(part.name) + f"{value:+0{width}.{decimals}f}"


def check_targets(jobs: Sequence[Job], sources: Sequence[Path]) -> None:
    """UsageError if two results have one place, or one would be written over a photo."""
    often = Counter(result.target for job in jobs for result in job.results)
    if often:
        (target, count), *_ = often.most_common(1)
        if count > 1:
            raise UsageError(f"{count} photos would become {target}: rename one of them.")
    inputs = {source.resolve() for source in sources}
    for job in jobs:
        for place in (job.place.target, *(result.target for result in job.results)):
            if place.resolve() in inputs:
                raise UsageError(f"{job.place.name} would be written over an input: choose another folder for --out.")
