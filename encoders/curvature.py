"""What a step of descent is divided by: curvature that was measured beforehand, on other faces.

    H0 = (2 (M + damping I))^-1        M = rows^T rows: a metric of `encoders.metric`

M is what Gauss and Newton would take for half the Hessian of the image loss, averaged over faces instead of computed
at this one.  A few of a code's 8,192 directions change the picture thousands of times more than most.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from encoders import metric
from stylegan2.generator import Generator

DAMPING = {
    "renders": 1.5e-3,
    "previews": 1.5e-4,
    "places": 3e-2,
}  # of directions that the metric does not know, in its units
NEIGHBOURS = 2.0  # how much more places change a picture together than each on its own, which is what the metric knows


@dataclass(frozen=True)
class Curvature:
    """(2 (rows^T rows + damping I))^-1 as an operator on gradients (Woodbury); the identity without rows."""

    rows: Tensor | None  # (K, n)
    damping: float = 1.0
    inner: Tensor | None = None  # (K, K)

    @classmethod
    def of(cls, rows: Tensor, damping: float) -> Curvature:
        gram = rows @ rows.T + damping * torch.eye(len(rows), device=rows.device)
        return cls(rows, damping, torch.linalg.inv(gram))

    def solve(self, gradient: Tensor) -> Tensor:
        """gradient of n * P numbers, the P of each kind side by side -> the same shape."""
        if self.rows is None:
            return gradient
        columns = gradient.reshape(self.rows.shape[1], -1)  # (n, P)
        seen = self.rows.T @ (self.inner @ (self.rows @ columns))
        return ((columns - seen) / (2 * self.damping)).view_as(gradient)


def of_codes(generator: Generator, pictures: str, together: bool = False) -> Curvature:
    """Of whitened codes (1, num_ws, w_dim) or, where all rows move together, (1, 1, w_dim).

    pictures: what the loss looks at, `renders` or `previews`.
    """
    rows = metric.fitting(generator, pictures)
    if rows is None:
        return Curvature(None)
    damping = DAMPING[pictures] * (generator.num_ws if together else 1)
    return Curvature.of(rows.sum(1) if together else rows.flatten(1), damping)


def of_places(generator: Generator, activation: Tensor) -> Curvature:
    """Of residuals shaped like activation (1, C, h, w) at `metric.stage`; of pixels, for renders."""
    rows, places = metric.fitting_places(generator, activation.shape[1]), activation[0, 0].numel()
    if rows is None:
        return Curvature(None)
    return Curvature.of(rows * (NEIGHBOURS / places) ** 0.5, DAMPING["places"] / places)
