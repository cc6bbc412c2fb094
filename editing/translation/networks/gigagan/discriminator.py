"""GigaGAN's discriminator (arXiv 2303.05511, section 3.4, eq. 6 to 9): pictures of all sizes in, predictions of all
depths out, each of them with regard to the sentence.

A block of convolutions halves the size; attention to itself stands at low resolutions.  The picture of level i enters
before block i, and after every later block j there is a prediction for it: 15 for five levels.  A prediction is a
convolution of 1x1, to which four layers of 1x1 that the sentence's token modulates are added.  Features do not depend
on the sentence, so those of a picture are computed once and judged with as many sentences as are at hand.

`VisionHeads` are the vision-aided part (section 3.4): predictions on the features of a frozen network.  The paper takes
CLIP ViT-B/32; EfficientNet-Lite0's stand in here.  Their channels go through a fixed random projection first (as in
Projected GANs, arXiv 2111.01007), then a convolution of 3x3 that learns, then a prediction as above.

Assumed in `PAPER`: 32768 / resolution channels, 1536 at most; 1, 2, 2, 2, 2 convolutions before the halving from 64
pixels on; attention at 32, 16 and 8, once; the last block leaves 4x4 as it is; heads as wide as their features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from editing.translation.networks.gigagan.attention import Attention
from editing.translation.networks.gigagan.kernels import AdaptiveConv, Conv, channels
from editing.translation.networks.gigagan.text import TextTower

LAYERS = 4  # of a conditional head
PAPER: Mapping[str, Any] = {
    "features": 768,
    "width": 768,
    "channels": (512, 1024, 1536, 1536, 1536),
    "blocks": (1, 2, 2, 2, 2),
    "attention": (0, 1, 1, 1, 0),
    "head": 0,
}


def small(size: int, width: int) -> dict[str, Any]:
    """Settings that learn on CPUs; the counterpart of the generator's."""
    found = channels(size, width)[::-1]
    return {
        "width": width,
        "channels": found,
        "blocks": [0] * len(found),
        "attention": [int(k == len(found) - 2) for k in range(len(found))],
        "head": max(4, width // 4),
        "text_depth": 2,
    }


class Head(nn.Module):
    """Features (B, C, H, W), the sentence's token (B, width) -> logits (B, 1, H, W)"""

    def __init__(self, channels: int, width: int, head: int) -> None:
        super().__init__()
        self.plain = Conv(channels, 1, 1, act=False)
        dims = [channels, *[head or channels] * (LAYERS - 1), 1]
        self.layers = nn.ModuleList(
            AdaptiveConv(a, b, width, size=1, demodulate=i < LAYERS - 1, act=i < LAYERS - 1)
            for i, (a, b) in enumerate(zip(dims, dims[1:], strict=False))
        )

    def forward(self, x: Tensor, token: Tensor) -> Tensor:
        plain = self.plain(x)
        for layer in self.layers:
            x = layer(x, token)
        return plain + x


class Block(nn.Module):
    """x (B, C, H, W) -> (B, outputs, H / stride, W / stride)"""

    def __init__(self, channels: int, outputs: int, blocks: int, attention: int, stride: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(Conv(channels, channels, 3) for _ in range(blocks))
        self.attention = nn.ModuleList(Attention(channels) for _ in range(attention))
        self.down = Conv(channels, outputs, 3, stride)

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.convs:
            x = conv(x)
        for attention in self.attention:
            x = attention(x)
        return self.down(x)


class GigaGANDiscriminator(nn.Module):
    """Pictures of all levels, the largest first, with the encoder's tokens hidden (B, L, features) and mask (B, L)
    -> for every depth j a tensor of logits (j * B, 1, h, w): those of the pictures that entered at levels 0 to j - 1.

    channels, blocks, attention: of every level from the largest on.  head: channels inside heads, 0: as many as come.
    """

    def __init__(
        self,
        features: int = 384,
        width: int = 64,
        channels: Sequence[int] = (16, 32, 64, 64, 64),
        blocks: Sequence[int] = (0, 0, 0, 0, 0),
        attention: Sequence[int] = (0, 0, 1, 1, 0),
        head: int = 32,
        text_depth: int = 4,
    ) -> None:
        super().__init__()
        outputs = [*channels[1:], channels[-1]]
        self.features, self.depth = features, len(channels)
        self.text = TextTower(features, width, text_depth)
        self.from_rgb = nn.ModuleList(Conv(3, c, 1) for c in channels)
        each = zip(channels, outputs, blocks, attention, range(self.depth), strict=True)
        self.blocks = nn.ModuleList(Block(a, b, n, m, 2 if i < self.depth - 1 else 1) for a, b, n, m, i in each)
        self.heads = nn.ModuleList(Head(c, width, head) for c in outputs)

    def seen(self, pictures: Sequence[Tensor]) -> list[Tensor]:
        """-> for every depth j the features (j * B, C, h, w) of what entered before."""
        x, found = None, []
        for picture, enter, block in zip(pictures, self.from_rgb, self.blocks, strict=True):
            new = enter(picture)
            x = block(new if x is None else torch.cat([x, new]))
            found.append(x)
        return found

    def judged(self, seen: Sequence[Tensor], token: Tensor) -> list[Tensor]:
        """Features, and the token (B, width) of the sentence that each picture is said to show -> logits."""
        return [head(x, token.repeat(len(x) // len(token), 1)) for head, x in zip(self.heads, seen, strict=True)]

    def forward(self, pictures: Sequence[Tensor], hidden: Tensor, mask: Tensor) -> list[Tensor]:
        return self.judged(self.seen(pictures), self.text(hidden, mask)[1])


class VisionHeads(nn.Module):
    """Features of a frozen network, of several depths (B, C, h, w), and the sentence's token (B, width) -> logits."""

    def __init__(self, channels: Sequence[int], width: int, head: int = 32) -> None:
        super().__init__()
        for i, c in enumerate(channels):
            self.register_buffer(f"projection{i}", torch.randn(head, c) / c**0.5)
        self.convs = nn.ModuleList(Conv(head, head, 3) for _ in channels)
        self.heads = nn.ModuleList(Head(head, width, head) for _ in channels)

    def seen(self, features: Sequence[Tensor]) -> list[Tensor]:
        """-> (B, head, h, w) of every depth."""
        features = [x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-8) for x in features]
        projected = (torch.einsum("oc,bchw->bohw", getattr(self, f"projection{i}"), x) for i, x in enumerate(features))
        return [conv(x) for conv, x in zip(self.convs, projected, strict=True)]

    def judged(self, seen: Sequence[Tensor], token: Tensor) -> list[Tensor]:
        return [head(x, token) for head, x in zip(self.heads, seen, strict=True)]
