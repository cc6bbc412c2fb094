"""The judges of age and of gender presentation in PyTorch: the same numbers as `editing.judges`, with gradients.

Both are networks of dlib (Cydral): age a ResNet-10 (He et al., arXiv 1512.03385) over 81 classes, gender four small
convolutions over two.  Their weights are read out of the ONNX files that the judges run (`stylegan2.checkpoints.onnx`).
A loss may pull on them; what was trained against a judge must not be called a success by the same judge alone.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encoders.losses.identity import MEAN_RGB, Affine, Residual, similarity
from stylegan2.checkpoints import onnx
from stylegan2.errors import CheckpointError

AGE_CHIP, GENDER_CHIP, PADDING = 64, 32, 0.2
# dlib's mean face in a unit box for five landmarks: outer and inner corner of the right eye in the picture, of the
# left one, and the foot of the nose; FIVE are their numbers among the 68.
MEAN_FIVE = np.array([
    [0.8595674595992, 0.2134981538014], [0.6460604764104, 0.2289674387677], [0.1205750620789, 0.2137274526848],
    [0.3340850613712, 0.2290642403242], [0.4901123135679, 0.6277975316475],
])  # fmt: skip
FIVE = (45, 42, 36, 39, 33)
AGES = (0.25, *range(1, 81))


class Age(nn.Module):
    """Chips (B, 3, 64, 64), RGB in [-1, 1] -> expected age in years (B,)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.affine = nn.Conv2d(3, 64, 7, 2), Affine(64)
        widths = ((64, 64, False), (64, 128, True), (128, 128, False), (128, 256, True), (256, 256, False))
        self.blocks = nn.Sequential(*(Residual(*width) for width in widths))
        self.fc = nn.Linear(256, len(AGES))
        self.register_buffer("ages", torch.tensor(AGES), persistent=False)
        self.eval().requires_grad_(False)

    def forward(self, chips: Tensor) -> Tensor:
        x = F.relu(self.affine(self.conv(_normalised(chips))))  # (B, 64, 29, 29)
        x = self.blocks(F.max_pool2d(x, 3, 2))  # (B, 256, 3, 3)
        return self.fc(x.mean((2, 3))).softmax(1) @ self.ages


class Gender(nn.Module):
    """Chips (B, 3, 32, 32), RGB in [-1, 1] -> log-odds (B,) that the network calls the face male; not clipped."""

    def __init__(self) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for channels, width in ((3, 32), (32, 32), (32, 64), (64, 64)):
            parts += [nn.Conv2d(channels, width, 3, 1, 1), Affine(width), nn.ReLU()]
            parts += [nn.AvgPool2d(2)] if channels == width else []
        self.convs = nn.Sequential(*parts)
        self.fc1, self.fc2 = nn.Linear(64 * 8 * 8, 16), nn.Linear(16, 2)
        self.eval().requires_grad_(False)

    def forward(self, chips: Tensor) -> Tensor:
        x = self.convs(_normalised(chips))  # (B, 64, 8, 8)
        logits = self.fc2(F.relu(self.fc1(x.flatten(1) / 2)) / 2)  # dropout of one half, as dlib writes it
        return logits[:, 1] - logits[:, 0]


def load_age(path: Path | str) -> Age:
    """The file of 'age-onnx' -> Age, frozen.  CheckpointError, one sentence, if it is anything else."""
    return _filled(Age(), path)


def load_gender(path: Path | str) -> Gender:
    """The file of 'gender-onnx' -> Gender, frozen.  CheckpointError, one sentence, if it is anything else."""
    return _filled(Gender(), path)


def age_chips(images: Tensor, landmarks: np.ndarray) -> Tensor:
    """images (B, 3, S, S) and the landmarks of their face in pixels -> chips (B, 3, 64, 64); differentiable.

    Landmarks are (5, 2) of dlib's small predictor, which the judges use, or (68, 2), of which five are taken.
    """
    return _chips(images, landmarks, AGE_CHIP)


def gender_chips(images: Tensor, landmarks: np.ndarray) -> Tensor:
    """As `age_chips`, for the other network -> chips (B, 3, 32, 32)."""
    return _chips(images, landmarks, GENDER_CHIP)


def _chips(images: Tensor, landmarks: np.ndarray, size: int) -> Tensor:
    points = np.asarray(landmarks)[list(FIVE)] if len(landmarks) == 68 else np.asarray(landmarks)
    return pyramid_chips(images, similarity(MEAN_FIVE, points, size, PADDING), size)


def pyramid_chips(images: Tensor, transform: np.ndarray, size: int) -> Tensor:
    """images (B, 3, H, W) and a `similarity` in their pixels -> chips (B, 3, size, size), filtered as dlib does it.

    The picture is halved by a binomial filter until it is less than twice as fine as the chip, then sampled linearly;
    outside of it is black.  These judges were trained on such chips and see the difference: with the plain averages of
    `identity.extract_chips` an age is off by 1.5 years on average, with this by 0.6.  dlib also cuts off fractions
    after every halving, which has no gradient: here half a grey level, the mean of what is cut, is taken off instead.
    """
    x, transform = (images + 1) * 127.5, np.array(transform)
    row = x.new_tensor([1, 4, 6, 4, 1]) / 16
    kernel = torch.outer(row, row).expand(3, 1, 5, 5)
    while np.sqrt(abs(np.linalg.det(transform[:, :2]))) * (size - 1) / 2 + 1 > size:
        x = F.conv2d(x, kernel, stride=2, groups=3) - 0.5
        transform = transform / 2 - [[0, 0, 1.25], [0, 0, 0.75]]  # where dlib believes that a pixel went
    axis = torch.arange(size, dtype=x.dtype, device=x.device)
    v, u = torch.meshgrid(axis, axis, indexing="ij")
    places = torch.stack((u, v, torch.ones_like(u)), -1) @ torch.as_tensor(transform, dtype=x.dtype, device=x.device).T
    grid = (2 * places + 1) / places.new_tensor([x.shape[3], x.shape[2]]) - 1  # (size, size, 2), pixel centres
    chips = F.grid_sample(x, grid.expand(len(x), -1, -1, -1), "bilinear", "zeros", align_corners=False)
    return (chips - 0.5) / 127.5 - 1


def _normalised(chips: Tensor) -> Tensor:
    return ((chips + 1) * 127.5 - chips.new_tensor(MEAN_RGB).view(3, 1, 1)) / 256


def _filled(network: nn.Module, path: Path | str) -> nn.Module:
    """The network with the constants of a file.  Their names hold dlib's numbers, which count from the output."""
    kinds = {"weights": 0, "scale": 0, "bias": 1, "offset": 1}
    found = {}
    for name, values in onnx.constants(path).items():
        match = re.fullmatch(r"layer_(\d{1,4})_(weights|scale|bias|offset)", name)
        if match:
            found[-int(match[1]), kinds[match[2]]] = torch.from_numpy(values.copy()).squeeze()
    parameters = list(network.parameters())
    if len(found) != len(parameters):
        raise CheckpointError(f"{path} is another network: it has {len(found)} weights, not {len(parameters)}.")
    for parameter, (_, values) in zip(parameters, sorted(found.items()), strict=True):
        values = values.T if values.ndim == 2 else values  # Gemm's (inputs, outputs)
        if values.shape != parameter.shape or not bool(torch.isfinite(values).all()):
            raise CheckpointError(f"{path} is another network: a weight is {tuple(values.shape)}, or not finite.")
        parameter.copy_(values)
    return network
