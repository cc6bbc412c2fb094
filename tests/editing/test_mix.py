"""`wplus mix`, and `wplus edit` with another generator, on a toy: files, marks, exit codes, one-line errors."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from editing import cli, edit, mix, plans, provenance, session
from editing.faces import photo as photos
from editing.types import Inversion
from stylegan2 import checkpoints
from stylegan2.checkpoints import Provenance
from tests.editing.fakes import FakeGenerator


def one_line(err: str) -> str:
    lines = err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), err
    return lines[0]


@pytest.fixture
def pair(tmp_path):
    """Two inversions of the toy generator in files: one is dark, one is bright; the second's last row is lower."""
    made = {"family": "fake-64", "generator_sha256": "f" * 64, "photo_sha256": "1" * 64, "method": "tune", "steps": 5}
    dark = Inversion(ws=torch.full((1, 2, 4), -0.4), **made)
    bright = Inversion(ws=torch.tensor([[[0.6] * 4, [0.2] * 4]]), **made | {"photo_sha256": "2" * 64})
    return dark.save(tmp_path / "dark.inversion"), bright.save(tmp_path / "bright.inversion")


def level(picture) -> float:
    """The mean of a crop's first colour as a latent number."""
    return float(picture[..., 0].mean()) / 127.5 - 1


def test_a_strip_is_labelled_marked_and_goes_from_one_to_the_other(command, toy, pair, tmp_path):
    out = tmp_path / "strip.png"
    code, stdout, err = command(cli.main, "mix", *pair, "--between", "0:1:0.25", "--out", out, "--cell", 32)
    assert (code, stdout.split(), err) == (0, [str(out)], "")
    strip = photos.load(out)
    assert strip.size[0] == 5 * 32 and strip.size[1] > 32
    levels = [level(strip.rgb[:32, 32 * i : 32 * (i + 1)]) for i in range(5)]
    assert np.allclose(levels, np.linspace(-0.4, 0.4, 5), atol=0.02)
    assert provenance.SOURCE_TYPE.encode() in out.read_bytes()
    (step,) = provenance.load_recipe(out).steps
    assert step.op == "interpolate" and step.parameters["amounts"] == [0, 0.25, 0.5, 0.75, 1]
    assert step.parameters["other_photo_sha256"] == "2" * 64
    assert provenance.load_recipe(out).photo_sha256 == "1" * 64


def test_one_amount_is_a_picture_of_full_size_that_can_be_kept_and_edited(command, toy, pair, tmp_path):
    out, kept = tmp_path / "new" / "half.png", tmp_path / "kept" / "half.inversion"
    code, stdout, _ = command(mix.main, *pair, "--between", "0.5", "--out", out, "--save", kept, "--json")
    assert code == 0
    assert json.loads(stdout)["files"] == [str(out), str(tmp_path / "new" / "half.recipe.json"), str(kept)]
    assert photos.load(out).size == (64, 64) and abs(level(photos.load(out).rgb)) < 0.02
    assert provenance.load_recipe(tmp_path / "new" / "half.recipe.json") == provenance.load_recipe(out)
    assert kept.stat().st_mode & 0o777 == 0o600 and Inversion.load(kept).method == "interpolate"
    assert Inversion.load(kept).ws.numpy().tobytes() not in out.read_bytes()
    assert command(edit.main, "--inversion", kept, "--set", "smile=2", "--out", tmp_path / "e.png")[0] == 0
    change = photos.load(tmp_path / "e.png").rgb[..., 0].mean() - photos.load(out).rgb[..., 0].mean()
    assert change / 127.5 == pytest.approx(0.2, abs=0.01)


