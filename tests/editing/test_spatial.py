"""Painted labels and moved parts: what they ask for, what the generator then draws, and files that are no maps."""

import base64
import io
import json
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from editing import session, spatial, steps
from editing.heads import repaint
from editing.inversion import residual
from editing.judges import parsing
from editing.judges.parsing.labels import CLASSES, PALETTE
from editing.spatial import NOTHING, SIDE
from editing.types import Inversion, Recipe, Step
from stylegan2 import engine
from stylegan2.errors import PhotoError, UsageError
from stylegan2.generator import FeatureEdit
from tests.editing import fakes

SEED = 5


def bomb():
    """A step's labels whose header asks for 3.6 billion pixels."""
    stream = io.BytesIO()
    Image.new("L", (8, 8)).save(stream, "PNG")
    data = bytearray(stream.getvalue())
    data[16:24] = struct.pack(">II", 60000, 60000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return base64.b64encode(bytes(data)).decode()


BOMB = bomb()


@pytest.fixture(scope="module")
def editor(mobile):
    made = session.Editor(mobile)
    ws = engine.broadcast(mobile, engine.latents(mobile, [SEED], 0.7)).clone()
    made.set_inversion(Inversion(ws=ws, family=mobile.family))
    return made


def drawn(editor, *found):
    return session.to_rgb(editor.render(Recipe(steps=found)))


def painted(face, label, box):
    labels = np.full((SIDE, SIDE), NOTHING, np.uint8)
    x0, y0, x1, y1 = (round(v * SIDE) for v in box)
    labels[y0:y1, x0:x1] = CLASSES.index(label)
    return labels


def test_a_moved_mouth_is_where_it_was_sent_and_the_eyes_stay(editor):
    before = session.to_rgb(editor.reconstruction())
    after = drawn(editor, spatial.moves_step({"mouth": (0.03, 0.05)}))
    was, now = (repaint.box_of(repaint.of(parsing.parse(p), "mouth")) for p in (before, after))
    assert now[0] - was[0] == pytest.approx(0.03, abs=0.015) and now[1] - was[1] == pytest.approx(0.05, abs=0.015)
    eyes = [repaint.of(parsing.parse(p), "eyes") for p in (before, after)]
    assert (eyes[0] & eyes[1]).sum() / (eyes[0] | eyes[1]).sum() > 0.85
    far = np.abs(after[:300].astype(int) - before[:300].astype(int)).mean()
    near = np.abs(after[650:900, 350:700].astype(int) - before[650:900, 350:700].astype(int)).mean()
    assert far < 1 < near
    same = drawn(editor, spatial.boxes_step({"mouth": now}))
    assert np.abs(same.astype(int) - after.astype(int)).mean() < 2  # boxes say the same in other words


def test_eyes_move_by_whole_cells_and_stay_eyes(editor):
    before = parsing.parse(session.to_rgb(editor.reconstruction()))
    after = parsing.parse(drawn(editor, spatial.moves_step({"eyes": (0.045, 0.02)})))
    was, now = (np.argwhere(repaint.of(labels, "eyes")).mean(0) / 256 for labels in (before, after))
    assert np.allclose(now - was, (0.02, 0.045), atol=0.015)


def test_hair_is_asked_to_go_beyond_its_box_and_comes_back(editor):
    face = spatial.map_of(editor.generator, editor.inversion())
    home = repaint.box_of(repaint.of(face, "hair"))
    near, far = (spatial.boxes_step({"hair": repaint.shifted(home, dx, 0.0)}) for dx in (0.05, 0.3))
    went = {dx: spatial.planned(editor.generator, editor.inversion(), [step], face).moves["hair"][0] - home[0]
            for dx, step in ((0.05, near), (0.3, far))}  # fmt: skip
    assert went == {0.05: pytest.approx(0.07), 0.3: pytest.approx(0.3 + spatial.BEYOND)}
    assert spatial.followed(face, [near])[1]["hair"][0] == pytest.approx(home[0] + 0.05)  # what the editor shows
    twice = [spatial.moves_step({"hair": (0.02, 0.0)}), near, spatial.boxes_step({"hair": home})]
    ways = [spatial.planned(editor.generator, editor.inversion(), twice[: n + 1], face).moves["hair"] for n in range(3)]
    assert [way[0] - home[0] for way in ways] == pytest.approx([0.028, 0.07, 0.0])
    assert spatial.farther((0.0, 0.0, 0.3, 0.3), (0.98, 0.0, 0.3, 0.3), 2.0) == [0.98, 0.0, 0.3, 0.3]  # outside


def test_painted_hair_becomes_hair_and_what_is_not_painted_stays(editor):
    face = parsing.parse(session.to_rgb(editor.reconstruction()))
    box = repaint.box_of(repaint.of(face, "hair"))
    mask = painted(face, "hair", (box[0] - 0.08, 0.3, box[0] + 0.1, 0.7))
    after = drawn(editor, spatial.paint_step(mask))
    inside = np.kron(mask == CLASSES.index("hair"), np.ones((2, 2), bool))
    hair = CLASSES.index("hair")
    assert (parsing.parse(after)[inside] == hair).mean() > 0.7 > (face[inside] == hair).mean()
    right = np.abs(after[:, 600:].astype(int) - session.to_rgb(editor.reconstruction())[:, 600:].astype(int))
    assert right.mean() < 1


def test_of_a_whole_map_only_what_was_painted_counts(editor):
    face = spatial.map_of(editor.generator, editor.inversion())
    whole = np.roll(face, 1, 1)  # seams are a pixel off, as a photo's are
    whole[20:40, 10:30] = CLASSES.index("clothes")
    wanted, _, over = spatial.followed(face, [spatial.paint_step(whole)])
    stroke = np.zeros_like(face, bool)
    stroke[20:40, 10:30] = True
    assert (wanted[stroke] == CLASSES.index("clothes")).all()
    near = np.zeros_like(stroke)
    near[17:43, 7:33] = True
    assert np.array_equal(wanted[~near], face[~near]) and not over[~near].any()
    thin = np.full_like(face, NOTHING)
    thin[60:70, 64] = CLASSES.index("nose")  # a thin stroke on nothing was meant
    assert (spatial.followed(face, [spatial.paint_step(thin)])[0][60:70, 64] == CLASSES.index("nose")).all()


def test_steps_survive_json_and_are_worked_out_once(editor, monkeypatch):
    face = parsing.parse(session.to_rgb(editor.reconstruction()))
    recipe = Recipe(steps=(spatial.paint_step(painted(face, "hair", (0.1, 0.1, 0.3, 0.3))),
                           spatial.moves_step({"nose": (0.0, 0.02, 1.1)})))  # fmt: skip
    again = Recipe.from_json(recipe.to_json())
    assert again == recipe and len(recipe.to_json()) < 4000
    first, calls = session.to_rgb(editor.render(recipe)), []
    monkeypatch.setattr(spatial, "planned", lambda *_: calls.append(1))
    assert np.array_equal(session.to_rgb(editor.render(again)), first) and not calls
    off = Recipe(
        steps=tuple(s.model_copy(update={"parameters": {**s.parameters, "strength": 0}}) for s in recipe.steps)
    )
    assert torch.equal(editor.render(off), editor.reconstruction())


def test_the_later_step_wins_and_parts_within_parts_go_their_own_ways(editor):
    face = parsing.parse(session.to_rgb(editor.reconstruction()))
    move = spatial.moves_step({"mouth": (0.0, 0.09)})
    there = repaint.box_of(repaint.of(parsing.parse(drawn(editor, move)), "mouth"))
    over = painted(face, "skin", (there[0] - 0.04, there[1] - 0.03, there[0] + there[2] + 0.04, there[1] + 0.12))
    gone = repaint.of(parsing.parse(drawn(editor, move, spatial.paint_step(over))), "mouth")
    assert gone.sum() < 0.15 * repaint.of(face, "mouth").sum()
    boxes = {part: repaint.box_of(repaint.of(face, part)) for part in ("mouth", "face")}
    both = {"mouth": repaint.shifted(boxes["mouth"], 0, 0.09), "face": repaint.shifted(boxes["face"], 0, 0.008)}
    after = parsing.parse(drawn(editor, spatial.boxes_step(both)))
    old = repaint.of(face, "mouth") & repaint.of(after, "mouth")
    assert old.sum() < 0.25 * repaint.of(face, "mouth").sum()  # one mouth


def test_later_edits_move_the_picture_underneath(editor):
    move = spatial.moves_step({"mouth": (0.0, 0.05)})
    both = drawn(editor, move, *Recipe.from_strengths({"age": 3.0}).steps)
    moved = drawn(editor, move)
    assert np.abs(both.astype(int) - moved.astype(int)).mean() > 3
    box = repaint.box_of(repaint.of(parsing.parse(both), "mouth"))
    was = repaint.box_of(repaint.of(parsing.parse(session.to_rgb(editor.reconstruction())), "mouth"))
    assert box[1] - was[1] > 0.02


def test_a_photos_own_residual_fades_where_a_part_was_painted_and_the_paint_does_not(mobile):
    ws = engine.broadcast(mobile, engine.latents(mobile, [SEED], 0.7)).clone()
    own = FeatureEdit(torch.zeros(1, 256, 128, 128), torch.ones(1, 1, 128, 128), ws)
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., 4:10, 4:10] = 1
    door = FeatureEdit(3 * torch.randn(1, 512, 32, 32), mask, ws)
    found = residual.gated(mobile, {"b128": own, "b32": door}, ws)
    assert found["b32"] is door
    faded = found["b128"].mask[0, 0]
    assert faded[20:36, 20:36].mean() < 0.3 and faded[80:, 80:].min() > 0.99
    assert residual.gated(mobile, {"b128": own}, ws)["b128"] is own
    assert residual.gated(mobile, {"b32": door}, ws + 0.5)["b32"] is door  # another code: it stays


