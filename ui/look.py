"""The picture that follows a slider: half the crop's side, a fraction of a render's time.

A quick picture E of the edited code (`stylegan2.quick`), R of the unedited one, and the photo P itself:

    P' = E + exp(-(d / STILL)^2) (P - R)        d: |E - R|, averaged over a neighbourhood

so that with nothing edited the photo is shown as it is, and what the inversion or the read-out cannot say stays where
the edit leaves the face alone.  `Editor.edit` draws the real thing a moment later; nothing that is saved comes from
here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from editing import regions
from editing.inversion import residual
from editing.judges import parsing
from editing.session import to_rgb
from editing.steps import Catalogue, Layer, layers, restyled
from editing.types import Inversion, Step
from encoders.metric import stage
from stylegan2.engine import area_resize
from stylegan2.generator import Generator
from stylegan2.quick import Quick

STILL = 0.12  # change, of pictures in [-1, 1], at which the photo's own detail has faded to 1/e
NEAR = 16  # pixels of the neighbourhood over which it is averaged


@dataclass(frozen=True, eq=False)
class Look:
    """What the quick pictures of one face begin from: its inversion, the activation below its residual
    (1, C, h, w), and the pictures P and R (1, 3, S, S) in [-1, 1]."""

    inversion: Inversion
    below: Tensor
    photo: Tensor
    before: Tensor
    parsed: list[np.ndarray] = field(default_factory=list)  # of the photo, once a region asks for it


def look(quick: Quick, inversion: Inversion, crop: Tensor | None) -> Look:
    """crop (1, 3, R, R): the photo's; None for an inversion without one, which is its own photo."""
    with torch.inference_mode():
        before = unedited(quick, inversion)
        below = quick.generator.synthesis(inversion.ws, until=stage(quick.generator, 16))
        photo = before if crop is None else area_resize(crop, before.shape[-1])
    return Look(inversion, below, photo, before)


def unedited(quick: Quick, inversion: Inversion) -> Tensor:
    x = quick.generator.synthesis(inversion.ws, inversion.deltas, inversion.features, until=quick.stage)
    return quick.draw(x, inversion.ws)


def edited(quick: Quick, begun: Look, inversion: Inversion) -> Tensor:
    """The quick picture E (1, 3, S, S) of an edited inversion; its residual fades as in a render."""
    generator, ws = quick.generator, inversion.ws
    features: dict = {}  # filled on the way, when what lies below the residual is known
    for name, x in generator.stages(ws, inversion.deltas, features):
        if name == stage(generator, 16) and inversion.features:
            features |= faded(generator, begun, inversion, x)
        if name == quick.stage:
            return quick.draw(x, ws)
    raise AssertionError(f"the generator has no stage {quick.stage}")


def faded(generator: Generator, begun: Look, inversion: Inversion, below: Tensor) -> dict:
    """The inversion's residuals, each dimmed by how far `below`, an activation of the edited code, has moved."""
    if inversion.deltas or inversion.features is not begun.inversion.features:
        return dict(residual.gated(generator, inversion.features, inversion.ws))
    by = residual.faded(begun.below, below)
    return {name: residual.dimmed(edit, by) for name, edit in inversion.features.items()}


def draw(quick: Quick, begun: Look, steps: Sequence[Step], catalogue: Catalogue, masks: dict[str, np.ndarray]
         ) -> np.ndarray:  # fmt: skip
    """The face after these steps, (S, S, 3) uint8; masks: of one's own, over the crop, (S', S')."""
    if all(step.strength == 0 for step in steps):
        return to_rgb(begun.photo)
    with torch.inference_mode():
        stack = [restyled(quick.generator, each, steps, catalogue) for each in layers(begun.inversion, steps, catalogue)]
        bottom, *others = stack
        picture = begun.before if bottom.inversion is begun.inversion else edited(quick, begun, bottom.inversion)
        for layer in others:
            inside = torch.from_numpy(mask(begun, layer, masks))
            picture = torch.lerp(picture, edited(quick, begun, layer.inversion), inside)
        return to_rgb(kept(picture, begun.before, begun.photo))


def mask(begun: Look, layer: Layer, masks: dict[str, np.ndarray]) -> np.ndarray:
    """(S, S): where a layer is seen, by the unedited face alone."""
    size = begun.photo.shape[-1]
    if layer.region in masks:
        return regions.over_crop(masks[layer.region], None, None, size)
    if not begun.parsed:
        begun.parsed.append(parsing.probabilities(to_rgb(begun.photo)))
    return regions.mask(layer.region, begun.parsed[0], begun.parsed[0], size)


def kept(picture: Tensor, before: Tensor, photo: Tensor) -> Tensor:
    """E, R, P (1, 3, S, S) -> P' as above."""
    change = F.avg_pool2d((picture - before).abs().mean(1, keepdim=True), NEAR // 2)
    change = F.avg_pool2d(F.max_pool2d(change, 3, 1, 1), 3, 1, 1, count_include_pad=False)
    still = torch.exp(-((change / STILL) ** 2))
    return torch.addcmul(picture, F.interpolate(still, picture.shape[-2:], mode="bilinear"), photo - before)
