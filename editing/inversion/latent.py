"""Inversion by optimising the latent: `optimise` (fidelity first) and `pivot` (kept where editing works).

Both work in whitened coordinates of W, u = (w - mean) V / stdev, in which the prior is a unit ball: Adam's
equal steps are then equal steps of the prior, and its mean square says how far from the dense part of W
the code lies.  First one u for all rows (W), then u + r with a small offset r per row (W+):

    minimise  objective(G(w(u + r))) + prior * mean(u^2) + row_prior * mean(r^2)

The idea of a regularised W+ is II2S's (Zhu et al., arXiv 2012.09036); e4e's small deltas are the r.
`sketch` takes its steps on previews (`stylegan2.preview`), far cheaper than steps on renders: from the encoder's
answer, 60 of them brought four photos to a mean L2 of .033, which is `pivot`'s, but not to its likeness.
`pivot` stays in W, without r: rows that disagree cost edits more than they bring likeness (measured: making
young lost a third of its effect with r, and the mean L2 fell from .036 to .025 only).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from editing.inversion.budget import Budget, Callback, Progress, finish, schedule, step_seconds
from editing.inversion.objective import Objective, Weights, objective
from editing.types import Inversion
from stylegan2 import preview, w_statistics
from stylegan2.engine import area_resize
from stylegan2.generator import Generator


@dataclass(frozen=True)
class Latent:
    """Settings of one latent optimisation: `rows_from` is the share of steps after which rows move apart."""

    steps: int = 110
    rate: float = 0.08
    prior: float = 0.004
    row_prior: float = 0.004
    rows_from: float = 0.4
    weights: Weights = Weights(pixel=1.0, perceptual=0.5, identity=0.3)


OVERHEAD = 6  # what is no step (timing, judging the result), in steps
SKETCH_COST = 7  # what a sketch costs, in steps
OPTIMISE = Latent(prior=0.002, row_prior=0.001)
PIVOT = Latent(steps=60, prior=0.01, rows_from=1.0)
SKETCH = Latent(
    steps=60,
    rate=0.05,
    prior=0.002,
    row_prior=0.001,
    rows_from=0.0,
    weights=Weights(pixel=1.0, perceptual=0.3, identity=0.0, scales=(128, 32, 8), side=128),
)


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
    draw = preview.load(generator)
    return optimise_latent(generator, goal, settings, settings.steps, progress, start, draw)


def optimise_latent(generator: Generator, goal: Objective, settings: Latent, steps: int, progress: Progress,
                    start: Tensor | None = None, draw: Callable[[Tensor], Tensor] | None = None) -> Tensor:  # fmt: skip
    """-> ws (1, num_ws, w_dim).  The generator is only read; gradients flow to u and r alone.

    start (1, num_ws, w_dim): where to begin; its rows' mean, where the settings never let rows move apart.
    draw: ws -> picture (1, 3, R, R), if not the generator's own.
    """
    draw = draw or generator.synthesis
    statistics = w_statistics.load().to(generator.w_avg.device)
    begin = torch.zeros(1, generator.num_ws, generator.w_dim, device=generator.w_avg.device)
    if start is not None:
        begin = statistics.whiten(start)
    mean = begin.mean(1, keepdim=True)
    u = mean.clone().requires_grad_(True)
    rows = ((begin - mean) * (settings.rows_from < 1)).requires_grad_(True)
    adam = torch.optim.Adam([u, rows], betas=(0.9, 0.99))
    for step in range(steps):
        apart = step >= settings.rows_from * steps
        code = u + rows if apart else u.expand(-1, generator.num_ws, -1)
        loss = goal(draw(statistics.unwhiten(code))) + settings.prior * u.square().mean()
        if apart:
            loss = loss + settings.row_prior * rows.square().mean()
        adam.zero_grad(set_to_none=True)
        loss.backward()
        for group in adam.param_groups:
            group["lr"] = settings.rate * schedule(step, steps)
        adam.step()
        progress()
    return statistics.unwhiten(u + rows).detach()
