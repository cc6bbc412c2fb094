"""IR-SE50: the residual body of the e4e, pSp and HyperStyle encoders.

The 50-layer improved residual network of ArcFace (Deng et al., arXiv 1801.07698, section 3.1: batch
norm before the first convolution, PReLU between the two, stride in the second) with squeeze-and-excite
at the end of every branch (Hu et al., arXiv 1709.01507, section 3).  Unlike the face recogniser it has
no pooling and no embedding at the end: what it gives is the pictures of three stages, which the heads
read (pSp, arXiv 2008.00951, section 3, figure 2).  Module names are those of the published files.
"""

from __future__ import annotations

from torch import Tensor, nn

INPUT_SIZE = 256
REDUCTION = 16  # of the channels between the two layers of squeeze-and-excite
STAGES = ((1, 3), (2, 4), (4, 14), (8, 3))  # channels in units of the width, blocks; 24 blocks of two convolutions
TAPS = (6, 20, 23)  # blocks whose outputs are read: the last ones of the stages 2, 3 and 4


class SqueezeExcite(nn.Module):
    """x (B, C, H, W) -> x with every channel scaled by (0, 1), as the averages of all channels ask for."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // REDUCTION, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // REDUCTION, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.fc1(x.mean((2, 3), keepdim=True)).relu()  # (B, C/16, 1, 1)
        return x * self.fc2(gate).sigmoid()


class Bottleneck(nn.Module):
    """x (B, I, H, W) -> (B, O, H/stride, W/stride): res_layer(x) + shortcut_layer(x), nothing after the sum.

    A shortcut without a change of channels takes every stride-th pixel, otherwise it is a 1x1
    convolution with batch norm.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        if inputs == outputs:
            self.shortcut_layer = nn.MaxPool2d(1, stride)
        else:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False),
            nn.PReLU(outputs),
            nn.Conv2d(outputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            SqueezeExcite(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.res_layer(x) + self.shortcut_layer(x)


class IRSE50(nn.Module):
    """The body; encoders derive from it, since published files have its modules beside those of the heads.

    width: channels of the first stage, 64 in all published networks; a multiple of 16.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        if width % REDUCTION or width <= 0:
            raise ValueError(f"the width of an IR-SE50 is a multiple of {REDUCTION}, not {width}")
        self.input_layer = nn.Sequential(
            nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.PReLU(width)
        )
        blocks, channels = [], width
        for units, count in STAGES:
            for index in range(count):
                blocks.append(Bottleneck(channels, units * width, stride=2 if index == 0 else 1))
                channels = units * width
        self.body = nn.Sequential(*blocks)

    def pyramid(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Images (B, 3, 256, 256), RGB in [-1, 1] -> features of stages 2, 3, 4.

        With the width of 64: (B, 128, 64, 64), (B, 256, 32, 32), (B, 512, 16, 16).
        """
        if images.ndim != 4 or images.shape[1:] != (3, INPUT_SIZE, INPUT_SIZE):
            raise ValueError(f"the encoder takes (B, 3, {INPUT_SIZE}, {INPUT_SIZE}), got {tuple(images.shape)}")
        x = self.input_layer(images)  # (B, W, 256, 256)
        features = []
        for index, block in enumerate(self.body):
            x = block(x)
            if index in TAPS:
                features.append(x)
        fine, middle, coarse = features
        return fine, middle, coarse
