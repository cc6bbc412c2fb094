"""Where the content of one crop went in another: dense optical flow by iterated least squares.

Lucas and Kanade's equations in a Gaussian window, from coarse to fine, on pictures whose slow
shading is taken out so that a change of light is not mistaken for motion.  A rendered face and its
edited version share camera, light and noise, which makes this small method accurate enough.
"""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy import ndimage

_COARSEST = 32
_STEPS = 4  # iterations a level
_WINDOW = 2.2  # Gaussian window, pixels of the level
_SHADING = 10.0  # slower shading than this is taken out
_SPREAD = 3.0  # plain places take the flow of textured ones this far, in pixels of every level
_TEXTURE = 4e-4  # squared gradient of a textured place
_STIFF = 4e-5  # keeps flow at rest where there is nothing to see, in squared gradients of [0, 1]


def flow(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """source, target (S, S, 3) float32 in [0, 1] -> f (S, S, 2) float32: target(p) is source(p + f(p)), f = (dx, dy).

    It is exactly 0 where moving the source explains the target no better than leaving it in place.
    """
    size = len(source)
    levels = [size]
    while levels[-1] > _COARSEST:
        levels.append((levels[-1] + 1) // 2)
    f = np.zeros((levels[-1], levels[-1], 2), np.float32)
    for level in reversed(levels):
        f = resize(f, level) * np.float32(level / len(f))
        f = _refine(_detail(resize(source, level)), _detail(resize(target, level)), f)
    return f * _worth(source, target, f)[..., None]


def warp(picture: np.ndarray, f: np.ndarray) -> np.ndarray:
    """picture (S, S, C) sampled at p + f(p), bilinearly; the border is continued."""
    y, x = np.mgrid[: len(f), : f.shape[1]].astype(np.float32)
    at = np.stack([y + f[..., 1], x + f[..., 0]])
    return np.stack(
        [ndimage.map_coordinates(channel, at, order=1, mode="nearest") for channel in _channels(picture)], -1
    )


def resize(maps: np.ndarray, size: int) -> np.ndarray:
    """maps (S, S, C) float32 -> (size, size, C), antialiased."""
    if len(maps) == size:
        return maps
    how = Image.Resampling.BILINEAR
    return np.stack([np.asarray(Image.fromarray(c).resize((size, size), how)) for c in _channels(maps)], -1)


def blur(maps: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of maps (S, S) or (S, S, C)."""
    sigmas = (sigma, sigma, 0)[: maps.ndim]
    return ndimage.gaussian_filter(maps, sigmas, truncate=3, mode="nearest")


def _channels(maps: np.ndarray) -> list[np.ndarray]:
    return [np.ascontiguousarray(maps[..., c]) for c in range(maps.shape[-1])]


def _detail(picture: np.ndarray) -> np.ndarray:
    return picture - blur(picture, _SHADING)


def _refine(source: np.ndarray, target: np.ndarray, f: np.ndarray) -> np.ndarray:
    target_x, target_y = ndimage.sobel(target, 1) / 8, ndimage.sobel(target, 0) / 8
    for _ in range(_STEPS):
        moved = warp(source, f)
        gx, gy = (ndimage.sobel(moved, 1) / 8 + target_x) / 2, (ndimage.sobel(moved, 0) / 8 + target_y) / 2
        missing = target - moved
        terms = np.stack([gx * gx, gx * gy, gy * gy, gx * missing, gy * missing]).sum(-1)
        xx, xy, yy, xm, ym = (blur(term, _WINDOW) for term in terms)
        xx, yy = xx + _STIFF, yy + _STIFF
        determinant = xx * yy - xy * xy
        step = np.stack([yy * xm - xy * ym, xx * ym - xy * xm], -1) / determinant[..., None]
        f = blur(f + np.clip(step, -1, 1), 0.8)
    return _spread(f, xx + yy)


def _spread(f: np.ndarray, texture: np.ndarray) -> np.ndarray:
    """Smooth the flow, trusting textured places: plain ones follow their surroundings instead of noise."""
    weight = (texture / (texture + _TEXTURE) + 0.02)[..., None]
    return blur(f * weight, _SPREAD) / blur(weight, _SPREAD)


def _worth(source: np.ndarray, target: np.ndarray, f: np.ndarray) -> np.ndarray:
    """(S, S) in [0, 1]: how much of the difference the motion explains; 0 below a tenth, 1 above a half."""
    rest = blur(((target - source) ** 2).sum(-1), 4)
    moved = blur(((target - warp(source, f)) ** 2).sum(-1), 4)
    explained = (rest - moved) / (rest + 1e-5)
    return blur(np.clip((explained - 0.1) / 0.3, 0, 1), 4).astype(np.float32) * (rest > 0)
