"""What an inversion is asked to match: pixels at several scales, features, and the person.

    L = pixel * sum_s mean (down_s(x) - down_s(y))^2  +  perceptual * d(x, y)  +  identity * |f(x) - f(y)|^2

x is the target crop, y the rendered picture, both (1, 3, R, R) RGB in [-1, 1]; d is the EfficientNet-
Lite0 distance and f dlib's descriptor on the chip of the *target's* landmarks.  What can be computed
from the target alone is computed once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from editing.judges import judge as judges
from encoders import efficientnet
from encoders.losses import identity, perceptual
from stylegan2 import zoo
from stylegan2.engine import area_resize, to_uint8


@dataclass(frozen=True)
class Weights:
    """Weights of the terms; `scales` are the sides in pixels at which pixels are compared, `side` that of features."""

    pixel: float = 1.0
    perceptual: float = 1.0
    identity: float = 1.0
    scales: tuple[int, ...] = (256, 64, 16)
    side: int = 256


@dataclass(frozen=True)
class Objective:
    """The target's side of the loss.  `chip` is None where no face was found: then the person is not compared."""

    weights: Weights
    pyramid: tuple[Tensor, ...]
    features: list[Tensor]
    chip: np.ndarray | None
    descriptor: Tensor | None

    def __call__(self, image: Tensor) -> Tensor:
        """Rendered image (1, 3, R, R) -> scalar loss."""
        w = self.weights
        small = area_resize(image, w.side)
        loss = w.pixel * sum(
            F.mse_loss(image if size == image.shape[-1] else area_resize(image if size > w.side else small, size), to)
            for size, to in zip(w.scales, self.pyramid, strict=True)
        )
        if w.perceptual:
            features = perceptual.features(perceptual_network(image.device), small)
            loss = loss + w.perceptual * perceptual.distance(features, self.features).mean()
        if w.identity and self.chip is not None:
            chips = identity.extract_chips(image, self.chip)
            loss = loss + w.identity * (identity_network(image.device)(chips) - self.descriptor).square().sum(1).mean()
        return loss


def objective(image: Tensor, weights: Weights) -> Objective:
    """Target crop (1, 3, R, R) RGB in [-1, 1] -> its Objective."""
    device = image.device
    with torch.no_grad():
        pyramid = tuple(area_resize(image, size) for size in weights.scales)
        small = area_resize(image, weights.side)
        features = perceptual.features(perceptual_network(device), small) if weights.perceptual else []
        points = judges.locate(to_uint8(image)[0]) if weights.identity else None
        chip = None if points is None else identity.chip_transform(points)
        descriptor = None if chip is None else identity_network(device)(identity.extract_chips(image, chip))
    return Objective(weights, pyramid, features, chip, descriptor)


@cache
def perceptual_network(device: torch.device) -> efficientnet.EfficientNetLite0:
    """EfficientNet-Lite0 from the cache, channels_last, frozen."""
    from safetensors.torch import load_file

    network = efficientnet.from_state(load_file(zoo.path("efficientnet-lite0")))
    return network.to(device, memory_format=torch.channels_last)


@cache
def identity_network(device: torch.device) -> identity.FaceDescriptor:
    """dlib's descriptor network from the cache, channels_last, frozen."""
    return identity.load(zoo.path("dlib-face-recognition")).to(device, memory_format=torch.channels_last)
