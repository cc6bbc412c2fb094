"""Photos that are worked on, with all that was made of them, and the four ways to one: a file with a face on it, a
seed, a mix of two people, and a drawing or a damaged picture of which a head makes a face."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from editing import provenance, session, steps
from editing.faces import align, detect
from editing.faces import photo as photos
from editing.faces.face import Face
from editing.heads import drawing
from editing.judges import judge as judges
from editing.types import Inversion, Recipe, generator_sha256
from stylegan2 import engine as seeds
from stylegan2.errors import Cancelled, NoFaceFound, UsageError
from stylegan2.generator import Generator
from ui import look as looks
from ui.history import History

MAX_BYTES, MAX_PIXELS = 64 << 20, 60_000_000


@dataclass
class Opened:
    """A photo, its faces, and everything that was made of them.  inversions: (face, method, seconds) -> Inversion."""

    photo: photos.Photo
    faces: list[Face]
    aligned: bool = False
    used: float = 0.0
    face: int = 0
    inversions: dict[tuple, Inversion] = field(default_factory=dict)
    chosen: dict[int, tuple] = field(default_factory=dict)  # face -> which of its inversions is in use
    looks: dict[int, looks.Look] = field(default_factory=dict)
    scores: dict[int, judges.Scores | None] = field(default_factory=dict)
    history: History = History()
    versions: dict[str, Recipe] = field(default_factory=dict)
    shown: dict[str, None] = field(default_factory=dict)  # names of edits outside the catalogue that were ever set
    drags: dict[str, torch.Tensor] = field(default_factory=dict)
    crops: dict[int, np.ndarray] = field(default_factory=dict)  # cutting takes a second where the photo is narrow


def read(data: bytes, name: str) -> tuple[photos.Photo, Recipe | None]:
    """A file that the user gave, and the recipe inside it, if the editor can do anything of it.  UsageError where it is
    too large, PhotoError."""
    if len(data) > MAX_BYTES:
        raise UsageError(f"{name} is larger than {MAX_BYTES >> 20} MB: make it smaller first.")
    photo = photos.decode(data, Path(name), MAX_PIXELS)
    recipe = None
    with suppress(UsageError):  # a damaged recipe is none; the picture is one all the same
        text = provenance.recipe_text(photo)
        recipe = Recipe.from_json(text) if text else None
    if recipe is not None and not (any(map(steps.known, recipe.steps)) or (recipe.photo_sha256 and not recipe.steps)):
        recipe = None  # of a network that works on pictures: what it made is a photo like any other
    return photo, recipe


def found(photo: photos.Photo) -> Opened:
    """A photo with its faces.  NoFaceFound where there are none."""
    faces = detect.find_faces(photo.rgb)
    if not faces:
        raise NoFaceFound(f"No face was found in {photo.name}: try a larger picture, or crop it closer.")
    sure = [face for face in faces if face.score >= detect.DOUBTFUL] or faces[:1]  # numbered as in the CLI
    return Opened(photo, sure)


def generated(generator: Generator, seed: int) -> Opened:
    """A face that nobody has, as a photo whose inversion is known."""
    ws = seeds.broadcast(generator, seeds.latents(generator, [seed], 0.7))
    inversion = Inversion(ws, generator.family, generator_sha256(generator), method="generated", seed=seed,
                          threads=torch.get_num_threads())  # fmt: skip
    return pictured(generator, inversion, f"face-{seed}", "generated")


def mixed(generator: Generator, inversion: Inversion, name: str, recipe: Recipe, drags: dict) -> Opened:
    """A mix of two people (`mixing`), as a photo whose inversion is known, with a recipe as its present; drags: what
    the recipe's points and maps have come to, as an Editor keeps it."""
    opened = pictured(generator, inversion, f"{name}-mixed", "mixed")
    opened.history, opened.drags = opened.history.do(recipe), dict(drags)
    return opened


def pictured(generator: Generator, inversion: Inversion, stem: str, method: str) -> Opened:
    """What an inversion draws, as a photo of its own."""
    photo = photos.from_rgb(session.to_rgb(session.synthesise(generator, inversion)), Path(f"{stem}.png"))
    photo = replace(photo, xmp=provenance.xmp(Recipe().about(inversion)))  # unedited, it is no photo either
    own = replace(inversion, quad=align.border(photo.rgb), landmarks=None, photo_sha256=photo.sha256)
    return made(photo, [whole(photo)], [own], method, aligned=True)


def drawn(editor: session.Editor, photo: photos.Photo, name: str, head: str, seed: int, progress) -> Opened:
    """The face that a head makes of a drawing or a damaged picture, or a gray photo with colours (`heads.drawing`).

    Raises Cancelled where progress(step, total) is False.
    """
    faces = drawing.faces_of(photo)
    targets = drawing.seen(photo, faces, editor.generator.resolution)
    result, inversions = drawing.made(editor, drawing.Order(head), photo, targets, seed, progress)
    if progress(1, 1) is False:
        raise Cancelled("Cancelled.")
    stem, mark = f"{Path(name).stem}-{head.replace(':', '-')}.png", Recipe().about(inversions[0])
    result = replace(photos.from_rgb(result.rgb), path=Path(stem), xmp=provenance.xmp(mark))
    own = inversions[0].landmarks is None
    inversions = [replace(inversion, photo_sha256=result.sha256) for inversion in inversions]
    return made(result, [whole(result)] if own else faces, inversions, head, aligned=own)


def whole(photo: photos.Photo) -> Face:
    """All of a photo as a face."""
    return Face((0.0, 0.0, *map(float, photo.size)), 1.0, np.zeros((68, 2)), "generated")


def made(photo: photos.Photo, faces: list[Face], inversions: list[Inversion], method: str, aligned: bool) -> Opened:
    """A photo whose faces' inversions are known, each in use."""
    opened = Opened(photo, faces, aligned)
    for number, inversion in enumerate(inversions):
        key = (number, method, None)
        opened.inversions[key], opened.chosen[number] = inversion, key
    return opened
