"""The disentangled form of a direction: what it moves besides its target is taken back, by measurement.

    python -m editing.directions.disentangle work/ --photos aligned/ --leakiest 10    # goes on where it was killed
    python -m editing.directions.disentangle work/ --collect                          # into the shipped catalogue

A direction that is orthogonal to all other judges' slopes still leaks: slopes are averages over whole codes, and an
edit goes far, on some rows.  So it is measured.  First what every judge's own direction does to all judges, on coarse
and on fine rows (`jacobian`, once).  Then what the edit moves at an end of its range; a sum of those directions takes
that back while the target stays (least squares).  The result is measured, which also corrects what the directions do
this far out (Broyden's update), and so on, ROUNDS times: a damped step (Levenberg and Marquardt's) from the best form
so far, bolder after a success and more careful after a failure, beginning with the form that the catalogue has.  Both
ends are done apart, since much of a leak is the same whichever way one goes: the form is linear on either side of 0.
What is kept is what leaked least, kept KEPT of the target's movement and stayed the same person; how well it does is
then measured on the faces that the catalogue's other figures come from.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from editing.directions.calibrate import MEASURED, Case, aim, cases, generated, invert, limit, move
from editing.directions.catalogue import MERGED, Catalogue, Direction, leak, load, save
from editing.directions.own import slopes
from editing.judges import population
from stylegan2 import checkpoints, w_statistics, zoo
from stylegan2.allocator import tune_allocator
from stylegan2.files import replacing
from stylegan2.generator import Generator

SEEDS = range(64, 153)  # not those that the catalogue's figures come from
PROBED = 18  # of them, for the Jacobian; the others for what an edit moves
BANDS = ((0, 7), (7, 16))  # coarse rows and fine ones
STEP = 1.5  # whitened units that a judge's direction is probed with
ROUNDS = 6
GOAL, KEPT, PROMISED = 0.9, 0.85, 0.8  # of the target's movement: aimed at, asked for here, and on other faces
ROOM = 0.97  # of the drift that an edit may have, where the form is looked for
FAR = 1.0  # how long a step may be: effects were measured on short ways
DAMPED, BOLDER, CAREFUL = 0.5, 0.5, 3.0  # what a squared step costs at first, and its factors from round to round
HELD = 30.0  # how much more the target's movement counts than another's
SMALL = 0.1  # standard deviations: below this a leak is hardly worth more effort (weights for a mean of absolutes)


def basis() -> Tensor:
    """(judges * bands, 16, 512): every judge's steepest way in whitened W, STEP long, on each band of rows."""
    statistics, found = w_statistics.load(), []
    for name in population.load():
        slope = slopes()[name] / np.linalg.norm(slopes()[name])
        vector = STEP * torch.from_numpy(slope).float() * statistics.stdev @ statistics.components
        for start, end in BANDS:
            rows = torch.zeros(MERGED, 512)
            rows[start:end] = vector
            found.append(rows)
    return torch.stack(found)


def jacobian(generator: Generator, faces: Sequence[Case], moves: Tensor, kept: Path, part: tuple[int, int]) -> None:
    """What each of the moves (K, 16, 512) does to all judges, half the difference of both signs: into `kept`/K.npy."""
    for index in range(part[0], len(moves), part[1]):
        path = kept / f"jacobian-{index:03d}.npy"
        if not path.exists():
            probe = Direction("probe", moves[index], (0, MERGED))
            up, down = (np.nanmean(move(generator, faces, probe, sign).change, 0) for sign in (1.0, -1.0))
            with replacing(path) as unfinished, open(unfinished, "wb") as stream:
                np.save(stream, np.nan_to_num((up - down) / 2))
    if part[0] == 0:
        print("jacobian done", flush=True)


def correction(moved: np.ndarray, target: int, effects: np.ndarray, goal: float, damped: float) -> np.ndarray:
    """What moved (J,) and effects (K, J) of the moves -> the step in their amounts (K,) that takes the others back.

    Damped least squares over all judges; the target has HELD times the weight and comes to `goal`.  What counts is the
    mean of absolute movements, so a movement has the less weight the larger it is (one round of reweighting a step).
    """
    weight, left = np.sqrt(SMALL / (np.abs(moved) + SMALL)), -moved
    weight[target] = HELD
    left[target] += goal
    a = effects.T * weight[:, None]
    step = np.linalg.solve(a.T @ a + damped * np.eye(len(effects)), a.T @ (left * weight))
    return step * min(1.0, FAR / max(float(np.linalg.norm(step)), 1e-9))


