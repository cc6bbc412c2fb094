"""The page without a browser: what it shows, what it refuses, and that one bad photo kills nothing."""

import time
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from editing import provenance
from editing.faces import photo as photos
from editing.heads.maps import SIDE
from stylegan2.errors import UsageError
from ui import page as pages
from ui import words
from ui.presets import PRESETS
from ui.views import edit, paint

APP = Path(__file__).parents[2] / "ui" / "app.py"
EN = lambda key, **values: words.say("en", key, **values)  # noqa: E731


@pytest.fixture
def page(mobile, monkeypatch):
    """page(**query) -> the page after its first run."""
    monkeypatch.setenv("WPLUS_UI_ANYWHERE", "1")

    def start(**query):
        app = AppTest.from_file(str(APP), default_timeout=180)
        for name, value in query.items():
            app.query_params[name] = value
        return app.run()

    yield start
    pages.tabs()._tabs.clear()  # to Streamlit's tests, all sessions are open for ever


def sound(app):
    assert not app.exception, app.exception
    return app


def view(app, name):
    app.session_state["goto"] = name
    return sound(app.run())


def upload(app, data, name):
    boxes = [box for box in app.file_uploader if box.label == EN("drop")]
    boxes[0].set_value((name, data, "image/png"))
    return sound(app.run())


def finish(app, seconds=120):
    """Until the slow work is done, as the page's own timer would see it."""
    until = time.monotonic() + seconds
    while app.session_state["jobs"]:
        assert time.monotonic() < until
        for job in app.session_state["jobs"].values():
            job.wait(seconds)
        app.run()
    return sound(app)


def errors(app):
    return [error.value for error in app.error]


def test_it_is_for_this_machine_only(mobile, monkeypatch):
    monkeypatch.delenv("WPLUS_UI_ANYWHERE", raising=False)
    app = AppTest.from_file(str(APP), default_timeout=60).run()
    assert "wplus ui" in errors(app)[0] and not app.file_uploader


@pytest.mark.parametrize("name", ["photo", "edit", "paint", "boxes", "points", "mix", "save", "batch"])
def test_every_view_can_be_seen_before_there_is_a_photo(page, name):
    app = view(page(), name)
    assert not errors(app)


def test_a_generated_face_is_edited_at_once(page):
    app = page()
    app.number_input(key="seed").set_value(5)
    app.button(key="generate").click()
    app = sound(app.run())
    assert app.session_state["view"] == "edit"
    studio = app.session_state["studio"]
    studio.set({"smile": 1.0})
    app.run()
    app.button(key="undo").click()
    app = sound(app.run())
    assert not studio.steps() and app.button(key="undo").disabled and not app.button(key="redo").disabled
    app.button(key="redo").click()
    app.run()
    assert studio.steps()[0].strength == 1.0
    app.button(key="reset").click()
    app.run()
    assert not studio.steps()


def test_parts_are_painted_and_moved_beside_other_edits(page):
    app = page()
    app.button(key="generate").click()
    app = sound(app.run())
    studio = app.session_state["studio"]
    studio.set({"smile": 1.0})
    x, y, width, height = studio.parts()["mouth"].box
    studio.move({"mouth": [x, y + 0.04, width, height]})
    for name in ("paint", "boxes"):
        app = view(app, name)
        assert not errors(app) and not app.button(key="undo").disabled
    assert any(
        key[0] == "ground" for key in app.session_state["work"].pictures
    )  # without the smile: it is not on the map
    app.button(key="undo").click()
    app = sound(app.run())
    assert [step.op for step in studio.steps()] == ["latent"]


def test_a_random_move_becomes_an_edit_and_a_mix_a_face_of_its_own(page, face_file, monkeypatch):
    app = page()
    app.button(key="generate").click()
    app = view(sound(app.run()), "mix")
    studio = app.session_state["studio"]
    app.button(key="explore").click()
    finish(sound(app.run()))
    app.button(key="move-2").click()
    app = sound(app.run())
    assert app.session_state["view"] == "edit" and not errors(app)
    (step,) = studio.steps()
    assert step.parameters["name"] == "sefa-0-7-0.2" and step.strength == 1.0
    with monkeypatch.context() as patch:
        patch.setattr(pages, "name_of", lambda kind, name: name)  # else the session of this test's thread says it
        assert edit.groups(app.session_state)[-2]["edits"][0]["name"] == "sefa-0-7-0.2"
        studio.undo()
        assert edit.groups(app.session_state)[-2]["id"] == "random"  # its slider stays: it can be redone
    studio.redo()

    first = studio.current
    app = view(app, "mix")
    (box,) = [box for box in app.file_uploader if box.label == EN("mix.with")]
    box.set_value(("other.png", face_file(), "image/png"))
    app = sound(app.run())
    app.button(key="mix").click()
    finish(sound(app.run()))
    app.button(key="mix-go").click()
    app = sound(app.run())
    assert app.session_state["view"] == "edit" and not errors(app)
    assert studio.current is not first and studio.current.photo.path.name == "other-mixed.png"
    assert [step.parameters["name"] for step in studio.steps()] == ["sefa-0-7-0.2"]  # what was done to the first face
    assert studio.inversion.method == "style mix" and provenance.recipe_text(studio.current.photo)
    studio.set({"smile": 1.0})
    assert not np.array_equal(studio.preview(), studio.preview(studio.current.history.past[-1]))


