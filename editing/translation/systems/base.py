"""What every published system is to the training loop (`editing.translation.fit`): networks, optimisers, one step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from editing.translation import data, losses
from encoders import efficientnet
from encoders.losses import perceptual
from stylegan2 import zoo
from stylegan2.errors import UsageError

Batch = Mapping[str, Tensor]


@dataclass(frozen=True)
class Settings:
    """size: pixels.  images: seen in all, by half of which the rate begins to fall.  images, batch, rate: 0 takes the
    system's own.  width: channels of the first layer."""

    size: int = 256
    images: int = 0
    batch: int = 0
    rate: float = 0.0
    width: int = 64
    seed: int = 0


class System:
    """What all have in common.  networks: by the name of their file (`latest_net_G`), optimisers: (names, Adam)."""

    data = "paired"  # or unpaired, labelled: see `data`
    images, batch, learning_rate, betas = 200_000, 1, 2e-4, (0.5, 0.999)
    losses: tuple[str, ...] = ()  # names of all that `step` may give
    least, whole, even = 32, 4, False  # smallest size; what sizes are a multiple of (2: a power of it); even batches
    steps = 0  # taken so far
    eyes: efficientnet.EfficientNetLite0 | None = None  # of `looks`

    @classmethod
    def source(cls, a: Path, b: Path | None = None, labels: Path | None = None) -> data.Source:
        """What the system learns from; UsageError if these folders do not hold it."""
        if cls.data == "labelled":
            if b is not None:
                raise UsageError("Labelled pictures are one folder: leave --b out.")
            return data.labelled(a, labels)
        if labels is not None:
            raise UsageError("This system learns from pictures alone: leave --labels out.")
        return getattr(data, cls.data)(a, b)

    @classmethod
    def check(cls, name: str, settings: Settings) -> None:
        """UsageError for sizes and batches that the networks cannot take."""
        size, power = settings.size, cls.whole == 2
        if size < cls.least or (size & (size - 1) if power else size % cls.whole):
            kind = "a power of two" if power else f"a multiple of {cls.whole}"
            raise UsageError(f"{name} is trained at {kind} from {cls.least} pixels on, not {size}: try 128 or 256.")
        if cls.even and (settings.batch or cls.batch) % 2:
            raise UsageError(f"{name} takes batches of even size, not {settings.batch}.")

    def __init__(self, settings: Settings, domains: int = 0) -> None:
        self.settings = settings
        self.networks: dict[str, nn.Module] = self.make(domains)
        self.adams: dict[str, torch.optim.Adam] = {}
        rate = settings.rate or self.learning_rate
        for names in self.groups():
            parameters = [p for name in names for p in self.networks[name].parameters()]
            self.adams["+".join(names)] = torch.optim.Adam(parameters, lr=rate, betas=self.betas)

    def make(self, domains: int) -> dict[str, nn.Module]:
        raise NotImplementedError

    def groups(self) -> list[tuple[str, ...]]:
        """Networks that one optimiser moves together."""
        return [(name,) for name in self.networks]

    def begin(self, source: data.Source, out: Path) -> None:
        """What is to be done before the first batch; a run that goes on does it again."""

    def schedule(self, seen: int, images: int) -> float:
        """What the rate is multiplied by after so many pictures of all."""
        return losses.rate(seen, images)

    def step(self, batch: Batch, rate: float, rng: np.random.Generator) -> dict[str, float]:
        raise NotImplementedError

    def rows(self, batch: Batch) -> list[Tensor]:
        """Pictures (B, 3, S, S) side by side: what goes in, what comes out, what should."""
        raise NotImplementedError

    def descend(self, names: str, loss: Tensor, rate: float) -> None:
        """One step of one optimiser; others' networks keep no gradient of it."""
        adam = self.adams[names]
        for group in adam.param_groups:
            group["lr"] = rate * (self.settings.rate or self.learning_rate)
        adam.zero_grad(set_to_none=True)
        loss.backward()
        adam.step()

    def finished(self, batches: Iterator[Batch]) -> None:
        """What is left to do after the last step, with more batches of the data."""

    def looks(self, fake: Tensor, real: Tensor) -> Tensor:
        """Mean distance of EfficientNet-Lite0's features, which stand in for VGG19's in the perceptual losses."""
        if self.eyes is None:
            self.eyes = efficientnet.from_state(load_file(zoo.path("efficientnet-lite0"))).to(fake.device)
        with torch.no_grad():
            wanted = perceptual.features(self.eyes, real)
        return perceptual.distance(perceptual.features(self.eyes, fake), wanted).mean()

    def judges(self, wanted: bool, names: Sequence[str]) -> None:
        """Whether these networks gather gradients."""
        for name in names:
            self.networks[name].requires_grad_(wanted)
