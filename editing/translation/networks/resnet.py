"""CycleGAN's generator: down twice, residual blocks, up twice (Zhu et al., arXiv 1703.10593, appendix 7.2).

Borders are reflected where a 7x7 or a block's 3x3 meets them.  Nine blocks from 256 pixels on, six for 128.
"""

from __future__ import annotations

from torch import Tensor, nn

from editing.translation.networks.norms import Norm, normalised


class ResidualBlock(nn.Module):
    """x (B, C, H, W) -> x + conv(relu(conv(x))); no activation after the sum."""

    def __init__(self, channels: int, norm: Norm, dropout: bool) -> None:
        super().__init__()
        bias = norm != "batch"

        def convolution() -> list[nn.Module]:
            return [nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3, bias=bias), normalised(channels, norm)]

        middle = [nn.ReLU(), *([nn.Dropout(0.5)] if dropout else [])]
        self.conv_block = nn.Sequential(*convolution(), *middle, *convolution())

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_block(x)


class ResnetGenerator(nn.Module):
    """Pictures (B, inputs, H, W) -> (B, outputs, H, W) in [-1, 1]; H and W multiples of 4."""

    def __init__(
        self,
        inputs: int = 3,
        outputs: int = 3,
        blocks: int = 9,
        width: int = 64,
        norm: Norm = "instance",
        dropout: bool = False,
    ) -> None:
        super().__init__()
        self.size, bias = 4, norm != "batch"
        layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(inputs, width, 7, bias=bias)]
        layers += [normalised(width, norm), nn.ReLU()]
        for channels in (width, 2 * width):
            layers += [nn.Conv2d(channels, 2 * channels, 3, 2, 1, bias=bias), normalised(2 * channels, norm), nn.ReLU()]
        layers += [ResidualBlock(4 * width, norm, dropout) for _ in range(blocks)]
        for channels in (4 * width, 2 * width):
            layers += [nn.ConvTranspose2d(channels, channels // 2, 3, 2, 1, output_padding=1, bias=bias)]
            layers += [normalised(channels // 2, norm), nn.ReLU()]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(width, outputs, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)
