"""From drawings and damaged pictures to faces: files in, faces of 1024 pixels and their inversions out.

    python -m editing.translate apply --head pix2pix:sketch --img drawing.png --out faces/
    python -m editing.translate apply --head pix2pix:gray --img old.jpg --out faces/
    python -m editing.edit --inversion faces/old.inversion --img faces/old.png --set smile=2

What a picture knows stays: a gray photo keeps its light and gets colours only, in the photo itself; half a face keeps
its half.  Of few pixels, noise or lines nothing stays: the face that was drawn is what is written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from editing import provenance, session
from editing.faces import align, detect, paste
from editing.faces import photo as photos
from editing.faces.detect import Face
from editing.heads import registry
from editing.inversion.drawing import uncovered
from editing.translation.applying import LEAST, places, written
from editing.translation.degrade import LUMA, WAYS
from editing.types import Inversion, Recipe
from stylegan2.errors import PhotoError, WplusError

SEAM = 24  # pixels of a crop, from what a picture knows to what was drawn
COLOURLESS = 6  # how far channels of a gray photo may be apart, as JPEG leaves them
Progress = Callable[[int, int, str], bool | None]


@dataclass(frozen=True)
class Order:
    """head: of `registry.DRAWERS`; how: what is taken from the picture first ('' : nothing); samples: results a
    picture, of heads that have many; steps: None for the head's own."""

    head: str
    how: str = ""
    samples: int = 1
    seed: int = 0
    steps: int | None = None


def run(editor: session.Editor, order: Order, img: Path, out: Path) -> Iterator[tuple[Path, Path | WplusError]]:
    """Every picture of a file or folder: (its path, a written face or what was wrong with it).

    A face that is found is cut out, and of a gray photo all of them; where there is none, the whole picture is taken
    for one.  Beside NAME.png, an inversion NAME.inversion belongs to it, NAME.face1.inversion to its second face.
    """
    varies = registry.drawers()[order.head].varies
    seeds = range(order.seed, order.seed + (order.samples if varies else 1))
    found = places(img, out)
    sources = {path.resolve() for path, _ in found}
    for path, base in found:
        try:
            photo = photos.load(path)
            files = written(base, len(seeds), sources)
            targets = seen(photo, faces_of(photo), editor.generator.resolution)
            refuse(files, len(targets))
            for seed, file in zip(seeds, files, strict=True):
                write(editor, order, photo, targets, seed, file)
        except WplusError as error:
            yield path, error
            continue
        yield from ((path, file) for file in files)


def refuse(files: Sequence[Path], faces: int) -> None:
    """PhotoError if an inversion of another picture would be overwritten."""
    for file in files:
        for path in (inversion_of(file, number) for number in range(faces)):
            try:
                ours = not path.exists() or Inversion.load(path).photo_sha256 == sha256(file)
            except WplusError:
                ours = False
            if not ours:
                raise PhotoError(f"{path} is there already and belongs to another picture: choose another --out.")


def inversion_of(file: Path, face: int) -> Path:
    return file.with_name(f"{file.stem}.inversion" if face == 0 else f"{file.stem}.face{face}.inversion")


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else ""


def faces_of(photo: photos.Photo) -> list[Face]:
    """The faces of a picture that may well have none.  PhotoError if it is too small to tell."""
    if min(photo.rgb.shape[:2]) < LEAST:
        raise PhotoError(f"{photo.name} is {photo.rgb.shape[1]}x{photo.rgb.shape[0]} pixels: that is too small.")
    return [face for face in detect.find_faces(photo.rgb) if face.score >= detect.DOUBTFUL]


def seen(photo: photos.Photo, faces: Sequence[Face], resolution: int) -> list[session.Target]:
    """Faces of a photo, cut out, or its middle, where there is none."""
    places = [(face.quad, face.landmarks) for face in faces] or [(square(photo.rgb), None)]
    return [
        session.Target(quad, landmarks, session.to_tensor(align.crop(photo.rgb, quad, resolution)))
        for quad, landmarks in places
    ]


