"""Between what heads translate: domains that judges tell apart, pairs of them, instances, labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from editing.judges.judge import NAMES

FLIPPED, NEARER = 0.9, 0.55  # standard deviations beyond a threshold that are asked for, and where who it is matters


@dataclass(frozen=True)
class Domain:
    """Faces that a judge has below or above a number."""

    judge: str
    sign: int
    bound: float

    def holds(self, scores: np.ndarray) -> np.ndarray:
        return self.sign * (scores[:, NAMES.index(self.judge)] - self.bound) > 0


@dataclass(frozen=True)
class Pair:
    """Two domains, what may change on the way between them, and how dear who somebody is.  threshold: between them;
    regressions: whether partial regressions may be used, or edits of the catalogue alone (a judge that is measured from
    landmarks is met by moves that nobody would call a smile); beyond: standard deviations past the threshold, there
    and back; signs: whether what goes with the domain, as the other free judges see it, has to be there, too."""

    a: Domain
    b: Domain
    threshold: float
    free: Sequence[str] = ()
    identity: float = 1.0
    regressions: bool = True
    beyond: tuple[float, float] = (FLIPPED, FLIPPED)
    signs: bool = False

    @property
    def judge(self) -> str:
        return self.a.judge


def _all_but(*names: str) -> tuple[str, ...]:
    return tuple(name for name in NAMES if name not in names)


HAIR = ("hair_light", "hair_warm", "hair_red", "hair_texture", "brow_dark")
AGED = ("age", "skin_texture", "hair_light", "hair_warm", "hair_red", "brow_dark", "brow_thick", "jaw_wide", "glasses",
        "beard", "moustache", "hair_long", "forehead")  # fmt: skip
MALE = ("male", "beard", "moustache", "hair_long", "hair_volume", "brow_thick", "brow_dark", "jaw_wide", "lip_red",
        "face_width", "skin_texture", "eye_shadow", "eye_dark", "fringe", "forehead", "hair_texture")  # fmt: skip
SMILE = ("smile", "mouth_open", "teeth", "mouth_wide", "face_width", "eye_open", "eye_size", "lip_full", "jaw_wide")
GLASSES = ("glasses", "eye_shadow", "eye_dark", "iris_light", "iris_warm", "brow_dark", "brow_thick", "eye_size")
PAIRS: Mapping[tuple[str, str], Pair] = {
    ("young", "old"): Pair(Domain("age", -1, 28), Domain("age", 1, 48), 38, AGED, 0.1, False, (FLIPPED, 1.6)),
    ("dark", "blond"): Pair(
        Domain("hair_light", -1, 16), Domain("hair_light", 1, 42), 29, HAIR, beyond=(FLIPPED, NEARER)
    ),
    ("bare", "glasses"): Pair(
        Domain("glasses", -1, -1.5), Domain("glasses", 1, -0.4), -0.9, GLASSES, 2.0, beyond=(NEARER, NEARER)
    ),
    ("serious", "smiling"): Pair(
        Domain("smile", -1, 0.95), Domain("smile", 1, 1.3), 1.12, SMILE, regressions=False, beyond=(NEARER, FLIPPED),
        signs=True,
    ),
}  # fmt: skip
COLOURS = ("hair_light", "hair_red", "hair_warm", "skin_light", "exposure", "contrast", "warmth", "tint",
           "background_light", "background_detail", "clothes_light", "colourful")  # fmt: skip
STILL = ("yaw", "pitch", "roll", "face_width", "jaw_wide")  # or the instance would not fit the face
INSTANCES: Mapping[tuple[str, str], tuple[Pair, tuple[str, str]]] = {  # and its regions, both ways
    ("bare", "glasses"): (
        Pair(Domain("glasses", -1, -1.5), Domain("glasses", 1, -0.4), -0.9, _all_but(*STILL, "male", "age"), 0.3),
        ("glasses+eyes~8", "glasses+eyes~8"),
    ),
    ("short", "long"): (
        Pair(Domain("hair_long", -1, 0.25), Domain("hair_long", 1, 1.5), 0.8, _all_but(*STILL, *COLOURS), 0.0),
        ("hair~2", "paint:hair~5"),
    ),
}
LABELS: Mapping[str, Domain] = {
    "black_hair": Domain("hair_light", -1, 16), "brown_hair": Domain("hair_light", 1, 16),
    "blond_hair": Domain("hair_light", 1, 42), "male": Domain("male", 1, -2), "young": Domain("age", -1, 32),
    "smiling": Domain("smile", 1, 1.12), "glasses": Domain("glasses", 1, -0.9),
}  # fmt: skip
GROUPS = (("black_hair", "brown_hair", "blond_hair"),)  # one of which holds at a time
COLUMNS = [[list(LABELS).index(name) for name in group] for group in GROUPS]
FREE = {"black_hair": HAIR, "brown_hair": HAIR, "blond_hair": HAIR, "male": MALE, "young": AGED, "smiling": SMILE,
        "glasses": GLASSES}  # fmt: skip


def labels_of(scores: np.ndarray) -> np.ndarray:
    """(N, J) -> (N, L) of 0 and 1; one hair colour each"""
    found = np.stack([domain.holds(scores) for domain in LABELS.values()], 1).astype(np.float32)
    names = list(LABELS)
    found[:, names.index("brown_hair")] *= 1 - found[:, names.index("blond_hair")]
    return found
