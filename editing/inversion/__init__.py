"""Inversion strategies, all with one signature: invert(generator, image, *, callback, seed, budget) -> Inversion."""

from editing.heads.registry import DRAWERS
from editing.inversion.budget import Budget
from editing.inversion.drawing import drawn
from editing.inversion.encoding import encoder, encoder_optimise
from editing.inversion.hypering import auto, hyper, hyper_tune
from editing.inversion.latent import optimise, pivot
from editing.inversion.tuning import tune

__all__ = [
    "STRATEGIES", "Budget", "auto", "encoder", "encoder_optimise", "hyper", "hyper_tune", "optimise", "pivot", "tune",
]  # fmt: skip

STRATEGIES = {
    "encoder": encoder,
    "encoder+optimise": encoder_optimise,
    "optimise": optimise,
    "pivot": pivot,
    "hyper": hyper,
    "hyper+tune": hyper_tune,
    "tune": tune,
    "auto": auto,
} | {name: drawn(name) for name in DRAWERS}
