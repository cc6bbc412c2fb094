"""SPADE, also known as GauGAN: label maps to pictures (Park et al., arXiv 1903.07291, sections 3 and appendix A).

The map is not the network's input but what its norms are: every batch norm takes scale and shift of each pixel from the
map, resized to where it stands (equation 1).  A style comes in as a code at the start (section 3, image encoder).
Spectral norm (Miyato et al., arXiv 1802.05957) is kept as published files store it: `weight_orig`, and the two vectors
`weight_u` and `weight_v` that one power iteration a training step improves.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

UPSAMPLINGS = {"normal": 5, "more": 6, "most": 7}  # how often a generator doubles the size
HIDDEN = 128  # channels between a map and its scales and shifts
CODE = 256  # numbers of a style
SEEN = 256  # pixels along a side that the style encoder sees


class SpectralConv2d(nn.Module):
    """A convolution whose weight is divided by its largest singular value, estimated as u . (W v).

    In training every call takes one step of the power iteration first; otherwise u and v are used as they are stored.
    """

    def __init__(self, channels: int, wider: int, kernel: int, stride: int = 1, padding: int = 0, bias: bool = True):
        super().__init__()
        self.stride, self.padding = stride, padding
        self.bias = nn.Parameter(torch.zeros(wider)) if bias else None
        self.weight_orig = nn.Parameter(torch.empty(wider, channels, kernel, kernel))
        nn.init.kaiming_uniform_(self.weight_orig, a=5**0.5)
        self.register_buffer("weight_u", F.normalize(torch.randn(wider), dim=0))
        self.register_buffer("weight_v", F.normalize(torch.randn(channels * kernel * kernel), dim=0))

    def weight(self) -> Tensor:
        """The weight (C', C, k, k) that is convolved with."""
        rows = self.weight_orig.flatten(1)
        if self.training:
            with torch.no_grad():
                self.weight_v.copy_(F.normalize(rows.mT @ self.weight_u, dim=0))
                self.weight_u.copy_(F.normalize(rows @ self.weight_v, dim=0))
        u, v = self.weight_u.clone(), self.weight_v.clone()  # a later call may change them before this one's backward
        return self.weight_orig / torch.dot(u, rows @ v)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight(), self.bias, self.stride, self.padding)


class SPADE(nn.Module):
    """x (B, C, h, w), map (B, labels, H, W) -> batch norm of x, scaled and shifted pixel by pixel as the map says."""

    def __init__(self, channels: int, labels: int) -> None:
        super().__init__()
        self.param_free_norm = nn.BatchNorm2d(channels, affine=False)
        self.mlp_shared = nn.Sequential(nn.Conv2d(labels, HIDDEN, 3, padding=1), nn.ReLU())
        self.mlp_gamma = nn.Conv2d(HIDDEN, channels, 3, padding=1)
        self.mlp_beta = nn.Conv2d(HIDDEN, channels, 3, padding=1)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        shared = self.mlp_shared(F.interpolate(labels, size=x.shape[2:], mode="nearest"))  # (B, HIDDEN, h, w)
        return self.param_free_norm(x) * (1 + self.mlp_gamma(shared)) + self.mlp_beta(shared)


class SPADEBlock(nn.Module):
    """x (B, C, h, w), map -> (B, C', h, w): a residual block; its shortcut is learnt where the channels change."""

    def __init__(self, channels: int, wider: int, labels: int) -> None:
        super().__init__()
        middle = min(channels, wider)
        self.conv_0 = SpectralConv2d(channels, middle, 3, padding=1)
        self.conv_1 = SpectralConv2d(middle, wider, 3, padding=1)
        self.norm_0, self.norm_1 = SPADE(channels, labels), SPADE(middle, labels)
        if channels != wider:
            self.conv_s, self.norm_s = SpectralConv2d(channels, wider, 1, bias=False), SPADE(channels, labels)
        self.learnt = channels != wider

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        y = self.conv_0(F.leaky_relu(self.norm_0(x, labels), 0.2))
        y = self.conv_1(F.leaky_relu(self.norm_1(y, labels), 0.2))
        return y + (self.conv_s(self.norm_s(x, labels)) if self.learnt else x)


