"""Faces from maps and layouts: parts where they were asked for, styles by seed or from a face, and files."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from editing import provenance, session, spatial, translate
from editing.faces import photo as photos
from editing.heads import composing, repaint
from editing.judges.parsing import parse
from editing.types import Inversion, Recipe, generator_sha256
from stylegan2 import engine
from stylegan2.errors import Cancelled, InversionError, PhotoError, UsageError


@pytest.fixture(scope="module")
def wanted(mobile):
    ws = engine.broadcast(mobile, engine.latents(mobile, [5], 0.7)).clone()
    return spatial.map_of(mobile, Inversion(ws=ws, family=mobile.family))


def overlap(a, b, part):
    a, b = repaint.of(a, part), repaint.of(b, part)
    return (a & b).sum() / max((a | b).sum(), 1)


@pytest.fixture(scope="module")
def faces(mobile, wanted):
    """Two styles for one map."""
    inversions = [composing.composed(mobile, wanted, composing.style(mobile, seed)) for seed in (1, 2)]
    return [(inversion, session.to_rgb(session.synthesise(mobile, inversion))) for inversion in inversions]


def test_a_face_has_its_parts_where_the_map_has_them(faces, wanted):
    for _, picture in faces:
        found = spatial.nearest(parse(picture))
        for part, least in (("hair", 0.7), ("face", 0.8), ("eyes", 0.35), ("mouth", 0.4), ("nose", 0.5)):
            assert overlap(found, wanted, part) > least, part


def test_styles_differ_and_are_their_codes(faces, mobile):
    (first, a), (second, b) = faces
    assert np.abs(a.astype(int) - b.astype(int)).mean() > 15
    from editing.heads.maps import SHAPED

    assert (first.ws[:, :SHAPED] == second.ws[:, :SHAPED]).all()
    assert (first.ws[:, SHAPED:] == composing.style(mobile, 1)[:, SHAPED:]).all()


def test_it_can_be_stopped(mobile, wanted):
    with pytest.raises(Cancelled):
        composing.composed(mobile, wanted, composing.style(mobile, 1), callback=lambda *_: False)


def test_the_command_writes_faces_that_can_be_edited(tmp_path, mobile, wanted, command, monkeypatch):
    made = session.Editor(mobile)
    monkeypatch.setattr(session, "Editor", lambda **options: made)
    spatial.write_map(wanted, tmp_path / "map.png")
    code, out, error = command(
        translate.main, "apply", "--head", "spade:map", "--img", tmp_path / "map.png", "--samples", 2, "--seed", 1,
        "--out", tmp_path / "out",
    )  # fmt: skip
    assert code == 0, error
    files = [tmp_path / "out" / f"map.{i}.png" for i in range(2)]
    assert out.split() == [str(file) for file in files]
    photo, inversion = photos.load(files[1]), Inversion.load(files[1].with_suffix(".inversion"))
    assert provenance.is_marked(photo) and inversion.photo_sha256 == photo.sha256 and inversion.seed == 2
    made.set_inversion(inversion, photo)
    assert np.abs(session.to_rgb(made.reconstruction()).astype(int) - photo.rgb).mean() < 1
    mouth = Recipe(steps=(spatial.moves_step({"mouth": (0.0, 0.04)}),))
    for recipe in (mouth, Recipe.from_strengths({"smile": 2.0})):  # in its picture it is the same edit
        edit = made.edit(recipe)
        assert np.abs(edit.photo.rgb.astype(int) - session.to_rgb(edit.crop)).mean() < 1.5
    made.set_inversion(inversion)
    mouth = Recipe(steps=(spatial.moves_step({"mouth": (0.0, 0.04)}),))
    moved = spatial.nearest(parse(session.to_rgb(made.render(mouth))))
    face = [
        repaint.of(spatial.nearest(labels), "hair")
        for labels in (parse(photo.rgb), parse(session.to_rgb(made.render(mouth))))
    ]
    assert (face[0] & face[1]).sum() / (face[0] | face[1]).sum() > 0.9  # and is still the face that was drawn
    was = repaint.box_of(repaint.of(spatial.nearest(parse(photo.rgb)), "mouth"))
    assert repaint.box_of(repaint.of(moved, "mouth"))[1] - was[1] > 0.015


def test_the_style_of_a_face(tmp_path, mobile, wanted):
    style = Inversion(ws=composing.style(mobile, 9), family=mobile.family, generator_sha256=generator_sha256(mobile))
    style.save(tmp_path / "like.inversion")
    spatial.write_map(wanted, tmp_path / "map.png")
    editor, order = session.Editor(mobile), composing.Order("spade:map", 4, 0, tmp_path / "like.inversion")
    ((_, file),) = composing.run(editor, order, tmp_path / "map.png", tmp_path / "out")  # one: all would be the same
    from editing.heads.maps import SHAPED

    assert torch.equal(Inversion.load(file.with_suffix(".inversion")).ws[:, SHAPED:], style.ws[:, SHAPED:])
    spatial.write_map(wanted, tmp_path / "like.png")
    ((_, error),) = composing.run(editor, order, tmp_path / "like.png", tmp_path)
    assert isinstance(error, UsageError | PhotoError)
    replace(style, ws=style.ws[:, :9]).save(tmp_path / "short.inversion")
    with pytest.raises(InversionError):
        list(composing.run(editor, replace(order, like=tmp_path / "short.inversion"), tmp_path / "map.png", tmp_path))


def test_the_command_draws_layouts_and_says_what_is_wrong(tmp_path, mobile, command, monkeypatch):
    monkeypatch.setattr(session, "Editor", lambda **options: made)
    made = type("Editor", (), {"generator": mobile, "device": "cpu", "strategies": {}})()
    from tests.editing.heads.test_layouts import LAYOUT

    (tmp_path / "layout.json").write_text(json.dumps({"boxes": LAYOUT}))
    (tmp_path / "wrong.json").write_text(json.dumps({"boxes": {"moth": [0, 0, 1, 1]}}))
    code, out, error = command(
        translate.main,
        "apply",
        "--head",
        "lostgans:layout",
        "--img",
        tmp_path,
        "--samples",
        1,
        "--out",
        tmp_path / "out",
    )
    assert code == 1 and error.count("\n") == 1 and "mouth" in error
    (file,) = out.split()
    labels = spatial.nearest(parse(photos.load(file).rgb))
    box = repaint.box_of(repaint.of(labels, "mouth"))
    assert np.abs(np.subtract(box, LAYOUT["mouth"]))[:2].max() < 0.08
    inversion = Inversion.load(file.replace(".png", ".inversion"))
    assert inversion.method == "lostgans:layout"


@pytest.mark.parametrize("options,words", [
    (("--head", "spade:map", "--head", "pix2pix:sketch"), "goes alone"),
    (("--head", "spade:map", "--how", "gray"), "--how is for heads that read pictures"),
    (("--head", "spade:map", "--steps", 3), "--steps is for"),
    (("--head", "cyclegan:young2old", "--like", "x.png"), "--like is for"),
    (("--head", "spade:mop"), "spade"),
])  # fmt: skip
def test_options_that_mean_nothing_here(tmp_path, command, options, words):
    code, _, error = command(
        translate.main, "apply", *options, "--img", tmp_path / "map.png", "--out", tmp_path / "out"
    )
    assert code == 2 and words in error and error.count("\n") == 1


def test_maps_that_say_too_little(tmp_path, command, monkeypatch, mobile):
    made = type("Editor", (), {"generator": mobile, "device": "cpu", "strategies": {}})()
    monkeypatch.setattr(session, "Editor", lambda **options: made)
    labels = np.zeros((64, 64), np.uint8)
    labels[:9] = spatial.NOTHING
    for name, each, words in (("holes", labels, "whole map"), ("wide", labels[20:], "square")):
        spatial.write_map(each, tmp_path / f"{name}.png")
        code, _, error = command(
            translate.main, "apply", "--head", "spade:map", "--img", tmp_path / f"{name}.png", "--out", tmp_path / "out"
        )
        assert code == 1 and words in error
