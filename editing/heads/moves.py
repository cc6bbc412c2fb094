"""Judged moves: faces of which the judges have spoken already, changed by a few random actions, judged again.

    python -m editing.directions.sampling faces/ --count 6000 --psi 0.8
    python -m editing.heads.moves faces/ moves/ --count 2600
    python -m editing.heads.moves faces/ together/ --count 3000 --together
    python -m editing.heads.moves faces/ more/ --count 2400 --more          # and --together: for `editing.text`
    python -m editing.heads.moves faces/ led/ --count 1600 --heads cyclegan.safetensors stargan.safetensors

What an action does to every judge, and to who somebody is, is learned from these; rendering happens here, once, and not
in the training of heads.  Shards of 200 (face, amounts, scores, descriptor); goes on where it was killed.  `--heads`:
moves that heads make, about as they make them, so that heads trained next are taught where the last ones were wrong.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from editing.directions import sampling
from editing.heads.actions import EDITS, FITTED, LIMIT, ROWS, Actions, make, moved
from editing.heads.translators import Head
from editing.heads.translators import load as load_heads
from editing.judges.judge import NAMES, judge
from stylegan2 import checkpoints, console, engine, zoo
from stylegan2.allocator import tune_allocator
from stylegan2.errors import UsageError
from stylegan2.files import replacing
from stylegan2.generator import Generator

SHARD = 200
MOST = 4  # actions at once
FAVOURED = 4
LITTLE = 0.01  # of what actions may do, on average: less is nothing to learn from
LED, DROPPED = (0.4, 1.3), 0.15  # strengths of heads' moves; and the share of their actions that is left out


def amounts(actions: Actions, number: int, together: bool = False, more: int = 0) -> np.ndarray:
    """The random move of this number: (K,), most of it 0.  A few actions, each anywhere between its limits.

    together: all rows of one or two partial regressions, by nearly one amount, and two other actions at most: what
    appears at once, glasses for instance, takes all of them.  more: actions from this place on come FAVOURED times as
    often as those before.
    """
    rng = np.random.default_rng((7, number, int(together)))
    found = np.zeros(len(actions), np.float32)
    count = rng.integers(3) if together else 1 + rng.integers(MOST)
    weights = np.where(np.arange(len(actions)) < more, 1, FAVOURED) if more else np.ones(len(actions))
    chosen = rng.choice(len(actions), count, replace=False, p=weights / weights.sum() if more else None)
    low, high = actions.limits.numpy()[chosen].T
    found[chosen] = rng.uniform(low, high)
    fitted = [name.removesuffix("/coarse") for name in actions.names if name.endswith("/coarse")]
    for name in rng.choice(fitted, 1 + rng.integers(2), replace=False) if together else ():
        rows = [actions.names.index(f"{name}/{part}") for part in ROWS]
        found[rows] = rng.uniform(-LIMIT, LIMIT) * rng.uniform(0.6, 1.0, len(rows))
    return found


def led(heads: Sequence[Head], ws: torch.Tensor, number: int) -> np.ndarray:
    """The move of this number that one of these heads makes of a face's ws (1, rows, w_dim): (K,)"""
    rng = np.random.default_rng((7, number, 2))
    for head in rng.permutation(len(heads)):  # the first that has something to do
        found = heads[head].amounts(ws)[0].numpy()
        if np.abs(found / heads[head].family.actions.limits.abs().amax(1).numpy()).mean() > LITTLE:
            break
    found = found * rng.uniform(*LED) * (rng.random(len(found)) >= DROPPED)
    return found.astype(np.float32)


def known_heads(paths: Sequence[Path], actions: Actions | None = None) -> tuple[list[Head], Actions]:
    """Heads of these files, which move by the same actions: those, or the first file's."""
    heads = [head for path in paths for head in load_heads(path).values()]
    if not heads:
        raise UsageError(f"There are no heads in {', '.join(map(str, paths))}.")
    actions = actions or heads[0].family.actions
    if not all(head.family.actions.same(actions) for head in heads):
        raise UsageError("These heads move by other actions than each other, or than the moves that are there.")
    return heads, actions


