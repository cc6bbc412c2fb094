"""Directions of one's own: formulas, examples, what they keep, and the command line that makes them."""

import numpy as np
import pytest
import torch

from editing import directions
from editing.directions import __main__ as command
from editing.directions import files, own
from editing.directions.sampling import JUDGES
from editing.judges.judge import judge
from stylegan2 import engine, w_statistics
from stylegan2.errors import UsageError


def whitened(direction):
    statistics = w_statistics.load()
    return statistics.whiten(statistics.mean + direction.vector).numpy()


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("smile", {"smile": 1}),
        ("-age", {"age": -1}),
        ("smile - 0.5 * mouth_open", {"smile": 1, "mouth_open": -0.5}),
        ("2smile+smile-1.5 yaw", {"smile": 3, "yaw": -1.5}),
    ],
)
def test_formulas(formula, expected):
    assert own.parse(formula) == expected


@pytest.mark.parametrize(
    "formula", ["", "smile smile", "smile * age", "smile +", "2", "smile - smile", "__import__", "smlie"]
)
def test_what_is_no_formula_is_refused(formula):
    with pytest.raises(UsageError):
        own.parse(formula)


def test_a_formula_raises_its_judges_and_leaves_alone_those_it_keeps():
    assert set(own.slopes()) == set(JUDGES)
    found = own.from_formula("a", "smile - mouth_open", ("age", "male"))
    by_judge = {name: float(whitened(found) @ slope) for name, slope in own.slopes().items()}
    assert by_judge["smile"] > 0 > by_judge["mouth_open"]
    assert max(abs(by_judge[name]) for name in ("age", "male")) < 1e-3 * by_judge["smile"]
    assert float(found.vector.norm()) == pytest.approx(1) and found.source.endswith("keeping age, male")
    with pytest.raises(UsageError, match="Nothing is left"):
        own.from_formula("a", "age", ("age",))


def test_examples_show_what_tells_them_apart():
    random = np.random.default_rng(0)
    true = random.standard_normal(512)
    true /= np.linalg.norm(true)
    with_it, without = (random.standard_normal((60, 512)) + sign * 4 * true for sign in (1, -1))
    found = whitened(own.from_examples("hat", with_it, without[:40]))
    assert found @ true / np.linalg.norm(found) > 0.5
    with pytest.raises(UsageError, match="2 and 60 photos"):
        own.from_examples("hat", with_it[:2], without)


def run(*arguments):
    with pytest.raises(SystemExit) as caught:
        command.main([str(argument) for argument in arguments])
    return caught.value.code


def test_the_command_line_fits_imports_exports_and_never_overwrites(tmp_path, capsys):
    out = tmp_path / "mine.safetensors"
    assert run("fit", "--formula", "smile", "--keep", "age", "--name", "grin", "--out", out) == 0
    np.save(tmp_path / "boundary.npy", np.linspace(0, 1, 512))
    assert run("import", tmp_path / "boundary.npy", "--name", "eyes", "--out", out) == 0
    assert run("export", "smile", "--out", out) == 0
    assert [d.name for d in files.read(out)] == ["grin", "eyes", "smile"]
    before = out.read_bytes()
    capsys.readouterr()
    for wrong in (
        ("export", "smile", "--out", out),
        ("export", "smlie", "--out", out),
        ("export", "age", "--out", tmp_path / "a.pt"),
        ("fit", "--name", "a", "--out", out),
        ("fit", "--name", "a=b", "--formula", "age", "--out", out),
        ("import", tmp_path / "boundary.npy", "--name", "a/b", "--out", out),
        ("fit", "--name", "a", "--formula", "age", "--positive", tmp_path, "--negative", tmp_path, "--out", out),
        ("fit", "--name", "a", "--positive", tmp_path / "no", "--negative", tmp_path, "--out", out),
    ):
        assert run(*wrong) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert out.read_bytes() == before
    assert run("list", out) == 0
    assert "formula: smile, keeping age" in capsys.readouterr().out


def test_a_name_that_is_taken_is_refused_before_any_photo_is_read(tmp_path, monkeypatch, capsys):
    out = tmp_path / "mine.safetensors"
    assert run("export", "smile", "--out", out) == 0
    monkeypatch.setattr(own, "codes", lambda *_: pytest.fail("photos were read"))
    assert run("fit", "--positive", tmp_path, "--negative", tmp_path, "--name", "smile", "--out", out) == 2
    assert "'smile' already" in capsys.readouterr().err


@pytest.mark.weights
def test_a_formula_does_to_faces_what_it_says(mobile):
    found = own.from_formula("closed_smile", "smile - mouth_open", ("yaw",))
    changes = []
    for seed in (1, 5, 9):
        ws = engine.broadcast(mobile, engine.latents(mobile, [seed], 0.7))
        with torch.inference_mode():
            codes = (ws, directions.apply(ws, found, 3.0))
            before, after = (judge(engine.to_uint8(mobile.synthesis(code))[0]).values for code in codes)
        changes.append([after[name] - before[name] for name in ("smile", "mouth_open")])
    smile, opening = np.mean(changes, 0)
    assert smile > 0.02 and opening < 0.01
