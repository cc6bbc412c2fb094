"""Where the content of one crop went in another: dense optical flow by iterated least squares.

Lucas and Kanade's equations in a Gaussian window, from coarse to fine, on pictures whose slow
shading is taken out so that a change of light is not mistaken for motion.  A rendered face and its
edited version share camera, light and noise, which makes this small method accurate enough.

Inside, pictures are tensors (C, S, S); `warp`, `resize` and `blur` are for arrays, as `paste` has them.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from scipy import ndimage
from torch import Tensor

_COARSEST = 32
_STEPS = 4  # iterations a level
_WINDOW = 2.2  # Gaussian window, pixels of the level
_SHADING = 10.0  # slower shading than this is taken out
_SPREAD = 3.0  # plain places take the flow of textured ones this far, in pixels of every level
_TEXTURE = 4e-4  # squared gradient of a textured place
_STIFF = 4e-5  # keeps flow at rest where there is nothing to see, in squared gradients of [0, 1]


def flow(source: np.ndarray, target: np.ndarray, finest: int = _STEPS) -> np.ndarray:
    """source, target (S, S, 3) float32 in [0, 1] -> f (S, S, 2) float32: target(p) is source(p + f(p)), f = (dx, dy).

    finest: iterations on the last level, which takes three quarters of the time.  It is exactly 0 where moving the
    source explains the target no better than leaving it in place.
    """
    size = len(source)
    levels = [size]
    while levels[-1] > _COARSEST:
        levels.append((levels[-1] + 1) // 2)
    with torch.inference_mode():
        f, pair = torch.zeros(2, levels[-1], levels[-1]), [_tensor(source), _tensor(target)]
        for level in reversed(levels):
            f, steps = _resized(f, level) * (level / f.shape[-1]), finest if level == size else _STEPS
            if steps:
                f = _refine(*[_detail(_resized(each, level)) for each in pair], f, steps)
        return (f * _worth(*pair, f)).permute(1, 2, 0).contiguous().numpy()


def warp(picture: np.ndarray, f: np.ndarray) -> np.ndarray:
    """picture (S, S, C) sampled at p + f(p), bilinearly; the border is continued."""
    with torch.inference_mode():
        return _moved(_tensor(picture), _tensor(f)).permute(1, 2, 0).contiguous().numpy()


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


# ------------------------------------------------------------------------------------------- tensors


def _tensor(picture: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1), dtype=np.float32))


def _resized(x: Tensor, size: int) -> Tensor:
    if x.shape[-1] == size:
        return x
    return F.interpolate(x[None], size=(size, size), mode="bilinear", antialias=True)[0]


@lru_cache(64)
def _smoothing(size: int, sigma: float) -> Tensor:
    """(size, size): what a Gaussian blur multiplies a column by; the border is continued."""
    radius = int(3 * sigma + 0.5)
    taps = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, dtype=torch.float64) / sigma) ** 2)
    places = (torch.arange(size)[:, None] + torch.arange(-radius, radius + 1)).clamp(0, size - 1)
    matrix = torch.zeros(size, size, dtype=torch.float64)
    return matrix.scatter_add_(1, places, (taps / taps.sum()).expand(size, -1)).float()


def _blur(x: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of x (C, S, S), as two products of matrices: quicker than convolutions on small pictures."""
    m = _smoothing(x.shape[-1], sigma)
    return m @ x @ m.T


def _slopes(x: Tensor) -> tuple[Tensor, Tensor]:
    """Sobel's d/dx and d/dy of x (C, S, S), smoothed over the channels like over the other axis.

    So they are four times those of one channel, which makes every step a careful one.
    """
    x = torch.cat([x[:1], x, x[-1:]])
    x = x[:-2] + 2 * x[1:-1] + x[2:]
    p = F.pad(x[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    along, across = p[:, :, 2:] - p[:, :, :-2], p[:, 2:] - p[:, :-2]
    return (along[:, :-2] + 2 * along[:, 1:-1] + along[:, 2:]) / 8, (
        across[:, :, :-2] + 2 * across[:, :, 1:-1] + across[:, :, 2:]
    ) / 8


def _moved(x: Tensor, f: Tensor) -> Tensor:
    """x (C, S, S) sampled at p + f(p), f (2, S, S) in pixels."""
    size = x.shape[-1]
    axis = (2 * torch.arange(size) + 1) / size - 1
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1) + f.permute(1, 2, 0) * (2 / size)
    return F.grid_sample(x[None], grid[None], mode="bilinear", padding_mode="border", align_corners=False)[0]


def _detail(x: Tensor) -> Tensor:
    return x - _blur(x, _SHADING)


def _refine(source: Tensor, target: Tensor, f: Tensor, steps: int) -> Tensor:
    target_x, target_y = _slopes(target)
    for _ in range(steps):
        moved = _moved(source, f)
        gx, gy = ((ours + theirs) / 2 for ours, theirs in zip(_slopes(moved), (target_x, target_y), strict=True))
        missing = target - moved
        terms = torch.stack([gx * gx, gx * gy, gy * gy, gx * missing, gy * missing]).sum(1)
        xx, xy, yy, xm, ym = _blur(terms, _WINDOW)
        xx, yy = xx + _STIFF, yy + _STIFF
        step = torch.stack([yy * xm - xy * ym, xx * ym - xy * xm]) / (xx * yy - xy * xy)
        f = _blur(f + step.clamp(-1, 1), 0.8)
    return _spread(f, xx + yy)


def _spread(f: Tensor, texture: Tensor) -> Tensor:
    """Smooth the flow, trusting textured places: plain ones follow their surroundings instead of noise."""
    weight = (texture / (texture + _TEXTURE) + 0.02)[None]
    return _blur(f * weight, _SPREAD) / _blur(weight, _SPREAD)


def _worth(source: Tensor, target: Tensor, f: Tensor) -> Tensor:
    """(1, S, S) in [0, 1]: how much of the difference the motion explains; 0 below a tenth, 1 above a half."""
    rest = _blur(((target - source) ** 2).sum(0, keepdim=True), 4.0)
    left = _blur(((target - _moved(source, f)) ** 2).sum(0, keepdim=True), 4.0)
    explained = (rest - left) / (rest + 1e-5)
    return _blur(((explained - 0.1) / 0.3).clamp(0, 1), 4.0) * (rest > 0)
