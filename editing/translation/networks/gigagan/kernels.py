"""Sample-adaptive kernel selection (GigaGAN, arXiv 2303.05511, section 3.1, eq. 2 to 4), and equalised convolutions.

A layer has a bank of N kernels; every picture's w says, through a softmax, how they are mixed into the picture's own
kernel.  That one is modulated and demodulated as in StyleGAN2 (arXiv 1912.04958, eq. 1 and 3).  All weights are
N(0, 1) and scaled when used (equalised learning rate).  StyleGAN2's noise maps are left out: the paper names none.
"""

from __future__ import annotations

from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROOT, SLOPE = sqrt(2), 0.2


def mixed(bank: Tensor, shares: Tensor) -> Tensor:
    """Kernels (N, O, I, k, k), shares (B, N) that sum to 1 -> a kernel a picture (B, O, I, k, k)."""
    return (shares @ bank.flatten(1)).unflatten(1, bank.shape[1:])


def channels(size: int, width: int) -> list[int]:
    """Of networks that learn on CPUs, from 4 pixels on: `width` up to 16, a half at 32, a quarter from 64 on."""
    sides = [4 * 2**k for k in range(size.bit_length() - 2)]
    return [max(4, width // min(max(1, side // 16), 4)) for side in sides]


def activated(x: Tensor) -> Tensor:
    """Leaky ReLU that keeps the variance."""
    return F.leaky_relu(x, SLOPE) * ROOT


class Linear(nn.Module):
    """x (..., I) -> (..., O); `lr_mul` slows its learning down."""

    def __init__(self, inputs: int, outputs: int, act: bool = False, lr_mul: float = 1.0, bias: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr_mul)
        self.bias = nn.Parameter(torch.full((outputs,), bias / lr_mul))
        self.act, self.lr_mul = act, lr_mul

    def forward(self, x: Tensor) -> Tensor:
        x = F.linear(x, self.weight * (self.lr_mul / sqrt(self.weight.shape[1])), self.bias * self.lr_mul)
        return activated(x) if self.act else x


class AdaptiveConv(nn.Module):
    """x (B, I, H, W), w (B, w_dim) -> (B, O, H, W).  One kernel: StyleGAN2's convolution.  act: leaky ReLU follows."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        w_dim: int,
        kernels: int = 1,
        size: int = 3,
        demodulate: bool = True,
        act: bool = True,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(kernels, outputs, inputs, size, size))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.affine = Linear(w_dim, inputs, bias=1.0)
        if kernels > 1:
            self.select = Linear(w_dim, kernels)
        self.demodulate, self.act = demodulate, act

    def kernels(self, w: Tensor) -> Tensor:
        """The pictures' own kernels (B, O, I, k, k), modulated and demodulated."""
        bank = self.weight / sqrt(self.weight[0, 0].numel())
        kernel = mixed(bank, self.select(w).softmax(1)) if len(bank) > 1 else bank
        kernel = kernel * self.affine(w)[:, None, :, None, None]
        if self.demodulate:
            kernel = kernel * torch.rsqrt(kernel.square().sum((2, 3, 4), keepdim=True) + 1e-8)
        return kernel

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        kernel, bias, batch, side = self.kernels(w), self.bias, len(x), x.shape[2:]
        if self.act:  # the gain of `activated`, where there is less to multiply
            kernel, bias = kernel * ROOT, bias * ROOT
        if kernel.shape[-1] == 1:
            x = torch.baddbmm(bias[:, None], kernel.flatten(2), x.flatten(2)).unflatten(2, side)
        else:  # one convolution in B groups
            x = x.reshape(1, -1, *side)
            x = F.conv2d(x, kernel.flatten(0, 1), bias.repeat(batch), padding=kernel.shape[-1] // 2, groups=batch)
            x = x[0].unflatten(0, (batch, -1))
        return F.leaky_relu(x, SLOPE) if self.act else x


class Conv(nn.Module):
    """x (B, I, H, W) -> (B, O, H / stride, W / stride), and a leaky ReLU with `act`."""

    def __init__(self, inputs: int, outputs: int, size: int, stride: int = 1, act: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, size, size))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.stride, self.act = stride, act

    def forward(self, x: Tensor) -> Tensor:
        gain = ROOT if self.act else 1.0
        weight = self.weight * (gain / sqrt(self.weight[0].numel()))
        x = F.conv2d(x, weight, self.bias * gain, self.stride, padding=weight.shape[-1] // 2)
        return F.leaky_relu(x, SLOPE) if self.act else x
