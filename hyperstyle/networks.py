"""HyperStyle's hypernetwork as published: a photo and its reconstruction -> offsets of StyleGAN2's convolutions.

Alaluf et al., CVPR 2022, arXiv 2111.15666.  The generator's weight W of layer l becomes W (1 + D_l), eq. 5, before
modulation and demodulation; the D_l of one photo are what this network says (section 3):

    D = H(cat[x, y])        x the photo, y what the generator draws of it so far

A ResNet-34 (He et al., arXiv 1512.03385) without its pooling makes features of the six channels, and every tuned layer
has a refinement block of its own that reads them.  Three billion parameters become 333 million in two ways.  The
layers from 512 to 512 channels get an offset for each tap, through one hyper-head that they share (Ha et al.,
arXiv 1609.09106).  All others get one offset for each pair of channels; or, in the separable variant, one for each
tap, nearly of rank one.  to_rgb is never tuned.

Layers are numbered as published: 0 is b4.conv1, 1 is b4.to_rgb, 2 is b8.conv0, ...  A state dict has the published
names, those of the hyper-head once more under each block that reads it.  How it is used: `hyperstyle.refine`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stylegan2.generator import Delta, Layer
from stylegan2.layers import Dense
from stylegan2.networks import StyleGAN2Config, SynthesisNetwork, describe_layers

INPUT_SIZE = 256
TAPS = 9  # of a 3x3 kernel
LEAK = 0.01  # slope of the blocks' LeakyReLU, not StyleGAN's 0.2
STAGES = ((1, 3), (2, 4), (4, 6), (8, 3))  # of ResNet-34: channels in units of the width, blocks
ALL_LAYERS = (0, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18, 20, 21, 23, 24)  # every convolution at 1024 pixels
RELEASED_LAYERS = ALL_LAYERS[3:]  # of the released face model: the three coarsest are left alone


@cache
def numbered_layers(generator: StyleGAN2Config) -> tuple[Layer, ...]:
    """The generator's layers in the order of their published numbers."""
    with torch.device("meta"):
        return tuple(describe_layers(SynthesisNetwork(generator)).values())


@dataclass(frozen=True)
class HyperStyleConfig:
    """Shape of a hypernetwork; the defaults are the published one for 1024 pixels with all layers tuned.

    layers: the numbers of the tuned layers, ascending.  resolution, channel_base and channel_max are the
    generator's (`StyleGAN2Config`).  width: channels of the trunk's first stage.
    """

    layers: tuple[int, ...] = ALL_LAYERS
    separable: bool = False
    resolution: int = 1024
    channel_base: int = 32768
    channel_max: int = 512
    width: int = 64

    def __post_init__(self) -> None:
        sizes = {"channel_base": 1 << 20, "channel_max": 4096, "width": 1024, "resolution": 4096}
        for name, most in sizes.items():
            if type(getattr(self, name)) is not int or not 1 <= getattr(self, name) <= most:
                raise ValueError(f"{name} must be a whole number from 1 to {most}, got {getattr(self, name)!r}")
        if type(self.separable) is not bool or type(self.layers) is not tuple:
            raise ValueError("separable must be true or false, and layers a tuple of numbers")
        known = {i: layer for i, layer in enumerate(numbered_layers(self.generator)) if layer.kind == "conv"}
        wrong = [i for i in self.layers if type(i) is not int or i not in known]
        if wrong:
            raise ValueError(f"layer {wrong[0]!r} of {self.resolution} pixels cannot be tuned; {list(known)} can")
        if not self.layers or list(self.layers) != sorted(set(self.layers)):
            raise ValueError("layers must be one or more numbers, each once, ascending")

    @property
    def generator(self) -> StyleGAN2Config:
        return StyleGAN2Config(self.resolution, channel_base=self.channel_base, channel_max=self.channel_max)

    @property
    def tuned(self) -> dict[int, Layer]:
        """Published number -> layer of our generator."""
        return {i: numbered_layers(self.generator)[i] for i in self.layers}

    @property
    def shared(self) -> tuple[int, ...]:
        """The tuned layers that use the one hyper-head: those with the most channels on both sides."""
        return tuple(i for i, layer in self.tuned.items() if layer.shape[:2] == (self.channel_max,) * 2)

    @property
    def copies(self) -> dict[str, str]:
        """Names under which the state dict lists the hyper-head once more -> the names it has on its own."""
        parts = ("w1", "b1", "w2", "b2")
        return {
            f"refinement_blocks.{i}.hypernet.{p}": f"shared_weight_hypernet.{p}" for i in self.shared for p in parts
        }


