"""Inversion strategies, all with one signature: invert(generator, image, *, callback, seed, budget) -> Inversion."""

from editing.inversion.budget import Budget
from editing.inversion.encoding import encoder, encoder_optimise
from editing.inversion.latent import optimise, pivot
from editing.inversion.tuning import tune

__all__ = ["STRATEGIES", "Budget", "encoder", "encoder_optimise", "optimise", "pivot", "tune"]

STRATEGIES = {
    "encoder": encoder,
    "encoder+optimise": encoder_optimise,
    "optimise": optimise,
    "pivot": pivot,
    "tune": tune,
}
