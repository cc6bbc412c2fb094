"""From a photo's own samples to sRGB and back, at full precision.

Colours cross through LittleCMS at 16 bits when the photo carries a profile that fits its mode
(relative colorimetric with black point compensation, both ways), and through plain formulas
otherwise.  Going back is a fixed-point iteration from the photo's own samples,

    n <- n + inverse(target) - inverse(forward(n)),

so that a small change of colour becomes a small change of samples: colours outside sRGB, and the
black generation of a CMYK separation, survive where only a little is edited.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # Rec. 601, as Pillow's mode L
_FAMILY = {"L": "gray", "LA": "gray", "I;16": "gray", "LA;16": "gray", "I": "gray", "F": "gray", "1": "gray",
           "RGB": "rgb", "RGBA": "rgb", "RGB;16": "rgb", "RGBA;16": "rgb", "P": "palette", "CMYK": "cmyk"}  # fmt: skip
_ICC_SPACE = {"gray": "GRAY", "rgb": "RGB", "cmyk": "CMYK"}
_INTENT, _BLACK_POINT = 1, 0x2000
_BAND = 1 << 21  # pixels converted at a time


@dataclass(frozen=True)
class Space:
    """How samples become colours: Pillow mode (16-bit ones end in ';16'), profile, value of white, palette (N, 3)."""

    mode: str
    icc: bytes | None = None
    white: float = 255.0
    palette: np.ndarray | None = None

    @property
    def family(self) -> str:
        return _FAMILY[self.mode]

    @property
    def channels(self) -> int:
        """How many of the samples' channels are colour; one more is alpha."""
        return {"gray": 1, "palette": 1, "rgb": 3, "cmyk": 4}[self.family]

    @property
    def profile(self) -> bytes | None:
        """The ICC profile if LittleCMS can read it, it is made for this mode and is not sRGB itself, else None."""
        fits = self.icc and self.family in _ICC_SPACE and _icc_space(self.icc) == _ICC_SPACE[self.family]
        return self.icc if fits and not (self.family == "rgb" and _is_srgb(self.icc)) else None


@lru_cache(maxsize=16)
def _icc_space(icc: bytes) -> str:
    try:
        return ImageCms.ImageCmsProfile(io.BytesIO(icc)).profile.xcolor_space.strip()
    except Exception:  # a damaged profile is ignored, as browsers do
        return ""


@lru_cache(maxsize=16)
def _is_srgb(icc: bytes) -> bool:
    """Whether an RGB profile maps a grid of colours to themselves, to about half an 8-bit step."""
    grid = np.stack(np.meshgrid(*[np.linspace(0, 1, 9, dtype=np.float32)] * 3), -1).reshape(-1, 3)
    return bool(np.abs(_transform(grid, icc, srgb_profile(), ("rgb", "rgb")) - grid).max() < 0.6 / 255)


@lru_cache(maxsize=1)
def srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _transform(values: np.ndarray, source: bytes, target: bytes, spaces: tuple[str, str]) -> np.ndarray:
    """values (N, C) float in [0, 1] -> (N, C') float32 in [0, 1], through LittleCMS at 16 bits."""
    coded = np.ascontiguousarray(np.rint(np.clip(values, 0, 1) * 65535).astype(np.uint16)[None])
    if spaces[0] == "gray":
        coded = coded[..., 0]
    import imagecodecs

    out = imagecodecs.cms_transform(
        coded, source, target, colorspace=spaces[0], outcolorspace=spaces[1], intent=_INTENT, flags=_BLACK_POINT
    )
    return out.reshape(len(values), -1).astype(np.float32) / 65535


def _cmyk_to_rgb(cmyk: np.ndarray) -> np.ndarray:
    return (1 - cmyk[:, :3]) * (1 - cmyk[:, 3:])


def _rgb_to_cmyk(rgb: np.ndarray, black: np.ndarray) -> np.ndarray:
    """Exact inverse of `_cmyk_to_rgb` that keeps the black ink (N, 1) unless the colour is too light for it."""
    black = np.minimum(black, 1 - rgb.max(1, keepdims=True))
    return np.concatenate([1 - rgb / np.maximum(1 - black, 1e-6), black], 1)


def to_srgb(samples: np.ndarray, space: Space) -> np.ndarray:
    """samples (..., C) as the photo stores them -> sRGB (..., 3) float32 in [0, 1]; alpha is left out."""
    shape, flat = samples.shape[:-1], samples.reshape(-1, samples.shape[-1])
    if space.family == "palette":
        return (space.palette[flat[:, 0]].astype(np.float32) / 255).reshape(*shape, 3)
    values = flat[:, : space.channels].astype(np.float32) / np.float32(space.white)
    return _forward(values, space).reshape(*shape, 3)


def _forward(values: np.ndarray, space: Space) -> np.ndarray:
    """values (N, channels) in [0, 1] -> sRGB (N, 3)."""
    if space.profile:
        return _transform(values, space.profile, srgb_profile(), (space.family, "rgb"))
    if space.family == "cmyk":
        return _cmyk_to_rgb(values)
    return np.repeat(np.clip(values, 0, 1), 3, 1) if space.family == "gray" else np.clip(values, 0, 1)


def _inverse(rgb: np.ndarray, space: Space) -> np.ndarray:
    """sRGB (N, 3) -> values (N, channels) through the photo's profile."""
    return _transform(rgb, srgb_profile(), space.profile, ("rgb", space.family))


def to_srgb8(samples: np.ndarray, space: Space) -> np.ndarray:
    """samples (H, W, C) -> sRGB (H, W, 3) uint8, a band of rows at a time; the samples themselves if they are that."""
    if space.mode == "RGB" and not space.profile:
        return samples
    height, width = samples.shape[:2]
    out = np.empty((height, width, 3), np.uint8)
    step = max(1, _BAND // width)
    for top in range(0, height, step):
        out[top : top + step] = np.rint(to_srgb(samples[top : top + step], space) * 255)
    return out


def recolour(samples: np.ndarray, target: np.ndarray, space: Space) -> np.ndarray:
    """The photo's samples (N, C) moved to the sRGB colours target (N, 3) in [0, 1]; same dtype, alpha untouched.

    Not for palettes and bitmaps, whose neighbours must share the rounding error (`quantise`).
    """
    target = np.clip(target, 0, 1).astype(np.float32)
    values = samples[:, : space.channels].astype(np.float32) / np.float32(space.white)
    if space.profile:
        wanted = _inverse(target, space)
        for _ in range(3 if space.family == "cmyk" else 2):
            values = np.clip(values + wanted - _inverse(_forward(values, space), space), 0, 1)
    elif space.family == "cmyk":
        values = _rgb_to_cmyk(target, values[:, 3:])
    else:
        values = (target @ LUMA)[:, None] if space.family == "gray" else target
    out = samples.copy()
    scaled = np.clip(values, 0, 1) * space.white
    out[:, : space.channels] = scaled if samples.dtype.kind == "f" else np.rint(scaled)
    return out


def quantise(rgb: np.ndarray, space: Space) -> np.ndarray:
    """sRGB (H, W, 3) uint8 -> samples (H, W, 1) uint8 of a palette photo ('P') or a bitmap ('1'), dithered."""
    picture = Image.fromarray(rgb)
    if space.mode == "1":
        return np.asarray(picture.convert("1")).astype(np.uint8)[..., None] * 255
    holder = Image.new("P", (1, 1))
    holder.putpalette(space.palette.astype(np.uint8).tobytes())
    return np.asarray(picture.quantize(palette=holder, dither=Image.Dither.FLOYDSTEINBERG))[..., None]
