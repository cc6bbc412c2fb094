"""Distilled edits: what the maps do to a picture, files, training, and photos."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from editing import provenance
from editing.faces import photo as photos
from editing.heads import distil, distilled
from editing.heads.distilled import SIDE, Distilled, moved
from editing.judges.parsing import CLASSES
from editing.types import Recipe
from stylegan2 import console, engine
from stylegan2.errors import NoFaceFound, UsageError, WplusError

EDITS = {"smile": (-2.0, 2.8), "mouth_open": (0.0, 2.0)}


def network(told=0.0):
    """Untrained; told: how much its maps say."""
    random, made = torch.manual_seed(3), Distilled(list(EDITS), list(EDITS.values()))
    for maps in (made.field, made.colour):
        maps.data += told * torch.randn(maps.shape, generator=random)
    return made.eval().requires_grad_(False)


def classes(count=1):
    """Skin everywhere."""
    found = torch.zeros(count, len(CLASSES), SIDE, SIDE)
    found[:, CLASSES.index("skin")] = 1
    return found


def noise(size, seed=0):
    return torch.rand(1, 3, size, size, generator=torch.manual_seed(seed)) * 2 - 1


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A file in place of the one that ships."""
    path = tmp_path / "heads" / "distilled.safetensors"
    path.parent.mkdir()
    distilled.save(path, network(0.02))
    monkeypatch.setattr(distilled, "SHIPPED", path)
    distilled.load.cache_clear()
    yield distilled.load(path)
    distilled.load.cache_clear()


