"""What the trainings of this family share: adversarial criteria, the pool of earlier fakes, initialisation, the rate.

Sources: vanilla GAN as in arXiv 1611.07004, least squares as in 1703.10593 (section 7.1), gradient penalty as in
1704.00028; the pool of 50 pictures is Shrivastava et al.'s (1612.07828), as CycleGAN uses it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

Criterion = Literal["vanilla", "lsgan"]


def adversarial(logits: Tensor | Sequence[Tensor], real: bool, criterion: Criterion) -> Tensor:
    """Mean loss of logits, of one scale or summed over several, that should say `real` (or not)."""
    scales = [logits] if isinstance(logits, Tensor) else logits
    function = F.mse_loss if criterion == "lsgan" else F.binary_cross_entropy_with_logits
    return sum(function(one, torch.full_like(one, float(real))) for one in scales)


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, share: Tensor) -> Tensor:
    """Mean of (|d critic / dx| - 1)^2 between real and fake pictures; share (B,) in [0, 1] says where between."""
    share = share.view(-1, 1, 1, 1)
    x = (share * real + (1 - share) * fake).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
    return (gradient.flatten(1).norm(dim=1) - 1).square().mean()


class Pool:
    """Earlier fakes: once full, every second picture asked for is one of them, and the new one takes its place."""

    def __init__(self, size: int) -> None:
        self.size, self.kept = size, []

    def swap(self, pictures: Tensor, rng: np.random.Generator) -> Tensor:
        """pictures (B, C, H, W) -> as many, some of them older."""
        if self.size == 0:
            return pictures
        chosen = []
        for picture in pictures.detach().split(1):
            if len(self.kept) < self.size:
                self.kept.append(picture)
            elif rng.random() < 0.5:
                place = int(rng.integers(self.size))
                picture, self.kept[place] = self.kept[place], picture
            chosen.append(picture)
        return torch.cat(chosen)


def initialise(network: nn.Module, kind: Literal["normal", "xavier"], seed: int, gain: float = 0.02) -> nn.Module:
    """Weights of convolutions and linear layers N(0, gain) or Xavier's with that gain, biases 0; scales of norms
    N(1, gain), shifts 0.  Returns the network."""
    rng = torch.Generator().manual_seed(seed)
    for module in network.modules():
        weight = getattr(module, "weight", None)
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            std = gain
            if kind == "xavier":
                inputs, outputs = nn.init._calculate_fan_in_and_fan_out(weight)
                std = gain * (2 / (inputs + outputs)) ** 0.5
            weight.data.copy_(torch.randn(weight.shape, generator=rng) * std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            weight.data.copy_(1 + gain * torch.randn(weight.shape, generator=rng))
            nn.init.zeros_(module.bias)
    return network


def rate(seen: int, images: int) -> float:
    """1 over the first half of a training, then straight down to 0: the schedule of all of them."""
    return min(1.0, max(0.0, 2 * (1 - seen / images)))
