"""The editing view: the picture, the sliders, and what the judges say of the result."""

from __future__ import annotations

import base64
import io
import math

import numpy as np
import streamlit as st
from PIL import Image

from editing.heads import registry
from editing.types import Recipe, finite, is_head
from stylegan2.errors import UsageError
from ui import page
from ui.presets import PRESETS
from ui.views import links, verdict
from ui.views import saying as typed
from ui.views.links import SLIDING

PLACES = ("everywhere", "hair", "eyes", "mouth", "skin", "face", "background", "brush")
BEYOND = 1.5  # how far a slider goes, in safe ranges
BLIND = 3.0  # strengths that a slider without a safe range has on either side
THUMBS = 8
QUICK = 85  # quality of quick pictures as JPEG
RESTYLED = 0.4  # of another look, where it is not limited to the hair: the background changes, too


def ready() -> bool:
    """Is there a face to edit?  Says what is missing where there is not."""
    studio = page.session().studio
    if studio.inversion is None:
        st.info(page.say("first") if studio.current is None else page.say("first.invert"))
        return False
    return True


def show() -> None:
    if ready():
        editing()


@st.fragment
def editing() -> None:
    state = page.session()
    if not ready():
        return
    with st.container(key="desk"):
        picture, panel = st.columns([6, 5], gap="large")
    with picture:  # first: what comes before it on the page is drawn before it, too
        with st.container(key="picture"):
            viewer(state, "brush" if state.region == "brush" else None)
        with st.container(key="verdict"):
            page.messages()
            verdict.show(state)
    with panel:
        typed.show(state, limited)
        controls(state)
        sliders(state)
        versions(state)


# --------------------------------------------------------------------------------------------- picture


def viewer(state, tool: str | None, key: str = "viewer", more: dict | None = None, acts: dict | None = None,
           **callbacks) -> None:  # fmt: skip
    """The quick picture of the recipe, or the real one where it has been drawn since; more: what a tool needs, and
    words of its own; acts: what a tool does besides, {name: function(value)}."""
    studio = state.studio
    final = state.work.result is not None and state.work.result[0] == state.stamp
    if not final and state.pop("settle", None) == state.stamp != state.get("failed"):
        state.failed = state.stamp
        with page.told():
            draw(state)
            state.failed = None
        final = state.work.result is not None and state.work.result[0] == state.stamp
    place = placed(studio)
    if final:
        result = state.work.result[1]
        now = page.kept(("final", state.stamp), lambda: page.url(result.crop))
        before = page.kept(("before", *place), lambda: page.url(studio.before()))
    else:
        with page.told():
            quick = studio.preview()
            state.quick = page.url(quick, QUICK)
            state.work.thumbs[(*place, studio.recipe.model_dump_json())] = page.url(page.smaller(quick, 64), 75)
            while len(state.work.thumbs) > 4 * THUMBS:
                state.work.thumbs.pop(next(iter(state.work.thumbs)))
        before = page.kept(("small", *place), lambda: page.url(page.smaller(studio.before(), 512)))
        now = state.get("quick", before)
    names = ("after", "before", "wipe", "difference", "hold", "erase", "clear", "use", "back", "drag")
    words = {name: page.say(name) for name in names} | {"brush": page.say("paint.size")}
    more, words["step"] = more or {}, page.say("history.step", number="{}")
    page.components()["viewer"](
        key=key,
        data={**more, "now": now, "before": before, "final": final, "stamp": state.stamp, "tool": tool,
              "clear": state.points, "place": page.place(), "acted": page.seen(key, "acts"),
              "words": {**words, **more.get("words", {})},
              "line": line(state), "at": len(studio.current.history.past)},
        on_settled_change=lambda: settled(key),
        on_acts_change=lambda: acted(key, acts or {}),
        **callbacks,
    )  # fmt: skip


def placed(studio) -> tuple:
    """What a picture is of: the photo, the face, and the inversion of it that is in use."""
    opened = studio.current
    return opened.photo.sha256, opened.face, opened.chosen[opened.face]


def ground(state) -> str | None:
    """The face as its map has it: drags, paint and moved parts without the edits that come on top; None where there are
    none of those."""
    studio = state.studio
    recipe = studio.ground()
    if len(recipe.steps) == len(studio.steps()):
        return None
    return page.kept(
        ("ground", *placed(studio), recipe.model_dump_json()), lambda: page.url(studio.preview(recipe), QUICK)
    )


