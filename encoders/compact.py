"""A compact e4e for 16-row generators: EfficientNet-Lite0, a feature pyramid, one code and small offsets.

e4e (Tov et al., arXiv 2102.02766) in 11 M parameters instead of 270 M.  What is e4e's: three levels of a
feature pyramid feed coarse, middle and fine rows; the code is w_0 plus offsets, switched on one after the
other in training (sec. 3.2).  What is not: an ImageNet backbone whose norms are folded in, one bottleneck per
level instead of a convolution stack per row, and codes in whitened W (`w_statistics`), where every
direction has unit variance, so that one loss fits all.  Beside the backbone, a linear map of the pictures at 16x16
leads to every level: light and colours, and most of what a second pass corrects, are nearly linear in them.

ReStyle (Alaluf et al., arXiv 2104.02699): the network sees the photo and what the current code renders to,
and predicts how far the code is off.  The first pass starts from the mean face, which is part of the weights.

    u_0 = 0     u_k+1 = u_k + f(photo, photo - G(u_k))     w = unwhiten(u)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from encoders.efficientnet import WIDTHS, EfficientNetLite0, normalised
from stylegan2 import w_statistics
from stylegan2.engine import area_resize
from stylegan2.errors import CheckpointError
from stylegan2.generator import Generator

SIZE = 128  # pixels of the pictures it sees: training at 256 costs four times as much
TAPS = (4, 10, 15)  # backbone blocks of the pyramid: strides 8, 16, 32
LOW = 16  # side of the pictures that pass by the backbone
LEVELS = (7, 3, 0)  # first row of the fine, middle and coarse level: e4e's split of the rows
Look = Callable[[Tensor], Tensor]
SHIPPED = Path(__file__).with_name("data") / "e4e-compact.safetensors"


class Level(nn.Module):
    """One level of the pyramid to one vector: (B, width, H, W) -> (B, w_dim)."""

    def __init__(self, width: int, pooled: int, grid: int, w_dim: int) -> None:
        super().__init__()
        self.grid = grid
        self.conv = nn.Conv2d(width, pooled, 3, padding=1)
        self.linear = nn.Linear(pooled * grid * grid, w_dim)

    def forward(self, x: Tensor) -> Tensor:
        x = F.leaky_relu(self.conv(x), 0.2)
        x = F.adaptive_avg_pool2d(x, self.grid).flatten(1)  # (B, pooled * grid * grid)
        return F.leaky_relu(self.linear(x), 0.2)


class CompactEncoder(nn.Module):
    """Photo and current rendering (B, 3, S, S), RGB in [-1, 1] -> update of the code (B, num_ws, w_dim), whitened.

    S is `SIZE` in use, which is what the shipped weights were trained on; any multiple of 32 from 128 on works.
    """

    def __init__(self, num_ws: int = 16, w_dim: int = 512, width: int = 160, pooled: int = 128, grid: int = 4) -> None:
        super().__init__()
        self.num_ws, self.w_dim = num_ws, w_dim
        self.backbone = EfficientNetLite0().requires_grad_(True)
        self.backbone.head = nn.Identity()
        self.seen = nn.Conv2d(3, 32, 3, 2, bias=False)  # the stem's other half: photo minus rendering
        self.lateral = nn.ModuleList(nn.Conv2d(WIDTHS[tap], width, 1) for tap in TAPS)
        self.levels = nn.ModuleList(Level(width, pooled, grid, w_dim) for _ in TAPS)
        self.direct = nn.ModuleList(nn.Linear(6 * LOW * LOW, w_dim, bias=False) for _ in TAPS)
        self.code = nn.Linear(w_dim, w_dim)  # w_0, from the coarse level
        self.offsets = nn.ModuleList(nn.Linear(w_dim, w_dim) for _ in range(num_ws - 1))
        self.register_buffer("mean_face", torch.zeros(3, SIZE, SIZE, dtype=torch.uint8))
        for layer in (self.seen, self.code, *self.offsets, *self.direct):
            nn.init.zeros_(layer.weight)
        for layer in (self.code, *self.offsets):
            nn.init.zeros_(layer.bias)

    def forward(self, photo: Tensor, rendered: Tensor, stage: int | None = None) -> Tensor:
        """stage: how many offsets take part, 0 to num_ws - 1; the other rows are w_0 alone.  None: all."""
        difference = F.pad(photo - rendered, (0, 1, 0, 1))  # the stem pads likewise
        x = F.relu6(self.backbone.stem(normalised(photo)) + self.seen(difference))  # (B, 32, S/2, S/2)
        fine, middle, coarse = self.backbone.maps(x, TAPS)  # (B, 40, S/8, S/8), (B, 112, ..16), (B, 320, ..32)
        top = self.lateral[2](coarse)
        mid = self.lateral[1](middle) + F.interpolate(top, size=middle.shape[-2:], mode="nearest")
        low = self.lateral[0](fine) + F.interpolate(mid, size=fine.shape[-2:], mode="nearest")
        pixels = torch.cat([area_resize(image, LOW).flatten(1) for image in (photo, photo - rendered)], 1)  # (B, 1536)
        maps = zip(self.levels, self.direct, (low, mid, top), strict=True)
        vectors = [level(x) + direct(pixels) for level, direct, x in maps]  # 3 x (B, w_dim)
        code = self.code(vectors[2])
        rows = [code]
        for row, offset in enumerate(self.offsets, start=1):
            taking_part = stage is None or row <= stage
            level = next(index for index, first in enumerate(LEVELS) if row >= first)
            rows.append(code + offset(vectors[level]) if taking_part else code)
        return torch.stack(rows, 1)


def start(image_net: EfficientNetLite0, generator: Generator) -> CompactEncoder:
    """A new encoder for this generator: ImageNet's backbone, and heads that answer with the mean face."""
    encoder = CompactEncoder(generator.num_ws, generator.w_dim)
    backbone = {name: tensor for name, tensor in image_net.state_dict().items() if not name.startswith("head.")}
    encoder.backbone.load_state_dict(backbone)
    statistics = w_statistics.load().to(generator.w_avg.device)
    with torch.no_grad():
        mean = area_resize(generator.synthesis(statistics.mean.expand(1, generator.num_ws, -1)), SIZE)
        encoder.mean_face.copy_(((mean[0].clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8))
    return encoder


def mean_face(encoder: CompactEncoder, size: int = SIZE) -> Tensor:
    """-> (1, 3, size, size) in [-1, 1]: what the code 0 renders to."""
    return resized(encoder.mean_face[None].float() / 127.5 - 1, size)


def passes(encoder: CompactEncoder, look: Look, photo: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """photo (B, 3, S, S) -> whitened codes (B, num_ws, w_dim) after `count` passes, and their looks (B, 3, S, S).

    look: ws (B, num_ws, w_dim) -> pictures (B, 3, R, R) of any size: a preview, or the generator itself.
    """
    statistics, size = w_statistics.load().to(photo.device), photo.shape[-1]
    u = photo.new_zeros(len(photo), encoder.num_ws, encoder.w_dim)
    seen = mean_face(encoder, size).to(photo).expand_as(photo)
    for _ in range(count):
        u = u + encoder(photo, seen)
        seen = resized(look(statistics.unwhiten(u)), size).clamp(-1, 1)
    return u, seen


def resized(images: Tensor, size: int) -> Tensor:
    """(B, 3, R, R) -> (B, 3, size, size): area-averaged where smaller, bilinear where larger."""
    if images.shape[-1] >= size:
        return area_resize(images, size)
    return F.interpolate(images, size=(size, size), mode="bilinear")


def encode(encoder: CompactEncoder, look: Look, images: Tensor, count: int = 1) -> Tensor:
    """images (B, 3, R, R) RGB in [-1, 1] -> ws (B, num_ws, w_dim) in W+.  Every pass costs one look."""
    with torch.no_grad():
        photo = area_resize(images, SIZE)
        u, seen = passes(encoder, look, photo, count - 1)
        return w_statistics.load().to(images.device).unwhiten(u + encoder(photo, seen))


def load(path: Path | str = SHIPPED) -> CompactEncoder:
    """safetensors of `state` -> encoder in eval mode, frozen.  CheckpointError if it is anything else."""
    try:
        state = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as encoder weights: {error}") from None
    return from_state(state, str(path))


def from_state(state: Mapping[str, Tensor], source: str = "This file") -> CompactEncoder:
    """Named tensors (any float type) -> encoder in eval mode, frozen.  Every shape is compared first."""
    try:
        num_ws = 1 + sum(name.startswith("offsets.") and name.endswith(".weight") for name in state)
        width, pooled = state["lateral.0.bias"].shape[0], state["levels.0.conv.bias"].shape[0]
        w_dim, features = state["levels.0.linear.weight"].shape
        config = (num_ws, w_dim, width, pooled, round((features / pooled) ** 0.5))
        with torch.device("meta"):
            expected = CompactEncoder(*config).state_dict()
        for name, tensor in expected.items():
            if state[name].shape != tensor.shape:
                raise ValueError(f"{name} has the shape {tuple(state[name].shape)}, not {tuple(tensor.shape)}")
            if not bool(torch.isfinite(state[name]).all()):
                raise ValueError(f"{name} holds numbers that are not finite")
        encoder = CompactEncoder(*config)
        encoder.load_state_dict({name: state[name].to(tensor.dtype) for name, tensor in expected.items()})
    except (KeyError, ValueError, IndexError, ZeroDivisionError) as error:
        reason = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(f"{source} is not a compact encoder: {reason}.") from None
    return encoder.eval().requires_grad_(False)


def state(encoder: CompactEncoder) -> dict[str, Tensor]:
    """What is saved: fp16 weights and the mean face."""
    tensors = encoder.state_dict().items()
    return {name: (t.half() if t.is_floating_point() else t).contiguous().cpu() for name, t in tensors}
