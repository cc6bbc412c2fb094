"""What small moves of an edited face's code do to every judge: seen by the way, explained by the judges' slopes.

Whenever a form of an edit is measured, every face is drawn with a disturbance of its own on top: a little of all moves
at once, the next time the opposite.  Over many faces that hardly changes the mean, and what it does change is known;
but what a face's two disturbances do differently says what the moves do just there, at the cost of no further picture.

A judge's slope (`own.slopes`) says what moves it over whole codes.  On a band of rows a move has a share of that
effect, and the share differs from judge to judge: a nose is made by the coarse rows, a tint by the fine ones.  So few
numbers, a share for every judge and band, say most of what all of `moves` do to all judges; a ridge regression adds the
rest, and another what is so at one end only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from editing.directions.calibrate import Case, draw
from editing.directions.catalogue import MERGED, Direction
from editing.directions.own import slopes
from editing.judges import population
from editing.judges.judge import judge
from editing.steps import apply_step
from editing.types import Inversion, latent_step
from stylegan2 import w_statistics
from stylegan2.generator import Generator

BANDS = ((0, 4), (4, 7), (7, 10), (10, MERGED))
STEP = 1.5  # whitened units of w that a move is long
SPREAD = 0.07  # standard deviation of a disturbance's amount of every move
DRIFT = (0.018, 0.019, 0.004, 0.002)  # what a move on a band adds to the drift's square, by 900 handfuls of moves
RIDGE, OWN_RIDGE = 30.0, 30.0


@dataclass(frozen=True)
class Changed:
    """A face after something: change (J,) of all judges in standard deviations of the population, nan where unseen;
    drift, the dlib distance to the face before, nan where no face is found any more."""

    change: np.ndarray
    drift: float


@dataclass(frozen=True)
class Seen:
    """Faces after one end of an edit and amounts of the moves, a row each: face (n,) which one, amounts (n, K + 1) of
    the moves and of the edit's own beginning (1 doubles it), change (n, J) and drift (n,) as `Changed`."""

    face: np.ndarray
    amounts: np.ndarray
    change: np.ndarray
    drift: np.ndarray

    def with_faces(self, faces: np.ndarray) -> Seen:
        rows = np.isin(self.face, faces)
        return Seen(self.face[rows], self.amounts[rows], self.change[rows], self.drift[rows])

    @staticmethod
    def joined(parts: Sequence[Seen]) -> Seen:
        names = ("face", "amounts", "change", "drift")
        return Seen(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


@dataclass(frozen=True)
class Effects:
    """What the moves, and the edit itself as the last, do at one end, each for an amount of 1: judges (K + 1, J) in
    standard deviations; drift (K,), what a move adds to the square of the dlib distance."""

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


def added(begun: Tensor, moves: Tensor, amounts: np.ndarray) -> Tensor:
    """What an edit's end adds to a code, rows (16, 512), after amounts (K + 1,) of the moves and of what it began with
    (16, 512)."""
    of_moves = torch.einsum("k,krc->rc", torch.from_numpy(amounts[:-1]).float(), moves)
    return begun * float(1 + amounts[-1]) + of_moves


def changed(generator: Generator, face: Case, rows: Tensor) -> Changed:
    """A face after rows (16, 512) were added to its code."""
    names, _, spread = population.arrays()
    step, whole = latent_step("probe", 1.0), Direction("probe", rows, (0, MERGED))
    edited: Inversion = apply_step(face.inversion, step, {"probe": whole})
    after = judge(draw(generator, edited))
    if after is None:
        return Changed(np.full(len(names), np.nan), np.nan)
    moved = np.array([after.values[name] - face.before.values[name] for name in names]) / spread
    return Changed(moved, float(np.linalg.norm(np.subtract(after.descriptor, face.before.descriptor))))


def disturbances(end: int, turn: int, faces: int, moves: int) -> np.ndarray:
    """(faces, moves + 1) amounts on top of a form for every face's `turn` at this end: an odd one is the opposite of
    the even one before it.  The edit itself, the last, is left alone."""
    amounts = np.random.default_rng([turn // 2, end]).normal(0, SPREAD, (faces, moves)) * (-1) ** turn
    return np.hstack([amounts, np.zeros((faces, 1))])


def look(generator: Generator, faces: Sequence[Case], which: Sequence[int], begun: Tensor, moves: Tensor,
         amounts: np.ndarray) -> Seen:  # fmt: skip
    """Some of the faces drawn and judged after amounts (faces, K + 1) of the moves."""
    found = [changed(generator, faces[i], added(begun, moves, amounts[i])) for i in which]
    return Seen(np.array(which), amounts[list(which)], np.array([one.change for one in found]),
                np.array([one.drift for one in found]))  # fmt: skip


def effects(seen: Sequence[Seen]) -> list[Effects]:
    """What the moves do at each of the ends.  What a face does without them differs from face to face and is not
    looked at: only what differs between its rows is."""
    ways = STEP * unit_slopes() @ np.stack([slopes()[name] for name in population.load()]).T
    tables = [centred(table) for table in seen]
    amounts, changes = (np.vstack([table[i] for table in tables]) for i in (0, 1))
    known = shared(amounts[:, :-1], changes, ways)
    drift = np.tile(DRIFT, amounts[:, :-1].shape[1] // len(DRIFT))
    found = []
    for one, (own_amounts, own_changes) in zip(seen, tables, strict=True):
        begun = mean((one.change - one.amounts[:, :-1] @ known) / (1 + one.amounts[:, -1:]))
        judges = np.vstack([known, begun])
        judges = judges + ridge(own_amounts, own_changes - own_amounts @ judges, OWN_RIDGE)
        found.append(Effects(judges, drift))
    return found


def centred(seen: Seen) -> tuple[np.ndarray, np.ndarray]:
    """Amounts and changes as differences from the mean of the same face's rows.  Where a judge sees nothing: 0."""
    amounts, changes = [], []
    for face in np.unique(seen.face):
        rows = (seen.face == face) & np.isfinite(seen.drift)
        if rows.sum() > 1:
            amounts.append(seen.amounts[rows] - seen.amounts[rows].mean(0))
            changes.append(np.nan_to_num(seen.change[rows] - seen.change[rows].mean(0)))
    width = seen.amounts.shape[1], seen.change.shape[1]
    return np.vstack([np.zeros((0, width[0])), *amounts]), np.vstack([np.zeros((0, width[1])), *changes])


def shared(amounts: np.ndarray, changes: np.ndarray, ways: np.ndarray) -> np.ndarray:
    """amounts (n, K) and changes (n, J) -> what the moves do at any end (K, J).  ways (J, J): what every judge's slope
    says of every judge's move on whole codes."""
    bands = len(BANDS)
    foretold = np.einsum("nib,ij->njb", amounts.reshape(len(amounts), -1, bands), ways)
    shares = []
    for judged in range(changes.shape[1]):
        x, square = foretold[:, judged], foretold[:, judged].T @ foretold[:, judged]
        soft = (1e-3 * np.trace(square) / bands + 1e-9) * np.eye(bands)
        shares.append(np.linalg.solve(square + soft, x.T @ changes[:, judged]))
    judges = np.einsum("ij,jb->ibj", ways, np.array(shares)).reshape(-1, changes.shape[1])
    return judges + ridge(amounts, changes - amounts @ judges, RIDGE)


def ridge(amounts: np.ndarray, changes: np.ndarray, strength: float) -> np.ndarray:
    return np.linalg.solve(amounts.T @ amounts + strength * np.eye(amounts.shape[1]), amounts.T @ changes)


def mean(changes: np.ndarray) -> np.ndarray:
    """(n, J) -> (J,) of those that are seen, 0 where none is."""
    return np.nansum(changes, 0) / np.maximum(np.isfinite(changes).sum(0), 1)


def foretold(seen: Seen, known: Effects, amounts: np.ndarray) -> tuple[np.ndarray, float]:
    """The mean change (J,) of all faces seen at this end and their median drift after amounts (K + 1,) of the moves:
    for every face from that row of it which is nearest."""
    changes, squares = [], []
    for face in np.unique(seen.face[np.isfinite(seen.drift)]):
        rows = np.flatnonzero((seen.face == face) & np.isfinite(seen.drift))
        row = rows[np.argmin(((seen.amounts[rows] - amounts) ** 2).sum(1))]
        there = seen.amounts[row]
        changes.append(seen.change[row] + (amounts - there) @ known.judges)
        more = known.drift @ (amounts[:-1] ** 2 - there[:-1] ** 2)
        squares.append((seen.drift[row] * (1 + amounts[-1]) / (1 + there[-1])) ** 2 + more)
    return mean(np.array(changes)), float(np.sqrt(max(np.median(squares), 1e-6)))