def draw(state) -> None:
    """Draw the real picture of the present recipe and have it judged."""
    before = state.studio.recipe
    result = state.studio.refine(bool(state.get("lock")))
    if state.studio.recipe != before:
        page.changed()
        state.news = page.say("locked")
    state.work.result = (state.stamp, result)
    links.share(state)


def settled(key: str) -> None:
    st.session_state.settle = (st.session_state.get(key) or {}).get("settled")


def acted(key: str, acts: dict) -> None:
    """What was done on the picture, [what, value] each with a number: one that is sent again was done before."""
    state, last = st.session_state, f"acted-{key}"
    known = {"undo": lambda _: undo(), "redo": lambda _: redo(), "went": went, "mask": masked, **acts}
    for _, batch in page.changes(key, "acts"):
        for number in sorted(map(int, batch)):
            if number > state.get(last, 0):
                state[last] = number
                what, value = batch[str(number)]
                with page.told():
                    known[what](value)


def masked(text: str | None) -> None:
    """A mask came from the brush, a PNG that is opaque where it was painted; None where it was wiped away."""
    state = st.session_state
    state.brush = page.place(), None if text is None else state.studio.paint(painted(text))


def painted(text: str) -> np.ndarray:
    """A data URL of a PNG -> its opacity (H, W) float32 in [0, 1]."""
    data = base64.b64decode(text.partition(",")[2], validate=True)
    picture = Image.open(io.BytesIO(data), formats=["PNG"])
    if max(picture.size) > 2048:
        raise ValueError("a mask of this size was not painted here")
    return np.asarray(picture.convert("RGBA"))[..., 3].astype(np.float32) / 255


# --------------------------------------------------------------------------------------------- controls


def steps(state) -> None:
    """Back and forth."""
    studio = state.studio
    with st.container(horizontal=True, key="steps"):
        history = studio.current.history
        st.button(page.say("undo"), on_click=undo, disabled=not history.past, icon=":material/undo:", key="undo")
        st.button(page.say("redo"), on_click=redo, disabled=not history.future, icon=":material/redo:", key="redo")
        st.button(page.say("reset"), on_click=reset, disabled=not studio.recipe.steps, icon=":material/restart_alt:",
                  key="reset")  # fmt: skip


def controls(state) -> None:
    steps(state)
    forms = [name for name, direction in state.studio.engine.catalogue.items() if direction.clean is not None]
    with st.container(horizontal=True, key="switches"):
        st.toggle(page.say("lock"), key="lock", on_change=page.changed, help=page.say("lock.help"))
        st.toggle(page.say("disentangle"), key="clean", on_change=again, help=page.say(
            "disentangle.help", names=", ".join(page.name_of("edit", name) for name in forms)))  # fmt: skip
    st.pills(page.say("where"), PLACES, key="region", format_func=lambda place: page.say(f"region.{place}"),
             help=page.say("region.help"), required=True)  # fmt: skip
    if unpainted(state):
        st.caption(page.say("brush.none"))
    st.pills(page.say("presets"), list(PRESETS), key="preset", format_func=lambda name: page.say(f"preset.{name}"),
             on_change=preset)  # fmt: skip


def region(state) -> str | None:
    """What the edits that are set now are limited to."""
    return {"everywhere": None, "brush": brush(state)}.get(state.region, state.region)


def brush(state) -> str | None:
    """The mask that was painted on the face that is open, or the last one that its recipe has."""
    about, mask = state.brush or (None, None)
    if about == page.place():
        return mask
    used = [step.region for step in state.studio.steps() if step.region in state.studio.masks]
    return used[-1] if used else None


def limited(state) -> str | None:
    """The same as `region`.  UsageError where the mask is still to be painted."""
    if unpainted(state):
        raise UsageError(page.say("brush.none"))
    return region(state)


def unpainted(state) -> bool:
    """Is the next edit for a mask that there is not yet?"""
    return state.region == "brush" and brush(state) is None


def sliders(state) -> None:
    """The panel of all edits of the catalogue, with the strengths in the region that is chosen."""
    place = region(state)
    latent = [step for step in state.studio.steps() if step.op in SLIDING]
    page.components()["sliders"](
        key="sliders",
        data={"groups": groups(state), "seen": page.seen("sliders"),
              "place": page.place("brush" if unpainted(state) else place),
              "values": {s.parameters["name"]: s.strength for s in latent if s.region == place},
              "elsewhere": [s.parameters["name"] for s in latent if s.region != place],
              "words": {name: page.say(name) for name in ("search", "nothing", "beyond")}},
        on_changes_change=slid,
    )  # fmt: skip


