"""Drag points of the face: click where something is, then where it should be (`editing.dragging`)."""

from __future__ import annotations

import streamlit as st

from ui import page
from ui.views import edit, verdict


def show() -> None:
    if edit.ready():
        page.working("drag", page.say("points.running"), done)
        dragging()


@st.fragment
def dragging() -> None:
    state = page.session()
    if state.pop("dropped", False):
        st.rerun()  # the whole page: progress is shown above
    if not edit.ready():
        return
    with st.container(key="desk"):
        picture, panel = st.columns([6, 5], gap="large")
    with picture, st.container(key="picture"):
        edit.viewer(state, "points", key="points-viewer", more={"busy": "drag" in state.jobs},
                    acts={"points": dropped})  # fmt: skip
    with panel:
        st.caption(page.say("points.help"))
        edit.steps(state)
        with st.container(key="verdict"):
            page.messages()
            verdict.show(state)


def dropped(points: list[list[float]]) -> None:
    """Pairs of points came from the picture.  While others are dragged none can (the page says so): the marks stay."""
    state = st.session_state
    if "drag" not in state.jobs:
        page.begun("drag", state.studio.drag(points))
        state.dropped = True


def done(_) -> None:
    st.session_state.points += 1  # clears what was dragged
    page.changed()
