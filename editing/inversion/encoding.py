"""Inversion by an encoder: one forward pass, corrected by descent on previews, and that as the start of more.

`encoder` runs the compact e4e (`encoders.compact`); every further step compares a preview (`stylegan2.preview`) of the
answer with the photo and corrects it, as ReStyle does (arXiv 2104.02699), but by the gradient and the generator's own
curvature (`descent`) instead of a network.  `encoder+optimise` goes on from there (Zhu et al., arXiv
2004.00049, did so first), on previews before it does on renders.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from editing.inversion.budget import Budget, Callback, Progress, finish
from editing.inversion.latent import OPTIMISE, OVERHEAD, SKETCH, SKETCH_COST, Latent, optimise_latent, plan, sketch
from editing.inversion.objective import objective
from editing.types import Inversion
from encoders import compact
from stylegan2.errors import WplusError
from stylegan2.generator import Generator

STEPS = 3  # by default: the network, and two corrections; with them it takes no longer than one render
CORRECTION = replace(SKETCH, weights=replace(SKETCH.weights, perceptual=0.0))
WARM = replace(OPTIMISE, steps=20)


def encoder(generator: Generator, image: Tensor, *, callback: Callback | None = None, seed: int = 0,
            budget: Budget = Budget()) -> Inversion:  # fmt: skip
    """image (1, 3, R, R) RGB in [-1, 1] -> Inversion in W+.  The first step is the network, others correct it."""
    steps = budget.steps or STEPS
    progress = Progress(callback, steps, "encoder")
    ws = encode(generator, image)
    progress()
    ws = corrected(generator, image, ws, steps - 1, progress)
    made = {"method": "encoder", "steps": steps, "seed": seed}
    return finish(generator, Inversion(ws=ws, family="", **made), image)


def encoder_optimise(generator: Generator, image: Tensor, *, callback: Callback | None = None, seed: int = 0,
                     budget: Budget = Budget()) -> Inversion:  # fmt: skip
    """The encoder's answer, optimised further.  image (1, 3, R, R) RGB in [-1, 1] -> Inversion in W+."""
    network(generator)  # says so, where it does not fit
    goal = objective(image, WARM.weights)
    steps = plan(generator, goal, WARM, budget, OVERHEAD + SKETCH_COST)
    progress = Progress(callback, SKETCH.steps + steps, "encoder+optimise")
    ws = optimise_latent(generator, goal, WARM, steps, progress, begun(generator, image, progress, SKETCH))
    made = {"method": "encoder+optimise", "steps": steps, "seed": seed}
    return finish(generator, Inversion(ws=ws, family="", **made), image)


def encode(generator: Generator, images: Tensor) -> Tensor:
    """images (B, 3, R, R) RGB in [-1, 1] -> ws (B, num_ws, w_dim) in W+, by the shipped encoder alone."""
    return compact.encode(network(generator), images)


def begun(generator: Generator, image: Tensor, progress: Progress, settings: Latent) -> Tensor | None:
    """The encoder's answer to image (1, 3, R, R), sketched further; None for a generator that no encoder ships for."""
    if not fits(generator):
        return None
    return sketch(generator, image, encode(generator, image), progress, settings)


def corrected(generator: Generator, image: Tensor, ws: Tensor, steps: int, progress: Progress) -> Tensor:
    """ws (1, num_ws, w_dim), the encoder's answer to image (1, 3, R, R) -> ws after that many corrections."""
    return sketch(generator, image, ws, progress, replace(CORRECTION, steps=steps)) if steps else ws


def fits(generator: Generator) -> bool:
    """Whether codes of the shipped encoder have this generator's shape."""
    return (generator.num_ws, generator.w_dim) == (16, 512)


def network(generator: Generator) -> compact.CompactEncoder:
    """The shipped encoder, on the generator's device.  WplusError for a generator that it was not trained for."""
    if not fits(generator):
        raise WplusError(
            f"The shipped encoder gives 16 rows of 512 numbers, and this generator takes {generator.num_ws} of "
            f"{generator.w_dim}: use another method."
        )
    return compact.shipped(generator.w_avg.device)