def test_maps_move_recolour_take_away_detail_and_add():
    picture = noise(512)
    small = engine.area_resize(picture, SIDE)
    still, nothing = torch.zeros(1, 2, SIDE, SIDE), torch.zeros(1, 1, SIDE, SIDE)
    none = torch.zeros(1, 3, SIDE, SIDE)
    torch.testing.assert_close(moved(picture, small, still, none, none, nothing), picture, atol=1e-4, rtol=0)
    aside = still.clone()
    aside[:, 0] = 8 * 2 / 512  # everything is fetched from 8 pixels further right
    found = moved(picture, small, aside, none, none, nothing)
    torch.testing.assert_close(found[..., :-9], picture[..., 8:-1], atol=1e-3, rtol=0)
    soft = moved(picture, small, still, none, none, nothing - 1)
    base = torch.nn.functional.interpolate(small, size=(512, 512), mode="bilinear")
    torch.testing.assert_close(soft, base, atol=1e-4, rtol=0)
    for r, c in ((none + 0.25, none), (none, none + 0.25)):
        torch.testing.assert_close(moved(picture, small, still, r, c, nothing), picture + 0.25, atol=1e-4, rtol=0)
    left = none.clone()
    left[..., : SIDE // 2] = 1
    where = moved(0 * picture, 0 * small, aside, none, left, nothing)[0, 0, 0]
    assert where[244] > 0.9 and where[252] < 0.1  # colours move with what they are on
    assert moved(0 * picture, 0 * small, aside, left, none, nothing)[0, 0, 0, 252] > 0.9  # what is new does not


def test_classes_say_what_moves_and_which_colours_change():
    made, picture = network(), noise(SIDE)
    made.field[0, :3] = made.field[0, 5] = 0.1
    made.gate[0, 0, CLASSES.index("skin")] = 0
    made.colour[0, CLASSES.index("skin"), :, 3] = 0.2
    made.colour[0, CLASSES.index("skin"), 0, 1] = 1.0  # green makes red
    f, r, c, g = made.maps(picture, classes(), torch.tensor([[1.4, 0.0]]))
    assert f.abs().max() == 0
    torch.testing.assert_close(g, torch.full((1, 1, SIDE, SIDE), 0.05).tanh())
    torch.testing.assert_close(r[0, 0], torch.full((SIDE, SIDE), 0.05))
    torch.testing.assert_close(c[0, 0], 0.5 * (0.2 + picture[0, 1]))
    torch.testing.assert_close(c[0, 1], torch.full((SIDE, SIDE), 0.1))
    f, _, c, _ = made.maps(picture, classes().roll(1, 1), torch.tensor([[1.4, 0.0]]))
    assert f.abs().min() > 0.01 and c.abs().max() == 0


def test_nothing_is_done_at_strength_0_and_others_than_were_seen_are_refused():
    made, picture = network(0.05), noise(300)
    assert made.edit(picture, {"smile": 0.0}) is picture
    assert all(each.abs().max() == 0 for each in made.maps(noise(SIDE), classes(), torch.zeros(1, 2)))
    with pytest.raises(UsageError, match="smlie.*smile"):
        made.edit(picture, {"smlie": 1.0})
    for name, strength in (("smile", 2.9), ("mouth_open", -0.1), ("smile", 1e39), ("smile", float("nan"))):
        with pytest.raises(UsageError, match=f"distilled:{name} goes from"):
            made.edit(picture, {name: strength})


def test_strengths_are_told_apart_by_name_and_side():
    which, far = network().side(torch.tensor([[1.4, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, -1.0]]))
    assert which.tolist()[:3] == [0, 2, 1]
    torch.testing.assert_close(far, torch.tensor([0.5, 0.5, 1.0, 0.0]))  # no mouth that is closed further was seen


def test_edits_follow_one_another():
    made, picture = network(0.03), noise(SIDE)
    one = made.edit(picture, {"smile": 1.0})
    both = made.edit(picture, {"smile": 1.0, "mouth_open": 1.0})
    torch.testing.assert_close(made.edit(one, {"mouth_open": 1.0}), both)
    assert not torch.equal(one, both)


def test_a_file_gives_back_what_went_into_it_and_others_are_refused(tmp_path):
    path, made = tmp_path / "a.safetensors", network(0.02)
    distilled.save(path, made)
    found = distilled.load(path)
    assert found.edits == tuple(EDITS) and found.ends == tuple(EDITS.values())
    assert not any(parameter.requires_grad for parameter in found.parameters())
    expected = made.edit(noise(SIDE), {"smile": 2.0})
    torch.testing.assert_close(found.edit(noise(SIDE), {"smile": 2.0}), expected, atol=0.02, rtol=0)  # float16
    state = load_file(path)
    facts = {"kind": "distilled", "edits": list(EDITS), "ends": list(EDITS.values())}
    for broken, tensors in [
        (facts | {"kind": "pix2pix"}, state), (facts | {"edits": ["smile"]}, state),
        (facts | {"ends": [[1, 2], [0, 1]]}, state),
        (facts | {"ends": [[-1, 10**400], [0, 1]]}, state), (facts | {"ends": "ab"}, state),
        ({"kind": "distilled"}, state),
        (facts, {k: v for k, v in state.items() if "gate" not in k}),
        (facts, {k: v[:1] if "field" in k else v for k, v in state.items()}),
        (facts, state | {"distilled.gate": state["distilled.gate"] * float("nan")}),
    ]:  # fmt: skip
        bad = tmp_path / "bad.safetensors"
        save_file(tensors, bad, metadata={"heads": json.dumps(broken)})
        distilled.load.cache_clear()
        with pytest.raises(WplusError) as error:
            distilled.load(bad)
        assert "bad.safetensors" in str(error.value) and "\n" not in str(error.value)
    (tmp_path / "bad.safetensors").write_bytes(b"none")
    distilled.load.cache_clear()
    with pytest.raises(WplusError, match="cannot be read"):
        distilled.load(tmp_path / "bad.safetensors")


def pairs(folder, count=34):
    """Faces of one colour; smile makes them lighter."""
    folder.mkdir()
    facts = {"kind": "ranged", "edits": EDITS}
    (folder / "facts.json").write_text(json.dumps(facts))
    random = np.random.default_rng(0)
    a = np.broadcast_to(random.integers(60, 150, (count, 1, 1, 3)), (count, 64, 64, 3)).astype(np.uint8)
    labels = np.zeros((count, 2, 2), np.float32)
    labels[:, 0, 0], labels[:, 1, 0] = 2.8, 2.0
    b = np.stack([a + 70, a + 50], 1)
    for name, array in (("a", a), ("b", b), ("labels", labels)):
        np.save(folder / f"0.{name}.npy", array)
    (folder / "0.seeds").write_text(f"{count}\n")
    return folder


@pytest.mark.weights
def test_it_learns_and_goes_on_where_it_was(tmp_path, monkeypatch, weights, capsys):
    weights("efficientnet-lite0")
    monkeypatch.setattr(distil, "SAVE_EVERY", 4)
    made, out = distil.Pairs(pairs(tmp_path / "pairs")), tmp_path / "out.safetensors"
    distil.train(made, out, 24, 0.05, 1, 0)  # no time: one step
    assert torch.load(out.with_suffix(".state"), weights_only=True)["step"] == 1
    distil.train(made, out, 24, 0.05, 1, None)
    assert torch.load(out.with_suffix(".state"), weights_only=True)["step"] == 24
    found = distilled.load(out)
    a = made[0, 0][0]
    with pytest.raises(UsageError, match="these pairs and batches"):
        distil.train(made, out, 24, 0.05, 2, None)
    distil.train(made, out, 24, 0.05, 1, None)  # nothing is left to do
    assert "24 images already" in capsys.readouterr().out
    out.with_suffix(".state").write_bytes(b"none")
    with pytest.raises(UsageError, match="is no state"):
        distil.train(made, out, 24, 0.05, 1, None)
    wanted, reached = 70 / 127.5, float((found.edit(a, {"smile": 2.8}) - a).mean())
    assert 0.3 * wanted < reached < 1.7 * wanted


def test_a_shard_that_grew_is_looked_at_again(tmp_path):
    folder = pairs(tmp_path / "pairs", distil.HELD_OUT + 1)
    distil.Pairs(folder)
    for name in ("a", "b", "labels"):
        old = np.load(folder / f"0.{name}.npy")
        np.save(folder / f"0.{name}.npy", np.concatenate([old, old[:2]]))
    assert len(distil.Pairs(folder).classes) == distil.HELD_OUT + 3
    (folder / "0.a.npy").write_bytes(b"none")
    with pytest.raises(UsageError, match="damaged"):
        distil.Pairs(folder)


def test_other_folders_are_no_pairs_of_ranged_edits(tmp_path):
    folder = pairs(tmp_path / "few", distil.HELD_OUT)
    with pytest.raises(UsageError, match="more than 32"):
        distil.Pairs(folder)
    (folder / "facts.json").write_text(json.dumps({"kind": "edited"}))
    with pytest.raises(UsageError, match="--kind ranged"):
        distil.Pairs(folder)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [((), "--kind ranged"), (("--batch", "0"), "batch"), (("--out", "a.state"), "a .safetensors file")],
)
def test_a_training_that_cannot_begin_is_one_sentence(tmp_path, capsys, arguments, words):
    (tmp_path / "facts.json").write_text(json.dumps({"kind": "edited"}))
    with pytest.raises(SystemExit) as end:
        console.run(distil.app, "distil", [str(tmp_path), "--out", str(tmp_path / "a.safetensors"), *arguments])
    assert end.value.code == 2 and words in capsys.readouterr().err


