"""What is behind the text box: sentences and what they were taken for, as rows of the page and as parts of a link.

    ?edits=smile:1.5,say:0.8@hair&say=give+her+red+hair&meant=red_hair:1

In a link the sentences stand apart, in the order of their places among the edits; what was understood goes with them,
so that a link means the same where no sentence encoder is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from editing.text import edits, poles
from editing.types import Step, finite
from encoders import sentence
from stylegan2 import zoo
from stylegan2.errors import WeightsMissing

SAY, MEANT = "say", "meant"  # of a link
LONGEST = 300  # characters that the box takes
SHOWN = 200  # of a sentence on the page: a stranger's recipe may have a longer one
AGE = "age"  # is no pole: years that the face is to look
STRONGEST, SAFE = 1.5, 1.0


def lacking() -> str:
    """The command that fetches the sentence encoder, '' where it is here; nothing is loaded."""
    try:
        zoo.path(sentence.RECORD)
    except WeightsMissing:
        return "wplus zoo fetch"
    return ""


def heard(text: str, face: int, region: str | None) -> tuple[Step, tuple[str, ...]]:
    """A sentence as a step, and what of it was left out.  UsageError where it asks for nothing known."""
    return edits.taken(text, face=face, region=region)


def shown(text: str) -> str:
    """A sentence, or its beginning where it is too long for a row."""
    text = " ".join(text.split())
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def rows(steps: Sequence[Step], chip: Callable[[str, float], str], place: Callable[[str], str]) -> list[dict]:
    """Steps of text as the page shows them; chip(pole or `AGE`, amount), place(region) -> words."""
    found = []
    for number, step in enumerate(steps):
        chips = [chip(name, amount) for name, amount in understood(step)]
        where = "" if step.region is None else place(step.region)
        text = str(step.parameters.get("text", ""))
        found.append({"row": number, "text": shown(text), "chips": chips, "where": where, "value": step.strength})
    return found


def understood(step: Step) -> list[tuple[str, float]]:
    """What a sentence was taken for: poles with amounts, `AGE` with years."""
    wants, age = edits.checked(step)
    return [*wants.items(), *([(AGE, age)] if age is not None else [])]


def aims(step: Step) -> list[str]:
    """The judges that a step of text is about."""
    return [judge for name, _ in understood(step) for judge in ((AGE,) if name == AGE else poles.load()[name].judges)]


def linked(step: Step) -> tuple[str, str]:
    """A step of text as its sentence and what it was taken for, 'younger:0.8,red_hair:1'."""
    meant = ",".join(f"{name}:{amount:g}" for name, amount in understood(step))
    return edits.plain(str(step.parameters.get("text", ""))) or "-", meant


def from_link(text: str, meant: str, strength: float, region: str | None) -> Step:
    """What `linked` took apart; without `meant` the sentence will be read.  UsageError for numbers that are none."""
    parameters: dict = {"text": edits.plain(text), "strength": strength}
    if meant:
        parts = [part.rpartition(":") for part in meant.split(",")[:64]]
        amounts = {name: finite(value, name) for name, _, value in parts}
        age = amounts.pop(AGE, None)
        parameters |= {"wants": amounts} | ({} if age is None else {"age": age})
    return Step(op=edits.OP, parameters=parameters, region=region)
