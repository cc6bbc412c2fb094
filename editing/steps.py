"""Steps: what is done to a face, before anything is drawn.

A step of a recipe names an edit, its strength and perhaps a region; here it becomes a change of the inversion.  Steps
of one region make a layer, which `editing.session` draws and mixes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from editing import regions
from editing.types import Inversion, Recipe, Scene, Step
from stylegan2 import console
from stylegan2.errors import UsageError
from stylegan2.generator import Generator

Catalogue = Mapping[str, Any]  # name -> Direction (editing.directions)


def direction(catalogue: Catalogue, name: str) -> Any:
    """The named direction.  UsageError, with the nearest name, if there is none."""
    if name not in catalogue:
        raise UsageError(console.unknown("edits", name, catalogue))
    return catalogue[name]


def direction_sha256(chosen: Any) -> str:
    """The identity of a direction: sha256 over its rows and its float32 numbers, whatever file it came from, or over
    what it says to be, where it is computed (another processor computes other last bits)."""
    if identity := getattr(chosen, "identity", ""):
        return hashlib.sha256(identity.encode()).hexdigest()
    vector, styles = torch.as_tensor(chosen.vector), getattr(chosen, "styles", None) or {}
    digest = hashlib.sha256(f"{tuple(chosen.rows)} {tuple(vector.shape)} ".encode() + _bytes(vector))
    for name in sorted(styles):
        digest.update(f" {name} {tuple(styles[name].shape)} ".encode() + _bytes(styles[name]))
    return digest.hexdigest()


def _bytes(numbers: Tensor) -> bytes:
    return torch.as_tensor(numbers).detach().cpu().float().contiguous().numpy().tobytes()


def latent(inversion: Inversion, step: Step, catalogue: Catalogue) -> Inversion:
    """ws + strength * direction, on the rows that the direction names; its changes of styles follow in `restyled`."""
    from editing import directions

    checked_sha256(step, catalogue)
    return replace(inversion, ws=directions.apply(inversion.ws, chosen(step, catalogue), step.strength))


def chosen(step: Step, catalogue: Catalogue) -> Any:
    """The direction of a latent step, in its disentangled form where the step says so.  UsageError if there is none."""
    from editing import directions

    found = direction(catalogue, str(step.parameters.get("name", "")))
    return directions.disentangled(found, step.strength) if step.parameters.get("disentangle") else found


def cleaner(step: Step, catalogue: Catalogue) -> Step:
    """The step of an edit or a head, in its disentangled form where there is one on that side of 0."""
    clean = getattr(catalogue.get(str(step.parameters.get("name", ""))), "clean", None)
    if clean is None or not bool(clean[int(step.strength > 0)].any()):
        return step
    return step.model_copy(update={"parameters": {**step.parameters, "disentangle": True}})


def checked_sha256(step: Step, catalogue: Catalogue) -> str:
    """The sha256 of a latent step's direction.  UsageError if the step was pinned to another one."""
    name = str(step.parameters.get("name", ""))
    form, sides = chosen(step, catalogue), getattr(direction(catalogue, name), "clean", None)
    if step.parameters.get("disentangle") and sides is not None:  # both sides of 0: the strength may be changed
        form = replace(form, vector=sides)
    found = direction_sha256(form)
    check_pin(step, found)
    return found


def check_pin(step: Step, found: str) -> None:
    """UsageError if the step was pinned to another version of its direction or head than this sha256's."""
    if step.direction_sha256 not in ("", found):
        raise UsageError(
            f"This recipe was made with another version of '{step.parameters.get('name', step.op)}': "
            "remove its direction_sha256 to use the one that is here."
        )


def head(inversion: Inversion, step: Step, catalogue: Catalogue) -> Inversion:
    """What a translation head makes of the code, times the strength; offsets and features stay."""
    if reads(step):
        raise UsageError(f"{step.parameters['name']} reads the face's picture: this recipe needs the whole editor.")
    return replace(inversion, ws=checked_head(step)(inversion.ws, step.strength))


def reads(step: Step) -> bool:
    """Whether a step is a head that reads pictures, and with them the generator is needed."""
    from editing.heads.pictures import PictureHead

    return step.op == "head" and isinstance(checked_head(step), PictureHead)


def checked_head(step: Step) -> Any:
    """The head of a step.  UsageError if there is none, or the step was pinned to another version of it."""
    from editing.heads import registry

    found = registry.find(str(step.parameters.get("name", "")))
    check_pin(step, found.sha256)
    return found


def paints(step: Step) -> bool:
    """Whether a step is a head that changes the shape of a part, and with it the map of the face."""
    return step.op == "head" and bool(getattr(checked_head(step), "paints", None))


def region_of(step: Step) -> str | None:
    """Where a step is to be seen: what it says, or where the instance of its head is."""
    if step.region is None and step.op == "head":
        return getattr(checked_head(step), "region", None)
    return step.region


def text(inversion: Inversion, step: Step, catalogue: Catalogue) -> Inversion:
    """What a sentence asks for, times the strength; offsets and features stay."""
    from editing.text import edits, mapper

    check_pin(step, edits.sha256())
    wants, age = edits.checked(step)
    return replace(inversion, ws=mapper.load()(inversion.ws, wants, step.strength, age))


OPS: dict[str, Callable[[Inversion, Step, Catalogue], Inversion]] = {"latent": latent, "head": head, "text": text}
DRAG = "drag"  # needs the generator, and comes before all others: see `layers` and `editing.dragging`
PLACES = ("paint", "boxes")  # need it, too: see `editing.spatial`


