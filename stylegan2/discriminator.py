"""The StyleGAN2 discriminator: residual blocks, minibatch standard deviation, one logit an image.

arXiv 1912.04958: residual connections that down-sample with the FIR filter (section 4.1, figure 7c),
both branches scaled by 1/sqrt(2).  Minibatch standard deviation, groups of four: progressive growing,
arXiv 1710.10196 section 3.  Input images (B, 3, R, R), RGB, about [-1, 1]; output logits (B, 1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log2, sqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stylegan2.layers import Dense
from stylegan2.ops import bias_act, resample_padding, setup_fir, upfirdn2d


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Channels at resolution r are min(channel_base / r, channel_max), as in the generator."""

    resolution: int = 1024
    channel_base: int = 32768
    channel_max: int = 512
    conv_clamp: float | None = None
    group_size: int = 4
    fir: tuple[float, ...] = (1.0, 3.0, 3.0, 1.0)

    def __post_init__(self) -> None:
        if self.resolution < 8 or self.resolution & (self.resolution - 1):
            raise ValueError(f"resolution must be a power of two from 8 on, got {self.resolution}")

    @property
    def resolutions(self) -> tuple[int, ...]:
        """R, R/2, ..., 8: one residual block each."""
        return tuple(2**k for k in range(int(log2(self.resolution)), 2, -1))

    def channels(self, resolution: int) -> int:
        return min(self.channel_base // resolution, self.channel_max)


class EqualConv(nn.Module):
    """Convolution with equalised learning rate; filters and halves the picture if `down`."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        *,
        act: str = "lrelu",
        bias: bool = True,
        down: bool = False,
        gain: float = 1.0,
        clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, size, size))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.act, self.down = act, down
        self.gain = gain * (sqrt(2) if act == "lrelu" else 1)
        self.clamp = None if clamp is None else clamp * gain

    def forward(self, x: Tensor, fir: Tensor) -> Tensor:
        size = self.weight.shape[-1]
        weight = self.weight * (1 / sqrt(self.weight[0].numel()))
        if not self.down:
            x = F.conv2d(x, weight, padding=size // 2)
        elif size == 1:  # a 1x1 convolution sees one pixel: drop the others before it
            x = F.conv2d(upfirdn2d(x, fir, down=2, padding=resample_padding(fir, down=2)), weight)  # (B, O, H/2, W/2)
        else:
            x = upfirdn2d(x, fir, padding=resample_padding(fir, down=2, extra=size // 2))
            x = F.conv2d(x, weight, stride=2)  # (B, O, H/2, W/2)
        return bias_act(x, self.bias, act=self.act, gain=self.gain, clamp=self.clamp)


class ResidualBlock(nn.Module):
    """x (B, I, H, W) -> (B, O, H/2, W/2): (conv1(conv0(x)) + skip(x)) / sqrt(2)."""

    def __init__(self, inputs: int, outputs: int, clamp: float | None) -> None:
        super().__init__()
        self.conv0 = EqualConv(inputs, inputs, 3, clamp=clamp)
        self.conv1 = EqualConv(inputs, outputs, 3, down=True, gain=sqrt(0.5), clamp=clamp)
        self.skip = EqualConv(inputs, outputs, 1, act="linear", bias=False, down=True, gain=sqrt(0.5), clamp=clamp)

    def forward(self, x: Tensor, fir: Tensor) -> Tensor:
        return self.skip(x, fir) + self.conv1(self.conv0(x, fir), fir)


def minibatch_stddev(x: Tensor, group_size: int) -> Tensor:
    """x (B, C, H, W) -> (B, C + 1, H, W): the mean standard deviation over the group as one more channel.

    Images i, i + B/G, i + 2B/G, ... form a group of G; G is the largest divisor of B up to `group_size`.
    """
    batch, channels, height, width = x.shape
    group = next(g for g in range(min(group_size, batch), 0, -1) if batch % g == 0)
    y = x.reshape(group, batch // group, channels, height, width)
    y = (y.var(dim=0, unbiased=False) + 1e-8).sqrt()  # (B/G, C, H, W)
    y = y.mean(dim=(1, 2, 3)).reshape(-1, 1, 1, 1).repeat(group, 1, height, width)  # (B, 1, H, W)
    return torch.cat([x, y], dim=1)


class Epilogue(nn.Module):
    """x (B, C, 4, 4) -> logits (B, 1)."""

    def __init__(self, channels: int, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.conv = EqualConv(channels + 1, channels, 3, clamp=config.conv_clamp)
        self.fc = Dense(channels * 16, channels, "lrelu")
        self.out = Dense(channels, 1)
        self.group_size = config.group_size

    def forward(self, x: Tensor, fir: Tensor) -> Tensor:
        x = self.conv(minibatch_stddev(x, self.group_size), fir)
        return self.out(self.fc(x.flatten(1)))  # (B, C*16) -> (B, 1)


class Discriminator(nn.Module):
    """Images (B, 3, R, R) -> logits (B, 1); random weights until a state is loaded."""

    def __init__(self, config: DiscriminatorConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or DiscriminatorConfig()
        self.from_rgb = EqualConv(3, config.channels(config.resolution), 1, clamp=config.conv_clamp)
        for r in config.resolutions:
            self.add_module(f"b{r}", ResidualBlock(config.channels(r), config.channels(r // 2), config.conv_clamp))
        self.b4 = Epilogue(config.channels(4), config)
        self.register_buffer("fir", setup_fir(config.fir), persistent=False)

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor], config: DiscriminatorConfig) -> Discriminator:
        """A discriminator that takes over the tensors of `state` (names of `state_dict`)."""
        with torch.device("meta"):
            net = cls(config)
        net.load_state_dict(dict(state), strict=True, assign=True)
        net.fir = setup_fir(config.fir)
        return net

    def state(self) -> dict[str, Tensor]:
        """The inverse of `from_state`."""
        return {name: tensor.detach() for name, tensor in self.state_dict().items()}

    @property
    def family(self) -> str:
        return f"stylegan2-d-{self.config.resolution}"

    def features(self, images: Tensor) -> Tensor:
        """Images (B, 3, R, R) -> what the last residual block gives (B, C, 4, 4); images do not see each other."""
        if images.ndim != 4 or images.shape[1:] != (3, self.config.resolution, self.config.resolution):
            r = self.config.resolution
            raise ValueError(f"the discriminator takes (B, 3, {r}, {r}), got {tuple(images.shape)}")
        x = self.from_rgb(images, self.fir)  # (B, C, R, R)
        for resolution in self.config.resolutions:
            x = getattr(self, f"b{resolution}")(x, self.fir)  # (B, C', r/2, r/2)
        return x

    def forward(self, images: Tensor) -> Tensor:
        return self.b4(self.features(images), self.fir)
