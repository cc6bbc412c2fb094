"""The face parser: which part of a face is every pixel of an aligned picture?

A frozen EfficientNet-Lite0 (its ImageNet weights are in the zoo already) sees the picture at 256 pixels; a small
decoder of 0.1 M weights (a feature pyramid, Lin et al., arXiv 1612.03144, of depthwise-separable convolutions) goes
up to 128 and answers four pixels at each place (Shi et al., arXiv 1609.05158).  Trained on generated faces alone
(`training`), whose labels come from the generator itself (`reader`).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from editing.judges.parsing.labels import CLASSES
from encoders import efficientnet
from stylegan2 import engine, weights, zoo

FILE = Path(__file__).with_name("parser.safetensors")
SIZE = 256  # pixels that the network sees, and answers
TAPS = (0, 2, 4, 10, 14)  # blocks at 1/2, 1/4, 1/8, 1/16 and 1/32
TAP_WIDTHS = (16, 24, 40, 112, 192)
STEM_WIDTH = 32
WIDTHS = (32, 48, 64, 96, 96)  # of the decoder, fine to coarse


class Separable(nn.Sequential):
    """Depthwise 3x3, pointwise 1x1, ReLU."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels),
            nn.Conv2d(channels, out_channels, 1),
            nn.ReLU(),
        )


class Decoder(nn.Module):
    """Features [(B, C, H / 2^k, W / 2^k)], finest first, and the stem's -> logits (B, classes, H, W)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(c, w, 1) for c, w in zip(TAP_WIDTHS, WIDTHS, strict=True))
        self.stem = nn.Conv2d(STEM_WIDTH, WIDTHS[0], 1)
        self.up = nn.ModuleList(
            nn.Sequential(Separable(coarse + fine, fine), Separable(fine, fine))
            for fine, coarse in zip(WIDTHS, WIDTHS[1:], strict=False)
        )
        self.out = nn.Conv2d(WIDTHS[0], classes * 4, 3, padding=1)

    def forward(self, stem: Tensor, features: list[Tensor]) -> Tensor:
        sides = [lateral(feature) for lateral, feature in zip(self.lateral, features, strict=True)]
        sides[0] = sides[0] + self.stem(stem)
        x = F.relu(sides[-1])
        for side, up in zip(sides[-2::-1], list(self.up)[::-1], strict=True):
            x = up(torch.cat([F.interpolate(x, size=side.shape[-2:], mode="nearest"), side], 1))
        return F.pixel_shuffle(self.out(x), 2)


class Parser(nn.Module):
    """images (B, 3, 256, 256) RGB in [-1, 1] -> logits (B, classes, 256, 256)."""

    def __init__(self, backbone: efficientnet.EfficientNetLite0, decoder: Decoder) -> None:
        super().__init__()
        self.backbone, self.decoder = backbone, decoder

    def forward(self, images: Tensor) -> Tensor:
        stem = F.relu6(self.backbone.stem(efficientnet.normalised(images)))
        return self.decoder(stem, self.backbone.maps(stem, TAPS))


def load(path: Path = FILE) -> Parser:
    """The parser with these decoder weights.  CheckpointError for another file, WeightsMissing without the backbone."""
    state = weights.read(path, "a face parser")
    with weights.described(path, "a face parser"):
        decoder = weights.filled(lambda: Decoder(len(CLASSES)), state)
    return Parser(backbone(), decoder).eval()


def backbone() -> efficientnet.EfficientNetLite0:
    return efficientnet.from_state(load_file(zoo.path("efficientnet-lite0")))


@cache
def shipped() -> Parser:
    return load()


def probabilities(picture: np.ndarray, parser: Parser | None = None) -> np.ndarray:
    """Aligned picture (H, H, 3) uint8 RGB -> (256, 256, classes) float32, summing to 1 at every pixel.

    Pictures smaller than 256 pixels are enlarged.  The mean of what the network says of the picture and of its mirror
    image.
    """
    images = engine.to_float(picture)
    if min(images.shape[-2:]) >= SIZE:
        images = engine.area_resize(images, SIZE)
    else:
        images = F.interpolate(images, size=(SIZE, SIZE), mode="bilinear")
    with torch.inference_mode():
        plain, mirrored = (parser or shipped())(torch.cat([images, images.flip(3)])).softmax(1)
        return ((plain + mirrored.flip(2)) / 2).permute(1, 2, 0).numpy()


def parse(picture: np.ndarray, parser: Parser | None = None) -> np.ndarray:
    """Aligned picture (H, H, 3) uint8 RGB -> (256, 256) uint8 labels, indices into `CLASSES`."""
    return probabilities(picture, parser).argmax(2).astype(np.uint8)