def test_a_map_that_the_page_did_not_make_is_refused():
    labels = np.arange(SIDE * SIDE, dtype=np.uint32).astype(np.uint8).reshape(SIDE, SIDE)
    assert np.array_equal(paint.decoded(paint.coded(labels)), labels)
    for text in ("%%", "", "AAAA", paint.coded(labels)[:-8]):
        with pytest.raises(UsageError, match="no map"):
            paint.decoded(text)


def test_a_photo_is_found_and_edited(page, face_file):
    app = page()
    app.session_state["method"] = "encoder"
    app = upload(app, face_file(), "face.png")
    app = finish(app)
    assert app.session_state["view"] == "edit" and app.session_state["studio"].inversion.method in ("encoder", "hyper")


def test_back_at_the_photo_the_scores_of_its_face_are_told(page, face_file):
    app = page()
    finish(upload(app, face_file(), "face.png"))
    view(app, "photo")
    inversion = app.session_state["studio"].inversion
    told = [caption.value for caption in app.caption if f"{inversion.metrics['l2']:.4f}" in caption.value]
    assert len(told) == 1 and f"{inversion.metrics['id_distance']:.2f}" in told[0]


def test_a_photo_that_was_being_looked_at_when_the_page_was_left_is_looked_at_again(page, face_file):
    app = page()
    app.session_state["work"].opening = (face_file(), "face.png")
    finish(sound(app.run()))
    assert app.session_state["work"].opening is None and app.session_state["studio"].inversion is not None


@pytest.mark.parametrize("data", [b"nothing", b"", b"\x89PNG\r\n\x1a\n" + bytes(50)])
def test_what_is_no_photo_is_one_sentence_and_the_page_goes_on(page, face_file, data):
    app = page()
    app.button(key="generate").click()
    app = sound(app.run())
    opened = app.session_state["studio"].current
    app = upload(view(app, "photo"), data, "broken.png")
    assert "broken.png" in errors(app)[0]
    assert app.session_state["studio"].current is opened
    assert not errors(app.run())  # said once


def test_a_photo_without_a_face_says_so(page):
    grey = photos.encode(photos.from_rgb(np.full((200, 200, 3), 80, np.uint8)), ".png")
    assert "No face" in errors(upload(page(), grey, "wall.png"))[0]


def test_a_preset_is_set_in_the_region_that_is_chosen(page):
    app = page()
    app.button(key="generate").click()
    app = sound(app.run())
    app.pills(key="region").set_value("mouth")
    app = sound(app.run())
    app.pills(key="preset").set_value(EN("preset.smile"))
    app = sound(app.run())
    steps = app.session_state["studio"].steps()
    assert [(s.parameters["name"], s.strength, s.region) for s in steps] == [
        ("smile", PRESETS["smile"]["smile"], "mouth")
    ]


def test_the_switch_for_the_disentangled_form_is_one_thing_done(page):
    app = page()
    app.button(key="generate").click()
    app = sound(app.run())
    studio = app.session_state["studio"]
    studio.set({"smile": 1.0, "saturation": 1.0, "tint": 1.0})
    app.toggle(key="clean").set_value(True)
    app = sound(app.run())
    assert [bool(s.parameters.get("disentangle")) for s in studio.steps()] == [True, True, False]
    studio.undo()
    assert not any(s.parameters.get("disentangle") for s in studio.steps())


def test_korean(page):
    app = page(lang="ko")
    assert any("사진" in box.label for box in app.file_uploader)
    app.selectbox(key="lang").set_value("en")
    app = sound(app.run())
    assert app.file_uploader[0].label == EN("drop")
    assert page(lang="xx").file_uploader[0].label == EN("drop")


def test_a_link_brings_edits_and_a_wrong_one_does_nothing(page):
    app = page(edits="smile:1.5,nonsense:3,lipstick:2@lips")
    app.button(key="generate").click()
    app = sound(app.run())
    steps = app.session_state["studio"].steps()
    assert [(s.parameters["name"], s.strength, s.region) for s in steps] == [
        ("smile", 1.5, None),
        ("lipstick", 2.0, "lips"),
    ]
    assert errors(page(edits="smile:abc"))


