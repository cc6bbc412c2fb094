"""`wplus` and the invert and edit command lines on a toy generator: files, exit codes, one-line errors."""

import json

import numpy as np
import pytest

from editing import batch, cli, edit, invert, plans, provenance
from editing.faces import photo as photos
from editing.types import Inversion
from stylegan2.errors import UsageError
from tests.editing.fakes import write_photo


def one_line(err: str) -> str:
    lines = err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), err
    return lines[0]


def test_wplus_dispatches_and_suggests(command, toy, tmp_path):
    code, out, _ = command(cli.main)
    assert code == 0 and all(name in out for name in cli.COMMANDS)
    code, out, err = command(cli.main, "invret")
    assert code == 2 and "invert" in one_line(err) and not out
    photo = write_photo(tmp_path / "a.png")
    code, out, _ = command(cli.main, "invert", "--img", photo, "--aligned", "--out", tmp_path / "out")
    assert code == 0 and (tmp_path / "out" / "a.inversion").is_file()


# -------------------------------------------------------------------------------------------- invert


def test_invert_writes_its_five_files(command, toy, tmp_path):
    photo, out = write_photo(tmp_path / "face.jpg"), tmp_path / "out"
    code, stdout, stderr = command(invert.main, "--img", photo, "--aligned", "--out", out, "--seed", 7, "--json")
    assert code == 0 and stderr == ""
    report = json.loads(stdout)
    assert report["steps"] == 3 and report["seed"] == 7 and report["l2"] == 0.1 and report["seconds"] >= 0
    names = {
        "face.aligned.png",
        "face.inversion",
        "face.reconstruction.png",
        "face.comparison.png",
        "face.metrics.json",
    }
    assert {path.name for path in out.iterdir()} == names
    assert Inversion.load(out / "face.inversion").photo_sha256 == photos.load(photo).sha256
    assert photos.load(out / "face.comparison.png").size == (128, 64)
    assert photos.load(out / "face.aligned.png").size == (64, 64)


