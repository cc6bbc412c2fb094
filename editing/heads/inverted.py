"""Judged moves of inverted faces, which are what heads get to see in photos: their codes lie nearer the middle, differ
from row to row, and weight offsets say the rest.

    python -m editing.heads.inverted inverted/ --count 250 --heads cyclegan.safetensors stargan.safetensors

Generated faces (psi 1, wider than those that inversions were trained on) are inverted by `hyper` as photos are; what is
judged is the inversion's own rendering, as it is and after a few moves: half of them random, half those of heads.
Shards of 10 faces: ws, scores, descriptor of each, and face, amounts, moved_scores, moved_descriptor of their moves;
the heads' actions beside them.  Goes on where it was killed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from editing.heads import moves
from editing.heads.actions import Actions, moved
from editing.heads.translators import Head
from editing.inversion import STRATEGIES
from editing.judges.judge import NAMES, judge
from editing.types import Inversion
from stylegan2 import checkpoints, console, engine, zoo
from stylegan2.allocator import tune_allocator
from stylegan2.errors import UsageError
from stylegan2.files import replacing
from stylegan2.generator import Generator

SHARD, MOVES = 10, 6
FIRST_SEED, PSI = 40_000_000, 1.0


def judged(generator: Generator, inversion: Inversion) -> tuple[list[float], np.ndarray]:
    """-> scores (J,) and descriptor (128,); nan where no face is found"""
    with torch.no_grad():
        picture = engine.to_uint8(generator.synthesis(inversion.ws, inversion.deltas, inversion.features))[0]
    scores = judge(picture)
    if scores is None:
        return [np.nan] * len(NAMES), np.full(128, np.nan)
    return [scores.values[name] for name in NAMES], scores.descriptor


def shard(generator: Generator, actions: Actions, heads: Sequence[Head], seeds: range) -> dict[str, np.ndarray]:
    """Inversions of the faces of these seeds, and MOVES moves of each; face: the place in this shard."""
    rows: dict[str, list] = {
        name: [] for name in ("ws", "scores", "descriptor", "face", "amounts", "moved_scores", "moved_descriptor")
    }
    for face, (seed, _, picture) in enumerate(engine.faces(generator, seeds, PSI)):
        inversion = STRATEGIES["hyper"](generator, engine.to_float(picture))
        rows["ws"].append(inversion.ws[0].numpy())
        for name, value in zip(("scores", "descriptor"), judged(generator, inversion), strict=True):
            rows[name].append(value)
        for i in range(MOVES if np.isfinite(rows["descriptor"][-1]).all() else 0):
            number = seed * MOVES + i
            by_head = heads and i % 2
            move = moves.led(heads, inversion.ws, number) if by_head else moves.amounts(actions, number, i % 4 == 0)
            ws = moved(inversion.ws, torch.from_numpy(move)[None], actions.vectors)
            rows["face"].append(face)
            rows["amounts"].append(move)
            for name, value in zip(("scores", "descriptor"), judged(generator, replace(inversion, ws=ws)), strict=True):
                rows[f"moved_{name}"].append(value)
    wide = {"scores": len(NAMES), "descriptor": 128, "amounts": len(actions), "face": None}
    found = {name: np.asarray(v, np.int64 if name == "face" else np.float32) for name, v in rows.items()}
    for name, values in found.items():  # of faces that were not found there are no moves: still so many columns
        width = wide.get(name.removeprefix("moved_"))
        found[name] = values.reshape(len(values), width) if width else values
    return found


def load(folder: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Faces (ws, scores, descriptor) and their moves (face, amounts, scores, descriptor) of a folder, where judges
    could speak of them."""
    shards = [dict(np.load(path)) for path in sorted(folder.glob("[0-9]*.npz"))]
    if not shards or any("moved_scores" not in part for part in shards):
        raise UsageError(f"{folder} holds no inverted faces: make some with python -m editing.heads.inverted")
    for i, part in enumerate(shards):
        part["face"] = part["face"] + sum(len(before["ws"]) for before in shards[:i])
    table = {name: np.concatenate([part[name] for part in shards]) for name in shards[0]}
    seen = np.isfinite(table["descriptor"]).all(1)
    both = seen[table["face"]] & np.isfinite(table["moved_descriptor"]).all(1)
    places = np.cumsum(seen) - 1
    faces = {name: table[name][seen] for name in ("ws", "scores", "descriptor")}
    return faces, {
        "face": places[table["face"]][both], "amounts": table["amounts"][both],
        "scores": table["moved_scores"][both], "descriptor": table["moved_descriptor"][both],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=250)
    parser.add_argument("--heads", type=Path, nargs="+", required=True, help="files of heads that make half the moves")
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    parser.add_argument(
        "--part", nargs=2, type=int, default=(0, 1), metavar=("K", "N"), help="every N-th shard, from K"
    )
    options = parser.parse_args()
    tune_allocator()
    options.folder.mkdir(parents=True, exist_ok=True)
    kept = options.folder / "actions.safetensors"
    heads, actions = moves.known_heads(options.heads, moves.load_actions(kept) if kept.exists() else None)
    if not kept.exists():
        moves.save(actions, kept)
    generator = checkpoints.load(zoo.path("mobilestylegan-ffhq-1024"))
    for start in range(0, options.count, SHARD)[options.part[0] :: options.part[1]]:
        path = options.folder / f"{start}.npz"
        if not path.exists():
            seeds = range(options.first_seed + start, options.first_seed + min(start + SHARD, options.count))
            with replacing(path) as part, open(part, "wb") as file:
                np.savez(file, **shard(generator, actions, heads, seeds))
            print(path, flush=True)


if __name__ == "__main__":
    console.plain(main)
