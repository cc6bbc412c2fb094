"""The faces of a photo as a set of instances, translated one after the other (InstaGAN on the latents).

    result, recipe = translated(editor, photo, {"instagan:bare2glasses": 1.0})

InstaGAN (Mo et al., arXiv 1812.10889, section 2.3) translates a set's instances in small batches, so that memory does
not grow with the set.  Here every face is inverted, changed within its instance's mask, put back and forgotten.  Each
begins from the photo as it was given, and where two of them reach the same pixels, the one further to the right wins:
so the order in which they are taken is of no account.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from editing.faces import align, detect
from editing.faces import photo as photos
from editing.session import Editor, Target, to_tensor
from editing.types import Recipe, latent_step
from stylegan2.errors import NoFaceFound

Progress = Callable[[int, int, str], bool | None]


def translated(editor: Editor, photo: photos.Photo, heads: Mapping[str, float], *, faces: Sequence[int] | None = None,
               method: str = "auto", callback: Progress | None = None) -> tuple[photos.Photo, Recipe]:  # fmt: skip
    """The photo with these faces (default: all, numbered as `detect.find_faces` has them) after heads and their
    strengths; samples that no face changed are the photo's own.  NoFaceFound, UsageError.

    callback(step, total, 'invert') as in inversions, of every face anew.
    """
    found = detect.find_faces(photo.rgb)
    if not found:
        raise NoFaceFound(f"No face found in {photo.name}.")
    chosen = range(len(found)) if faces is None else faces
    for number in chosen:
        detect.choose(found, number, photo.name)
    result, recipe = None, Recipe()
    for number in sorted(set(chosen), key=lambda n: (found[n].quad.mean(0)[0], n)):
        one = Editor(editor.generator, catalogue=editor.catalogue, strategies=editor.strategies, device=editor.device)
        face = found[number]
        crop = to_tensor(align.crop(photo.rgb, face.quad, editor.generator.resolution))
        target = Target(face.quad, face.landmarks, crop)
        one.set_photo(photo, face=number, method=method, target=target, callback=callback)
        steps = tuple(latent_step(name, strength, number) for name, strength in heads.items())
        edit = one.edit(Recipe(steps=steps))
        recipe = recipe.then(*edit.recipe.steps).model_copy(
            update={"family": edit.recipe.family, "generator_sha256": edit.recipe.generator_sha256,
                    "photo_sha256": edit.recipe.photo_sha256, "inversion": edit.recipe.inversion}
        )  # fmt: skip
        if edit.changed and edit.photo is not photo:
            result = merged(photo, result, edit.photo)
    return (photo if result is None else result), recipe


def merged(photo: photos.Photo, result: photos.Photo | None, edited: photos.Photo) -> photos.Photo:
    """What another edit of the photo changed, laid over the result."""
    if result is None:
        return replace(edited, samples=edited.samples.copy())
    same_kind = edited.mode == photo.mode  # a palette has become colours otherwise
    changed = (edited.samples != photo.samples if same_kind else edited.rgb != photo.rgb).any(-1)
    result.samples[changed] = edited.samples[changed]
    return result
