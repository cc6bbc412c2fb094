"""A network that learns: its optimiser, its rate over a training, and the running average that is kept of it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

CLIP = 1.0  # longest gradient


@dataclass(frozen=True)
class Pace:
    """rate: AdamW's highest, times `parts` for some of the network; images: seen in all; ema: of the average.

    parts: first word of a parameter's name -> factor.
    """

    rate: float
    images: int
    batch: int
    ema: float
    warm_up: int = 100
    parts: Mapping[str, float] | None = None


class Learner:
    """The network in training and its average, both on the device, channels last.

    The optimiser's moments are nobody's to keep: after a restart they warm up again.
    """

    def __init__(self, network: nn.Module, average: nn.Module | None, device: torch.device, pace: Pace) -> None:
        self.pace, self.steps = pace, 0
        average = copy.deepcopy(network) if average is None else average
        self.network = network.to(device, memory_format=torch.channels_last)
        self.average = average.to(device, memory_format=torch.channels_last).requires_grad_(False)
        parts: dict[float, list[nn.Parameter]] = {}
        for name, parameter in self.network.named_parameters():
            parts.setdefault((pace.parts or {}).get(name.split(".")[0], 1.0), []).append(parameter)
        groups = [{"params": parameters, "factor": factor} for factor, parameters in parts.items()]
        self.adam = torch.optim.AdamW(groups, lr=pace.rate, betas=(0.9, 0.99), weight_decay=0.01)

    def rate(self, seen: int) -> float:
        """Warm-up over the first steps of this life, then a cosine down to 2% over all images; of `pace.rate`."""
        progress = min(1.0, seen / self.pace.images)
        warm = min(1.0, (self.steps + 1) / self.pace.warm_up)
        return warm * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * progress)))

    def step(self, loss: Tensor, seen: int) -> None:
        """One step of the network and of its average, which follows more slowly the more images were seen."""
        self.adam.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), CLIP)
        for group in self.adam.param_groups:
            group["lr"] = self.pace.rate * group["factor"] * self.rate(seen)
        self.adam.step()
        self.steps += 1
        keep = min(self.pace.ema, seen / (seen + 20 * self.pace.batch))
        with torch.no_grad():
            for mine, theirs in zip(self.average.parameters(), self.network.parameters(), strict=True):
                mine.lerp_(theirs, 1 - keep)
