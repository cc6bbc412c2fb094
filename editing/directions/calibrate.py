"""Measure every direction of the catalogue on generated faces, and write the findings into it.

    python -m editing.directions.calibrate --faces 16       # seeds 0.., psi 0.7

For each strength of a grid the judges look at every face before and after.  The safe range ends before
the strength at which the median face drifts too far from itself (dlib distance 0.45; 0.6 for age, gender
and pose, which change a face by nature) or at which more than one face in twenty is no longer found.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
import torch

from editing.directions.catalogue import Catalogue, Direction, apply, load, save
from editing.directions.sampling import JUDGES
from editing.judges.judge import Scores, distance, judge
from stylegan2 import checkpoints, engine, zoo
from stylegan2.allocator import tune_allocator
from stylegan2.generator import Generator

SEEDS, PSI = 64, 0.7
FREE_GROUPS = ("age", "gender", "pose")  # groups whose edits change a face by nature
GRIDS = {"fitted": (1.0, 2.0, 3.0, 4.0), "GANSpace": (3.0, 6.0, 9.0, 12.0)}
LOST = 0.05


def calibrate(generator: Generator, direction: Direction, ws: torch.Tensor, before: list[Scores],
              spread: np.ndarray) -> Direction:  # fmt: skip
    """One direction over faces ws (N, num_ws, 512) with their scores -> the same with its facts filled in.

    spread (judges,): each judge's standard deviation over generated faces, the unit of leakage.
    """
    grid = GRIDS["fitted" if direction.source.startswith("fitted") else "GANSpace"]
    limit = 0.6 if direction.group in FREE_GROUPS else 0.45
    ends, effects, drifts, leaks = [], [], [], []
    for sign in (-1, 1):
        end, at_end = 0.0, (0.0, np.zeros(len(JUDGES)))
        for strength in grid:
            moved = [
                judge(engine.to_uint8(_render(generator, apply(w, direction, sign * strength)))[0]) for w in ws.split(1)
            ]
            found = [(b, m) for b, m in zip(before, moved, strict=True) if m is not None]
            drift = float(np.median([distance(b.descriptor, m.descriptor) for b, m in found])) if found else np.inf
            if drift > limit or len(found) < (1 - LOST) * len(ws):
                break
            change = np.mean([_vector(m) - _vector(b) for b, m in found], 0)
            end, at_end = strength, (drift, np.abs(change) / spread)
            if direction.judge:
                effects.append(change[JUDGES.index(direction.judge)] / (sign * strength))
        ends.append(sign * end)
        drifts.append(at_end[0])
        leaks.append(at_end[1])
    worst = np.max(leaks, 0)
    return replace(
        direction,
        safe_range=(ends[0], ends[1]),
        effect=round(float(np.mean(effects)), 4) if effects else None,
        drift=round(max(drifts), 3),
        leakage={n: round(float(v), 2) for n, v in zip(JUDGES, worst, strict=True) if n != direction.judge},
    )


def _render(generator: Generator, ws: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return generator.synthesis(ws)


def _vector(scores: Scores) -> np.ndarray:
    return np.array([scores.values[name] for name in JUDGES])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faces", type=int, default=16)
    parser.add_argument("--only", nargs="*", help="names of directions; default: all")
    options = parser.parse_args()
    tune_allocator()
    generator = checkpoints.load(zoo.path("mobilestylegan-ffhq-1024"))
    ws = engine.broadcast(generator, engine.latents(generator, range(SEEDS), PSI))
    before = [judge(engine.to_uint8(_render(generator, w))[0]) for w in ws.split(1)]
    spread = np.std([_vector(scores) for scores in before if scores], 0)
    kept = [index for index, scores in enumerate(before) if scores][: options.faces]
    entries = []
    for name, direction in load().items():
        if not options.only or name in options.only:
            direction = calibrate(generator, direction, ws[kept], [before[i] for i in kept], spread)
            print(name, direction.safe_range, direction.effect, direction.drift, direction.leakage, flush=True)
        entries.append(direction)
    save(Catalogue(entries))


if __name__ == "__main__":
    main()
