"""Batches of samples by number, so that any training can go on anywhere; and real photos, which have no codes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from encoders import samples
from stylegan2 import engine, w_statistics
from stylegan2.errors import UsageError
from stylegan2.generator import Generator

HELD_OUT = 1  # shards that are never trained on: they say how well it does
PHOTOS = ("JPEG", "PNG")  # formats that are read


def epoch_order(count: int, batch: int, number: int, seed: int) -> np.ndarray:
    """Which of `count` things are in batch `number`: every epoch shows each once, in an order of its own."""
    places = np.arange(batch * number, batch * (number + 1))
    orders = {e: np.random.default_rng((seed, e)).permutation(count) for e in np.unique(places // count)}
    return np.array([orders[place // count][place % count] for place in places])


class Data:
    """The samples of some folders: their codes, whitened, and their pictures."""

    def __init__(self, generator: Generator, folders: list[Path], size: int, seed: int) -> None:
        statistics, codes = w_statistics.load(), []
        self.shards: list[np.ndarray] = []
        for folder in folders:
            shards, first, recipe = samples.read(folder)
            for start, shard in zip(first, shards, strict=True):
                ws = samples.codes(generator, range(start, start + len(shard)), recipe).cpu()
                codes.append(statistics.whiten(ws).half())
                self.shards.append(shard)
        if len(self.shards) <= HELD_OUT:
            raise UsageError(f"There are {len(self.shards)} shards of samples; training needs {HELD_OUT + 1} or more.")
        self.codes, self.size, self.seed = torch.cat(codes), size, seed
        self.places = [(shard, row) for shard, rows in enumerate(self.shards) for row in range(len(rows))]
        self.held_out = sum(len(shard) for shard in self.shards[:HELD_OUT])

    def __len__(self) -> int:
        return len(self.codes) - self.held_out

    def indices(self, batch: int, number: int) -> np.ndarray:
        """The samples of batch `number`: every epoch its own order."""
        return self.held_out + epoch_order(len(self), batch, number, self.seed)

    def pictures(self, indices: np.ndarray) -> Tensor:
        """-> (B, 3, size, size) in [-1, 1]"""
        stack = np.stack([self.shards[shard][row] for shard, row in (self.places[index] for index in indices)])
        return engine.area_resize(engine.to_float(stack), self.size)


class Photos:
    """Real photos, aligned crops of a user's folder: pictures without codes."""

    def __init__(self, folder: Path, size: int, seed: int) -> None:
        self.paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
        self.size, self.seed = size, seed
        if not self.paths:
            raise UsageError(f"There are no photos in {folder}.")

    def pictures(self, count: int, number: int) -> Tensor:
        """`count` photos drawn for batch `number` -> (count, 3, size, size) in [-1, 1]"""
        from PIL import Image

        pictures = []
        for index in np.random.default_rng((self.seed, 2, number)).integers(0, len(self.paths), count):
            with Image.open(self.paths[index], formats=PHOTOS) as picture:
                pictures.append(np.asarray(picture.convert("RGB").resize((self.size, self.size), Image.Resampling.BOX)))
        return engine.to_float(np.stack(pictures))
