"""Putting an edited crop back into its photo, so that only the edit arrives.

The generator renders the crop twice, without the edit (R) and with it (E).  The photo P is moved
and changed as R was moved and changed into E:

    P'(p) = P(p + m f) + m (E(p) - R(p + f)) - m (1 - c) h(p)

f is the optical flow from R to E, so what the generator does not know (pores, grain, stray hair, a
microphone) travels with the face instead of leaving a ghost, at the photo's own resolution.  c says
how far the motion explains the edit; where new content appeared (teeth in an opened mouth) it is 0,
and h, the fine part of what the photo has over R, is taken away again, which leaves E in the photo's
colours.  m is the mask: it scales the motion as well as the change, so a displaced edge runs back
into place at its rim instead of showing twice, and it is 0 where nothing was edited.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image
from scipy import ndimage

from editing.faces import align, colour
from editing.faces.flow import blur, flow, resize, warp
from editing.faces.photo import Photo

_WORKING = 256  # size at which motion is measured
_RIM = 0.98  # the mask ends at this part of the way to the crop's border
_AT_BORDER = 0.1  # `feather` of an edit with a region of its own, which may reach the crop's border
_CHANGED = (0.6 / 255, 2.5 / 255)  # mean change of a neighbourhood: below the first nothing, above the second all
_AWAY = 6.0  # outside the head the change has to be this many times larger
_HEAD = (1.0, 1.3)  # where the head ends, in units of its outline
_FAITHFUL = (0.03, 0.08)  # error of the reconstruction: outside the head it is trusted below the first
_NEW = (0.035, 0.11)  # unexplained change: below the first the content moved, above the second it is new
_STRETCH = (0.4, 1.0)  # motion that differs this much from pixel to pixel smears texture: above, it counts as new
_BAND = 1 << 20  # pixels pasted at a time
_STILL = 0.02  # shorter motion than this, in photo pixels, does not resample


@dataclass(frozen=True, eq=False)
class PasteResult:
    """photo: the edited photo.  mask (h, w) uint8 covers box (left, top, right, bottom); samples of the photo differ
    from the input only where it is above 0."""

    photo: Photo
    box: tuple[int, int, int, int]
    mask: np.ndarray

    def full_mask(self) -> np.ndarray:
        """The mask over the whole photo, (H, W) uint8."""
        full = np.zeros(self.photo.samples.shape[:2], np.uint8)
        left, top, right, bottom = self.box
        full[top:bottom, left:right] = self.mask
        return full


@dataclass(frozen=True)
class _Plan:
    """What to do to the photo, as maps over the crop (S, S, ...): P' = (1 - damp) P(p + shift) + add.

    mask (S, S), shift (S, S, 2) in crop pixels, damp (S, S), add (S, S, 3) in [-1, 1]."""

    mask: np.ndarray
    shift: np.ndarray
    damp: np.ndarray
    add: np.ndarray


def paste(
    photo: Photo,
    quad: np.ndarray,
    edited: np.ndarray,
    reconstruction: np.ndarray,
    *,
    landmarks: np.ndarray | None = None,
    region: np.ndarray | None = None,
    feather: float = 0.2,
    match_colour: bool = True,
    detail: bool = True,
) -> PasteResult:
    """Put the difference between two renders of a crop into the photo it was cut from.

    quad (4, 2): the crop's corners in the photo; edited, reconstruction (S, S, 3) sRGB, uint8 or float in [0, 1];
    landmarks (68, 2) in photo pixels: where the head is, else where alignment puts it;
    region (S, S) in [0, 1] limits the edit, which then counts outside the head too; feather: width of the soft rim as a
    part of half the crop, where the photo goes on outside it;
    match_colour: new content takes the photo's colours; detail: the photo's own fine detail is kept.
    With edited equal to reconstruction the very same photo comes back.
    """
    quad = np.asarray(quad, np.float64)
    edited, reconstruction = _unit(edited), _unit(reconstruction)
    if edited.shape != reconstruction.shape or edited.ndim != 3 or edited.shape[0] != edited.shape[1]:
        raise ValueError(f"edited {edited.shape} and reconstruction {reconstruction.shape} must both be (S, S, 3)")
    box = _box(photo, quad)
    if np.array_equal(edited, reconstruction) or box[2] <= box[0] or box[3] <= box[1]:
        return PasteResult(photo, box, np.zeros((max(box[3] - box[1], 0), max(box[2] - box[0], 0)), np.uint8))
    original = _unit(align.crop(photo.rgb, quad, len(edited)))
    size, working = len(edited), min(len(edited), _WORKING)
    small = flow(resize(reconstruction, working), resize(edited, working)) * np.float32(size / working)
    f = resize(small, size)
    whole = bool(np.allclose(quad, align.border(photo.rgb)))
    mask = _mask(original, edited, reconstruction, f, quad, landmarks, region, 0.0 if whole else feather)
    plan = _plan(original, edited, reconstruction, f, mask, match_colour, detail)
    return _apply(photo, quad, plan, box, region)


@dataclass(frozen=True)
class Outline:
    """What a paste does, at a small size: mask (S, S); flow (S, S, 2) in its pixels; certain (S, S), where motion
    explains the edit; broad (S, S, 3), the slow part of what the photo has over the reconstruction."""

    mask: np.ndarray
    flow: np.ndarray
    certain: np.ndarray
    broad: np.ndarray


def outline(original: np.ndarray, edited: np.ndarray, reconstruction: np.ndarray, quad: np.ndarray, *,
            landmarks: np.ndarray | None = None, region: np.ndarray | None = None, whole: bool = False
            ) -> Outline:  # fmt: skip
    """`paste` for a first look: pictures (2S, 2S, 3) float32 in [0, 1], small ones, so that it takes milliseconds, and
    no motion finer than S.

    quad, landmarks, region: as for `paste`; whole: the quad is the photo's border.
    """
    size = len(edited) // 2
    f = resize(flow(reconstruction, edited, finest=0), size) / 2
    original, edited, reconstruction = (_halved(each) for each in (original, edited, reconstruction))
    mask = _mask(original, edited, reconstruction, f, quad, landmarks, region, 0.0 if whole else 0.2)
    moved = warp(reconstruction, f)
    certain = _certainty(edited - moved, f)
    return Outline(mask, f, certain, _broad(warp(original, f) - moved, certain))


def _halved(picture: np.ndarray) -> np.ndarray:
    """(2S, 2S, C) -> (S, S, C), area-averaged."""
    rows = picture[::2] + picture[1::2]
    return (rows[:, ::2] + rows[:, 1::2]) / 4


def _mask(original, edited, reconstruction, f, quad, landmarks, region, feather: float) -> np.ndarray:
    """The mask (S, S) of an edit with or without a region of its own."""
    if region is None:
        return soft_mask(original, edited, reconstruction, f, _head(quad, landmarks), feather)
    mask = soft_mask(original, edited, reconstruction, f, None, min(feather, _AT_BORDER))
    return mask * resize(np.clip(np.asarray(region, np.float32), 0, 1)[..., None], len(mask))[..., 0]


def _unit(picture: np.ndarray) -> np.ndarray:
    picture = np.asarray(picture)
    scaled = picture.astype(np.float32) / 255 if picture.dtype == np.uint8 else picture.astype(np.float32)
    return np.clip(np.nan_to_num(scaled), 0, 1)


def _smoothstep(x: np.ndarray, low, high) -> np.ndarray:
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


# ---------------------------------------------------------------------------------------------- the crop


def soft_mask(original, edited, reconstruction, f, head, feather: float) -> np.ndarray:
    """(S, S) float32 in [0, 1]: 1 where the edit counts, exactly 0 where nothing changed and, with a feather, near the
    border.

    Outside the head, before and after the edit, a change counts only where it is plain and the reconstruction
    faithful: a generator redraws the background with every edit, and the photo's own is better.  head None: everywhere
    is inside, for an edit that is limited otherwise.
    """
    size = len(edited)
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1
    u, v = np.meshgrid(axis, axis)
    window = 1 - _smoothstep((u**6 + v**6) ** (1 / 6), _RIM - feather, _RIM) if feather else np.ones_like(u)
    if head is None:
        outside = np.zeros((size, size), np.float32)
    else:
        drift = _wide_blur(f, size / 12) * (2 / size)
        distance = np.minimum(_distance(u, v, head), _distance(u + drift[..., 0], v + drift[..., 1], head))
        outside = _smoothstep(distance, *_HEAD)
    near = _wide_blur(np.abs(edited - reconstruction).mean(-1, keepdims=True), size / 36)[..., 0]
    scale = 1 + (_AWAY - 1) * outside
    gate = _smoothstep(near, _CHANGED[0] * scale, _CHANGED[1] * scale)
    error = _wide_blur(np.abs(original - reconstruction).mean(-1, keepdims=True), size / 14)[..., 0]
    doubt = outside * _smoothstep(error, *_FAITHFUL)
    return (window * gate * (1 - doubt)).astype(np.float32)


def _wide_blur(maps: np.ndarray, sigma: float) -> np.ndarray:
    """A wide Gaussian blur of maps (S, S, C), done on a quarter of the size."""
    size = len(maps)
    reduced = max(size // 4, 1)
    return resize(blur(resize(np.ascontiguousarray(maps, np.float32), reduced), sigma * reduced / size), size)


def _head(quad: np.ndarray, landmarks: np.ndarray | None) -> tuple[float, float, float, float]:
    """Centre x, y and half axes of an ellipse around the head with its hair, in a crop that spans [-1, 1]."""
    if landmarks is None:
        return 0.0, -0.02, 0.66, 0.86
    points = align.to_crop(landmarks, quad, 2) - 0.5
    (left, top), (right, bottom) = points.min(0), points.max(0)
    half_height = max((bottom - top) * 0.78, 0.4)
    return (left + right) / 2, bottom + 0.06 - half_height, max((right - left) * 0.58, 0.3), half_height


def _distance(u: np.ndarray, v: np.ndarray, head) -> np.ndarray:
    """0 in the middle of the head, 1 on its outline."""
    x, y, half_width, half_height = head
    return np.hypot((u - x) / half_width, (v - y) / half_height).astype(np.float32)


def _plan(original, edited, reconstruction, f, mask, match_colour: bool, detail: bool) -> _Plan:
    moved = warp(reconstruction, f)
    change = edited - moved
    certain = _certainty(change, f) if detail else np.zeros(mask.shape, np.float32)
    residual = warp(original, f) - moved
    broad = _broad(residual, certain if detail else None) if match_colour else np.zeros_like(residual)
    new = (mask * (1 - certain))[..., None]
    return _Plan(mask, mask[..., None] * f, new[..., 0], mask[..., None] * change + new * (moved + broad))


def _certainty(change: np.ndarray, f: np.ndarray) -> np.ndarray:
    """(S, S): 1 where motion and slow shading explain the edit, 0 where something new appeared."""
    size = len(change)
    fine = change - _wide_blur(change, size / 64)
    unexplained = np.sqrt(blur((fine**2).mean(-1), size / 150))
    gradients = np.stack([np.gradient(f[..., i], axis=axis) for i in (0, 1) for axis in (0, 1)])
    stretch = np.sqrt((gradients**2).sum(0))
    known = (1 - _smoothstep(unexplained, *_NEW)) * (1 - _smoothstep(stretch, *_STRETCH))
    return blur(known, size / 250)


def _broad(residual: np.ndarray, certain: np.ndarray | None) -> np.ndarray:
    """The slow part of what the photo has over the reconstruction, gathered where the content is known."""
    sigma = len(residual) / 48
    if certain is None:
        return _wide_blur(residual, sigma)
    weight = certain[..., None] + 1e-3
    return _wide_blur(residual * weight, sigma) / _wide_blur(weight, sigma)


# ---------------------------------------------------------------------------------------------- the photo


def _box(photo: Photo, quad: np.ndarray) -> tuple[int, int, int, int]:
    """The part of the photo under the quad: left, top, right, bottom (exclusive)."""
    width, height = photo.size
    low, high = np.floor(quad.min(0)).astype(int), np.ceil(quad.max(0)).astype(int) + 1
    return max(low[0], 0), max(low[1], 0), min(high[0], width), min(high[1], height)


def _apply(photo: Photo, quad: np.ndarray, plan: _Plan, box, region: np.ndarray | None = None) -> PasteResult:
    """Carry out a plan band by band, so that memory stays bounded on large photos.

    Where the region (S, S) is 0 nothing changes: smoothing spreads the plan's mask a little over its edge.
    """
    left, top, right, bottom = (int(v) for v in box)
    size = len(plan.mask)
    drawn = min(size, max(1, int(np.ceil(align.side(quad)))))
    basis = np.stack([quad[3] - quad[0], quad[1] - quad[0]]) / size  # crop steps in photo pixels
    shift = plan.shift @ basis.astype(np.float32)
    layers = [plan.mask, shift[..., 0], shift[..., 1], plan.damp, *np.moveaxis(plan.add, -1, 0)]
    layers = [_reduced(layer, drawn) for layer in layers]
    limits = None if region is None else Image.fromarray((np.asarray(region) > 0).astype(np.float32))
    reach = int(np.ceil(np.abs(shift).max())) + 8

    samples, space = photo.samples.copy(), photo.space
    dithered = space.mode in ("P", "1")
    canvas = np.zeros((bottom - top, right - left, 3), np.uint8) if dithered else None
    mask = np.zeros((bottom - top, right - left), np.uint8)
    rows = max(16, _BAND // (right - left))
    for start in range(top, bottom, rows):
        stop = min(start + rows, bottom)
        maps = [_draw(layer, quad, left, start, right - left, stop - start) for layer in layers]
        m = np.clip(maps[0], 0, 1)
        if limits is not None:
            m = m * _draw(limits, quad, left, start, right - left, stop - start, Image.Resampling.NEAREST)
        before = colour.to_srgb(photo.samples[start:stop, left:right], space)
        base = _shifted(photo, before, maps[1], maps[2], m > 0, (left, start), reach)
        after = np.clip(base * (1 - maps[3])[..., None] + np.stack(maps[4:], -1), 0, 1)
        changed = (m > 0) & (np.abs(after - before).max(-1) > 1e-6)
        band = slice(start - top, stop - top)
        mask[band] = np.ceil(m * 255) * changed
        if dithered:
            canvas[band] = np.rint(np.where(changed[..., None], after, before) * 255)
        elif changed.any():
            part = samples[start:stop, left:right]
            part[changed] = colour.recolour(part[changed], after[changed], space)
    if dithered:
        part = samples[top:bottom, left:right]
        part[mask > 0] = colour.quantise(canvas, space)[mask > 0]
    return PasteResult(replace(photo, samples=samples), (left, top, right, bottom), mask)


def _reduced(layer: np.ndarray, size: int) -> Image.Image:
    picture = Image.fromarray(np.ascontiguousarray(layer, dtype=np.float32))
    return picture if size == len(layer) else picture.resize((size, size), Image.Resampling.HAMMING)


def _draw(layer: Image.Image, quad: np.ndarray, left: int, top: int, width: int, height: int,
          resample: Image.Resampling = Image.Resampling.BICUBIC) -> np.ndarray:  # fmt: skip
    """A map over the crop, seen in a rectangle of the photo; 0 outside the quad."""
    origin, x, y = align.to_crop(np.array([[left, top], [left + 1, top], [left, top + 1]], float), quad, layer.width)
    x, y = x - origin, y - origin
    start = origin + 0.5 - (x + y) / 2
    matrix = (x[0], y[0], start[0], x[1], y[1], start[1])
    return np.asarray(layer.transform((width, height), Image.Transform.AFFINE, matrix, resample))


def _shifted(photo: Photo, before: np.ndarray, dx, dy, inside, corner: tuple[int, int], reach: int) -> np.ndarray:
    """The photo at p + (dx, dy), cubic splines; its own colours, unresampled, where the motion is next to nothing."""
    moving = inside & (np.hypot(dx, dy) > _STILL)
    if not moving.any():
        return before
    y, x = np.nonzero(moving)
    left, top = corner
    low_x, low_y = max(left + x.min() - reach, 0), max(top + y.min() - reach, 0)
    high_x, high_y = left + x.max() + 1 + reach, top + y.max() + 1 + reach
    source = colour.to_srgb(photo.samples[low_y:high_y, low_x:high_x], photo.space)
    at = np.stack([y + top - low_y + dy[moving], x + left - low_x + dx[moving]])
    out = before.copy()
    for channel in range(3):
        out[..., channel][moving] = ndimage.map_coordinates(source[..., channel], at, order=3, mode="mirror")
    return out
