"""Descent over a code: L-BFGS that begins with the generator's own curvature.

    u <- u - t * H grad f(u)      H: L-BFGS (Nocedal & Wright, Numerical Optimization, algorithm 7.4) around
                                  H0 = scale * (2 (M + damping I))^-1,  t: halved until f falls (Armijo)

M is the shipped pull-back metric (`encoders.metric`, `encoders.curvature`).  Adam, which knows axes only, moves
along the few directions that change the picture much, and crawls along the rest.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from editing.inversion.budget import Progress
from encoders.curvature import Curvature

MEMORY = 10  # pairs of steps and changes of the gradient
HALVINGS = 12
DECREASE = 1e-4  # Armijo's constant
FIRST_MOVE = 0.05  # root mean square of the first step where no metric is at hand, whitened


def minimise(loss: Callable[[Tensor], Tensor], start: Tensor, known: Curvature, steps: int,
             progress: Progress) -> Tensor:  # fmt: skip
    """start u, of any shape -> u after that many steps, each one gradient; fewer where no step descends any more.

    Never higher than the start.  Cancelled between steps.
    """
    u, pairs = start.detach(), []
    value, gradient = _evaluate(loss, u)
    scale = 1.0 if known.rows is not None else FIRST_MOVE / float(gradient.square().mean().sqrt().clamp(min=1e-12))
    for step in range(steps):
        direction = _direction(gradient, pairs, known, scale)
        slope = float(gradient @ direction)
        for halving in range(HALVINGS):
            move = -(0.5**halving) * direction
            trial = (u + move.view_as(u)).requires_grad_(step < steps - 1)  # nothing would use the last one's gradient
            trial_value = loss(trial)
            if trial_value.item() <= value.item() - DECREASE * 0.5**halving * slope:
                break
        else:
            if not pairs:
                break
            pairs.clear()
            continue
        if not trial.requires_grad:
            progress()
            return trial.detach()
        (new_gradient,) = torch.autograd.grad(trial_value, trial)
        change = new_gradient.flatten() - gradient
        if float(move @ change) > 1e-12:
            pairs.append((move, change))
            del pairs[:-MEMORY]
            scale = float(move @ change) / float(change @ known.solve(change))
        u, value, gradient = trial.detach(), trial_value.detach(), new_gradient.flatten()
        progress()
    return u


def _evaluate(loss: Callable[[Tensor], Tensor], u: Tensor) -> tuple[Tensor, Tensor]:
    u = u.detach().requires_grad_(True)
    value = loss(u)
    return value.detach(), torch.autograd.grad(value, u)[0].flatten()


def _direction(gradient: Tensor, pairs: list[tuple[Tensor, Tensor]], known: Curvature, scale: float) -> Tensor:
    """H gradient by the two-loop recursion; pairs (step, change of the gradient), oldest first."""
    q, coefficients = gradient.clone(), []
    for move, change in reversed(pairs):
        rho = 1 / (change @ move)
        coefficients.append((rho, rho * (move @ q)))
        q -= coefficients[-1][1] * change
    z = scale * known.solve(q)
    for (move, change), (rho, alpha) in zip(pairs, reversed(coefficients), strict=True):
        z += (alpha - rho * (change @ z)) * move
    return z
