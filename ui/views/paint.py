"""Paint labels into the map of the face's parts: the face becomes what the map says (`editing.spatial`)."""

from __future__ import annotations

import base64

import numpy as np
import streamlit as st

from editing.heads.maps import SIDE
from editing.judges.parsing.labels import CLASSES, PALETTE
from editing.spatial import NOTHING
from stylegan2.errors import UsageError
from ui import page
from ui.views import edit, verdict

FIRST = "hair"  # what the brush paints until another label is chosen
COLOURS = [[int(value) for value in colour] for colour in PALETTE]
ORDER = ("hair", "brows", "eyes", "glasses", "nose", "upper_lip", "mouth", "lower_lip", "ears", "skin", "neck",
         "clothes", "background")  # fmt: skip


def show() -> None:
    if edit.ready():
        painting()


@st.fragment
def painting() -> None:
    state = page.session()
    if not edit.ready():
        return
    with st.container(key="desk"):
        picture, panel = st.columns([6, 5], gap="large")
    with picture, st.container(key="picture"):
        canvas(state)
    with panel:
        st.caption(page.say("paint.help"))
        edit.steps(state)
        with st.container(key="tools"):
            palette()
        with st.container(key="verdict"):
            page.messages()
            verdict.show(state)


def palette() -> None:
    chips = [
        {"label": CLASSES.index(name), "name": page.say(f"label.{name}"), "colour": COLOURS[CLASSES.index(name)]}
        for name in ORDER
    ]
    chips.append({"label": NOTHING, "name": page.say("paint.eraser"), "colour": None})
    words = {name: page.say(f"paint.{name}") for name in ("chips", "size", "keys")}
    page.components()["palette"](key="palette", data={"chips": chips, "first": CLASSES.index(FIRST), "words": words})


def canvas(state) -> None:
    words = {name: page.say(f"paint.{name}") for name in ("over", "map", "apply", "applying", "unstroke")}
    with page.told():
        own, painted = (coded(labels) for labels in (state.studio.map("paint"), state.studio.labels()))
        more = {"ground": edit.ground(state), "labels": {"own": own, "painted": painted, "palette": COLOURS}}
        edit.viewer(state, "labels", key="paint-viewer", more={**more, "words": words}, acts={"labels": applied})


def applied(text: str) -> None:
    """Labels came from the picture."""
    st.session_state.studio.label(decoded(text))
    page.changed()


def coded(labels: np.ndarray) -> str:
    """(SIDE, SIDE) uint8 -> text for the page."""
    return base64.b64encode(labels.tobytes()).decode()


def decoded(text: str) -> np.ndarray:
    """What `coded` made.  UsageError for anything else."""
    try:
        data = base64.b64decode(str(text), validate=True)
        return np.frombuffer(data, np.uint8).reshape(SIDE, SIDE)
    except ValueError:
        raise UsageError("This is no map of a face's parts.") from None
