"""Mix two people, take another photo's colours, and look at random moves: both can be gone on with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import streamlit as st

from editing import mixing, provenance, session
from editing.directions import explore
from editing.directions.catalogue import Catalogue
from editing.faces import align, detect
from editing.faces import photo as photos
from editing.types import Recipe
from ui import opening, page
from ui.opening import MAX_PIXELS
from ui.views import edit, photo

MOVES, SPACES = 8, {"sefa": (0, 8), "pca": (0, 16)}


def show() -> None:
    if not edit.ready():
        return
    left, right = st.columns(2, gap="large")
    with left:
        mixed()
    with right:
        moves()


def mixed() -> None:
    """A second photo lends colours and light, or half of a person."""
    state = page.session()
    st.subheader(page.say("mix.do"))
    st.caption(page.say("mix.agree"))
    file = st.file_uploader(page.say("mix.with"), type=photo.READ, key=f"other-{state.uploads}")
    kind = st.segmented_control(
        page.say("mix.do"), ["style", "between"], key="mix-kind", required=True, default="style",
        format_func=lambda k: page.say(f"mix.{k}"), label_visibility="collapsed",
    )  # fmt: skip
    if kind == "style":
        amount = st.slider(page.say("mix.row"), 1, 15, mixing.COLOURS, key="mix-row", help=page.say("mix.row.help"))
    else:
        amount = st.slider(page.say("mix.amount"), 0.0, 1.0, 0.5, 0.05, key="mix-amount")
    if st.button(page.say("mix.do"), key="mix", type="primary", disabled=file is None or "mix" in state.jobs):
        data, name, studio = file.getvalue(), file.name, state.studio
        mine = (studio.inversion, studio.steps(), dict(studio.masks))  # as they are now, whatever is open later
        with page.told():
            other = photos.decode(data, Path(name), MAX_PIXELS)
            face = detect.choose(detect.find_faces(other.rgb), 0, name)
            page.begun(
                "mix", page.engine().start(lambda tell: mix_with(page.engine(), mine, other, face, kind, amount, tell))
            )
        st.rerun()
    page.working("mix", page.say("inverting"), lambda made: state.files.update(mix=made))
    if "mix" in state.files:
        rgb, file, _ = state.files["mix"]
        st.image(rgb, width="stretch")
        with st.container(horizontal=True):
            st.download_button(page.say("download"), file, "mixed.png", "image/png", key="mix-file")
            st.button(page.say("mix.go"), key="mix-go", on_click=go_on, icon=":material/arrow_forward:")


def go_on() -> None:
    """The mix becomes the photo that is worked on, a face of its own."""
    state = st.session_state
    with page.told():
        *_, made = state.files.pop("mix")
        state.studio.drawn(made)
        state.studio.do(made.history.present)  # where the same was gone on with before
        photo.arrive()


def mix_with(engine, mine: tuple, other: photos.Photo, face, kind: str, amount: float, tell) -> tuple:
    """A face (inversion, steps, masks) mixed with another photo's: the crop (R, R, 3), it as a marked PNG, and the
    mix without the steps as a photo of its own whose recipe they are."""
    (inversion, steps, masks), generator = mine, engine.generator
    editor = session.Editor(generator, catalogue=engine.catalogue)
    crop = session.to_tensor(align.crop(other.rgb, face.quad, generator.resolution))
    target = session.Target(face.quad, face.landmarks, crop)
    style = editor.set_photo(other, method=photo.DEFAULT, callback=tell, target=target)
    how = mixing.style_mix if kind == "style" else mixing.interpolate
    result = how(generator, inversion, style, amount)
    editor.set_inversion(result)
    editor.masks = masks
    recipe = Recipe(steps=tuple(s.model_copy(update={"face": 0}) for s in steps))
    edited = editor.edit(recipe)
    rgb = session.to_rgb(edited.crop)
    file = provenance.encode(photos.from_rgb(rgb), ".png", edited.recipe)
    return rgb, file, opening.mixed(generator, result, Path(other.name).stem, recipe, editor.drags)


def moves() -> None:
    """A sheet of random moves of the face; one that pleases becomes an edit like any other."""
    state = page.session()
    studio = state.studio
    st.subheader(page.say("explore"))
    seed, space = st.columns(2, vertical_alignment="bottom")
    number = int(seed.number_input(page.say("explore.seed"), 0, 10**6, 0, key="explore-seed"))
    chosen = space.segmented_control("space", list(SPACES), key="explore-space", default="sefa", required=True,
                                     format_func=str.upper, label_visibility="collapsed")  # fmt: skip
    if st.button(page.say("explore.do"), key="explore", disabled="explore" in state.jobs):
        inversion = studio.inversion
        page.begun("explore", page.engine().start(lambda tell: sheet(studio, inversion, chosen, number, tell)))
        st.rerun()
    page.working("explore", page.say("sheet.drawing"), lambda found: state.files.update(explore=found))
    if "explore" in state.files:
        columns = st.columns(4)
        for index, (name, picture) in enumerate(state.files["explore"]):
            with columns[index % 4]:
                st.image(picture, caption=name, width="stretch")
                st.button(page.say("explore.use"), key=f"move-{index}", on_click=use, args=(name,))


def use(name: str) -> None:
    """A move as an edit of the face that is open, beside those that it has."""
    state = st.session_state
    with page.told():
        state.studio.set({name: 1.0})
        page.changed()
        state.goto = "edit"


def sheet(studio, inversion, space: str, seed: int, tell) -> list[tuple[str, np.ndarray]]:
    """Random moves, which every catalogue knows by name (`directions.explore`): the name and a small picture."""
    found = [explore.named(explore.name_of(space, SPACES[space], seed, index)) for index in range(MOVES)]
    result = []
    for index, direction in enumerate(found):
        editor = session.Editor(studio.engine.generator, catalogue=Catalogue([direction]))
        editor.set_inversion(inversion)
        result.append((direction.name, page.smaller(session.to_rgb(editor.render({direction.name: 1.0})), 256)))
        if tell(index + 1, MOVES) is False:
            break
    return result