def known(step: Step) -> bool:
    """Whether it is done to an inversion here; `editing.heads.distilled` writes others."""
    return step.op in (*OPS, DRAG, *PLACES)


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


def pin(recipe: Recipe, catalogue: Catalogue, masks: regions.Masks = MappingProxyType({})) -> Recipe:
    """The recipe with the sha256 of every direction it uses.

    UsageError, before anything slow starts, for operations, names and regions that do not exist, for masks that are
    not among these, and for other versions.
    """

    def pinned(step: Step) -> Step:
        if not known(step):
            raise UsageError(console.unknown("operations", step.op, [*OPS, DRAG, *PLACES]))
        if step.op == DRAG:
            checked_drag(step)
        if step.op in PLACES:
            checked_place(step)
        if step.region is not None:
            regions.check(step.region, masks)
        if step.op == "head":
            return step.model_copy(update={"direction_sha256": checked_head(step).sha256})
        if step.op == "text":
            return checked_text(step)
        if step.op != "latent":
            return step
        return step.model_copy(update={"direction_sha256": checked_sha256(step, catalogue)})

    return recipe.model_copy(update={"steps": tuple(map(pinned, recipe.steps))})


@dataclass(frozen=True)
class Layer:
    """A face after all steps that reach all of this region: its own, those of larger regions, and those of none.
    region None: after those of none."""

    region: str | None
    inversion: Inversion


def restyled(generator: Generator, layer: Layer, steps: Sequence[Step], catalogue: Catalogue) -> Layer:
    """The layer with what its steps add to styles, as weight offsets for the code that all its steps have made.

    Together and last, so that their order does not matter.  UsageError for a style that the generator does not have.
    """
    used = [s for s in steps if s.op == "latent" and s.strength and regions.covers(s.region, layer.region)]
    found = [(getattr(chosen(s, catalogue), "styles", None), s.strength) for s in used]
    if not any(styles for styles, _ in found):
        return layer
    from editing.directions import stylespace

    change = stylespace.total((styles, strength) for styles, strength in found if styles)
    return replace(layer, inversion=stylespace.added(generator, layer.inversion, change))


def same(a: str, b: str) -> bool:
    """Are two regions one, however they are written?"""
    return regions.covers(a, b) and regions.covers(b, a)


def checked_drag(step: Step) -> None:
    """UsageError if a drag step's points are none, or it is limited to a region."""
    from editing import dragging

    dragging.checked(step.parameters.get("points"))
    if step.region is not None:
        raise UsageError("Dragging moves the whole face: it cannot be limited to a region.")


def checked_text(step: Step) -> Step:
    """A step of text, read and pinned.  UsageError if it asks for nothing known, or was pinned to another mapper."""
    from editing.text import edits

    check_pin(step, edits.sha256())
    complete = edits.completed(step)
    wants, age = edits.checked(complete)
    found = {"wants": wants} | ({} if age is None else {"age": age})
    if isinstance(complete.parameters.get("text"), str):
        found["text"] = edits.plain(complete.parameters["text"])
    parameters = complete.parameters | found
    return complete.model_copy(update={"parameters": parameters, "direction_sha256": edits.sha256()})


def checked_place(step: Step) -> None:
    """UsageError if a step that paints or moves parts is none."""
    from editing import spatial

    spatial.checked(step)


def layers(inversion: Inversion, steps: Sequence[Step], catalogue: Catalogue,
           dragged: Any = None) -> list[Layer]:  # fmt: skip
    """Steps -> the face without regions, then a layer for every region: larger ones first, so that lips within a face
    are drawn last, else in the order in which they are named.

    dragged: an `editing.dragging.Drags`, for what needs the generator.  Steps that drag points come first, wherever
    they stand, so that their points are those of the unedited face, and what is set beside them can change without
    dragging again; heads that read a picture are shown that of this face, before all other steps.  Steps that paint and
    move parts are planned on this face, too, together, and carried out on what the other steps make of it.
    """
    drags = [step for step in steps if step.op == DRAG and step.strength]
    if drags:
        if dragged is None:
            raise UsageError("Points cannot be dragged here: this recipe needs the whole editor.")
        inversion = dragged(inversion, drags)
    steps = [step.model_copy(update={"region": region_of(step)}) for step in steps if step.op != DRAG]
    named = dict.fromkeys(step.region for step in steps if step.strength and step.region is not None)
    places = [step for step in steps if (step.op in PLACES or paints(step)) and step.strength]
    if places and dragged is None:
        raise UsageError("Parts cannot be painted or moved here: this recipe needs the whole editor.")
    steps = [step for step in steps if step.op not in PLACES and not paints(step)]
    read = [dragged.read(inversion, checked_head(s)) if dragged and s.strength and reads(s) else None for s in steps]
    distinct = [r for i, r in enumerate(named) if not any(same(r, other) for other in list(named)[:i])]
    outer_first = sorted(distinct, key=lambda region: -sum(regions.covers(region, other) for other in distinct))
    found = []
    for region in [None, *outer_first]:
        edited = inversion
        for step, added in zip(steps, read, strict=True):
            if regions.covers(step.region, region) and added is not None:
                edited = replace(edited, ws=edited.ws + step.strength * added)
            elif regions.covers(step.region, region):
                edited = apply_step(edited, step, catalogue)
        mine = [step for step in places if regions.covers(step.region, region)]
        found.append(Layer(region, dragged.placed(edited, dragged.plan(inversion, mine)) if mine else edited))
    return found
