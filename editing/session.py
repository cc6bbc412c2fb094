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

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from editing.faces import align, detect, paste
from editing.faces import photo as photos
from editing.types import Edit, Inversion, Recipe, Scene, Step, generator_sha256
from stylegan2 import console, engine
from stylegan2.allocator import tune_allocator
from stylegan2.errors import InversionError, UsageError
from stylegan2.generator import Features, Generator

Catalogue = Mapping[str, Any]  # name -> Direction (editing.directions)
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


# ---------------------------------------------------------------------------------------------- steps


def direction(catalogue: Catalogue, name: str) -> Any:
    """The named direction.  UsageError, with the nearest name, if there is none."""
    if name not in catalogue:
        raise UsageError(console.unknown("edits", name, catalogue))
    return catalogue[name]


def direction_sha256(chosen: Any) -> str:
    """The identity of a direction: sha256 over its rows and its float32 vector, whatever file it came from."""
    vector = torch.as_tensor(chosen.vector).detach().cpu().float().contiguous()
    facts = f"{tuple(chosen.rows)} {tuple(vector.shape)} ".encode()
    return hashlib.sha256(facts + vector.numpy().tobytes()).hexdigest()


def latent(inversion: Inversion, step: Step, catalogue: Catalogue) -> Inversion:
    """ws + strength * direction, on the rows that the direction names."""
    from editing import directions

    name = str(step.parameters.get("name", ""))
    checked_sha256(step, catalogue)
    return replace(inversion, ws=directions.apply(inversion.ws, direction(catalogue, name), step.strength))


def checked_sha256(step: Step, catalogue: Catalogue) -> str:
    """The sha256 of a latent step's direction.  UsageError if the step was pinned to another one."""
    name = str(step.parameters.get("name", ""))
    found = direction_sha256(direction(catalogue, name))
    if step.direction_sha256 not in ("", found):
        raise UsageError(
            f"This recipe was made with another version of '{name}': "
            "remove its direction_sha256 to use the one that is here."
        )
    return found


OPS: dict[str, Callable[[Inversion, Step, Catalogue], Inversion]] = {"latent": latent}


def apply_step(inversion: Inversion, step: Step, catalogue: Catalogue) -> Inversion:
    """One step on one face.  A step of strength 0 returns the inversion itself."""
    if step.op not in OPS:
        raise UsageError(console.unknown("operations", step.op, OPS))
    return inversion if step.strength == 0 else OPS[step.op](inversion, step, catalogue)


def apply(scene: Scene, step: Step, catalogue: Catalogue) -> Scene:
    """One step on the face that it names.  UsageError if that face has not been inverted."""
    if step.face not in scene.inversions:
        raise UsageError(f"Face {step.face} of this photo has not been inverted.")
    return scene.with_inversion(step.face, apply_step(scene.inversions[step.face], step, catalogue))


def pin(recipe: Recipe, catalogue: Catalogue) -> Recipe:
    """The recipe with the sha256 of every direction it uses.

    UsageError, before anything slow starts, for operations and names that do not exist and for other versions.
    """

    def pinned(step: Step) -> Step:
        if step.op not in OPS:
            raise UsageError(console.unknown("operations", step.op, OPS))
        if step.region is not None:
            raise UsageError(
                f"This recipe limits '{step.op}' to the region '{step.region}', which this version cannot do."
            )
        if step.op != "latent":
            return step
        return step.model_copy(update={"direction_sha256": checked_sha256(step, catalogue)})

    return recipe.model_copy(update={"steps": tuple(map(pinned, recipe.steps))})


def synthesise(generator: Generator, inversion: Inversion) -> Tensor:
    """Inversion -> crop (1, 3, R, R) float, about [-1, 1]."""
    from editing.inversion.residual import render

    return render(generator, inversion)


