"""One user's work, from bytes to bytes, with the real generator."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from editing import edit as command_line
from editing import provenance, spatial
from editing.faces import align
from editing.faces import photo as photos
from editing.heads import distilled, repaint
from editing.judges import parsing
from editing.judges.parsing.labels import CLASSES
from editing.spatial import NOTHING, SIDE
from editing.translation.degrade import WAYS
from editing.types import Inversion, Recipe, latent_step
from stylegan2.errors import NoFaceFound, PhotoError, UsageError
from stylegan2.generator import FeatureEdit
from ui import opening, refining
from ui import studio as studios
from ui.engine import CANCELLED, DONE
from ui.history import History
from ui.refining import told
from ui.studio import Studio

GREY = photos.encode(photos.from_rgb(np.full((300, 300, 3), 90, np.uint8)), ".png")


def test_what_is_no_photo_is_refused_and_the_one_that_is_open_stays(studio, face_file):
    opened = studio.open(face_file(), "face.png")
    for data, name, error in (
        (b"not a picture", "x.jpg", PhotoError), (b"", "y.png", PhotoError), (GREY, "grey.png", NoFaceFound),
        (face_file()[:5000], "cut.png", PhotoError), (bytes(opening.MAX_BYTES + 1), "big.png", UsageError),
    ):  # fmt: skip
        with pytest.raises(error, match=name):
            studio.open(data, name)
        assert studio.current is opened


def test_a_face_is_inverted_once_and_is_there_again_at_once(studio, face_file):
    studio.open(face_file(), "face.png")
    assert studio.inversion is None
    with pytest.raises(UsageError, match="not been inverted"):
        studio.preview()
    job = studio.invert("encoder")
    assert job.wait(120) and job.state == DONE, job.error
    found = studio.inversion
    assert found.method == "encoder" and found.photo_sha256 == studio.current.photo.sha256
    studio.generated(1)
    studio.open(face_file(), "again.png")
    assert studio.inversion is found and studio.invert("encoder") is None
    quad = studio.current.faces[0].quad
    assert np.array_equal(studio.before(), align.crop(studio.current.photo.rgb, quad, 1024))


def test_an_inversion_that_is_cancelled_leaves_nothing(studio, face_file):
    studio.open(face_file(), "face.png")
    job = studio.invert("hyper+tune", 60.0)
    job.cancel()
    assert job.wait(120) and job.state == CANCELLED
    assert studio.inversion is None and not studio.current.inversions


def test_unedited_the_preview_is_the_photo(studio, inverted):
    inverted(studio)
    preview, before = studio.preview().astype(int), photos.from_rgb(studio.before()).rgb
    assert preview.shape == (512, 512, 3)
    small = before.reshape(512, 2, 512, 2, 3).mean((1, 3))
    assert np.abs(preview - small).max() <= 1


def test_edits_are_set_moved_and_taken_out(studio, inverted):
    inverted(studio)
    unedited = studio.preview()
    studio.set({"smile": 2.0}, stroke="a")
    studio.set({"smile": -1.0}, stroke="a")
    studio.set({"blond": 1.0}, "hair")
    assert [(s.parameters["name"], s.strength, s.region) for s in studio.steps()] == [
        ("smile", -1.0, None), ("blond", 1.0, "hair")]  # fmt: skip
    assert np.abs(studio.preview().astype(int) - unedited).mean() > 1
    studio.undo()
    studio.undo()
    assert not studio.steps()
    studio.redo()
    studio.set({"smile": 0.0})
    assert not studio.steps() and np.array_equal(studio.preview(), unedited)


def test_wrong_names_and_regions_are_refused(studio, inverted):
    inverted(studio)
    for edits, region in (({"smiles": 1.0}, None), ({"smile": 1.0}, "elbow")):
        with pytest.raises(UsageError):
            studio.set(edits, region)
        assert not studio.steps()


def test_a_painted_mask_limits_an_edit(studio, inverted):
    inverted(studio)
    mask = np.zeros((256, 256), np.float32)
    mask[150:220, 80:180] = 1
    place = studio.paint(mask)
    studio.set({"lipstick": 2.0}, place)
    result = studio.refine()
    changed = np.abs(result.crop.astype(int) - studio.before()).max(2)
    assert changed[640:840, 360:680].max() > 8 and changed[:500].max() == 0
    quick = np.abs(studio.preview().astype(int) - studio.preview(Recipe())).max(2)
    assert quick[320:420, 180:340].max() > 8 and quick[:240].max() <= 2


def test_what_is_drawn_is_judged(studio, inverted):
    inverted(studio)
    studio.set({"smile": 2.0})
    result = studio.refine()
    assert 0 < result.distance < 0.6 and result.moved["smile"] > 0.3
    assert result.edit.photo.size == studio.current.photo.size and result.crop.shape == (1024, 1024, 3)
    others = told(result.moved, ["smile"])
    assert all(abs(value) >= refining.TOLD and name != "smile" for name, value in others)
    studio.reset()
    assert studio.refine().distance == 0.0 and studio.refine().edit.photo is studio.current.photo


def test_a_locked_identity_weakens_the_edits(studio, inverted, monkeypatch):
    inverted(studio)
    monkeypatch.setattr(refining, "LOCKED", 0.2)
    studio.set({"face_width": 3.0, "nose_width": 3.0})
    free = studio.refine()
    assert free.distance > 0.2
    locked = studio.refine(lock=True)
    assert locked.distance < 0.2 and studio.recipe == locked.recipe
    assert all(0 < step.strength < 3 for step in studio.steps())
    studio.undo()
    assert [step.strength for step in studio.steps()] == [3.0, 3.0]


def test_the_command_line_gives_the_same_pixels(studio, inverted, face_file, tmp_path):
    inverted(studio)
    studio.set({"smile": 1.5})
    studio.set({"blond": 2.0}, "hair")
    data, recipe = studio.export(".png")
    (tmp_path / "face.png").write_bytes(face_file())
    (tmp_path / "edited.png").write_bytes(data)
    studio.inversion.save(tmp_path / "face.inversion")
    with pytest.raises(SystemExit) as end:
        command_line.main(["--img", str(tmp_path / "face.png"), "--inversion", str(tmp_path / "face.inversion"),
                           "--recipe", str(tmp_path / "edited.png"), "--out", str(tmp_path / "again.png")])  # fmt: skip
    assert end.value.code == 0
    ours, theirs = photos.load(tmp_path / "edited.png"), photos.load(tmp_path / "again.png")
    assert np.array_equal(ours.samples, theirs.samples)
    assert provenance.is_marked(ours) and Recipe.from_json(provenance.recipe_text(ours)) == recipe


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_an_exported_picture_brings_everything_back(studio, inverted, suffix):
    inverted(studio)
    studio.set({"smile": 1.5})
    data, _ = studio.export(suffix)
    wanted, opened = studio.recipe, studio.current
    studio.reset()
    studio.generated(2)
    assert studio.open(data, f"edited{suffix}") is opened
    assert studio.current is opened and studio.recipe.steps[0].strength == wanted.steps[0].strength
    assert studio.inversion is not None


def test_a_recipe_without_its_photo_waits_for_it(studio, inverted, face_file, engine):
    inverted(studio)
    studio.set({"smile": 1.5})
    data, _ = studio.export(".png")
    other = Studio(engine)
    other.open(data, "edited.png")
    assert other.waiting is not None and not other.steps()
    other.open(face_file(), "face.png")
    assert other.waiting is None and other.steps()[0].strength == 1.5


def test_a_picture_with_a_damaged_recipe_is_a_photo_all_the_same(studio, face_file):
    photo = photos.decode(face_file(), Path("face.png"))
    data = photos.encode(photo, ".png", text={provenance.TEXT_KEY: '{"steps": 5'})
    assert studio.open(data, "strange.png").faces and studio.waiting is None


def test_what_a_network_made_of_a_picture_is_a_photo_like_any_other(studio, inverted, face_file):
    edited = inverted(studio).current
    studio.set({"smile": 1.0})
    photo = photos.decode(face_file(5), Path("other.png"))
    for recipe in (distilled.recipe_of(edited.photo, {"smile": 1.0}, 1), Recipe()):
        data = provenance.encode(photo, ".png", recipe)
        opened = studio.open(data, "made.png")
        assert opened is not edited and opened.history.present == Recipe() and studio.waiting is None
        assert edited.history.present.steps


def test_what_cannot_be_drawn_here_is_left_out_of_a_recipe_from_elsewhere(studio, inverted, face_file, engine):
    inverted(studio)
    studio.set({"smile": 1.5})
    studio.set({"lipstick": 1.0}, studio.paint(np.ones((64, 64), np.float32)))
    data, recipe = studio.export(".png")
    other = Studio(engine)
    inverted(other)
    other.open(data, "edited.png")
    assert [step.parameters["name"] for step in other.steps()] == ["smile"] and other.left_out == 1
    strange = (
        recipe.steps[0].model_copy(update={"direction_sha256": "0" * 64}),
        latent_step("no_such_edit", 1.0),
        latent_step("smile", 1.0, face=7),
    )
    assert not other.usable(Recipe(steps=strange)).steps and other.left_out == 3


def test_steps_of_a_face_that_was_not_found_do_not_stop_the_others(studio, inverted):
    inverted(studio)
    studio.do(Recipe(steps=(latent_step("smile", 1.5), latent_step("smile", 1.0, face=1))))
    assert studio.refine().edit.changed and len(studio.export()[1].steps) == 1


def test_points_are_dragged_and_stay_in_the_recipe(studio, inverted, monkeypatch):
    from editing import dragging

    inverted(studio)
    monkeypatch.setattr(dragging, "STEPS", 2)
    job = studio.drag([[0.4, 0.62, 0.38, 0.6]])
    assert job.wait(120) and job.state == DONE, job.error
    (step,) = studio.steps()
    assert step.op == "drag" and step.parameters["points"] == [[0.4, 0.62, 0.38, 0.6]]
    calls = []
    monkeypatch.setattr(dragging, "change", lambda *_: calls.append(1))
    studio.set({"smile": 1.0})
    assert studio.preview().shape == (512, 512, 3) and studio.refine().edit.changed and not calls  # found once


def test_a_drag_from_elsewhere_is_seen_at_once(studio, inverted):
    from editing import dragging

    inverted(studio)
    unedited = studio.preview().astype(int)
    studio.do(studio.recipe.then(dragging.step_of([[0.4, 0.62, 0.38, 0.6]], steps=2)))
    assert not studio.current.drags and np.abs(studio.preview() - unedited).max() > 10


def painted(label, x, y, width, height):
    labels = np.full((SIDE, SIDE), NOTHING, np.uint8)
    labels[y : y + height, x : x + width] = CLASSES.index(label)
    return labels


def test_labels_are_painted_replaced_and_taken_out(studio, inverted):
    inverted(studio)
    unedited, studio.current.drags = studio.preview().astype(int), {}
    studio.label(painted("hair", 44, 34, 40, 14))
    quick = np.abs(studio.preview() - unedited)
    assert quick[136:192, 176:336].mean() > 5 and quick[400:].mean() < 1
    more = painted("hair", 40, 34, 48, 14)
    studio.label(more)
    (step,) = studio.steps()
    assert step.op == "paint" and np.array_equal(studio.labels(), more)
    assert (studio.map("paint") == spatial.map_of(studio.engine.generator, studio.inversion)).all()  # without the paint
    studio.undo()
    assert not np.array_equal(studio.labels(), more) and len(studio.steps()) == 1
    studio.redo()
    studio.label(np.full((SIDE, SIDE), NOTHING, np.uint8))
    assert not studio.steps() and np.array_equal(studio.preview(), unedited)
    for wrong in (np.zeros((4, 5), np.uint8), np.full((SIDE, SIDE), 77, np.uint8)):
        with pytest.raises(UsageError):
            studio.label(wrong)


def test_parts_are_moved_scaled_and_put_back(studio, inverted):
    inverted(studio)
    x, y, width, height = studio.parts()["mouth"].home
    studio.move({"mouth": [x, y + 0.05, width, height]})
    studio.move({"nose": list(studio.parts()["nose"].home)})  # where it is
    (step,) = studio.steps()
    assert step.op == "boxes" and list(step.parameters["boxes"]) == ["mouth"]
    assert studio.parts()["mouth"].box == pytest.approx((x, y + 0.05, width, height), abs=1e-4)
    result = studio.refine()
    box = repaint.box_of(repaint.of(parsing.parse(result.crop), "mouth"))
    assert box[1] + box[3] - y - height == pytest.approx(0.05, abs=0.02)  # the lower lip's edge
    studio.move({"mouth": None})
    assert not studio.steps()
    studio.undo()
    for changes in ({"mouth": [5, 5, 1, 1]}, {"mouth": "far"}):
        with pytest.raises(UsageError):
            studio.move(changes)
    assert len(studio.steps()) == 1


def test_painting_goes_on_from_what_was_moved(studio, inverted):
    inverted(studio)
    studio.label(painted("hair", 44, 34, 40, 14))
    x, y, width, height = studio.parts()["mouth"].home
    studio.move({"mouth": [x, y + 0.05, width, height]})
    labels = studio.map("paint")
    assert (labels[36:46, 46:80] == CLASSES.index("hair")).all() and (studio.labels() == NOTHING).all()
    assert repaint.box_of(repaint.of(labels, "mouth"))[1] == pytest.approx(y + 0.05, abs=0.01)
    studio.label(painted("skin", 44, 34, 4, 14))
    assert [step.op for step in studio.steps()] == ["paint", "boxes", "paint"]
    data, _ = studio.export(".png")
    steps = studio.steps()
    studio.reset()
    studio.open(data, "edited.png")
    assert studio.steps() == steps and studio.left_out == 0


def test_what_was_painted_first_can_be_moved(studio):
    studio.generated(3)
    assert "glasses" not in studio.parts()
    studio.label(painted("glasses", 36, 56, 56, 6))
    x, y, width, height = studio.parts()["glasses"].home
    studio.move({"glasses": [x, y + 0.03, width, height]})
    assert studio.preview().shape == (512, 512, 3)


def test_a_preview_plans_on_the_same_map_as_the_real_picture(studio, inverted):
    inverted(studio)
    opened = studio.current
    bare = opened.inversions[opened.chosen[0]]
    random = torch.Generator().manual_seed(0)
    own = FeatureEdit(8 * torch.randn(1, 256, 128, 128, generator=random), torch.ones(1, 1, 128, 128), bare.ws)
    opened.inversions[opened.chosen[0]] = whole = replace(bare, features={"b128": own})
    studio._use(opened, opened.chosen[0])
    opened.drags.clear()
    studio.do(studio.recipe.then(spatial.moves_step({"face": (0.0, 0.01)})))
    studio.preview()
    maps = [spatial.map_of(studio.engine.generator, each) for each in (whole, bare)]
    (plan,) = [each for each in opened.drags.values() if isinstance(each, spatial.Plan)]
    assert np.array_equal(plan.before, maps[0]) and not np.array_equal(*maps)


def test_a_generated_face_needs_no_photo_and_no_search(studio):
    studio.generated(7)
    assert studio.inversion.method == "generated"
    studio.set({"smile": 2.0})
    data, recipe = studio.export(".png")
    assert photos.decode(data, studio.current.photo.path).size == (1024, 1024) and recipe.steps


def gray(data):
    rgb = photos.decode(data, Path("face.png")).rgb
    return photos.encode(photos.from_rgb(WAYS["gray"](rgb, np.random.default_rng(0))), ".png")


def test_a_drawing_becomes_a_face_that_can_be_edited(studio):
    studio.generated(5)
    before = studio.current
    job = studio.draw(GREY, "drawing.png", "pix2pix:sketch")
    assert job.wait(120) and job.state == DONE, job.error
    assert studio.current is before and len(studio.opened) == 1  # whoever waits for it takes it
    opened = studio.drawn(job.result)
    assert provenance.is_marked(opened.photo)  # though nothing was edited
    assert studio.current.aligned and studio.inversion.method == "pix2pix:sketch"
    studio.set({"smile": 2.0})
    data, recipe = studio.export(".png")
    assert photos.decode(data, studio.current.photo.path).size == (1024, 1024) and recipe.steps
    assert studio.drawn(replace(opened, history=History())) is opened and studio.steps()  # made again, nothing is lost


def test_a_gray_photo_gets_colours_and_stays_the_photo(studio, face_file):
    before = photos.decode(gray(face_file()), Path("old.png")).rgb.astype(int)
    job = studio.draw(gray(face_file()), "old.png", "pix2pix:gray")
    assert job.wait(120) and job.state == DONE, job.error
    studio.drawn(job.result)
    after = studio.current.photo.rgb.astype(int)
    assert after.shape == before.shape and np.ptp(after, axis=2).max() > 30 and (after[:20] == before[:20]).all()
    assert np.abs((after - before) @ (0.299, 0.587, 0.114)).mean() < 1.5  # its light stays
    assert not studio.current.aligned and studio.inversion.photo_sha256 == studio.current.photo.sha256
    studio.set({"smile": 1.0})
    assert studio.refine().edit.changed


def test_only_so_much_is_kept_and_forgetting_leaves_nothing(studio, monkeypatch):
    for seed in range(studios.PHOTOS + 2):
        studio.generated(seed)
    assert len(studio.opened) == studios.PHOTOS
    monkeypatch.setattr(studios, "LIFETIME", -1.0)
    studio.sweep()
    assert list(studio.opened.values()) == [studio.current]
    studio.paint(np.ones((8, 8), np.float32))
    studio.forget()
    assert not studio.opened and studio.current is None and not studio.masks and studio._editor is None


def test_heads_are_set_like_edits(studio, inverted):
    inverted(studio)
    plain = studio.preview().astype(int)
    studio.set({"cyclegan:dark2blond": 1.0})
    studio.set({"smile": 1.0})
    assert [(step.op, step.strength) for step in studio.steps()] == [("head", 1.0), ("latent", 1.0)]
    assert np.abs(studio.preview() - plain).max() > 10
    studio.set({"cyclegan:dark2blond": 0.5})
    assert [step.strength for step in studio.steps()] == [0.5, 1.0]
    assert studio.usable(studio.recipe) == Recipe(steps=tuple(studio.steps())) and studio.left_out == 0
    studio.set({"cyclegan:dark2blond": 0})
    assert [step.op for step in studio.steps()] == ["latent"]
    with pytest.raises(UsageError, match="cyclegan:dark2purple"):
        studio.set({"cyclegan:dark2purple": 1.0})


def test_two_users_share_nothing(engine, inverted):
    one, other = inverted(Studio(engine)), Studio(engine)
    one.set({"smile": 1.0})
    with pytest.raises(UsageError, match="No photo"):
        other.steps()
    inverted(other)
    assert not other.steps() and one.steps() == [latent_step("smile", 1.0)]
    assert isinstance(one.inversion, Inversion) and one.current is not other.current
