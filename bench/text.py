"""Edits by sentences on faces that nobody trained on: does what is named move, and only that, and who is left?

    python -m editing.directions.sampling held/ --count 600 --first-seed 2000000
    python -m bench.text held/ work/ --sentences tests/editing/text/sentences.json --photos inversions/ --count 64
    python -m bench.text held/ work/ --table

The first call renders and judges every sentence on every face (an hour on two cores, with `--part 0 2` and `--part 1 2`
side by side) and goes on where it was killed; the second prints the table.  A sentence's file gives the judges that it
is about and the sign of each; how far it moves is read and decided by what ships.  Left out are faces that are already
so: DONE standard deviations beyond the mean on the side that is asked for, and bare faces where glasses are to go.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from editing.directions import sampling
from editing.judges import population
from editing.judges.judge import NAMES, SAME_PERSON, judge
from editing.text import mapper, reading
from editing.types import Inversion
from stylegan2 import checkpoints, engine, zoo
from stylegan2.allocator import tune_allocator
from stylegan2.files import replacing

DONE, BARE = 1.5, -1.2
LOOSE = ("age", "male")  # sentences about these are not asked for identity


def faces(generator, held: Path, photos: Path | None, count: int):
    """(name, inversion) of generated faces and of photos' inversions."""
    for path in sorted(photos.glob("*.inversion")) if photos else ():
        yield path.stem, Inversion.load(path)
    table = sampling.load(held)
    for i in range(min(count, len(table["w"]))):
        ws = engine.broadcast(generator, torch.from_numpy(table["w"][i])[None])
        yield f"generated-{i:03d}", Inversion(ws=ws, family=generator.family)


def judged(generator, inversion: Inversion) -> tuple[np.ndarray, np.ndarray]:
    """-> scores (J,) and descriptor (128,), nan where no face is found"""
    with torch.no_grad():
        picture = engine.to_uint8(generator.synthesis(inversion.ws, inversion.deltas, inversion.features))[0]
    scores = judge(picture)
    if scores is None:
        return np.full(len(NAMES), np.nan), np.full(128, np.nan)
    return np.array([scores.values[name] for name in NAMES]), scores.descriptor


def measure(options) -> None:
    tune_allocator()
    generator = checkpoints.load(zoo.path("mobilestylegan-ffhq-1024"))
    chosen, reader = mapper.load(), reading.load()
    rows = json.loads(options.sentences.read_text(encoding="utf-8"))
    read = [reader.read(row["text"]) for row in rows]
    options.work.mkdir(parents=True, exist_ok=True)
    todo = list(faces(generator, options.held, options.photos, options.count))[options.part[0] :: options.part[1]]
    for name, inversion in todo:
        path = options.work / f"{name}.npz"
        if path.exists():
            continue
        before, who = judged(generator, inversion)
        after, others, seconds = [], [], []
        for found in read:
            if not found.wants and found.age is None:
                after.append(before)
                others.append(who)
                continue
            started = time.monotonic()
            ws = chosen(inversion.ws, found.wants, age=found.age)
            seconds.append(time.monotonic() - started)
            scores, descriptor = judged(generator, replace(inversion, ws=ws))
            after.append(scores)
            others.append(descriptor)
        with replacing(path) as part, open(part, "wb") as file:
            distance = np.linalg.norm(np.array(others) - who, axis=1)
            np.savez(file, before=before, after=np.array(after), distance=distance, seconds=np.array(seconds))
        print(name, flush=True)


def standard(scores: np.ndarray) -> np.ndarray:
    """(..., J) -> standard deviations of the population"""
    known = population.load()
    mean, deviation = (np.array([known[name][i] for name in NAMES]) for i in (0, 1))
    return (scores - mean) / deviation