def shard(
    generator: Generator, actions: Actions, w: np.ndarray, numbers: range, together: bool = False, more: int = 0,
    heads: Sequence[Head] = (),
) -> dict[str, np.ndarray]:  # fmt: skip
    """w (N, w_dim) of all faces -> arrays of these moves; face: the place in w."""
    rows: dict[str, list] = {"face": [], "amounts": [], "scores": [], "descriptor": []}
    for number in numbers:
        face = number % len(w)
        ws = engine.broadcast(generator, torch.from_numpy(w[face])[None])
        move = led(heads, ws, number) if heads else amounts(actions, number, together, more)
        with torch.no_grad():
            images = generator.synthesis(moved(ws, torch.from_numpy(move)[None], actions.vectors))
        scores = judge(engine.to_uint8(images)[0])
        rows["face"].append(face)
        rows["amounts"].append(move)
        rows["scores"].append([scores.values[name] if scores else np.nan for name in NAMES])
        rows["descriptor"].append(scores.descriptor if scores else np.full(128, np.nan))
    types = {"face": np.int64}
    return {name: np.asarray(values, types.get(name, np.float32)) for name, values in rows.items()}


def save(actions: Actions, path: Path) -> None:
    with replacing(path) as part:
        tensors = {"vectors": actions.vectors, "limits": actions.limits}
        save_file(tensors, part, metadata={"names": " ".join(actions.names)})


def load_actions(path: Path) -> Actions:
    from safetensors import safe_open

    if not path.exists():
        raise UsageError(f"{path} is missing: make moves with python -m editing.heads.moves")
    with safe_open(path, "pt") as file:
        names = file.metadata()["names"].split()
    tensors = load_file(path)
    return Actions(names, tensors["vectors"], tensors["limits"])


def load(folder: Path) -> dict[str, np.ndarray]:
    """All moves of a folder whose result still has a face."""
    shards = [np.load(path) for path in sorted(folder.glob("[0-9]*.npz"))]
    if not shards:
        raise UsageError(f"{folder} holds no moves: make some with python -m editing.heads.moves")
    table = {name: np.concatenate([part[name] for part in shards]) for name in shards[0].files}
    found = np.isfinite(table["descriptor"]).all(1)
    return {name: values[found] for name, values in table.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("faces", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--first", type=int, default=0, help="number of the first move: other faces than another folder's"
    )
    parser.add_argument("--count", type=int, default=4000)
    parser.add_argument("--together", action="store_true", help="moves of all rows by one amount")
    parser.add_argument("--more", action="store_true", help="with actions that sentences ask for, mostly those")
    parser.add_argument("--heads", type=Path, nargs="+", default=(), help="files of heads that make the moves")
    parser.add_argument("--actions", type=Path, help="another folder's actions.safetensors, to move by the same")
    parser.add_argument(
        "--part", nargs=2, type=int, default=(0, 1), metavar=("K", "N"), help="every N-th shard, from K"
    )
    options = parser.parse_args()
    if options.heads and (options.together or options.more):
        raise UsageError("Heads make their own moves: without --together and --more.")
    tune_allocator()
    faces = sampling.load(options.faces)
    options.folder.mkdir(parents=True, exist_ok=True)
    kept = options.folder / "actions.safetensors"
    actions = load_actions(options.actions or kept) if options.actions or kept.exists() else None
    if options.actions and kept.exists() and not load_actions(kept).same(actions):
        raise UsageError(f"{options.folder} has moves by other actions than {options.actions}.")
    heads, actions = known_heads(options.heads, actions) if options.heads else ([], actions)
    actions = actions or make(faces, NAMES, options.more)
    if not kept.exists():
        save(actions, kept)
    more = len(EDITS) + len(FITTED) * len(ROWS) if options.more else 0
    generator = checkpoints.load(zoo.path("mobilestylegan-ffhq-1024"))
    end = options.first + options.count
    for start in range(options.first, end, SHARD)[options.part[0] :: options.part[1]]:
        path = options.folder / f"{start}.npz"
        if not path.exists():
            with replacing(path) as part, open(part, "wb") as file:
                numbers = range(start, min(start + SHARD, end))
                np.savez(file, **shard(generator, actions, faces["w"], numbers, options.together, more, heads))
            print(path, flush=True)


if __name__ == "__main__":
    console.plain(main)
