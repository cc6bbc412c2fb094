"""The edits of an address, so that they can be kept and sent: no photo is in it."""

from __future__ import annotations

from itertools import islice, zip_longest

import streamlit as st

from editing.heads import registry
from editing.plans import split_region, step_of
from editing.text.edits import OP
from editing.types import Recipe, finite, is_head
from ui import saying

SLIDING = ("latent", "head")  # steps that are one strength


def share(state) -> None:
    """The edits of the address, so that it can be kept: no photo is in it."""
    steps = [s for s in state.studio.steps() if s.op in (*SLIDING, OP) and not (s.region or "").startswith("mask:")]
    text = ",".join(
        f"{s.parameters.get('name', saying.SAY)}:{s.strength:g}" + (f"@{s.region}" if s.region else "")
        + ("~" if s.parameters.get("disentangle") else "") for s in steps
    )  # fmt: skip
    linked = [saying.linked(step) for step in steps if step.op == OP]
    said, meant = zip(*linked, strict=True) if linked else ((), ())
    for name, value in {"edits": text, saying.SAY: said, saying.MEANT: meant}.items():
        if value:
            st.query_params[name] = value
        else:
            st.query_params.pop(name, None)
    state.work.shared = address()


def address() -> tuple:
    """What the address says of edits."""
    return tuple(tuple(st.query_params.get_all(name)) for name in ("edits", saying.SAY, saying.MEANT))


def from_link(text: str) -> None:
    """The edits of an address wait for the first face; names that there are not are left out.  UsageError for a number
    that is none."""
    studio, steps = st.session_state.studio, []
    sentences, meant = (st.query_params.get_all(name) for name in (saying.SAY, saying.MEANT))
    said = iter(zip_longest(sentences, meant[: len(sentences)], fillvalue=""))
    for part in filter(None, text.split(",")[:64]):
        name, _, value = part.rstrip("~").rpartition(":")  # names of heads have a colon of their own
        value, place = split_region(value, None)
        if name == saying.SAY:
            steps += [saying.from_link(*each, finite(value, name), place) for each in islice(said, 1)]
        elif registry.known(name) if is_head(name) else name in studio.engine.catalogue:
            clean = part.endswith("~") and not is_head(name)
            steps.append(step_of(name, finite(value, name), 0, place, clean))
    if steps:
        studio.waiting = Recipe(steps=tuple(steps))