def test_an_edit_of_a_region_knows_what_was_painted(editor):
    move = spatial.moves_step({"mouth": (0.0, 0.05)})
    region = Recipe.from_strengths({"hair_volume": 2.0}).steps[0].model_copy(update={"region": "hair"})
    both, moved = drawn(editor, move, region), drawn(editor, move)
    chin = np.s_[650:900, 400:620]
    assert np.abs(both[chin].astype(int) - moved[chin].astype(int)).mean() < 1
    eyes = spatial.moves_step({"eyes": (0.03, 0.02)})
    little = Recipe.from_strengths({"age": 0.001}).steps[0].model_copy(update={"region": "face"})
    assert np.abs(drawn(editor, eyes, little).astype(int) - drawn(editor, eyes).astype(int)).mean() < 0.2


@pytest.mark.parametrize("step,words", [
    (Step(op="paint", parameters={"labels": "%%"}), "cannot be read"),
    (Step(op="paint", parameters={}), "cannot be read"),
    (Step(op="paint", parameters={"labels": BOMB}), "cannot be read"),
    (Step(op="boxes", parameters={"moves": {"mouth": [10**400, 0]}}), "two numbers"),
    (Step(op="boxes", parameters={"boxes": {"mouth": [10**400, 0, 1, 1]}}), "four numbers"),
    (Step(op="boxes", parameters={"boxes": {}}), "Boxes are parts"),
    (Step(op="boxes", parameters={"boxes": {"moth": [0, 0, 1, 1]}}), "mouth"),
    (Step(op="boxes", parameters={"boxes": {"mouth": [0, 0, 1]}}), "four numbers"),
    (Step(op="boxes", parameters={"moves": {"mouth": [5, 0]}}), "two numbers"),
    (Step(op="boxes", parameters={"moves": {"mouth": "up"}}), "two numbers"),
    (Step(op="boxes", parameters={"moves": {"mouth": [0, 0.1]}}, region="lips"), "no region"),
])  # fmt: skip
def test_steps_that_are_none_are_refused_before_anything_is_drawn(step, words):
    with pytest.raises(UsageError, match=words):
        steps.pin(Recipe(steps=(step,)), fakes.CATALOGUE)
    with pytest.raises(UsageError, match="whole editor"):
        good = spatial.moves_step({"mouth": (0, 0.1)})
        steps.layers(Inversion(torch.zeros(1, 2, 4), "x"), [good], fakes.CATALOGUE)


