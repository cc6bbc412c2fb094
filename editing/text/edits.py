"""Edits by text as steps of recipes.

    step = step_of("make her ten years younger and give her red hair")
    step.parameters     # {"text": "make her ...", "wants": {"younger": 0.8, "red_hair": 1.0}, "strength": 1.0}

What was understood stands in the step beside the sentence: a recipe means the same where no sentence encoder is, and
anybody can see and change what the sentence was taken for.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from editing.judges import population
from editing.text import mapper, reading
from editing.text import poles as known
from editing.text.reading import Understanding
from editing.types import Step, finite
from stylegan2.errors import UsageError

OP = "text"
SHOWN = 80  # characters of a sentence in what is said about it


def step_of(text: str, strength: float = 1.0, face: int = 0, region: str | None = None, before: str = "") -> Step:
    """A sentence as a step.  before: how the face is now, where `text` says how it is to be.

    UsageError where it asks for nothing known.
    """
    return taken(text, strength, face, region, before)[0]


def told(
    text: str, strength: float = 1.0, face: int = 0, region: str | None = None, before: str = ""
) -> tuple[Step, list[str]]:
    """The same, and what a person should know of it, see `notes`."""
    step, ignored = taken(text, strength, face, region, before)
    return step, notes(step, ignored)


def taken(
    text: str, strength: float = 1.0, face: int = 0, region: str | None = None, before: str = ""
) -> tuple[Step, tuple[str, ...]]:
    """The same, and the parts of the sentence that were left out; the sentence is read once."""
    found = between(before, text) if plain(before) else reading.load().read(text)
    if not (found.wants or found.age is not None):
        raise UsageError(refused(plain(text), plain(before)))
    parameters: dict[str, Any] = {
        "text": plain(text), "wants": dict(found.wants), "strength": finite(strength, "the text"),
    }  # fmt: skip
    if found.age is not None:
        parameters["age"] = found.age
    return Step(op=OP, parameters=parameters, face=face, region=region), tuple(map(plain, found.ignored))


def split_region(text: str) -> tuple[str, str | None]:
    """'dye the hair red @hair' -> 'dye the hair red', 'hair'"""
    found = re.fullmatch(r"(.*\S)\s+@([\w~+|.-]+)\s*", text, re.DOTALL)
    return (found[1], found[2]) if found else (text, None)


def notes(step: Step, ignored: Sequence[str]) -> list[str]:
    """What a person should know of a sentence: what it was taken for, and what of it means nothing here."""
    left = "; ".join(f"'{part}'" for part in ignored)
    return [f"understood: {phrase(step)}"] + ([f"note: left out, since I cannot change it: {left}"] if left else [])


def refused(text: str, before: str = "") -> str:
    """What is said of a sentence that asks for nothing known."""
    if before:
        return f"Between '{before[:SHOWN]}' and '{text[:SHOWN]}' there is no difference that I know."
    short = plain(text)
    short = short if len(short) <= SHOWN else f"{short[: SHOWN - 3]}..."
    if not short:
        return "There is no text: say what to change, for example 'make her smile'."
    return (
        f"Nothing in this sentence is something I can change: '{short}'. I can change age, expression, pose, hair, "
        "eyes, brows, lips, skin, beard, make-up, glasses, face shape, light, colours and background."
    )


def between(before: str, after: str) -> Understanding:
    """What is to change from one description to another: what only the second says, and the opposite of what only the
    first says."""
    reader = reading.load()
    was, is_to_be = reader.read(before), reader.read(after)
    wants = {name: amount for name, amount in is_to_be.wants.items() if name not in was.wants}
    said = {judge for name in is_to_be.wants for judge in known.load()[name].judges}
    said |= {"age"} if is_to_be.age is not None else set()
    for name, amount in was.wants.items():
        opposite = known.load()[name].opposite
        if name not in is_to_be.wants and opposite and not said & set(known.load()[opposite].judges):
            wants[opposite] = amount
    return Understanding(wants, is_to_be.ignored, is_to_be.age)


def checked(step: Step) -> tuple[dict[str, float], float | None]:
    """What a step of text wants, and the age it names.  UsageError if that is no such step's."""
    wants, age = step.parameters.get("wants"), step.parameters.get("age")
    if wants is None and age is None:
        raise UsageError("A text step of this recipe does not say what it wants: read it with editing.text first.")
    if wants is not None and not isinstance(wants, Mapping):
        raise UsageError("What a text step wants is a list of names with amounts, for example {'smiling': 1}.")
    found = {mapper.checked(str(name)).name: finite(amount, str(name)) for name, amount in (wants or {}).items()}
    for name, amount in found.items():
        if abs(amount) > mapper.FARTHEST * 2:
            raise UsageError(f"'{name}' of a text step is to be {amount:g}: amounts are 1 or so.")
    years = None if age is None else finite(age, "age")
    if years is not None and not 0 <= years <= 120:
        raise UsageError(f"A face cannot look {years:g} years old.")
    return found, years


def sha256() -> str:
    """Of all that decides what a text step does: the mapper, what poles mean, and the judges' units."""
    poles = {name: [dict(pole.wants), dict(pole.level)] for name, pole in known.load().items()}
    facts = json.dumps([mapper.load().sha256, poles, population.load()], sort_keys=True)
    return hashlib.sha256(facts.encode()).hexdigest()


def plain(text: str) -> str:
    """A sentence as it is kept: no more than is read of it, in characters that every file can hold."""
    lines = re.sub(r"\s*\n\s*", ". ", text[: reading.LONGEST].strip())
    kept = "".join(c if c.isprintable() else " " for c in lines)
    return " ".join(kept.encode("utf-8", "replace").decode().split())


def completed(step: Step) -> Step:
    """A step of text with what its sentence wants, where it gives a sentence alone."""
    if "wants" in step.parameters or "age" in step.parameters:
        return step
    text = step.parameters.get("text")
    if not isinstance(text, str):
        raise UsageError("A text step needs its text.")
    made = step_of(text, step.strength, step.face, step.region)
    return made.model_copy(update={"direction_sha256": step.direction_sha256, "seed": step.seed})


def phrase(step: Step) -> str:
    """A text step in a few words: 'younger 0.8, red hair'."""
    wants, age = checked(step)
    words = [name.replace("_", " ") + (f" {amount:g}" if amount != 1 else "") for name, amount in wants.items()]
    return ", ".join([*words, *([f"{age:g} years old"] if age is not None else [])])