def test_nothing_biometric_in_pictures_and_metrics(command, toy, tmp_path):
    photo, out = write_photo(tmp_path / "face.jpg"), tmp_path / "out"
    command(invert.main, "--img", photo, "--aligned", "--out", out)
    ws = Inversion.load(out / "face.inversion").ws.numpy().tobytes()
    for path in out.iterdir():
        content = path.read_bytes()
        assert (ws in content) == (path.suffix == ".inversion")
        assert path.suffix == ".inversion" or (b'"ws"' not in content and b"landmarks" not in content)


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["--img", "{tmp}/missing.jpg"], 1, "missing.jpg"),
        (["--img", "{tmp}"], 1, "folder"),
        (["--img", "{tmp}/text.jpg"], 1, "text.jpg"),
        (["--img", "{tmp}/cut.jpg"], 1, "cut.jpg"),
        (["--img", "{tmp}/one.png"], 1, "No face"),
        (["--img", "{tmp}/ok.png"], 1, "No face"),
        (["--img", "{tmp}/ok.png", "--method", "tume"], 2, "tune"),
        (["--img", "{tmp}/ok.png", "--detector", "cmm"], 2, "cnn"),
        (["--img", "{tmp}/ok.png", "--device", "quantum"], 2, "quantum"),
        (["--img", "{tmp}/ok.png", "--steps", "0"], 2, "steps"),
        (["--img", "{tmp}/ok.png", "--steps", "many"], 2, "steps"),
        (["--img", "{tmp}/ok.png", "--budget", "nan"], 2, "budget"),
        (["--img", "{tmp}/ok.png", "--budget", "-1"], 2, "budget"),
        (["--img", "{tmp}/ok.png", "--budget", "9", "--steps", "3"], 2, "not both"),
        (["--colour"], 2, "--colour"),
        ([], 2, "--img"),
    ],
)
def test_bad_calls_of_invert(command, toy, tmp_path, args, code, says):
    (tmp_path / "text.jpg").write_text("not a picture")
    whole = write_photo(tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    photos.save(photos.from_rgb(np.zeros((1, 1, 3), np.uint8)), tmp_path / "one.png")
    write_photo(tmp_path / "ok.png")
    before = sorted(tmp_path.rglob("*"))
    filled = [arg.format(tmp=tmp_path) for arg in args]
    found, stdout, stderr = command(invert.main, "--out", tmp_path / "new" / "out", *filled)
    if "WeightsMissing" in stderr or "zoo fetch" in stderr:
        pytest.skip("the landmark model is not in the cache")
    assert found == code, stderr
    assert says in one_line(stderr) and stdout == ""
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_an_output_folder_that_cannot_be_written(command, toy, tmp_path, place):
    (tmp_path / "file").write_text("x")
    photo = write_photo(tmp_path / "a.png")
    for main, args in ((invert.main, []), (edit.main, ["--set", "smile=1"])):
        code, _, err = command(main, "--img", photo, "--aligned", "--out", tmp_path / place, *args)
        assert code == 1 and "Cannot" in one_line(err)


def test_a_folder_that_may_not_be_written_is_refused_before_the_slow_part(command, toy, tmp_path, monkeypatch):
    def forbidden(*_, **__):
        raise PermissionError(13, "Permission denied")

    def never(*_, **__):
        raise AssertionError("inverted first")

    photo = write_photo(tmp_path / "a.png")
    (tmp_path / "out").mkdir()
    monkeypatch.setattr("editing.output.tempfile.mkdtemp", forbidden)
    monkeypatch.setitem(toy.STRATEGIES, "tune", never)
    for main, args in ((invert.main, []), (edit.main, ["--set", "smile=1"])):
        code, _, err = command(main, "--img", photo, "--aligned", "--out", tmp_path / "out", *args)
        assert code == 1 and "no permission" in one_line(err)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")], ids=["ctrl-c", "full"])
def test_interrupted_while_writing_leaves_nothing(command, toy, tmp_path, monkeypatch, error):
    def stop(*_, **__):
        raise error

    photo = write_photo(tmp_path / "a.png")
    monkeypatch.setattr(provenance, "save", stop)
    code, _, err = command(invert.main, "--img", photo, "--aligned", "--out", tmp_path / "out")
    assert code == (130 if isinstance(error, KeyboardInterrupt) else 1)
    one_line(err)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png"]


# ---------------------------------------------------------------------------------------------- edit


def edited(command, tmp_path, *args, photo="a.png"):
    source = tmp_path / photo
    if not source.exists():
        write_photo(source)
    return command(edit.main, "--img", source, "--aligned", "--out", tmp_path / "out", *args)


def test_edit_writes_the_photo_its_recipe_and_the_inversion(command, toy, tmp_path):
    code, stdout, _ = edited(command, tmp_path, "--set", "smile=2", "--set", "age=-3")
    assert code == 0
    out = tmp_path / "out"
    assert stdout.split() == [str(out / "a.edited.png"), str(out / "a.edited.recipe.json")]
    assert (out / "a.inversion").is_file()
    recipe = provenance.load_recipe(out / "a.edited.png")
    assert [(step.parameters["name"], step.strength) for step in recipe.steps] == [("smile", 2), ("age", -3)]
    assert recipe == provenance.load_recipe(out / "a.edited.recipe.json")
    assert not np.array_equal(photos.load(out / "a.edited.png").rgb, photos.load(tmp_path / "a.png").rgb)


def test_the_second_edit_does_not_invert_again(command, toy, tmp_path, monkeypatch):
    edited(command, tmp_path, "--set", "smile=2")

    def never(*_, **__):
        raise AssertionError("inverted again")

    monkeypatch.setitem(toy.STRATEGIES, "tune", never)
    code, _, err = edited(command, tmp_path, "--set", "age=1")
    assert code == 0 and "using the inversion" in err
    with pytest.raises(AssertionError, match="inverted again"):
        edit.main(
            ["--img", str(tmp_path / "a.png"), "--aligned", "--out", str(tmp_path / "out"), "--set=age=1", "--fresh"]
        )
    write_photo(tmp_path / "a.png", seed=5)  # another photo under the same name
    with pytest.raises(AssertionError, match="inverted again"):
        edit.main(["--img", str(tmp_path / "a.png"), "--aligned", "--out", str(tmp_path / "out"), "--set", "age=1"])


def test_a_strength_outside_the_safe_range_is_done_with_a_note(command, toy, tmp_path):
    code, _, err = edited(command, tmp_path, "--set", "smile=4", "--set", "age=-3")
    assert code == 0 and err.strip() == "note: smile=4 is outside its safe range -3 to +3."


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
def test_strength_zero_leaves_the_photo_untouched(command, toy, tmp_path, suffix):
    code, *_ = edited(command, tmp_path, "--set", "smile=0", photo=f"a{suffix}")
    assert code == 0
    before, after = photos.load(tmp_path / f"a{suffix}"), photos.load(tmp_path / "out" / "a.edited.png")
    assert np.array_equal(before.samples, after.samples)
    assert provenance.SOURCE_TYPE.encode() not in (tmp_path / "out" / "a.edited.png").read_bytes()


def test_a_recipe_gives_the_same_pixels_again(command, toy, tmp_path):
    edited(command, tmp_path, "--set", "smile=2", "--seed", 4, "--steps", 2)
    first = tmp_path / "out" / "a.edited.png"
    again = tmp_path / "again"
    for recipe in (first, tmp_path / "out" / "a.edited.recipe.json"):
        args = ("--img", tmp_path / "a.png", "--aligned", "--recipe", recipe, "--out", again)
        assert command(edit.main, *args)[0] == 0
        assert np.array_equal(photos.load(first).samples, photos.load(again / "a.edited.png").samples)
        made = Inversion.load(again / "a.inversion")
        assert (made.seed, made.steps) == (4, 2)


def test_a_recipe_of_a_face_that_no_method_found_is_used_on_a_photo(command, toy, tmp_path):
    """Of a mix, say: its way to the face is none for a photo."""
    edited(command, tmp_path, "--set", "smile=2", "--seed", 4, "--steps", 2)
    path = tmp_path / "out" / "a.edited.recipe.json"
    path.write_text(path.read_text().replace('"tune"', '"style mix"'))
    assert provenance.load_recipe(path).inversion.method == "style mix"
    args = ("--img", tmp_path / "a.png", "--aligned", "--recipe", path, "--steps", 2, "--out", tmp_path / "again")
    for more in ((), ("--method", "tune")):
        assert command(edit.main, *args, *more)[0] == 0
    args = (tmp_path / "a.png", "--aligned", "--recipe", path, "--out", tmp_path / "folder")
    assert command(batch.main, *args)[0] == 0


def test_an_inversion_alone_edits_the_crop_and_with_its_photo_the_photo(command, toy, tmp_path):
    edited(command, tmp_path, "--set", "smile=2")
    saved, out = tmp_path / "out" / "a.inversion", tmp_path / "two"
    assert command(edit.main, "--inversion", saved, "--set", "smile=2", "--out", out)[0] == 0
    assert photos.load(out / "a.edited.crop.png").size == (64, 64)
    assert (
        command(edit.main, "--inversion", saved, "--img", tmp_path / "a.png", "--set", "smile=2", "--out", out)[0] == 0
    )
    assert np.array_equal(photos.load(out / "a.edited.png").rgb, photos.load(tmp_path / "out" / "a.edited.png").rgb)


def test_strips_and_grids(command, toy, tmp_path):
    args = ("--strip", "smile=-2:2:1", "--grid", "smile=-1:1:1,age=0:1", "--cell", 32)
    code, stdout, _ = edited(command, tmp_path, *args)
    assert code == 0
    strip, grid = (photos.load(path) for path in stdout.split())
    assert strip.size[0] == 5 * 32 and grid.size[0] == 3 * 32
    assert grid.size[1] == 2 * strip.size[1]
    cells = [strip.rgb[4:28, 32 * i + 4 : 32 * i + 28, 0].mean() for i in range(5)]
    assert all(a < b for a, b in zip(cells, cells[1:], strict=False))


def test_two_strips_of_one_edit_are_two_files(command, toy, tmp_path):
    code, stdout, _ = edited(command, tmp_path, "--strip", "smile=0:1", "--strip", "smile=0:2", "--cell", 32)
    assert code == 0
    assert [photos.load(path).size[0] for path in stdout.split()] == [2 * 32, 3 * 32]


@pytest.mark.parametrize("name", ["x" * 300, "x" * 300 + ".png"])
def test_a_name_that_no_disk_takes_is_one_line(command, toy, tmp_path, name):
    photo = write_photo(tmp_path / "a.png")
    args = ("--img", photo, "--aligned", "--set", "smile=1", "--out", tmp_path / name)
    code, stdout, err = command(edit.main, *args)
    assert code == 1 and one_line(err) and not stdout


def test_the_list_of_edits(command, toy):
    code, out, _ = command(edit.main, "--list")
    assert code == 0 and "smile" in out and "-3 to +3" in out
    rows = [row for row in json.loads(command(edit.main, "--list", "--json")[1]) if row["group"] != "heads"]
    assert [row["name"] for row in rows] == ["smile", "age"]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--set", "smlie=2"], "did you mean smile"),
        (["--set", "smlie=0"], "did you mean smile"),
        (["--strip", "agee=0:1"], "did you mean age"),
        (["--set", "smile=nan"], "finite number"),
        (["--set", "smile=inf"], "finite number"),
        (["--set", "smile=much"], "finite number"),
        (["--set", "smile"], "name=strength"),
        (["--set", "smile=1", "--set", "smile=2"], "twice"),
        (["--strip", "smile=0:1:0"], "never gets"),
        (["--strip", "smile=0:1:-1"], "never gets"),
        (["--strip", "smile=0:1:0.0001"], "at most"),
        (["--grid", "smile=0:1"], "two ranges"),
        (["--grid", "smile=0:1,smile=0:1"], "both directions"),
        (["--recipe", "{tmp}/nothing.json"], "recipe"),
        (["--set", "smile=1@moth"], "did you mean mouth"),
        (["--strip", "smile=0:1:1@moth"], "did you mean mouth"),
        (["--set", "smile=1@"], "no region after"),
        (["--set", "smile=1@mask"], "--mask"),
        (["--strip", "smile=0:1@mask"], "--mask"),
        (["--set", "smile=1", "--mask", "{tmp}/a.png"], "No edit uses --mask"),
        (["--strip", "smile=0:1:1", "--disentangle"], "no disentangled form"),
        (["--set", "smile=1", "--disentangle"], "no disentangled form"),
        (["--set", "smile=1", "--out", "{tmp}/result.bmp"], "use one of .png"),
        ([], "Nothing to do"),
    ],
)
def test_bad_calls_of_edit(command, toy, tmp_path, args, says):
    write_photo(tmp_path / "a.png")
    code, stdout, err = edited(command, tmp_path, *[arg.format(tmp=tmp_path) for arg in args])
    assert code == 2 and says in one_line(err) and not stdout
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_the_photo_is_never_overwritten_and_a_file_name_is_honoured(command, toy, tmp_path):
    photo = write_photo(tmp_path / "a.png")
    content = photo.read_bytes()
    code, _, err = command(edit.main, "--img", photo, "--aligned", "--set", "smile=1", "--out", photo)
    assert code == 2 and "never overwritten" in one_line(err) and photo.read_bytes() == content
    target = tmp_path / "result.jpg"
    assert command(edit.main, "--img", photo, "--aligned", "--set", "smile=1", "--out", target)[0] == 0
    assert photos.load(target).size == (96, 96) and (tmp_path / "result.recipe.json").is_file()


