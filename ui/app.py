"""The editor in a browser:  streamlit run ui/app.py

Photo in, edited photo out.  This file is the frame around the views in `ui/views`; a user's work is a `Studio`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

if (root := str(Path(__file__).resolve().parents[1])) not in sys.path:  # started from a checkout that is not installed
    sys.path.insert(0, root)

import streamlit as st

from ui import page, saying, words
from ui.opening import MAX_BYTES
from ui.views import batch, boxes, edit, links, mix, paint, photo, points, save

ANYWHERE = "WPLUS_UI_ANYWHERE"
VIEWS = {"photo": photo.show, "edit": edit.show, "paint": paint.show, "boxes": boxes.show, "points": points.show,
         "mix": mix.show, "save": save.show, "batch": batch.show}  # fmt: skip
KEPT = ("lock", "clean", "region")  # switches of the editing view
STYLE = """
<style>
.block-container { padding-top: 4rem; max-width: 88rem; }
[data-testid="stStatusWidget"] { display: none; }  /* its animation takes cores from what is being waited for */
.st-key-sentence [data-testid="InputInstructions"] { display: none; }  /* in English, whatever the page speaks */
[data-testid="stFileUploaderDropzone"] button :is(p, [data-testid="stMarkdownContainer"]:not(:has(p))),
[data-testid="stFileUploaderDropzoneInstructions"] span { font-size: 0 !important; }  /* in English, too: told anew */
[data-testid="stFileUploaderDropzone"] button p::after { content: "%(upload)s"; font-size: 0.875rem; }
[data-testid="stFileUploaderDropzoneInstructions"] > *::after { content: "%(each)s"; font-size: 0.875rem; }
[data-stale="true"] { opacity: 1 !important; transition: none !important; }
@media (max-width: 640px) {  /* one column: the picture stays in sight, what the judges say comes last */
  .block-container { padding: 4rem 0.8rem 2rem; }
  .st-key-desk [data-testid="stColumn"], .st-key-desk [data-testid="stColumn"] > div { display: contents; }
  .st-key-desk [data-testid="stHorizontalBlock"] { row-gap: 1rem; }
  [data-testid="stLayoutWrapper"]:has(> .st-key-picture) { position: sticky; top: 3.2rem; z-index: 5; order: -2; }
  [data-testid="stLayoutWrapper"]:has(> .st-key-tools) { order: -1; }
  [data-testid="stLayoutWrapper"]:has(> .st-key-verdict) { order: 9; }
}
</style>
"""


def main() -> None:
    st.set_page_config(page_title="wplus", page_icon="🙂", layout="wide")
    if not page.alone() and not os.environ.get(ANYWHERE):
        st.error(
            f"This editor is for the person at this machine. Start it with: wplus ui ({ANYWHERE}=1 serves a network.)"
        )
        st.stop()
    state = page.session()
    if "asked" not in state:  # what the link says, once
        state.asked = True
        state.lang = st.query_params.get("lang", state.lang)
        state.lang = state.lang if state.lang in words.languages() else "en"
        with page.told():
            if links.address() != state.work.shared:  # else the work is here already
                links.from_link(st.query_params.get("edits", ""))
                if state.studio.inversion is not None and state.studio.linked:
                    state.studio.adopt()
    st.html(STYLE % {"upload": page.say("upload"), "each": page.say("upload.each", size=MAX_BYTES >> 20)})
    sidebar(state)
    st.caption(page.say("claim"))
    for name in KEPT:  # Streamlit forgets what is not drawn in this view
        if name in state:
            state[name] = state[name]
    if "goto" in state:  # a widget's value can only be set before it is drawn
        state.view = state.pop("goto")
    st.segmented_control("view", list(VIEWS), key="view", format_func=lambda view: page.say(f"tab.{view}"),
                         label_visibility="collapsed", required=True)  # fmt: skip
    page.messages()
    VIEWS[state.view]()


def sidebar(state) -> None:
    with st.sidebar:
        st.subheader(page.say("settings"))
        names = words.languages()
        st.selectbox(page.say("interface"), list(names), key="lang", format_func=names.get, on_change=remember)
        if len(state.studio.opened) > 1:
            st.caption(page.say("opened"))
            for opened in reversed(list(state.studio.opened.values())):
                if st.button(page.plain(opened.photo.name), key=f"again-{opened.photo.sha256[:16]}", width="stretch"):
                    state.studio.enter(opened)
                    state.work.opening = None
                    page.changed()
                    st.rerun()
        st.button(page.say("forget"), help=page.say("forget.help"), icon=":material/delete:", width="stretch",
                  on_click=forget, key="forget")  # fmt: skip
        st.caption(page.say("kind"))
        st.caption(page.say("limits"))


def remember() -> None:
    st.query_params["lang"] = st.session_state.lang


def forget() -> None:
    """Every trace of a user's photos: what the studio holds, pictures, files that were made, and running work."""
    state = st.session_state
    state.work.forget()
    kept = ("lang", "asked", "work", "studio", "jobs", "files", "tab", "uploads", "stamp")
    for name in [name for name in state if name not in kept]:
        del state[name]
    page.session()
    state.uploads += 1
    state.news = page.say("forgotten")
    page.changed()
    for name in ("edits", saying.SAY, saying.MEANT):
        st.query_params.pop(name, None)


main()
