"""Mean, principal components and standard deviations of StyleGAN2-FFHQ's W, as shipped package data.

The components are GANSpace's (Haerkoenen et al., arXiv 2004.02546, sec. 3): PCA of a million w.  They
also whiten W: u = (w - mean) @ components.T / stdev has unit variance in every direction, and the mean
square of u says how far from the dense part of the prior a latent lies (about 1 for samples).

    python -m stylegan2.w_statistics          # recomputes the shipped file; prints how far it moved
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

FILE = Path(__file__).with_name("data") / "stylegan2-ffhq-w.safetensors"
SAMPLES, BATCH = 1_000_000, 4000


@dataclass(frozen=True)
class WStatistics:
    """mean (512,), components (512, 512) one a row and by falling stdev, stdev (512,); float32."""

    mean: Tensor
    components: Tensor
    stdev: Tensor

    def whiten(self, w: Tensor) -> Tensor:
        """w (..., 512) in W -> u (..., 512), unit variance for samples of the mapping network."""
        return (w - self.mean) @ self.components.T / self.stdev

    def unwhiten(self, u: Tensor) -> Tensor:
        """The inverse of `whiten`."""
        return (u * self.stdev) @ self.components + self.mean

    def to(self, device: torch.device | str) -> WStatistics:
        return WStatistics(self.mean.to(device), self.components.to(device), self.stdev.to(device))


@cache
def load() -> WStatistics:
    """The shipped statistics (FFHQ, StyleGAN2 config-f mapping network)."""
    with torch.inference_mode(False):  # whoever asks first, others may need gradients
        data = load_file(FILE)
    return WStatistics(data["mean"], data["components"], data["stdev"])


def compute(mapping, samples: int = SAMPLES, z_dim: int = 512) -> WStatistics:
    """mapping: z (B, z_dim) -> w; PCA of `samples` codes in float64; each component's largest entry is positive."""
    total, square = np.zeros(z_dim), np.zeros((z_dim, z_dim))
    with torch.inference_mode():
        for batch, start in enumerate(range(0, samples, BATCH)):
            z = torch.randn(min(BATCH, samples - start), z_dim, generator=torch.Generator().manual_seed(batch))
            w = mapping(z).double().numpy()
            total += w.sum(0)
            square += w.T @ w
    mean = total / samples
    variance, vectors = np.linalg.eigh(square / samples - np.outer(mean, mean))
    components = vectors.T[::-1]
    components = components * np.sign(components[np.arange(z_dim), np.abs(components).argmax(1)])[:, None]
    stdev = np.sqrt(np.maximum(variance[::-1], 0))
    return WStatistics(*(torch.from_numpy(np.array(a, dtype=np.float32)) for a in (mean, components, stdev)))


def main() -> None:
    argparse.ArgumentParser(description="Recompute the shipped statistics of W from a million samples.").parse_args()
    from stylegan2 import checkpoints, zoo

    statistics = compute(checkpoints.load(zoo.path("mobilestylegan-ffhq-1024")).mapping)
    if FILE.exists():
        print(f"the mean moved by {(statistics.mean - load().mean).abs().max():.2e}")
    FILE.parent.mkdir(exist_ok=True)
    save_file(
        {"mean": statistics.mean, "components": statistics.components.contiguous(), "stdev": statistics.stdev}, FILE
    )


if __name__ == "__main__":
    main()