def test_parts_that_a_face_does_not_have_and_generators_of_another_kind(editor):
    with pytest.raises(UsageError, match="has no glasses"):
        editor.render(Recipe(steps=(spatial.moves_step({"glasses": (0, 0.1)}),)))
    toy = session.Editor(fakes.FakeGenerator(), catalogue=fakes.CATALOGUE, strategies={})
    toy.set_inversion(Inversion(torch.zeros(1, 2, 4), "fake-64"))
    with pytest.raises(UsageError, match="default generator"):
        toy.render(Recipe(steps=(spatial.moves_step({"mouth": (0, 0.1)}),)))


# ---- files


@pytest.fixture
def labels():
    return np.random.default_rng(0).integers(0, len(CLASSES), (64, 64)).astype(np.uint8)


def test_maps_are_read_as_they_were_written_whatever_a_program_made_of_them(tmp_path, labels):
    labels[:5] = NOTHING
    spatial.write_map(labels, tmp_path / "map.png")
    with Image.open(tmp_path / "map.png") as image:
        assert image.mode == "P" and np.array_equal(np.asarray(image)[5:], labels[5:])
        image.convert("RGBA").save(tmp_path / "rgba.png")
        colours = np.asarray(image.convert("RGB"))
    assert np.array_equal(colours[10, 10], PALETTE[labels[10, 10]])
    Image.fromarray(labels).save(tmp_path / "gray.png")
    for name in ("map", "rgba", "gray"):
        assert np.array_equal(spatial.read_map(tmp_path / f"{name}.png"), labels), name
    near = np.clip(colours[5:].astype(int) + 9, 0, 255).astype(np.uint8)  # as JPEG or a soft brush leave them
    Image.fromarray(near).save(tmp_path / "near.png")
    assert np.array_equal(spatial.read_map(tmp_path / "near.png"), labels[5:])


