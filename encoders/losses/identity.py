"""dlib's face-recognition ResNet in PyTorch: a 128-d identity descriptor that can be differentiated.

The network (29 convolutions, King 2017, dlib's dnn_face_recognition example) is read straight from
dlib's own .dat file: a stream of length-prefixed integers, layer names and raw float32 tensors, from
which only the tensors are taken - nothing in it can execute.  Two faces of one person are usually
nearer than 0.6 in Euclidean distance; random generated faces pass that too often, so this project
asks for less than 0.45.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stylegan2.errors import CheckpointError

CHIP_SIZE = 150
MEAN_RGB = (122.782, 117.001, 104.298)
# dlib's mean face in a unit box, for those of the 68 landmarks that hold still: nose, eyes, upper lip.
ANCHORS = (*range(27, 55), *range(60, 65))
MEAN_FACE = np.array([
    [0.490127, 0.203352], [0.490127, 0.307009], [0.490127, 0.409805], [0.490127, 0.515625], [0.366880, 0.587326],
    [0.426036, 0.609345], [0.490127, 0.628106], [0.554217, 0.609345], [0.613373, 0.587326], [0.121737, 0.216423],
    [0.187122, 0.178758], [0.265825, 0.179852], [0.334606, 0.231733], [0.260918, 0.245099], [0.182743, 0.244077],
    [0.645647, 0.231733], [0.714428, 0.179852], [0.793132, 0.178758], [0.858516, 0.216423], [0.797510, 0.244077],
    [0.719335, 0.245099], [0.254149, 0.780233], [0.340985, 0.745405], [0.428858, 0.727388], [0.490127, 0.742578],
    [0.551395, 0.727388], [0.639268, 0.745405], [0.726104, 0.780233], [0.290379, 0.784792], [0.428096, 0.778746],
    [0.490127, 0.785343], [0.552157, 0.778746], [0.689874, 0.784792],
])  # fmt: skip
PADDING = 0.25
_STAGES = ((32, 3, False), (64, 4, True), (128, 3, True), (256, 3, True), (256, 1, True))  # width, blocks, first halves


class Affine(nn.Module):
    """dlib's `affine_`: a batch norm frozen into one gain and one bias per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gain[:, None, None] + self.bias[:, None, None]


class Residual(nn.Module):
    """relu(block(x) + shortcut): two 3x3 convolutions; a halving block average-pools its shortcut.

    The shortcut is added where it fits: missing channels, rows and columns count as zero.
    """

    def __init__(self, channels: int, out_channels: int, halve: bool) -> None:
        super().__init__()
        stride, padding = (2, 0) if halve else (1, 1)
        self.conv1 = nn.Conv2d(channels, out_channels, 3, stride, padding)
        self.affine1 = Affine(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1)
        self.affine2 = Affine(out_channels)
        self.halve = halve

    def forward(self, x: Tensor) -> Tensor:
        out = self.affine2(self.conv2(F.relu(self.affine1(self.conv1(x)))))
        shortcut = F.avg_pool2d(x, 2) if self.halve else x
        size = tuple(max(a, b) for a, b in zip(out.shape[1:], shortcut.shape[1:], strict=True))
        return F.relu(_zero_pad(out, size) + _zero_pad(shortcut, size))


def _zero_pad(x: Tensor, size: tuple[int, ...]) -> Tensor:
    channels, height, width = (n - m for n, m in zip(size, x.shape[1:], strict=True))
    return F.pad(x, (0, width, 0, height, 0, channels)) if channels or height or width else x


class FaceDescriptor(nn.Module):
    """Aligned chips (B, 3, 150, 150), RGB in [-1, 1] -> descriptors (B, 128)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 32, 7, 2)
        self.affine = Affine(32)
        blocks, channels = [], 32
        for width, count, halves in _STAGES:
            for index in range(count):
                blocks.append(Residual(channels, width, halves and index == 0))
                channels = width
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(256, 128, bias=False)
        self.register_buffer("mean", torch.tensor(MEAN_RGB).view(3, 1, 1), persistent=False)
        self.eval().requires_grad_(False)

    def forward(self, chips: Tensor) -> Tensor:
        x = ((chips + 1) * 127.5 - self.mean) / 256  # (B, 3, 150, 150)
        x = F.max_pool2d(F.relu(self.affine(self.conv(x))), 3, 2)  # (B, 32, 35, 35)
        x = self.blocks(x)  # (B, 256, 2, 2)
        return self.fc(x.mean((2, 3)))


def load(path: Path | str) -> FaceDescriptor:
    """dlib's `dlib_face_recognition_resnet_model_v1.dat` -> FaceDescriptor.  CheckpointError if it is anything else."""
    try:
        tensors = _read_dat(Path(path).read_bytes())
    except IndexError:
        raise CheckpointError(f"{path} is truncated.") from None
    model = FaceDescriptor()
    layers = [m for m in model.modules() if isinstance(m, (nn.Conv2d, Affine))]
    if len(tensors) != len(layers) + 1:
        raise CheckpointError(
            f"{path} is not dlib's face-recognition network: {len(tensors)} layers, not {len(layers) + 1}."
        )
    with torch.no_grad():
        for layer, values in zip(layers, tensors, strict=False):
            first = layer.weight if isinstance(layer, nn.Conv2d) else layer.gain
            if values.numel() != first.numel() + layer.bias.numel():
                raise CheckpointError(
                    f"{path} is not dlib's face-recognition network: a layer has {values.numel()} numbers."
                )
            first.copy_(values[: first.numel()].view_as(first))
            layer.bias.copy_(values[first.numel() :])
        if tensors[-1].numel() != model.fc.weight.numel():
            raise CheckpointError(
                f"{path} is not dlib's face-recognition network: its last layer has {tensors[-1].numel()} numbers."
            )
        model.fc.weight.copy_(tensors[-1].view(256, 128).T)
    return model