def test_forgetting_leaves_nothing(page):
    app = page()
    app.button(key="generate").click()
    app = sound(app.run())
    app.session_state["studio"].set({"smile": 1.0})
    app = sound(app.run())
    app.button(key="forget").click()
    app = sound(app.run())
    state = app.session_state
    assert state["studio"].current is None and not state["studio"].opened
    work = state["work"]
    assert work.studio is state["studio"] and not (work.pictures or work.thumbs or work.files or work.result)


def test_saving_offers_the_photo_and_the_recipe(page):
    app = page()
    app.button(key="generate").click()
    app.run()
    app.session_state["studio"].set({"smile": 1.0})
    app = view(app, "save")
    app.button(key="prepare").click()
    app = sound(app.run())
    _, data, recipe = app.session_state["files"]["photo"]
    assert photos.decode(data, Path("x.png")).size == (1024, 1024) and recipe.steps[0].strength == 1.0


def test_a_strip_is_drawn_and_can_be_stopped(page):
    app = page()
    app.button(key="generate").click()
    app.run()
    app = view(app, "save")
    app.button(key="sheet-make").click()
    app = finish(app.run())
    name, data = app.session_state["files"]["sheet"]
    assert name.endswith("strip-smile.png") and photos.decode(data, Path(name)).size[0] == 5 * 256
    app.button(key="sheet-make").click()
    app.session_state["files"].pop("sheet")
    app.run()
    app.session_state["jobs"]["sheet"].cancel()
    app = finish(app)
    assert "sheet" not in app.session_state["files"]


@pytest.mark.parametrize("kind, ending", [("grid", ".grid-smile-mouth_open.png"), ("film", ".film-smile.mp4")])
def test_grids_and_films(page, monkeypatch, kind, ending):
    from ui.views import save

    monkeypatch.setattr(save, "CELLS", 2)
    monkeypatch.setattr(save, "FRAMES", 2)
    app = page()
    app.button(key="generate").click()
    app.run()
    studio = app.session_state["studio"]
    names = ["smile", "mouth_open"] if kind == "grid" else ["smile"]
    name, data = save.drawn(studio, studio.current, studio.recipe, 0, kind, names, lambda *_: True)
    assert name.endswith(ending) and len(data) > 5000


def test_many_photos_and_a_broken_one(page, face_file):
    from editing.types import Recipe, latent_step
    from ui.views import batch

    app = page()
    studio = app.session_state["studio"]
    recipe = Recipe(steps=(latent_step("smile", 1.0),))
    told = []
    files = [("a.png", face_file()), ("b.png", b"no"), ("a.png", face_file())]
    report = batch.edit_files(studio.engine, files, "encoder", recipe, {}, lambda *now: told.append(now))
    assert [bool(error) for _, error in report["rows"]] == [False, True, False] and not report["stopped"]
    import io
    import zipfile

    names = zipfile.ZipFile(io.BytesIO(report["zip"])).namelist()
    assert names == ["a.edited.png", "a.edited.2.png"]
    stopped = batch.edit_files(studio.engine, [("a.png", face_file())] * 3, "encoder", recipe, {}, lambda *_: False)
    assert stopped["stopped"] and not stopped["rows"]


def test_a_folder_gets_one_beside_it(page, face_file, tmp_path):
    from editing.types import Recipe, latent_step
    from ui.views import batch

    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.png").write_bytes(face_file())
    (folder / "b.jpg").write_bytes(b"no")
    engine = page().session_state["studio"].engine
    recipe = Recipe(steps=(latent_step("smile", 1.0),))
    report = batch.edit_folder(engine, folder, "encoder", recipe, {}, lambda *_: True)
    assert sorted((name, bool(error)) for name, error in report["rows"]) == [("a.png", False), ("b.jpg", True)]
    assert (tmp_path / "in.edited" / "a.png").exists()


def button(app, key):
    return next(one for one in app.button if one.key == key)


def test_a_drawing_is_offered_a_face(page):
    app = page()
    drawing = photos.encode(photos.from_rgb(np.full((300, 300, 3), 240, np.uint8)), ".png")
    app = upload(app, drawing, "drawing.png")
    assert "drawing.png" in errors(app)[0]
    button(app, "draw-pix2pix:sketch").click()
    app = finish(sound(app.run()))
    assert app.session_state["view"] == "edit" and app.session_state["studio"].inversion.method == "pix2pix:sketch"
    assert app.session_state["work"].given is None
