"""Disentangled forms on faces that neither their search nor the catalogue's figures have seen: what still leaks?

    python -m bench.leakage work/                    # goes on where it was stopped
    python -m bench.leakage work/ --part 0 2         # half of it, for two processes, and then without --part

Both forms of every edit that has a disentangled one, at the ends of the plain edit's range, on 64 generated faces.
Leak: what the other judges move on average for one standard deviation of the edit's own, as in docs/catalogue.md;
kept: the disentangled form's share of what the plain one moves on the same faces, at either end.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from editing.directions.calibrate import Case, Moved, aim, cases, generated, limit, move
from editing.directions.catalogue import Direction, disentangled, leak, load
from editing.steps import direction_sha256
from stylegan2 import checkpoints, zoo
from stylegan2.allocator import tune_allocator
from stylegan2.files import replacing
from stylegan2.generator import Generator

SEEDS = range(10_000, 10_064)


def seen(generator: Generator, faces: list[Case], direction: Direction, side: int, clean: bool, work: Path) -> Moved:
    end = direction.safe_range[side]
    if clean:
        direction = disentangled(direction, end)
    path = work / f"{direction.name}.{end:g}.{direction_sha256(direction)[:12]}.npz"
    if not path.exists():
        found = move(generator, faces, direction, end)
        with replacing(path) as part, open(part, "wb") as stream:
            np.savez(stream, change=found.change, drift=found.drift)
    with np.load(path) as table:
        return Moved(table["change"], table["drift"])


def row(direction: Direction, sides: list[tuple[Moved, Moved]]) -> tuple[float, float, list[float]]:
    """Prints an edit's figures -> leak of both forms, and what is kept at the ends that are open."""
    target, _ = aim(direction)
    means = [[np.nan_to_num(np.nanmean(form.change, 0)) for form in forms] for forms in sides]
    leaks = [float(np.mean([leak(forms[k], target) for forms in means])) for k in (0, 1)]
    kept = [float(clean[target] / plain[target]) for plain, clean in means]
    shares = ", ".join(f"{share:.0%}" for share in kept)
    drift = max(float(np.nanmedian(clean.drift)) for _, clean in sides)
    print(f"| {direction.name} | {leaks[0]:.3f} | {leaks[1]:.3f} | {leaks[1] / leaks[0] - 1:+.0%} | {shares} "
          f"| {drift:.3f} (of {limit(direction):g}) |", flush=True)  # fmt: skip
    return leaks[0], leaks[1], kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--part", nargs=2, type=int, default=(0, 1), metavar=("K", "N"))
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    tune_allocator()
    generator = checkpoints.load(zoo.path("mobilestylegan-ffhq-1024"))
    faces = cases(generator, generated(generator, SEEDS))
    todo = [direction for direction in load().values() if direction.clean is not None]
    print("| edit | leak | disentangled | | kept | drift |\n|---|---|---|---|---|---|")
    found = []
    for direction in todo[options.part[0] :: options.part[1]]:
        sides = [
            tuple(seen(generator, faces, direction, side, clean, options.work) for clean in (False, True))
            for side in (0, 1) if direction.safe_range[side]
        ]  # fmt: skip
        found.append(row(direction, sides))
    if found:
        plain, clean = (sum(each[k] for each in found) for k in (0, 1))
        kept = np.concatenate([each[2] for each in found])
        print(f"{len(found)} edits: {plain:.3f} -> {clean:.3f} ({clean / plain - 1:+.1%}); {kept.mean():.0%} kept, "
              f"80% or more at {np.sum(kept >= 0.8)} of {len(kept)} ends")  # fmt: skip


if __name__ == "__main__":
    main()
