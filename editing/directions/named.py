"""Which directions may be in the catalogue: data only; those that keep its promises are (`calibrate`).

`keep` lists the judges a fitted direction must leave alone; None: it leaves all others alone, softly, and the
descriptor of the person as well (`fit.softly`), and `firm` ones firmly.  Rows were chosen by what each range moved
before the person changed too much.  `older_than` leaves younger faces out of the fit: growing up and ageing are
different changes, and a direction fitted to both does neither well (on adults +3 gave 19 years fitted to everyone, 26
fitted to adults).  Old faces wear glasses more often, so the age direction must be told to leave them alone: before
that it drew a pair on nearly every man.  GANSpace's entries are the published ones (component, rows [start, end) in
StyleGAN2's 18-row order, sign of the published strength against our components) that do on a contact sheet what their
name says; the others were dropped or renamed.  Channels are those of the many looked at that did one local thing.
"""

from __future__ import annotations

from dataclasses import dataclass

ALL, FINE = (0, 16), (7, 16)
LIGHT = ("exposure", "contrast", "warmth", "tint", "colourful", "skin_light", "skin_red", "skin_warm")


@dataclass(frozen=True)
class Fitted:
    name: str
    judge: str
    group: str
    keep: tuple[str, ...] | None
    description: str
    rows: tuple[int, int] = ALL
    older_than: float | None = None
    firm: tuple[str, ...] = ()


@dataclass(frozen=True)
class GANSpace:
    name: str
    component: int
    rows: tuple[int, int]
    sign: int
    group: str
    description: str
    judge: str = ""


@dataclass(frozen=True)
class Channels:
    """channels: (style, index, standard deviations for a strength of 1), see `stylespace`."""

    name: str
    channels: tuple[tuple[str, int, float], ...]
    group: str
    description: str
    judge: str


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
    Fitted("teeth", "teeth", "expression", None, "more teeth in the smile; negative: fewer"),
    Fitted("wide_mouth", "mouth_wide", "expression", None, "a wider mouth; negative: a smaller one"),
    Fitted("large_eyes", "eye_size", "eyes", None, "larger eyes; negative: smaller"),
    Fitted("eye_slant", "eye_tilt", "eyes", None, "outer corners of the eyes up; negative: down"),
    Fitted("brow_slant", "brow_tilt", "eyes", None, "outer ends of the brows up; negative: down"),
    Fitted("light_eyes", "iris_light", "eyes", None, "lighter irises; negative: darker", FINE, firm=LIGHT),
    Fitted("brown_eyes", "iris_warm", "eyes", None, "browner irises; negative: bluer", FINE, firm=LIGHT),
    Fitted("strong_brows", "brow_dark", "eyes", None, "darker brows; negative: paler", (4, 9), firm=LIGHT),
    Fitted("lipstick", "lip_red", "make-up", None, "redder lips; negative: paler", FINE, firm=LIGHT),
    Fitted("dark_lips", "-lip_light", "make-up", None, "darker lips; negative: lighter", FINE),
    Fitted("blush", "blush", "make-up", None, "rosier cheeks; negative: paler", FINE, firm=LIGHT),
    Fitted("eye_shadow", "eye_shadow", "make-up", None, "darker lids; negative: lighter"),
    Fitted("eyeliner", "eye_dark", "make-up", None, "darker lashes; negative: lighter", FINE, firm=LIGHT),
    Fitted("blond", "hair_light", "hair", None, "lighter hair; negative: darker"),
    Fitted("red_hair", "hair_red", "hair", None, "redder hair; negative: ashen", FINE, firm=LIGHT),
    Fitted("golden_hair", "hair_warm", "hair", None, "golden hair; negative: gray", FINE, firm=LIGHT),
    Fitted("curls", "hair_texture", "hair", None, "more strands and curls; negative: smoother hair", FINE, firm=LIGHT),
    Fitted("fringe", "fringe", "hair", None, "hair over the forehead; negative: off it"),
    Fitted("high_forehead", "forehead", "hair", None, "a higher hairline; negative: a lower one", (0, 5)),
    Fitted("long_hair", "hair_long", "hair", None, "longer hair; negative: shorter"),
    Fitted("hair_volume", "hair_volume", "hair", None, "more hair; negative: less", (2, 8)),
    Fitted("full_beard", "beard", "beard", None, "a darker chin, in men a beard; negative: shaven", firm=LIGHT),
    Fitted("moustache", "moustache", "beard", None, "a darker upper lip, in men a moustache", (4, 9), firm=LIGHT),
    Fitted("jaw_width", "jaw_wide", "shape", None, "a wider jaw; negative: a narrower one"),
    Fitted("chin_length", "chin_long", "shape", None, "a longer chin; negative: a shorter one", (0, 5)),
    Fitted("nose_length", "nose_long", "shape", None, "a longer nose; negative: a shorter one", (2, 8)),
    Fitted("nose_width", "nose_wide", "shape", None, "a wider nose; negative: a narrower one"),
    Fitted("full_lips", "lip_full", "shape", None, "fuller lips; negative: thinner"),
    Fitted("skin_detail", "skin_texture", "skin", None, "more lines and pores; negative: smoother skin", FINE),
    Fitted("shine", "shine", "skin", None, "shinier skin; negative: duller"),
    Fitted("ruddy", "skin_red", "skin", None, "redder skin; negative: paler", FINE),
    Fitted("golden_skin", "skin_warm", "skin", None, "warmer skin; negative: cooler", FINE),
    Fitted("brightness", "exposure", "light", None, "a brighter picture; negative: darker", FINE),
    Fitted("contrast", "contrast", "light", None, "more contrast; negative: less", FINE),
    Fitted("warmth", "warmth", "light", None, "warmer light; negative: cooler", FINE),
    Fitted("tint", "tint", "light", None, "redder light; negative: greener", FINE),
    Fitted("saturation", "colourful", "light", None, "stronger colours; negative: weaker", FINE),
    Fitted("side_light", "shade", "light", None, "light from the picture's right; negative: from its left"),
    Fitted("crispness", "sharpness", "light", None, "more fine detail in the face; negative: softer", FINE),
    Fitted("background_light", "background_light", "background", None, "a lighter background; negative: darker"),
    Fitted("background_detail", "background_detail", "background", None, "a busier background; negative: plainer",
           FINE),
    Fitted("light_clothes", "clothes_light", "clothes", None, "lighter clothes; negative: darker"),
)  # fmt: skip

