"""Many photos, one recipe: uploads into a zip, or a folder of this machine into another."""

from __future__ import annotations

import hashlib
import io
import zipfile
from functools import partial
from pathlib import Path

import streamlit as st

from editing import session
from editing.batch import run
from editing.batching.planning import find_places, plan_jobs
from editing.batching.work import Order, Setup, Work, edit_photo
from editing.faces.saving import FORMATS
from editing.steps import pin
from editing.types import Recipe
from stylegan2.errors import Cancelled, UsageError
from ui import page
from ui.studio import METHODS
from ui.views import photo

MOST, MAX_ZIP = 200, 1 << 30  # photos of one upload, and bytes of its results


def show() -> None:
    state = page.session()
    st.caption(page.say("batch.help"))
    recipe = chosen_recipe(state)
    if recipe is None:
        st.info(page.say("batch.none"))
    left, right = st.columns([2, 1], vertical_alignment="bottom")
    files = left.file_uploader(page.say("batch.drop"), type=photo.READ, accept_multiple_files=True,
                               key=f"many-{state.uploads}")  # fmt: skip
    method = right.selectbox(page.say("method"), [m for m in METHODS if m != "hyper+tune"], key="batch-method",
                             format_func=lambda name: page.say(f"method.{name}"), index=1)  # fmt: skip
    folder = left.text_input(page.say("batch.folder"), key="folder") if page.alone() else ""
    busy = "batch" in state.jobs or recipe is None
    if st.button(page.say("batch.start"), key="batch", type="primary", disabled=busy or not (files or folder)):
        begin(state, files, folder, method, recipe)
        st.rerun()
    page.working("batch", "", lambda report: state.files.update(batch=report))
    if "batch" in state.files:
        results(state.files["batch"])


def chosen_recipe(state) -> Recipe | None:
    """A recipe that is dropped here, else what is set in the editor; None where there is neither."""
    file = st.file_uploader(page.say("batch.recipe"), type=["json"], key="batch-recipe")
    if file is not None:
        with page.told():
            return pin(Recipe.from_json(file.getvalue()), state.studio.engine.catalogue, state.studio.masks)
        page.messages()
        return None
    if state.studio.current is None or state.studio.recipe.is_identity:
        return None
    mine = Recipe(steps=tuple(step.model_copy(update={"face": 0}) for step in state.studio.steps()))
    return pin(mine, state.studio.engine.catalogue, state.studio.masks)


def begin(state, files, folder: str, method: str, recipe: Recipe) -> None:
    engine, masks = page.engine(), dict(state.studio.masks)
    with page.told():
        if folder:
            source = Path(folder).expanduser()
            if not source.is_dir():
                raise UsageError(f"There is no folder {source}.")
            work = partial(edit_folder, engine, source, method, recipe, masks)
        else:
            if len(files) > MOST:
                raise UsageError(f"At most {MOST} photos at once here: give a folder for more.")
            work = partial(edit_files, engine, [(f.name, f.getvalue()) for f in files], method, recipe, masks)
        state.files.pop("batch", None)
        state.uploads += 1
        page.begun("batch", engine.start(work))


def edit_files(engine, files: list[tuple[str, bytes]], method: str, recipe: Recipe, masks, tell) -> dict:
    """Files (name, bytes) -> {'zip': bytes, 'rows': [(name, sentence or '')], 'stopped': bool}: what is done when it is
    stopped is kept."""
    rows, stopped, taken = [], False, set()
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for number, (name, data) in enumerate(files, 1):
            if tell(number - 1, len(files), f"{name} ({number}/{len(files)})") is False:
                stopped = True
                break
            editor = session.Editor(engine.generator, catalogue=engine.catalogue)
            editor.masks = masks
            suffix = Path(name).suffix.lower() if Path(name).suffix.lower() in FORMATS else ".png"
            options = {"method": method, "callback": lambda *_, now=(number - 1, len(files), name): tell(*now)}
            work = Work(name, data, hashlib.sha256(data).hexdigest(), (Order(0, recipe, suffix),), options)
            try:
                answer = next(iter(edit_photo(work, editor)))
            except Cancelled:
                stopped = True
                break
            error = "" if answer.content else answer.error
            if answer.content and stream.tell() + len(answer.content) > MAX_ZIP:
                error = f"The results take more than {MAX_ZIP >> 20} MB: give a folder for so many."
            elif answer.content:
                archive.writestr(unique(f"{Path(name).stem}.edited{suffix}", taken), answer.content)
            rows.append((name, error))
    return {"zip": stream.getvalue(), "rows": rows, "stopped": stopped, "count": len(files)}


def unique(name: str, taken: set[str]) -> str:
    """The name, with a number where two photos have one name."""
    stem, suffix, number, found = Path(name).stem, Path(name).suffix, 1, name
    while found in taken:
        number += 1
        found = f"{stem}.{number}{suffix}"
    taken.add(found)
    return found


def edit_folder(engine, source: Path, method: str, recipe: Recipe, masks, tell) -> dict:
    """A folder as `python -m editing.batch` does it, into FOLDER.edited beside it."""
    out = source.with_name(f"{source.name}.edited")

    def told(done: int, total: int, *_) -> None:
        if tell(done, total, f"{done}/{total}") is False:
            raise Cancelled("Cancelled.")

    def make() -> session.Editor:
        editor = session.Editor(engine.generator, catalogue=engine.catalogue)
        editor.masks = masks
        return editor

    recipe = pin(recipe, engine.catalogue, masks)
    jobs = plan_jobs(
        find_places(source, out, None), recipe, [], None, 0, lambda each: pin(each, engine.catalogue, masks)
    )
    options = {"method": method, "seed": 0, "detector": "auto", "aligned": False, "budget": None}
    report = run(jobs, out, recipe, Setup(make, options), {**options, "device": "cpu"}, progress=told)
    rows = [(entry["photo"], entry.get("error", "")) for entry in report["results"]]
    return {"zip": b"", "rows": rows, "stopped": False, "count": report["planned"], "folder": str(out)}


def results(report: dict) -> None:
    good = sum(not error for _, error in report["rows"])
    st.success(page.say("batch.done", good=good, count=report["count"]) + (f" {report.get('folder', '')}"))
    for name, error in report["rows"]:
        if error:
            st.error(page.plain(f"{name}: {page.sentence(error)}"), icon=":material/error:")
    if report["zip"] and good:
        st.download_button(page.say("batch.zip"), report["zip"], "edited.zip", "application/zip", key="zip",
                           on_click="ignore")  # fmt: skip
