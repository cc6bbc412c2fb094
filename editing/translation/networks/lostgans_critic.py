"""LostGANs' discriminator: is the picture real, and is each object, as one of its class?  (arXiv 1908.07500, section
3.4.)

A residual network with spectral norm; objects are cut out of its features by RoIAlign (He et al., arXiv 1703.06870),
large ones from deeper features.  Scores are those of a projection discriminator (1802.05637): a linear layer, plus the
product with the embedding of the class.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from editing.translation.networks.lostgans import spectral

CELLS = 8  # of an object along a side


def averaging(start: Tensor, extent: Tensor, cells: int, length: int) -> Tensor:
    """Intervals of a line of `length` samples (N,), (N,) -> weights (N, cells, length) that average each cell of them.

    A cell is read at ceil(extent / cells) points, in the middle of as many equal parts.  A point lies between two
    samples, of which sample j stands at j; off the line by more than a sample it is 0.  Extents below 1 count as 1.
    """
    extent = extent.clamp(min=1)
    count = (extent / cells).ceil()[:, None, None]
    part, cell = torch.arange(int(count.max()), device=start.device), torch.arange(cells, device=start.device)
    point = start[:, None, None] + (extent / cells)[:, None, None] * (cell[:, None] + (part + 0.5) / count)
    counted = (part < count) & (point >= -1) & (point <= length)
    point = point.clamp(0, length - 1)  # (N, cells, parts)
    near = (1 - (point[..., None] - torch.arange(length, device=start.device)).abs()).clamp(min=0)
    return (near * counted[..., None]).sum(2) / count


def roi_align(x: Tensor, boxes: Tensor, scale: float, cells: int = CELLS) -> Tensor:
    """Features (B, C, H, W), boxes (B, O, 4) as left, top, right, bottom in pixels of the picture, which are `scale` of
    a feature -> (B, O, C, cells, cells).

    RoIAlign without the half-pixel shift, with as many points in a cell as it has features along either axis, rounded
    up (torchvision: aligned=False, sampling_ratio=-1).  Bilinear reading and averaging are linear and every axis has
    its own points, so a box is two matrices and no point is ever gathered.
    """
    low, high = boxes[..., :2] * scale, boxes[..., 2:] * scale
    extent = high - low
    across, down = (
        averaging(low[..., axis].flatten(), extent[..., axis].flatten(), cells, x.shape[3 - axis]).unflatten(
            0, boxes.shape[:2]
        )
        for axis in (0, 1)
    )
    return torch.einsum("boph,bchw,boqw->bocpq", down, x, across)


class CriticBlock(nn.Module):
    """x (B, inputs, h, w) -> (B, outputs, h / 2, w / 2), or of the same size.  first: x is a picture, not rectified."""

    def __init__(self, inputs: int, outputs: int, down: bool = True, first: bool = False) -> None:
        super().__init__()
        self.down, self.first = down, first
        self.conv1 = spectral(nn.Conv2d(inputs, outputs, 3, padding=1))
        self.conv2 = spectral(nn.Conv2d(outputs, outputs, 3, padding=1))
        self.c_sc = spectral(nn.Conv2d(inputs, outputs, 1)) if down or inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(F.relu(self.conv1(x if self.first else F.relu(x))))
        y = y + (self.c_sc(x) if self.c_sc is not None else x)
        return F.avg_pool2d(y, 2) if self.down else y


@dataclass(frozen=True)
class Plan:
    """Of one size.  factors: channels of the blocks over the width; down: those that halve.  large, small: the block
    whose features objects are cut from.  objects: (number, channels in, channels out, halves) of their blocks, in turn:
    small objects go through all of them, large ones through all but the first."""

    factors: tuple[int, ...]
    down: tuple[bool, ...]
    large: int
    small: int
    objects: tuple[tuple[int, int, int, bool], ...]


# Shapes and strides that are known tell which blocks halve, but for some: of the object blocks only that 256's middle
# one does not (ours: the last alone does), and of 64, where all objects are of one kind, nothing of the first two.
PLANS = {
    64: Plan((1, 2, 4, 8, 16), (False, False, True, True, True), 3, 3, ((4, 4, 8, False),)),
    128: Plan(
        (1, 2, 4, 8, 16, 16), (True,) * 5 + (False,), 3, 2, ((3, 2, 4, False), (4, 4, 8, False), (5, 8, 16, True))
    ),
    256: Plan(
        (1, 2, 4, 8, 8, 16, 16), (True,) * 6 + (False,), 4, 3, ((4, 4, 8, False), (5, 8, 8, False), (6, 8, 16, True))
    ),
}
FINAL = {size: f"obD.l{len(plan.down) + 1}" for size, plan in PLANS.items()}  # the last layer of each, as files name it


def summed(x: Tensor) -> Tensor:
    """(N, C, h, w) -> (N, C)"""
    return F.relu(x).sum((2, 3))


class Critic(nn.Module):
    """Pictures (B, 3, S, S), boxes (B, O, 4) in pixels, labels (B, O), 0 pads -> (B, 1) and (K, 1), see below."""

    def __init__(self, classes: int, size: int, width: int) -> None:
        super().__init__()
        self.plan, self.size = PLANS[size], size
        channels = [3, *(width * factor for factor in self.plan.factors)]
        for i, down in enumerate(self.plan.down, 1):
            self.add_module(f"block{i}", CriticBlock(channels[i - 1], channels[i], down, first=i == 1))
        self.final = f"l{len(self.plan.down) + 1}"
        self.add_module(self.final, spectral(nn.Linear(channels[-1], 1)))
        for number, inputs, outputs, down in self.plan.objects:
            self.add_module(f"block_obj{number}", CriticBlock(width * inputs, width * outputs, down))
        wide = width * self.plan.objects[-1][2]
        self.l_obj, self.l_y = spectral(nn.Linear(wide, 1)), spectral(nn.Embedding(classes, wide))

    def cut(self, features: list[Tensor], block: int, boxes: Tensor) -> Tensor:
        x = features[block]
        return roi_align(x, boxes, x.shape[-1] / self.size)

    def forward(self, images: Tensor, boxes: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        features = [images]
        for i in range(1, len(self.plan.down) + 1):
            features.append(getattr(self, f"block{i}")(features[-1]))
        score = getattr(self, self.final)(summed(features[-1]))
        blocks = [getattr(self, f"block_obj{number}") for number, *_ in self.plan.objects]
        there = labels != 0
        small = ((boxes[..., 2:] - boxes[..., :2]) < self.size / 2).all(-1) & there
        large = there & ~small
        found, order = self.cut(features, self.plan.large, boxes), torch.cat([labels[large], labels[small]])
        if self.plan.small == self.plan.large:
            y = torch.cat([found[large], found[small]])
        else:
            y = torch.cat([found[large], blocks.pop(0)(self.cut(features, self.plan.small, boxes)[small])])
        for block in blocks:
            y = block(y)
        y = summed(y)  # (K, channels)
        return score, self.l_obj(y) + (self.l_y(order) * y).sum(1, keepdim=True)


class LostGANDiscriminator(nn.Module):
    """Pictures (B, 3, S, S) in [-1, 1], boxes (B, O, 4) as fractions (x, y, width, height), labels (B, O), 0 pads
    -> logits of pictures (B, 1), and of the K objects that are no padding (K, 1): first all large ones, then all that
    are smaller than half the picture both ways, each in the order of the batch.  S is 64, 128 or 256."""

    def __init__(self, classes: int = 184, size: int = 128, width: int = 64) -> None:
        super().__init__()
        self.classes, self.size = classes, size
        self.obD = Critic(classes, size, width)

    def forward(self, images: Tensor, boxes: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        corners = torch.cat([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], -1) * self.size
        return self.obD(images, corners, labels)
