"""Measure every direction of the catalogue on generated faces and real photos, and write the findings into it.

    python -m editing.directions.calibrate work/ --photos aligned/             # every direction; goes on where killed
    python -m editing.directions.calibrate work/ --photos aligned/ --only smile age
    python -m editing.directions.calibrate work/ --collect                     # work/*.json -> the shipped catalogue

The range is found on six generated faces: the strength at which the median face has moved as far from itself as it
may (dlib distance DRIFT; more for age and pose, which change a face by nature) or the target has moved two standard
deviations of the population, whichever comes first. What is reported is then measured on others: 64 generated faces
and the photos, inverted by `hyper`; where a promise is narrowly missed there, the end is moved and measured there
again, so that figures close to a limit are a little kind. An end that does not keep there what the catalogue
promises (`broken`) is closed, so that the range begins or ends at 0, and an edit with two such ends is not in the
catalogue.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from editing.directions.catalogue import Catalogue, Direction, load, save
from editing.inversion.residual import render
from editing.judges import population
from editing.judges.judge import Scores, distance, judge
from editing.steps import Layer, apply_step, restyled
from editing.types import Inversion, latent_step
from stylegan2 import checkpoints, engine, zoo
from stylegan2.allocator import tune_allocator
from stylegan2.files import replacing
from stylegan2.generator import Generator

SEARCHED, MEASURED, PSI = range(64, 70), range(64), 0.7
CHANGING = ("age", "pose")  # groups whose edits change a face by nature
SAFE, SAFE_CHANGING = 0.45, 0.6  # drift: from here on it is another person
AIMED = 0.9  # of that, where the range is looked for
ENOUGH, LEAST = 2.0, 1.0  # standard deviations of the target: looked for, and promised
HOPELESS = 0.6  # of the promise: what moves less on the first faces is not measured on more
FIRST, FURTHEST, LOOKS, ROUNDS = 3.0, 16.0, 2, 3
RIGHT = 0.95  # share of the faces whose target must move as the name says, at either end


@dataclass(frozen=True)
class Case:
    """A face and what the judges say of it before any edit."""

    inversion: Inversion
    before: Scores


@dataclass(frozen=True)
class Moved:
    """Faces after one edit: change (n, judges) in standard deviations of the population, nan where unseen; drift (n,)
    dlib distance, nan where no face is found any more."""

    change: np.ndarray
    drift: np.ndarray


def draw(generator: Generator, inversion: Inversion) -> np.ndarray:
    return engine.to_uint8(render(generator, inversion))[0]


def cases(generator: Generator, inversions: Sequence[Inversion]) -> list[Case]:
    """Inversions whose faces are found."""
    scored = ((inversion, judge(draw(generator, inversion))) for inversion in inversions)
    return [Case(inversion, before) for inversion, before in scored if before is not None]


def generated(generator: Generator, seeds: Sequence[int]) -> list[Inversion]:
    ws = engine.broadcast(generator, engine.latents(generator, seeds, PSI))
    return [Inversion(ws=w, family=generator.family) for w in ws.split(1)]


def move(generator: Generator, faces: Sequence[Case], direction: Direction, strength: float) -> Moved:
    """Every face edited, drawn and judged."""
    names, _, spread = population.arrays()
    step, catalogue = latent_step(direction.name, strength), {direction.name: direction}
    changes, drifts = [], []
    for face in faces:
        edited = Layer(None, apply_step(face.inversion, step, catalogue))
        after = judge(draw(generator, restyled(generator, edited, [step], catalogue).inversion))
        lost = after is None
        drifts.append(np.nan if lost else distance(face.before.descriptor, after.descriptor))
        pairs = [(face.before.values[n], np.nan if lost else after.values[n]) for n in names]
        changes.append([b - a for a, b in pairs] / spread)
    return Moved(np.array(changes), np.array(drifts))


def aim(direction: Direction) -> tuple[int, int]:
    """Which judge it is about, and 1 or -1: '-hair_warm' is a direction that makes it fall."""
    return population.arrays()[0].index(direction.judge.lstrip("-")), -1 if direction.judge.startswith("-") else 1


def limit(direction: Direction) -> float:
    """The median drift (dlib distance) that an edit must stay below."""
    return SAFE_CHANGING if direction.group in CHANGING else SAFE


def furthest(generator: Generator, faces: Sequence[Case], direction: Direction, sign: int) -> float:
    """The end of the range on this side: by regula falsi on drift and target, whichever is reached first.

    0 where the target hardly moves, so that there is nothing to measure.
    """
    (target, towards), strength, done = aim(direction), FIRST, 0.0
    for _ in range(LOOKS):
        moved = move(generator, faces, direction, sign * strength)
        lost = float(np.isnan(moved.drift).mean())
        drift = float(np.nanmedian(moved.drift)) if lost < 0.5 else np.inf
        done = sign * towards * float(np.nanmedian(moved.change[:, target])) / ENOUGH
        full = max(drift / limit(direction) / AIMED, done, 0.5 + lost * 8)  # 1: as far as it may go
        factor = np.clip(1 / full, 0.4, 2.5)
        if 0.93 < factor < 1.08:
            break
        done *= factor
        strength = float(np.clip(strength * factor, 0.25, FURTHEST))
    return round(sign * strength, 1) if done * ENOUGH > HOPELESS * LEAST else 0.0


@dataclass(frozen=True)
class End:
    """One end of a range, measured: strength; moves (J,) of all judges in standard deviations; right: share of the
    faces whose target moved as the name says, lost ones counting as wrong; drift: median dlib distance."""

    strength: float
    moves: np.ndarray
    right: float
    drift: float


def measured(generator: Generator, faces: Sequence[Case], direction: Direction, strength: float) -> End:
    """An end on these faces; nearer to 0 if the faces drift too far there, further if they may and must."""
    target, towards = aim(direction)
    if strength == 0:
        return End(0.0, np.zeros(len(population.load())), 0.0, 0.0)
    for _ in range(ROUNDS):
        moved = move(generator, faces, direction, strength)
        along = towards * np.sign(strength) * moved.change[:, target]
        counted = np.isfinite(along) | np.isnan(moved.drift)
        end = End(strength, np.nanmean(moved.change, 0), float(np.mean(along[counted] > 0)),
                  float(np.nanmedian(moved.drift)))  # fmt: skip
        room, lacking = 0.98 * limit(direction) / end.drift, 1.03 * LEAST / max(float(np.nanmean(along)), 1e-6)
        if end.drift < limit(direction) and not 1.03 < lacking < room:
            break
        strength = round(strength * (lacking if end.drift < limit(direction) else room), 2)
    return end


def broken(direction: Direction, end: End) -> str:
    """'' if this end keeps every promise, else which it breaks."""
    target, towards = aim(direction)
    failed = []
    if np.sign(end.strength) * towards * end.moves[target] < LEAST:
        failed.append(f"moves its target by {abs(end.moves[target]):.2f} only")
    if end.right < RIGHT:
        failed.append(f"moves it the wrong way on {1 - end.right:.0%}")
    if not end.drift < limit(direction):
        failed.append(f"drifts by {end.drift:.2f}")
    return ", ".join(failed)


def calibrate(generator: Generator, direction: Direction, searched: Sequence[Case], faces: Sequence[Case]
              ) -> Direction:  # fmt: skip
    """A direction -> the same with everything measured of it; an end that breaks a promise is 0."""
    names, _, spread = population.arrays()
    target, towards = aim(direction)
    found = [measured(generator, faces, direction, furthest(generator, searched, direction, sign)) for sign in (-1, 1)]
    for end in found:
        print(f"{direction.name} {end.strength:+g}: moves {end.moves[target]:+.2f}, right {end.right:.3f}, "
              f"drift {end.drift:.3f} {broken(direction, end)}", flush=True)  # fmt: skip
    kept = [None if broken(direction, end) else end for end in found]
    open_ends = [end for end in kept if end]
    facts = {
        "safe_range": tuple(end.strength if end else 0.0 for end in kept),
        "ends": tuple(round(towards * float(end.moves[target]), 2) if end else 0.0 for end in kept),
        "right": tuple(round(end.right, 3) if end else 1.0 for end in kept),
    }
    if not open_ends:
        return replace(direction, **facts)
    leak = np.mean([np.abs(end.moves) / max(abs(end.moves[target]), 1e-6) for end in open_ends], 0)
    return replace(
        direction,
        **facts,
        effect=round(float(np.mean([end.moves[target] * spread[target] / end.strength for end in open_ends])), 4),
        drift=round(max(end.drift for end in open_ends), 3),
        leakage={n: round(float(v), 2) for n, v in zip(names, leak, strict=True) if n != names[target]},
    )


def invert(generator: Generator, folder: Path, cache: Path) -> list[Inversion]:
    """Aligned photos of a folder, inverted by `hyper`; kept in `cache`."""
    from editing.session import Editor

    editor, found = Editor(generator), []
    for path in sorted(p for p in folder.iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png")):
        kept_file = cache / f"{path.stem}.inversion"
        if not kept_file.exists():
            editor.set_photo(path, method="hyper", aligned=True).save(kept_file)
        found.append(Inversion.load(kept_file))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path, help="where inversions and findings are kept")
    parser.add_argument("--photos", type=Path, help="a folder of aligned photos")
    parser.add_argument("--only", nargs="*", help="names of directions; default: all")
    parser.add_argument("--part", nargs=2, type=int, default=(0, 1), metavar=("K", "N"), help="every N-th, from K")
    parser.add_argument("--collect", action="store_true", help="write what was found into the shipped catalogue")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    tune_allocator()
    catalogue = load()
    if options.collect:
        found = [collected(options.work, direction) for direction in catalogue.values()]
        save(Catalogue([direction for direction in found if direction is not None]))
        return
    todo = [n for n in catalogue if not options.only or n in options.only][options.part[0] :: options.part[1]]
    todo = [n for n in todo if not (options.work / f"{n}.json").exists()]
    generator = checkpoints.load(zoo.path("mobilestylegan-ffhq-1024"))
    photos = invert(generator, options.photos, options.work) if options.photos else []
    faces = cases(generator, [*generated(generator, MEASURED), *photos])
    searched = cases(generator, generated(generator, SEARCHED))
    for name in todo:
        found = calibrate(generator, catalogue[name], searched, faces)
        facts = {key: getattr(found, key) for key in ("safe_range", "effect", "ends", "right", "drift", "leakage")}
        with replacing(options.work / f"{name}.json") as part:
            part.write_text(json.dumps(facts))


def collected(work: Path, direction: Direction) -> Direction | None:
    """The direction with what `work` says of it; None if neither end keeps what the catalogue promises, or nobody has
    measured it."""
    path = work / f"{direction.name}.json"
    if not path.exists():
        return direction if direction.safe_range else None
    facts = {k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(path.read_text()).items()}
    return replace(direction, **facts) if any(facts["safe_range"]) else None


if __name__ == "__main__":
    main()
