"""The three parts of the page that Streamlit has no widget for: sliders, the picture, faces to choose from.

Plain HTML, CSS and JavaScript from this folder, mounted as components (version 2); nothing is fetched from anywhere.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import streamlit as st

HTML = {"sliders": '<div class="sliders"></div>', "faces": '<div class="faces"><img draggable="false"></div>'}


@cache
def _text(name: str) -> str:
    return Path(__file__).with_name(name).read_text("utf-8")


def mount(name: str):
    """The component of that name ('sliders', 'viewer', 'faces'), to be called with key, data and callbacks."""
    html = HTML[name] if name in HTML else _text(f"{name}.html")
    return st.components.v2.component(f"wplus_{name}", html=html, css=_text(f"{name}.css"), js=_text(f"{name}.js"))
