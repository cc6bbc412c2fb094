"""LostGANs' generator: a picture from boxes with classes (Sun and Wu, arXiv 1908.07500 'v1', 2003.11571 'v2').

An object's latent is its noise beside its class's embedding.  It says the object's mask, which is put into its box
(v1, section 3.3), and a scale and shift for every channel; where masks overlap these are averaged by the masks (ISLA
norm, eq. 4 and 5 of v1).  v2 refines the masks between blocks by what the features show of each class (section 3.2).

Boxes are (x, y, width, height) as fractions of the picture, classes count from 1; 0 pads, with a box outside of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import spectral_norm

START, MASK_SIDE = 4, 16  # pixels of the first features, of an object's mask before it is put into its box
HEAD, BINS = 100, (1, 2, 3, 6)  # channels of mask heads; of pyramid pooling
FACTORS = {64: (16, 8, 4, 2, 1), 128: (16, 16, 8, 4, 2, 1), 256: (16, 16, 8, 8, 4, 2, 1)}


def widths(size: int, width: int = 64) -> tuple[int, ...]:
    """Channels of the published generators, of the first features and after each block."""
    return tuple(width * factor for factor in FACTORS[size])


def spectral(layer: nn.Module) -> nn.Module:
    """Spectral norm with the published names weight_orig, weight_u and weight_v, which eval mode uses as stored."""
    return spectral_norm(layer, eps=1e-4)


def placed(masks: Tensor, boxes: Tensor, size: int, align_corners: bool = True) -> Tensor:
    """masks (N, h, w) and their boxes (N, 4) -> (N, size, size): each in its box, 0 elsewhere.

    Pixel i lies at i / (size - 1).  With align_corners the outermost mask pixels lie on the box's edges, as sampling
    worked when the published networks were trained (PyTorch 1.0); without, half a mask pixel further in.
    """
    at = torch.linspace(0, 1, size, device=boxes.device, dtype=boxes.dtype)
    x, y = ((at - boxes[:, i, None]) / boxes[:, i + 2, None] * 2 - 1 for i in (0, 1))
    grid = torch.stack([x[:, None].expand(-1, size, -1), y[:, :, None].expand(-1, -1, size)], -1)
    return F.grid_sample(masks[:, None], grid, align_corners=align_corners)[:, 0]


def inside(boxes: Tensor, size: int) -> Tensor:
    """boxes (B, O, 4) -> (B, O, size, size): 1 in the box, its edges included, 0 elsewhere."""
    at = torch.linspace(0, 1, size, device=boxes.device, dtype=boxes.dtype)
    x, y = ((at - boxes[..., i, None]) / boxes[..., i + 2, None] for i in (0, 1))
    x, y = (((place >= 0) & (place <= 1)).to(boxes) for place in (x, y))
    return y[..., :, None] * x[..., None, :]


class MaskRegression(nn.Module):
    """Latents (B, O, latent), boxes (B, O, 4) -> masks (B, O, size, size) in [0, 1].  v1 has batch norm, v2 instance
    norm and twice the width."""

    align_corners = True  # of `placed`

    def __init__(self, latent: int, width: int, batch_norm: bool) -> None:
        super().__init__()

        def step(*more: nn.Module) -> nn.Sequential:
            norm = nn.BatchNorm2d(width) if batch_norm else nn.InstanceNorm2d(width)
            return nn.Sequential(spectral(nn.Conv2d(width, width, 3, padding=1)), norm, nn.ReLU(), *more)

        self.fc = spectral(nn.Linear(latent, width * START**2))
        self.conv1, self.conv2 = step(), step()
        self.conv3 = step(spectral(nn.Conv2d(width, 1, 1)), nn.Sigmoid())

    def forward(self, latents: Tensor, boxes: Tensor, size: int) -> Tensor:
        x = self.fc(latents).reshape(latents.shape[0] * latents.shape[1], -1, START, START)
        x = F.interpolate(self.conv1(x), scale_factor=2, mode="bilinear", align_corners=False)
        x = F.interpolate(self.conv2(x), scale_factor=2, mode="bilinear", align_corners=False)
        masks = self.conv3(x)[:, 0]  # (B * O, 16, 16)
        return placed(masks, boxes.flatten(0, 1), size, self.align_corners).unflatten(0, boxes.shape[:2])


class ISLANorm(nn.Module):
    """x (B, C, h, w), latents (B, O, latent), masks (B, O, H, W) -> x, normalised, with each object's scale and shift
    where its mask is."""

    def __init__(self, channels: int, latent: int) -> None:
        super().__init__()
        self.weight_proj, self.bias_proj = (spectral(nn.Linear(latent, channels)) for _ in range(2))
        self.batch_norm2d = nn.BatchNorm2d(channels, affine=False)

    def forward(self, x: Tensor, latents: Tensor, masks: Tensor) -> Tensor:
        masks = F.interpolate(masks, x.shape[2:], mode="bilinear", align_corners=False)
        share = masks / (masks.sum(1, keepdim=True) + 1e-6)
        scale, shift = (
            torch.einsum("bohw,boc->bchw", share, project(latents)) for project in (self.weight_proj, self.bias_proj)
        )
        return self.batch_norm2d(x) * (scale + 1) + shift


class PyramidPooling(nn.Module):
    """x (B, C, h, w) -> (B, outputs, h, w): averages of 1, 4, 9 and 36 fields beside x, and a convolution."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.AdaptiveAvgPool2d(count),
                nn.Conv2d(channels, outputs, 1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(),
            )
            for count in BINS
        )
        joined = channels + len(BINS) * outputs
        self.bottleneck = nn.Sequential(
            nn.Conv2d(joined, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(), nn.Dropout2d(0.1)
        )

    def forward(self, x: Tensor) -> Tensor:
        fields = [F.interpolate(stage(x), x.shape[2:], mode="bilinear", align_corners=True) for stage in self.stages]
        return self.bottleneck(torch.cat([*fields, x], 1))


def mask_head(channels: int, classes: int, pyramid: bool) -> nn.Sequential:
    """x (B, channels, h, w) -> logits (B, classes, h, w)"""
    if pyramid:
        return nn.Sequential(PyramidPooling(channels, HEAD), nn.Conv2d(HEAD, classes, 1))
    return nn.Sequential(
        nn.Conv2d(channels, HEAD, 3, padding=1), nn.BatchNorm2d(HEAD), nn.ReLU(), nn.Conv2d(HEAD, classes, 1)
    )


class Block(nn.Module):
    """x (B, inputs, h, w) -> (B, outputs, 2h, 2w); see ISLANorm for the others."""

    def __init__(self, inputs: int, outputs: int, latent: int) -> None:
        super().__init__()
        self.conv1 = spectral(nn.Conv2d(inputs, outputs, 3, padding=1))
        self.conv2 = spectral(nn.Conv2d(outputs, outputs, 3, padding=1))
        self.b1, self.b2 = ISLANorm(inputs, latent), ISLANorm(outputs, latent)
        self.c_sc = spectral(nn.Conv2d(inputs, outputs, 1))

    def forward(self, x: Tensor, latents: Tensor, masks: Tensor) -> Tensor:
        y = self.conv1(F.interpolate(F.relu(self.b1(x, latents, masks)), scale_factor=2))
        y = self.conv2(F.relu(self.b2(y, latents, masks)))
        return y + self.c_sc(F.interpolate(x, scale_factor=2))


class LostGANGenerator(nn.Module):
    """Noise z (B, O, z_dim) and labels (B, O) of objects, their boxes (B, O, 4), the picture's noise (B, z_dim)
    -> pictures (B, 3, S, S), RGB in [-1, 1].  O may be any number.

    classes: with 0, which pads.  channels: see `widths`; S is 4, doubled by each block.  refine: v2.  mask_classes:
    of the refinement, 184 in published files whatever their classes are.
    """

    def __init__(
        self,
        classes: int = 184,
        channels: Sequence[int] = widths(128),
        refine: bool = True,
        mask_classes: int | None = None,
        z_dim: int = 128,
        embedding: int = 180,
    ) -> None:
        super().__init__()
        blocks, latent = len(channels) - 1, z_dim + embedding
        self.classes, self.z_dim, self.blocks, self.refine = classes, z_dim, blocks, refine
        self.size, self.map = START * 2**blocks, 128 if blocks > 5 else 64  # pixels of the picture, of masks
        self.label_embedding = nn.Embedding(classes, embedding)
        self.fc = spectral(nn.Linear(z_dim, channels[0] * START**2))
        for i, (inputs, outputs) in enumerate(zip(channels, channels[1:], strict=False), 1):
            block = Block(inputs, outputs, latent)
            if refine and i < blocks:
                block.conv_mask = mask_head(outputs, mask_classes or classes, pyramid=i == 4 and blocks == 5)
                self.register_parameter(f"alpha{i}", nn.Parameter(torch.zeros(1, mask_classes or classes, 1)))
            self.add_module(f"res{i}", block)
        self.final = nn.Sequential(
            nn.BatchNorm2d(channels[-1]), nn.ReLU(), spectral(nn.Conv2d(channels[-1], 3, 3, padding=1)), nn.Tanh()
        )
        self.mask_regress = MaskRegression(latent, 256 if refine else 128, batch_norm=not refine)

    def latents(self, z: Tensor, labels: Tensor) -> Tensor:
        """-> (B, O, z_dim + embedding)"""
        return torch.cat([z, self.label_embedding(labels)], -1)

    def forward(self, z: Tensor, boxes: Tensor, z_image: Tensor, labels: Tensor) -> Tensor:
        latents = self.latents(z, labels)
        first = masks = self.mask_regress(latents, boxes, self.map)  # (B, O, map, map)
        within = inside(boxes, self.map)
        x = self.fc(z_image).reshape(len(z_image), -1, START, START)
        for i in range(1, self.blocks + 1):
            block = getattr(self, f"res{i}")
            x = block(x, latents, masks)
            if self.refine and i < self.blocks:
                masks = refined(first, within, block.conv_mask(x), labels, getattr(self, f"alpha{i}"))
        return self.final(x)


def refined(masks: Tensor, within: Tensor, logits: Tensor, labels: Tensor, alpha: Tensor) -> Tensor:
    """masks, within (B, O, H, W), logits (B, classes, h, w), alpha (1, classes, 1) -> masks (B, O, h, w): between the
    first mask and what the features show of the object's class inside its box, each class with its own share."""
    side = logits.shape[2:]
    seen = logits.gather(1, labels[:, :, None, None].expand(-1, -1, *side)).sigmoid()
    seen = seen * F.interpolate(within, side, mode="nearest")
    share = alpha.sigmoid()[0, labels][..., None]  # (B, O, 1, 1)
    return (1 - share) * F.interpolate(masks, side, mode="bilinear", align_corners=False) + share * seen
