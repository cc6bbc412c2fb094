"""Files of directions: what is written is what is read, what others published is taken over, and nothing is run."""

import json
import pickle
import struct
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from editing.directions import __main__ as command
from editing.directions import apply, files
from editing.directions.catalogue import Catalogue, Direction
from stylegan2.checkpoints.values import StoredTensor
from stylegan2.errors import CheckpointError, UsageError

VECTOR = torch.linspace(-1, 1, 512)


def test_what_is_written_is_read_again(tmp_path):
    one = Direction("one", VECTOR, (2, 5), "hair", "by hand", "longer hair", "", (-1.0, 3.0), 0.5,
                    (-1.2, 1.1), (1.0, 0.97), 0.2, {"age": 0.1})  # fmt: skip
    per_row = Direction("rows", torch.randn(16, 512), (0, 16))
    assert per_row.safe_range is None  # nobody has measured it
    files.write(tmp_path / "a.safetensors", [one, per_row])
    again = files.read(tmp_path / "a.safetensors")
    for before, after in zip((one, per_row), again, strict=True):
        assert torch.equal(before.vector, after.vector)
        assert {**vars(before), "vector": 0} == {**vars(after), "vector": 0}
    with pytest.raises(UsageError, match="no directions to write"):
        files.write(tmp_path / "b.safetensors", [])
    assert not (tmp_path / "b.safetensors").exists()


@pytest.mark.parametrize("shape", [(512,), (1, 512), (1, 1, 512)])
def test_published_vectors_are_taken_over(tmp_path, shape):
    array = VECTOR.view(shape)
    np.save(tmp_path / "smile.npy", array.numpy().astype(np.float64))
    torch.save(array, tmp_path / "age.pt")
    torch.save({"pose": array, "note": "left"}, tmp_path / "several.pt")
    for name, expected in (("smile.npy", "smile"), ("age.pt", "age"), ("several.pt", "pose")):
        (found,) = files.read(tmp_path / name)
        assert found.name == expected and found.rows == (0, 16)
        assert torch.allclose(found.vector, VECTOR) and name in found.source


def test_a_vector_a_row_of_18_becomes_16_and_moves_18_rows_again(tmp_path):
    rows = torch.randn(18, 512)
    torch.save(rows, tmp_path / "a.pt")
    (found,) = files.read(tmp_path / "a.pt")
    assert torch.equal(found.vector[:15], rows[:15]) and torch.allclose(found.vector[15], rows[15:].mean(0))
    merged, published = (apply(torch.zeros(1, count, 512), found, 2.0)[0] for count in (16, 18))
    assert torch.allclose(merged, 2 * found.vector)
    assert torch.equal(published[:16], merged) and torch.equal(published[17], merged[15])


def test_components_come_with_their_deviations(tmp_path):
    components = torch.linalg.qr(torch.randn(512, 3)).Q.T
    torch.save({"comp": components[:, None], "std": torch.tensor([3.0, 2.0, 1.0])[:, None]}, tmp_path / "ffhq_pca.pt")
    found = files.read(tmp_path / "ffhq_pca.pt")
    assert [d.name for d in found] == ["pca-0", "pca-1", "pca-2"]
    assert [round(float(d.vector.norm()), 4) for d in found] == [3, 2, 1]


class Bomb:
    def __reduce__(self):
        return print, ("executed",)


