"""A toy generator, catalogue and strategy behind the real contracts: fast enough to test whole command lines."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

import torch

from editing.types import Inversion
from stylegan2.checkpoints import Provenance

RESOLUTION = 64


class FakeGenerator:
    """A picture of 64x64 whose colours are three of its latent numbers; a delta shifts it, a feature lifts it."""

    family, z_dim, w_dim, num_ws, resolution = "fake-64", 4, 4, 2, RESOLUTION
    w_avg = torch.zeros(4)
    layers = styles = MappingProxyType({})
    provenance = Provenance("f" * 64, "f" * 64, "toy")
    renders = 0

    def mapping(self, z):
        return z

    def synthesis(self, ws, deltas=None, features=None, until=None):
        type(self).renders += 1
        ramp = torch.linspace(-0.5, 0.5, RESOLUTION).expand(1, 1, RESOLUTION, RESOLUTION)
        picture = ws.mean(1)[:, :3, None, None] + ramp * ws.mean(1)[:, 3:, None, None]
        shift = deltas["shift"].factors[0].float().view(-1, 1, 1, 1) if deltas else 0
        lift = features["b8"].residual.float().mean() * features["b8"].mask.mean() if features else 0
        return picture + shift + lift


@dataclass(frozen=True)
class FakeDirection:
    name: str
    vector: torch.Tensor
    group: str = "fake"
    rows: tuple[int, int] = (0, 2)
    safe_range: tuple[float, float] = (-3.0, 3.0)
    effect: float = 1.0
    description: str = "shifts one colour"
    clean: None = None


def fake_apply(ws, direction, strength):
    edited = ws.clone()
    edited[:, slice(*direction.rows)] += strength * direction.vector
    return edited


CATALOGUE = {
    "smile": FakeDirection("smile", torch.tensor([0.1, 0, 0, 0])),
    "age": FakeDirection("age", torch.tensor([0, 0.1, 0, 0])),
}


def fake_strategy(generator, image, *, callback=None, seed=0, budget=None) -> Inversion:
    """The mean colour of the picture, found in three steps."""
    steps = getattr(budget, "steps", None) or 3
    for step in range(steps):
        if callback is not None:
            callback(step + 1, steps, {})
    w = torch.cat([image.mean((0, 2, 3)), torch.tensor([0.2])])
    return Inversion(
        ws=w.expand(1, generator.num_ws, 4).clone(),
        family=generator.family,
        method="fake",
        steps=steps,
        seed=seed,
        threads=torch.get_num_threads(),
        metrics={"l2": 0.1},
    )


STRATEGIES = {"fake": fake_strategy, "tune": fake_strategy}


@dataclass(frozen=True)
class FakeBudget:
    steps: int | None = None
    seconds: float | None = None


def write_photo(path, seed=0, size=96):
    """A noisy square picture at `path`; returns the path."""
    import numpy as np

    from editing.faces import photo as photos

    path.parent.mkdir(parents=True, exist_ok=True)
    rows = np.random.default_rng(seed).integers(60, 190, (size, size, 3), dtype=np.uint8)
    return photos.save(photos.from_rgb(rows), path)


def make_editor(catalogue=None, device="cpu", masks=None):
    """What `editing.batching.work.make_editor` makes, of toys; a worker process can be told to call it."""
    from editing import directions as real
    from editing import session

    real.apply = fake_apply
    return session.Editor(FakeGenerator(), catalogue=catalogue or CATALOGUE, strategies=STRATEGIES)