def test_pictures_that_are_no_maps(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)).save(
        tmp_path / "photo.png"
    )
    Image.fromarray(np.full((64, 64), 77, np.uint8)).save(tmp_path / "gray.png")
    (tmp_path / "text.png").write_text("no picture")
    for name, error in (("photo", UsageError), ("gray", UsageError), ("text", PhotoError), ("missing", PhotoError)):
        with pytest.raises(error, match=name):
            spatial.read_map(tmp_path / f"{name}.png")


def test_a_map_runs_no_program(tmp_path, monkeypatch):
    from tests.editing.faces.samples import disguised_eps

    picture, mark = disguised_eps(tmp_path, monkeypatch)
    with pytest.raises(PhotoError, match="holiday"):
        spatial.read_map(picture)
    assert not mark.exists()


@pytest.mark.parametrize("form", ["AVIF", "WEBP", "PNG"])
def test_damaged_maps_make_one_sentence(tmp_path, form, labels):
    path = tmp_path / "map.png"
    Image.fromarray(labels).convert("RGB").save(path, form)
    whole = path.read_bytes()
    for at in (8, 40, len(whole) // 2, len(whole) - 100):
        path.write_bytes(whole[:at])
        with pytest.raises(PhotoError, match=r"map\.png is not a picture") as caught:
            spatial.read_map(path)
        assert "\n" not in str(caught.value)


def test_layouts_are_read_as_they_were_written(tmp_path, labels):
    from tests.editing.heads.test_repaint import drawn as map_of

    face = map_of(hair=(24, 10, 104, 80), skin=(36, 30, 92, 112), eyes=[(44, 56, 56, 62), (72, 56, 84, 62)])
    spatial.write_layout(face, tmp_path / "layout.json")
    found = spatial.read_layout(tmp_path / "layout.json")
    assert set(found) == {"hair", "face", "left_eyes", "right_eyes"}
    assert np.allclose(found["hair"], repaint.box_of(repaint.of(face, "hair")), atol=1e-3)
    (tmp_path / "list.json").write_text(json.dumps({"boxes": [{"class": n, "box": b} for n, b in found.items()]}))
    assert spatial.read_layout(tmp_path / "list.json") == found
    with pytest.raises(UsageError, match="No box"):
        spatial.read_layout(tmp_path / "layout.json", moved=True)
    changed = json.loads((tmp_path / "layout.json").read_text())
    changed["boxes"]["left_eyes"][0] += 0.01
    (tmp_path / "changed.json").write_text(json.dumps(changed))
    assert list(spatial.read_layout(tmp_path / "changed.json", moved=True)) == ["left_eyes"]
    for text in ("", "[]", "{}", '{"boxes": 3}', '{"boxes": {"hair": [0, 0]}}', "[" * 9000):
        (tmp_path / "layout.json").write_text(text)
        with pytest.raises(UsageError) as caught:
            spatial.read_layout(tmp_path / "layout.json")
        assert "\n" not in str(caught.value)


def test_the_command_moves_and_paints(tmp_path, editor, command, monkeypatch):
    from editing import edit

    inversion = replace(editor.inversion(), quad=None)
    inversion.save(tmp_path / "face.inversion")
    face = spatial.map_of(editor.generator, inversion)
    spatial.write_map(painted(face, "hair", (0.05, 0.3, 0.25, 0.7)), tmp_path / "paint.png")
    monkeypatch.setattr(edit, "load_generator", lambda path, device: editor.generator)
    code, out, error = command(
        edit.main, "--inversion", tmp_path / "face.inversion", "--move", "mouth=0,0.05",
        "--paint", tmp_path / "paint.png", "--out", tmp_path / "out",
    )  # fmt: skip
    assert code == 0, error
    recipe = json.loads(
        next(path for path in map(tmp_path.joinpath, out.split()) if path.suffix == ".json").read_text()
    )
    assert [step["op"] for step in recipe["steps"]] == ["paint", "boxes"]
    code, _, error = command(
        edit.main, "--inversion", tmp_path / "face.inversion", "--move", "mouth=0,0.1", "--move", "mouth=0.1,0"
    )
    assert code == 2 and "twice" in error
    for wrong, words in (("mouth", "not PART="), ("moth=0,1", "mouth"), ("mouth=9,9", "at most 1")):
        code, out, error = command(
            edit.main, "--inversion", tmp_path / "face.inversion", "--move", wrong, "--out", tmp_path
        )
        assert code == 2 and words in error and error.count("\n") == 1


def test_a_photo_is_parsed_into_a_map_and_a_layout_and_never_overwritten(tmp_path, generated, command):
    from editing import translate

    photo = tmp_path / "face.png"
    Image.fromarray(generated(SEED)).save(photo)
    before = photo.read_bytes()
    code, out, error = command(translate.main, "parse", "--img", photo, "--out", tmp_path / "map.png", "--aligned")
    assert code == 0 and out.split() == [str(tmp_path / "map.png"), str(tmp_path / "map.json")], error
    assert np.array_equal(spatial.read_map(tmp_path / "map.png"), parsing.parse(generated(SEED)))
    assert {"hair", "mouth", "left_eyes"} <= set(spatial.read_layout(tmp_path / "map.json"))
    for wrong, words in ((photo, "never overwritten"), (tmp_path / "map.jpg", "a PNG"), (tmp_path / "x.json", "a PNG")):
        code, _, error = command(translate.main, "parse", "--img", photo, "--out", wrong, "--aligned")
        assert code == 2 and words in error
    assert photo.read_bytes() == before


def test_a_recipe_that_a_jpeg_cannot_hold_leaves_the_mark():
    from editing import provenance
    from editing.faces import photo as photos

    noise = np.random.default_rng(0).integers(0, len(CLASSES), (SIDE, SIDE)).astype(np.uint8)
    recipe = Recipe(steps=tuple(spatial.paint_step(np.roll(noise, k)) for k in range(8)))
    picture = photos.from_rgb(np.zeros((64, 64, 3), np.uint8))
    assert len(provenance.encode(picture, ".png", recipe)) > 65_000
    data = provenance.encode(picture, ".jpg", recipe)
    assert b"rainedAlgorithmicMedia" in data
