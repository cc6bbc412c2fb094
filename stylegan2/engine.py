"""The data engine: seeded latents and the pictures that they render to - unlimited, labelled, reproducible.

Every picture has its own seed, so a set is described by (generator, seeds, psi) and never by files.
It knows no judge: who measures the pictures stands above it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stylegan2.generator import Generator, seeded_z, truncate


def latents(generator: Generator, seeds: Iterable[int], psi: float = 0.7) -> Tensor:
    """seeds (N) -> w (N, w_dim), truncated by psi."""
    with torch.no_grad():  # not inference_mode: latents go into optimisation and training
        w = generator.mapping(seeded_z(seeds, generator.z_dim, generator.w_avg.device))
        return truncate(w, generator.w_avg, psi)


def broadcast(generator: Generator, w: Tensor) -> Tensor:
    """w (B, w_dim) -> ws (B, num_ws, w_dim): the same code in every row."""
    return w[:, None].expand(-1, generator.num_ws, -1)


def faces(generator: Generator, seeds: Iterable[int], psi: float = 0.7) -> Iterator[tuple[int, Tensor, np.ndarray]]:
    """seeds -> (seed, w (w_dim,), picture (R, R, 3) uint8 RGB), one at a time."""
    for seed in seeds:
        w = latents(generator, [seed], psi)
        with torch.inference_mode():
            picture = to_uint8(generator.synthesis(broadcast(generator, w)))[0]
        yield seed, w[0], picture  # outside: the caller's code must not run in inference mode


def to_uint8(images: Tensor) -> np.ndarray:
    """images (B, 3, H, W) RGB in [-1, 1] -> (B, H, W, 3) uint8, clamped and rounded."""
    pixels = (images.float().clamp(-1, 1) * 127.5 + 127.5).round()
    return np.ascontiguousarray(pixels.permute(0, 2, 3, 1).to(torch.uint8).cpu().numpy())


def to_float(pictures: np.ndarray) -> Tensor:
    """(B, H, W, 3) or (H, W, 3) uint8 RGB -> (B, 3, H, W) float32 in [-1, 1]."""
    batch = torch.from_numpy(np.array(pictures if pictures.ndim == 4 else pictures[None]))
    return batch.permute(0, 3, 1, 2).float() / 127.5 - 1


def area_resize(images: Tensor, size: int) -> Tensor:
    """(B, 3, H, W) -> (B, 3, size, size) by area averaging (exact for whole factors)."""
    return F.interpolate(images, size=(size, size), mode="area")
