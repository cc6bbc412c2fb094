"""`tune`: from a good code to the photo itself, by a feature residual and, if asked for, offsets to the weights.

    1  w           a code in W+ (`latent.OPTIMISE`), from the encoder's answer where there is one
    2  D, r        minimise objective(G(w + r; W + D)) + row_prior * mean(u^2) + locality * objective_e(G(w_e; W + D))
    3  F           what is still missing, as a residual of one feature map (`residual.fit`)

The offsets D and the residual F stay with the Inversion; the generator is never touched.  F draws the rest of the
photo and steps aside where an edit moves it.  It needs few steps, so most of them go to the code, on which edits live.

Part 2 is pivotal tuning (Roich et al., arXiv 2106.05744), and it takes no steps by default.  While the code was found
by Adam, a code in W with offsets kept edits best.  Since it is found by descent, W+ without offsets does: on four
photos and equal steps an L2 of .0019 instead of .0025, and making old moved the judge by 14 years instead of -2.
Three things keep D editable where it is used.  Fine layers move most and coarse ones, which carry geometry,
hardly (`Tune.share`).  The code goes on moving a little together with the weights.  And every few steps an edited
code w_e = w + s * d must still render what the untuned generator renders there, except where the edit changes
nothing: there the photo's own residual stays (`moved`).  PTI asks the first half of that at random codes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from editing.directions import catalogue
from editing.inversion import residual
from editing.inversion.budget import Budget, Callback, Progress, finish, schedule
from editing.inversion.encoding import begun, fits
from editing.inversion.latent import OPTIMISE, SKETCH, SKETCH_COST, Latent, latent_step_seconds, optimise_latent
from editing.inversion.objective import Objective, Weights, objective
from editing.types import Inversion
from stylegan2 import w_statistics
from stylegan2.engine import area_resize
from stylegan2.generator import Delta, Generator, Layer

DEPTHWISE_RATE = 10.0  # depthwise kernels are some fifty times larger than pointwise ones, and far fewer


@dataclass(frozen=True)
class Tune:
    """Settings of pivotal tuning.

    sketch: of the pivot, where an encoder fits; steps: the default counts for the pivot, the weights and the
    residual, and how a budget is shared; rate: Adam's, for pointwise weights of 64 pixels and more, times `share`
    for coarser ones; rank: of what is kept of a weight's offset; edits: what must go on working; every: steps from
    one locality step to the next; still: mean change in [-1, 1] units below which a place counts as untouched by an
    edit.
    """

    sketch: Latent = SKETCH
    pivot: Latent = OPTIMISE
    steps: tuple[int, int, int] = (24, 0, 6)
    rate: float = 1e-3
    rank: int = 32
    row_rate: float = 0.03
    row_prior: float = 0.01
    weights: Weights = Weights(pixel=3.0, perceptual=0.5, identity=0.3, scales=(1024, 256, 64))
    locality: float = 1.5
    locality_weights: Weights = Weights(pixel=2.0, perceptual=0.5, identity=0.0, scales=(256, 64))
    edits: tuple[tuple[str, float], ...] = (("age", 3), ("smile", 2), ("age", -3), ("smile", -2))
    every: int = 4
    still: float = 0.05

    def share(self, layer: Layer) -> float:
        """The layer's part of `rate`; a layer with 0 would stay as it is."""
        by_resolution = 1.0 if layer.resolution >= 64 else 0.3 if layer.resolution == 32 else 0.05
        return by_resolution * (DEPTHWISE_RATE if layer.kind == "depthwise" else 1.0)


TUNE = Tune()


def tune(generator: Generator, image: Tensor, *, callback: Callback | None = None, seed: int = 0,
         budget: Budget = Budget(), settings: Tune = TUNE) -> Inversion:  # fmt: skip
    """Pivot, weight offsets, residual.  image (1, 3, R, R) RGB in [-1, 1] -> Inversion with deltas and features."""
    return tuned(generator, image, settings, "tune", callback, seed, budget)


def tuned(generator: Generator, image: Tensor, settings: Tune, method: str, callback: Callback | None, seed: int,
          budget: Budget) -> Inversion:  # fmt: skip
    """The parts one after the other, as many steps of each as settings and budget say."""
    goal = objective(image, settings.pivot.weights)
    counts = plan(generator, goal, settings, budget)
    sketched = settings.sketch.steps if fits(generator) else 0
    progress = Progress(callback, sketched + sum(counts), method)
    start = begun(generator, image, progress, settings.sketch)
    ws = optimise_latent(generator, goal, settings.pivot, counts[0], progress, start)
    deltas = None
    if counts[1]:
        close = objective(image, settings.weights)
        ws, deltas = tune_weights(generator, ws, image, close, settings, counts[1], progress)
    features = residual.fit(generator, ws, deltas, image, counts[2], progress)
    made = {"deltas": deltas, "features": features or None, "method": method, "steps": sum(counts), "seed": seed}
    return finish(generator, Inversion(ws=ws, family="", **made), image)


# Measured in latent steps: what a step of each part costs (a weight step with its share of locality steps), what
# everything costs that is no step (timing, the first gradients, judging the result), and the locality term's targets.
COSTS = (1.0, 1.55, 0.75)
OVERHEAD = 7 + SKETCH_COST
TARGETS = 5


def plan(generator: Generator, goal: Objective, settings: Tune, budget: Budget) -> tuple[int, int, int]:
    """-> steps of the pivot, the weights and the residual that the budget buys here; at least one where any."""
    if budget.seconds is not None:
        overhead = OVERHEAD + (TARGETS if settings.steps[1] else 0)
        affordable = budget.seconds / latent_step_seconds(generator, goal) - overhead
        scale = affordable / sum(cost * steps for cost, steps in zip(COSTS, settings.steps, strict=True))
    else:
        scale = (budget.steps or sum(settings.steps)) / sum(settings.steps)
    pivot, weights = (max(1, round(scale * steps)) if steps else 0 for steps in settings.steps[:2])
    return pivot, weights, max(1, round(scale * sum(settings.steps)) - pivot - weights)


def tune_weights(generator: Generator, ws: Tensor, image: Tensor, goal: Objective, settings: Tune, steps: int,
                 progress: Progress) -> tuple[Tensor, dict[str, Delta]]:  # fmt: skip
    """Pivot ws (1, num_ws, w_dim) and target (1, 3, R, R) -> (ws moved a little, weight offsets of low rank)."""
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
    offsets = {name: compressed(delta.factors[0].detach(), settings.rank) for name, delta in deltas.items()}
    return statistics.unwhiten(pivot + rows).detach(), offsets


def compressed(offset: Tensor, rank: int) -> Delta:
    """An offset (1, *shape) as a Delta of that rank where this halves its size at least, else as it is."""
    matrix = offset[0].flatten(1)
    if 2 * rank * sum(matrix.shape) > matrix.numel():
        return Delta("add", (offset,))
    return Delta("lowrank", tuple(factor[None] for factor in residual.factors(matrix, rank)))


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
