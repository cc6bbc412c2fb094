"""The disentangled form of a direction: what it moves besides its target is taken back, by measurement.

    python -m editing.directions.disentangle work/ --photos aligned/ --leakiest 10    # goes on where it was killed
    python -m editing.directions.disentangle work/ --collect                          # into the shipped catalogue

A direction that is orthogonal to all other judges' slopes still leaks: slopes are averages over whole codes, and an
edit goes far, on some rows.  So it is measured.  First what small moves do to all judges (`probing`), then what the
edit moves at an end of its range; a sum of the moves takes that back while the target stays.  The result is measured,
which also corrects what the moves do this far out (Broyden's update), and so on from the best form so far, beginning
with the one that the catalogue has.  What the moves do is never known exactly, so a step counts on being wrong by
`DOUBT` of its length: it is short where little is gained.  Both ends are done apart, since much of a leak is the same
whichever way one goes: the form is linear on either side of 0.  How well it does is then measured on the faces that the
catalogue's other figures come from.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from editing.directions.calibrate import MEASURED, Case, aim, cases, generated, invert, limit, move
from editing.directions.catalogue import MERGED, Catalogue, Direction, leak, load, save
from editing.directions.probing import Effects, effects, moves, probe, shards
from stylegan2 import checkpoints, zoo
from stylegan2.allocator import tune_allocator
from stylegan2.files import replacing
from stylegan2.generator import Generator

SEEDS, FACES = range(64, 233), 80  # not those that the catalogue's figures come from; a form is measured on so many
ROUNDS, FAILURES = 6, 3  # measured forms of a side, and those in a row that were no better before it is left
KEPT, PROMISED = 0.85, 0.8  # of the target's movement: asked for here, and on other faces
ROOM = 0.975  # of the drift that an edit may have, where the form is looked for
FAR, LEAST, BOLDER, CAREFUL = 0.4, 0.04, 1.2, 0.5  # how long a step may be, must be, and the factors of the first
DOUBT, SURELY, NOISE = 0.1, (0.04, 0.3), 0.008  # sds a judge is wrong by for a step of 1; its bounds; without any step
SOFT = 0.01  # standard deviations: a leak below it is hardly worth more effort


@dataclass(frozen=True)
class Found:
    """One side's form on some faces: vector (16, 512) for a strength of 1, the mean movements of all judges (J,), its
    leakage, its target's movement (in standard deviations, the way that the name says) and its median drift."""

    vector: Tensor
    change: np.ndarray
    leak: float
    kept: float
    drift: float

    def scaled(self, factor: float) -> Found:
        """The same, with so much more of everything: foretold, not measured."""
        return Found(self.vector * factor, self.change * factor, self.leak, self.kept * factor, self.drift * factor)


def summed(amounts: np.ndarray, moves: Tensor) -> Tensor:
    """(K,) amounts of moves (K, 16, 512) -> (16, 512)"""
    return torch.einsum("k,krc->rc", torch.from_numpy(amounts).float(), moves)


def correction(found: Found, target: int, known: Effects, kept: float, drift: float, far: float, doubt: float
               ) -> np.ndarray:  # fmt: skip
    """The amounts (K,) of the moves after which the form is expected to leak least.

    Its target keeps moving by `kept` or more, it drifts by less than `drift`, and the step is no longer than `far`.
    doubt: by how many standard deviations a judge is expected to be wrong for a step of 1.
    """
    sign, count = np.sign(found.change[target]), len(found.change) - 1
    others = np.arange(count + 1) != target

    def cost(a: np.ndarray) -> tuple[float, np.ndarray]:
        moved = found.change + a @ known.judges
        along, soft = max(sign * moved[target], 1e-3), np.sqrt(moved[others] ** 2 + SOFT**2 + doubt**2 * (a @ a))
        value = soft.sum() / count / along
        slope = np.zeros(len(moved))
        slope[others], slope[target] = moved[others] / soft / count / along, -sign * value / along
        gradient = known.judges @ slope + a * (doubt**2 / soft).sum() / count / along + 2e-4 * a
        value += 1e-4 * (a @ a)
        far_off = np.sqrt(found.drift**2 + known.drift @ a**2)
        for over, change in (
            (1 - along / kept, -sign * known.judges[:, target] / kept),
            (far_off / drift - 1, known.drift * a / far_off / drift),
            (np.linalg.norm(a) / far - 1, a / (np.linalg.norm(a) + 1e-9) / far),
        ):
            if over > 0:
                value += 20 * over**2 + 0.5 * over
                gradient = gradient + (40 * over + 0.5) * change
        return float(value), gradient

    return minimize(cost, np.zeros(len(known.drift)), jac=True, method="L-BFGS-B", options={"maxiter": 500}).x


def updated(known: Effects, step: np.ndarray, moved: np.ndarray) -> Effects:
    """Effects such that a step of amounts (K,) moves what it was seen to move (J,): Broyden's update, the least change
    that does so."""
    return replace(known, judges=known.judges + np.outer(step, moved - step @ known.judges) / max(step @ step, 1e-9))


def measured(generator: Generator, faces: Sequence[Case], direction: Direction, vector: Tensor, end: float) -> Found:
    target, towards = aim(direction)
    moved = move(generator, faces, replace(direction, vector=vector, rows=(0, MERGED)), end)
    change = np.nan_to_num(np.nanmean(moved.change, 0))
    along = float(np.sign(end) * towards * change[target])
    return Found(vector, change, leak(change, target), along, float(np.nanmedian(moved.drift)))


