"""What an error of a code looks like: a distance between codes that knows the generator.

Most of a code's 16 x 512 numbers hardly show and a few decide everything.  The squared change of a picture
under a small change d of the code is d^T M d, with M the pull-back of the image loss through the generator,

    M = E_w J(w)^T W J(w)      J = d phi(G(w)) / du        phi: pixels at three sizes and image features

so M is an image loss that costs no render.  It is estimated from random projections (Hutchinson): with
r standard normal, g = J^T W^(1/2) r has E g g^T = M, and one backward pass gives one g.  Shao et al.
(arXiv 1711.08014) use the pull-back metric to measure a generator's latent space; here it is a loss.
"""

from __future__ import annotations

import torch
from torch import Tensor

from encoders.efficientnet import EfficientNetLite0
from encoders.losses import perceptual
from stylegan2 import engine, w_statistics
from stylegan2.generator import Generator

PIXELS = ((256, 1.0), (64, 1.0), (16, 1.0))  # (side, weight) of the pictures compared
PERCEPTUAL = 0.5


def projected(images: Tensor, network: EfficientNetLite0, random: torch.Generator) -> Tensor:
    """images (1, 3, R, R) -> one random projection of everything that the image loss compares (scalar)."""
    at256 = engine.area_resize(images, 256)
    total = images.new_zeros(())
    for size, weight in PIXELS:
        pixels = engine.area_resize(at256, size)
        total = total + _project(pixels, weight / pixels.numel(), random)
    features = perceptual.features(network, at256)
    for feature in features:
        places = feature.shape[2] * feature.shape[3] * len(features)
        total = total + _project(perceptual.unit(feature), PERCEPTUAL / places, random)
    return total


def _project(values: Tensor, weight: float, random: torch.Generator) -> Tensor:
    return (values * torch.randn(values.shape, generator=random).to(values)).sum() * weight**0.5


def pull_back(generator: Generator, network: EfficientNetLite0, draws: int, seed: int = 0, psi: float = 0.7) -> Tensor:
    """-> g (draws, num_ws, w_dim): the mean over draws of (g . d)^2 is the picture's change under d, whitened."""
    statistics = w_statistics.load().to(generator.w_avg.device)
    result = []
    for index in range(draws):
        random = torch.Generator().manual_seed(seed + index)
        w = engine.latents(generator, [seed + index], psi)
        u = statistics.whiten(engine.broadcast(generator, w)).requires_grad_(True)
        (gradient,) = torch.autograd.grad(
            projected(generator.synthesis(statistics.unwhiten(u)), network, random), u
        )  # fmt: skip
        result.append(gradient[0])
    return torch.stack(result)


def distance(difference: Tensor, metric: Tensor) -> Tensor:
    """difference of whitened codes (B, num_ws, w_dim), metric g (K, num_ws, w_dim) -> (B,): about the image loss."""
    return (difference.flatten(1) @ metric.flatten(1).T).square().mean(1)
