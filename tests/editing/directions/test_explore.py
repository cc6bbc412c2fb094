"""Random moves: the same for a seed, small in sigmas, and what the sheet shows is what its file draws."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from editing import session
from editing.directions import Catalogue, explore, files, sefa
from editing.directions import __main__ as command
from editing.session import Editor
from editing.steps import direction_sha256
from editing.types import Inversion
from stylegan2 import w_statistics
from stylegan2.errors import UsageError
from tests.encoders import toys


@pytest.fixture(scope="module")
def generator():
    return toys.generator(5)


@pytest.mark.parametrize("space", explore.SPACES)
def test_a_seed_is_a_move_however_many_are_drawn(generator, space):
    three, five = (explore.moves(generator, space, (2, 6), 7, count) for count in (3, 5))
    other = explore.moves(generator, space, (2, 6), 8, 5)
    for a, b, c in zip(three, five, other, strict=False):
        assert a.name == b.name != c.name and torch.equal(a.vector, b.vector) and not torch.equal(b.vector, c.vector)
    assert len({tuple(d.vector.tolist()) for d in five + other}) == 10
    assert all(files.checked(d.name) and d.rows == (2, 6) for d in five)


def test_a_move_counts_sigmas_and_lies_in_its_space(generator):
    statistics = w_statistics.load()
    for move in explore.moves(generator, "pca", (0, 4), 0, 4):
        along = statistics.components @ move.vector / statistics.stdev
        assert float(along.norm()) == pytest.approx(1, rel=1e-3)
        assert float(along[explore.COMPONENTS :].abs().max()) < 1e-3
    basis = torch.stack([d.vector for d in sefa.directions(generator, (0, 4), explore.COMPONENTS)])
    for move in explore.moves(generator, "sefa", (0, 4), 0, 4):
        mix = torch.linalg.lstsq(basis.T, move.vector[:, None]).solution[:, 0]
        assert float(mix.norm()) == pytest.approx(1, rel=1e-3)
        assert torch.allclose(mix @ basis, move.vector, atol=1e-4)


def test_an_unknown_space_is_refused(generator):
    with pytest.raises(UsageError, match="sefa, pca"):
        explore.moves(generator, "psi", (0, 4), 0, 4)


def test_the_sheet_shows_what_the_file_draws(generator, tmp_path):
    found = explore.moves(generator, "sefa", (0, 6), 1, 4)
    editor = Editor(generator, catalogue=Catalogue(found))
    editor.set_inversion(Inversion(torch.randn(1, generator.num_ws, 512), generator.family))
    sheet, store = explore.write(editor, found, tmp_path / "moves", sigmas=4, cell=64)
    picture = np.asarray(Image.open(sheet).convert("RGB")).astype(int)
    cell = picture.shape[0] // 2
    assert picture.shape[1] == 3 * 64 and (picture[cell:, 2 * 64 :] == 255).all()  # five of six cells
    again = Editor(generator, catalogue=Catalogue(files.read(store)))
    again.set_inversion(editor.inversion())
    for index, strengths in ((0, {}), (2, {found[1].name: 4.0}), (4, {found[3].name: 4.0})):
        drawn = torch.nn.functional.avg_pool2d(again.render(strengths).clamp(-1, 1), generator.resolution // 64)[0]
        at = picture[index // 3 * cell :, index % 3 * 64 :][:64, :64]
        assert np.abs((drawn.permute(1, 2, 0).numpy() + 1) * 127.5 - at).max() < 2
    assert (picture[:64, :64] != picture[:64, 64:128]).mean() > 0.3


def test_the_command_line(monkeypatch, tmp_path, capsys, generator):
    monkeypatch.setattr(session, "load_generator", lambda *_: generator)
    kept = tmp_path / "a.inversion"
    Inversion(torch.randn(1, generator.num_ws, 512), generator.family).save(kept)

    def run(*arguments):
        with pytest.raises(SystemExit) as caught:
            command.main(["explore", "--out", str(tmp_path / "moves"), *map(str, arguments)])
        return caught.value.code, capsys.readouterr()

    code, printed = run("--inversion", kept, "--rows", "2:5", "--count", 3, "--cell", 32, "--space", "pca", "--seed", 4)
    assert code == 0 and printed.out.split() == [
        str(tmp_path / "moves" / f"moves.{end}") for end in ("png", "safetensors")
    ]
    assert [d.name for d in files.read(tmp_path / "moves" / "moves.safetensors")] == [
        f"pca-2-5-4.{i}" for i in range(3)
    ]
    for arguments in ((), ("--inversion", kept, "--img", kept), ("--inversion", kept, "--space", "z"),
                      ("--inversion", kept, "--rows", "9:2"), ("--inversion", kept, "--rows", "0:99")):  # fmt: skip
        code, printed = run(*arguments)
        assert code == 2 and printed.err.count("\n") == 1, arguments


def test_a_name_says_all_of_a_move(mobile):
    for space in explore.SPACES:
        third = explore.moves(mobile, space, (4, 8), 11, 3)[2]
        again = explore.named(third.name)
        assert third.name == f"{space}-4-7-11.2" == explore.name_of(space, (4, 8), 11, 2)
        assert again.rows == (4, 8) and torch.equal(again.vector, third.vector)


@pytest.mark.parametrize(
    "name",
    [
        "age",
        "psi-0-3-1.0",
        "pca-3-0-1.0",
        "pca-0-16-1.0",
        "pca-0-3-1.64",
        "pca-0-3-12345678901234567.0",
        "pca-00-3-1.0",
        "pca-0-3-01.0",
        "pca-0-3-1.00",
        "pca-0-3-٣.0",
        "pca-0-3-1",
    ],
)
def test_no_move_is_called_that(name):
    with pytest.raises(KeyError):
        explore.named(name)


def test_the_catalogue_knows_moves_and_does_not_list_them(tmp_path):
    catalogue = session.load_catalogue()
    assert "pca-0-7-3.1" in catalogue and "pca-0-7-3.64" not in catalogue
    assert "pca-0-7-3.1" not in list(catalogue) and catalogue["age"].name == "age"
    strong = [replace(move, vector=2 * move.vector) for move in explore.moves(None, "pca", (0, 8), 3, 2)]
    files.write(tmp_path / "own.safetensors", strong)  # somebody's own direction of that name: it is meant then
    own = session.load_catalogue([tmp_path / "own.safetensors"])
    assert torch.equal(own["pca-0-7-3.1"].vector, strong[1].vector)
    assert not torch.equal(own["pca-0-7-3.1"].vector, catalogue["pca-0-7-3.1"].vector)


@pytest.mark.parametrize("name", [None, 5, ["a"]])
def test_steps_without_a_name_are_no_edits(name):
    catalogue = session.load_catalogue()
    assert name not in catalogue and catalogue.get(name) is None


def test_a_move_is_pinned_by_what_it_is(monkeypatch):
    """Another processor computes other last bits."""
    here = session.load_catalogue()["pca-0-7-3.1"]
    other = replace(here, vector=here.vector * (1 + 1e-7))
    assert (
        direction_sha256(other) == direction_sha256(here) != direction_sha256(session.load_catalogue()["pca-0-7-3.2"])
    )
    catalogue = session.load_catalogue()
    assert catalogue["pca-0-7-3.1"] is catalogue["pca-0-7-3.1"]
    copy = pickle.loads(pickle.dumps(catalogue))  # a worker's: it draws the same bits
    monkeypatch.setattr(explore, "named", None)
    assert torch.equal(copy["pca-0-7-3.1"].vector, catalogue["pca-0-7-3.1"].vector)
    assert len({direction_sha256(catalogue[name]) for name in ("age", "pca-0-7-3.1")}) == 2
