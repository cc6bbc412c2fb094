"""Edits distilled into one network that needs no inversion: a crop in, the edited crop out, in one pass.

    edited = load()(crop, {"smile": 1.5})                      # crop (1, 3, S, S) RGB in [-1, 1], aligned as FFHQ's

StyleGAN2 distillation (arXiv 2003.03581) teaches a picture network what a latent edit does, by pairs G(w), G(w + a d).
Its networks draw the face anew and lose the photo's detail.  This one reads 256 pixels and says what to do to a picture
of any size: how to move it (f), what to add to it (r), and how much of its own fine detail to keep (g),

    P'(p) = B(p + f) + (1 + g(p)) H(p + f) + r(p),    P = B + H,    B: what 256 pixels of P can say

so that pores and hairs stay the photo's own.  f, r and g are 0 at strength 0: then the crop comes back as it is.
Aligned faces have their mouths at about the same place: what an edit does to everybody is a map of its own (`field`),
and the network, which knows where it looks (`where`), says what is different for this face.
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
from editing.types import Recipe, Step
from stylegan2 import console, engine, weights
from stylegan2.errors import NoFaceFound, UsageError, WplusError

SHIPPED = Path(__file__).with_name("data") / "distilled.safetensors"
KIND = "distilled"
SIDE, CROP = 256, 1024  # pixels that the network reads, and of a face that is cut out of a photo
WIDTHS = (24, 48, 96, 128)  # channels at 128, 64, 32 and 16 pixels
DEEP = 3  # blocks at 16 pixels
FURTHEST = 0.25  # of half a picture: how far f may reach
FIELD = 64  # pixels of what an edit does to everybody


class Block(nn.Module):
    """x (B, C, S, S) -> the same, with something added that the strengths say."""

    def __init__(self, channels: int, parts: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.told = nn.Linear(parts, 2 * channels, bias=False)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, parts: Tensor) -> Tensor:
        scale, shift = self.told(parts)[..., None, None].chunk(2, 1)
        y = self.first(F.silu(self.norm(x))) * (1 + scale) + shift
        return x + self.second(F.silu(y))


class Distilled(nn.Module):
    """A U-Net that reads strengths, and fields.  edits: their names; ends: (low, high) of each, what it has seen."""

    def __init__(self, edits: Sequence[str], ends: Sequence[Sequence[float]], widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        self.edits, self.ends = tuple(edits), tuple((float(low), float(high)) for low, high in ends)
        if not self.edits or len(self.edits) != len(self.ends) or not all(isinstance(name, str) for name in self.edits):
            raise ValueError("it needs names of edits, and as many ranges")
        if any(not (np.isfinite((low, high)).all() and low <= 0 <= high and low < high) for low, high in self.ends):
            raise ValueError("a range of strengths has 0 within it")
        deep, parts = widths[-1], 2 * len(self.edits)
        self.open = nn.Conv2d(12, widths[0], 3, padding=1)
        self.read = nn.ModuleList([Block(width, parts) for width in widths])
        self.down = nn.ModuleList([nn.Conv2d(4 * a, b, 1) for a, b in zip(widths, widths[1:], strict=False)])
        self.deep = nn.ModuleList([Block(deep, parts) for _ in range(DEEP)])
        self.up = nn.ModuleList([nn.Conv2d(b, a, 1) for a, b in zip(widths, widths[1:], strict=False)])
        self.draw = nn.ModuleList([Block(width, parts) for width in widths[:-1]])
        self.where = nn.ParameterList(
            [nn.Parameter(torch.zeros(width, SIDE >> n, SIDE >> n)) for n, width in enumerate(widths[1:], 2)]
        )
        self.field = nn.Parameter(torch.zeros(parts, 6, FIELD, FIELD))
        self.close = nn.Conv2d(widths[0], 24, 3, padding=1)
        nn.init.zeros_(self.close.weight)
        nn.init.zeros_(self.close.bias)
        for block in (*self.read, *self.deep, *self.draw):
            block.second.weight.data.mul_(0.3)
            nn.init.normal_(block.told.weight)  # loud: an edit has its own network from the beginning

    def relative(self, strengths: Tensor) -> Tensor:
        """Strengths (B, E) -> (B, 2 E) parts of the ends above 0, and of those below."""
        low, high = torch.tensor(self.ends, device=strengths.device).abs().T
        parts = strengths.relu() * high.reciprocal(), (-strengths).relu() * low.reciprocal()
        return torch.cat(parts, 1).nan_to_num(0.0, 0.0)  # nothing was seen on that side

    def maps(self, small: Tensor, strengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """small (B, 3, SIDE, SIDE), strengths (B, E) -> f (B, 2, ...) in units of half a picture, r (B, 3, ...) and
        g (B, 1, ...), all at SIDE."""
        parts = self.relative(strengths)
        x, kept = self.read[0](self.open(F.pixel_unshuffle(small, 2)), parts), []
        for block, down, where in zip(self.read[1:], self.down, self.where, strict=True):
            kept.append(x)
            x = block(down(F.pixel_unshuffle(x, 2)) + where, parts)
        for block in self.deep:
            x = block(x, parts)
        for block, up, skip in zip(reversed(self.draw), reversed(self.up), reversed(kept), strict=True):
            x = block(F.interpolate(up(x), scale_factor=2.0) + skip, parts)
        amount = parts.sum(1).clamp(max=1)[:, None, None, None]  # nothing is done at strength 0, whatever was learned
        everybody = F.interpolate(torch.einsum("bj,jchw->bchw", parts, self.field), size=(SIDE, SIDE), mode="bilinear")
        f, r, g = (F.pixel_shuffle(self.close(x), 2) * amount + everybody).split((2, 3, 1), 1)
        return FURTHEST * torch.tanh(f), r, torch.tanh(g)

    def forward(self, pictures: Tensor, strengths: Tensor) -> Tensor:
        """pictures (B, 3, S, S) RGB in [-1, 1], strengths (B, E) -> edited pictures (B, 3, S, S)."""
        small = engine.area_resize(pictures, SIDE)
        return moved(pictures, small, *self.maps(small, strengths))

    @torch.no_grad()
    def edit(self, picture: Tensor, strengths: Mapping[str, float]) -> Tensor:
        """picture (1, 3, S, S) RGB in [-1, 1] -> the picture with these edits, one after the other, as they are given.

        UsageError for a name that it does not know, or a strength that it has not seen.
        """
        for name, strength in strengths.items():
            if name not in self.edits:
                raise UsageError(console.unknown("distilled edits", name, self.edits))
            low, high = self.ends[self.edits.index(name)]
            if not low <= strength <= high:
                raise UsageError(f"distilled:{name} goes from {low:g} to {high:g}, not to {strength:g}.")
            if strength:
                row = torch.zeros(1, len(self.edits), device=picture.device)
                row[0, self.edits.index(name)] = strength
                picture = self(picture, row).clamp(-1, 1)
        return picture


def moved(pictures: Tensor, small: Tensor, f: Tensor, r: Tensor, g: Tensor) -> Tensor:
    """The equation of the module: pictures (B, 3, S, S), small: the same at SIDE."""
    size = pictures.shape[-1]
    f, r, g, broad = (enlarged(each, size) for each in (f, r, g, small))
    axis = (torch.arange(size, device=pictures.device) + 0.5) * (2 / size) - 1
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)[None]
    sampled = F.grid_sample(
        torch.cat([pictures, broad], 1), grid + f.permute(0, 2, 3, 1), mode="bilinear", padding_mode="border",
        align_corners=False,
    )  # fmt: skip
    there, base = sampled.split(3, 1)
    return there + g * (there - base) + r


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


def on_photo(network: Distilled, photo: photos.Photo, strengths: Mapping[str, float]) -> photos.Photo:
    """The photo with every face of it edited and put back at the photo's own resolution.

    NoFaceFound if there is none.  A photo that is an aligned crop itself is found like any other.
    """
    faces = detect.find_faces(photo.rgb)
    if not faces:
        raise NoFaceFound(f"No face found in {photo.name}.")
    for face in faces:
        before = align.crop(photo.rgb, face.quad, CROP)
        after = engine.to_uint8(network.edit(engine.to_float(before).to(network.field.device), strengths))[0]
        photo = paste.paste(photo, face.quad, after, before, landmarks=face.landmarks).photo
    return photo


def recipe_of(strengths: Mapping[str, float]) -> Recipe:
    """What was done, for whoever reads the file: pinned to the network, of every face, and no edit of an inversion."""
    pin = files.sha256(SHIPPED)
    steps = (Step(op=KIND, parameters={"name": n, "strength": s}, direction_sha256=pin) for n, s in strengths.items())
    return Recipe(steps=tuple(steps))


def run(strengths: Mapping[str, float], img: Path, out: Path, device: torch.device | str = "cpu"
        ) -> Iterator[tuple[Path, Path | WplusError]]:  # fmt: skip
    """Every photo of a file or folder, edited: (its path, a written file or what was wrong with it)."""
    from editing.translation.applying import places, written

    load().edit(torch.zeros(1, 3, SIDE, SIDE), strengths)  # refuses names and strengths before anything is read
    network, found = copy.deepcopy(load()).to(device), places(img, out)
    recipe, sources = recipe_of(strengths), {path.resolve() for path, _ in found}
    for path, base in found:
        try:
            (file,) = written(base, 1, sources)
            photo = photos.load(path)
            result = on_photo(network, photo, strengths)
            yield path, provenance.save(result, file, recipe, sidecar=False, changed=result is not photo)
        except WplusError as error:
            yield path, error
