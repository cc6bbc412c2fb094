"""The up-sampler of GigaGAN (arXiv 2303.05511, section 3.5) in the layout of AuraSR: four times the size, no text.

A U-Net of residual blocks of adaptive convolutions (see `kernels`; here a modulation is 1 plus what w says, and kernels
are not scaled), with dot-product attention in the middle and in the first steps up.  One linear layer makes what
modulates all blocks, in this order: down, middle, up, last; of a block: its first convolution's inputs and kernels, its
second's.  Every block on the way up sees what a block on the way down gave, the last one first, times 0.4.

Files: `model.safetensors` and `model.ckpt` of AuraSR and AuraSR-v2, 268 tensors, 617,554,917 parameters.  Pictures are
RGB in [0, 1] in and out, as there.  `Attend.scale` is stored and never used there, and so it is here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from editing.translation.networks.gigagan.kernels import mixed

SKIP, HEAD, SLOW = 0.4, 64, 0.1  # of skip connections; channels of a head; of the mapping's learning rate
UPS, DOWNS, DEPTHS = (1, 2, 4, 8, 16), (4, 8, 16), (0, 0, 0, 2, 4)  # published: times the width; layers of attention


class Kernels(nn.Module):
    """x (B, I, H, W), modulation (B, I), kernel logits (B, N) -> (B, O, H, W)"""

    def __init__(self, inputs: int, outputs: int, kernels: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.empty(kernels, outputs, inputs, 3, 3))
        nn.init.normal_(self.weights, 0, sqrt(2 / (9 * inputs)))

    def forward(self, x: Tensor, modulation: Tensor, logits: Tensor) -> Tensor:
        kernel = mixed(self.weights, logits.softmax(1)) * (modulation + 1)[:, None, :, None, None]
        kernel = kernel * kernel.square().sum((2, 3, 4), keepdim=True).clamp_min(1e-8).rsqrt()
        y = F.conv2d(x.reshape(1, -1, *x.shape[2:]), kernel.flatten(0, 1), padding=1, groups=len(x))
        return y[0].unflatten(0, (len(x), -1))


class Half(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernels: int) -> None:
        super().__init__()
        self.proj = Kernels(inputs, outputs, kernels)

    def forward(self, x: Tensor, parts: Iterator[Tensor]) -> Tensor:
        return F.silu(self.proj(x, next(parts), next(parts)))


class Block(nn.Module):
    """x (B, I, H, W) -> (B, O, H, W); takes its four parts of the modulations."""

    def __init__(self, inputs: int, outputs: int, kernels: int) -> None:
        super().__init__()
        self.parts = [inputs, kernels, outputs, kernels]
        self.block1, self.block2 = Half(inputs, outputs, kernels), Half(outputs, outputs, kernels)
        self.res_conv = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, parts: Iterator[Tensor]) -> Tensor:
        return self.block2(self.block1(x, parts), parts) + self.res_conv(x)


class Norm(nn.Module):
    """Every place's channels get a mean square of 1, and a learned scale."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.ones(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=1) * self.g * sqrt(x.shape[1])


class Attend(nn.Module):
    """Queries, keys, values (B, heads, T, HEAD) -> (B, heads, T, HEAD)"""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v)


class Attention(nn.Module):
    """x (B, C, H, W) -> the same shape"""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads, inner = heads, heads * HEAD
        self.norm, self.attend = Norm(channels), Attend()
        self.to_qkv, self.to_out = nn.Conv2d(channels, 3 * inner, 1, bias=False), nn.Conv2d(inner, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.to_qkv(self.norm(x)).flatten(2).unflatten(1, (3, self.heads, HEAD)).transpose(-1, -2)
        y = self.attend(*parts.unbind(1))  # (B, heads, H * W, HEAD)
        return self.to_out(y.transpose(2, 3).flatten(1, 2).unflatten(2, x.shape[2:]))


class Transformer(nn.Module):
    def __init__(self, channels: int, heads: int, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleList([Attention(channels, heads), perceptron(channels)]) for _ in range(depth)
        )

    def forward(self, x: Tensor) -> Tensor:
        for attention, wider in self.layers:
            x = x + attention(x)
            x = x + wider(x)
        return x


def perceptron(channels: int) -> nn.Sequential:
    return nn.Sequential(
        Norm(channels), nn.Conv2d(channels, 4 * channels, 1), nn.GELU(), nn.Conv2d(4 * channels, channels, 1)
    )


class Doubled(nn.Module):
    """x (B, I, H, W) -> (B, O, 2H, 2W)"""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


class SlowLinear(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(outputs, inputs)), nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * SLOW, self.bias * SLOW)