def test_ranges():
    assert plans.parse_range("smile=-2:2:1").values == (-2, -1, 0, 1, 2)
    assert plans.parse_range("smile=2:-2:-2").values == (2, 0, -2)
    assert plans.parse_range("smile=0:0.3:0.1").values == (0, 0.1, 0.2, 0.3)
    assert plans.parse_range("smile=0:2").values == (0, 1, 2)
    with pytest.raises(UsageError):
        plans.parse_range("smile=1:2:3:4")


def test_ranges_have_regions_and_forms_as_single_strengths_do():
    part = plans.parse_range("smile=0:1:1@mask", mask="mask:00", disentangle=True)
    step = part.step(1.0, face=2)
    assert (step.region, step.face, step.strength) == ("mask:00", 2, 1.0) and step.parameters["disentangle"] is True
    across, down = plans.parse_grid("smile=0:1@lips,smile=0:1")
    assert (across.region, down.region) == ("lips", None)
    (single,) = plans.parse_sets(["smile=1@mask"], 2, "mask:00", True)
    assert single == step


def test_a_strip_within_a_mask_changes_nothing_outside_it(command, toy, tmp_path, monkeypatch):
    from PIL import Image

    from editing import regions, session

    monkeypatch.setattr(regions, "mixed", lambda generator, base, edited, _: session.synthesise(generator, edited))
    Image.fromarray(np.repeat([[0, 255]], 64, 0).repeat(32, 1).astype(np.uint8)).save(tmp_path / "mask.png")
    code, _, err = edited(
        command, tmp_path, "--strip", "smile=0:2:2@mask", "--mask", tmp_path / "mask.png", "--cell=64"
    )
    assert code == 0, err
    strip = photos.load(tmp_path / "out" / "a.strip-smile.png").rgb[:64].astype(int)
    change = np.abs(strip[:, 64:] - strip[:, :64]).max(-1)
    assert (change[:, :31] == 0).all() and (change[:, 33:] > 0).all()