def updated(effects: np.ndarray, step: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """Effects (K, J) such that a step of amounts (K,) moves what it was seen to move (J,): Broyden's update, the least
    change that does so."""
    return effects + np.outer(step, moved - step @ effects) / max(step @ step, 1e-9)


@dataclass(frozen=True)
class Found:
    """One side's form on some faces: vector (16, 512) for a strength of 1, its leakage, its target's movement (in
    standard deviations, the way that the name says) and its median drift."""

    vector: Tensor
    leak: float
    kept: float
    drift: float


def judged(generator: Generator, faces: Sequence[Case], direction: Direction, vector: Tensor, end: float
           ) -> tuple[Found, np.ndarray]:  # fmt: skip
    target, towards = aim(direction)
    moved = move(generator, faces, replace(direction, vector=vector, rows=(0, MERGED)), end)
    change = np.nan_to_num(np.nanmean(moved.change, 0))
    along = float(np.sign(end) * towards * change[target])
    return Found(vector, leak(change, target), along, float(np.nanmedian(moved.drift))), change


def clean_side(generator: Generator, faces: Sequence[Case], direction: Direction, side: int, moves: Tensor,
               effects: np.ndarray) -> Found:  # fmt: skip
    """The form of one side (0 or 1) that leaks least and keeps the rest, the direction's own if none does."""
    target, _ = aim(direction)
    end = direction.safe_range[side]
    plain = torch.zeros(MERGED, 512)
    plain[slice(*direction.rows)] = direction.vector
    first, change = judged(generator, faces, direction, plain, end)
    goal, best = GOAL * change[target], first

    def worth(found: Found) -> float:
        short = max(0.0, KEPT - found.kept / first.kept)
        return found.leak + 2 * short + 2 * max(0.0, found.drift / limit(direction) - ROOM)

    if direction.clean is not None:
        found, other = judged(generator, faces, direction, direction.clean[side], end)
        if worth(found) < worth(best):
            best, change = found, other
    print(f"  {direction.name} {end:+g}: leakage {first.leak:.3f}, begins with {best.leak:.3f}", flush=True)
    damped = DAMPED
    for _ in range(ROUNDS):
        step = correction(change, target, effects, goal, damped)
        taken = torch.einsum("k,krc->rc", torch.from_numpy(step).float(), moves) / end
        found, other = judged(generator, faces, direction, best.vector + taken, end)
        effects = updated(effects, step, other - change)
        better = worth(found) < worth(best)
        print(f"  {direction.name} {end:+g}: {found.leak:.3f}, kept {found.kept / first.kept:.2f}, "
              f"drift {found.drift:.2f} {'+' if better else '-'}", flush=True)  # fmt: skip
        if better:
            best, change = found, other
        damped *= BOLDER if better else CAREFUL
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--photos", type=Path, help="a folder of aligned photos, as for calibrate")
    parser.add_argument("--leakiest", type=int, help="only so many, those that leak most")
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
    faces, moves = cases(generator, generated(generator, SEEDS)), basis()
    jacobian(generator, faces[:PROBED], moves, options.work, tuple(options.part))
    measured = [name for name, direction in catalogue.items() if direction.safe_range]
    names = sorted(measured, key=lambda name: -catalogue[name].leaks)[: options.leakiest]
    names = [n for n in options.only or names if not catalogue[n].styles]
    files = [options.work / f"jacobian-{index:03d}.npy" for index in range(len(moves))]
    while not all(file.exists() for file in files):
        time.sleep(5)  # until the other parts are there
    effects = np.stack([np.load(file) for file in files])
    photos = invert(generator, options.photos, options.work) if options.photos else []
    shown = cases(generator, [*generated(generator, MEASURED), *photos])
    for name in names[options.part[0] :: options.part[1]]:
        path, direction = options.work / f"{name}.clean.npz", catalogue[name]
        if path.exists():
            continue
        sides, after = np.zeros((2, MERGED, 512), np.float32), []
        for side, end in enumerate(direction.safe_range):
            if end:
                found = clean_side(generator, faces[PROBED:], direction, side, moves, effects)
                sides[side] = found.vector.numpy()
                after.append((judged(generator, shown, direction, found.vector, end)[0], abs(direction.ends[side])))
        facts = {
            "leak": np.mean([found.leak for found, _ in after]),
            "kept": min(found.kept / before for found, before in after),
            "drift": max(found.drift for found, _ in after),
        }
        print(f"{name}: on all faces {direction.leaks:.3f} -> {facts['leak']:.3f}, kept {facts['kept']:.2f}, "
              f"drift {direction.drift:.2f} -> {facts['drift']:.2f}", flush=True)  # fmt: skip
        with replacing(path) as part, open(part, "wb") as stream:
            np.savez(stream, vector=sides, **facts)


def collected(work: Path, direction: Direction) -> Direction:
    """The direction with the form that `work` has for it, if that leaks less than what it has (on all faces), keeps the
    edit and the person."""
    path = work / f"{direction.name}.clean.npz"
    if not path.exists():
        return direction
    facts = np.load(path)
    figures = {name: round(float(facts[name]), 3) for name in ("leak", "kept", "drift")}
    least = direction.leaks if direction.clean is None else direction.clean_figures["leak"]
    if figures["leak"] >= least or figures["kept"] < PROMISED or figures["drift"] >= limit(direction):
        print(f"{direction.name}: left as it was, {figures}")
        return direction
    return replace(direction, clean=torch.from_numpy(facts["vector"]).float(), clean_figures=figures)


if __name__ == "__main__":
    main()
