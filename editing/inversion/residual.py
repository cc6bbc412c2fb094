"""A residual of one feature map: what neither the code nor the weights could say, kept where it still fits.

    x' = x + gate(w_base, w) * basis @ maps        x: activation at an eighth of the picture's resolution

A curl of hair or an ear-ring has no code and needs no new weights: it is there, at one place.  Adding a
map to an intermediate activation draws it (BDInvert, Kang et al., arXiv 2108.08998; Feature-Style,
arXiv 2202.02183).  It is found by `descent` in the metric of places, which asks for very few steps: what is left
between the best code and the photo is nearly linear in it.

The danger is an edit: the lips of the photo must not stay behind when the mouth opens.  So the residual fades where a
new code changes the activations below it, and only there:

    d = mean_c |x(w) - x(w_base)| / mean |x(w_base)|      gate = exp(-(d / STILL)^2)

in the activation at a sixteenth of the resolution of the generator as it was loaded, d widened by a
pixel.  StyleFeatureEditor (arXiv 2406.10601) trains a network for this; the formula needs none.  docs/inversion.md
says what became of moving the residual with the face, and of a trained gate.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from editing.inversion import descent
from editing.inversion.budget import Progress
from editing.inversion.objective import Weights, objective
from editing.types import Inversion
from encoders import curvature
from encoders.metric import stage
from stylegan2.generator import Deltas, FeatureEdit, Features, Generator

STILL = 0.3  # relative change of the activations at which a residual has faded to 1/e
RANK = 64  # maps that are kept
SEEN = Weights(pixel=1.0, perceptual=0.0, identity=0.0, scales=(1024, 256, 64))  # with more it draws what networks like


def gate(generator: Generator, base_ws: Tensor, ws: Tensor, base_deltas: Deltas | None = None,
         deltas: Deltas | None = None, door: Features | None = None) -> Tensor:  # fmt: skip
    """base_ws (1 or B, num_ws, w_dim), ws (B, num_ws, w_dim) -> (B, 1, h, w): 1 where a residual stays, 0 where not.

    Weight offsets, and feature edits of earlier stages, are given where an edit changes them, too.
    """
    with torch.no_grad():
        codes = ((base_ws, base_deltas, None), (ws, deltas, door))
        before, after = (generator.synthesis(*code, until=stage(generator, 16)) for code in codes)
        change = (after - before).abs().mean(1, keepdim=True) / before.abs().mean((1, 2, 3), keepdim=True)
        change = F.avg_pool2d(F.max_pool2d(change, 3, 1, 1), 3, 1, 1, count_include_pad=False)
        return torch.exp(-((change / STILL) ** 2))


def gated(generator: Generator, features: Features | None, ws: Tensor) -> Features | None:
    """The feature edits as they apply at ws (1, num_ws, w_dim): unchanged at the code they were made for.

    A residual that was fit here fades, also where an edit of an earlier stage (`editing.spatial`) changes what is
    below it; such an edit itself stays, whatever the code becomes.
    """
    own = stage(generator)
    door = {name: edit for name, edit in (features or {}).items() if name != own}
    return features and {
        name: _gated(generator, edit, ws, door) if name == own else edit for name, edit in features.items()
    }


def _gated(generator: Generator, edit: FeatureEdit, ws: Tensor, door: Features) -> FeatureEdit:
    if not door and edit.base_ws.shape == ws.shape and torch.equal(edit.base_ws.to(ws), ws):
        return edit
    return dimmed(edit, gate(generator, edit.base_ws.to(ws), ws, door=door))


def fading(generator: Generator, features: Features | None) -> Features:
    """Those feature edits that fade with a code: the residual that was fit here."""
    own = stage(generator)
    return {name: edit for name, edit in (features or {}).items() if name == own}


def joined(first: FeatureEdit | None, then: FeatureEdit) -> FeatureEdit:
    """One edit that does what two of the same stage do, one after the other."""
    if first is None:
        return then
    if first.basis is not None:
        raise ValueError("a residual of few maps cannot be joined with another")
    added = first.mask.to(then.residual) * first.residual.to(then.residual) + then.mask * then.residual
    return FeatureEdit(added, ((first.mask.to(then.mask) + then.mask) > 0).to(then.mask), then.base_ws)


def dimmed(edit: FeatureEdit, by: Tensor) -> FeatureEdit:
    """The feature edit with its mask times `by` (B, 1, h, w) in [0, 1], of any size."""
    return replace(edit, mask=edit.mask.to(by) * F.interpolate(by, edit.mask.shape[-2:], mode="bilinear"))


def render(generator: Generator, inversion: Inversion) -> Tensor:
    """Inversion, edited or not -> crop (1, 3, R, R) float, about [-1, 1]."""
    with torch.inference_mode():
        features = gated(generator, inversion.features, inversion.ws)
        return generator.synthesis(inversion.ws, inversion.deltas, features)


def fit(generator: Generator, ws: Tensor, deltas: Deltas | None, image: Tensor, steps: int,
        progress: Progress) -> Features:  # fmt: skip
    """What ws lacks to draw image (1, 3, R, R), as a residual of rank RANK: {stage: FeatureEdit}; {} after no steps."""
    if not steps:
        return {}
    name, goal = stage(generator), objective(image, SEEN)
    with torch.no_grad():
        activation, draw = generator.split(ws, name, deltas)

    def loss(residual: Tensor) -> Tensor:
        return goal(draw(activation + residual))

    known = curvature.of_places(generator, activation)
    residual = descent.minimise(loss, torch.zeros_like(activation), known, steps, progress)
    basis, maps = factors(residual[0].flatten(1), RANK)
    return {
        name: FeatureEdit(
            maps.view(1, -1, *residual.shape[2:]), torch.ones_like(activation[:, :1]), ws, basis=basis[None]
        )
    }


def factors(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """matrix (M, N) -> U (M, r), V (r, N) with U V its best approximation of that rank; U is orthonormal."""
    _, vectors = torch.linalg.eigh(matrix @ matrix.T)  # ascending; far quicker than an SVD of a wide matrix
    basis = vectors[:, -rank:]
    return basis.contiguous(), basis.T @ matrix
