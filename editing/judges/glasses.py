"""Does a face wear glasses?  The frame's bridge is an edge where a bare nose has none.

The picture around the eyes is brought to one frame (eyes level, one eye distance = 40 samples), and the
strongest horizontal edge across the root of the nose is compared with the contrast of the whole patch.
On 2,599 generated faces the 60 highest scores all wore glasses (looked at); dark lenses, whose bridge may be as
dark as its surroundings, and heads turned away by half score lower than they should.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

EYE_DISTANCE = 64  # pixels between the eyes that the picture is shrunk to, at least
WEARS = -0.7  # scores above it: glasses


def glasses(picture: np.ndarray, landmarks: np.ndarray) -> float:
    """Picture (H, W, 3) uint8 RGB and its 68 landmarks (68, 2) -> log edge contrast; above `WEARS`: glasses."""
    patch = _eye_patch(picture, np.asarray(landmarks, dtype=np.float64))
    edges = np.abs(np.diff(gaussian_filter(patch, (0.5, 1.5)), axis=0)) / (patch.std() + 5)
    bridge = edges[8:32, 30:42].mean(1).max()
    return float(np.log(bridge + 1e-3))


def _eye_patch(picture: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """-> (44, 72) gray levels: from 0.5 eye distances above the eyes' line to 0.6 below, 0.9 to either side."""
    left, right = landmarks[36:42].mean(0), landmarks[42:48].mean(0)
    across = right - left
    distance = max(float(np.hypot(*across)), 1.0)
    across = across / distance
    down = np.array([-across[1], across[0]])
    u, v = np.meshgrid(np.linspace(-0.9, 0.9, 72), np.linspace(-0.5, 0.6, 44))
    points = (left + right) / 2 + distance * (u[..., None] * across + v[..., None] * down)  # (44, 72, 2)
    shrink = max(1, int(distance / EYE_DISTANCE))
    height, width = (n // shrink * shrink for n in picture.shape[:2])
    cells = picture[:height, :width].reshape(height // shrink, shrink, -1)
    gray = cells.sum(1, dtype=np.uint32).reshape(height // shrink, width // shrink, -1).sum(2) / (3.0 * shrink**2)
    points = (points + 0.5) / shrink - 0.5
    return map_coordinates(gray, [points[..., 1], points[..., 0]], order=1, mode="nearest")
