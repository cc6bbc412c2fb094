"""Layers of StyleGAN2: equalised dense layer, modulated convolution with noise and activation, to_rgb, one block.

Section 2.2 of the paper (arXiv 1912.04958): a style s = affine(w) scales the input channels of a convolution
(modulation, eq. 1) and the result is divided by its expected standard deviation (demodulation, eq. 3).  Scaling the
weights or scaling activations before and after one shared convolution is the same arithmetic; the second is quicker for
a batch, so weights are expanded per image only where weight offsets (`Delta`) differ from image to image.  Offsets go
onto the stored weight, before modulation and demodulation (HyperStyle, arXiv 2111.15666 eq. 5).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stylegan2.generator import Delta
from stylegan2.ops import bias_act, finish, resample_padding

if TYPE_CHECKING:
    from stylegan2.networks import StyleGAN2Config

Rng = torch.Generator | Sequence[torch.Generator]


class Dense(nn.Module):
    """Fully connected layer with equalised learning rate: x (weight lr_mul / sqrt(in))^T + bias lr_mul."""

    def __init__(self, inputs: int, outputs: int, act: str = "linear", lr_mul: float = 1.0, bias: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr_mul)
        self.bias = nn.Parameter(torch.full((outputs,), bias / lr_mul))
        self.act, self.lr_mul = act, lr_mul

    def forward(self, x: Tensor) -> Tensor:
        x = F.linear(x, self.weight * (self.lr_mul / sqrt(self.weight.shape[1])))
        return bias_act(x, self.bias * self.lr_mul, act=self.act)


def modulated_conv2d(
    x: Tensor, weight: Tensor, style: Tensor, *, delta: Delta | None = None, demodulate: bool = True, up: bool = False
) -> tuple[Tensor, Tensor | None]:
    """x (B, I, H, W), weight (O, I, k, k), style (B, I), delta for B or 1 images -> (B, O, H', W'), scale (B, O).

    H' = H, or 2H + 1 with `up` (a stride-2 transposed convolution, which a filter has to follow).  The result is still
    to be multiplied by the scale (demodulation; None without), which is what `ops.finish` begins with.  In float16 the
    convolution sees weights and styles with a largest value of 1, so that nothing overflows; the scale makes up for it
    (Karras et al., arXiv 2006.06676, appendix B).
    """
    batch, channels, height, width = x.shape
    gain = 1 / sqrt(weight[0].numel())
    weight = delta.apply(weight) if delta is not None else weight.unsqueeze(0)  # (1 or B, O, I, k, k)
    copies, outputs, _, size, _ = weight.shape
    if copies not in (1, batch):
        raise ValueError(f"a delta for {copies} images does not fit a batch of {batch}")
    style, scale = style * gain, None
    if demodulate:
        precise = torch.promote_types(weight.dtype, torch.float32)  # squares overflow float16
        energy = weight.to(precise).square().sum(dim=(3, 4))  # (1 or B, O, I)
        scale = torch.rsqrt((energy @ style.to(precise).square().unsqueeze(2)).squeeze(2) + 1e-8)  # (B, O)
        if x.dtype == torch.float16:
            most = weight.abs().amax(dim=(2, 3, 4)).clamp_min(1e-8)  # (1 or B, O)
            weight, scale = weight / most[:, :, None, None, None], scale * most
            most = style.abs().amax(dim=1, keepdim=True).clamp_min(1e-8)  # (B, 1)
            style, scale = style / most, scale * most
            shrink = 1 / sqrt(weight[0, 0].numel())
            weight, scale = weight * shrink, scale / shrink
    x = x * style.to(x.dtype)[:, :, None, None]
    if copies > 1:  # one convolution in B groups
        x = x.reshape(1, batch * channels, height, width)
    if up:
        kernel = weight.transpose(1, 2).reshape(copies * channels, outputs, size, size)
        x = F.conv_transpose2d(x, kernel.to(x.dtype), stride=2, groups=copies)
    else:
        kernel = weight.reshape(copies * outputs, channels, size, size)
        x = F.conv2d(x, kernel.to(x.dtype), padding=size // 2, groups=copies)
    return x.reshape(batch, outputs, *x.shape[2:]), scale


def draw_noise(size: int, batch: int, rng: Rng, like: Tensor) -> Tensor:
    """One noise map (B, 1, size, size), image i from its own generator, whatever the batch.

    A single generator gives one seed an image, in order; `split_rng` does that once for all layers.
    """
    maps = [torch.randn(size, size, generator=g, device=g.device) for g in split_rng(rng, batch)]
    return torch.stack(maps).unsqueeze(1).to(like)


def split_rng(rng: Rng, batch: int) -> list[torch.Generator]:
    """A generator for each image: those given, or new ones seeded from the single one given."""
    if isinstance(rng, torch.Generator):
        seeds = [int(torch.randint(2**62, (), generator=rng, device=rng.device)) for _ in range(batch)]
        return [torch.Generator(rng.device).manual_seed(seed) for seed in seeds]
    if len(rng) != batch:
        raise ValueError(f"{len(rng)} random generators for {batch} images")
    return list(rng)


class StyledConv(nn.Module):
    """Modulated 3x3 convolution, filter when up-sampling, noise, bias, leaky ReLU."""

    def __init__(self, inputs: int, outputs: int, size: int, config: StyleGAN2Config, up: bool) -> None:
        super().__init__()
        self.affine = Dense(config.w_dim, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("noise_const", torch.randn(size, size))
        self.size, self.up, self.clamp = size, up, config.conv_clamp

    def forward(self, x: Tensor, w: Tensor, fir: Tensor, delta: Delta | None, noise: str, rng: Rng | None) -> Tensor:
        x, scale = modulated_conv2d(x, self.weight, self.affine(w), delta=delta, up=self.up)
        filtered = {}
        if self.up:  # (B, O, 2H + 1, 2W + 1) -> (B, O, 2H, 2W)
            before, after, *_ = resample_padding(fir, up=2)
            filtered = {"fir": fir, "padding": (before - 1, after, before - 1, after), "fir_gain": 4.0}
        added = None
        if noise == "const":
            added = self.noise_const * self.noise_strength  # (H, W)
        elif noise == "random":
            added = draw_noise(self.size, x.shape[0], rng, x) * self.noise_strength.to(x.dtype)  # (B, 1, H, W)
        return finish(x, scale, added, self.bias, **filtered, clamp=self.clamp, inplace=True)


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to three channels, without demodulation."""

    def __init__(self, inputs: int, config: StyleGAN2Config) -> None:
        super().__init__()
        self.affine = Dense(config.w_dim, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(3, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(3))
        self.clamp = config.conv_clamp

    def forward(self, x: Tensor, w: Tensor, delta: Delta | None) -> Tensor:
        x, _ = modulated_conv2d(x, self.weight, self.affine(w), delta=delta, demodulate=False)
        return bias_act(x, self.bias, clamp=self.clamp)


class Block(nn.Module):
    """One resolution: conv0 (up-sampling; absent at 4x4), conv1, to_rgb."""

    def __init__(self, resolution: int, config: StyleGAN2Config) -> None:
        super().__init__()
        width = config.channels(resolution)
        if resolution == 4:
            self.const = nn.Parameter(torch.randn(width, 4, 4))
        else:
            self.conv0 = StyledConv(config.channels(resolution // 2), width, resolution, config, up=True)
        self.conv1 = StyledConv(width, width, resolution, config, up=False)
        self.to_rgb = ToRGB(width, config)