# ---- the trunk


class BasicBlock(nn.Module):
    """x (B, I, H, W) -> (B, O, H/stride, W/stride), two convolutions and a shortcut, ReLU after the sum."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = nn.Identity()
        if inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x)).relu()
        return (self.bn2(self.conv2(y)) + self.downsample(x)).relu()


def residual_stages(width: int) -> nn.Sequential:
    """(B, width, 128, 128) -> (B, 8 width, 16, 16); the stages one after another, without nesting."""
    blocks, channels = [], width
    for units, count in STAGES:
        for index in range(count):
            blocks.append(BasicBlock(channels, units * width, stride=2 if units > 1 and index == 0 else 1))
            channels = units * width
    return nn.Sequential(*blocks)


# ---- refinement blocks


def convolutions(widths: tuple[int, ...], first_stride: int = 2) -> nn.Sequential:
    """3x3 convolutions from each width to the next, of stride 2 (but for the first one), each with a LeakyReLU."""
    layers = []
    for index, (inputs, outputs) in enumerate(zip(widths, widths[1:], strict=False)):
        layers += [nn.Conv2d(inputs, outputs, 3, 2 if index else first_stride, 1), nn.LeakyReLU(LEAK)]
    return nn.Sequential(*layers)


class SharedWeights(nn.Module):
    """Codes (B, F) -> offsets (B, C, C, 3, 3): first a code for every output channel, then that channel's kernel.

    The published product is read as (out, in, 3, 3) just as it lies in memory, so its rows are output channels.
    How the parameters begin is our choice, such that offsets begin near zero; files bring their own.
    """

    def __init__(self, features: int, channels: int) -> None:
        super().__init__()
        self.w1 = nn.Parameter(torch.randn(features, channels * TAPS) * 0.01)
        self.b1 = nn.Parameter(torch.zeros(channels * TAPS))
        self.w2 = nn.Parameter(torch.randn(features, channels * features) * 0.01)
        self.b2 = nn.Parameter(torch.zeros(channels * features))
        self.channels = channels

    def forward(self, codes: Tensor) -> Tensor:
        rows = (codes @ self.w2 + self.b2).unflatten(1, (self.channels, -1))  # (B, C, F)
        kernels = rows @ self.w1 + self.b1  # (B, C, 9 C)
        return kernels.unflatten(2, (self.channels, 3, 3))


class SharedRefinementBlock(nn.Module):
    """Features (B, F, 16, 16) -> offsets (B, C, C, 3, 3) through the hyper-head, which belongs to all such blocks."""

    def __init__(self, features: int, head: SharedWeights) -> None:
        super().__init__()
        self.convs = convolutions((features, *[features // 4] * 4, features), first_stride=1)
        self.linear = Dense(features, features)
        self.hypernet = head

    def forward(self, x: Tensor) -> Tensor:
        codes = self.convs(x).flatten(1)  # (B, F, 1, 1) -> (B, F)
        return self.hypernet(self.linear(codes))


class RefinementBlock(nn.Module):
    """Features (B, F, 16, 16) -> offsets (B, O, I, 1, 1), the same for all taps of a kernel."""

    def __init__(self, features: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.convs = convolutions((features, *[features // 2] * 2, features))
        self.output = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(features, inputs * outputs, 1))
        self.shape = (outputs, inputs, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.output(self.convs(x))  # (B, O I, 1, 1)
        return x.reshape(-1, *self.shape)


class SeparableKernel(nn.Module):
    """Code (B, F, 1, 1) -> offsets (B, O, I, 3, 3), for every tap the product of a vector u (O) and a vector v (I).

    One linear layer (A, a) then mixes the product's input channels, another one (C, c) its output channels:

        D = C (u v^T A^T + 1 a^T) + c 1^T

    which is worked out here with vectors alone.  u and v are linear in the code, all channels of one tap together.
    No figures of the published network hold this class: only its names, shapes and counts are checked.
    """

    def __init__(self, features: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.make_kernel_in = nn.Linear(features, TAPS * inputs)
        self.make_kernel_out = nn.Linear(features, TAPS * outputs)
        self.kernel_linear_in = nn.Linear(inputs, inputs)
        self.kernel_linear_out = nn.Linear(outputs, outputs)

    def forward(self, code: Tensor) -> Tensor:
        code, into, out = code.flatten(1), self.kernel_linear_in, self.kernel_linear_out
        v = F.linear(self.make_kernel_in(code).unflatten(1, (TAPS, -1)), into.weight)  # A v (B, 9, I)
        u = F.linear(self.make_kernel_out(code).unflatten(1, (TAPS, -1)), out.weight)  # C u (B, 9, O)
        constant = torch.outer(out.weight.sum(dim=1), into.bias) + out.bias[:, None]  # (O, I)
        kernels = torch.einsum("bto,bti->boit", u, v) + constant[None, :, :, None]  # (B, O, I, 9)
        return kernels.unflatten(3, (3, 3))


class SeparableRefinementBlock(nn.Module):
    """Features (B, F, 16, 16) -> offsets (B, O, I, 3, 3), see `SeparableKernel`."""

    def __init__(self, features: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.convs = convolutions((features, *[features // 2] * 3, features))
        self.output = nn.Sequential(SeparableKernel(features, inputs, outputs))

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.convs(x))


# ---- network


class HyperNetwork(nn.Module):
    """Photo and reconstruction (B, 6, 256, 256), both RGB in [-1, 1] -> deltas of the tuned layers, by our names.

    Each is a `Delta` of kind 'mul' with one factor, (B, out, in, 3, 3), or (B, out, in, 1, 1) where taps share it.
    """

    def __init__(self, config: HyperStyleConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or HyperStyleConfig()
        features = 8 * config.width
        self.conv1 = nn.Conv2d(6, config.width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(config.width)
        self.relu = nn.PReLU(config.width)
        self.body = residual_stages(config.width)
        if config.shared:
            self.shared_weight_hypernet = SharedWeights(features, config.channel_max)
        plain = SeparableRefinementBlock if config.separable else RefinementBlock
        self.refinement_blocks = nn.ModuleDict()
        for i, layer in config.tuned.items():
            outputs, inputs, *_ = layer.shape
            if i in config.shared:
                block = SharedRefinementBlock(features, self.shared_weight_hypernet)
            else:
                block = plain(features, inputs, outputs)
            self.refinement_blocks[str(i)] = block

    @property
    def layers(self) -> Mapping[str, Layer]:
        """The tuned layers by our names: what a generator must have for these offsets."""
        return {layer.name: layer for layer in self.config.tuned.values()}

    def features(self, images: Tensor) -> Tensor:
        """(B, 6, 256, 256) -> (B, 8 width, 16, 16), what all blocks read."""
        if images.ndim != 4 or images.shape[1:] != (6, INPUT_SIZE, INPUT_SIZE):
            raise ValueError(f"the hypernetwork takes (B, 6, {INPUT_SIZE}, {INPUT_SIZE}), got {tuple(images.shape)}")
        x = self.relu(self.bn1(self.conv1(images)))  # (B, W, 128, 128)
        return self.body(x)

    def forward(self, images: Tensor) -> dict[str, Delta]:
        x = self.features(images)
        return {
            layer.name: Delta("mul", (self.refinement_blocks[str(i)](x),)) for i, layer in self.config.tuned.items()
        }
