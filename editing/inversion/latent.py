"""Inversion by optimising the latent: `optimise` (fidelity first) and `pivot` (kept where editing works).

Both descend (`descent`) in whitened coordinates of W, u = (w - mean) V / stdev, in which the prior is a unit ball and
the mean square says how far from the dense part of W the code lies.  `pivot` looks for one u for all rows (W),
`optimise` for one of each, with m their mean (W+):

    minimise  objective(G(w(u))) + prior * mean(m^2) + row_prior * mean((u - m)^2)

The idea of a regularised W+ is II2S's (Zhu et al., arXiv 2012.09036); e4e's small deltas are u - m.
`sketch` takes its steps on previews (`stylegan2.preview`), far cheaper than steps on renders.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from editing.inversion import descent
from editing.inversion.budget import Budget, Callback, Progress, finish, step_seconds
from editing.inversion.objective import Objective, Weights, objective
from editing.types import Inversion
from encoders import curvature
from stylegan2 import preview, w_statistics
from stylegan2.engine import area_resize
from stylegan2.generator import Generator


@dataclass(frozen=True)
class Latent:
    """Settings of one latent optimisation.  together: all rows stay one w (W), instead of one each (W+)."""

    steps: int = 40
    prior: float = 0.002
    row_prior: float = 0.001
    together: bool = False
    weights: Weights = Weights(pixel=1.0, perceptual=0.5, identity=0.5)


OVERHEAD = 6  # what is no step (timing, the first gradient, judging the result), in steps
SKETCH_COST = 2  # what a sketch costs, in steps
OPTIMISE = Latent()
PIVOT = Latent(steps=20, prior=0.01, together=True)
SKETCH = Latent(steps=10, weights=Weights(perceptual=0.1, identity=0.0, scales=(128, 32, 8), side=128))


def optimise(generator: Generator, image: Tensor, *, callback: Callback | None = None, seed: int = 0,
             budget: Budget = Budget()) -> Inversion:  # fmt: skip
    """Fidelity first.  image (1, 3, R, R) RGB in [-1, 1] -> Inversion in W+.  Cancelled between steps."""
    return invert(generator, image, OPTIMISE, "optimise", callback, seed, budget)


def pivot(generator: Generator, image: Tensor, *, callback: Callback | None = None, seed: int = 0,
          budget: Budget = Budget()) -> Inversion:  # fmt: skip
    """Editability first: one w, held near the prior.  A good start for tuning, and for strong edits."""
    return invert(generator, image, PIVOT, "pivot", callback, seed, budget)


def invert(generator: Generator, image: Tensor, settings: Latent, method: str, callback: Callback | None, seed: int,
           budget: Budget) -> Inversion:  # fmt: skip
    """One latent optimisation from image to finished Inversion."""
    goal = objective(image, settings.weights)
    steps = plan(generator, goal, settings, budget)
    ws = optimise_latent(generator, goal, settings, steps, Progress(callback, steps, method))
    return finish(generator, Inversion(ws=ws, family="", method=method, steps=steps, seed=seed), image)


def plan(generator: Generator, goal: Objective, settings: Latent, budget: Budget, overhead: float = OVERHEAD) -> int:
    """How many steps the budget buys here, beside what costs as much as `overhead` steps."""
    if budget.seconds is None:
        return budget.steps or settings.steps
    return max(1, round(budget.seconds / latent_step_seconds(generator, goal) - overhead))


def latent_step_seconds(generator: Generator, goal: Objective) -> float:
    """Seconds one optimisation step takes."""
    ws = generator.w_avg.expand(1, generator.num_ws, -1).clone().requires_grad_(True)
    return step_seconds(lambda: goal(generator.synthesis(ws)))


def sketch(generator: Generator, image: Tensor, start: Tensor, progress: Progress, settings: Latent) -> Tensor:
    """start (1, num_ws, w_dim) -> ws of the same shape, whose preview is nearer to the image (1, 3, R, R)."""
    goal = objective(area_resize(image, preview.SIZE), settings.weights)
    return optimise_latent(generator, goal, settings, settings.steps, progress, start, preview.load(generator))


def optimise_latent(generator: Generator, goal: Objective, settings: Latent, steps: int, progress: Progress,
                    start: Tensor | None = None, look: preview.Preview | None = None) -> Tensor:  # fmt: skip
    """-> ws (1, num_ws, w_dim).  The generator is only read; gradients flow to the code alone.

    start (1, num_ws, w_dim): where to begin, if not at the mean; its rows' mean, where the settings keep rows together.
    look: what draws pictures (1, 3, r, r) instead of the generator.
    """
    draw = look or generator.synthesis
    statistics = w_statistics.load().to(generator.w_avg.device)
    u = torch.zeros(1, generator.num_ws, generator.w_dim, device=generator.w_avg.device)
    if start is not None:
        u = statistics.whiten(start)
    if settings.together:
        u = u.mean(1, keepdim=True)

    def loss(u: Tensor) -> Tensor:
        mean = u.mean(1, keepdim=True)
        prior = settings.prior * mean.square().mean() + settings.row_prior * (u - mean).square().mean()
        return goal(draw(statistics.unwhiten(u.expand(-1, generator.num_ws, -1)))) + prior

    known = curvature.of_codes(generator, "previews" if look else "renders", settings.together)
    u = descent.minimise(loss, u, known, steps, progress)
    return statistics.unwhiten(u.expand(-1, generator.num_ws, -1))