class StyleNetwork(nn.Module):
    """z (B, z_dim) -> w (B, w_dim)"""

    def __init__(self, z_dim: int, w_dim: int, depth: int) -> None:
        super().__init__()
        layers = [(SlowLinear(w_dim if i else z_dim, w_dim), nn.LeakyReLU(0.2)) for i in range(depth)]
        self.net = nn.Sequential(*(layer for pair in layers for layer in pair))

    def forward(self, z: Tensor) -> Tensor:
        return self.net(F.normalize(z, dim=1))


class AuraUpsampler(nn.Module):
    """x (B, 3, H, W) in [0, 1], z (B, z_dim) -> (B, 3, 4H, 4W) in about [0, 1].  Published: H and W are 64.

    width: channels of the last block; ups and downs are multiples of it, depths the layers of attention after each
    step of `ups` (from the last to the first), and the last of them in the middle.  H and W are multiples of
    2 ** len(downs), and 2 ** (len(ups) - len(downs)) is how many times larger the picture gets.
    """

    def __init__(
        self,
        width: int = 64,
        ups: Sequence[int] = UPS,
        downs: Sequence[int] = DOWNS,
        depths: Sequence[int] = DEPTHS,
        blocks: int = 6,
        kernels: int = 4,
        heads: int = 8,
        z_dim: int = 128,
        w_dim: int = 512,
        depth: int = 4,
        middle: int = 4,
    ) -> None:
        super().__init__()
        wide = [width, *(width * factor for factor in ups)]
        narrow = [wide[len(ups) - len(downs)], *(width * factor for factor in downs)]
        self.z_dim, self.scale, self.step = z_dim, 2 ** (len(ups) - len(downs)), 2 ** len(downs)
        self.style_network = StyleNetwork(z_dim, w_dim, depth)
        self.init_conv = nn.Conv2d(3, narrow[0], 7, padding=3)
        self.downs, self.ups = nn.ModuleList(), nn.ModuleList()
        for a, b in zip(narrow, narrow[1:], strict=False):
            half = nn.ModuleList([None, nn.Conv2d(a, b, 3, stride=2, padding=1)])
            self.downs.append(nn.ModuleList([nn.ModuleList(Block(a, a, kernels) for _ in range(blocks)), half]))
        self.mid_block1, self.mid_block2 = Block(wide[-1], wide[-1], kernels), Block(wide[-1], wide[-1], kernels)
        self.mid_attn = Transformer(wide[-1], heads, middle)
        steps = zip(reversed(wide[:-1]), reversed(wide[1:]), reversed(depths), strict=True)
        for i, (a, b, layers) in enumerate(steps):
            inputs = 2 * a if i < len(downs) else a
            attention = Transformer(a, heads, layers) if layers else None
            several = nn.ModuleList(Block(inputs, a, kernels) for _ in range(blocks))
            self.ups.append(nn.ModuleList([several, nn.ModuleList([Doubled(b, a), attention])]))
        self.final_res_block = Block(width, width, kernels)
        self.final_to_rgb = nn.Conv2d(width, 3, 1)
        order = [block for blocks, _ in self.downs for block in blocks] + [self.mid_block1, self.mid_block2]
        order += [block for blocks, _ in self.ups for block in blocks] + [self.final_res_block]
        self.parts = [part for block in order for part in block.parts]
        self.style_to_conv_modulations = nn.Linear(w_dim, sum(self.parts))

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        parts = iter(self.style_to_conv_modulations(self.style_network(z)).split(self.parts, 1))
        x, kept = self.init_conv(x), []
        for blocks, (_, half) in self.downs:
            for block in blocks:
                x = block(x, parts)
                kept.append(x)
            x = half(x)
        x = self.mid_block2(self.mid_attn(self.mid_block1(x, parts)), parts)
        for blocks, (double, attention) in self.ups:
            x = double(x)
            for block in blocks:
                x = block(torch.cat([x, kept.pop() * SKIP], 1) if kept else x, parts)
            x = attention(x) if attention is not None else x
        return self.final_to_rgb(self.final_res_block(x, parts))
