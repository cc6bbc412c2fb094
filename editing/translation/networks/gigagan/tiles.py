"""Pictures of any size through an up-sampler that sees squares of 64 pixels, as AuraSR does it.

The picture is padded by reflection to whole tiles; every tile has its own noise.  Overlapped: a second pass with tiles
shifted by half of one, and the mean of both, where each counts most in the middle of its tiles, so that no seam shows.
A row of tiles is held at a time, and the result in bytes.  Noise is of the seed and the tile's place alone, so the same
picture and seed give the same pixels, whatever fits into memory at once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from editing.translation.networks.gigagan.upsampler import AuraUpsampler

TILE, TOGETHER = 64, 4  # pixels of a tile; tiles in one batch
DITHER = 0.001  # of noise that is added to what the network sees
SHARP, SIGMA = 8, 0.5  # of the weights in a tile


def weights(size: int) -> np.ndarray:
    """How much a pixel of a tile counts, (size, size): exp(-d^2 / (2 sigma^2)) ** 8, d from
    the middle, 1 at the edges' own."""
    at = np.linspace(-1, 1, size)
    return np.exp(-SHARP * (at[:, None] ** 2 + at**2) / (2 * SIGMA**2))


def noise(network: AuraUpsampler, seed: int, shifted: bool, row: int, column: int) -> tuple[Tensor, Tensor]:
    """A tile's z (z_dim,), and what is added to its pixels (3, TILE, TILE)."""
    rng = np.random.default_rng((seed, int(shifted), row, column))
    z, dither = rng.standard_normal(network.z_dim, np.float32), rng.standard_normal((3, TILE, TILE), np.float32)
    return torch.from_numpy(z), torch.from_numpy(dither) * DITHER


@torch.no_grad()
def row_of(network: AuraUpsampler, padded: np.ndarray, seed: int, shifted: bool, row: int) -> np.ndarray:
    """One row of tiles of a padded picture (H, W, 3) uint8 -> (scale * TILE, scale * W, 3) in [0, 1]"""
    strip, device = padded[row * TILE : (row + 1) * TILE], next(network.parameters()).device
    tiles = torch.from_numpy(np.ascontiguousarray(strip)).permute(2, 0, 1).float() / 255
    found = []
    for start in range(0, strip.shape[1] // TILE, TOGETHER):
        part = tiles[..., start * TILE : (start + TOGETHER) * TILE].split(TILE, 2)
        zs, dithers = zip(*(noise(network, seed, shifted, row, start + i) for i in range(len(part))), strict=True)
        x = (torch.stack(part) + torch.stack(dithers)).clamp(0, 1)
        y = network(x.to(device), torch.stack(zs).to(device)).clamp(0, 1)  # (B, 3, scale * TILE, scale * TILE)
        found.append(y.permute(2, 0, 3, 1).flatten(1, 2).cpu().numpy())
    return np.concatenate(found, 1)


def upscale(network: AuraUpsampler, picture: np.ndarray, seed: int = 0, overlapped: bool = True) -> np.ndarray:
    """picture (H, W, 3) uint8 RGB -> (scale * H, scale * W, 3) uint8."""
    height, width = picture.shape[:2]
    padded = np.pad(picture, ((0, -height % TILE), (0, -width % TILE), (0, 0)), mode="reflect")
    half, scale = TILE // 2, network.scale
    step = half * scale
    first = Kept(partial(row_of, network, padded, seed, False))
    shifted = np.pad(padded, ((half, half), (half, half), (0, 0)), mode="reflect")
    second = Kept(partial(row_of, network, shifted, seed, True))
    out = np.empty((scale * height, scale * width, 3), np.uint8)
    share = shares(2 * step, scale * padded.shape[1])
    for i in range(-(-height // half)):  # a half of a row at a time
        place = slice(i % 2 * step, (i % 2 + 1) * step)
        y = first.row(i // 2)[place]
        if overlapped:
            place2 = slice((i + 1) % 2 * step, ((i + 1) % 2 + 1) * step)
            other = second.row((i + 1) // 2)[place2, step:-step]
            y = other + share[place] * (y - other)
        part = out[i * step : (i + 1) * step]
        part[:] = np.round(y[: len(part), : scale * width] * 255)
    return out


def shares(size: int, width: int) -> np.ndarray:
    """What the first pass counts in a row of tiles, (size, width, 1): the rest is the second's."""
    own = weights(size)
    other = np.roll(own, size // 2, (0, 1))
    return np.tile((own / (own + other)).astype(np.float32), (1, -(-width // size)))[:, :width, None]


class Kept:
    """The last row asked for."""

    def __init__(self, make: Callable[[int], np.ndarray]) -> None:
        self.make, self.number, self.found = make, -1, np.empty(0)

    def row(self, number: int) -> np.ndarray:
        if number != self.number:
            self.found = np.empty(0)  # before the next one is made
            self.number, self.found = number, self.make(number)
        return self.found
