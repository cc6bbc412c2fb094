"""SeFa: what a layer's own weights are most sensitive to (Shen and Zhou, arXiv 2007.06600), in closed form.

A style is s = A w + b: the directions n of unit length that change the styles of some layers most are the eigenvectors
of A^T A with the largest eigenvalues (eq. 5).  As in the authors' code the rows of A, one a channel, are brought to
unit length first, or a few channels would decide.  Nothing is sampled and nothing judged: such a direction has no name
until somebody has looked at it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from editing.directions.catalogue import Direction
from stylegan2 import w_statistics
from stylegan2.generator import Generator


def sensitivity(generator: Generator, rows: tuple[int, int]) -> Tensor:
    """A (channels, w_dim): the style weights of all layers that these rows [start, end) of ws drive, unit rows."""
    weights = [style.weight for style in generator.styles.values() if rows[0] <= style.row < rows[1]]
    stacked = torch.cat(weights).detach().float()
    return stacked / stacked.norm(dim=1, keepdim=True).clamp(min=1e-12)


def directions(generator: Generator, rows: tuple[int, int], count: int = 10) -> list[Direction]:
    """The `count` strongest, 'sefa-START-END-INDEX', on these rows; one unit is one standard deviation of W along it.

    An eigenvector's sign is arbitrary: here its largest number is positive.
    """
    a = sensitivity(generator, rows).double()
    _, vectors = torch.linalg.eigh(a.T @ a)  # ascending
    result = []
    for index, vector in enumerate(vectors.T.flip(0)[:count]):
        vector = (vector * vector[vector.abs().argmax()].sign()).float().cpu()
        name = f"sefa-{rows[0]}-{rows[1]}-{index}"
        source = f"SeFa component {index}, rows {rows[0]} to {rows[1] - 1}"
        result.append(Direction(name, vector * deviation(vector), rows, "SeFa", source))
    return result


def deviation(vector: Tensor) -> float:
    """The standard deviation of W along a vector (512,) of unit length."""
    statistics = w_statistics.load()
    return float((statistics.components @ vector * statistics.stdev).norm())
