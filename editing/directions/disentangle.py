"""The disentangled form of every direction: what it moves besides its target is taken back, by measurement.

    python -m editing.directions.disentangle work/ [--only smile age]     # work/NAME.clean.npz; goes on where killed
    python -m editing.directions.disentangle work/ --collect              # into the shipped catalogue

A direction that is orthogonal to all other judges' slopes still leaks: slopes are averages, and an edit goes far.  So
the leak itself is measured at both ends of the range, and a sum of the other judges' own directions is added that
takes it back, as slopes predict, while the target's movement stays (least squares with one constraint); then it is
measured again, twice.  What is kept is the form that leaked least and kept KEPT of the target's movement; how much it
leaks is then measured on the faces that the catalogue's other figures come from.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from editing.directions.calibrate import MEASURED, Case, aim, cases, generated, move
from editing.directions.catalogue import Catalogue, Direction, disentangled, load, save
from editing.directions.own import slopes
from editing.judges import population
from stylegan2 import checkpoints, w_statistics, zoo
from stylegan2.allocator import tune_allocator
from stylegan2.files import replacing
from stylegan2.generator import Generator

SEEDS = range(64, 80)  # not those that the catalogue's figures come from
ROUNDS = 3
KEPT = 0.85  # of the target's movement; the promise is 0.8
STIFF = 0.05  # how little a correction may cost, in squared standard deviations of the code


def leak(change: np.ndarray, target: int) -> float:
    """Mean movements (J,) in standard deviations -> mean movement of the others for one of the target's."""
    others = np.delete(np.abs(change), target)
    return float(np.nanmean(others) / max(abs(change[target]), 1e-6))


def measured(generator: Generator, faces: Sequence[Case], direction: Direction) -> tuple[np.ndarray, float]:
    """-> half the difference (J,) of what both ends move, nan as 0; and the mean leakage of both."""
    target, _ = aim(direction)
    found = [np.nanmean(move(generator, faces, direction, end).change, 0) for end in direction.safe_range]
    odd = (found[1] - found[0]) / 2 if all(direction.safe_range) else found[int(direction.safe_range[0] == 0)]
    leaks = [leak(change, target) for change, end in zip(found, direction.safe_range, strict=True) if end]
    return np.nan_to_num(odd), float(np.mean(leaks))


def correction(odd: np.ndarray, target: int, g: np.ndarray) -> np.ndarray:
    """What moved (J,), slopes g (512, J) -> a step (512,) in whitened W that takes the others back and not the target.

    The step is made of the others' slopes, each less its part along the target's.
    """
    along = g[:, target] / np.linalg.norm(g[:, target])
    others = np.delete(g, target, 1)
    basis = others - np.outer(along, along @ others)
    effect = others.T @ basis  # (J - 1, J - 1): what a unit of each does to each
    wanted = -np.delete(odd, target)
    amounts = np.linalg.solve(effect.T @ effect + STIFF * basis.T @ basis, effect.T @ wanted)
    return basis @ amounts


def clean(generator: Generator, direction: Direction, faces: Sequence[Case]) -> Direction:
    """A measured direction -> the same with a disentangled form in `clean`, found on these faces, or None."""
    statistics, (target, _) = w_statistics.load(), aim(direction)
    g = np.stack([slopes()[name].astype(np.float64) for name in population.arrays()[0]], 1)
    reach = float(np.mean(np.abs([end for end in direction.safe_range if end])))
    odd, least = measured(generator, faces, direction)
    start, current, best = odd[target], direction, None
    print(f"{direction.name}: leakage {least:.2f}", flush=True)
    for _ in range(ROUNDS):
        step = correction(odd, target, g) / reach
        vector = current.vector + torch.from_numpy(step).float() * statistics.stdev @ statistics.components
        current = replace(current, vector=vector)
        odd, leaks = measured(generator, faces, current)
        share = float(odd[target] / start)
        print(f"  leakage {leaks:.2f}, effect kept {share:.2f}", flush=True)
        if share >= KEPT and leaks < least:
            least, best = leaks, vector
    return replace(direction, clean=best)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--part", nargs=2, type=int, default=(0, 1), metavar=("K", "N"))
    parser.add_argument("--collect", action="store_true")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    tune_allocator()
    catalogue = load()
    if options.collect:
        save(Catalogue([collected(options.work, direction) for direction in catalogue.values()]))
        return
    generator = checkpoints.load(zoo.path("mobilestylegan-ffhq-1024"))
    found_on, shown_on = (cases(generator, generated(generator, seeds)) for seeds in (SEEDS, MEASURED))
    for name in [n for n in catalogue if not options.only or n in options.only][options.part[0] :: options.part[1]]:
        path = options.work / f"{name}.clean.npz"
        if path.exists() or catalogue[name].styles or catalogue[name].vector.ndim != 1:
            continue
        found = clean(generator, catalogue[name], found_on)
        facts = {"vector": np.zeros(0), "before": np.nan, "after": np.nan, "kept": np.nan}
        if found.clean is not None:
            (odd, before), (clean_odd, after) = (
                measured(generator, shown_on, form) for form in (found, disentangled(found))
            )
            target, _ = aim(found)
            facts = {"vector": found.clean.numpy(), "before": before, "after": after,
                     "kept": clean_odd[target] / odd[target]}  # fmt: skip
        print(
            f"{name}: on other faces {facts['before']:.3f} -> {facts['after']:.3f}, kept {facts['kept']:.2f}",
            flush=True,
        )
        with replacing(path) as part, open(part, "wb") as stream:
            np.savez(stream, **facts)


def collected(work: Path, direction: Direction) -> Direction:
    path = work / f"{direction.name}.clean.npz"
    if not path.exists():
        return direction
    facts = np.load(path)
    if not facts["vector"].size:
        return replace(direction, clean=None, clean_leak=None)
    return replace(
        direction, clean=torch.from_numpy(facts["vector"]).float(), clean_leak=round(float(facts["after"]), 3)
    )


if __name__ == "__main__":
    main()
