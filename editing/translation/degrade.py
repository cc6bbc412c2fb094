"""What can be taken from a picture and asked back of a network: colour, sharpness, light, half, all but its lines.

Pictures are (H, W, 3) uint8 RGB; what is random is drawn from a seed, so a degraded picture is described by its seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from scipy import ndimage

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
NOISE = (8.0, 50.0)  # standard deviations, as RBDN's denoiser was trained for (arXiv 1612.03268, section 5.2)
SMALLER = 8  # how many pixels along a side become one


def gray(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return _bytes(np.repeat((picture @ LUMA)[..., None], 3, 2))


def noise(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Gaussian, of a strength between NOISE."""
    return _bytes(picture + rng.uniform(*NOISE) * rng.standard_normal(picture.shape, np.float32))


def low(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An eighth of the resolution, shown at the same size."""
    height, width = (side // SMALLER for side in picture.shape[:2])
    small = picture[: height * SMALLER, : width * SMALLER].reshape(height, SMALLER, width, SMALLER, 3).mean((1, 3))
    zoom = (picture.shape[0] / height, picture.shape[1] / width, 1)
    return _bytes(ndimage.zoom(small, zoom, order=1, mode="nearest", grid_mode=True))


def half(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Gray where the left or right, upper or lower half was."""
    rows, columns = picture.shape[0] // 2, picture.shape[1] // 2
    parts = [np.s_[:, :columns], np.s_[:, columns:], np.s_[:rows], np.s_[rows:]]
    result = picture.copy()
    result[parts[rng.integers(4)]] = 128
    return result


def relit(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Light that falls off across the picture in some direction, and an exposure that is off."""
    rows, columns = np.mgrid[-1 : 1 : picture.shape[0] * 1j, -1 : 1 : picture.shape[1] * 1j]
    angle, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0.4, 1.2)
    light = np.exp(strength * (np.cos(angle) * columns + np.sin(angle) * rows) - 0.3 * strength**2)
    linear = (picture / 255.0) ** 2.2 * (light * rng.uniform(0.4, 1.1))[..., None]
    return _bytes(255 * np.clip(linear, 0, 1) ** (1 / 2.2))


def sketch(picture: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
    """Dark lines on white: where a picture is darker than around it, by a difference of Gaussians relative to its own
    brightness, so that dark hair and dark rooms stay white (after Winnemoeller et al., Computers & Graphics 36(6))."""
    luma, scale = picture @ LUMA / 255 + 0.05, picture.shape[0] / 256
    fine, coarse = (ndimage.gaussian_filter(luma, sigma * scale) for sigma in (1.0, 2.6))
    darker = fine / coarse - 1 + 0.015
    return _bytes(np.repeat(255 * (1 + np.tanh(14 * np.minimum(darker, 0)))[..., None], 3, 2))


WAYS: Mapping[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "gray": gray,
    "noise": noise,
    "low": low,
    "half": half,
    "relit": relit,
    "sketch": sketch,
}


def _bytes(numbers: np.ndarray) -> np.ndarray:
    return np.clip(np.round(numbers), 0, 255).astype(np.uint8)
