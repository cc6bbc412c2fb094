"""Which directions the catalogue holds: data only.

`keep` lists the judges a fitted direction must leave alone.  `older_than` leaves younger faces out of the
fit: growing up and ageing are different changes, and a direction fitted to both does neither well (on
adults +3 gave 19 years fitted to everyone, 26 fitted to adults).  Old faces wear glasses more often, so
the age direction must be told to leave them alone: before that it drew a pair on nearly every man.
GANSpace's entries are the published ones (component, rows [start, end) in StyleGAN2's 18-row order, sign
of the published strength against our components) that do on a contact sheet what their name says; the
others were dropped or renamed.
"""

from __future__ import annotations

from dataclasses import dataclass

ALL = (0, 16)


@dataclass(frozen=True)
class Fitted:
    name: str
    judge: str
    group: str
    keep: tuple[str, ...]
    description: str
    rows: tuple[int, int] = ALL
    older_than: float | None = None


@dataclass(frozen=True)
class GANSpace:
    name: str
    component: int
    rows: tuple[int, int]
    sign: int
    group: str
    description: str
    judge: str = ""


POSE = ("yaw", "roll")
FITTED = (
    Fitted("smile", "smile", "expression", ("age", "male", *POSE), "a smile; negative: a serious mouth"),
    Fitted("mouth_open", "mouth_open", "expression", ("age", "male", *POSE), "an open mouth"),
    Fitted("eyes_open", "eye_open", "eyes", ("age", "male", "smile", *POSE), "eyes wider; negative: narrower", (2, 8)),
    Fitted("brows_up", "brow_raise", "expression", ("age", "male", "smile", *POSE), "raised brows", (2, 8)),
    Fitted("age", "age", "age", ("male", "smile", "glasses", *POSE), "older; negative: younger", older_than=22),
    Fitted("glasses", "glasses", "accessories", ("age", "male", "smile", *POSE), "glasses; negative: takes them off"),
    Fitted("masculine", "male", "gender", ("age", "smile", *POSE), "towards what the judge calls male"),
    Fitted("yaw", "yaw", "pose", ("age", "male", "smile", "roll"), "the head turns to the picture's right"),
    Fitted("pitch", "pitch", "pose", ("age", "male", "smile", *POSE), "the head tilts up; negative: down"),
    Fitted("face_width", "face_width", "shape", ("age", "male", *POSE), "a wider face; negative: narrower", (0, 6)),
)  # fmt: skip

GANSPACE = (
    GANSpace("huge_grin", 28, (4, 6), -1, "expression", "a grin with teeth; negative: lips closed", "smile"),
    GANSpace("displeased", 36, (4, 7), 1, "expression", "lips pressed, less smile; negative: a laugh", "smile"),
    GANSpace("in_awe", 23, (3, 6), -1, "expression", "mouth open without a smile; negative: a wide smile"),
    GANSpace("screaming", 35, (3, 7), -1, "expression", "mouth wide open; negative: closed", "mouth_open"),
    GANSpace("eye_wrinkles", 28, (6, 8), -1, "eyes", "laughter lines at the eyes; negative: smooth"),
    GANSpace("dark_brows", 43, (6, 8), 1, "eyes", "heavier, darker brows; negative: fainter"),
    GANSpace("mascara", 41, (6, 9), 1, "make-up", "darker lashes and eyes, in men also beard shadow"),
    GANSpace("hairline", 21, (4, 5), 1, "hair", "a higher hairline; negative: more hair over the forehead"),
    GANSpace("gray_hair", 57, (7, 10), -1, "hair", "grayer hair; negative: darker"),
    GANSpace("beard", 22, (3, 6), -1, "hair", "beard on faces judged male, elsewhere little that is good"),
    GANSpace("face_roundness", 37, (0, 5), 1, "shape", "a rounder face; negative: longer", "face_width"),
    GANSpace("short_face", 32, (2, 6), -1, "shape", "a shorter face; negative: longer", "face_width"),
    GANSpace("exposure", 27, (8, 18), 1, "light", "brighter; negative: darker"),
    GANSpace("warm_light", 13, (8, 9), 1, "light", "warmer light; negative: cooler"),
    GANSpace("face_light", 10, (8, 9), 1, "light", "pale light on the face; negative: warmer and darker"),
    GANSpace("background_blur", 49, (6, 9), -1, "background", "a smoother background; negative: more detail"),
)
