"""`hyper`: the person in about two seconds, and `hyper+tune` and `auto`, which go on from there as time allows.

    w0 -> w        the encoder's answer, corrected on previews, then one step of descent on a render
    F              what is missing, by two steps in the metric of places (`residual`)

Encoders that draw the photo itself predict offsets (HyperStyle, Alaluf et al., arXiv 2111.15666) or features
(StyleFeatureEditor, arXiv 2406.10601) from photo and reconstruction by large networks.  Here the generator's own
backward pass does the looking: one gradient, divided by curvature that was measured beforehand, says which code and
which features are missing.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from editing.inversion.budget import Budget, Callback, render_seconds
from editing.inversion.encoding import CORRECTION, encoder, network
from editing.inversion.latent import OPTIMISE
from editing.inversion.tuning import TUNE, Tune, tuned
from editing.types import Inversion
from stylegan2.generator import Generator

# Image features would cost a fifth of the code's step and buy hardly anything in so few.
STEP = replace(OPTIMISE, weights=replace(OPTIMISE.weights, perceptual=0.0))
HYPER = replace(TUNE, sketch=replace(CORRECTION, steps=2), pivot=STEP, steps=(1, 0, 2))
ENOUGH = {"encoder": 0.0, "hyper": 13.0, "hyper+tune": 40.0}  # from how many renders' time on `auto` takes which


def hyper(generator: Generator, image: Tensor, *, callback: Callback | None = None, seed: int = 0,
          budget: Budget = Budget(), settings: Tune = HYPER) -> Inversion:  # fmt: skip
    """image (1, 3, R, R) RGB in [-1, 1] -> Inversion in W+ with a residual.  Cancelled between steps."""
    network(generator)  # says so, where no encoder fits
    return tuned(generator, image, settings, "hyper", callback, seed, budget)


def hyper_tune(generator: Generator, image: Tensor, *, callback: Callback | None = None, seed: int = 0,
               budget: Budget = Budget(), settings: Tune = TUNE) -> Inversion:  # fmt: skip
    """`hyper` with more steps of each kind.  image (1, 3, R, R) RGB in [-1, 1] -> Inversion in W+ with a residual."""
    network(generator)
    return tuned(generator, image, settings, "hyper+tune", callback, seed, budget)


def auto(generator: Generator, image: Tensor, *, callback: Callback | None = None, seed: int = 0,
         budget: Budget = Budget()) -> Inversion:  # fmt: skip
    """What is best in the given seconds (`ENOUGH`); without them, `hyper+tune`.  The Inversion says which it was."""
    method = "hyper+tune"
    if budget.seconds is not None:
        affordable = budget.seconds / render_seconds(generator, 2)
        method = max((name for name in ENOUGH if ENOUGH[name] <= affordable), key=ENOUGH.get)
    strategy = {"encoder": encoder, "hyper": hyper, "hyper+tune": hyper_tune}[method]
    given = budget if method == "hyper+tune" else Budget()  # the quick ones have one length, their own
    return strategy(generator, image, callback=callback, seed=seed, budget=given)
