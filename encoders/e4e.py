"""The published encoders into W+ and W: e4e, and the W-encoder of HyperStyle.

e4e (Tov et al., arXiv 2102.02766) is made for editing, and edits work best near W.  So an image gives
one code w_0 and offsets, E(x) = (w_0, w_0 + D_1, ..., w_0 + D_(N-1)).  In training the offsets
are switched on one after another, coarse rows first (progressive training: stage k knows D_1 ... D_k),
and are kept small by L_d-reg = sum_i ||D_i||_2.  Heads sit on a feature pyramid of three levels as in
pSp (arXiv 2008.00951, section 3, figure 2).  HyperStyle (Alaluf et al., arXiv 2111.15666, section
3) starts from a plain W code, for which the same body has a single linear head.  Both networks give
codes relative to the average w, which their files store beside them; see `encoders.checkpoints`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log2

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encoders.irse import IRSE50, REDUCTION
from stylegan2.layers import Dense
from stylegan2.networks import broadcast

MIDDLE_ROW, FINE_ROW = 3, 7  # rows 0-2 are read from 16x16 features, 3-6 from 32x32, all others from 64x64
LEAK = 0.01  # slope of the heads' LeakyReLU, not StyleGAN's 0.2


@dataclass(frozen=True)
class EncoderConfig:
    """Shape of an encoder: rows of ws (18 at 1024 pixels), body width, size of a code; defaults as published."""

    num_ws: int = 18
    width: int = 64
    w_dim: int = 512

    def __post_init__(self) -> None:
        if not (1 <= self.num_ws <= 64 and 1 <= self.w_dim <= 4096):
            raise ValueError(f"{self.num_ws} rows of {self.w_dim} numbers are out of range for an encoder")
        if self.width % REDUCTION or not REDUCTION <= self.width <= 1024:
            raise ValueError(f"the encoder's width must be a multiple of {REDUCTION} up to 1024, got {self.width}")


# ---- progressive training


def last_row(num_ws: int, stage: int | None) -> int:
    """The last row with an offset of its own at a progressive stage; None stands for the last stage."""
    if stage is None:
        return num_ws - 1
    if not 0 <= stage < num_ws:
        raise ValueError(f"the progressive stage of {num_ws} rows is 0 to {num_ws - 1} or None, not {stage}")
    return stage


def delta_penalty(codes: Tensor, stage: int | None = None) -> Tensor:
    """L_d-reg of codes or ws (B, num_ws, w_dim): sum of ||row_i - row_0||_2 over i = 1..stage, mean over images."""
    deltas = codes[:, 1 : last_row(codes.shape[1], stage) + 1] - codes[:, :1]  # (B, stage, w_dim)
    return torch.linalg.vector_norm(deltas, dim=2).sum(dim=1).mean()


# ---- heads


class GradualStyleBlock(nn.Module):
    """Features (B, I, size, size) -> one code (B, O): convolutions of stride 2 down to one pixel, then a linear layer.

    Known as map2style in pSp; a power of two `size` takes log2(size) convolutions.
    """

    def __init__(self, inputs: int, outputs: int, size: int) -> None:
        super().__init__()
        layers = []
        for index in range(int(log2(size))):
            layers += [nn.Conv2d(outputs if index else inputs, outputs, 3, 2, 1), nn.LeakyReLU(LEAK)]
        self.convs = nn.Sequential(*layers)
        self.linear = Dense(outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.convs(x)  # (B, O, 1, 1)
        return self.linear(x.flatten(1))  # (B, O)


def upsample_add(coarse: Tensor, fine: Tensor) -> Tensor:
    """coarse (B, C, h, w) enlarged to fine (B, C, H, W), corners on corners, plus fine."""
    return F.interpolate(coarse, size=fine.shape[2:], mode="bilinear", align_corners=True) + fine


# ---- networks


class Encoder4Editing(IRSE50):
    """Images (B, 3, 256, 256), RGB in [-1, 1] -> codes (B, num_ws, w_dim), W+ relative to the average w."""

    kind = "e4e"

    def __init__(self, config: EncoderConfig | None = None) -> None:
        config = config or EncoderConfig()
        super().__init__(config.width)
        self.config = config
        channels = 8 * config.width
        self.styles = nn.ModuleList(
            GradualStyleBlock(channels, config.w_dim, 16 if row < MIDDLE_ROW else 32 if row < FINE_ROW else 64)
            for row in range(config.num_ws)
        )
        self.latlayer1 = nn.Conv2d(channels // 2, channels, 1)
        self.latlayer2 = nn.Conv2d(channels // 4, channels, 1)

    def forward(self, images: Tensor, stage: int | None = None) -> Tensor:
        """stage: 0 gives w_0 in every row, k adds the offsets of rows 1 to k; None (inference) adds all.

        Heads beyond the stage are not run, so they get no gradient.
        """
        last = last_row(self.config.num_ws, stage)
        fine, middle, coarse = self.pyramid(images)  # 64x64, 32x32, 16x16
        w = self.styles[0](coarse)  # (B, w_dim)
        rows, features = [w], coarse  # (B, 8 W, 16, 16)
        for row in range(1, last + 1):
            if row == MIDDLE_ROW:
                features = upsample_add(features, self.latlayer1(middle))  # (B, 8 W, 32, 32)
            elif row == FINE_ROW:
                features = upsample_add(features, self.latlayer2(fine))  # (B, 8 W, 64, 64)
            rows.append(w + self.styles[row](features))
        rows += [w] * (self.config.num_ws - len(rows))
        return torch.stack(rows, dim=1)  # (B, num_ws, w_dim)


class WEncoder(IRSE50):
    """Images (B, 3, 256, 256), RGB in [-1, 1] -> codes (B, num_ws, w_dim), W relative to the average w.

    The rows are one and the same code: a view, to be copied before it is written into.
    """

    kind = "w"

    def __init__(self, config: EncoderConfig | None = None) -> None:
        config = config or EncoderConfig()
        super().__init__(config.width)
        self.config = config
        self.linear = Dense(8 * config.width, config.w_dim)

    def forward(self, images: Tensor) -> Tensor:
        _, _, x = self.pyramid(images)  # (B, 8 W, 16, 16)
        w = self.linear(x.mean((2, 3)))  # (B, w_dim)
        return broadcast(w, self.config.num_ws)
