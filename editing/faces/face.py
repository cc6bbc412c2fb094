"""A face found in a photo."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from editing.faces import align


@dataclass(frozen=True, eq=False)
class Face:
    """box (left, top, right, bottom) and landmarks (68, 2) as (x, y) in pixels of the upright photo, where a whole
    number is the centre of a pixel; score: the detector's own confidence, comparable only within one detector."""

    box: tuple[float, float, float, float]
    score: float
    landmarks: np.ndarray
    detector: str

    @property
    def quad(self) -> np.ndarray:
        """The aligned crop's corners (4, 2): top left, bottom left, bottom right, top right."""
        return align.quad_of(self.landmarks)