def without(inversion: Inversion, features: Features) -> Inversion:
    """The inversion less these feature edits; what a step put there stays."""
    kept = {name: edit for name, edit in (inversion.features or {}).items() if features.get(name) is not edit}
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
            self.scene, self.targets, self._reconstructions = Scene(photo), {}, {}
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
            self.scene, self.targets, self._reconstructions = Scene(None), {}, {}
            self._keep(face, inversion, None)
            self._reconstructions[face] = rendered
            return
        photo = self.open(photo)
        if inversion.photo_sha256 and inversion.photo_sha256 != photo.sha256:
            raise UsageError(f"The inversion was made from another photo than {photo.name}.")
        if inversion.quad is None:
            raise UsageError("The inversion does not say where in the photo its face is: invert the photo again.")
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
        return pin(edits, self.catalogue).about(self.inversion(face))

    def reconstruction(self, face: int | None = None) -> Tensor:
        """What the inversion renders without any edit, (1, 3, R, R); rendered once."""
        inversion = self.inversion(face)
        face = next(iter(self.scene.inversions)) if face is None else face
        if face not in self._reconstructions:
            self._reconstructions[face] = synthesise(self.generator, inversion)
        return self._reconstructions[face]

    def render(self, edits: Recipe | Mapping[str, float], face: int | None = None) -> Tensor:
        """The edited crop of one face (default: the first), (1, 3, R, R) in about [-1, 1]: one pass."""
        inversion = self.inversion(face)
        face = next(iter(self.scene.inversions)) if face is None else face
        edited = self._edited(self.recipe(edits, face), face)
        return self.reconstruction(face) if edited is inversion else synthesise(self.generator, edited)

    def _edited(self, recipe: Recipe, face: int) -> Inversion:
        """The face's inversion after the steps that name it; the same object if none does."""
        edited = self.inversion(face)
        for step in recipe.steps:
            if step.face == face:
                edited = apply_step(edited, step, self.catalogue)
        return edited

    def edit(self, edits: Recipe | Mapping[str, float], **paste_options: Any) -> Edit:
        """Edit every face that the recipe names and put each back into the photo.

        A recipe that does nothing returns the photo itself.  paste_options go to `editing.faces.paste.paste`.
        """
        recipe = self.recipe(edits)
        first = next(iter(self.scene.inversions))
        for step in recipe.steps:
            self.inversion(step.face)  # refuses a face that is not there before anything is rendered
        crops = {face: self.render(recipe, face) for face in dict.fromkeys([first, *(s.face for s in recipe.steps)])}
        photo = self.scene.photo
        for face, crop in crops.items():
            if photo is not None and crop is not self.reconstruction(face):
                photo = self._paste(photo, face, crop, self._edited(recipe, face), paste_options)
        return Edit(photo, crops[first], recipe, changed=not recipe.is_identity)

    def _paste(self, photo: photos.Photo, face: int, crop: Tensor, edited: Inversion,
               options: dict[str, Any]) -> photos.Photo:  # fmt: skip
        """The crop's difference from the reconstruction goes into the photo.

        Both are drawn again without the inversion's own feature residual: it fades where the edit is, and that
        is no part of the edit.  What it stands for, the photo's own detail, `paste` moves in the photo itself.
        """
        target, pair, own = self.targets[face], (self.reconstruction(face), crop), self.inversion(face).features
        if own:
            bare = (without(inversion, own) for inversion in (self.inversion(face), edited))
            pair = tuple(synthesise(self.generator, inversion) for inversion in bare)
        before, after = map(to_rgb, pair)
        return paste.paste(photo, target.quad, after, before, landmarks=target.landmarks, **options).photo


def load_catalogue(files: Sequence[Path] | None = None) -> Catalogue:
    """The catalogue of named edits that ships with the package, and the directions of these files.

    UsageError, CheckpointError for what is not a file of directions, or has a name that is taken.
    """
    from editing.directions import catalogue

    shipped = catalogue.load()
    if not files:
        return shipped
    from editing.directions.files import joined

    return joined(shipped, files)


def load_generator(device: torch.device | str = "cpu") -> Generator:
    """The default generator from the cache.  WeightsMissing if it was not fetched."""
    from stylegan2 import checkpoints, zoo

    return checkpoints.load(zoo.path("mobilestylegan-ffhq-1024")).to(device)
