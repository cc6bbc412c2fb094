"""Pivotal tuning (Roich et al., arXiv 2106.05744): from a good pivot, bend the generator's weights to one photo.

    minimise over D, r   objective(G(w + r; W + D)) + row_prior * mean(u^2) + locality * objective_e(G(w_e; W + D))

The offsets D stay with the Inversion; the generator is never touched.  Three things keep the result
editable.  Fine layers move most and coarse ones, which carry geometry, hardly (`Tune.share`).  The code
goes on moving a little together with the weights.  And every few steps an edited code w_e = w + s * d must
still render what the untuned generator renders there, except where the edit changes nothing: there the
photo's own residual stays (`moved`).  PTI asks the first half of that at random codes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from editing.directions import catalogue
from editing.inversion.budget import Budget, Callback, Progress, finish, schedule
from editing.inversion.latent import PIVOT, Latent, latent_step_seconds, optimise_latent
from editing.inversion.objective import Objective, Weights, objective
from editing.types import Inversion
from stylegan2 import w_statistics
from stylegan2.engine import area_resize
from stylegan2.generator import Delta, Generator, Layer

DEPTHWISE_RATE = 10.0  # depthwise kernels are some fifty times larger than pointwise ones, and far fewer


@dataclass(frozen=True)
class Tune:
    """Settings of pivotal tuning.

    pivot_steps and steps: the default step counts, and how a budget is shared; rate: Adam's, for pointwise
    weights of 64 pixels and more, times `share` for coarser ones; edits: what must go on working; every:
    steps from one locality step to the next; still: mean change in [-1, 1] units below which a place counts
    as untouched by an edit.
    """

    pivot: Latent = PIVOT
    pivot_steps: int = 38
    steps: int = 48
    rate: float = 2e-3
    row_rate: float = 0.03
    row_prior: float = 0.01
    weights: Weights = Weights(pixel=3.0, perceptual=0.5, identity=0.3, scales=(1024, 256, 64))
    locality: float = 1.5
    locality_weights: Weights = Weights(pixel=2.0, perceptual=0.5, identity=0.0, scales=(256, 64))
    edits: tuple[tuple[str, float], ...] = (("age", 3), ("smile", 2), ("age", -3), ("smile", -2))
    every: int = 3
    still: float = 0.05

    def share(self, layer: Layer) -> float:
        """The layer's part of `rate`; a layer with 0 would stay as it is."""
        by_resolution = 1.0 if layer.resolution >= 64 else 0.3 if layer.resolution == 32 else 0.05
        return by_resolution * (DEPTHWISE_RATE if layer.kind == "depthwise" else 1.0)


TUNE = Tune()


def tune(generator: Generator, image: Tensor, *, callback: Callback | None = None, seed: int = 0,
         budget: Budget = Budget(), settings: Tune = TUNE) -> Inversion:  # fmt: skip
    """Pivot, then weight offsets.  image (1, 3, R, R) RGB in [-1, 1] -> Inversion with deltas."""
    goal = objective(image, settings.pivot.weights)
    pivot_steps, steps = plan(generator, goal, settings, budget)
    progress = Progress(callback, pivot_steps + steps, "tune")
    ws = optimise_latent(generator, goal, settings.pivot, pivot_steps, progress)
    ws, deltas = tune_weights(generator, ws, image, settings, steps, progress)
    inversion = Inversion(ws=ws, family="", deltas=deltas, method="tune", steps=pivot_steps + steps, seed=seed)
    return finish(generator, inversion, image)


# Measured in latent steps: what a tuning step costs with its share of locality steps, and what everything costs that
# is no step (timing, targets of the locality term, judging the result).
TUNE_STEP_COST = 1.7
OVERHEAD = 12


def plan(generator: Generator, goal: Objective, settings: Tune, budget: Budget) -> tuple[int, int]:
    """-> (pivot steps, tuning steps) that the budget buys here."""
    cost = settings.pivot_steps + TUNE_STEP_COST * settings.steps
    if budget.seconds is not None:
        scale = (budget.seconds / latent_step_seconds(generator, goal) - OVERHEAD) / cost
    else:
        scale = (budget.steps or settings.pivot_steps + settings.steps) / (settings.pivot_steps + settings.steps)
    return max(1, round(scale * settings.pivot_steps)), max(1, round(scale * settings.steps))


def tune_weights(generator: Generator, ws: Tensor, image: Tensor, settings: Tune, steps: int,
                 progress: Progress) -> tuple[Tensor, dict[str, Delta]]:  # fmt: skip
    """Pivot ws (1, num_ws, w_dim) and target (1, 3, R, R) -> (ws moved a little, additive weight offsets)."""
    goal = objective(image, settings.weights)
    statistics = w_statistics.load().to(ws.device)
    layers = [layer for layer in generator.layers.values() if settings.share(layer)]
    factors = [torch.zeros(1, *layer.shape, device=ws.device, requires_grad=True) for layer in layers]
    deltas = {layer.name: Delta("add", (factor,)) for layer, factor in zip(layers, factors, strict=True)}
    pivot = statistics.whiten(ws)
    rows = torch.zeros_like(pivot, requires_grad=True)
    groups = [{"params": [f], "rate": settings.rate * settings.share(n)} for f, n in zip(factors, layers, strict=True)]
    adam = torch.optim.Adam([*groups, {"params": [rows], "rate": settings.row_rate}], betas=(0.9, 0.99))
    moves = locality(generator, ws, image, settings)
    for step in range(steps):
        code = pivot + rows
        current = statistics.unwhiten(code)
        adam.zero_grad(set_to_none=True)
        if moves and step % settings.every == 0:  # apart and not as a batch of two: one at a time is quicker on a CPU
            move, edited_goal = moves[step // settings.every % len(moves)]
            (settings.locality * edited_goal(generator.synthesis(current.detach() + move, deltas))).backward()
        loss = goal(generator.synthesis(current, deltas)) + settings.row_prior * code.square().mean()
        loss.backward()
        for group in adam.param_groups:
            group["lr"] = group["rate"] * schedule(step, steps, warm_up=0.1)
        adam.step()
        progress()
    offsets = {name: Delta("add", (delta.factors[0].detach(),)) for name, delta in deltas.items()}
    return statistics.unwhiten(pivot + rows).detach(), offsets


def locality(generator: Generator, ws: Tensor, image: Tensor, settings: Tune) -> list[tuple[Tensor, Objective]]:
    """For every edit: its move (1, num_ws, w_dim) and the picture that the tuned generator should show there."""
    if not settings.locality:
        return []
    named, result = catalogue.load(), []
    with torch.no_grad():
        rendered = generator.synthesis(ws)
        for name, strength in settings.edits:
            edited_ws = catalogue.apply(ws, named[name], strength)
            edited = generator.synthesis(edited_ws)
            target = edited + (1 - moved(rendered, edited, settings.still)) * (image - rendered)
            result.append((edited_ws - ws, objective(target, settings.locality_weights)))
    return result


def moved(before: Tensor, after: Tensor, still: float) -> Tensor:
    """Two pictures (1, 3, R, R) -> (1, 1, R, R) in [0, 1]: 1 where an edit changed the picture or its surroundings."""
    change = area_resize((after - before).abs().mean(1, keepdim=True), 64)
    change = F.avg_pool2d(F.max_pool2d(change, 5, 1, 2), 5, 1, 2)
    mask = 1 - torch.exp(-((change / still) ** 2))
    return F.interpolate(mask, size=before.shape[-2:], mode="bilinear")
