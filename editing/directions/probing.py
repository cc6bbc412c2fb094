"""What small moves of a face's code do to every judge: measured on handfuls of them, explained by the judges' slopes.

A judge's slope (`own.slopes`) says what moves it over whole codes.  On a band of rows a move has a share of that
effect, and the share differs from judge to judge: a nose is made by the coarse rows, a tint by the fine ones.  So few
numbers, a share for every judge and band, say what all of `moves` do to all judges; a ridge regression adds the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor

from editing.directions.calibrate import Case, draw
from editing.directions.catalogue import MERGED, Direction
from editing.directions.own import slopes
from editing.judges import population
from editing.judges.judge import judge
from editing.steps import apply_step
from editing.types import Inversion, latent_step
from stylegan2 import w_statistics
from stylegan2.files import replacing
from stylegan2.generator import Generator

BANDS = ((0, 4), (4, 7), (7, 10), (10, MERGED))
STEP = 1.5  # whitened units of w that a move is long
PROBES, SHARD, HANDFUL = 900, 20, 4  # faces that are moved, to a file, and moves of each
RIDGE, LEAST_DRIFT = 100.0, 0.002


@dataclass(frozen=True)
class Changed:
    """A face after something: change (J,) of all judges in standard deviations of the population, nan where unseen;
    drift, the dlib distance to the face before, nan where no face is found any more."""

    change: np.ndarray
    drift: float


@dataclass(frozen=True)
class Effects:
    """What the moves do, each for an amount of 1: judges (K, J) in standard deviations; drift (K,) what it adds to the
    square of the dlib distance."""

    judges: np.ndarray
    drift: np.ndarray


def moves() -> Tensor:
    """(judges * bands, 16, 512): every judge's steepest way in whitened W, STEP long, on each band of rows."""
    statistics, found = w_statistics.load(), []
    for slope in unit_slopes():
        vector = STEP * torch.from_numpy(slope).float() * statistics.stdev @ statistics.components
        for start, end in BANDS:
            rows = torch.zeros(MERGED, 512)
            rows[start:end] = vector
            found.append(rows)
    return torch.stack(found)


def unit_slopes() -> np.ndarray:
    """(J, 512) in whitened W, of length 1."""
    found = np.stack([slopes()[name] for name in population.load()])
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def changed(generator: Generator, face: Case, added: Tensor) -> Changed:
    """A face after rows (16, 512) were added to its code."""
    names, _, spread = population.arrays()
    step, whole = latent_step("probe", 1.0), Direction("probe", added, (0, MERGED))
    edited: Inversion = apply_step(face.inversion, step, {"probe": whole})
    after = judge(draw(generator, edited))
    if after is None:
        return Changed(np.full(len(names), np.nan), np.nan)
    moved = np.array([after.values[name] - face.before.values[name] for name in names]) / spread
    return Changed(moved, float(np.linalg.norm(np.subtract(after.descriptor, face.before.descriptor))))


def handful(index: int, faces: int, ends: int, moves: int) -> tuple[int, int, np.ndarray]:
    """The probe of this number: which face, after which of the ends (-1: none), and the amounts (K,) of the moves."""
    random = np.random.default_rng(1000 + index)
    face, end, amounts = int(random.integers(faces)), int(random.integers(ends + 1)) - 1, np.zeros(moves)
    amounts[random.choice(moves, HANDFUL, replace=False)] = random.normal(0, 1, HANDFUL)
    return face, end, amounts


def probe(generator: Generator, faces: Sequence[Case], ends: Sequence[Tensor], moves: Tensor, folder: Path,
          part: tuple[int, int]) -> None:  # fmt: skip
    """Handfuls of the moves (K, 16, 512) after each of the ends (16, 512), judged: into shards of `folder`."""
    for shard in shards()[part[0] :: part[1]]:
        path = folder / f"probes-{shard:04d}.npz"
        if path.exists():
            continue
        found = []
        for index in range(shard, shard + SHARD):
            face, end, amounts = handful(index, len(faces), len(ends), len(moves))
            added = torch.einsum("k,krc->rc", torch.from_numpy(amounts).float(), moves)
            found.append(changed(generator, faces[face], added + ends[end] if end >= 0 else added))
        with replacing(path) as unfinished, open(unfinished, "wb") as stream:
            np.savez(stream, change=[one.change for one in found], drift=[one.drift for one in found])


def shards() -> range:
    return range(0, PROBES, SHARD)


def effects(folder: Path, begun: Sequence[np.ndarray]) -> Effects:
    """What `probe` found; begun: the changes (faces, J) that each end makes by itself."""
    amounts, changes, squares, ends = [], [], [], []
    bands, faces = len(BANDS), len(begun[0])
    for shard in shards():
        table = np.load(folder / f"probes-{shard:04d}.npz")
        for index, change, drift in zip(range(shard, shard + SHARD), table["change"], table["drift"], strict=True):
            face, end, own = handful(index, faces, len(begun), bands * begun[0].shape[1])
            if np.isfinite(drift):
                amounts.append(own)
                changes.append(np.nan_to_num(change - (begun[end][face] if end >= 0 else 0)))
                squares.append(drift**2)
                ends.append(end)
    return fitted(np.array(amounts), np.array(changes), np.array(squares), np.array(ends))


def fitted(amounts: np.ndarray, changes: np.ndarray, squares: np.ndarray, ends: np.ndarray) -> Effects:
    """amounts (n, K), changes (n, J), squares (n,) of the drift and ends (n,) of n probes -> the effects."""
    bands = len(BANDS)
    along = STEP * unit_slopes() @ np.stack([slopes()[name] for name in population.load()]).T  # (moved, judge)
    by_band = amounts.reshape(len(amounts), -1, bands)
    foretold = np.einsum("nib,ij->njb", by_band, along)
    shares = []
    for judged in range(changes.shape[1]):
        x, square = foretold[:, judged], foretold[:, judged].T @ foretold[:, judged]
        shares.append(np.linalg.solve(square + 1e-3 * np.trace(square) / bands * np.eye(bands),
                                      x.T @ changes[:, judged]))  # fmt: skip
    judges = np.einsum("ij,jb->ibj", along, np.array(shares)).reshape(-1, changes.shape[1])
    left = changes - amounts @ judges
    judges += amounts.T @ np.linalg.solve(amounts @ amounts.T + RIDGE * np.eye(len(amounts)), left)
    apart = np.eye(ends.max() + 2)[ends + 1]  # every end has a drift of its own
    drift = nnls(np.hstack([apart, (by_band**2).sum(1)]), squares)[0][-bands:]
    return Effects(judges, np.tile(np.maximum(drift, LEAST_DRIFT), by_band.shape[1]))
