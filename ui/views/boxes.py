"""Move and scale parts of the face by their boxes: on the picture, or in a list of numbers (`editing.spatial`)."""

from __future__ import annotations

import streamlit as st

from editing.heads.repaint import BENEATH
from editing.judges.parsing.labels import CLASSES
from ui import page, placing
from ui.views import edit, verdict
from ui.views.paint import COLOURS

ORDER = ("left_eyes", "right_eyes", "left_brows", "right_brows", "nose", "mouth", "glasses", "left_ears", "right_ears",
         "hair", "neck", "clothes")  # fmt: skip


def show() -> None:
    if edit.ready():
        moving()


@st.fragment
def moving() -> None:
    state = page.session()
    if not edit.ready():
        return
    parts = []
    with page.told():
        parts = listed(state.studio.parts())
    with st.container(key="desk"):
        picture, panel = st.columns([6, 5], gap="large")
    with picture, st.container(key="picture"):
        words = {name: page.say(f"boxes.{name}") for name in ("over", "home", "keys", "place")}
        with page.told():
            more = {"ground": edit.ground(state), "boxes": {"parts": parts, "seen": page.seen("boxes-viewer", "boxes")}}
            edit.viewer(state, "boxes", key="boxes-viewer", more={**more, "words": words},
                        on_boxes_change=lambda: moved("boxes-viewer"))  # fmt: skip
    with panel:
        st.caption(page.say("boxes.help"))
        edit.steps(state)
        page.components()["places"](
            key="places", on_boxes_change=lambda: moved("places"),
            data={"parts": parts, "seen": page.seen("places", "boxes"), "place": page.place(), "words": {
                name: page.say(f"boxes.{name}") for name in ("part", "right", "down", "size", "reset")}},
        )  # fmt: skip
        with st.container(key="verdict"):
            page.messages()
            verdict.show(state)


def listed(parts: dict[str, placing.Part]) -> list[dict]:
    """Parts as the page shows them; thin: what lies behind the inner face."""
    found = []
    for name, part in ((name, parts[name]) for name in ORDER if name in parts):
        kind = name.removeprefix("left_").removeprefix("right_")
        found.append(
            {"name": name, "label": page.say(f"part.{name}"), "home": list(part.home), "box": list(part.box),
             "thin": kind in BENEATH, "colour": COLOURS[CLASSES.index(placing.SHADE.get(kind, kind))]}
        )  # fmt: skip
    return found


def moved(key: str) -> None:
    """Boxes came from the picture or the list: {part: [x, y, width, height], or None to bring it back}."""
    with page.told():
        for _, changes in page.changes(key, "boxes"):
            st.session_state.studio.move(changes)
            page.changed()
