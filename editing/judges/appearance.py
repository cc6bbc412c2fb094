"""What parser, landmarks and colours say about a face: hair, skin, lips, brows, beard, make-up, light, background.

Colours are CIE L*a*b* (D65) medians of a region: L 0 dark to 100 light, a green to red, b blue to yellow; a
difference of about 2 is just seen.  Lengths are in eye distances and areas in their squares, in a frame turned
upright by the eyes.  A judge says nan where its region is hardly there (no hair, a hidden mouth).

Colours are the picture's, not the person's: light on the face and skin tone look alike to them.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

from editing.judges.landmarks import LEFT_EYE, RIGHT_EYE, upright
from editing.judges.parsing.labels import CLASSES

NAMES = (
    "hair_light", "hair_red", "hair_warm", "hair_volume", "hair_long", "hair_texture", "forehead", "fringe",
    "skin_light", "skin_red", "skin_warm", "skin_texture", "blush", "shine", "shade", "lip_red", "lip_light",
    "lip_full", "teeth", "brow_dark", "brow_thick", "eye_shadow", "eye_dark", "iris_light", "iris_warm", "beard",
    "moustache", "exposure", "contrast", "warmth", "tint", "colourful", "background_light", "background_detail",
    "clothes_light", "sharpness",
)  # fmt: skip
SIZE = 256  # side of the picture and of the labels that are measured
FEWEST = 24  # pixels: a smaller region says nothing
_M = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]])
_WHITE = np.array([0.95047, 1.0, 1.08883])


def lab(picture: np.ndarray) -> np.ndarray:
    """sRGB (H, W, 3) uint8 -> CIE L*a*b* (H, W, 3) float64 (IEC 61966-2-1, CIE 15)."""
    c = picture / 255.0
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    t = linear @ _M.T / _WHITE
    f = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1)


def measure(picture: np.ndarray, labels: np.ndarray, landmarks: np.ndarray) -> dict[str, float]:
    """Picture (256, 256, 3) uint8 RGB, its labels (256, 256) and its 68 landmarks (68, 2), in its pixels -> values.

    hair_light, hair_red, hair_warm: L, a, b of the hair; hair_volume: its area; hair_long: its area below the mouth;
    hair_texture: log contrast of its fine structure; forehead: height of bare skin over the brows; fringe: share of
    the forehead under hair.
    skin_light, skin_red, skin_warm: L, a, b; skin_texture: log contrast of lines and spots; blush: a of the cheeks over
    that of the forehead; shine: the lightest twentieth of the skin over its median L; shade: right half's L over left.
    lip_red, lip_light: a and L of the lips over the skin's; lip_full: their area; teeth: area of what is light in the
    mouth; brow_dark: L of the skin over the brows'; brow_thick: their area; eye_shadow: L of the cheeks over the
    lids'; eye_dark: L of the cheeks over the eyes' surroundings and lashes; iris_light, iris_warm: L and b of the
    irises; beard, moustache: L of the cheeks over that of chin and jaw, and of the upper lip's skin.
    exposure, contrast, warmth, tint, colourful: mean L, deviation of L, mean b, mean a, mean chroma of the picture;
    background_light, background_detail: L and log contrast of the background; sharpness: log fine contrast of the face.
    """
    colours, p = lab(picture), np.asarray(landmarks, dtype=np.float64)
    distance = max(float(np.linalg.norm(p[RIGHT_EYE].mean(0) - p[LEFT_EYE].mean(0))), 1e-6)
    u, v = _frame(p)
    part = {name: labels == index for index, name in enumerate(CLASSES)}
    skin, hair, lips = part["skin"], part["hair"], part["upper_lip"] | part["lower_lip"]
    fine = np.abs(colours[..., 0] - gaussian_filter(colours[..., 0], 2.0))
    middle = {name: _median(colours, part[name]) for name in ("hair", "skin", "brows", "background", "clothes")}
    cheeks = _median(colours, skin & (np.abs(u) > 0.3) & (np.abs(u) < 0.8) & (v > 0.3) & (v < 0.85))
    brow_line = float(upright(p)[17:27, 1].mean())
    over_brows = _median(colours, skin & (np.abs(u) < 0.6) & (v < brow_line - 0.1))
    above = (v < brow_line - 0.12) & (v > brow_line - 0.6) & (np.abs(u) < 0.5)
    lip_colour, mouth_y = _median(colours, lips), float(upright(p)[[48, 54], 1].mean())
    chin, over_lip = _chin(p), _polygon([p[31], p[33], p[35], *p[54:47:-1]])
    irises = _discs(p, 0.075 * distance)
    lids, around = _lids(p, 0.14 * distance), _around_eyes(p, 0.05 * distance)
    face = skin | part["nose"] | part["brows"] | part["eyes"] | lips | part["mouth"]
    light = colours[..., 0]
    left, right = (_median(colours, skin & side)[0] for side in (u < -0.25, u > 0.25))
    area = distance**2
    values = {
        "hair_light": middle["hair"][0],
        "hair_red": middle["hair"][1],
        "hair_warm": middle["hair"][2],
        "hair_volume": float(hair.sum() / area),
        "hair_long": float((hair & (v > mouth_y)).sum() / area),
        "hair_texture": _log_contrast(fine, hair),
        "forehead": float((skin & (np.abs(u) < 0.2) & (v < brow_line)).sum() / (0.4 * area)),
        "fringe": float((hair & above).sum() / max((above & (hair | skin)).sum(), FEWEST)),
        "skin_light": middle["skin"][0],
        "skin_red": middle["skin"][1],
        "skin_warm": middle["skin"][2],
        "skin_texture": _log_contrast(fine, skin & (np.abs(u) < 0.8)),
        "blush": float(cheeks[1] - over_brows[1]),
        "shine": _shine(light, skin),
        "shade": float(right - left),
        "lip_red": float(lip_colour[1] - middle["skin"][1]),
        "lip_light": float(lip_colour[0] - middle["skin"][0]),
        "lip_full": float(lips.sum() / area),
        "teeth": float((part["mouth"] & (light > middle["skin"][0] - 15)).sum() / area),
        "brow_dark": float(middle["skin"][0] - middle["brows"][0]),
        "brow_thick": float(part["brows"].sum() / area),
        "eye_shadow": float(cheeks[0] - _median(colours, lids)[0]),
        "eye_dark": float(cheeks[0] - _median(colours, around)[0]),
        "iris_light": _median(colours, irises)[0],
        "iris_warm": _median(colours, irises)[2],
        "beard": float(cheeks[0] - _median(colours, chin & ~part["neck"] & ~lips & ~part["mouth"])[0]),
        "moustache": float(cheeks[0] - _median(colours, over_lip & ~lips & ~part["nose"])[0]),
        "exposure": float(light.mean()),
        "contrast": float(light.std()),
        "warmth": float(colours[..., 2].mean()),
        "tint": float(colours[..., 1].mean()),
        "colourful": float(np.hypot(colours[..., 1], colours[..., 2]).mean()),
        "background_light": middle["background"][0],
        "background_detail": _log_contrast(fine, part["background"]),
        "clothes_light": middle["clothes"][0],
        "sharpness": _log_contrast(fine, face),
    }
    return {name: float(value) for name, value in values.items()}


def _frame(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks -> every pixel's place (u, v), each (SIZE, SIZE): `landmarks.upright` of the pixel."""
    left, right = p[LEFT_EYE].mean(0), p[RIGHT_EYE].mean(0)
    across = (right - left) / max(float(((right - left) ** 2).sum()), 1e-6)
    x, y = np.meshgrid(np.arange(SIZE), np.arange(SIZE))
    x, y = x - (left + right)[0] / 2, y - (left + right)[1] / 2
    return x * across[0] + y * across[1], -x * across[1] + y * across[0]