def clean_side(generator: Generator, faces: Sequence[Case], direction: Direction, side: int, moves: Tensor,
               known: Effects) -> Found:  # fmt: skip
    """The form of one side (0 or 1) that leaks least and keeps the rest, the direction's own if none does."""
    target, _ = aim(direction)
    end, most = direction.safe_range[side], ROOM * limit(direction)
    forms = [plain(direction)] if direction.clean is None else [plain(direction), direction.clean[side]]
    tried = [measured(generator, faces, direction, vector, end) for vector in forms]
    enough = KEPT * tried[0].kept
    need = min(enough, tried[-1].kept)

    def whole(found: Found) -> Found:
        """With as much more of it as its target needs."""
        return found.scaled(max(1.0, need / max(found.kept, 1e-6)))

    def worth(found: Found) -> float:
        return found.leak + 2 * max(0.0, whole(found).drift / most - 1)

    best, far, doubt, failures = min(tried, key=worth), FAR, DOUBT, 0
    print(f"  {direction.name} {end:+g}: leakage {tried[0].leak:.3f}, begins with {best.leak:.3f}", flush=True)
    for _ in range(ROUNDS):
        step = correction(best, target, known, need, most, far, doubt)
        length = float(np.linalg.norm(step))
        if length < LEAST or failures == FAILURES:
            break
        found = measured(generator, faces, direction, best.vector + summed(step, moves) / end, end)
        seen = found.change - best.change
        wrong = max(0.0, float(((seen - step @ known.judges) ** 2).mean()) - NOISE**2)
        doubt = float(np.clip(np.sqrt(0.6 * doubt**2 + 0.4 * wrong / length**2), *SURELY))
        known, better = updated(known, step, seen), worth(found) < worth(best)
        print(f"  {direction.name} {end:+g}: {found.leak:.3f}, kept {found.kept / tried[0].kept:.2f}, "
              f"drift {found.drift:.2f}, a step of {length:.2f} {'+' if better else '-'}", flush=True)  # fmt: skip
        if better:
            best, far, failures = whole(found), far * BOLDER, 0
        else:
            far, failures = CAREFUL * min(far, length), failures + 1
    return best


def plain(direction: Direction) -> Tensor:
    """The direction's own vector as rows (16, 512)."""
    rows = torch.zeros(MERGED, 512)
    rows[slice(*direction.rows)] = direction.vector
    return rows


def begun(direction: Direction, side: int) -> Tensor:
    """What the form that a direction has on this side, or its own vector, adds at the end of its range (16, 512)."""
    vector = plain(direction) if direction.clean is None else direction.clean[side]
    return vector * direction.safe_range[side]


def waited(files: Sequence[Path]) -> None:
    while not all(file.exists() for file in files):
        time.sleep(5)  # until the other parts are there


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
    ranged = [name for name, direction in catalogue.items() if direction.safe_range]
    names = sorted(ranged, key=lambda name: -catalogue[name].leaks)[: options.leakiest]
    names = [n for n in options.only or names if not catalogue[n].styles]
    faces, known = probed(generator, [catalogue[name] for name in names], options.work, tuple(options.part))
    photos = invert(generator, options.photos, options.work) if options.photos else []
    shown = cases(generator, [*generated(generator, MEASURED), *photos])
    for name in names[options.part[0] :: options.part[1]]:
        path, direction = options.work / f"{name}.clean.npz", catalogue[name]
        if path.exists():
            continue
        sides, after = np.zeros((2, MERGED, 512), np.float32), []
        for side, end in enumerate(direction.safe_range):
            if end:
                found = clean_side(generator, faces[:FACES], direction, side, moves(), known)
                sides[side] = found.vector.numpy()
                after.append((measured(generator, shown, direction, found.vector, end), abs(direction.ends[side])))
        facts = {
            "leak": np.mean([found.leak for found, _ in after]),
            "kept": min(found.kept / before for found, before in after),
            "drift": max(found.drift for found, _ in after),
        }
        print(f"{name}: on all faces {direction.leaks:.3f} -> {facts['leak']:.3f}, kept {facts['kept']:.2f}, "
              f"drift {direction.drift:.2f} -> {facts['drift']:.2f}", flush=True)  # fmt: skip
        with replacing(path) as part, open(part, "wb") as stream:
            np.savez(stream, vector=sides, **facts)


def probed(generator: Generator, directions: Sequence[Direction], work: Path, part: tuple[int, int]
           ) -> tuple[list[Case], Effects]:  # fmt: skip
    """The faces that forms are looked for on, and what the moves do there; kept in `work`, all parts' together."""
    faces, ends, files = cases(generator, generated(generator, SEEDS)), [], []
    for number, (direction, side) in enumerate((d, s) for d in directions for s in (0, 1) if d.safe_range[s]):
        ends.append(begun(direction, side))
        files.append(work / f"{direction.name}.{side}.begun.npy")
        if number % part[1] == part[0] and not files[-1].exists():
            whole = replace(direction, vector=ends[-1], rows=(0, MERGED))
            with replacing(files[-1]) as unfinished, open(unfinished, "wb") as stream:
                np.save(stream, move(generator, faces, whole, 1.0).change)
    probe(generator, faces, ends, moves(), work, part)
    waited([*files, *(work / f"probes-{shard:04d}.npz" for shard in shards())])
    return faces, effects(work, [np.load(file) for file in files])


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
