"""The Editor: one slow call per photo (`set_photo`), then many quick edits (`render`, `edit`).

    editor = Editor()
    editor.set_photo("holiday.jpg")
    edit = editor.edit({"smile": 2, "age": -3})
    provenance.save(edit.photo, "holiday.edited.png", edit.recipe)

The line everything takes:  photo -> aligned crop -> Inversion -> steps -> render -> paste.  Below are
first the pure functions of that line, then the class that remembers its slow parts.  Command lines,
the batch runner and the user interface all go through here, so they give the same pixels.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from editing import regions
from editing.dragging import Drags
from editing.faces import align, detect, paste
from editing.faces import photo as photos
from editing.inversion import residual
from editing.judges import parsing
from editing.steps import Catalogue, Layer, layers, pin, restyled
from editing.types import Edit, Inversion, Recipe, Scene, generator_sha256
from stylegan2 import console, engine
from stylegan2.allocator import tune_allocator
from stylegan2.errors import InversionError, UsageError
from stylegan2.generator import Features, Generator

Progress = Callable[..., Any]


# ------------------------------------------------------------------------------- pictures and tensors


def to_tensor(rgb: np.ndarray) -> Tensor:
    """sRGB (H, W, 3) uint8 -> image (1, 3, H, W) float in [-1, 1]."""
    return engine.to_float(rgb)


def to_rgb(image: Tensor) -> np.ndarray:
    """image (1, 3, H, W) in [-1, 1], clamped -> sRGB (H, W, 3) uint8."""
    return engine.to_uint8(image.detach())[0]


def whole_picture(rgb: np.ndarray) -> np.ndarray:
    """The quad (4, 2) of a picture that is an aligned crop already.  UsageError if it is not square."""
    height, width = rgb.shape[:2]
    if height != width:
        raise UsageError(f"An aligned picture is square; this one is {width} x {height}: leave --aligned out.")
    return align.border(rgb)


@dataclass(frozen=True)
class Target:
    """A face to be inverted: quad (4, 2) and landmarks (68, 2) in photo pixels, crop (1, 3, R, R) in [-1, 1]."""

    quad: np.ndarray
    landmarks: np.ndarray | None
    crop: Tensor


def find(photo: photos.Photo, resolution: int, face: int = 0, detector: str = "auto", aligned: bool = False) -> Target:
    """The face number `face` of a photo, cut out.  `aligned`: the whole picture is a crop already.

    Raises NoFaceFound, UsageError (unknown detector, not square), WeightsMissing.
    """
    if aligned:
        quad, landmarks = whole_picture(photo.rgb), None
    else:
        chosen = detect.choose(detect.find_faces(photo.rgb, detector), face, photo.name)
        quad, landmarks = chosen.quad, chosen.landmarks
    return Target(quad, landmarks, to_tensor(align.crop(photo.rgb, quad, resolution)))


# -------------------------------------------------------------------------------------------- drawing


def synthesise(generator: Generator, inversion: Inversion) -> Tensor:
    """Inversion -> crop (1, 3, R, R) float, about [-1, 1]."""
    from editing.inversion.residual import render

    return render(generator, inversion)


def composed(generator: Generator, stack: Sequence[Layer], bottom: Tensor, inside: Sequence[np.ndarray]) -> Tensor:
    """The picture `bottom` of the first layer under the others, each within its mask (S, S)."""
    picture = bottom
    for layer, mask in zip(stack[1:], inside, strict=True):
        m = torch.from_numpy(mask).to(picture)
        picture = torch.lerp(picture, regions.mixed(generator, stack[0].inversion, layer.inversion, mask), m)
    return picture


@dataclass(frozen=True)
class Drawing:
    """An edited face: its layers, the mask (S, S) of every one above the first, and the crop that they make."""

    stack: Sequence[Layer]
    inside: Sequence[np.ndarray]
    crop: Tensor


def without(inversion: Inversion, features: Features) -> Inversion:
    """The inversion less these feature edits, faded by a step or not; what a step put there stays."""
    gone = {name: edit.residual for name, edit in features.items()}
    kept = {name: edit for name, edit in (inversion.features or {}).items() if gone.get(name) is not edit.residual}
    return replace(inversion, features=kept or None)


# -------------------------------------------------------------------------------------------- the editor


class Editor:
    """Holds a generator, a photo and its inverted faces; `set_photo` is slow, everything else is quick.

    generator, catalogue and strategies default to the fetched generator, the catalogue of the package and
    `editing.inversion.STRATEGIES`; nothing is loaded before it is needed.  A generator of your own must already
    lie on `device`.  Not for two threads at once.
    """

    def __init__(
        self,
        generator: Generator | None = None,
        *,
        catalogue: Catalogue | None = None,
        strategies: Mapping[str, Callable[..., Inversion]] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        tune_allocator()
        self.device = torch.device(device)
        self._generator, self._catalogue, self._strategies = generator, catalogue, strategies
        self.scene: Scene | None = None
        self.targets: dict[int, Target] = {}
        self._reconstructions: dict[int, Tensor] = {}
        self.masks: dict[str, np.ndarray] = {}
        self.drags: dict[str, Any] = {}  # what dragging points was found to add to a code, and the like: `Drags.memo`

    @property
    def generator(self) -> Generator:
        if self._generator is None:
            self._generator = load_generator(self.device)
        return self._generator

    @property
    def catalogue(self) -> Catalogue:
        if self._catalogue is None:
            self._catalogue = load_catalogue()
        return self._catalogue

    @property
    def strategies(self) -> Mapping[str, Callable[..., Inversion]]:
        if self._strategies is None:
            from editing.inversion import STRATEGIES

            self._strategies = STRATEGIES
        return self._strategies

    def check(self, method: str, detector: str = "auto") -> None:
        """UsageError if there is no such inversion method or face detector."""
        if method not in self.strategies:
            raise UsageError(console.unknown("inversion methods", method, self.strategies))
        if detector not in detect.DETECTORS:
            raise UsageError(console.unknown("face detectors", detector, detect.DETECTORS))

    def open(self, photo: photos.Photo | str | os.PathLike) -> photos.Photo:
        """Take a photo without inverting it yet; forgets the one before unless it is the same file."""
        photo = photo if isinstance(photo, photos.Photo) else photos.load(photo)
        opened = self.scene.photo if self.scene else None  # None too after an inversion without its photo
        if opened is None or not photo.sha256 or opened.sha256 != photo.sha256:
            self.scene, self.targets, self._reconstructions, self.drags = Scene(photo), {}, {}, {}
        return photo

    def set_photo(
        self,
        photo: photos.Photo | str | os.PathLike,
        *,
        face: int = 0,
        method: str = "tune",
        budget: Any = None,
        seed: int = 0,
        detector: str = "auto",
        aligned: bool = False,
        callback: Progress | None = None,
        target: Target | None = None,
    ) -> Inversion:
        """Find a face and invert it; several faces of one photo may be set one after the other.

        budget: an `editing.inversion.Budget`, None for the method's own.  callback: as the strategies call it.
        target: the face, where `find` has found it already (detector and aligned then mean nothing).
        Raises PhotoError, NoFaceFound, UsageError, WeightsMissing, Cancelled.
        """
        self.check(method, detector)
        photo = self.open(photo)
        target = target or find(photo, self.generator.resolution, face, detector, aligned)
        options = {"callback": callback, "seed": seed} | ({} if budget is None else {"budget": budget})
        inversion = self.strategies[method](self.generator, target.crop.to(self.device), **options)
        taken = inversion.method if method == "auto" else method
        made = {"method": taken, "seed": seed, "device": str(self.device), "threads": torch.get_num_threads()}
        made |= {"family": self.generator.family, "generator_sha256": generator_sha256(self.generator)}
        place = {"quad": target.quad, "landmarks": target.landmarks, "photo_sha256": photo.sha256}
        self._keep(face, replace(inversion, **made, **place).compact(), target)
        return self.scene.inversions[face]

    def set_inversion(
        self,
        inversion: Inversion,
        photo: photos.Photo | str | os.PathLike | None = None,
        face: int = 0,
        transfer: bool = False,
    ) -> None:
        """Go on from a saved inversion, with its photo if the result is to be put back into it.

        Raises InversionError if it is of another generator or does not fit it, UsageError if it is of another photo.
        """
        inversion.require(self.generator.family, generator_sha256(self.generator), transfer)
        if inversion.ws.shape[1:] != (self.generator.num_ws, self.generator.w_dim):
            raise UsageError("This inversion's latent code has the wrong shape for the generator: invert again.")
        try:
            rendered = synthesise(self.generator, inversion.to(self.device))
        except (ValueError, RuntimeError):
            raise InversionError(
                "This inversion's weight or feature offsets do not fit the generator: invert the photo again."
            ) from None
        if photo is None:
            self.scene, self.targets, self._reconstructions, self.drags = Scene(None), {}, {}, {}
            self._keep(face, inversion, None)
            self._reconstructions[face] = rendered
            return
        photo = self.open(photo)
        if inversion.photo_sha256 and inversion.photo_sha256 != photo.sha256:
            raise UsageError(f"The inversion was made from another photo than {photo.name}.")
        if inversion.quad is None:
            raise UsageError("The inversion does not say where in the photo its face is: invert the photo again.")
        if not align.reaches(inversion.quad, photo.size):
            raise UsageError(f"The inversion says that its face lies outside {photo.name}: invert the photo again.")
        crop = to_tensor(align.crop(photo.rgb, inversion.quad, self.generator.resolution))
        self._keep(face, inversion, Target(inversion.quad, inversion.landmarks, crop))
        self._reconstructions[face] = rendered

    def _keep(self, face: int, inversion: Inversion, target: Target | None) -> None:
        self.scene = self.scene.with_inversion(face, inversion.to(self.device))
        self._reconstructions.pop(face, None)
        if target is not None:
            self.targets[face] = target

    def inversion(self, face: int | None = None) -> Inversion:
        """The inversion of a face (default: the first that was set).  UsageError if there is none."""
        inversions = self.scene.inversions if self.scene else {}
        if not inversions or (face is not None and face not in inversions):
            raise UsageError("No face has been inverted yet: call set_photo or set_inversion first.")
        return inversions[next(iter(inversions)) if face is None else face]

    def recipe(self, edits: Recipe | Mapping[str, float], face: int | None = None) -> Recipe:
        """Edits as a complete recipe: directions pinned, facts of the inversion added."""
        if not isinstance(edits, Recipe):
            first = next(iter(self.scene.inversions), 0) if self.scene else 0
            edits = Recipe.from_strengths(edits, first if face is None else face)
        return pin(edits, self.catalogue, self.masks).about(self.inversion(face))

    def reconstruction(self, face: int | None = None) -> Tensor:
        """What the inversion renders without any edit, (1, 3, R, R); rendered once."""
        inversion = self.inversion(face)
        face = next(iter(self.scene.inversions)) if face is None else face
        if face not in self._reconstructions:
            self._reconstructions[face] = synthesise(self.generator, inversion)
        return self._reconstructions[face]

    def render(self, edits: Recipe | Mapping[str, float], face: int | None = None) -> Tensor:
        """The edited crop of one face (default: the first), (1, 3, R, R) in about [-1, 1]: two passes for a region."""
        self.inversion(face)
        face = next(iter(self.scene.inversions)) if face is None else face
        return self._drawn(self.recipe(edits, face), face).crop

    def _drawn(self, recipe: Recipe, face: int) -> Drawing:
        """The face after the steps that name it; what no step changed is the inversion and the reconstruction."""
        steps = [step for step in recipe.steps if step.face == face]
        stack = [
            restyled(self.generator, layer, steps, self.catalogue)
            for layer in layers(self.inversion(face), steps, self.catalogue, Drags(self.generator, self.drags))
        ]
        unedited = stack[0].inversion is self.inversion(face)
        bottom = self.reconstruction(face) if unedited else synthesise(self.generator, stack[0].inversion)
        inside = self._masks(stack, bottom, face)
        return Drawing(stack, inside, composed(self.generator, stack, bottom, inside))

    def _masks(self, stack: Sequence[Layer], bottom: Tensor, face: int) -> list[np.ndarray]:
        """The mask (S, S) of every layer above the first, whose picture is `bottom`."""
        size, photo, target, before, masks = bottom.shape[-1], self.scene.photo, self.targets.get(face), None, []
        for layer in stack[1:]:
            if layer.region in self.masks:
                place = (photo and photo.size, target and target.quad, size)
                masks.append(regions.over_crop(self.masks[layer.region], *place))
                continue
            before = parsing.probabilities(to_rgb(bottom)) if before is None else before
            after = parsing.probabilities(to_rgb(synthesise(self.generator, layer.inversion)))
            masks.append(regions.mask(layer.region, before, after, size))
        return masks

    def edit(self, edits: Recipe | Mapping[str, float], **paste_options: Any) -> Edit:
        """Edit every face that the recipe names and put each back into the photo.

        A recipe that does nothing returns the photo itself.  paste_options go to `editing.faces.paste.paste`.
        """
        recipe = self.recipe(edits)
        first = next(iter(self.scene.inversions))
        for step in recipe.steps:
            self.inversion(step.face)  # refuses a face that is not there before anything is rendered
        drawn = {face: self._drawn(recipe, face) for face in dict.fromkeys([first, *(s.face for s in recipe.steps)])}
        photo = self.scene.photo
        for face, drawing in drawn.items():
            if photo is not None and drawing.crop is not self.reconstruction(face):
                photo = self._paste(photo, face, drawing, paste_options)
        return Edit(photo, drawn[first].crop, recipe, changed=not recipe.is_identity)

    def _paste(self, photo: photos.Photo, face: int, drawing: Drawing, options: dict[str, Any]) -> photos.Photo:
        """The crop's difference from the reconstruction goes into the photo.

        Both are drawn again without the inversion's own feature residual: it fades where the edit is, and that
        is no part of the edit.  What it stands for, the photo's own detail, `paste` moves in the photo itself.
        """
        target, inversion = self.targets[face], self.inversion(face)
        own = residual.fading(self.generator, inversion.features)
        stack, inside = drawing.stack, drawing.inside
        if stack[0].inversion is inversion:  # nothing is edited outside the regions
            options = {**options, "region": np.max(inside, 0)}
        before, after = self.reconstruction(face), drawing.crop
        if own:
            bare = [Layer(layer.region, without(layer.inversion, own)) for layer in stack]
            before = synthesise(self.generator, without(inversion, own))
            bottom = before if stack[0].inversion is inversion else synthesise(self.generator, bare[0].inversion)
            after = composed(self.generator, bare, bottom, inside)
        pictures = to_rgb(after), to_rgb(before)
        pasted = paste.paste(photo, target.quad, *pictures, landmarks=target.landmarks, **options).photo
        drawn = [self.masks.get(layer.region) for layer in stack[1:]]
        if (
            pasted is not photo
            and "region" in options
            and all(mask is not None and mask.shape[::-1] == photo.size for mask in drawn)
        ):
            outside = np.max(drawn, 0) == 0  # cutting a mask to the crop and back has blurred its rim
            pasted.samples[outside] = photo.samples[outside]
        return pasted


def load_catalogue(files: Sequence[Path] | None = None) -> Catalogue:
    """The catalogue of named edits that ships with the package, and the directions of these files; it knows random
    moves by their names, too (`directions.explore`).

    UsageError, CheckpointError for what is not a file of directions, or has a name that is taken.
    """
    from editing.directions import catalogue, explore
    from editing.directions.files import joined

    found = catalogue.load()
    return explore.WithMoves(list((joined(found, files) if files else found).values()))


def load_generator(device: torch.device | str = "cpu") -> Generator:
    """The default generator from the cache.  WeightsMissing if it was not fetched."""
    from stylegan2 import checkpoints, zoo

    return checkpoints.load(zoo.path("mobilestylegan-ffhq-1024")).to(device)