def groups(state) -> list[dict]:
    """The catalogue as the panel shows it, random moves that were made edits of this photo, and the heads."""
    found: dict[str, list[dict]] = {}
    catalogue, opened = state.studio.engine.catalogue, state.studio.current
    opened.shown |= {str(step.parameters["name"]): None for step in opened.history.present.steps if step.op in SLIDING}
    for name in dict.fromkeys([*catalogue, *(name for name in opened.shown if not is_head(name))]):
        direction = catalogue[name]
        safe = direction.safe_range or (-BLIND, BLIND)
        low, high = (math.floor(BEYOND * safe[0] * 10) / 10, math.ceil(BEYOND * safe[1] * 10) / 10)
        hint = direction.description if state.lang == "en" else page.name_of("edit", name)
        found.setdefault(direction.group, []).append(
            {"name": name, "label": page.name_of("edit", name), "hint": hint, "safe": list(safe), "step": 0.1,
             "low": min(low, 0.0), "high": max(high, 0.0)}
        )  # fmt: skip
    found["heads"] = [
        {"name": name, "label": page.name_of("edit", name), "hint": name, "step": 0.05, "low": 0.0, "high": 1.5,
         "safe": [0.0, RESTYLED if name.startswith("bicyclegan") else 1.0]}
        for name in dict.fromkeys([*registry.heads(), *filter(is_head, opened.shown)])  # with seeds of links
    ]  # fmt: skip
    return [{"id": group, "label": page.name_of("group", group), "edits": edits} for group, edits in found.items()]


def slid() -> None:
    """Sliders moved; while one is being dragged, all of it is one thing done."""
    state = st.session_state
    with page.told():
        for place, changes in page.changes("sliders"):
            if place == "brush":  # as the page had it when they moved: the mask may have come since
                place = brush(state)
                if place is None:
                    state.news = page.say("brush.none")
                    continue
            for name, change in changes.items():
                strength = round(finite(change["value"], name), 2)
                state.studio.set({name: strength}, place, disentangle=bool(state.get("clean")),
                                 stroke=f"{name}@{place}:{change.get('stroke')}")  # fmt: skip
                page.changed()


def preset() -> None:
    state = st.session_state
    if state.preset:
        with page.told():
            state.studio.set(PRESETS[state.preset], limited(state), disentangle=bool(state.get("clean")))
            page.changed()
    state.preset = None


def again() -> None:
    """The switch for the disentangled form: what is set already follows it."""
    state = st.session_state
    studio = state.studio
    if studio.inversion is None:
        return
    with page.told():
        for step in studio.steps():
            if step.op == "latent":
                studio.set({step.parameters["name"]: step.strength}, step.region, disentangle=state.clean,
                           stroke=f"clean {state.get('stroke', 0)}")  # fmt: skip
        state.stroke = state.get("stroke", 0) + 1
        page.changed()


def undo() -> None:
    st.session_state.studio.undo()
    page.changed()


def redo() -> None:
    st.session_state.studio.redo()
    page.changed()


def reset() -> None:
    st.session_state.studio.reset()
    page.changed()


# --------------------------------------------------------------------------------- history and versions


def line(state) -> list[list]:
    """The last recipes of the history: their place on it, and a small picture where one was drawn."""
    recipes, place = state.studio.current.history.line, placed(state.studio)
    shown = range(max(0, len(recipes) - THUMBS), len(recipes))
    return [[index, state.work.thumbs.get((*place, recipes[index].model_dump_json()), "")] for index in shown]


def went(index: int) -> None:
    """To a place on the history that was clicked."""
    opened = st.session_state.studio.current
    opened.history = opened.history.to(int(index))
    page.changed()


def versions(state) -> None:
    """Recipes that were given a name."""
    with st.expander(page.say("versions")):
        name, keep = st.columns([3, 1], vertical_alignment="bottom")
        name.text_input(page.say("version.name"), key="version", max_chars=60)
        keep.button(page.say("version.keep"), on_click=keep_version, key="keep", width="stretch")
        for label, recipe in state.studio.current.versions.items():
            st.button(page.plain(label), key=f"version-{label}", on_click=use_version, args=(recipe,), width="stretch")


def keep_version() -> None:
    state = st.session_state
    if state.version.strip():
        state.studio.current.versions[state.version.strip()] = state.studio.recipe


def use_version(recipe: Recipe) -> None:
    st.session_state.studio.do(recipe)
    page.changed()