def test_a_style_takes_the_rows_from_there_on(command, toy, pair, tmp_path):
    out = tmp_path / "style.webp"
    assert command(mix.main, *pair, "--style", 1, "--out", out)[0] == 0
    assert level(photos.load(out).rgb) == pytest.approx(-0.1, abs=0.02)  # the mean of -0.4 and 0.2
    (step,) = provenance.load_recipe(out).steps
    assert step.op == "style mix" and step.parameters["first_row"] == 1


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["{tmp}/missing.inversion", "{b}", "--between", "0.5"], 1, "missing.inversion"),
        (["{a}", "{tmp}/other.inversion", "--between", "0.5"], 1, "cannot be used with 'fake-64'"),
        (["{a}", "{tmp}/sister.inversion", "--style", "1"], 1, "another generator of the same family"),
        (["{a}", "{tmp}/odd.inversion", "--between", "0.5"], 1, "do not fit"),
        (["{a}", "--between", "0.5"], 2, "second"),
        (["{a}", "{b}"], 2, "--between"),
        (["{a}", "{b}", "--between", "0.5", "--style", "1"], 2, "one of the two"),
        (["{a}", "{b}", "--between", "0:2:1"], 2, "from 0 (the first) to 1"),
        (["{a}", "{b}", "--between", "-0.5"], 2, "from 0 (the first) to 1"),
        (["{a}", "{b}", "--between", "nan"], 2, "finite number"),
        (["{a}", "{b}", "--between", "1:0:0.5"], 2, "never gets"),
        (["{a}", "{b}", "--between", "0:1:0.01"], 2, "101 values"),
        (["{a}", "{b}", "--between", "0:1:2:3"], 2, "finite number"),
        (["{a}", "{b}", "--style", "0"], 2, "first row"),
        (["{a}", "{b}", "--style", "2"], 2, "between 1 and 1"),
        (["{a}", "{b}", "--style", "much"], 2, "--style"),
        (["{a}", "{b}", "--between", "0.5", "--out", "{tmp}/new/x.xyz"], 2, "x.xyz"),
        (["{a}", "{b}", "--between", "0.5", "--out", "{tmp}/new/x.inversion"], 2, "x.inversion"),
        (["{a}", "{b}", "--between", "0.5", "--out", "{tmp}"], 2, "Cannot write a picture"),
        (["{a}", "{b}", "--between", "0.5", "--save", "{tmp}/new/x.png"], 2, ".inversion"),
        (["{a}", "{b}", "--between", "0.5", "--save", "{a}"], 2, "never overwritten"),
        (["{a}", "{b}", "--between", "0.5", "--save", "{tmp}/link.inversion"], 2, "never overwritten"),
        (["{a}", "{b}", "--between", "0:1:0.5", "--save", "{tmp}/new/x.inversion"], 2, "one amount"),
        (["{a}", "{b}", "--between", "0.5", "--save", "{a}/x.inversion"], 1, "Cannot"),
        (["{a}", "{b}", "--between", "0.5", "--device", "quantum"], 2, "quantum"),
        (["{a}", "{b}", "--between", "0.5", "--generator", "{a}"], 1, "dark.inversion"),
    ],
)
def test_bad_calls_say_why_in_a_line_and_write_nothing(command, toy, pair, tmp_path, args, code, says):
    a, b = pair
    good = Inversion.load(a)
    replace(good, family="stylegan2-1024").save(tmp_path / "other.inversion")
    replace(good, generator_sha256="0" * 64).save(tmp_path / "sister.inversion")
    replace(good, ws=torch.zeros(1, 3, 4)).save(tmp_path / "odd.inversion")
    (tmp_path / "link.inversion").symlink_to(a)
    before = {path: path.read_bytes() for path in sorted(tmp_path.rglob("*"))}
    filled = [arg.format(a=a, b=b, tmp=tmp_path) for arg in args]
    places = [] if "--out" in args else ["--out", tmp_path / "new" / "x.png"]
    found, stdout, stderr = command(mix.main, *places, *filled)
    assert found == code, stderr
    assert says in one_line(stderr) and not stdout
    assert {path: path.read_bytes() for path in sorted(tmp_path.rglob("*"))} == before


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")], ids=["ctrl-c", "full"])
def test_interrupted_while_writing_leaves_nothing(command, toy, pair, tmp_path, monkeypatch, error):
    def stop(*_, **__):
        raise error

    monkeypatch.setattr(Inversion, "save", stop)
    places = ("--out", tmp_path / "one" / "x.png", "--save", tmp_path / "two" / "x.inversion")
    code, stdout, err = command(mix.main, *pair, "--between", "0.5", *places)
    assert code == (130 if isinstance(error, KeyboardInterrupt) else 1) and not stdout
    one_line(err)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bright.inversion", "dark.inversion"]


def test_the_help_says_that_both_must_agree(command):
    assert "only if both have agreed" in " ".join(command(mix.main, "--help")[1].split())


# ------------------------------------------------------------------------------ edit with another generator


@pytest.fixture
def sister(monkeypatch, tmp_path):
    """A generator file that holds a sister of the toy generator, which draws everything 0.3 brighter."""

    class Sister(FakeGenerator):
        provenance = Provenance("e" * 64, "e" * 64, "toy")

        def synthesis(self, *args, **options):
            return super().synthesis(*args, **options) + 0.3

        def to(self, device):
            return self

    monkeypatch.setattr(checkpoints, "load", lambda path: Sister())
    return tmp_path / "sister.safetensors"


def test_an_edit_is_drawn_by_the_generator_that_was_named(command, toy, pair, sister, tmp_path):
    args = ("--inversion", pair[0], "--set", "smile=1", "--generator", sister, "--out", tmp_path / "e.png")
    assert command(edit.main, *args, "--transfer")[0] == 0
    assert level(photos.load(tmp_path / "e.png").rgb) == pytest.approx(-0.4 + 0.1 + 0.3, abs=0.02)
    assert provenance.load_recipe(tmp_path / "e.png").generator_sha256 == "e" * 64
    code, _, err = command(edit.main, *args)
    assert code == 1 and "ask for a transfer" in one_line(err)


def test_a_transfer_drops_the_residual(toy, pair, sister):
    from stylegan2.generator import FeatureEdit

    found = Inversion.load(pair[0])
    lift = FeatureEdit(torch.ones(1, 1, 8, 8), torch.ones(1, 1, 8, 8), found.ws)
    replace(found, features={"b8": lift}).save(pair[0])
    editor = session.Editor(checkpoints.load(sister), catalogue=toy.CATALOGUE)
    plan = plans.make_plan(["smile=1"], None, None, None, None)
    edit.bring(editor, plan, None, pair[0], None, transfer=True)
    assert editor.inversion().features is None and editor.inversion().generator_sha256 == "e" * 64
