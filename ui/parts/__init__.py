"""The parts of the page that Streamlit has no widget for: sliders, the picture and what is done on it, faces to choose
from, a palette of labels, a list of places, a list of sentences.

Plain HTML, CSS and JavaScript from this folder, mounted as components (version 2); nothing is fetched from anywhere.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import streamlit as st

NAMES = ("sliders", "viewer", "faces", "palette", "places", "sayings")
HTML = {"sliders": '<div class="sliders"></div>', "faces": '<div class="faces"><img draggable="false"></div>',
        "places": '<table class="places"></table>', "sayings": '<div class="sayings"></div>'}  # fmt: skip
MORE = {
    "sliders": ("outbox.js",),
    "viewer": ("outbox.js", "labels.js", "boxes.js", "tools.css"),
    "places": ("outbox.js", "boxes.js"),
    "sayings": ("outbox.js", "sliders.css"),
}  # used, too


@cache
def _text(name: str) -> str:
    return Path(__file__).with_name(name).read_text("utf-8")


def mount(name: str):
    """The component of that name (`NAMES`), to be called with key, data and callbacks."""
    html = HTML[name] if name in HTML else _text(f"{name}.html")
    css, js = (
        "\n".join(_text(file) for file in (*MORE.get(name, ()), f"{name}.{kind}") if file.endswith(f".{kind}"))
        for kind in ("css", "js")
    )
    return st.components.v2.component(f"wplus_{name}", html=html, css=css, js=js)
