"""Faces from pictures that lack something: what is compared, what stays, and the files that are written."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from editing import provenance, session, translate
from editing.faces import align, detect
from editing.faces import photo as photos
from editing.heads import drawing, registry
from editing.heads.drawing import Order
from editing.inversion import Budget
from editing.inversion import drawing as lenses
from editing.translation.applying import places
from editing.translation.degrade import WAYS
from editing.types import Inversion
from stylegan2.engine import area_resize
from stylegan2.errors import UsageError
from tests.editing import fakes


@pytest.fixture
def picture():
    coarse = np.random.default_rng(0).integers(0, 255, (16, 16, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((128, 128), Image.Resampling.BICUBIC))


def degraded(picture, way, seed=0):
    return session.to_tensor(WAYS[way](picture, np.random.default_rng(seed)))


def test_a_lens_shows_the_same_of_a_picture_and_of_what_is_left_of_it(picture):
    whole = session.to_tensor(picture)
    for way in ("gray", "half"):
        given = degraded(picture, way)
        lens, weights = lenses.seen(way, given)
        assert (lens(whole) - lens(given)).abs().max() < 0.01 < (whole - given).abs().max()
        small, few = lens(area_resize(whole, 64)), lens(area_resize(given, 64))
        assert (small - few).abs().max() < 0.01
        assert weights.identity == (0 if way == "half" else lenses.OPTIMISE.weights.identity)


def test_how_many_pixels_a_picture_has(picture):
    assert lenses.pixels_of(session.to_tensor(picture)) in (16, 32)
    noisy = np.random.default_rng(1).integers(0, 255, (256, 256, 3)).astype(np.uint8)
    assert lenses.pixels_of(session.to_tensor(noisy)) == 128
    assert lenses.pixels_of(degraded(picture, "low")) <= 32
    lens, weights = lenses.seen("low", session.to_tensor(picture))
    assert weights.scales[0] == lenses.pixels_of(session.to_tensor(picture))
    assert lenses.seen("low", session.to_tensor(noisy))[1].identity > 0 == weights.identity  # sure of the person or not
    assert (lens(session.to_tensor(picture)) - session.to_tensor(picture)).abs().mean() < 0.05
    assert lens(session.to_tensor(noisy)).std() < 0.6 * session.to_tensor(noisy).std()


def test_what_a_picture_knows_stays(picture):
    other = picture[::-1, ::-1].copy() // 2 + 60
    gray = WAYS["gray"](picture, np.random.default_rng(0))
    coloured = drawing.kept("gray", gray, other)
    luma = [image.astype(float) @ drawing.LUMA for image in (coloured, gray)]
    inside = ((coloured > 0) & (coloured < 255)).all(2)  # nothing is clipped there
    assert inside.mean() > 0.5 and np.abs(luma[0] - luma[1])[inside].max() < 2
    half = WAYS["half"](picture, np.random.default_rng(0))
    found = drawing.kept("half", half, other)
    known = (half == picture).all(2)
    assert np.array_equal(found[~known], other[~known])
    assert (found == picture).all(2)[known].mean() > 0.25  # all but a seam, which is wide in so small a picture
    for way in ("sketch", "low", "noise", "relit"):
        assert drawing.kept(way, picture, other) is other


def test_gray_pictures_are_told(picture):
    gray = WAYS["gray"](picture, np.random.default_rng(0))
    assert drawing.is_gray(gray) and not drawing.is_gray(picture)


def test_the_square_in_the_middle():
    rgb = np.zeros((40, 60, 3), np.uint8)
    rgb[:, 10:50] = 200
    assert (align.crop(rgb, drawing.square(rgb), 40)[:, 2:-2] > 190).all()


class Family:
    varies = True


@pytest.fixture
def editor(monkeypatch):
    """A toy, whose heads paint the mean colour, brighter by the seed."""

    def strategy(generator, image, *, callback=None, seed=0, budget=None):
        w = torch.cat([image.mean((0, 2, 3)) + 0.1 * seed, torch.tensor([0.2])])
        return Inversion(w.expand(1, 2, 4).clone(), generator.family, method="toy", seed=seed, steps=budget.steps or 1)

    toys = dict.fromkeys(registry.DRAWERS, strategy)
    made = session.Editor(fakes.FakeGenerator(), catalogue=fakes.CATALOGUE, strategies=toys)
    monkeypatch.setattr(session, "Editor", lambda **options: made)
    monkeypatch.setattr(registry, "drawers", lambda: dict.fromkeys(registry.DRAWERS, Family))
    monkeypatch.setattr(registry, "heads", dict)
    monkeypatch.setattr(detect, "find_faces", lambda rgb, *_: [])
    return made


def test_a_drawing_becomes_a_face_that_can_be_edited(tmp_path, editor, command):
    drawn = fakes.write_photo(tmp_path / "in" / "drawing.png")
    code, out, error = command(
        translate.main, "apply", "--head", "pix2pix:sketch", "--img", drawn.parent, "--out", tmp_path / "out",
        "--samples", 3, "--seed", 5,
    )  # fmt: skip
    assert code == 0, error
    files = [tmp_path / "out" / f"drawing.{i}.png" for i in range(3)]
    assert out.split() == [str(file) for file in files]
    seeds = []
    for file in files:
        photo, inversion = photos.load(file), Inversion.load(file.with_suffix(".inversion"))
        assert provenance.is_marked(photo) and photo.size == (64, 64)
        assert inversion.photo_sha256 == photo.sha256
        seeds.append(inversion.seed)
        editor.set_inversion(inversion, photo)
        assert np.abs(editor.edit({"smile": 2}).photo.rgb.astype(int) - photo.rgb).max() > 2
    assert seeds == [5, 6, 7]


@pytest.mark.parametrize("tint", [(90, 90, 90), (110, 85, 60)])
def test_all_faces_of_a_gray_photo_get_colours(tmp_path, editor, command, monkeypatch, tint):
    gray = np.broadcast_to(np.uint8(tint), (120, 240, 3)).copy()
    quads = [np.array([(x, 30), (x, 90), (x + 60, 90), (x + 60, 30)], float) - 0.5 for x in (20, 150)]
    faces = [
        type("Face", (), {"quad": quad, "score": 1.0, "landmarks": np.random.default_rng(0).uniform(30, 90, (68, 2))})
        for quad in quads
    ]
    monkeypatch.setattr(detect, "find_faces", lambda rgb, *_: faces)
    source = photos.save(photos.from_rgb(gray), tmp_path / "old.png")
    order = Order("rbdn:gray")

    def red(way, given, rgb):
        assert np.ptp(given, axis=2).max() == 0
        return np.clip(given.astype(int) + (60, -20, -20), 0, 255).astype(np.uint8)

    monkeypatch.setattr(drawing, "kept", red)
    ((_, file),) = drawing.run(editor, order, source, tmp_path / "out")
    result = photos.load(file).rgb.astype(int)
    for x in (50, 180):
        assert result[60, x, 0] - result[60, x, 2] > 40
    assert np.ptp(result[:20], axis=2).max() == 0 and np.ptp(result[60, 120]) == 0
    inversions = [Inversion.load(tmp_path / "out" / name) for name in ("old.inversion", "old.face1.inversion")]
    assert [round(float(found.quad[0, 0])) for found in inversions] == [20, 150]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--head", "pix2pix:sketch", "--head", "pix2pix:low"], "goes alone"),
        (["--head", "pix2pix:sketch", "--how", "lines"], "lines"),
        (["--head", "pix2pix:sketch", "--size", "64"], "--size is for networks"),
        (["--head", "pix2pix:sketsh"], "pix2pix:sketsh"),
        (["--network", "x.pth", "--steps", "3"], "--steps is for heads"),
    ],
)
def test_what_makes_no_sense_is_one_line(tmp_path, editor, command, args, words):
    drawn = fakes.write_photo(tmp_path / "drawing.png")
    code, _, error = command(translate.main, "apply", *args, "--img", drawn, "--out", tmp_path / "out")
    assert code == 2 and words in error and error.count("\n") == 1


def test_one_bad_picture_does_not_stop_a_folder(tmp_path, editor, command):
    fakes.write_photo(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "b.png").write_bytes(b"no picture")
    where = ("--img", tmp_path / "in", "--out", tmp_path / "out")
    code, out, error = command(translate.main, "apply", "--head", "pix2pix:low", *where, "--samples", 1)
    assert code == 1 and out.split() == [str(tmp_path / "out" / "a.png")] and "b.png" in error
    (tmp_path / "in" / "b.png").unlink()
    code, _, error = command(translate.main, "apply", "--head", "pix2pix:low", "--img", tmp_path / "in", "--out",
                             tmp_path / "in", "--samples", 1)  # fmt: skip
    assert code == 1 and "another --out" in error


def test_inversions_of_other_pictures_and_patches_of_cloth(tmp_path, editor, monkeypatch):
    drawn, order, out = fakes.write_photo(tmp_path / "a.png"), Order("pix2pix:sketch"), tmp_path / "out"
    list(drawing.run(editor, order, drawn, out))
    ((_, again),) = drawing.run(editor, order, drawn, out)  # its own may be made anew
    assert again == out / "a.png"
    kept = Inversion.load(out / "a.inversion")
    replace(kept, photo_sha256="other").save(out / "a.inversion")
    ((_, error),) = drawing.run(editor, order, drawn, out)
    assert "belongs to another picture" in str(error) and Inversion.load(out / "a.inversion").photo_sha256 == "other"
    small = photos.save(photos.from_rgb(np.zeros((2, 500, 3), np.uint8)), tmp_path / "small.png")
    ((_, error),) = drawing.run(editor, order, small, out)
    assert "too small" in str(error)
    cloth = type("Face", (), {"quad": np.zeros((4, 2)), "score": 0.1, "landmarks": np.zeros((68, 2))})
    monkeypatch.setattr(detect, "find_faces", lambda rgb, *_: [cloth])
    (target,) = drawing.seen(photos.load(drawn), drawing.faces_of(photos.load(drawn)), 64)
    assert target.landmarks is None


def test_names_are_told_apart(tmp_path):
    for name in ("a.jpg", "a.png", "a.jpg.png", "b.png"):
        fakes.write_photo(tmp_path / "in" / name)
    found = {path.name: base.name for path, base in places(tmp_path / "in", tmp_path / "out")}
    assert len(set(found.values())) == 4 and found["b.png"] == "b"


def test_lines_and_bad_light_have_no_further_steps(monkeypatch):
    for way in ("sketch", "relit"):
        for budget in (Budget(), Budget(steps=9), Budget(seconds=60.0)):
            assert lenses.plan(None, way, None, budget) == 1
    assert lenses.plan(None, "gray", None, Budget(steps=9)) == 9
    monkeypatch.setattr(lenses, "latent_step_seconds", lambda generator, goal: 0.5)
    given = torch.zeros(1, 3, 128, 128)
    monkeypatch.setattr(lenses, "objective", lambda image, weights: None)
    counts = [lenses.plan(None, "gray", given, Budget(seconds=s)) for s in (0.1, 5.0, 50.0)]
    assert counts[0] == 1 < counts[1] < counts[2] < 250


def test_a_head_for_another_generator(picture):
    with pytest.raises(Exception, match="16 rows"):
        lenses.drawn("rbdn:gray")(fakes.FakeGenerator(), session.to_tensor(picture))
    with pytest.raises(UsageError, match="no inversion method"):
        session.Editor(fakes.FakeGenerator(), strategies={"a": 1}).check("b")


def test_colours_of_a_real_face(mobile, generated):
    """Through the lens of its light, a gray face comes nearer with every few steps, and gets colours."""
    from editing.inversion import STRATEGIES

    truth = session.to_tensor(generated(7))
    given = session.to_tensor(WAYS["gray"](generated(7), np.random.default_rng(0)))
    found = [STRATEGIES["rbdn:gray"](mobile, given, budget=Budget(steps=steps)) for steps in (1, 8)]
    assert [one.steps for one in found] == [1, 8] and found[1].metrics["l2"] < found[0].metrics["l2"]
    rgb = session.to_rgb(session.synthesise(mobile, found[1]))
    coloured = session.to_tensor(drawing.kept("gray", session.to_rgb(given), rgb))
    assert (coloured - truth).square().mean() < 0.6 * (given - truth).square().mean()
