"""Edits that stay in one region of the face: the hair, the lips, or what a mask of one's own says.

    editor.edit(Recipe(steps=(Step(parameters={"name": "hair_light", "strength": 2}, region="hair"),)))

A region is a sum of the parser's classes, 'hair+brows', perhaps grown by some pixels of 256, 'glasses+eyes~8', or
'mask:SHA256', a mask that was given to the editor.  It is where the parser sees those classes before the edit or after
it (hair may grow).  The edited face is mixed with the
unedited one twice: in the activations at a sixteenth of the picture's resolution, so that shapes run into each other
(Suzuki et al., arXiv 1811.10153), and in the picture, so that outside nothing changes at all.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter, maximum_filter
from torch import Tensor

from editing.faces import align
from editing.inversion.residual import gated, joined
from editing.judges.parsing import CLASSES
from editing.types import Inversion
from encoders.metric import stage
from stylegan2 import console
from stylegan2.errors import UsageError
from stylegan2.generator import FeatureEdit, Generator

LIPS = ("upper_lip", "lower_lip")
FACE = ("skin", "brows", "eyes", "nose", *LIPS, "mouth", "glasses")
GROUPS = {
    "lips": LIPS,
    "mouth": (*LIPS, "mouth"),
    "face": FACE,
    "head": (*FACE, "hair", "ears"),
    "person": tuple(name for name in CLASSES if name != "background"),
}
OWN = "mask:"  # a region that begins so is a mask of one's own
SOFT = 1.5  # pixels of 256: how far a region's rim is blurred
RIM = (0.35, 0.85)  # of the blurred region: below the first nothing is edited, above the second all
Masks = Mapping[str, np.ndarray]  # region -> mask of one's own, float32 in [0, 1]


def grown(region: str) -> int:
    """'hair~3' -> 3.  UsageError if what follows '~' is no small number."""
    _, tilde, number = region.partition("~")
    if tilde and not re.fullmatch(r"\s*\d{1,2}\s*", number):
        raise UsageError(f"A region is grown by a number of pixels, as in hair~3, not '{region}'.")
    return int(number) if tilde else 0


def classes(region: str) -> tuple[str, ...]:
    """'lips+hair' -> classes of the parser.  UsageError, with the nearest name, for another word."""
    found: list[str] = []
    grown(region)
    for word in (part.strip() for part in region.partition("~")[0].split("+")):
        if word not in (*GROUPS, *CLASSES):
            raise UsageError(console.unknown("regions", word, [*GROUPS, *CLASSES]))
        found += GROUPS.get(word, (word,))
    return tuple(dict.fromkeys(found))


def covers(outer: str | None, inner: str | None) -> bool:
    """Does an edit of the first region reach all of the second?  None is everywhere."""
    if outer is None or outer == inner:
        return True
    if inner is None or OWN in (outer[: len(OWN)], inner[: len(OWN)]):
        return False
    return set(classes(inner)) <= set(classes(outer)) and grown(inner) <= grown(outer)


def check(region: str, masks: Masks) -> None:
    """UsageError if there is no such region, or its mask was not given."""
    if not region.startswith(OWN):
        classes(region)
    elif region not in masks:
        if masks:
            raise UsageError("This recipe is limited by a mask that is not the one of --mask.")
        raise UsageError("This recipe is limited by a mask that was not given: give its picture with --mask.")


def read(path: Path) -> np.ndarray:
    """A picture -> its mask (H, W) float32: 1 where it is white, 0 where it is black or transparent.

    PhotoError if it is no picture.
    """
    from editing.faces import photo as photos

    photo = photos.load(path)
    level = photo.rgb.mean(2, dtype=np.float32) / 255
    return level if photo.alpha is None else level * (photo.alpha / photo.white).astype(np.float32)


def named(own: np.ndarray) -> str:
    """The region that a mask (H, W) in [0, 1] is called in a recipe."""
    shape = f"{own.shape} ".encode()
    return OWN + hashlib.sha256(shape + np.ascontiguousarray(own, dtype=np.float32).tobytes()).hexdigest()


def check_size(own: np.ndarray, photo_size: tuple[int, int] | None) -> None:
    """UsageError if a mask (H, W) is neither as large as the photo (width, height) nor square."""
    if own.shape[::-1] != photo_size and own.shape[0] != own.shape[1]:
        raise UsageError("A mask is as large as the photo, or square for the aligned face.")


def over_crop(own: np.ndarray, photo_size: tuple[int, int] | None, quad: np.ndarray | None, size: int) -> np.ndarray:
    """A mask of one's own (H, W), over the photo (of photo_size: width, height) or the crop itself -> (size, size).

    UsageError if it is neither as large as the photo nor square.
    """
    if quad is not None and photo_size == own.shape[::-1]:
        levels = np.repeat((own[..., None] * 255).round().astype(np.uint8), 3, 2)
        cut = align.crop(levels, quad, size)[..., 0]
        return cut.astype(np.float32) / 255
    check_size(own, photo_size)
    tensor = torch.from_numpy(own)[None, None]
    return F.interpolate(tensor, size=(size, size), mode="bilinear", antialias=True)[0, 0].clamp(0, 1).numpy()


def mask(region: str, before: np.ndarray, after: np.ndarray, size: int) -> np.ndarray:
    """What the parser says (256, 256, classes) of a face before and after -> (size, size) float32: 0 outside the
    region, 1 inside."""
    wanted = [CLASSES.index(name) for name in classes(region)]
    found = np.maximum(before[..., wanted].sum(-1), after[..., wanted].sum(-1))
    found = maximum_filter(found, 2 * grown(region) + 1)
    t = ((gaussian_filter(found, SOFT) - RIM[0]) / (RIM[1] - RIM[0])).clip(0, 1)
    return over_crop((t * t * (3 - 2 * t)).astype(np.float32), None, None, size)


def mixed(generator: Generator, base: Inversion, edited: Inversion, inside: np.ndarray) -> Tensor:
    """The edited face inside the mask (S, S), drawn over activations that are the unedited face's outside it.

    A residual of the inversion lies behind those activations and fades as it does for the whole edit.
    -> crop (1, 3, R, R) float, about [-1, 1]; outside the mask it is close to the unedited face, not equal to it.
    """
    name = stage(generator, 16)
    with torch.inference_mode():
        x0, x1 = (generator.synthesis(each.ws, each.deltas, each.features, until=name) for each in (base, edited))
        m = F.interpolate(torch.from_numpy(inside)[None, None].to(x0), size=x0.shape[-2:], mode="area")
        features = dict(gated(generator, edited.features, edited.ws) or {})
        features[name] = joined(features.get(name), FeatureEdit(x0 - x1, 1 - m, edited.ws))
        return generator.synthesis(edited.ws, edited.deltas, features)
