"""What the judges say of the real picture: is it still the person, and what else changed?"""

from __future__ import annotations

import math

import streamlit as st

from editing.judges.judge import SAME_PERSON
from editing.text.edits import OP
from editing.types import Step
from ui import page, saying
from ui.refining import told


def show(state) -> None:
    """Is it still the person, and what else changed?  Once the real picture is there."""
    if state.work.result is None or state.work.result[0] != state.stamp:
        return
    result = state.work.result[1]
    if not result.edit.changed:
        return
    st.markdown(f"**{page.say('identity')}**")
    if math.isnan(result.distance):
        st.warning(page.say("identity.lost"))
    else:
        kind = "same" if result.distance < SAME_PERSON else "other"
        st.progress(max(0.0, 1 - result.distance / (2 * SAME_PERSON)),
                    text=page.say(f"identity.{kind}", distance=f"{result.distance:.2f}"))  # fmt: skip
    targets = [judge for step in state.studio.steps() for judge in targeted(state, step)]
    others = told(result.moved, targets)[:6]
    st.markdown(f"**{page.say('else')}**")
    text = ", ".join(f"{page.name_of('judge', name)} {value:+.1f} σ" for name, value in others)
    st.caption(text or page.say("else.nothing"))
    with st.expander(page.say("whole")):
        st.image(page.smaller(result.edit.photo.rgb, 1600), width="stretch")


def targeted(state, step: Step) -> list[str]:
    if step.op == OP:
        return saying.aims(step)
    direction = state.studio.engine.catalogue.get(step.parameters.get("name"))
    return [direction.judge] if direction else []