def test_the_motion_that_is_shown_is_that_of_the_pictures():
    a = torch.nn.functional.interpolate(noise(16), size=(128, 128), mode="bicubic").clamp(-1, 1)
    b = torch.roll(a, 2, 3)  # to the right: fetched from the left
    found = distil.motion(a, b)[0, :, 64:192, 64:192]
    assert found[0].median() == pytest.approx(-2 * 2 / 128, rel=0.1) and found[1].median().abs() < 0.002


def test_both_pictures_are_varied_alike():
    a = noise(64)
    seen = torch.nn.functional.one_hot((a[:, 0] > 0).long(), len(CLASSES)).permute(0, 3, 1, 2).float()
    for seed in range(4):
        one, other, where = distil.varied(a, a.clone(), seen, np.random.default_rng(seed))
        torch.testing.assert_close(one, other)
        assert one.abs().max() <= 1 and not torch.equal(one, a) and where.shape == (1, len(CLASSES), SIDE, SIDE)
        there = engine.area_resize(where, 64)[0, 1] > 0.5
        assert one[0, 0][there].mean() > one[0, 0][~there].mean() + 0.3  # classes went along


def test_all_faces_of_a_photo_are_edited_and_the_rest_is_the_photo(shipped, generated):
    both = np.full((560, 1060, 3), 128, np.uint8)
    for left, seed in ((20, 3), (540, 9)):
        both[30:530, left : left + 500] = np.asarray(Image.fromarray(generated(seed)).resize((500, 500)))
    photo = photos.from_rgb(both)
    result, count = distilled.on_photo(shipped, photo, {"smile": 2.0})
    recipe, result = distilled.recipe_of(photo, {"smile": 2.0}, count), result.rgb
    assert [step.face for step in recipe.steps] == [0, 1] and recipe.photo_sha256 == photo.sha256
    changed = (result != both).any(-1)
    assert changed[:, :530].any() and changed[:, 530:].any() and not changed[:8].any()
    assert distilled.on_photo(shipped, photo, {"smile": 0.0})[0] is photo
    with pytest.raises(NoFaceFound, match="No face"):
        distilled.on_photo(shipped, photos.from_rgb(np.full((90, 90, 3), 128, np.uint8)), {"smile": 1.0})


