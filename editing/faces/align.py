"""The aligned crop of a face, as the data set FFHQ defines it (StyleGAN, arXiv 1812.04948, app. A).

Eyes and mouth give a square that turns with the face, the quad.  Points are (x, y) in pixels whose
centres are whole numbers, as landmarks come.  The quad is a square, so photo and crop are related by
a similarity, and `to_crop` and `to_photo` are exact inverses of each other.
"""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy import ndimage

from stylegan2.errors import NoFaceFound

_SUPERSAMPLE = 2  # the crop is drawn this many times larger, then reduced


def quad_of(landmarks: np.ndarray) -> np.ndarray:
    """68 landmarks (68, 2) -> quad (4, 2): top left, bottom left, bottom right, top right in photo pixels.

    Raises NoFaceFound where eyes and mouth lie in one point, so that no square exists.
    """
    points = np.asarray(landmarks, np.float64)
    left_eye, right_eye = points[36:42].mean(0), points[42:48].mean(0)
    mouth = (points[48] + points[54]) / 2
    eyes = (left_eye + right_eye) / 2
    along_eyes, down = right_eye - left_eye, mouth - eyes
    x = along_eyes - _quarter_turn(down)
    length = np.hypot(*x)
    if not np.isfinite(length) or length < 1e-6:
        raise NoFaceFound("The landmarks of this face do not form a face: try another detector, or a larger picture.")
    x *= max(np.hypot(*along_eyes) * 2.0, np.hypot(*down) * 1.8) / length
    y = _quarter_turn(x)
    centre = eyes + down * 0.1
    return np.stack([centre - x - y, centre - x + y, centre + x + y, centre + x - y])


def _quarter_turn(v: np.ndarray) -> np.ndarray:
    """(x, y) -> (-y, x)"""
    return np.array([-v[1], v[0]])


def side(quad: np.ndarray) -> float:
    """The length of the quad's side in photo pixels."""
    return float(np.hypot(*(quad[3] - quad[0])))


def to_photo(points: np.ndarray, quad: np.ndarray, size: int = 1024) -> np.ndarray:
    """points (..., 2) in a crop of `size` pixels -> photo pixels."""
    u = (np.asarray(points, np.float64) + 0.5) / size
    return quad[0] + u[..., :1] * (quad[3] - quad[0]) + u[..., 1:] * (quad[1] - quad[0])


def to_crop(points: np.ndarray, quad: np.ndarray, size: int = 1024) -> np.ndarray:
    """points (..., 2) in photo pixels -> pixels of a crop of `size` pixels."""
    basis = np.stack([quad[3] - quad[0], quad[1] - quad[0]], 1)
    u = (np.asarray(points, np.float64) - quad[0]) @ np.linalg.inv(basis).T
    return u * size - 0.5


def border(rgb: np.ndarray) -> np.ndarray:
    """The quad that is the whole of a picture (H, W, 3)."""
    height, width = rgb.shape[:2]
    return np.array([(0, 0), (0, height), (width, height), (width, 0)], np.float64) - 0.5


def reaches(quad: np.ndarray, size: tuple[int, int]) -> bool:
    """Can a face with this quad (4, 2) lie in a photo of this (width, height)?  Its middle does, or nearly, and it is
    not many times as large."""
    wide = float(max(size))
    middle, half = quad.mean(0), side(quad) / 2
    return bool(half < 2.5 * wide and (middle > -half).all() and (middle < np.array(size) + half).all())


def crop(rgb: np.ndarray, quad: np.ndarray, size: int = 1024) -> np.ndarray:
    """Photo rgb (H, W, 3) uint8 -> aligned crop (size, size, 3) uint8.

    Large faces are reduced first, small ones enlarged bicubically; where the quad leaves the photo,
    the picture is continued by reflection that blurs and fades to the median colour with distance.  A quad that is
    the picture's border means the picture itself.
    """
    if np.allclose(quad, border(rgb), atol=1e-6):
        return np.asarray(Image.fromarray(np.ascontiguousarray(rgb)).resize((size, size), Image.Resampling.LANCZOS))
    picture, quad = _shrink(rgb, np.asarray(quad, np.float64), size)
    picture, quad = _cut(picture, quad)
    picture, quad = _pad(picture, quad)
    fine = size * (_SUPERSAMPLE if side(quad) > size / 2 else 1)
    drawn = [_draw(picture[..., c], quad, fine) for c in range(3)]
    reduced = drawn if fine == size else [p.resize((size, size), Image.Resampling.LANCZOS) for p in drawn]
    return np.rint(np.clip(np.stack([np.asarray(p) for p in reduced], -1), 0, 255)).astype(np.uint8)


