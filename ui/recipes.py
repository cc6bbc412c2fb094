"""What is done to recipes: one face's steps set, weighed and weakened, and those of strangers left out that cannot be
drawn here."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from editing.directions.catalogue import Catalogue
from editing.heads import registry
from editing.regions import Masks
from editing.steps import cleaner, pin
from editing.text import edits
from editing.types import Recipe, Step, is_head, latent_step
from stylegan2.errors import UsageError, WeightsMissing


def with_strengths(recipe: Recipe, face: int, strengths: Mapping[str, float], region: str | None, catalogue: Catalogue,
                   disentangle: bool = False) -> Recipe:  # fmt: skip
    """Strengths of named edits and heads in one region of a face, beside what is set elsewhere; 0 takes one out.

    Disentangled where there is such a form on that side, if asked for.  UsageError for a name that there is not.
    """
    steps = list(recipe.steps)
    for name, strength in strengths.items():
        if not (registry.known(name) if is_head(name) else name in catalogue):
            raise UsageError(f"There is no edit '{name}'.")
        step = latent_step(name, strength, face).model_copy(update={"region": region})
        step = cleaner(step, catalogue) if disentangle else step
        places = [i for i, old in enumerate(steps) if _same_edit(old, step)]
        if strength == 0:
            steps = [old for i, old in enumerate(steps) if i not in places]
        elif places:
            steps[places[0]] = step
        else:
            steps.append(step)
    return recipe.model_copy(update={"steps": tuple(steps)})


def weighed(recipe: Recipe, face: int, number: int, strength: float | None) -> Recipe:
    """Another strength for one of a face's steps of text; None takes it out."""
    steps = list(recipe.steps)
    place = [i for i, step in enumerate(steps) if step.op == edits.OP and step.face == face][number]
    step = steps.pop(place)
    if strength is not None:
        steps.insert(place, step.model_copy(update={"parameters": {**step.parameters, "strength": strength}}))
    return recipe.model_copy(update={"steps": tuple(steps)})


def weaker(recipe: Recipe, face: int, factor: float) -> Recipe:
    """Every strength of a face times a factor, rounded to what a slider shows."""

    def weakened(step: Step) -> Step:
        if step.face != face or "strength" not in step.parameters:
            return step
        strength = round(step.strength * factor, 2)
        return step.model_copy(update={"parameters": {**step.parameters, "strength": strength}})

    return recipe.model_copy(update={"steps": tuple(map(weakened, recipe.steps))})


def usable(recipe: Recipe, faces: int, catalogue: Catalogue, masks: Masks) -> Recipe:
    """The steps of a recipe from elsewhere that can be drawn on a photo of so many faces: not those of other faces, of
    edits, versions of edits or painted masks that there are not, or of sentences that nobody has read."""

    def drawn(step: Step) -> list[Step]:
        with suppress(UsageError, WeightsMissing):
            (pinned,) = pin(Recipe(steps=(step,)), catalogue, masks).steps
            read = step.model_copy(update={"parameters": pinned.parameters})
            return [read] if step.face < faces else []
        return []

    return Recipe(steps=tuple(one for step in recipe.steps for one in drawn(step)))


def _same_edit(a: Step, b: Step) -> bool:
    names = a.parameters.get("name"), b.parameters.get("name")
    return (a.op, a.face, a.region, names[0]) == (b.op, b.face, b.region, names[1])
