"""Inversion strategies, all with one signature: invert(generator, image, *, callback, seed, budget) -> Inversion."""

from editing.inversion.budget import Budget
from editing.inversion.latent import optimise, pivot
from editing.inversion.tuning import tune

__all__ = ["STRATEGIES", "Budget", "optimise", "pivot", "tune"]

STRATEGIES = {"optimise": optimise, "pivot": pivot, "tune": tune}
