"""Labelled samples for fitting directions: latents of the data engine with what the judges say of each.

    python -m editing.directions.sampling out/ --count 4000 --psi 0.8

    python -m editing.directions.sampling out/ --rescore      # finished shards again, once judges were added or changed

writes shards of 200 (w, scores, landmarks, descriptor, 256-pixel picture) and goes on where it was
killed.  A face the judge does not find is recorded as NaN and left out of every fit.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from editing.judges.judge import NAMES, judge, looks, male_of
from editing.judges.landmarks import measure
from stylegan2 import checkpoints, console, engine, zoo
from stylegan2.allocator import tune_allocator
from stylegan2.errors import UsageError
from stylegan2.files import replacing
from stylegan2.generator import Generator

SHARD = 200
FIRST_SEED = 1_000_000
JUDGES = NAMES
FIRST_JUDGES = (  # of shards that do not say
    "age", "male", "smile", "mouth_open", "eye_open", "brow_raise", "yaw", "pitch", "roll", "face_width", "glasses",
)  # fmt: skip
RESOLUTION = 1024  # of the pictures that landmarks refer to


def sample_shard(generator: Generator, seeds: range, psi: float) -> dict[str, np.ndarray]:
    """seeds -> arrays: w (N, 512), scores (N, judges), descriptor (N, 128),
    landmarks (N, 68, 2), picture (N, 256, 256, 3)."""
    rows: dict[str, list] = {"w": [], "scores": [], "descriptor": [], "landmarks": [], "picture": []}
    for _, w, picture in engine.faces(generator, seeds, psi):
        scores = judge(picture)
        small = picture.reshape(256, picture.shape[0] // 256, 256, -1, 3).mean((1, 3)).round().astype(np.uint8)
        rows["w"].append(w.numpy())
        rows["picture"].append(small)
        rows["scores"].append([scores.values[name] if scores else np.nan for name in JUDGES])
        rows["descriptor"].append(scores.descriptor if scores else np.full(128, np.nan))
        rows["landmarks"].append(scores.landmarks if scores else np.full((68, 2), np.nan))
    types = {"picture": np.uint8}
    arrays = {name: np.asarray(values, dtype=types.get(name, np.float32)) for name, values in rows.items()}
    return arrays | {"names": np.array(JUDGES)}


def load(folder: Path) -> dict[str, np.ndarray]:
    """All shards of a folder, concatenated, without the faces that the judge did not find; scores may be nan where a
    judge had nothing to measure."""
    shards = [np.load(path) for path in sorted(folder.glob("[0-9]*.npz"))]
    if not shards:
        raise UsageError(f"{folder} holds no judged faces: make some with python -m editing.directions.sampling")
    named = [name for name in shards[0].files if name != "names"]
    table = {name: np.concatenate([shard[name] for shard in shards]) for name in named}
    found = np.isfinite(table["descriptor"]).all(1)
    return {name: values[found] for name, values in table.items()}


def rescored(shard: dict[str, np.ndarray], names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """A finished shard, whose scores have these names, with today's judges: from its landmarks and small pictures.

    Age and glasses, which need the large picture, stay as they were.
    """
    rows = []
    for scores, landmarks, picture in zip(shard["scores"], shard["landmarks"], shard["picture"], strict=True):
        if not np.isfinite(landmarks).all():
            rows.append([np.nan] * len(JUDGES))
            continue
        points = (landmarks.astype(np.float64) + 0.5) * (len(picture) / RESOLUTION) - 0.5
        values = dict(zip(names, scores, strict=True)) | measure(landmarks.astype(np.float64)) | looks(picture, points)
        values["male"] = male_of(picture)
        rows.append([values[name] for name in JUDGES])
    return shard | {"scores": np.array(rows, dtype=np.float32), "names": np.array(JUDGES)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=4000)
    parser.add_argument("--psi", type=float, default=0.8)
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    parser.add_argument("--rescore", action="store_true")
    parser.add_argument(
        "--part", nargs=2, type=int, default=(0, 1), metavar=("K", "N"), help="every N-th shard, from K"
    )
    options = parser.parse_args()
    if options.rescore:
        for path in sorted(options.folder.glob("[0-9]*.npz"))[options.part[0] :: options.part[1]]:
            shard = dict(np.load(path))
            names = tuple(map(str, shard["names"])) if "names" in shard else FIRST_JUDGES
            with replacing(path) as part, open(part, "wb") as stream:
                np.savez(stream, **rescored(shard, names))
            print(path, flush=True)
        return
    tune_allocator()
    generator = checkpoints.load(zoo.path("mobilestylegan-ffhq-1024"))
    options.folder.mkdir(parents=True, exist_ok=True)
    starts = range(options.first_seed, options.first_seed + options.count, SHARD)
    for start in starts[options.part[0] :: options.part[1]]:
        path = options.folder / f"{start}.npz"
        if not path.exists():
            with replacing(path) as part:
                np.savez(part, **sample_shard(generator, range(start, start + SHARD), options.psi))
            print(path, flush=True)


if __name__ == "__main__":
    console.plain(main)
