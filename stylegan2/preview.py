"""A small picture of a code, many times cheaper than a render: the generator's first half and a short tail.

Pose, shape and expression are settled at 32x32; what follows mostly paints.  The tail is one narrow block
of the generator's own kind, whose gains come from a projection of the rows that the first half
has not read.  It is for what asks for many pictures and looks at them from afar: training an encoder with
image losses, feeding an answer back to it (ReStyle), the first steps of an optimisation.

    ws (B, num_ws, w_dim) -> generator's features (B, 512, 32, 32) -> picture (B, 3, 128, 128)

`python -m encoders.previewing` trains it against renders; docs/cards/preview.md says how close it comes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from stylegan2 import w_statistics, weights
from stylegan2.generator import Generator
from stylegan2.mobile import STAGES, Block

SIZE = 128  # pixels of its pictures
STAGE = "b32"  # the generator's part ends here
FIRST = 6  # first row the tail reads: the last one before it, whose gain the features carry, and all after
SHIPPED = Path(__file__).with_name("data") / "preview.safetensors"


class Tail(nn.Module):
    """Features (B, C, 32, 32) and whitened rows (B, num_ws - FIRST, w_dim) -> RGB (B, 3, 128, 128), about [-1, 1]."""

    def __init__(self, channels: int = 512, num_ws: int = 16, w_dim: int = 512, paint: int = 192, width: int = 128):
        super().__init__()
        self.paint = nn.Linear((num_ws - FIRST) * w_dim, paint)
        self.block = Block(channels, width, 64, paint, last=True)

    def forward(self, x: Tensor, rows: Tensor) -> Tensor:
        paint = self.paint(rows.flatten(1))
        return self.block.to_img(self.block(x, paint, paint, {}, "block"), paint, {}, "to_img")


class Preview(nn.Module):
    """generator, tail -> a function of ws; the generator is used as it is, and not changed."""

    def __init__(self, generator: Generator, tail: Tail) -> None:
        super().__init__()
        self.generator, self.tail = generator, tail
        self.statistics = w_statistics.load().to(generator.w_avg.device)

    def forward(self, ws: Tensor) -> Tensor:
        """ws (B, num_ws, w_dim) -> RGB (B, 3, 128, 128), about [-1, 1]; differentiable."""
        return self.tail(self.generator.synthesis(ws, until=STAGE), self.statistics.whiten(ws[:, FIRST:]))


def start(generator: Generator, seed: int = 0) -> Tail:
    """A tail to train: every gain 1, depthwise kernels near the identity, a grey picture."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        tail = Tail(generator.channels[STAGES.index(STAGE)], generator.num_ws, generator.w_dim)
        for conv in (tail.block.conv1, tail.block.conv2):
            conv.depthwise.normal_(0, 0.1)[:, :, 1, 1] += 1
            conv.pointwise.normal_(0, (2 / conv.pointwise.shape[1]) ** 0.5)
    return tail


def load(generator: Generator, path: Path | str = SHIPPED) -> Preview:
    """safetensors of `weights.half` -> the generator's preview, frozen.  CheckpointError if it is anything else."""
    return from_state(generator, weights.read(path, "a preview's weights"), str(path))


def from_state(generator: Generator, state: Mapping[str, Tensor], source: str = "This file") -> Preview:
    """Named tensors (any float type) -> preview on the generator's device.  Every shape is compared first."""
    config = generator.channels[STAGES.index(STAGE)], generator.num_ws, generator.w_dim
    with weights.described(source, "a preview of this generator"):
        tail = weights.filled(lambda: Tail(*config), state)
    tail = tail.to(generator.w_avg.device, memory_format=torch.channels_last)
    return Preview(generator, tail).eval().requires_grad_(False)
