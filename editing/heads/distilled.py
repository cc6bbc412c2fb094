"""Edits distilled into one network that needs no inversion: a crop in, the edited crop out, in one pass.

    edited = load().edit(crop, {"smile": 1.5})                 # crop (1, 3, S, S) RGB in [-1, 1], aligned as FFHQ's

StyleGAN2 distillation (arXiv 2003.03581) teaches a picture network what a latent edit does, by pairs G(w), G(w + a d).
Its networks draw the face anew and lose the photo's detail.  This one says what to do to a picture of any size: how to
recolour it (c), how much of its fine detail to keep (g), how to move it (f), and what to add (r),

    P'(p) = (P + c + g (P - B))(p + f(p)) + r(p)               B: what 256 pixels of P can say

so that pores and hairs stay the photo's own.  It sees 256 pixels and, by the face parser, what they show.  Aligned
faces have their mouths at about the same place: f, r and g are maps that an edit has for everybody, f and r more or
less of them where there is skin, hair, background; c is an affine map of colours for each of those classes.  All grow
with the strength from 0, where the crop comes back as it is.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from editing import provenance
from editing.faces import align, detect, paste
from editing.faces import photo as photos
from editing.heads import files
from editing.judges import parsing
from editing.judges.parsing import CLASSES
from editing.types import Recipe, Step
from stylegan2 import console, engine, weights
from stylegan2.errors import NoFaceFound, UsageError, WplusError

SHIPPED = Path(__file__).with_name("data") / "distilled.safetensors"
KIND = "distilled"
SIDE, CROP = 256, 1024  # pixels that the network reads, and of a face that is cut out of a photo
FURTHEST = 0.25  # of half a picture: how far f may reach
FIELD = 64  # pixels of the maps that are for everybody


class Distilled(nn.Module):
    """edits: their names; ends: (low, high) of each, the strengths that it has seen.

    For each of the E edits above 0, and then for each below: field (2 E, 6, FIELD, FIELD) with f, r and g; gate
    (2 E, 2, classes), how much of f and of r there is where a class is; colour (2 E, classes, 3, 4).
    """

    def __init__(self, edits: Sequence[str], ends: Sequence[Sequence[float]]) -> None:
        super().__init__()
        self.edits, self.ends = tuple(edits), tuple((float(low), float(high)) for low, high in ends)
        if not self.edits or len(self.edits) != len(self.ends) or not all(isinstance(name, str) for name in self.edits):
            raise ValueError("it needs names of edits, and as many ranges")
        if any(not (np.isfinite((low, high)).all() and low <= 0 <= high and low < high) for low, high in self.ends):
            raise ValueError("a range of strengths has 0 within it")
        sides = 2 * len(self.edits)
        self.field = nn.Parameter(torch.zeros(sides, 6, FIELD, FIELD))
        self.gate = nn.Parameter(torch.ones(sides, 2, len(CLASSES)))
        self.colour = nn.Parameter(torch.zeros(sides, len(CLASSES), 3, 4))

    def side(self, strengths: Tensor) -> tuple[Tensor, Tensor]:
        """Strengths (B, E) of one edit each -> which of the 2 E sides (B,), and how far towards its end (B,)."""
        low, high = torch.tensor(self.ends, device=strengths.device).abs().T
        parts = torch.cat([strengths.relu() * high.reciprocal(), (-strengths).relu() * low.reciprocal()], 1)
        far, which = parts.nan_to_num(0.0, 0.0).max(1)  # nothing was seen on a side whose end is 0
        return which, far

    def maps(self, small: Tensor, classes: Tensor, strengths: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """small (B, 3, SIDE, SIDE), classes (B, classes, SIDE, SIDE), strengths (B, E) of one edit each
        -> f (B, 2, ...) in units of half a picture, r, c (B, 3, ...) and g (B, 1, ...), all at SIDE."""
        which, far = self.side(strengths)
        far = far[:, None, None, None]
        f, r, g = (far * enlarged(self.field[which], SIDE)).split((2, 3, 1), 1)
        there, new = torch.einsum("bkc,bchw->bkhw", self.gate[which], classes).split(1, 1)
        known = torch.cat([small, torch.ones_like(small[:, :1])], 1)
        c = torch.einsum("bchw,bcij,bjhw->bihw", classes, self.colour[which], known)
        return FURTHEST * torch.tanh(f * there), r * new, far * c, torch.tanh(g)

    def forward(self, pictures: Tensor, classes: Tensor, strengths: Tensor) -> Tensor:
        """pictures (B, 3, S, S) RGB in [-1, 1], classes (B, classes, SIDE, SIDE), strengths (B, E) of one edit each
        -> edited pictures (B, 3, S, S)."""
        small = engine.area_resize(pictures, SIDE)
        return moved(pictures, small, *self.maps(small, classes, strengths))

    @torch.no_grad()
    def edit(self, picture: Tensor, strengths: Mapping[str, float]) -> Tensor:
        """picture (1, 3, S, S) RGB in [-1, 1] -> the picture with these edits, one after the other, as they are given.

        UsageError for a name that it does not know, or a strength that it has not seen.
        """
        self.check(strengths)
        for name, strength in strengths.items():
            if strength:
                row = torch.zeros(1, len(self.edits), device=picture.device)
                row[0, self.edits.index(name)] = strength
                picture = self(picture, seen(picture), row).clamp(-1, 1)
        return picture

    def check(self, strengths: Mapping[str, float]) -> None:
        for name, strength in strengths.items():
            if name not in self.edits:
                raise UsageError(console.unknown("distilled edits", name, self.edits))
            low, high = self.ends[self.edits.index(name)]
            if not low <= strength <= high:
                raise UsageError(f"distilled:{name} goes from {low:g} to {high:g}, not to {strength:g}.")


def seen(picture: Tensor) -> Tensor:
    """picture (1, 3, S, S) in [-1, 1] -> what the parser sees, (1, classes, SIDE, SIDE)"""
    found = parsing.probabilities(engine.to_uint8(picture)[0])
    return torch.from_numpy(found.copy()).permute(2, 0, 1)[None].to(picture.device)


def moved(pictures: Tensor, small: Tensor, f: Tensor, r: Tensor, c: Tensor, g: Tensor) -> Tensor:
    """The equation of the module: pictures (B, 3, S, S), small: the same at SIDE."""
    size = pictures.shape[-1]
    f, r, c, g, broad = (enlarged(each, size) for each in (f, r, c, g, small))
    axis = (torch.arange(size, device=pictures.device) + 0.5) * (2 / size) - 1
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)[None] + f.permute(0, 2, 3, 1)
    coloured = pictures + c + g * (pictures - broad)
    return F.grid_sample(coloured, grid, mode="bilinear", padding_mode="border", align_corners=False) + r


def enlarged(maps: Tensor, size: int) -> Tensor:
    return maps if maps.shape[-1] == size else F.interpolate(maps, size=(size, size), mode="bilinear")


# ---------------------------------------------------------------------------------------------- files


def save(path: Path, network: Distilled) -> None:
    files.write(path, {"kind": KIND, "edits": network.edits, "ends": network.ends}, {KIND: network})


@lru_cache(maxsize=1)
def load(path: Path | None = None) -> Distilled:
    """The network of a file, by default the one that ships, frozen.  WplusError in one sentence if it is anything
    else."""
    path = path or SHIPPED
    tensors, facts = files.checked(path, "distilled edits", {"kind": KIND}), files.facts(path)
    state = {name.removeprefix(f"{KIND}."): tensor for name, tensor in tensors.items()}
    with weights.described(path, "a file of distilled edits"):
        return weights.filled(lambda: Distilled(facts["edits"], facts["ends"]), state)


# --------------------------------------------------------------------------------------------- photos


def on_photo(network: Distilled, photo: photos.Photo, strengths: Mapping[str, float]) -> tuple[photos.Photo, int]:
    """The photo with every face of it edited and put back at the photo's own resolution, and how many there were.

    NoFaceFound if there is none.  A photo that is an aligned crop itself is found like any other.
    """
    found = detect.find_faces(photo.rgb)
    if not found:
        raise NoFaceFound(f"No face found in {photo.name}.")
    faces = [face for face in found if face.score >= detect.DOUBTFUL] or found[:1]
    for face in faces:
        before = align.crop(photo.rgb, face.quad, CROP)
        after = engine.to_uint8(network.edit(engine.to_float(before).to(network.field.device), strengths))[0]
        photo = paste.paste(photo, face.quad, after, before, landmarks=face.landmarks).photo
    return photo, len(faces)


def recipe_of(photo: photos.Photo, strengths: Mapping[str, float], faces: int) -> Recipe:
    """What was done, for whoever reads the file: pinned to the network, and no edit of an inversion."""
    pin = files.sha256(SHIPPED)
    steps = [Step(op=KIND, parameters={"name": name, "strength": strength}, direction_sha256=pin, face=face)
             for face in range(faces) for name, strength in strengths.items()]  # fmt: skip
    return Recipe(steps=tuple(steps), photo_sha256=photo.sha256)


def run(strengths: Mapping[str, float], img: Path, out: Path, device: torch.device | str = "cpu"
        ) -> Iterator[tuple[Path, Path | WplusError]]:  # fmt: skip
    """Every photo of a file or folder, edited: (its path, a written file or what was wrong with it)."""
    from editing.translation.applying import places, written

    load().check(strengths)  # before anything is read
    network, found = copy.deepcopy(load()).to(device), places(img, out)
    sources = {path.resolve() for path, _ in found}
    for path, base in found:
        try:
            (file,) = written(base, 1, sources)
            photo = photos.load(path)
            result, faces = on_photo(network, photo, strengths)
            recipe = recipe_of(photo, strengths, faces)
            yield path, provenance.save(result, file, recipe, sidecar=False, changed=result is not photo)
        except WplusError as error:
            yield path, error
