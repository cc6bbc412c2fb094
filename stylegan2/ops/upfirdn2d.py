"""Up-sample, filter, down-sample: the one resampling operator of StyleGAN2.

A call does four things, in this order, per channel: insert zeros between pixels (up), pad or crop
the border, convolve with a finite impulse response, keep every down-th pixel.  With the binomial
filter [1, 3, 3, 1] it is the alias-suppressing resampling of StyleGAN2 (arXiv 1912.04958; filters
as in Zhang, arXiv 1904.11486).  Convolution and slicing only, hence differentiable any number of times.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

PerAxis = int | Sequence[int]


def pair(value: PerAxis, what: str) -> tuple[int, int]:
    """n or (x, y) -> (x, y), both >= 1."""
    x, y = (value, value) if isinstance(value, int) else tuple(value)
    if x < 1 or y < 1:
        raise ValueError(f"{what} must be at least 1, got {value}")
    return int(x), int(y)


def borders(padding: PerAxis) -> tuple[int, int, int, int]:
    """n, (x, y) or (left, right, top, bottom) -> (left, right, top, bottom); negative numbers crop."""
    if isinstance(padding, int):
        return (padding,) * 4
    padding = tuple(int(p) for p in padding)
    if len(padding) == 2:
        return padding[0], padding[0], padding[1], padding[1]
    if len(padding) != 4:
        raise ValueError(f"padding takes 1, 2 or 4 numbers, got {len(padding)}")
    return padding


def setup_fir(
    taps: Sequence[float] | Tensor,
    *,
    normalize: bool = True,
    gain: float = 1.0,
    separable: bool | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Taps -> a float32 filter for `upfirdn2d`: (kw,) if separable, otherwise (kh, kw).

    normalize: sum 1, so a constant picture keeps its value.  separable: None keeps 1-D taps separable
    from 8 on (below that one small 2-D convolution is quicker).
    """
    fir = torch.as_tensor(taps, dtype=torch.float32, device=device)
    if fir.ndim not in (1, 2) or fir.numel() == 0:
        raise ValueError(f"filter taps must be 1-D or 2-D and not empty, got shape {tuple(fir.shape)}")
    if separable is None:
        separable = fir.ndim == 1 and fir.numel() >= 8
    if separable and fir.ndim != 1:
        raise ValueError("a separable filter is given by 1-D taps")
    if fir.ndim == 1 and not separable:
        fir = torch.outer(fir, fir)
    if normalize:
        fir = fir / fir.sum()
    return fir * gain ** (fir.ndim / 2)


def upfirdn2d(
    x: Tensor,
    fir: Tensor | None,
    up: PerAxis = 1,
    down: PerAxis = 1,
    padding: PerAxis = 0,
    flip: bool = False,
    gain: float = 1.0,
) -> Tensor:
    """x (B, C, H, W), fir (kh, kw) or (k,) or None -> (B, C, (H*up + pad - kh) // down + 1, ...).

    up, down: a factor or (x, y).  padding: see `borders`; counted in pixels of the up-sampled picture.
    flip: False convolves (the filter is mirrored against the picture), True correlates.  gain
    multiplies the result (up*up keeps the brightness of an up-sampled picture).
    """
    checked(x, fir, up, down, padding)
    (up_x, up_y), (down_x, down_y) = pair(up, "up"), pair(down, "down")
    batch, channels, height, width = x.shape
    if up_x > 1 or up_y > 1:
        x = x.reshape(batch, channels, height, 1, width, 1)
        x = F.pad(x, (0, up_x - 1, 0, 0, 0, up_y - 1))  # (B, C, H, up_y, W, up_x), zeros after each pixel
        x = x.reshape(batch, channels, height * up_y, width * up_x)
    left, right, top, bottom = borders(padding)
    fir = x.new_ones(1, 1) if fir is None else fir.to(x.dtype)
    separable = fir.ndim == 1
    sides = (left, right, top, bottom)
    if min(sides) < 0 or left != right or top != bottom:
        x = F.pad(x, [max(side, 0) for side in sides])
        if min(sides) < 0:  # afterwards: a crop may reach into what was padded on the other side
            x = F.pad(x, [min(side, 0) for side in sides])
        left = top = 0
    if not flip:
        fir = fir.flip(tuple(range(fir.ndim)))
    fir = fir * gain ** (fir.ndim / 2)
    if separable:
        row = fir.reshape(1, 1, 1, -1).expand(channels, 1, 1, -1)
        column = fir.reshape(1, 1, -1, 1).expand(channels, 1, -1, 1)
        x = F.conv2d(x, row, stride=(1, down_x), padding=(0, left), groups=channels)
        return F.conv2d(x, column, stride=(down_y, 1), padding=(top, 0), groups=channels)
    kernel = fir.expand(channels, 1, *fir.shape)
    return F.conv2d(x, kernel, stride=(down_y, down_x), padding=(top, left), groups=channels)


def checked(x: Tensor, fir: Tensor | None, up: PerAxis, down: PerAxis, padding: PerAxis) -> None:
    """ValueError if the arguments of `upfirdn2d` do not fit each other."""
    if x.ndim != 4:
        raise ValueError(f"upfirdn2d takes (B, C, H, W), got shape {tuple(x.shape)}")
    (up_x, up_y), _ = pair(up, "up"), pair(down, "down")
    left, right, top, bottom = borders(padding)
    taps_y, taps_x = (1, 1) if fir is None else sizes(fir)
    height, width = x.shape[2] * up_y, x.shape[3] * up_x
    if height + top + bottom < taps_y or width + left + right < taps_x:
        raise ValueError(
            f"a picture of {height}x{width} (up-sampled) with padding {(left, right, top, bottom)} "
            f"is smaller than the {taps_y}x{taps_x} filter"
        )


def sizes(fir: Tensor) -> tuple[int, int]:
    """Taps along y and x of a filter (kh, kw) or (k,)."""
    return fir.shape[0], fir.shape[-1]


def resample_padding(fir: Tensor, up: int = 1, down: int = 1, extra: int = 0) -> tuple[int, int, int, int]:
    """Borders that keep the picture centred when it is up- or down-sampled by a factor.

    extra: pixels that a valid 3x3 convolution before or after will eat on each side.
    """
    taps_y, taps_x = sizes(fir)

    def sides(taps: int) -> tuple[int, int]:
        before = (taps + up - 1) // 2 if up > 1 else (taps - down + 1) // 2
        after = (taps - up) // 2 if up > 1 else (taps - down) // 2
        return before + extra, after + extra

    return (*sides(taps_x), *sides(taps_y))
