"""The normalisations of this family: batch norm with its scale and shift, instance norm without, or none."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Norm = Literal["batch", "instance", "none"]


def normalised(channels: int, norm: Norm) -> nn.Module:
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    return nn.InstanceNorm2d(channels) if norm == "instance" else nn.Identity()


def own_statistics(network: nn.Module) -> nn.Module:
    """pix2pix as its authors' test draws: batch norms with the statistics of what they are given (one picture at a
    time), and dropout as the only noise.  Changes the network, and returns it.

    Running statistics of a network that was trained on one or a few pictures at a time are far from any picture's.
    """
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.track_running_stats, module.running_mean, module.running_var = False, None, None
        elif isinstance(module, nn.Dropout):
            module.train()
    return network


def settle(network: nn.Module, inputs: Iterable[Tensor]) -> None:
    """Running statistics of all batch norms become the mean over these batches, as RBDN's authors have it."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [(norm.momentum, norm.training) for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean
        norm.train()
    with torch.no_grad():
        for x in inputs:
            network(x)
    for norm, (momentum, training) in zip(norms, before, strict=True):
        norm.momentum = momentum
        norm.train(training)


class TrackedInstanceNorm(nn.InstanceNorm2d):
    """Instance norm with scale, shift and running statistics, which StarGAN's files carry and its sampling ignores.

    In training the running statistics are updated, as there.  Otherwise the picture's own statistics are used, like the
    published sampling code, which never leaves training mode, and nothing is changed; with `stored` the running ones.
    """

    stored = False

    def __init__(self, channels: int) -> None:
        super().__init__(channels, affine=True, track_running_stats=True)

    def forward(self, x: Tensor) -> Tensor:
        if self.training or self.stored:
            return super().forward(x)
        return F.instance_norm(x, weight=self.weight, bias=self.bias, eps=self.eps)