def _read_dat(data: bytes) -> list[Tensor]:
    """The parameter tensors of every con_, affine_ and fc_ layer, from the input to the output."""
    tensors = []
    for match in re.finditer(rb"\x01[\x03-\x20](?:con_|affine_|fc_)\d*", data):
        length = data[match.start() + 1]
        name = data[match.start() + 2 : match.start() + 2 + length]
        if not re.fullmatch(rb"(con_\d+|affine_|fc_\d+)", name):
            continue
        position = match.start() + 2 + length
        if name.startswith(b"fc_"):  # outputs and inputs come before the parameters
            for _ in range(2):
                _, position = _read_int(data, position)
        tensors.append(_read_tensor(data, position))
    return tensors


def _read_int(data: bytes, position: int) -> tuple[int, int]:
    """dlib's integer: a byte with the length (low nibble) and the sign (high bit), then little-endian bytes."""
    control = data[position]
    length = control & 0x0F
    value = int.from_bytes(data[position + 1 : position + 1 + length], "little")
    return (-value if control & 0x80 else value), position + 1 + length


def _read_tensor(data: bytes, position: int) -> Tensor:
    """dlib's tensor (version 2): samples, channels, rows, columns, then that many little-endian float32."""
    numbers = []
    for _ in range(5):
        number, position = _read_int(data, position)
        numbers.append(number)
    count = math.prod(numbers[1:])
    if numbers[0] != 2 or min(numbers) < 0 or position + 4 * count > len(data):
        raise CheckpointError("This dlib network file is truncated or of another version.")
    return torch.from_numpy(np.frombuffer(data, "<f4", count, position).astype(np.float32))


def chip_transform(landmarks: np.ndarray) -> np.ndarray:
    """68 landmarks (x, y) in any pixel frame -> (2, 3): maps chip pixels (150x150) to that frame."""
    return similarity(MEAN_FACE, np.asarray(landmarks, dtype=np.float64)[list(ANCHORS)], CHIP_SIZE, PADDING)


def similarity(mean_face: np.ndarray, points: np.ndarray, size: int, padding: float) -> np.ndarray:
    """A mean face (N, 2) in a unit box, and where its points (N, 2) lie in a picture -> (2, 3), chip to picture.

    Least-squares similarity (Umeyama 1991) for a chip of size x size pixels with this padding: dlib's own geometry.
    """
    target = (mean_face + padding) / (2 * padding + 1) * size
    source = np.asarray(points, dtype=np.float64)
    target_mean, source_mean = target.mean(0), source.mean(0)
    t, s = target - target_mean, source - source_mean
    u, singular, vt = np.linalg.svd(s.T @ t)
    sign = np.diag([1.0, np.sign(np.linalg.det(u @ vt))])
    scale = (singular * np.diag(sign)).sum() / (t**2).sum()
    linear = scale * (u @ sign @ vt)
    centre = linear @ (size / 2 - target_mean) + source_mean
    linear *= (size - 1 / scale) / (size - 1)  # dlib lays corner pixels on the corners of a box of pixels
    return np.hstack([linear, (centre - linear.sum(1) * (size - 1) / 2)[:, None]])


def extract_chips(images: Tensor, transform: np.ndarray) -> Tensor:
    """images (B, 3, S, S) and a `chip_transform` in their pixels -> chips (B, 3, 150, 150); differentiable.

    Images much larger than the chip are area-averaged first, so that the sampling does not alias.
    """
    size = images.shape[-1]
    scale = float(np.sqrt(abs(np.linalg.det(transform[:, :2]))))
    shrink = max(1, int(scale))
    while size % shrink:  # only whole squares keep the geometry
        shrink -= 1
    images = F.avg_pool2d(images, shrink) if shrink > 1 else images
    to_unit = 2 / size  # pixel x (centre x) of the full image -> [-1, 1] with align_corners=False
    matrix = torch.as_tensor(transform, dtype=images.dtype, device=images.device)
    axis = torch.arange(CHIP_SIZE, dtype=images.dtype, device=images.device)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    points = torch.stack((x, y, torch.ones_like(x)), -1) @ matrix.T  # (150, 150, 2) image pixels
    grid = ((points + 0.5) * to_unit - 1).expand(images.shape[0], -1, -1, -1)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
