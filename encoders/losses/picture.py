"""What a training compares pictures by: pixels at three sizes, structure, image features and the person.

Pixels far apart in size weigh alike, so that light and colours (8 px) count as much as detail: a code's own
error hardly knows them.  Structure is SSIM (Wang et al. 2004) at two sizes, the person dlib's descriptor.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encoders.efficientnet import EfficientNetLite0
from encoders.losses import identity, perceptual
from stylegan2.engine import area_resize

PIXELS = (128, 32, 8)  # sides
STRUCTURE = (128, 64)
WINDOW = 7
FACE_CHIP = np.array([[0.00464, 0.0, 0.1584], [0.0, 0.00464, 0.25809]])  # identity chip of an aligned face, side 1


def compare(ours: Tensor, goal: Tensor, network: EfficientNetLite0, person: nn.Module | None) -> dict[str, Tensor]:
    """Pictures (B, 3, R, R) and goals (B, 3, S, S), RGB in [-1, 1] -> means over the batch, by name of the loss."""
    ours, goal = (
        area_resize(images, PIXELS[0]).contiguous(memory_format=torch.channels_last) for images in (ours, goal)
    )
    result = {
        "pixel": sum(F.mse_loss(area_resize(ours, size), area_resize(goal, size)) for size in PIXELS),
        "structure": structure(ours, goal),
        "perceptual": perceptual.distance(*(perceptual.features(network, x) for x in (ours, goal))).mean(),
    }
    if person is not None:
        us, them = (person(identity.extract_chips(x, FACE_CHIP * x.shape[-1])) for x in (ours, goal))
        result["identity"] = (us - them).square().sum(1).mean()
    return result


def structure(ours: Tensor, goal: Tensor) -> Tensor:
    """1 - SSIM, mean over `STRUCTURE`: kornia's."""
    from kornia.metrics import ssim

    pairs = (((area_resize(x, size) + 1) / 2 for x in (ours, goal)) for size in STRUCTURE)
    return sum(1 - ssim(a, b, WINDOW).mean() for a, b in pairs) / len(STRUCTURE)
