"""InstaGAN's networks: a picture and the set of its instances' masks (Mo, Cho, Shin, arXiv 1812.10889, section 2.1).

The generator is equivariant: masks in another order come out in that order, and the picture is the same.  The
discriminator is invariant.  Both sum over instances whatever an encoder, shared by them, makes of each mask.  A
tensor holds a picture's channels first and then one channel for every mask, all in [-1, 1]; a mask of -1 everywhere
is no instance.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from editing.translation.networks.norms import normalised
from editing.translation.networks.resnet import ResidualBlock

PER_PASS = 2  # instances that are translated together, as published


def occupied(masks: Tensor) -> Tensor:
    """masks (..., H, W) in [-1, 1] -> (...), whether there is anything in each."""
    return (masks + 1).mean((-2, -1)) > 0


def united(masks: Tensor) -> Tensor:
    """masks (B, N, H, W) in [-1, 1] -> (B, 1, H, W) in [0, 1]: how far a pixel belongs to any instance."""
    return ((masks + 1) / 2).sum(1, keepdim=True).clamp(0, 1)


# ---- the generator


def encoder(inputs: int, width: int, blocks: int) -> nn.Sequential:
    """(B, inputs, H, W) -> (B, 4 width, H/4, W/4): the trunk of CycleGAN's generator."""
    layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(inputs, width, 7)]
    layers += [normalised(width, "instance"), nn.ReLU()]
    for channels in (width, 2 * width):
        layers += [nn.Conv2d(channels, 2 * channels, 3, 2, 1), normalised(2 * channels, "instance"), nn.ReLU()]
    return nn.Sequential(*layers, *(ResidualBlock(4 * width, "instance", False) for _ in range(blocks)))


def decoder(channels: int, outputs: int) -> nn.Sequential:
    """(B, channels, H/4, W/4) -> (B, outputs, H, W) in [-1, 1]."""
    layers: list[nn.Module] = []
    for wide in (channels, channels // 2):
        layers += [nn.ConvTranspose2d(wide, wide // 2, 3, 2, 1, output_padding=1)]
        layers += [normalised(wide // 2, "instance"), nn.ReLU()]
    return nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(channels // 4, outputs, 7), nn.Tanh())


class SetGenerator(nn.Module):
    """(B, inputs + N, H, W), a picture and its masks -> (B, outputs + N, H, W); H and W multiples of 4, N at least 1.

    A mask without anything in it is passed through and adds nothing; where all are so, the first counts all the same.
    """

    def __init__(self, inputs: int = 3, outputs: int = 3, blocks: int = 9, width: int = 64) -> None:
        super().__init__()
        self.inputs, self.outputs, self.size = inputs, outputs, 4
        self.encoder_img, self.encoder_seg = encoder(inputs, width, blocks), encoder(1, width, blocks)
        self.decoder_img, self.decoder_seg = decoder(8 * width, outputs), decoder(12 * width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.one(sample) for sample in x.split(1)])

    def one(self, x: Tensor) -> Tensor:
        """Of one picture, as which masks have anything in them differs between pictures."""
        masks = x[:, self.inputs :].transpose(0, 1)  # (N, 1, H, W)
        there = occupied(masks[:, 0]).nonzero()[:, 0]
        there = there if len(there) else there.new_zeros(1)
        features = self.encoder_seg(masks[there])  # (n, 4 width, H/4, W/4)
        scene = torch.cat([self.encoder_img(x[:, : self.inputs]), features.sum(0, keepdim=True)], 1)
        picture = self.decoder_img(scene)
        drawn = self.decoder_seg(torch.cat([features, scene.expand(len(there), -1, -1, -1)], 1))
        return torch.cat([picture, masks.index_copy(0, there, drawn).transpose(0, 1)], 1)


def one_after_another(network: SetGenerator, picture: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """A picture (1, C, H, W) and its masks (1, N, H, W), in [-1, 1] -> both translated, masks in the order given.

    Instances are taken PER_PASS at a time, the largest first; every pass goes on from the picture of the one before
    (section 2.3), so that memory does not grow with their number.
    """
    masks = masks.clone()
    order = masks[0].mean((1, 2)).sort(descending=True, stable=True).indices
    for chosen in order.split(PER_PASS):
        if bool(occupied(masks[:, chosen]).any()):
            found = network(torch.cat([picture, masks[:, chosen]], 1))
            picture, masks[:, chosen] = found[:, : network.outputs], found[:, network.outputs :]
    return picture, masks


# ---- the discriminator


def unit(vector: Tensor) -> Tensor:
    return vector / (vector.norm() + 1e-12)


class SpectralConv(nn.Module):
    """A 4x4 convolution whose weight is divided by its largest singular value, under InstaGAN's own names.

    Every call makes one step of the power iteration, in evaluation too, and keeps the vectors u and v for the next.
    They are parameters in the files, but never learnt.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        plain = nn.Conv2d(inputs, outputs, 4, stride, 1)
        self.stride, self.module = stride, nn.Module()
        self.module.bias = plain.bias
        for name, length in (("weight_u", outputs), ("weight_v", inputs * 16)):
            self.module.register_parameter(name, nn.Parameter(unit(torch.randn(length)), requires_grad=False))
        self.module.weight_bar = plain.weight

    def forward(self, x: Tensor) -> Tensor:
        kept, weight = self.module, self.module.weight_bar
        matrix = weight.flatten(1)  # (outputs, inputs * 16)
        with torch.no_grad():
            v = unit(matrix.t().mv(kept.weight_u))
            u = unit(matrix.mv(v))
            kept.weight_u.copy_(u)
            kept.weight_v.copy_(v)
        return F.conv2d(x, weight / u.dot(matrix.mv(v)), kept.bias, self.stride, 1)


def halving(inputs: int, width: int) -> nn.Sequential:
    """(B, inputs, H, W) -> (B, 4 width, H/8, W/8)."""
    layers: list[nn.Module] = [SpectralConv(inputs, width, 2), nn.LeakyReLU(0.2)]
    for channels in (width, 2 * width):
        layers += [SpectralConv(channels, 2 * channels, 2), normalised(2 * channels, "instance"), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers)


class SetDiscriminator(nn.Module):
    """(B, inputs + N, H, W), a picture and its masks -> logits (B, 1, H/8 - 2, W/8 - 2).

    Scores do not depend on the order of the masks, once the power iterations have settled: while they have not, each
    mask meets weights of its own.
    """

    def __init__(self, inputs: int = 3, width: int = 64) -> None:
        super().__init__()
        self.inputs = inputs
        self.feature_img, self.feature_seg = halving(inputs, width), halving(1, width)
        self.classifier = nn.Sequential(
            SpectralConv(8 * width, 16 * width, 1),
            normalised(16 * width, "instance"),
            nn.LeakyReLU(0.2),
            SpectralConv(16 * width, 1, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.one(sample) for sample in x.split(1)])

    def one(self, x: Tensor) -> Tensor:
        masks = x[0, self.inputs :, None, None]  # (N, 1, 1, H, W)
        there = occupied(masks[:, 0, 0]).nonzero()[:, 0].tolist() or [0]
        features = self.feature_img(x[:, : self.inputs])
        return self.classifier(torch.cat([features, sum(self.feature_seg(masks[i]) for i in there)], 1))

    def requires_grad_(self, requires_grad: bool = True) -> SetDiscriminator:
        """All but the vectors of the power iterations."""
        super().requires_grad_(requires_grad)
        for name, parameter in self.named_parameters():
            if name.endswith(("weight_u", "weight_v")):
                parameter.requires_grad_(False)
        return self
