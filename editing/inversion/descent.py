"""Descent over a code: L-BFGS that begins with the generator's own curvature.

    u <- u - t * H grad f(u)      H: L-BFGS (Nocedal & Wright, Numerical Optimization, algorithm 7.4) around
                                  H0 = scale * (2 (M + damping I))^-1,  t: halved until f falls (Armijo)

M is the shipped pull-back metric (`encoders.metric`): what Gauss and Newton would take for half the Hessian of the
image loss, averaged over faces instead of computed at this one.  A few of a code's 8,192 directions change the
picture thousands of times more than most; Adam, which knows axes only, crawls along the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from editing.inversion.budget import Progress
from encoders import metric
from stylegan2.generator import Generator

DAMPING = {
    "renders": 1.5e-3,
    "previews": 1.5e-4,
    "places": 3e-2,
}  # of directions that the metric does not know, in its units
NEIGHBOURS = 2.0  # how much more places change a picture together than each on its own, which is what the metric knows
MEMORY = 10  # pairs of steps and changes of the gradient
HALVINGS = 12
DECREASE = 1e-4  # Armijo's constant
FIRST_MOVE = 0.05  # root mean square of the first step where no metric is at hand, whitened


@dataclass(frozen=True)
class Curvature:
    """(2 (rows^T rows + damping I))^-1 as an operator on flat gradients (Woodbury); the identity without rows."""

    rows: Tensor | None  # (K, n)
    damping: float = 1.0
    inner: Tensor | None = None  # (K, K)

    @classmethod
    def of(cls, rows: Tensor, damping: float) -> Curvature:
        gram = rows @ rows.T + damping * torch.eye(len(rows), device=rows.device)
        return cls(rows, damping, torch.linalg.inv(gram))

    def solve(self, gradient: Tensor) -> Tensor:
        """gradient (n * P,), P numbers of each kind -> the same shape."""
        if self.rows is None:
            return gradient
        columns = gradient.view(self.rows.shape[1], -1)  # (n, P)
        seen = self.rows.T @ (self.inner @ (self.rows @ columns))
        return ((columns - seen) / (2 * self.damping)).flatten()


def curvature(generator: Generator, pictures: str, together: bool) -> Curvature:
    """Of whitened codes (1, num_ws, w_dim) or, where all rows move together, (1, 1, w_dim).

    pictures: what the loss looks at, `renders` or `previews`.
    """
    rows = metric.fitting(generator, pictures)
    if rows is None:
        return Curvature(None)
    damping = DAMPING[pictures] * (generator.num_ws if together else 1)
    return Curvature.of(rows.sum(1) if together else rows.flatten(1), damping)


def curvature_of_places(generator: Generator, activation: Tensor) -> Curvature:
    """Of residuals shaped like activation (1, C, h, w) at `metric.stage`; of pixels, for renders."""
    rows, places = metric.fitting_places(generator, activation.shape[1]), activation[0, 0].numel()
    if rows is None:
        return Curvature(None)
    return Curvature.of(rows * (NEIGHBOURS / places) ** 0.5, DAMPING["places"] / places)


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