def test_the_command_writes_marked_pictures_and_tells_what_it_could_not(shipped, generated, tmp_path, capsys):
    from editing import translate

    folder = tmp_path / "in"
    folder.mkdir()
    Image.fromarray(generated(3)).resize((512, 512)).save(folder / "a.png")
    (folder / "b.png").write_bytes(b"none")

    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            translate.main(["apply", "--img", str(folder), "--out", str(tmp_path / "out"), *arguments])
        return end.value.code, *capsys.readouterr()

    code, out, error = run("--head", "distilled:smile=2", "--head", "distilled:mouth_open")
    assert code == 1 and "b.png" in error and out.split() == [str(tmp_path / "out" / "a.png")]
    written = photos.load(tmp_path / "out" / "a.png")
    steps = Recipe.from_json(provenance.recipe_text(written)).steps
    assert provenance.is_marked(written)
    assert [(step.op, step.parameters["name"], step.strength) for step in steps] == [
        ("distilled", "smile", 2.0), ("distilled", "mouth_open", 1.0)]  # fmt: skip
    for arguments, words in [
        (["--head", "distilled:smlie"], "smile"),
        (["--head", "distilled:smile", "--head", "cyclegan:young2old"], "by themselves"),
        (["--head", "distilled:smile=much"], "finite"),
        (["--head", "distilled:smile=1", "--head", "distilled:smile=2"], "named twice"),
        (["--head", "distilled:smile=3"], "goes from -2 to 2.8"),
        (["--head", "distilled:smile", "--device", "abacus"], "abacus"),
        (["--head", "distilled:smile", "--steps", "3"], "--steps"),
    ]:
        code, out, error = run(*arguments)
        assert code == 2 and words in error and not out


@pytest.mark.weights
def test_the_file_that_ships_moves_what_it_names(generated):
    from editing.judges import population
    from editing.judges.judge import distance, judge

    made, picture = distilled.load(), generated(33)
    assert set(made.edits) == {"smile", "mouth_open", "eyes_open", "age", "blond"}
    before = judge(picture)
    for name, judged, least in (("smile", "smile", 0.5), ("mouth_open", "mouth_open", 0.5), ("age", "age", 0.15),
                                ("eyes_open", "eye_open", 0.5), ("blond", "hair_light", 0.5)):  # fmt: skip
        for strength in filter(None, made.ends[made.edits.index(name)]):
            after = judge(engine.to_uint8(made.edit(engine.to_float(picture), {name: strength}))[0])
            moved = (after.values[judged] - before.values[judged]) / population.load()[judged][1]
            assert np.sign(strength) * moved > least, (name, strength)
            assert distance(before.descriptor, after.descriptor) < 0.45
