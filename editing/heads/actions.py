"""What a head can do to a face: a list of changes of W+, so that whatever it learns stays where faces are.

    actions = make(samples)                 # from judged faces, see `editing.directions.sampling`
    ws = moved(ws, amounts, actions.vectors)

Two kinds: edits of the catalogue, in their plain form, and *partial regressions*: how the codes of faces differ for a
standard deviation of one judge while the others of FITTED stay, on the coarse, middle or fine rows (a multivariate form
of InterFaceGAN's conditional manipulation, arXiv 2005.09635, section 3.3).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from editing.directions import catalogue
from editing.directions.catalogue import MERGED
from stylegan2.errors import UsageError

EDITS = (
    "smile", "mouth_open", "teeth", "wide_mouth", "eyes_open", "large_eyes", "brows_up", "strong_brows", "age",
    "face_width", "jaw_width", "chin_length", "nose_width", "full_lips", "lipstick", "blond", "golden_hair", "red_hair",
    "curls", "high_forehead", "hair_volume", "full_beard", "moustache", "skin_detail", "brightness", "contrast",
    "warmth", "saturation", "background_light", "yaw", "pitch",
)  # fmt: skip
FITTED = ("age", "male", "smile", "glasses", "hair_light", "hair_warm")
MORE_EDITS = (
    "eye_slant", "brow_slant", "light_eyes", "brown_eyes", "dark_lips", "blush", "eye_shadow", "eyeliner",
    "nose_length", "ruddy", "golden_skin", "tint", "side_light", "crispness", "background_detail",
)  # fmt: skip
MORE_FITTED = ("hair_red", "hair_long", "hair_texture", "fringe", "beard", "skin_light")
HELD = ("yaw", "pitch", "mouth_open", "beard", "hair_long", "exposure", "background_light")  # and not moved either
ROWS = {"coarse": (0, 4), "middle": (4, 9), "fine": (9, MERGED)}
LIMIT = 4.0  # of an amount, where the catalogue knows no safe range


@dataclass(frozen=True)
class Actions:
    """names (K); vectors (K, 16, w_dim), what an amount of 1 adds to the rows; limits (K, 2), amounts between which
    moves are learned."""

    names: Sequence[str]
    vectors: Tensor
    limits: Tensor

    def __len__(self) -> int:
        return len(self.names)

    def same(self, other: Actions) -> bool:
        """Whether amounts of both mean the same, as precisely as files of heads keep them."""
        return (
            list(self.names) == list(other.names)
            and torch.equal(self.vectors.half(), other.vectors.half())
            and torch.allclose(self.limits, other.limits)
        )


def make(samples: Mapping[str, np.ndarray], judges: Sequence[str], more: bool = False) -> Actions:
    """samples: `sampling.load`; judges: names of its columns of scores.  more: with those that only sentences ask for,
    after the others."""
    parts = [(EDITS, partial_regressions(samples, judges))]
    if more:
        parts.append((MORE_EDITS, partial_regressions(samples, judges, MORE_FITTED, (*FITTED, *HELD))))
    names, vectors, limits = [], [], []
    for edits, fitted in parts:
        for name, vector, limit in (*_edits(edits), *_regressions(fitted)):
            names.append(name)
            vectors.append(vector)
            limits.append(limit)
    return Actions(names, torch.stack(vectors), torch.tensor(limits, dtype=torch.float32))


Named = Iterator[tuple[str, Tensor, tuple[float, float]]]


def _edits(names: Sequence[str]) -> Named:
    known = catalogue.load()
    for name in names:
        direction = known[name]
        full = torch.zeros(MERGED, direction.vector.shape[-1])
        start, end = direction.rows
        full[start:end] = direction.vector if direction.vector.ndim == 1 else direction.vector[start:end]
        yield name, full, direction.safe_range or (-LIMIT, LIMIT)


def _regressions(fitted: Mapping[str, np.ndarray]) -> Named:
    for judge, vector in fitted.items():
        for part, (start, end) in ROWS.items():
            full = torch.zeros(MERGED, len(vector))
            full[start:end] = torch.from_numpy(vector)
            yield f"{judge}/{part}", full, (-LIMIT, LIMIT)


def partial_regressions(
    samples: Mapping[str, np.ndarray],
    judges: Sequence[str],
    fitted: Sequence[str] = FITTED,
    held: Sequence[str] = HELD,
) -> dict[str, np.ndarray]:
    """Judge of `fitted` -> what w changes by, (w_dim,), for a standard deviation of it, all others held."""
    columns = [judges.index(name) for name in (*fitted, *held)]
    scores = samples["scores"][:, columns].astype(np.float64)
    scores = np.nan_to_num((scores - np.nanmean(scores, 0)) / np.nanstd(scores, 0))
    w = samples["w"].astype(np.float64)
    change, *_ = np.linalg.lstsq(np.c_[scores, np.ones(len(scores))], w, rcond=None)
    return {name: change[i].astype(np.float32) for i, name in enumerate(fitted)}


def spread(vectors: Tensor, num_ws: int) -> Tensor:
    """(K, 16, w_dim) -> (K, num_ws, w_dim): rows that the default generator merges share its last one's change."""
    if num_ws < MERGED:
        raise UsageError(f"Heads move codes of {MERGED} rows or more; this one has {num_ws}.")
    return vectors[:, torch.arange(num_ws).clamp(max=MERGED - 1)]


def moved(ws: Tensor, amounts: Tensor, vectors: Tensor) -> Tensor:
    """ws (B, num_ws, w_dim), amounts (B, K) -> a new ws."""
    return ws + torch.einsum("bk,krd->brd", amounts.to(ws), spread(vectors, ws.shape[1]).to(ws))
