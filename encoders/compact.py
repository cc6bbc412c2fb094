"""A compact e4e for 16-row generators: EfficientNet-Lite0, a feature pyramid, one code and small offsets.

e4e (Tov et al., arXiv 2102.02766) in 11 M parameters instead of 270 M.  What is e4e's: three levels of a
feature pyramid feed coarse, middle and fine rows; the code is w_0 plus offsets, switched on one after the
other in training (sec. 3.2).  What is not: an ImageNet backbone whose norms are folded in, one bottleneck per
level instead of a convolution stack per row, and codes in whitened W (`w_statistics`), where every
direction has unit variance, so that one loss fits all.  Beside the backbone, a linear map of the picture at 16x16
leads to every level: light and colours are nearly linear in it.

One pass, and no more: what a second one would correct (ReStyle, Alaluf et al., arXiv 2104.02699), descent on previews
corrects better (`editing.inversion.encoding`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encoders.efficientnet import WIDTHS, EfficientNetLite0, normalised
from stylegan2 import w_statistics, weights
from stylegan2.engine import area_resize
from stylegan2.generator import Generator

SIZE = 128  # pixels of the pictures it sees: training at 256 costs four times as much
TAPS = (4, 10, 15)  # backbone blocks of the pyramid: strides 8, 16, 32
LOW = 16  # side of the pictures that pass by the backbone
LEVELS = (7, 3, 0)  # first row of the fine, middle and coarse level: e4e's split of the rows
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
    """Photo (B, 3, SIZE, SIZE), RGB in [-1, 1] -> code (B, num_ws, w_dim), whitened.

    Aligned faces all sit in one place, so where something is says what it is: `place` is added to what the stem sees.
    """

    def __init__(self, num_ws: int = 16, w_dim: int = 512, width: int = 160, pooled: int = 128, grid: int = 4) -> None:
        super().__init__()
        self.num_ws, self.w_dim = num_ws, w_dim
        self.backbone = EfficientNetLite0().requires_grad_(True)
        self.backbone.head = nn.Identity()
        self.place = nn.Parameter(torch.zeros(1, 32, SIZE // 2, SIZE // 2))
        self.lateral = nn.ModuleList(nn.Conv2d(WIDTHS[tap], width, 1) for tap in TAPS)
        self.levels = nn.ModuleList(Level(width, pooled, grid, w_dim) for _ in TAPS)
        self.direct = nn.ModuleList(nn.Linear(3 * LOW * LOW, w_dim, bias=False) for _ in TAPS)
        self.code = nn.Linear(w_dim, w_dim)  # w_0, from the coarse level
        self.offsets = nn.ModuleList(nn.Linear(w_dim, w_dim) for _ in range(num_ws - 1))
        for layer in (self.code, *self.offsets, *self.direct):
            nn.init.zeros_(layer.weight)
        for layer in (self.code, *self.offsets):
            nn.init.zeros_(layer.bias)

    def forward(self, photo: Tensor, stage: int | None = None) -> Tensor:
        """stage: how many offsets take part, 0 to num_ws - 1; the other rows are w_0 alone.  None: all."""
        x = F.relu6(self.backbone.stem(normalised(photo)) + self.place)  # (B, 32, S/2, S/2)
        pixels = area_resize(photo, LOW).flatten(1)  # (B, 768)
        return self.rows(self.vectors(self.backbone.maps(x, TAPS), pixels), stage)

    def vectors(self, maps: Sequence[Tensor], pixels: Tensor) -> list[Tensor]:
        """The backbone's (B, 40, S/8, S/8), (B, 112, ..16), (B, 320, ..32), and the small picture (B, 768) -> a vector
        (B, w_dim) for fine, middle and coarse rows."""
        fine, middle, coarse = maps
        top = self.lateral[2](coarse)
        mid = self.lateral[1](middle) + F.interpolate(top, size=middle.shape[-2:], mode="nearest")
        low = self.lateral[0](fine) + F.interpolate(mid, size=fine.shape[-2:], mode="nearest")
        levels = zip(self.levels, self.direct, (low, mid, top), strict=True)
        return [level(x) + direct(pixels) for level, direct, x in levels]

    def rows(self, vectors: Sequence[Tensor], stage: int | None = None) -> Tensor:
        """Those vectors -> code (B, num_ws, w_dim), whitened."""
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
    return encoder


def encode(encoder: CompactEncoder, images: Tensor) -> Tensor:
    """images (B, 3, R, R) RGB in [-1, 1] -> ws (B, num_ws, w_dim) in W+."""
    with torch.no_grad():
        return w_statistics.load().to(images.device).unwhiten(encoder(area_resize(images, SIZE)))


def load(path: Path | str = SHIPPED) -> CompactEncoder:
    """safetensors of `weights.half` -> encoder in eval mode, frozen.  CheckpointError if it is anything else."""
    return from_state(weights.read(path, "encoder weights"), str(path))


@cache
def shipped(device: torch.device) -> CompactEncoder:
    """The encoder of the package, loaded once for a device; whoever asks first, others may train around it."""
    with torch.inference_mode(False):
        return load().to(device, memory_format=torch.channels_last)


def from_state(state: Mapping[str, Tensor], source: str = "This file") -> CompactEncoder:
    """Named tensors (any float type) -> encoder in eval mode, frozen.  Every shape is compared first."""
    with weights.described(source, "a compact encoder"):
        num_ws = 1 + sum(name.startswith("offsets.") and name.endswith(".weight") for name in state)
        width, pooled = state["lateral.0.bias"].shape[0], state["levels.0.conv.bias"].shape[0]
        w_dim, features = state["levels.0.linear.weight"].shape
        config = (num_ws, w_dim, width, pooled, round((features / pooled) ** 0.5))
        return weights.filled(lambda: CompactEncoder(*config), state)
