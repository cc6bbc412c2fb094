"""The picture that follows a slider: half the crop's side, a fraction of the time that the real edit takes.

What `editing.faces.paste` does with two renders and the photo, done with two quick pictures (`stylegan2.quick`) and the
photo at half its size: E of the edited code, R of the unedited one, both without the inversion's residual.

    P'(p) = P(p + m f) + m (E(p) - R(p + m f)) + m (1 - c) (R(p + m f) - P(p + m f) + b)

The mask m, the flow f, the certainty c and the broad colours b are found on pictures of `SMALL` pixels, where `paste`
measures motion too (`paste.outline`).  Nothing that is saved comes from here: `Editor.edit` draws the real thing a
moment later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from editing import regions
from editing.dragging import Drags
from editing.faces import paste
from editing.judges import parsing
from editing.session import to_rgb
from editing.steps import Catalogue, Layer, layers, restyled
from editing.types import Inversion, Step
from stylegan2.engine import area_resize
from stylegan2.generator import Features, Generator
from stylegan2.quick import Quick

SMALL = 256


@dataclass(frozen=True, eq=False)
class Look:
    """What the quick pictures of one face begin from: its inversion without its residual, and the pictures P and R
    (1, 3, S, S) in [-1, 1]; whole: the photo is the crop itself."""

    inversion: Inversion
    photo: Tensor
    before: Tensor
    small: tuple[np.ndarray, np.ndarray]  # the same as `paste.outline` takes them
    whole: bool = False
    own: Features | None = None  # the residual
    parsed: list[np.ndarray] = field(default_factory=list)  # of the photo, once a region asks for it


def look(quick: Quick, inversion: Inversion, crop: Tensor, whole: bool = False) -> Look:
    """crop (1, 3, R, R): the photo's, in [-1, 1]."""
    bare = replace(inversion, features=None)
    with torch.inference_mode():
        before = drawn(quick, bare)
        photo = area_resize(crop, before.shape[-1])
        return Look(bare, photo, before, (reduced(photo), reduced(before)), whole, inversion.features)


class Bare(Drags):
    """Drags of inversions without their residual (`own`): parts are painted and moved on the map of the whole one, as
    in an Editor that has the same memo."""

    def __init__(self, generator: Generator, memo: dict[str, Any], own: Features | None) -> None:
        super().__init__(generator, memo)
        self.own = own

    def __call__(self, inversion: Inversion, steps: Sequence[Step], callback=None) -> Inversion:
        with torch.inference_mode(False), torch.enable_grad():  # a recipe from elsewhere: its points go down slopes
            return super().__call__(inversion, steps, callback)

    def plan(self, inversion: Inversion, steps: Sequence[Step]) -> Any:
        return super().plan(replace(inversion, features=self.own), steps)


def drawn(quick: Quick, inversion: Inversion) -> Tensor:
    """The quick picture (1, 3, S, S) of an inversion."""
    x = quick.generator.synthesis(inversion.ws, inversion.deltas, inversion.features, until=quick.stage)
    return quick.draw(x, inversion.ws)


def draw(quick: Quick, begun: Look, steps: Sequence[Step], catalogue: Catalogue, masks: dict[str, np.ndarray],
         drags: dict[str, Tensor]) -> np.ndarray:  # fmt: skip
    """The face after these steps, (S, S, 3) uint8; masks of one's own cover the crop; drags: as an Editor's."""
    if all(step.strength == 0 for step in steps):
        return to_rgb(begun.photo)
    with torch.inference_mode():
        generator = quick.generator
        found = layers(begun.inversion, steps, catalogue, Bare(generator, drags, begun.own))
        bottom, *others = [restyled(generator, each, steps, catalogue) for each in found]
        everywhere = bottom.inversion is not begun.inversion
        picture, inside = drawn(quick, bottom.inversion) if everywhere else begun.before, []
        for layer in others:
            inside.append(mask(begun, layer, masks))
            picture = torch.lerp(picture, drawn(quick, layer.inversion), torch.from_numpy(inside[-1]))
        return to_rgb(pasted(begun, picture, None if everywhere else np.max(inside, 0)))


def mask(begun: Look, layer: Layer, masks: dict[str, np.ndarray]) -> np.ndarray:
    """(S, S): where a layer is seen, by the unedited face alone."""
    size = begun.photo.shape[-1]
    if layer.region in masks:
        return regions.over_crop(masks[layer.region], None, None, size)
    if not begun.parsed:
        begun.parsed.append(parsing.probabilities(to_rgb(begun.photo)))
    return regions.mask(layer.region, begun.parsed[0], begun.parsed[0], size)


def pasted(begun: Look, edited: Tensor, region: np.ndarray | None) -> Tensor:
    """E (1, 3, S, S), the region (S, S) that it is limited to -> P' (1, 3, S, S) as above."""
    photo, before, size = begun.photo, begun.before, edited.shape[-1]
    known = paste.outline(
        begun.small[0], reduced(edited), begun.small[1], begun.inversion.quad, landmarks=begun.inversion.landmarks,
        region=region, whole=begun.whole,
    )  # fmt: skip
    maps = np.concatenate([known.mask[..., None], known.flow * (4 / SMALL), known.certain[..., None], known.broad], -1)
    maps = torch.from_numpy(maps.astype(np.float32)).permute(2, 0, 1)[None]
    maps = F.interpolate(maps, size=(size, size), mode="bilinear", align_corners=False)
    m, f, c, broad = maps[:, :1], maps[:, 1:3], maps[:, 3:4], 2 * maps[:, 4:]
    there, moved = shifted(torch.cat([photo, before], 1), m * f).split(3, 1)
    return there + m * (edited - moved) + m * (1 - c) * (moved - there + broad)


def reduced(picture: Tensor) -> np.ndarray:
    """(1, 3, S, S) in [-1, 1] -> (SMALL, SMALL, 3) in [0, 1]."""
    small = area_resize(picture, SMALL)[0].permute(1, 2, 0).numpy()
    return np.ascontiguousarray(((small + 1) / 2).clip(0, 1))


def shifted(picture: Tensor, f: Tensor) -> Tensor:
    """picture (1, 3, S, S) sampled at p + f(p), f (1, 2, S, S) in units of half the picture."""
    size = picture.shape[-1]
    axis = (torch.arange(size) + 0.5) * (2 / size) - 1
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)[None]
    place = grid + f.permute(0, 2, 3, 1)
    return F.grid_sample(picture, place, mode="bilinear", padding_mode="border", align_corners=False)
