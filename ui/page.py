"""What every view of the page needs: the shared engine, the user's own studio, words, and pictures as text."""

from __future__ import annotations

import base64
import io
import itertools
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import streamlit as st
from PIL import Image
from streamlit import runtime
from streamlit.runtime.scriptrunner import get_script_run_ctx

from stylegan2.errors import Cancelled, WeightsMissing, WplusError
from ui import parts, words
from ui.engine import CANCELLED, FAILED, WAITING, Engine, Job
from ui.studio import Studio
from ui.tabs import Tabs, Work

TAB = "tab"  # of the address
SHOWN = {"invert": "photo", "draw": "photo", "drag": "points", "mix": "mix", "explore": "mix", "sheet": "save",
         "batch": "batch"}  # fmt: skip
START = {"lang": "en", "view": "photo", "uploads": 0, "problem": "", "news": "", "heard": None,
         "region": "everywhere", "brush": None, "points": 0}  # fmt: skip
STAMPS = itertools.count()  # no two pictures of anybody have one


@st.cache_resource(show_spinner=False)
def engine() -> Engine:
    """Shared by all users, and never changed by any; it loads what the first photo will need at once."""
    made = Engine()
    made.start(made.warm)
    return made


@st.cache_resource(show_spinner=False)
def tabs() -> Tabs:
    """The work of all tabs, for those that are loaded anew."""
    made = Tabs(lambda session: runtime.exists() and runtime.get_instance().is_active_session(session))
    threading.Thread(target=made.sweeping, name="wplus-tabs", daemon=True).start()
    return made


@st.cache_resource(show_spinner=False)
def components() -> dict:
    return {name: parts.mount(name) for name in parts.NAMES}


def alone() -> bool:
    """Is the page served to this machine only?"""
    return st.get_option("server.address") in ("localhost", "127.0.0.1", "::1")


def session() -> st.runtime.state.SessionStateProxy:
    """This user's state, complete: with the work that this tab had before it was loaded anew, if it had any."""
    state, own = st.session_state, get_script_run_ctx().session_id
    if "work" in state and not tabs().used(state.tab, own):  # it was away, and went on in another tab or was dropped
        for name in [name for name in state if name != "lang"]:
            del state[name]
    for name, value in START.items():
        if name not in state:
            state[name] = value
    if "work" not in state:
        begin(state, own)
    if alone() and st.query_params.get(TAB) != state.tab:
        st.query_params[TAB] = state.tab
    return state


def begin(state, own: str) -> None:
    """The work of the address for this session, where it waits for one, else new work.

    Only where the page is for this machine: on a network an address that is sent would bring the photos along.
    """
    name = st.query_params.get(TAB, "") if alone() else ""
    back = tabs().back(name, own) if name else None
    work = back or Work(Studio(engine()))
    if back is None:
        name = tabs().begin(work, own)
    state.work, state.tab, state.stamp = work, name, next(STAMPS)
    state.studio, state.jobs, state.files = work.studio, work.jobs, work.files
    if back is not None:
        at_work = "photo" if work.opening else next((SHOWN[kind] for kind in list(work.jobs)), None)
        if view := at_work or ("edit" if work.studio.inversion is not None else None):
            state.goto = view


def say(key: str, **values: object) -> str:
    return words.say(st.session_state.lang, key, **values)


def name_of(kind: str, name: str) -> str:
    return words.name_of(st.session_state.lang, kind, name)


def sentence(error: WplusError | str) -> str:
    """What an error says, in the page's language."""
    return words.told(st.session_state.lang, str(error))


def changed() -> None:
    """The recipe or the face is another one: what was drawn of it is old."""
    st.session_state.stamp = next(STAMPS)


def place(region: str | None = None) -> list:
    """What changes made on the page now are about: the photo, the face, and where on it."""
    opened = st.session_state.studio.current
    return [opened.photo.sha256, opened.face, region] if opened else ["", 0, region]


def seen(component: str, name: str = "changes") -> int:
    """The number of the last message of one of a component's outboxes (`ui/parts/outbox.js`) that was read."""
    return st.session_state.get(f"seen-{component}-{name}", 0)


def changes(component: str, name: str = "changes") -> list[tuple[str | None, dict]]:
    """What came newly from a component's outbox, in order: the region it is about, and {name: change}.

    What was changed on another photo or face than the present one is left out.
    """
    state = st.session_state
    message = (state.get(component) or {}).get(name)
    if not message or int(message["number"]) == seen(component, name):
        return []
    state[f"seen-{component}-{name}"] = int(message["number"])
    return [(about[2], dict(batch)) for about, batch in message["batches"] if about[:2] == place()[:2]]


@contextmanager
def told() -> Iterator[None]:
    """What goes wrong inside becomes one sentence on the page; everything else stays as it was."""
    try:
        yield
    except WeightsMissing:
        st.session_state.problem = say("weights")
    except Cancelled:
        st.session_state.news = say("cancelled")
    except WplusError as error:
        st.session_state.problem = sentence(error)
    except Exception as error:
        st.session_state.problem = say("wrong", error=f"({type(error).__name__}: {error})")


def begun(kind: str, job: Job) -> None:
    """Slow work of a kind that `working` shows from now on; what was done of that kind before is stopped."""
    jobs = st.session_state.jobs
    if kind in jobs:
        jobs[kind].cancel()
    jobs[kind] = job


@st.fragment(run_every=0.4)
def working(kind: str, text: str, finish: Callable[[Any], None]) -> None:
    """Progress of this user's slow work of a kind, and a way to stop it; finish(result) once it is done."""
    state = st.session_state
    job = state.jobs.get(kind)
    if job is None:
        return
    if job.over:
        if state.jobs.pop(kind, None) is not job:
            return
        with told():
            if job.state == FAILED:
                raise job.error
            if job.state == CANCELLED:
                raise Cancelled("Cancelled.")
            finish(job.result)
        st.rerun()
    waiting = say("queued", count=engine().ahead(job)) if job.state == WAITING else ""
    note = plain(job.note) if kind == "batch" else ""
    st.progress(min(job.step / job.total, 1.0) if job.total else 0.0, text=waiting or note or text)
    if st.button(say("cancel"), key=f"cancel-{kind}", icon=":material/close:"):
        job.cancel()


def messages() -> None:
    """Show what `told` caught and what there is to tell, once."""
    state = st.session_state
    if state.problem:
        st.error(plain(state.problem), icon=":material/error:")
    if state.news:
        st.toast(plain(state.news))
    state.problem = state.news = ""


def plain(text: str) -> str:
    """Text as Markdown that shows it as it is: names in it come from files and links, and are nobody's pictures."""
    return re.sub(r"([\\`*~$<>\[\]:_#])", r"\\\1", text)


def url(rgb: np.ndarray, quality: int = 90) -> str:
    """A picture (H, W, 3) uint8 as a data URL, JPEG."""
    stream = io.BytesIO()
    Image.fromarray(rgb).save(stream, "JPEG", quality=quality, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def smaller(rgb: np.ndarray, side: int) -> np.ndarray:
    """At most `side` pixels on the longer side."""
    picture = Image.fromarray(rgb)
    picture.thumbnail((side, side), Image.Resampling.BOX, reducing_gap=None)
    return np.asarray(picture)


def kept(key: tuple, make) -> str:
    """A picture of this user's as a data URL, made once; the last dozen are remembered."""
    pictures = st.session_state.work.pictures
    if key not in pictures:
        pictures[key] = make()
        while len(pictures) > 12:
            pictures.pop(next(iter(pictures)))
    return pictures[key]