def row_of(row: dict, found, before: np.ndarray, after: np.ndarray, distance: np.ndarray) -> dict:
    """One sentence on all faces: before, after (N, J) in standard deviations, distance (N,) of descriptors."""
    change = after - before
    right, moved = [], []
    for name, sign in row["wants"].items():
        column = NAMES.index(name)
        done = before[:, column] * sign > DONE
        if name == "glasses" and sign < 0:
            done = before[:, column] < (BARE - population.load()[name][0]) / population.load()[name][1]
        right.append(np.where(done, np.nan, change[:, column] * sign > 0))
        right[-1][~done & np.isnan(change[:, column])] = 0  # the face was lost, or what is judged is hardly there
        moved.append(np.where(done, np.nan, np.abs(change[:, column])))
    beside = mapper.along(list(found.wants)) | {*row["wants"], *found.judged}
    others = [NAMES.index(name) for name in NAMES if name not in beside]
    return {
        "text": row["text"], "kind": row.get("kind", ""), "right": np.array(right),
        "moved": float(np.nanmean(moved)) if np.isfinite(moved).any() else 0.0,
        "others": float(np.nanmean(np.abs(change[:, others]))),
        "same": None if set(LOOSE) & set(row["wants"]) else np.nan_to_num(distance, nan=9.0) < SAME_PERSON,
    }  # fmt: skip


def interval(per_sentence: list[float], seed: int = 0) -> str:
    """Bootstrap over sentences, 95%."""
    rng, values = np.random.default_rng(seed), np.array(per_sentence)
    means = [values[rng.integers(len(values), size=len(values))].mean() for _ in range(2000)]
    return f"[{np.quantile(means, 0.025):.3f}, {np.quantile(means, 0.975):.3f}]"


def line(f: dict) -> str:
    same = "  -" if f["same"] is None else f"{f['same'].mean():.2f}"
    moves = f"{f['moved']:.2f} moved {f['others']:.2f} others {same} same"
    return f"{np.nanmean(f['right']):.2f} right {moves}  {f['text']}"


def table(options) -> None:
    every = json.loads(options.sentences.read_text(encoding="utf-8"))
    numbers = [i for i, row in enumerate(every) if row["wants"]]
    reader = reading.load()
    read = [reader.read(every[i]["text"]) for i in numbers]
    paths = sorted(options.work.glob("*.npz"))
    generated = [path for path in paths if path.stem.startswith("generated")]
    photos = [path for path in paths if path not in generated]
    for kind, files in (("generated faces", generated), ("photos", photos), ("all", paths)):
        if not files:
            continue
        shards = [np.load(path) for path in files]
        before, after = (standard(np.stack([shard[key] for shard in shards])) for key in ("before", "after"))
        distance = np.stack([shard["distance"] for shard in shards])
        found = [row_of(every[i], r, before, after[:, i], distance[:, i]) for r, i in zip(read, numbers, strict=True)]
        found = [f for f in found if np.isfinite(f["right"]).any()]
        shares = [float(np.nanmean(f["right"])) for f in found]
        ratios = np.array([f["others"] / f["moved"] for f in found if f["moved"]])  # 0: it was not understood
        same = [float(f["same"].mean()) for f in found if f["same"] is not None]
        beside = np.mean([f["others"] for f in found]) / np.mean([f["moved"] for f in found])
        seconds = np.concatenate([shard["seconds"] for shard in shards])
        print(f"\n{kind}: {len(files)} faces, {len(found)} sentences")
        print(f"named attributes move the right way: {np.mean(shares):.3f} {interval(shares)}")
        print(f"unnamed ones move {beside:.3f} of that; under a third in {np.mean(ratios < 1 / 3):.2f} of sentences")
        print(f"same person (distance < {SAME_PERSON}), age and gender apart: {np.mean(same):.3f} {interval(same)}")
        print(f"seconds beside the render: median {np.median(seconds):.4f}, largest {seconds.max():.3f}")
        if kind == "all" or options.verbose:
            print("\n".join(map(line, sorted(found, key=lambda f: np.nanmean(f["right"])))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("held", type=Path, help="judged faces, see editing.directions.sampling")
    parser.add_argument("work", type=Path)
    parser.add_argument("--sentences", type=Path, default=Path("tests/editing/text/sentences.json"))
    parser.add_argument("--photos", type=Path, help="a folder of inversions")
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--part", nargs=2, type=int, default=(0, 1), metavar=("K", "N"))
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--verbose", action="store_true", help="every sentence of every kind of face")
    options = parser.parse_args()
    table(options) if options.table else measure(options)


if __name__ == "__main__":
    main()
