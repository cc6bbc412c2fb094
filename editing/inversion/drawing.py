"""Faces from pictures that lack something, as methods of inversion: `pix2pix:sketch`, `rbdn:gray`, `bicyclegan:sketch`.

One pass of a head (`editing.heads.pictures`) says which face it could be.  Further steps make it the person where the
picture knows more than the head said: they descend as every inversion does, but what is drawn is compared through the
same loss that the picture went through (as PULSE, arXiv 2003.03808, does for small pictures):

    minimise  objective(lens(G(w)), lens(picture)) + priors       lens: luma, few pixels, what is not covered

Lines and bad light have no such lens: there the head's answer is all, whatever the budget.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from editing.heads import registry
from editing.inversion.budget import Budget, Callback, Progress, finish
from editing.inversion.encoding import CORRECTION, fits
from editing.inversion.latent import OPTIMISE, OVERHEAD, latent_step_seconds, optimise_latent
from editing.inversion.objective import Weights, objective
from editing.translation.degrade import LUMA
from editing.types import Inversion
from stylegan2 import preview
from stylegan2.engine import area_resize
from stylegan2.errors import WplusError
from stylegan2.generator import Generator

Lens = Callable[[Tensor], Tensor]
STEPS = {"gray": 16, "low": 16, "half": 16, "noise": 16}  # the head, previews, and renders; of other ways 1
RENDERED = 0.4  # share of the steps after the head that are taken on renders
PREVIEWED = 0.2  # what a step on a preview costs, in steps on renders
COVERED = 2.5 / 127.5  # how near to gray 128 a covered pixel is
QUIET = 128  # pixels along a side that noise is averaged into
PERSON = 128  # from how many pixels on a picture says who somebody is
SMALLEST, LOST = 8, 0.004  # pixels; mean squared error by which a picture is more than its smaller self


def luma(images: Tensor) -> Tensor:
    weights = torch.from_numpy(LUMA).to(images).view(1, 3, 1, 1)
    return (images * weights).sum(1, keepdim=True).expand(-1, 3, -1, -1)


def uncovered(image: Tensor) -> Lens:
    """What is not gray 128 in this picture."""
    free = ((image - 128 / 127.5 + 1).abs().amax(1, keepdim=True) > COVERED).float()

    def lens(images: Tensor) -> Tensor:
        return images * (area_resize(free, images.shape[-1]) > 0.99)

    return lens


def through(size: int) -> Lens:
    """What is left when a picture is drawn from that many pixels along a side."""

    def lens(images: Tensor) -> Tensor:
        if images.shape[-1] <= size:
            return images
        return F.interpolate(area_resize(images, size), images.shape[-2:], mode="bilinear")

    return lens


def pixels_of(image: Tensor) -> int:
    """At how many pixels along a side a picture (1, 3, R, R) is as it was before it lost others: half of what it can be
    drawn from again."""
    size = 2 * SMALLEST
    while size < 256:
        again = F.interpolate(area_resize(image, size), image.shape[-2:], mode="bilinear")
        if (again - image).square().mean() < LOST * image.var():
            break
        size *= 2
    return size // 2


def seen(way: str, image: Tensor) -> tuple[Lens, Weights]:
    """What a picture of a way of STEPS is compared through, and by what."""
    if way == "gray":
        return luma, OPTIMISE.weights
    if way == "half":
        return uncovered(image), replace(OPTIMISE.weights, identity=0.0)
    size = 2 * pixels_of(image) if way == "low" else QUIET
    person = {"perceptual": 0.2, "identity": 0.5} if size >= PERSON else {"perceptual": 0.0, "identity": 0.0}
    return through(size), Weights(scales=(size // 2, size // 4, size // 8), **person)


def plan(generator: Generator, way: str, image: Tensor, budget: Budget) -> int:
    """How many steps, the head's answer counted, the budget buys here."""
    if way not in STEPS:
        return 1
    if budget.seconds is None:
        return budget.steps or STEPS[way]
    lens, weights = seen(way, image)
    goal = objective(lens(image), weights)
    step = latent_step_seconds(generator, lambda x: goal(lens(x))) * (RENDERED + (1 - RENDERED) * PREVIEWED)
    return max(1, 1 + round((budget.seconds - OVERHEAD * step) / step))


def drawn(name: str) -> Callable[..., Inversion]:
    """The strategy of a head."""
    way = name.split(":")[1]

    def invert(generator: Generator, image: Tensor, *, callback: Callback | None = None, seed: int = 0,
               budget: Budget = Budget()) -> Inversion:  # fmt: skip
        if not fits(generator):
            raise WplusError(f"{name} gives 16 rows of 512 numbers, and this generator takes others.")
        steps = plan(generator, way, image, budget)
        progress = Progress(callback, steps, name)
        image = luma(image) if way == "gray" else image  # old photos are brown
        ws = registry.drawers()[name](image, seeds=[seed])
        progress()
        if steps == 1:
            return finish(generator, Inversion(ws=ws, family="", method=name, steps=1, seed=seed), image)
        on_renders = round(RENDERED * (steps - 1))
        lens, weights = seen(way, image)
        small = replace(weights, side=preview.SIZE, identity=0.0, scales=tuple(s for s in weights.scales if s <= 128))
        for count, look, these in (
            (steps - 1 - on_renders, preview.load(generator), small),
            (on_renders, None, weights),
        ):
            if count:
                goal = objective(lens(image if look is None else area_resize(image, preview.SIZE)), these)
                settings = replace(CORRECTION if look else OPTIMISE, weights=these)
                ws = optimise_latent(generator, lambda x, g=goal: g(lens(x)), settings, count, progress, ws, look)
        return finish(generator, Inversion(ws=ws, family="", method=name, steps=steps, seed=seed), image)

    return invert
