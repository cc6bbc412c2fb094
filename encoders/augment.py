"""From a generator's picture towards a photo: what cameras, files and life add, and a renderer does not.

An encoder that has seen generated pictures alone takes their texture for granted.  Each of these happens to
some pictures of a batch and never changes the code that is asked for: a crop that sits a little off, other
colours, blur, sensor noise, JPEG, something in front of the face, and another background.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor


@cache
def pipeline():
    """kornia's augmentations; every picture of a batch draws its own (kornia works in [0, 1])."""
    from kornia import augmentation as K

    return K.AugmentationSequential(
        K.RandomAffine(degrees=1.0, translate=(0.008, 0.008), scale=(0.985, 1.015), padding_mode="border", p=0.5),
        K.ColorJiggle(brightness=0.08, contrast=0.08, saturation=0.12, hue=0.01, p=0.5),
        K.RandomGaussianBlur((5, 5), (0.3, 1.2), p=0.3),
        K.RandomSharpness(1.5, p=0.3),
        K.RandomJPEG(jpeg_quality=(40, 95), p=0.3),
        K.RandomErasing(scale=(0.01, 0.05), ratio=(0.4, 2.5), p=0.1),
        data_keys=["input"],
    )


def augment(images: Tensor, seed: int) -> Tensor:
    """images (B, 3, S, S) RGB in [-1, 1], S a multiple of 16 -> the same, disturbed; repeatable by seed."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        swapped = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.15
        images = torch.where(swapped, _other_background(images), images)
        images = pipeline()((images + 1) / 2) * 2 - 1
        noise = torch.rand(len(images), 1, 1, 1, device=images.device).square() * 0.08
        return (images + noise * torch.randn_like(images)).clamp(-1, 1)


def _other_background(images: Tensor) -> Tensor:
    """The head of every picture before the surroundings of its neighbour: aligned faces all sit in one place."""
    size = images.shape[-1]
    axis = torch.linspace(-1, 1, size, device=images.device)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    inside = 1 - ((x / 0.72) ** 2 + ((y - 0.1) / 0.95) ** 2)  # an ellipse around hair, face and neck
    head = torch.sigmoid(inside * 20)
    return head * images + (1 - head) * F.interpolate(
        F.avg_pool2d(images.roll(1, 0), 2), size=(size, size), mode="bilinear"
    )
