"""Pivotal tuning (Roich et al., arXiv 2106.05744): from a good pivot, bend the generator's weights to one photo.

    minimise over D   objective(G(w_pivot; W + D)) + locality * mean |G(w_e; W + D) - G(w_e; W) - (x - G(w_pivot; W))|^2

The offsets D stay with the Inversion; the generator is never touched.  PTI's locality term asks that
other codes keep their pictures; ours asks for what editing needs: moving from the pivot to an edited code
w_e = w_pivot + s * direction must change the tuned picture as it changes the untuned one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from editing.inversion.budget import Budget, Callback, Progress, finish, schedule, step_seconds
from editing.inversion.latent import PIVOT, Latent, latent_step_seconds, optimise_latent
from editing.inversion.objective import Weights, objective
from editing.types import Inversion
from stylegan2.engine import area_resize
from stylegan2.generator import Delta, Generator


@dataclass(frozen=True)
class Tune:
    """Settings of pivotal tuning; `pivot_share` is the part of a time budget that the pivot gets."""

    pivot: Latent = PIVOT
    pivot_steps: int = 55
    steps: int = 50
    pivot_share: float = 0.5
    rate: float = 2e-3
    kinds: tuple[str, ...] = ("pointwise", "depthwise", "to_rgb", "conv")
    weights: Weights = Weights(pixel=1.0, perceptual=0.5, identity=0.3, scales=(1024, 256, 64))
    locality: float = 0.0
    every: int = 3


TUNE = Tune()


def tune(generator: Generator, image: Tensor, *, callback: Callback | None = None, seed: int = 0,
         budget: Budget = Budget()) -> Inversion:  # fmt: skip
    """Pivot, then weight offsets.  image (1, 3, R, R) RGB in [-1, 1] -> Inversion with deltas.  Cancelled between steps."""
    settings = TUNE
    goal = objective(image, settings.pivot.weights)
    pivot_steps, steps = plan(generator, goal, settings, budget)
    progress = Progress(callback, pivot_steps + steps, "tune")
    ws = optimise_latent(generator, goal, settings.pivot, pivot_steps, progress)
    deltas = tune_weights(generator, ws, image, settings, steps, seed, progress)
    inversion = Inversion(ws=ws, family="", deltas=deltas, method="tune", steps=pivot_steps + steps, seed=seed)
    return finish(generator, inversion, image)


def plan(generator: Generator, goal, settings: Tune, budget: Budget) -> tuple[int, int]:
    """-> (pivot steps, tuning steps) that the budget buys here."""
    if budget.seconds is None:
        total = budget.steps or settings.pivot_steps + settings.steps
        pivot_steps = round(total * settings.pivot_steps / (settings.pivot_steps + settings.steps))
        return max(1, pivot_steps), max(1, total - pivot_steps)
    seconds = latent_step_seconds(generator, goal)
    pivot_steps = budget.seconds * settings.pivot_share / seconds
    steps = budget.seconds * (1 - settings.pivot_share) / (seconds * TUNE_STEP_COST)
    return max(1, round(pivot_steps)), max(1, round(steps))


def tune_weights(generator: Generator, ws: Tensor, image: Tensor, settings: Tune, steps: int, seed: int,
                 progress: Progress) -> dict[str, Delta]:  # fmt: skip
    """Pivot ws (1, num_ws, w_dim) and target (1, 3, R, R) -> additive offsets of the tuned layers."""
    goal = objective(image, settings.weights)
    layers = [layer for layer in generator.layers.values() if layer.kind in settings.kinds]
    factors = [torch.zeros(1, *layer.shape, device=ws.device, requires_grad=True) for layer in layers]
    deltas = {layer.name: Delta("add", (factor,)) for layer, factor in zip(layers, factors, strict=True)}
    moves = Moves(generator, ws, seed) if settings.locality else None
    adam = torch.optim.Adam(factors, betas=(0.9, 0.99))
    for step in range(steps):
        rendered = generator.synthesis(ws, deltas)
        loss = goal(rendered)
        adam.zero_grad(set_to_none=True)
        if moves is not None and step % settings.every == settings.every - 1:
            loss = loss + settings.locality * moves.loss(generator, deltas, rendered, step // settings.every)
        loss.backward()
        for group in adam.param_groups:
            group["lr"] = settings.rate * schedule(step, steps, warm_up=0.1)
        adam.step()
        progress()
    return {name: Delta("add", (delta.factors[0].detach(),)) for name, delta in deltas.items()}