def square(rgb: np.ndarray) -> np.ndarray:
    """The quad of the largest square in the middle of a picture."""
    height, width = rgb.shape[:2]
    side = min(height, width)
    left, top = (width - side) / 2, (height - side) / 2
    corners = [(left, top), (left, top + side), (left + side, top + side), (left + side, top)]
    return np.array(corners, np.float64) - 0.5


def write(editor: session.Editor, order: Order, photo: photos.Photo, targets: Sequence[session.Target], seed: int,
          file: Path) -> None:  # fmt: skip
    result, inversions = made(editor, order, photo, targets, seed)
    provenance.save(result, file, Recipe().about(inversions[0]), sidecar=False)
    for number, inversion in enumerate(inversions):
        replace(inversion, photo_sha256=sha256(file)).save(inversion_of(file, number))


def made(editor: session.Editor, order: Order, photo: photos.Photo, targets: Sequence[session.Target], seed: int = 0,
         callback: Progress | None = None) -> tuple[photos.Photo, list[Inversion]]:  # fmt: skip
    """The first face, or a gray photo with colours in all of its faces; and the inversions of those in the result."""
    coloured = order.head.endswith(":gray") and targets[0].landmarks is not None
    if not coloured:
        inversion, _, rgb = answer(editor, order, targets[0], seed, callback)
        return photos.from_rgb(rgb), [replace(inversion, quad=align.border(rgb))]
    result, inversions = photos.from_rgb(WAYS["gray"](photo.rgb, np.random.default_rng(0))), []
    for target in targets:
        inversion, given, rgb = answer(editor, order, target, seed, callback)
        everywhere = np.ones(rgb.shape[:2], np.float32)
        result = paste.paste(result, target.quad, rgb, given, region=everywhere, match_colour=False, detail=False).photo
        inversions.append(replace(inversion, quad=target.quad, landmarks=target.landmarks))
    return result, inversions


def is_gray(rgb: np.ndarray) -> bool:
    """Whether a picture (H, W, 3) uint8 has no colours."""
    small = rgb[:: max(1, len(rgb) // 256), :: max(1, rgb.shape[1] // 256)].astype(np.int16)
    return bool(np.percentile(small.max(2) - small.min(2), 99) <= COLOURLESS)


def answer(editor: session.Editor, order: Order, target: session.Target,
           seed: int, callback: Progress | None = None) -> tuple[Inversion, np.ndarray, np.ndarray]:  # fmt: skip
    """-> the inversion, what the head was given, and the face that it drew, both (S, S, 3) uint8."""
    from editing.inversion import Budget

    way, given = order.head.split(":")[1], session.to_rgb(target.crop)
    for how in filter(None, (order.how, "gray" if way == "gray" else "")):  # sepia is no colour to keep
        given = WAYS[how](given, np.random.default_rng(0))
    budget = Budget() if order.steps is None else Budget(steps=order.steps)
    image = session.to_tensor(given).to(editor.device)
    inversion = editor.strategies[order.head](editor.generator, image, seed=seed, budget=budget, callback=callback)
    rgb = session.to_rgb(session.synthesise(editor.generator, inversion))
    return inversion, given, kept(way, given, rgb)


def kept(way: str, given: np.ndarray, rgb: np.ndarray) -> np.ndarray:
    """A face that was drawn (S, S, 3) uint8, with what its picture, of the same size, knew for certain."""
    if way == "gray":
        light = (given.astype(np.float32) - rgb.astype(np.float32)) @ LUMA
        return np.clip(np.round(rgb + light[..., None]), 0, 255).astype(np.uint8)
    if way == "half":
        free = uncovered(session.to_tensor(given))(torch.ones(1, 1, *given.shape[:2]))[0, 0].numpy()
        inner = ndimage.minimum_filter(free, 2 * SEAM + 1)
        soft = (free * ndimage.gaussian_filter(inner, SEAM / 3))[..., None]
        return np.round(soft * given + (1 - soft) * rgb).astype(np.uint8)
    return rgb
