"""What a pixel of an aligned face can be, and what 68 landmarks alone say about it.

Labels are (H, W) uint8 maps of indices into `CLASSES`.  Landmarks give the inner face; hair, ears, clothes and what
lies behind come from the generator's activations (`reader`).
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from editing.judges.landmarks import LEFT_EYE, RIGHT_EYE

CLASSES = (
    "background", "skin", "brows", "eyes", "nose", "upper_lip", "mouth", "lower_lip",
    "hair", "ears", "neck", "clothes", "glasses",
)  # fmt: skip
PALETTE = np.array(  # RGB that label maps are drawn with, and read from
    [(60, 60, 60), (230, 190, 160), (120, 70, 20), (0, 120, 255), (255, 160, 60), (220, 0, 60), (255, 255, 255),
     (255, 80, 140), (150, 60, 200), (0, 200, 120), (180, 120, 80), (40, 140, 40), (0, 255, 255)], dtype=np.uint8
)  # fmt: skip
INNER = ("brows", "eyes", "nose", "upper_lip", "mouth", "lower_lip")
UNKNOWN = 255
BROW_ABOVE, BROW_BELOW = 0.05, 0.07  # eye distances: a brow's points run along its middle
FINE = 4  # polygons are drawn this much larger, so that their edges fall between pixels


def polygons(landmarks: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """(68, 2) pixels -> (class, outline (n, 2)) of the inner face, in the order in which they are drawn.

    nose: its bridge and wings; lips: outer contour, then the mouth between the inner ones; skin: jaw to brows.
    """
    p = np.asarray(landmarks, dtype=np.float64)
    left, right = p[LEFT_EYE].mean(0), p[RIGHT_EYE].mean(0)
    distance = max(float(np.linalg.norm(right - left)), 1e-6)
    down = np.array([-(right - left)[1], (right - left)[0]]) / distance
    wing = 0.06 * (right - left)
    nose = np.array([p[27] - wing, p[27] + wing, p[29] + 1.6 * wing, p[35] + wing, p[35], p[33], p[31],
                     p[31] - wing, p[29] - 1.6 * wing])  # fmt: skip
    brows = [
        np.concatenate([brow - BROW_ABOVE * distance * down, brow[::-1] + BROW_BELOW * distance * down])
        for brow in (p[17:22], p[22:27])
    ]
    upper = np.concatenate([p[48:55], p[60:65][::-1]])
    lower = np.concatenate([p[54:60], p[48:49], p[60:61], p[64:68][::-1]])
    return [
        ("skin", np.concatenate([p[:17], p[17:27][::-1]])),
        *(("brows", brow) for brow in brows),
        *(("eyes", p[eye]) for eye in (LEFT_EYE, RIGHT_EYE)),
        ("nose", nose),
        ("mouth", p[60:68]),
        ("upper_lip", upper),
        ("lower_lip", lower),
    ]


def from_landmarks(landmarks: np.ndarray, picture_size: int, size: int) -> np.ndarray:
    """(68, 2) in pixels of a square picture -> (size, size) uint8 labels of the inner face, elsewhere `UNKNOWN`."""
    canvas = Image.new("L", (size * FINE, size * FINE), UNKNOWN)
    pen = ImageDraw.Draw(canvas)
    scale = size * FINE / picture_size
    for name, outline in polygons(landmarks):
        pen.polygon([tuple(point) for point in (outline + 0.5) * scale - 0.5], fill=CLASSES.index(name))
    return np.asarray(canvas)[FINE // 2 :: FINE, FINE // 2 :: FINE].copy()


def intersection_over_union(found: np.ndarray, truth: np.ndarray, names: tuple[str, ...] = INNER) -> dict[str, float]:
    """Two stacks of labels (N, H, W) -> class: intersection over union, summed over all N pictures."""
    result = {}
    for name in names:
        a, b = found == CLASSES.index(name), truth == CLASSES.index(name)
        result[name] = float((a & b).sum() / max((a | b).sum(), 1))
    return result