def _median(colours: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """-> (3,) medians, nan where the region is too small"""
    inside = colours[mask]
    return np.median(inside, 0) if len(inside) >= FEWEST else np.full(3, np.nan)


def _log_contrast(fine: np.ndarray, mask: np.ndarray) -> float:
    inside = fine[mask]
    return float(np.log(inside.mean() + 0.05)) if len(inside) >= FEWEST else np.nan


def _shine(light: np.ndarray, skin: np.ndarray) -> float:
    inside = light[skin]
    return float(np.quantile(inside, 0.95) - np.median(inside)) if len(inside) >= FEWEST else np.nan


def _polygon(*outlines) -> np.ndarray:
    """Outlines [(n, 2)] -> (SIZE, SIZE) bool, their union"""
    canvas = Image.new("1", (SIZE, SIZE))
    for outline in outlines:
        ImageDraw.Draw(canvas).polygon([tuple(map(float, point)) for point in outline], fill=1)
    return np.asarray(canvas)


def _chin(p: np.ndarray) -> np.ndarray:
    """From the corners of the mouth and the lower lip down to the jaw, a little inside it."""
    jaw = p[4:13] + 0.12 * (p[57] - p[4:13])
    lip = p[[54, 55, 56, 57, 58, 59, 48]] + 0.15 * (p[8] - p[57])
    return _polygon([*jaw, *lip])


def _lids(p: np.ndarray, height: float) -> np.ndarray:
    """A band over the upper lid of both eyes."""
    up = _up(p) * height
    return _polygon(*([*(eye + 0.25 * up), *(eye + up)[::-1]] for eye in (p[36:40], p[42:46])))


def _around_eyes(p: np.ndarray, width: float) -> np.ndarray:
    """The lashes: a rim around the eyes' contours."""
    rims = np.zeros((SIZE, SIZE), dtype=bool)
    for eye in (p[LEFT_EYE], p[RIGHT_EYE]):
        middle = eye.mean(0)
        away = (eye - middle) / np.linalg.norm(eye - middle, axis=1, keepdims=True).clip(1e-6)
        rims |= _polygon(eye + width * away) & ~_polygon(eye - 0.3 * width * away)
    return rims


def _discs(p: np.ndarray, radius: float) -> np.ndarray:
    """The irises: discs in the middle of both eyes, inside their contours."""
    x, y = np.meshgrid(np.arange(SIZE), np.arange(SIZE))
    discs = np.zeros((SIZE, SIZE), dtype=bool)
    for eye in (p[LEFT_EYE], p[RIGHT_EYE]):
        middle = eye[[1, 2, 4, 5]].mean(0)
        discs |= ((x - middle[0]) ** 2 + (y - middle[1]) ** 2 < radius**2) & _polygon(eye)
    return discs


def _up(p: np.ndarray) -> np.ndarray:
    across = p[RIGHT_EYE].mean(0) - p[LEFT_EYE].mean(0)
    return np.array([across[1], -across[0]]) / max(float(np.linalg.norm(across)), 1e-6)
