"""Say what to change: a text box over the sliders, and below it what every sentence so far was taken for."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from editing.types import finite
from stylegan2.errors import WplusError
from ui import page, saying
from ui.saying import AGE, LONGEST

NEARLY = 0.15  # an amount is 1 to within this, and goes without saying


def show(state, region: Callable[..., str | None]) -> None:
    """region(state): what a sentence is limited to; UsageError where that is still to be painted."""
    command = saying.lacking()
    with st.form("say", border=False), st.container(horizontal=True, vertical_alignment="bottom"):
        st.text_input(page.say("saying"), key="sentence", max_chars=LONGEST, disabled=bool(command),
                      placeholder=page.say("saying.example"), autocomplete="off")  # fmt: skip
        st.form_submit_button(page.say("saying.do"), key="say-it", on_click=said, args=(region,),
                              disabled=bool(command))  # fmt: skip
    if command:
        st.caption(page.say("saying.missing", command=f"`{command}`"))
    found = saying.rows(state.studio.asked(), chip, place)
    heard = state.heard if state.heard and state.heard["stamp"] == state.stamp else None
    if found or heard:
        words = {name: page.say(f"saying.{name}") for name in ("rows", "gone", "strength")}
        page.components()["sayings"](
            key="sayings", on_changes_change=changed,
            data={"rows": found, "heard": heard, "seen": page.seen("sayings"), "place": page.place(), "words": words,
                  "safe": saying.SAFE, "most": saying.STRONGEST},
        )  # fmt: skip


def chip(name: str, amount: float) -> str:
    """'younger ×0.8'"""
    if name == AGE:
        return page.say("saying.age", age=f"{amount:g}")
    about = "" if abs(amount - 1) < NEARLY else f" ×{amount:.1f}"
    return page.name_of("pole", name) + about


def place(region: str) -> str:
    return f"{page.say('where')}: {page.name_of('region', 'brush' if region.startswith('mask:') else region)}"


def said(region: Callable[..., str | None]) -> None:
    """The box was sent: what asks for nothing known stays in it, with a sentence that says so."""
    state = st.session_state
    if state.studio.inversion is None:
        return
    kind, note = "", ""
    with page.told():
        try:
            ignored = state.studio.ask(state.get("sentence") or "", region(state))
        except WplusError as error:
            kind, note = "wrong", page.sentence(error)
        else:
            state.sentence = ""
            page.changed()
            if ignored:
                parts = "; ".join(f"“{saying.shown(part)}”" for part in ignored)
                kind, note = "left", page.say("saying.left", parts=parts)
    state.heard = {"stamp": state.stamp, "kind": kind, "text": note} if note else None


def changed() -> None:
    """Strengths of sentences came from the page, None for one that is taken out."""
    with page.told():
        for _, changes in page.changes("sayings"):
            for row, asked in sorted(changes.items(), key=lambda item: -int(item[0])):
                weighed(st.session_state, int(row), asked)
            page.changed()


def weighed(state, row: int, asked: dict) -> None:
    """One of them, in the row where the page saw the sentence, or where it is now; none if it is gone."""
    texts = [saying.shown(str(step.parameters.get("text", ""))) for step in state.studio.asked()]
    if not 0 <= row < len(texts) or texts[row] != asked["text"]:
        if texts.count(asked["text"]) != 1:
            return
        row = texts.index(asked["text"])
    strength = asked["value"]
    strength = None if strength is None else min(max(round(finite(strength, "the text"), 2), 0.0), saying.STRONGEST)
    state.studio.weigh(row, strength, f"text {row}:{asked.get('stroke', 0)}")
