"""A picture of a code at half the size, without the generator's last block: for looking while a slider moves.

The last block of MobileStyleGAN works at half the picture's side and takes two fifths of a render's time.  A
narrow read-out of the activation before it says nearly the same at half the size: a linear part, and a separable
convolution beside it, both with gains from the rows that the last block would have read.

    activation (B, C, R/4, R/4), rows (B, 3, w_dim) -> picture (B, 3, R/2, R/2)

`python -m encoders.quick` trains it against renders; docs/cards/quick.md says how close it comes.  Nothing that is
saved is drawn by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stylegan2 import w_statistics, weights
from stylegan2.generator import Generator
from stylegan2.mobile import STAGES, Modulation, SeparableConv
from stylegan2.ops import inverse_haar

ROWS = 3  # of the code, the last ones: those that the last block reads
WIDTH = 48  # channels of the convolution
SHIPPED = Path(__file__).with_name("data") / "quick.safetensors"


class ReadOut(nn.Module):
    """Activation (B, C, S, S) and whitened rows (B, ROWS, w_dim) -> RGB (B, 3, 2S, 2S), about [-1, 1]."""

    def __init__(self, channels: int, resolution: int, w_dim: int = 512, width: int = WIDTH) -> None:
        super().__init__()
        self.gain = Modulation(channels, ROWS * w_dim)
        self.linear = nn.Parameter(torch.zeros(12, channels))
        self.conv = SeparableConv(channels, width, resolution, ROWS * w_dim)
        self.bands_gain = Modulation(width, ROWS * w_dim)
        self.bands = nn.Parameter(torch.zeros(12, width))
        self.bias = nn.Parameter(torch.zeros(12))

    def forward(self, x: Tensor, rows: Tensor) -> Tensor:
        w = rows.flatten(1)
        y = self.conv(x, w, {}, "conv")
        if len(x) == 1:  # one picture: gains ride on the weights
            linear = F.conv2d(x, (self.linear * self.gain(w)[0, :, 0, 0])[..., None, None], self.bias)
            return inverse_haar(linear + F.conv2d(y, (self.bands * self.bands_gain(w)[0, :, 0, 0])[..., None, None]))
        linear = F.conv2d(x * self.gain(w), self.linear[..., None, None], self.bias)
        return inverse_haar(linear + F.conv2d(y * self.bands_gain(w), self.bands[..., None, None]))


class Quick(nn.Module):
    """generator, read-out -> what draws its activations at `stage`; the generator is used as it is, and not changed."""

    def __init__(self, generator: Generator, readout: ReadOut) -> None:
        super().__init__()
        self.generator, self.readout, self.stage = generator, readout, stage_of(generator)
        self.statistics = w_statistics.load().to(generator.w_avg.device)

    def draw(self, x: Tensor, ws: Tensor) -> Tensor:
        """The stage's activation x (B, C, R/4, R/4) at ws (B, num_ws, w_dim) -> RGB (B, 3, R/2, R/2)."""
        return self.readout(x, self.statistics.whiten(ws[:, -ROWS:]))

    def forward(self, ws: Tensor) -> Tensor:
        """ws (B, num_ws, w_dim) -> RGB (B, 3, R/2, R/2), about [-1, 1]."""
        return self.draw(self.generator.synthesis(ws, until=self.stage), ws)


def stage_of(generator: Generator) -> str:
    """The last stage but one: 'b256' of the default generator."""
    return STAGES[len(generator.channels) - 2]


def sizes(generator: Generator) -> tuple[int, int, int]:
    """What a `ReadOut` of this generator takes: channels and side of the activation, w_dim."""
    return generator.channels[-2], generator.resolution // 4, generator.w_dim


def start(generator: Generator, seed: int = 0) -> ReadOut:
    """A read-out to train: every gain 1, a grey picture."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        readout = ReadOut(*sizes(generator))
        readout.conv.depthwise.normal_(0, 0.1)[:, :, 1, 1] += 1
        readout.conv.pointwise.normal_(0, (2 / readout.conv.pointwise.shape[1]) ** 0.5)
        readout.bands.normal_(0, 0.01)
    return readout


def load(generator: Generator, path: Path | str = SHIPPED) -> Quick:
    """safetensors of `weights.half` -> the generator's read-out, frozen.  CheckpointError if it is anything else."""
    return from_state(generator, weights.read(path, "a read-out's weights"), str(path))


def from_state(generator: Generator, state: Mapping[str, Tensor], source: str = "This file") -> Quick:
    """Named tensors (any float type) -> `Quick` on the generator's device.  Every shape is compared first."""
    with weights.described(source, "a read-out of this generator"):
        readout = weights.filled(lambda: ReadOut(*sizes(generator)), state)
    readout = readout.to(generator.w_avg.device, memory_format=torch.channels_last)
    return Quick(generator, readout).eval().requires_grad_(False)
