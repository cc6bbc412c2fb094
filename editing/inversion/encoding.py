"""Inversion by an encoder: one forward pass, and that pass as the start of an optimisation.

`encoder` runs the compact e4e (`encoders.compact`); every further pass (ReStyle, arXiv 2104.02699) sees a
preview (`stylegan2.preview`) of what the last one answered, and corrects it.  Five passes cost less than one
render, but after the second the shipped weights overshoot.  `encoder+optimise` goes on from there (Zhu et al.,
arXiv 2004.00049, did so first), on previews before it does on renders.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import torch
from torch import Tensor

from editing.inversion.budget import Budget, Callback, Progress, finish
from editing.inversion.latent import OPTIMISE, OVERHEAD, SKETCH, SKETCH_COST, optimise_latent, plan, sketch
from editing.inversion.objective import objective
from editing.types import Inversion
from encoders import compact
from stylegan2 import preview
from stylegan2.errors import WplusError
from stylegan2.generator import Generator

PASSES, MOST_PASSES = 2, 5  # by default, and at most (ReStyle's number)
WARM = replace(OPTIMISE, steps=25, rate=0.06, rows_from=0.0)  # the rows are apart from the start


def encoder(generator: Generator, image: Tensor, *, callback: Callback | None = None, seed: int = 0,
            budget: Budget = Budget()) -> Inversion:  # fmt: skip
    """image (1, 3, R, R) RGB in [-1, 1] -> Inversion in W+.  A step of the budget is a pass."""
    passes = PASSES if budget.steps is None else min(budget.steps, MOST_PASSES)
    ws = encode(generator, image, passes)
    Progress(callback, 1, "encoder")()
    made = {"method": "encoder", "steps": passes, "seed": seed}
    return finish(generator, Inversion(ws=ws, family="", **made), image)


def encoder_optimise(generator: Generator, image: Tensor, *, callback: Callback | None = None, seed: int = 0,
                     budget: Budget = Budget()) -> Inversion:  # fmt: skip
    """The encoder's answer, optimised further.  image (1, 3, R, R) RGB in [-1, 1] -> Inversion in W+."""
    goal = objective(image, WARM.weights)
    steps = plan(generator, goal, WARM, budget, OVERHEAD + SKETCH_COST)
    progress = Progress(callback, SKETCH.steps + steps, "encoder+optimise")
    ws = sketch(generator, image, encode(generator, image), progress, SKETCH)
    ws = optimise_latent(generator, goal, WARM, steps, progress, ws)
    made = {"method": "encoder+optimise", "steps": steps, "seed": seed}
    return finish(generator, Inversion(ws=ws, family="", **made), image)


def encode(generator: Generator, images: Tensor, passes: int = PASSES) -> Tensor:
    """images (B, 3, R, R) RGB in [-1, 1] -> ws (B, num_ws, w_dim) in W+, by the shipped encoder."""
    return compact.encode(network(generator), preview.load(generator), images, passes)


def network(generator: Generator) -> compact.CompactEncoder:
    """The shipped encoder, on the generator's device.  WplusError for a generator that it was not trained for."""
    if (generator.num_ws, generator.w_dim) != (16, 512):
        raise WplusError(
            f"The shipped encoder gives 16 rows of 512 numbers, and this generator takes {generator.num_ws} of "
            f"{generator.w_dim}: use another method."
        )
    return _shipped(generator.w_avg.device)


@cache
def _shipped(device: torch.device) -> compact.CompactEncoder:
    return compact.load().to(device, memory_format=torch.channels_last)