def _margin(quad: np.ndarray) -> int:
    return max(int(np.rint(side(quad) * 0.1)), 3)


def _shrink(rgb: np.ndarray, quad: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Reduce what the quad needs of a photo whose face is over twice the crop, averaging whole blocks of pixels."""
    factor = int(side(quad) / size / 2 + 1e-6)
    if factor <= 1:
        return rgb, quad
    low = np.maximum(np.floor(quad.min(0) - side(quad) * 0.4).astype(int), 0)
    high = np.ceil(quad.max(0) + side(quad) * 0.4).astype(int)
    part = rgb[low[1] : high[1], low[0] : high[0]]
    if min(part.shape[:2]) < factor:
        return rgb, quad
    reduced = Image.fromarray(np.ascontiguousarray(part)).reduce(factor)
    return np.asarray(reduced), (quad - low + 0.5) / factor - 0.5


def _cut(rgb: np.ndarray, quad: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keep the quad's surroundings."""
    height, width = rgb.shape[:2]
    low = np.clip(np.floor(quad.min(0)).astype(int) - _margin(quad), 0, [width - 1, height - 1])
    high = np.clip(np.ceil(quad.max(0)).astype(int) + 1 + _margin(quad), low + 1, [width, height])
    return rgb[low[1] : high[1], low[0] : high[0]], quad - low


def _pad(rgb: np.ndarray, quad: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Continue a picture that the quad leaves: reflection, blurred and faded towards the median with distance."""
    height, width = rgb.shape[:2]
    low, high = np.floor(quad.min(0)).astype(int), np.ceil(quad.max(0)).astype(int) + 1
    margin = _margin(quad)
    missing = np.array([-low[0], -low[1], high[0] - width, high[1] - height]) + margin  # left, top, right, bottom
    if missing.max() <= margin - 4:
        return rgb, quad
    left, top, right, bottom = np.maximum(missing, int(np.rint(side(quad) * 0.3)))
    padded = np.pad(rgb, ((top, bottom), (left, right), (0, 0)), "reflect").astype(np.float32)
    y, x = np.ogrid[: padded.shape[0], : padded.shape[1]]
    outside = np.maximum(
        1 - np.minimum(x / left, (padded.shape[1] - 1 - x) / right),
        1 - np.minimum(y / top, (padded.shape[0] - 1 - y) / bottom),
    ).astype(np.float32)[..., None]
    blurred = _blur(padded, side(quad) * 0.02)
    padded += (blurred - padded) * np.clip(outside * 3 + 1, 0, 1)
    padded += (np.median(padded, axis=(0, 1)) - padded) * np.clip(outside, 0, 1)
    return np.rint(np.clip(padded, 0, 255)).astype(np.uint8), quad + [left, top]


def _blur(picture: np.ndarray, sigma: float) -> np.ndarray:
    return np.stack([ndimage.gaussian_filter(picture[..., c], sigma, truncate=3) for c in range(3)], -1)


def _draw(channel: np.ndarray, quad: np.ndarray, size: int) -> Image.Image:
    """Sample one channel over the quad as a picture of `size` pixels, bicubically, in float: Pillow cuts 8-bit
    samples off instead of rounding them, which would darken every crop by half a step."""
    x, y = (quad[3] - quad[0]) / size, (quad[1] - quad[0]) / size
    origin = quad[0] + 0.5  # Pillow's pixel centres lie at + 0.5
    matrix = (x[0], y[0], origin[0], x[1], y[1], origin[1])
    picture = Image.fromarray(channel.astype(np.float32))
    return picture.transform((size, size), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)
