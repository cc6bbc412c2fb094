"""Save: the photo in its own size, the recipe, strips, grids and films."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import streamlit as st

from editing import provenance, session
from editing.faces import photo as photos
from editing.heads import registry
from editing.plans import Plan, Range
from editing.sheets import contact_sheet, in_files, resized
from stylegan2.errors import Cancelled
from ui import page
from ui.views import edit

FORMATS = {"PNG": ".png", "JPEG": ".jpg", "WebP": ".webp", "TIFF": ".tif"}
CELLS, FRAMES, CELL = 5, 49, 256


def show() -> None:
    if not edit.ready():
        return
    left, right = st.columns(2, gap="large")
    with left:
        photo()
    with right:
        sheets()


def photo() -> None:
    state = page.session()
    studio = state.studio
    st.subheader(page.say("save"))
    kind = st.segmented_control(page.say("format"), list(FORMATS), key="format", default="PNG", required=True)
    wanted = (state.stamp, kind)
    if st.button(page.say("prepare"), key="prepare", type="primary"):
        with page.told():
            if state.get("lock") and (state.work.result is None or state.work.result[0] != state.stamp):
                edit.draw(state)  # less of it, perhaps
                wanted = (state.stamp, kind)
            data, recipe = studio.export(FORMATS[kind])
            state.files["photo"] = (wanted, data, recipe)
        if state.problem:
            st.rerun()
    if "photo" in state.files and state.files["photo"][0] == wanted:
        _, data, recipe = state.files["photo"]
        stem = Path(studio.current.photo.name).stem
        st.download_button(page.say("download"), data, f"{stem}.edited{FORMATS[kind]}", key="file", on_click="ignore")
        st.download_button(page.say("download.recipe"), recipe.to_json() + "\n", f"{stem}.edited.recipe.json",
                           "application/json", key="recipe", on_click="ignore")  # fmt: skip
        st.image(page.smaller(photos.decode(data, Path(f"photo{FORMATS[kind]}")).rgb, 1024), width="stretch")


def sheets() -> None:
    """A range of one edit as a strip or a film, of two as a grid, each on top of what is set."""
    state = page.session()
    studio, catalogue = state.studio, state.studio.engine.catalogue
    kind = st.segmented_control("kind", ["strip", "grid", "film"], key="sheet", default="strip", required=True,
                                format_func=page.say, label_visibility="collapsed")  # fmt: skip
    names = [*catalogue, *registry.heads()]
    columns = st.columns(2)
    across = columns[0].selectbox(
        page.say("sheet.edit"), names, key="across", format_func=lambda n: page.name_of("edit", n)
    )
    down = None
    if kind == "grid":
        down = columns[1].selectbox(page.say("sheet.second"), [n for n in names if n != across], key="down",
                                    format_func=lambda n: page.name_of("edit", n))  # fmt: skip
    if st.button(page.say("sheet.make"), key="sheet-make", disabled="sheet" in state.jobs):
        recipe, opened, wanted = studio.recipe, studio.current, [name for name in (across, down) if name]
        face = opened.face
        page.begun("sheet", page.engine().start(lambda tell: drawn(studio, opened, recipe, face, kind, wanted, tell)))
        st.rerun()
    page.working("sheet", page.say("sheet.drawing"), lambda file: state.files.update(sheet=file))
    if "sheet" in state.files:
        name, data = state.files["sheet"]
        show_media = st.video if name.endswith(".mp4") else st.image
        show_media(data)
        st.download_button(page.say("download"), data, name, key="sheet-file", on_click="ignore")


class Watched:
    """An Editor whose every render is told, and may be the last."""

    def __init__(self, editor: session.Editor, total: int, tell) -> None:
        self.editor, self.total, self.tell, self.count = editor, total, tell, 0

    def render(self, recipe, face):
        picture = self.editor.render(recipe, face)
        self.count += 1
        if self.tell(self.count, self.total) is False:
            raise Cancelled("Cancelled.")
        return picture


def drawn(studio, opened, recipe, face: int, kind: str, names: list[str], tell) -> tuple[str, bytes]:
    """A strip, grid or film of the safe ranges of these edits to a photo: its file name and its bytes."""
    count = FRAMES if kind == "film" else CELLS
    ranges = []
    for name in names:
        direction = studio.engine.catalogue.get(name)
        low, high = (direction.safe_range or (-2.0, 2.0)) if direction else (0.0, 1.0)
        ranges.append(Range(name, tuple(round(float(value), 3) for value in np.linspace(low, high, count))))
    plan, editor = Plan(recipe, (), face, True), studio.in_hand(opened)
    watched = Watched(editor, count ** len(names), tell)
    stem = f"{Path(opened.photo.name).stem}.{kind}-{'-'.join(map(in_files, names))}"
    if kind == "film":
        from editing import video

        recipes = [recipe.then(ranges[0].step(value, face)) for value in ranges[0].values]
        frames = (resized(session.to_rgb(watched.render(each, face)), 2 * CELL) for each in recipes)
        with tempfile.TemporaryDirectory() as folder:
            path = video.save(frames, Path(folder) / "film.mp4", editor.recipe(recipes[-1], face))
            return f"{stem}.mp4", path.read_bytes()
    sheet = contact_sheet(watched, plan, tuple(ranges), CELL)
    return f"{stem}.png", provenance.encode(photos.from_rgb(sheet), ".png", editor.recipe(recipe, face))
