"""Photo in: drop one, choose a face, have it looked for in the generator."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from editing.faces.saving import FORMATS
from editing.heads import drawing
from stylegan2.errors import NoFaceFound
from ui import page
from ui.opening import MAX_BYTES
from ui.studio import METHODS

DRAWINGS = {"pix2pix:sketch": ":material/draw:", "pix2pix:low": ":material/blur_on:",
            "pix2pix:half": ":material/contrast:"}  # fmt: skip
COLOURS = {"pix2pix:gray": ":material/palette:", "pix2pix:sketch": ":material/draw:"}
SAMPLE = Path(__file__).parents[2] / "docs" / "samples" / "astronaut.jpg"
DEFAULT, SECONDS = "hyper", 20
READ = sorted({suffix.removeprefix(".") for suffix in FORMATS} | {"heic", "heif", "avif", "bmp", "gif", "tiff", "jpeg"})


@dataclass(frozen=True)
class Given:
    """A picture without a face, or a gray photo, for which there are offers: while its photo (sha256) is open, or
    nothing was changed (stamp) since."""

    data: bytes
    name: str
    sha256: str
    stamp: int


def show() -> None:
    state = page.session()
    if state.work.opening is not None:  # the page was loaded anew, or left, while it was looked at
        take(*state.work.opening)
        st.rerun()
    left, right = st.columns([1, 1], gap="large")
    with left:
        file = st.file_uploader(page.say("drop"), type=READ, key=f"upload-{state.uploads}",
                                help=page.say("drop.help", size=MAX_BYTES >> 20))  # fmt: skip
        if file is not None:
            state.uploads += 1  # an empty box again: the file is taken, and not kept twice
            take(file.getvalue(), file.name)
            st.rerun()
        if SAMPLE.exists() and st.button(page.say("sample"), key="sample", width="stretch"):
            take(SAMPLE.read_bytes(), SAMPLE.name)
            st.rerun()
        number, button = st.columns([2, 1], vertical_alignment="bottom")
        seed = number.number_input(page.say("seed"), 0, 2**31 - 1, 42, key="seed")
        if button.button(page.say("generate"), key="generate", width="stretch"):
            with page.told():
                state.work.given = None
                state.studio.generated(int(seed))
                arrive()
            st.rerun()
        faceless()
    with right:
        chosen()


def take(data: bytes, name: str) -> None:
    """A file the user gave; where there is no question about its face, the search begins at once."""
    state = st.session_state
    state.work.given, state.work.opening = None, (data, name)
    with page.told():
        looked_at(data, name)
    state.work.opening = None  # else the page was loaded anew, or left, before it was done


def looked_at(data: bytes, name: str) -> None:
    """NoFaceFound and all that `Studio.open` raises."""
    state = st.session_state
    try:
        opened = state.studio.open(data, name)
    except NoFaceFound:
        state.work.given = Given(data, name, "", state.stamp)  # perhaps a drawing
        raise
    page.changed()
    if drawing.is_gray(opened.photo.rgb):
        state.work.given = Given(data, name, opened.photo.sha256, state.stamp)
    elif state.studio.inversion is not None:
        arrive()
    elif len(opened.faces) == 1:
        begin()


def faceless() -> None:
    """What can be made of a picture without a face, or of a gray photo."""
    state = st.session_state
    if "draw" in state.jobs:
        page.working("draw", page.say("drawing"), drew)
        return
    given, opened = state.work.given, state.studio.current
    if given is None:
        return
    if given.sha256:
        if opened is None or opened.photo.sha256 != given.sha256:
            return
        heads, words = COLOURS, page.say("given.gray")
    elif given.stamp == state.stamp:
        heads, words = DRAWINGS, page.say("given.faceless", name=page.plain(given.name))
    else:
        return  # somebody else's face has been opened since
    st.caption(words)
    for column, (head, icon) in zip(st.columns(len(heads)), heads.items(), strict=True):
        if column.button(page.say(f"given.{head}"), key=f"draw-{head}", icon=icon, width="stretch"):
            with page.told():
                page.begun("draw", state.studio.draw(given.data, given.name, head))
            st.rerun()


def drew(opened) -> None:
    state = st.session_state
    state.studio.drawn(opened)
    state.work.given = None
    arrive()


def begin() -> None:
    state = st.session_state
    method = state.get("method", DEFAULT)
    seconds = float(state.get("seconds", SECONDS)) if method == "hyper+tune" else None
    with page.told():
        job = state.studio.invert(method, seconds)
        if job is None:
            arrive()
        else:
            page.begun("invert", job)


def arrived(inversion) -> None:
    """A face was found, perhaps while another photo was opened."""
    opened = st.session_state.studio.current
    if opened is not None and opened.photo.sha256 == inversion.photo_sha256:
        arrive()


def arrive() -> None:
    """The face is found: on to editing it."""
    state = st.session_state
    state.work.result, state.goto = None, "edit"
    if state.studio.linked:
        state.studio.adopt()
    if state.studio.left_out:
        state.news, state.studio.left_out = page.say("left.out", count=state.studio.left_out), 0
    page.changed()


def chosen() -> None:
    """The photo with its faces, and how to look for the one that is chosen."""
    state = st.session_state
    studio, opened = state.studio, state.studio.current
    if opened is None:
        st.info(page.say("kind"), icon=":material/volunteer_activism:")
        return
    if studio.waiting is not None:
        st.info(page.say("waiting.recipe"))
        if st.button(page.say("waiting.use"), key="adopt"):
            studio.adopt()
            page.changed()
            st.rerun()
    if not opened.aligned:
        st.caption(page.say("choose", count=len(opened.faces)) if len(opened.faces) > 1 else page.say("one"))
    width, height = opened.photo.size
    boxes = [] if opened.aligned else [
        (left / width, top / height, (right - left) / width, (bottom - top) / height)
        for left, top, right, bottom in (face.box for face in opened.faces)
    ]  # fmt: skip
    picture = page.kept(("photo", opened.photo.sha256), lambda: page.url(page.smaller(opened.photo.rgb, 1024)))
    page.components()["faces"](
        key="faces", data={"photo": picture, "boxes": boxes, "chosen": opened.face,
                           "words": {"photo": page.say("photo"), "face": page.say("face")}},
        on_pick_change=pick,
    )  # fmt: skip
    if "invert" in state.jobs:
        page.working("invert", page.say("inverting"), arrived)
        return
    if opened.aligned:
        return
    method, seconds = st.columns(2, vertical_alignment="bottom")
    method.selectbox(page.say("method"), METHODS, key="method", index=METHODS.index(DEFAULT),
                     format_func=lambda name: page.say(f"method.{name}"), help=page.say("method.help"))  # fmt: skip
    if state.get("method") == "hyper+tune":
        seconds.slider(page.say("seconds"), 5, 120, SECONDS, key="seconds")
    if st.button(page.say("invert"), type="primary", key="invert", width="stretch"):
        begin()
        st.rerun()
    scores()


def pick() -> None:
    state = st.session_state
    index = (state.get("faces") or {}).get("pick")
    if index is not None and state.studio.current and 0 <= int(index) < len(state.studio.current.faces):
        state.studio.current.face = int(index)
        page.changed()
        begin()


def scores() -> None:
    """How well the chosen face was found."""
    inversion = st.session_state.studio.inversion
    if inversion is None or not inversion.metrics:
        return
    metrics = inversion.metrics
    identity = f"{metrics['id_distance']:.2f}" if "id_distance" in metrics else "–"  # where a face was found
    st.caption(page.say("scores", method=inversion.method, steps=inversion.steps, l2=f"{metrics['l2']:.4f}",
                        msssim=f"{metrics['ms_ssim']:.3f}", identity=identity))  # fmt: skip