class SPADEGenerator(nn.Module):
    """Maps (B, labels, H, W) of 0 and 1, codes (B, nz) if nz -> pictures (B, 3, H, W), RGB in [-1, 1].

    labels: classes, with a class for "don't care" and a channel of instance edges where there are such.  width:
    channels of the last block, of the last but one with "most".  H and W are multiples of `size`, 2^n; a network with
    codes begins with `start` (h, w) pixels and draws 2^n as many, no others.
    """

    def __init__(
        self,
        labels: int,
        width: int = 64,
        upsampling: str = "normal",
        nz: int = 0,
        start: tuple[int, int] = (8, 8),
    ) -> None:
        super().__init__()
        wide = 16 * width
        self.labels, self.nz, self.start = labels, nz, start
        self.upsampling = upsampling
        self.fc = nn.Linear(nz, wide * start[0] * start[1]) if nz else nn.Conv2d(labels, wide, 3, padding=1)
        self.head_0 = SPADEBlock(wide, wide, labels)
        self.G_middle_0 = SPADEBlock(wide, wide, labels)
        self.G_middle_1 = SPADEBlock(wide, wide, labels)
        last = 5 if upsampling == "most" else 4
        for number in range(last):
            self.add_module(f"up_{number}", SPADEBlock(wide >> number, wide >> (number + 1), labels))
        self.ups = [f"up_{number}" for number in range(last)]
        self.conv_img = nn.Conv2d(wide >> last, 3, 3, padding=1)

    @property
    def size(self) -> int:
        """What sides must be multiples of."""
        return 2 ** UPSAMPLINGS[self.upsampling]

    @property
    def drawn(self) -> tuple[int, int] | None:
        """(height, width) of all pictures of a network with codes, None if any will do."""
        return (self.start[0] * self.size, self.start[1] * self.size) if self.nz else None

    def begin(self, labels: Tensor, z: Tensor | None = None) -> Tensor:
        """-> (B, 16 width, H / size, W / size)"""
        if self.nz:
            return self.fc(z).unflatten(1, (-1, *self.start))
        small = (labels.shape[2] // self.size, labels.shape[3] // self.size)
        return self.fc(F.interpolate(labels, size=small, mode="nearest"))

    def forward(self, labels: Tensor, z: Tensor | None = None) -> Tensor:
        x = doubled(self.head_0(self.begin(labels, z), labels))
        x = self.G_middle_0(x, labels)
        x = self.G_middle_1(x if self.upsampling == "normal" else doubled(x), labels)
        for name in self.ups:
            x = getattr(self, name)(doubled(x), labels)
        return torch.tanh(self.conv_img(F.leaky_relu(x, 0.2)))


def doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest")


def spectral_group(channels: int, wider: int, kernel: int, stride: int, padding: int) -> nn.Sequential:
    """Convolution, spectral norm, instance norm: the bias would be taken away again."""
    convolution = SpectralConv2d(channels, wider, kernel, stride, padding, bias=False)
    return nn.Sequential(convolution, nn.InstanceNorm2d(wider))


class PatchFeatures(nn.Module):
    """(B, inputs, H, W) -> what each of the layers gives, logits (B, 1, h, w) last."""

    def __init__(self, inputs: int, width: int, layers: int) -> None:
        super().__init__()
        self.model0 = nn.Sequential(nn.Conv2d(inputs, width, 4, 2, 2), nn.LeakyReLU(0.2))
        channels = width
        for number in range(1, layers):
            wider = min(2 * channels, 8 * width)
            group = spectral_group(channels, wider, 4, 2 if number < layers - 1 else 1, 2)
            self.add_module(f"model{number}", nn.Sequential(group, nn.LeakyReLU(0.2)))
            channels = wider
        self.add_module(f"model{layers}", nn.Sequential(nn.Conv2d(channels, 1, 4, 1, 2)))

    def forward(self, x: Tensor) -> list[Tensor]:
        found = []
        for layer in self.children():
            x = layer(x)
            found.append(x)
        return found


class SPADEDiscriminator(nn.Module):
    """[map, picture] (B, labels + 3, H, W) -> the features of every scale, each of which sees half of the one before.

    Logits are the last of a scale's.
    """

    def __init__(self, inputs: int, width: int = 64, layers: int = 4, scales: int = 2) -> None:
        super().__init__()
        for scale in range(scales):
            self.add_module(f"discriminator_{scale}", PatchFeatures(inputs, width, layers))

    def forward(self, x: Tensor) -> list[list[Tensor]]:
        found = []
        for network in self.children():
            found.append(network(x))
            x = F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)
        return found


class StyleEncoder(nn.Module):
    """Pictures (B, 3, H, W), RGB in [-1, 1] -> mean (B, nz) and log-variance (B, nz) of their codes."""

    def __init__(self, width: int = 64, nz: int = CODE) -> None:
        super().__init__()
        self.nz = nz
        widths = [3, *(width * factor for factor in (1, 2, 4, 8, 8, 8))]
        for number in range(1, 7):
            self.add_module(f"layer{number}", spectral_group(widths[number - 1], widths[number], 3, 2, 1))
        cells = (SEEN // 2**6) ** 2
        self.fc_mu, self.fc_var = nn.Linear(widths[6] * cells, nz), nn.Linear(widths[6] * cells, nz)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if x.shape[2:] != (SEEN, SEEN):
            x = F.interpolate(x, size=(SEEN, SEEN), mode="bilinear")
        for number in range(1, 7):
            x = F.leaky_relu(getattr(self, f"layer{number}")(x), 0.2)
        x = x.flatten(1)
        return self.fc_mu(x), self.fc_var(x)


def second_vector(weight_orig: Tensor, weight_u: Tensor, weight: Tensor) -> Tensor:
    """`weight_v` of a file from before torch 1.1, which stores the divided `weight` instead: a v along W^T u that makes
    u . (W v) what the division was by.  ValueError if `weight` is no multiple of `weight_orig`."""
    if weight.shape != weight_orig.shape or weight_u.shape != weight_orig.shape[:1]:
        raise ValueError("weight, weight_orig and weight_u do not have shapes that belong together")
    rows, size = weight_orig.flatten(1), float(weight.square().sum())
    sigma = float((weight_orig * weight).sum()) / size if size else math.nan
    back = rows.mT @ weight_u
    length = float(back.square().sum())
    if not (sigma and math.isfinite(sigma) and length):
        raise ValueError("weight and weight_orig have nothing in common")
    if float((weight * sigma - weight_orig).abs().max()) > 1e-3 * float(weight_orig.abs().max()):
        raise ValueError("weight is no multiple of weight_orig")
    return back * (sigma / length)


def start_of(cells: int) -> tuple[int, int] | None:
    """The (height, width) that begin a network with codes: square, or twice as wide; None if neither has as many."""
    for wide in (1, 2):
        height = math.isqrt(cells // wide) if cells % wide == 0 else 0
        if height and wide * height * height == cells:
            return height, wide * height
    return None


def upsampling_of(labels: int) -> str:
    """How a network that says nothing else was built: Cityscapes', of 36 labels, is the published one with "more"."""
    return "more" if labels == 36 else "normal"