GANSPACE = (
    GANSpace("huge_grin", 28, (4, 6), -1, "expression", "a grin with teeth; negative: lips closed", "smile"),
    GANSpace("displeased", 36, (4, 7), 1, "expression", "lips pressed, less smile; negative: a laugh", "smile"),
    GANSpace("in_awe", 23, (3, 6), -1, "expression", "mouth open without a smile; negative: a wide smile", "-smile"),
    GANSpace("screaming", 35, (3, 7), -1, "expression", "mouth wide open; negative: closed", "mouth_open"),
    GANSpace("eye_wrinkles", 28, (6, 8), -1, "eyes", "laughter lines at the eyes; negative: smooth", "skin_texture"),
    GANSpace("dark_brows", 43, (6, 8), 1, "eyes", "heavier, darker brows; negative: fainter", "brow_dark"),
    GANSpace("mascara", 41, (6, 9), 1, "make-up", "darker lashes and eyes, in men also beard shadow", "eye_dark"),
    GANSpace("hairline", 21, (4, 5), 1, "hair", "a higher hairline; negative: more hair over the forehead", "forehead"),
    GANSpace("gray_hair", 57, (7, 10), -1, "hair", "grayer hair; negative: darker", "-hair_warm"),
    GANSpace("beard", 22, (3, 6), -1, "hair", "beard on faces judged male, elsewhere little that is good", "beard"),
    GANSpace("face_roundness", 37, (0, 5), 1, "shape", "a rounder face; negative: longer", "face_width"),
    GANSpace("short_face", 32, (2, 6), -1, "shape", "a shorter face; negative: longer", "face_width"),
    GANSpace("exposure", 27, (8, 18), 1, "light", "brighter; negative: darker", "exposure"),
    GANSpace("warm_light", 13, (8, 9), 1, "light", "warmer light; negative: cooler", "warmth"),
    GANSpace("face_light", 10, (8, 9), 1, "light", "pale light on the face; negative: warmer and darker", "skin_light"),
    GANSpace(
        "background_blur",
        49,
        (6, 9),
        -1,
        "background",
        "a smoother background; negative: more detail",
        "-background_detail",
    ),
)

STYLES = (
    Channels(
        "hair_tone",
        (("layers.1.conv2", 199, 1.0),),
        "hair",
        "lighter hair, nothing else; negative: darker",
        "hair_light",
    ),
    Channels(
        "parted_fringe", (("layers.1.conv1", 22, 1.0),), "hair", "hair off the forehead; negative: over it", "-fringe"
    ),
    Channels(
        "open_eyes", (("layers.2.conv2", 77, 1.0),), "eyes", "eyes open, nothing else; negative: closed", "eye_open"
    ),
    Channels(
        "brow_weight",
        (("layers.2.conv2", 407, 1.0),),
        "eyes",
        "thicker brows, nothing else; negative: thinner",
        "brow_dark",
    ),
    Channels(
        "mouth_corners",
        (("layers.1.conv1", 112, 1.0),),
        "expression",
        "corners of the mouth up; negative: down",
        "smile",
    ),
)