def test_what_is_no_direction_is_refused_in_one_line_and_nothing_runs(tmp_path, capsys):
    np.save(tmp_path / "short.npy", np.ones(100))
    np.save(tmp_path / "zeros.npy", np.zeros(512))
    np.save(tmp_path / "nan.npy", np.full(512, np.nan))
    np.save(tmp_path / "words.npy", np.array(["a", "b"]))
    np.save(tmp_path / "objects.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
    (tmp_path / "text.npy").write_text("hello")
    (tmp_path / "bomb.pt").write_bytes(pickle.dumps(Bomb()))
    torch.save({"a": Bomb()}, tmp_path / "hidden.pt")
    torch.save({"note": "nothing"}, tmp_path / "empty.pt")
    torch.save({"a=b": VECTOR}, tmp_path / "name.pt")
    save_file({"a": VECTOR}, tmp_path / "other.safetensors")
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(CheckpointError) as caught:
            files.read(path)
        assert "\n" not in str(caught.value) and path.name in str(caught.value)
    assert "executed" not in capsys.readouterr().out
    with pytest.raises(UsageError, match="no file"):
        files.read(tmp_path / "missing.pt")


def test_a_file_of_ours_with_wrong_facts_is_refused(tmp_path):
    good = files.facts_of(Direction("a", VECTOR, (0, 16)))
    wrong = ({"rows": [3, 40]}, {"rows": 3}, {"group": 5}, {"safe_range": ["a", "b"]}, {"safe_range": [1]}, {"more": 1},
             {"rows": [0, float("inf")]})  # fmt: skip
    for fact in (*({**good, **change} for change in wrong), {"rows": [0, 16]}, None):
        metadata = {"format": files.FORMAT, "facts": json.dumps({"a": fact})}
        save_file({"a": VECTOR}, tmp_path / "a.safetensors", metadata)
        with pytest.raises(CheckpointError):
            files.read(tmp_path / "a.safetensors")


def test_files_join_the_catalogue_unless_a_name_would_stand_for_two(tmp_path):
    known = Catalogue([Direction("smile", VECTOR, (0, 16))])
    files.write(tmp_path / "a.safetensors", [Direction("hat", -VECTOR, (0, 4)), known["smile"]])
    assert list(files.joined(known, [tmp_path / "a.safetensors"])) == ["smile", "hat"]
    files.write(tmp_path / "b.safetensors", [Direction("smile", -VECTOR, (0, 16))])
    with pytest.raises(UsageError, match="'smile' already"):
        files.joined(known, [tmp_path / "b.safetensors"])


def test_a_single_direction_can_be_renamed():
    one = Direction("1_final", VECTOR, (0, 16))
    assert files.renamed([one], "age")[0].name == "age"
    with pytest.raises(UsageError, match="holds 2 directions"):
        files.renamed([one, one], "age")


def test_a_zip_that_is_no_torch_file_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as file:
        file.writestr("readme", "hello")
    with pytest.raises(CheckpointError):
        files.read(tmp_path / "a.pt")


HEADER = "{'descr': '<f4', 'fortran_order': False, 'shape': %s}"


@pytest.mark.parametrize(
    "header",
    [HEADER % f"({2**100},)", HEADER % "(True, 512)", "-" * 9000, "(" * 9000, "'\x1b[2J"],
    ids=["long", "true", "minus", "brackets", "escape"],
)
def test_an_array_with_an_absurd_header_is_refused_in_one_line(tmp_path, header):
    path = tmp_path / "a.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + bytes(2048))
    with pytest.raises(CheckpointError, match="cannot be read as an array: [^.]") as caught:
        files.read(path)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 400


@pytest.mark.parametrize("name", ["comp", "age"])
def test_shapes_are_looked_at_before_anything_is_loaded(tmp_path, monkeypatch, name):
    monkeypatch.setattr(StoredTensor, "load", lambda self: pytest.fail("it was loaded"))
    torch.save({"std": VECTOR, name: torch.zeros(1).expand(1 << 20)}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="a.pt"):
        files.read(tmp_path / "a.pt")


def test_many_directions_of_one_number_take_no_memory(tmp_path):
    torch.save({f"d{n}": torch.ones(1).expand(18, 512) for n in range(3000)}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="a.pt is damaged .*far more memory"):
        files.read(tmp_path / "a.pt")


def test_numbers_that_changed_are_noticed_in_a_sentence_with_the_name_of_the_file(tmp_path):
    torch.save(VECTOR, tmp_path / "a.pt")
    data = (tmp_path / "a.pt").read_bytes()
    place = data.index(VECTOR.numpy().tobytes())
    (tmp_path / "a.pt").write_bytes(data[:place] + b"?" + data[place + 1 :])
    with pytest.raises(CheckpointError, match="a.pt is damaged .*data/0 cannot be read"):
        files.read(tmp_path / "a.pt")


def test_a_description_cannot_write_elsewhere_on_the_terminal(tmp_path, capsys):
    files.write(tmp_path / "a.safetensors", [Direction("hat", VECTOR, (0, 16), description="\x1b]0;owned\x07 긴 머리")])
    torch.save({"age": VECTOR}, tmp_path / "a\x1b[2J.pt")
    with pytest.raises(SystemExit) as caught:
        command.main(["list", str(tmp_path / "a.safetensors"), str(tmp_path / "a\x1b[2J.pt")])
    assert not caught.value.code
    told = ["hat  rows 0-15  ?]0;owned? 긴 머리", "age  rows 0-15  imported: a?[2J.pt"]
    assert capsys.readouterr().out.splitlines() == told


def test_a_storage_that_is_shorter_than_it_says_is_refused(tmp_path):
    torch.save(VECTOR, tmp_path / "whole.pt")
    with zipfile.ZipFile(tmp_path / "whole.pt") as whole, zipfile.ZipFile(tmp_path / "cut.pt", "w") as cut:
        for entry in whole.namelist():
            content = whole.read(entry)
            cut.writestr(entry, content[:-8] if entry.endswith("data/0") else content)
    with pytest.raises(CheckpointError, match="cut.pt"):
        files.read(tmp_path / "cut.pt")


@pytest.mark.parametrize("name", ["a=b", "../up", "", "x" * 61, "line\nbreak"])
def test_a_name_that_could_not_be_read_again_is_not_written(tmp_path, name):
    with pytest.raises(UsageError, match="name of an edit"):
        files.write(tmp_path / "a.safetensors", [Direction(name, VECTOR, (0, 16))])
    assert not (tmp_path / "a.safetensors").exists()


def test_what_changes_nothing_is_not_written_and_the_file_stays(tmp_path):
    path = tmp_path / "mine.safetensors"
    files.write(path, [Direction("up", torch.ones(512), (0, 16))])
    before = path.read_bytes()
    with pytest.raises(UsageError, match="would change nothing"):
        files.write(path, [Direction("up", torch.ones(512), (0, 16)), Direction("none", torch.zeros(512), (0, 16))])
    assert path.read_bytes() == before
