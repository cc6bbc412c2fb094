"""The Editor on a toy generator: what it computes once, what it refuses, and that nothing else changes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from editing import session
from editing.faces import align
from editing.faces import photo as photos
from editing.faces.face import Face
from editing.steps import apply, direction_sha256, pin
from editing.types import Inversion, Recipe, Step
from stylegan2.errors import InversionError, NoFaceFound, UsageError
from stylegan2.generator import Delta, FeatureEdit
from tests.editing.fakes import CATALOGUE, STRATEGIES, FakeGenerator, fake_apply


@pytest.fixture(autouse=True)
def toy_directions(monkeypatch):
    from editing import directions

    monkeypatch.setattr(directions, "apply", fake_apply, raising=False)


@pytest.fixture
def editor():
    FakeGenerator.renders = 0
    return session.Editor(FakeGenerator(), catalogue=CATALOGUE, strategies=STRATEGIES)


def square(seed=0, size=96):
    rows = np.random.default_rng(seed).integers(60, 190, (size, size, 3), dtype=np.uint8)
    return photos.from_rgb(rows)


def opened(editor, **options):
    editor.set_photo(square(), method="fake", aligned=True, **options)
    return editor


def test_tensors_and_pictures_are_inverse():
    rgb = square().rgb
    assert np.array_equal(session.to_rgb(session.to_tensor(rgb)), rgb)
    assert session.to_tensor(rgb).shape == (1, 3, 96, 96)
    assert session.to_tensor(np.zeros((2, 2, 3), np.uint8)).min() == -1
    assert session.to_tensor(np.full((2, 2, 3), 255, np.uint8)).max() == 1


def test_a_recipe_that_does_nothing_returns_the_very_photo(editor):
    opened(editor)
    for nothing in ({}, {"smile": 0}, {"smile": 0.0, "age": 0}, Recipe()):
        edit = editor.edit(nothing)
        assert edit.photo is editor.scene.photo and not edit.changed
        assert torch.equal(edit.crop, editor.reconstruction())


def test_an_edit_changes_the_crop_as_the_direction_says(editor):
    opened(editor)
    change = editor.render({"smile": 2}) - editor.reconstruction()
    assert torch.allclose(change[:, 0], torch.tensor(0.2), atol=1e-6)
    assert torch.allclose(change[:, 1:], torch.tensor(0.0), atol=1e-6)
    edit = editor.edit({"smile": 2})
    assert edit.changed and not np.array_equal(edit.photo.rgb, editor.scene.photo.rgb)


def test_an_edit_costs_one_render_and_the_inversion_is_made_once(editor):
    opened(editor)
    editor.reconstruction()
    before = FakeGenerator.renders
    for strength in (1, 2, 3):
        editor.render({"smile": strength})
    assert FakeGenerator.renders == before + 3
    editor.render({"smile": 0})
    editor.edit({})
    assert FakeGenerator.renders == before + 3


def test_steps_add_up_in_order(editor):
    opened(editor)
    both = editor.render({"smile": 1, "age": -2})
    recipe = Recipe.from_strengths({"smile": 1}).then(Step(parameters={"name": "age", "strength": -2}))
    assert torch.equal(both, editor.render(recipe))


def test_the_recipe_of_an_edit_pins_what_it_used(editor):
    opened(editor, seed=5)
    recipe = editor.edit({"smile": 2}).recipe
    assert recipe.steps[0].direction_sha256 == direction_sha256(CATALOGUE["smile"])
    assert recipe.photo_sha256 == editor.scene.photo.sha256
    assert recipe.family == "fake-64" and recipe.generator_sha256 == "f" * 64
    assert recipe.inversion.steps == 3 and recipe.inversion.seed == 5
    assert torch.equal(editor.render(Recipe.from_json(recipe.to_json())), editor.render({"smile": 2}))


def test_a_direction_is_known_by_its_numbers_and_rows():
    smile, age = CATALOGUE["smile"], CATALOGUE["age"]
    known = direction_sha256(smile)
    assert known == direction_sha256(replace(smile, description="another text"))
    assert known != direction_sha256(age) and known != direction_sha256(replace(smile, rows=(0, 1)))


def test_a_recipe_of_another_direction_is_refused(editor):
    opened(editor)
    recipe = Recipe(steps=(Step(parameters={"name": "smile", "strength": 1}, direction_sha256="0" * 64),))
    with pytest.raises(UsageError, match="another version of 'smile'"):
        editor.render(recipe)


@pytest.mark.parametrize("strength", [0, 1])
def test_unknown_names_suggest_the_nearest(editor, strength):
    opened(editor)
    with pytest.raises(UsageError, match="did you mean smile"):
        editor.render({"smlie": strength})
    with pytest.raises(UsageError, match="tune"):
        editor.set_photo(square(), method="tume", aligned=True)


def test_without_a_photo_there_is_nothing_to_edit(editor):
    for look in (editor.inversion, editor.reconstruction, lambda: editor.render({"smile": 1}), lambda: editor.edit({})):
        with pytest.raises(UsageError, match="set_photo"):
            look()
    opened(editor)
    with pytest.raises(UsageError):
        editor.edit(Recipe.from_strengths({"smile": 1}, face=3))


def test_an_aligned_picture_must_be_square(editor):
    wide = photos.from_rgb(np.zeros((64, 80, 3), np.uint8))
    with pytest.raises(UsageError, match="80 x 64"):
        editor.set_photo(wide, method="fake", aligned=True)


def test_no_face_names_the_picture_and_a_way_out(editor, tmp_path):
    path = photos.save(photos.from_rgb(np.full((80, 80, 3), 128, np.uint8)), tmp_path / "wall.png")
    with pytest.raises(NoFaceFound, match=r"wall\.png.*--detector cnn"):
        editor.set_photo(path, method="fake", detector="hog")


def test_the_detected_face_is_what_is_cut_out_and_put_back(editor, monkeypatch):
    landmarks = np.random.default_rng(0).uniform(30, 60, (68, 2))
    landmarks[36:42], landmarks[42:48], landmarks[48:] = (40, 40), (60, 40), (50, 60)
    face = Face((30, 30, 70, 70), 1.0, landmarks, "test")
    monkeypatch.setattr(session.detect, "find_faces", lambda rgb, detector: [face])
    photo = square(size=200)
    inversion = editor.set_photo(photo, method="fake")
    assert np.array_equal(inversion.quad, face.quad) and np.array_equal(inversion.landmarks, landmarks)
    assert np.array_equal(session.to_rgb(editor.targets[0].crop), align.crop(photo.rgb, face.quad, 64))
    rows, columns = np.nonzero((editor.edit({"smile": 3}).photo.rgb != photo.rgb).any(-1))
    low, high = face.quad.min(0), face.quad.max(0)
    assert len(rows) > 100
    assert low[0] <= columns.min() and columns.max() <= high[0] and low[1] <= rows.min() and rows.max() <= high[1]


def test_weight_offsets_are_rounded_before_the_first_render(tmp_path):
    def tuned(*args, **options):
        offset = Delta("add", (torch.full((1, 1), 0.1234567),))
        return replace(STRATEGIES["fake"](*args, **options), deltas={"shift": offset})

    editor = session.Editor(FakeGenerator(), catalogue=CATALOGUE, strategies={"fake": tuned})
    opened(editor)
    assert editor.inversion().deltas["shift"].factors[0].dtype == torch.float16
    before = editor.render({"smile": 1})
    saved = editor.inversion().save(tmp_path / "x.inversion")
    editor.set_inversion(Inversion.load(saved), square())
    assert torch.equal(editor.render({"smile": 1}), before)


def test_a_saved_inversion_gives_the_same_pixels(editor, tmp_path):
    opened(editor)
    delta = Delta("add", (torch.full((1, 1), 0.1234567),))
    inversion = Inversion(**{**vars(editor.inversion()), "deltas": {"shift": delta}}).compact()
    editor.set_inversion(inversion, editor.scene.photo)
    from_memory = editor.edit({"smile": 1})
    again = session.Editor(FakeGenerator(), catalogue=CATALOGUE, strategies=STRATEGIES)
    again.set_inversion(Inversion.load(inversion.save(tmp_path / "x.inversion")), square())
    from_disk = again.edit({"smile": 1})
    assert torch.equal(from_memory.crop, from_disk.crop)
    assert np.array_equal(from_memory.photo.samples, from_disk.photo.samples)


def test_a_residual_that_fades_under_an_edit_takes_nothing_out_of_the_photo(editor):
    opened(editor)
    plain, photo = editor.inversion(), editor.scene.photo
    without = editor.edit({"smile": 2})
    lift = FeatureEdit(torch.full((1, 1, 8, 8), 0.4), torch.ones(1, 1, 8, 8), plain.ws)
    editor.set_inversion(replace(plain, features={"b8": lift}), photo)
    assert (editor.reconstruction() - without.crop).abs().mean() > 0.1
    faded = editor.render({"smile": 2}) - editor.reconstruction()
    assert faded.mean() < -0.02, "the toy's residual should fade"
    assert np.array_equal(editor.edit({"smile": 2}).photo.samples, without.photo.samples)


def test_an_inversion_without_its_photo_still_edits_the_crop(editor):
    opened(editor)
    inversion = editor.inversion()
    editor.set_inversion(inversion)
    edit = editor.edit({"smile": 1})
    assert edit.photo is None and edit.crop.shape == (1, 3, 64, 64)


def test_a_photo_may_follow_an_inversion_that_had_none(editor):
    opened(editor)
    editor.set_inversion(editor.inversion())
    opened(editor)
    assert editor.edit({"smile": 1}).photo is not None


def test_what_a_recipe_cannot_do_is_refused_before_anything_is_inverted():
    pinned = pin(Recipe.from_strengths({"smile": 1}), CATALOGUE)
    assert pin(pinned, CATALOGUE) == pinned
    with pytest.raises(UsageError, match="another version of 'smile'"):
        pin(pinned, CATALOGUE | {"smile": replace(CATALOGUE["smile"], rows=(0, 1))})
    with pytest.raises(UsageError, match="operations"):
        pin(Recipe(steps=(Step(op="sketsh"),)), CATALOGUE)


def test_inversions_of_other_generators_and_photos_are_refused(editor):
    opened(editor)
    inversion = editor.inversion()
    with pytest.raises(UsageError, match="another photo"):
        editor.set_inversion(inversion, square(seed=1))
    with pytest.raises(InversionError):
        editor.set_inversion(Inversion(**{**vars(inversion), "family": "stylegan2-1024"}), square())
    with pytest.raises(InversionError, match="transfer"):
        editor.set_inversion(Inversion(**{**vars(inversion), "generator_sha256": "0" * 64}), square())
    editor.set_inversion(Inversion(**{**vars(inversion), "generator_sha256": "0" * 64}), square(), transfer=True)


def test_a_new_photo_forgets_the_old_one_and_its_faces(editor):
    opened(editor)
    editor.open(square(seed=9))
    with pytest.raises(UsageError):
        editor.render({"smile": 1})


def test_scenes_are_values(editor):
    opened(editor)
    scene = editor.scene
    edited = apply(scene, Recipe.from_strengths({"smile": 1}).steps[0], CATALOGUE)
    assert not torch.equal(edited.inversions[0].ws, scene.inversions[0].ws)
    assert editor.scene is scene
    with pytest.raises(UsageError, match="has not been inverted"):
        apply(scene, Recipe.from_strengths({"smile": 1}, face=1).steps[0], CATALOGUE)
    with pytest.raises(UsageError, match="operations"):
        apply(scene, Step(op="sketsh"), CATALOGUE)


def test_offsets_that_do_not_fit_the_generator_are_refused_in_one_sentence():
    class Strict(FakeGenerator):
        def synthesis(self, ws, deltas=None, features=None, until=None):
            return super().synthesis(ws + deltas["shift"].apply(ws[0]))

    editor = session.Editor(Strict(), catalogue=CATALOGUE, strategies=STRATEGIES)
    odd = Delta("add", (torch.zeros(1, 7),))  # a weight of (2, 4) cannot be offset by it
    inversion = Inversion(ws=torch.zeros(1, 2, 4), family="fake-64", deltas={"shift": odd})
    with pytest.raises(InversionError, match="do not fit the generator"):
        editor.set_inversion(inversion)
    assert editor.scene is None
