"""From a generator's picture towards a photo, in two steps: another scene, and a camera.

`scene` changes what is to be matched: other light and colours, features a little out of place, a crop that
sits a little off, another background.  Its code is not known any more, but the picture is.  `camera` changes
what hides it: blur, sensor noise, JPEG, something in front of the face.  An encoder that has seen clean pictures of
W alone takes both for granted.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

SCENES = 0.6  # share of the pictures that get another scene
BACKGROUNDS = 0.15  # share of those that get another background


@cache
def _scene():
    """kornia's augmentations; every picture of a batch draws its own (kornia works in [0, 1])."""
    from kornia import augmentation as K

    return K.AugmentationSequential(
        K.RandomAffine(degrees=1.5, translate=(0.01, 0.01), scale=(0.97, 1.03), padding_mode="border", p=0.6),
        K.RandomThinPlateSpline(0.05, p=0.3),
        K.ColorJiggle(brightness=0.1, contrast=0.25, saturation=0.35, hue=0.02, p=0.8),
        K.RandomGamma((0.65, 1.5), p=0.5),
        K.RandomLinearIllumination((0.05, 0.3), p=0.3),
        data_keys=["input"],
    )


@cache
def _camera():
    from kornia import augmentation as K

    return K.AugmentationSequential(
        K.RandomGaussianBlur((5, 5), (0.3, 1.2), p=0.3),
        K.RandomSharpness(1.5, p=0.3),
        K.RandomJPEG(jpeg_quality=(40, 95), p=0.3),
        K.RandomErasing(scale=(0.01, 0.05), ratio=(0.4, 2.5), p=0.1),
        data_keys=["input"],
    )


def scene(images: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """images (B, 3, S, S) RGB in [-1, 1], S a multiple of 16 -> the same shape, and whether each was changed (B,)."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        changed = torch.rand(len(images), device=images.device) < SCENES
        elsewhere = torch.rand(len(images), device=images.device) < BACKGROUNDS
        others = torch.where(elsewhere[:, None, None, None], _other_background(images), images)
        margin = images.shape[-1] // 16  # reflected, so that what is moved in from outside is no black
        others = _scene()((F.pad(others, [margin] * 4, mode="reflect") + 1) / 2) * 2 - 1
        others = others[..., margin:-margin, margin:-margin]
        return torch.where(changed[:, None, None, None], others.clamp(-1, 1), images), changed


def camera(images: Tensor, seed: int) -> Tensor:
    """images (B, 3, S, S) RGB in [-1, 1], S a multiple of 16 -> the same, disturbed; repeatable by seed."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        images = _camera()((images.clamp(-1, 1) + 1) / 2) * 2 - 1
        noise = torch.rand(len(images), 1, 1, 1, device=images.device).square() * 0.08
        return (images + noise * torch.randn_like(images)).clamp(-1, 1)


def _other_background(images: Tensor) -> Tensor:
    """The head of every picture before the surroundings of its neighbour: aligned faces all sit in one place."""
    size = images.shape[-1]
    axis = torch.linspace(-1, 1, size, device=images.device)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    inside = 1 - ((x / 0.72) ** 2 + ((y - 0.1) / 0.95) ** 2)  # an ellipse around hair, face and neck
    head = torch.sigmoid(inside * 20)
    blurred = F.interpolate(F.avg_pool2d(images.roll(1, 0), 2), size=(size, size), mode="bilinear")
    return head * images + (1 - head) * blurred
