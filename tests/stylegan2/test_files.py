"""A file is replaced whole or not at all."""

import pytest

from stylegan2.files import replacing


def test_what_was_written_takes_the_place(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with replacing(path) as part:
        part.write_text("new")
        part.chmod(0o600)
        assert path.read_text() == "old" and part.suffix == ".txt" and part.parent == tmp_path
    assert path.read_text() == "new" and path.stat().st_mode & 0o777 == 0o644
    assert [found.name for found in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("failure", [KeyboardInterrupt, ValueError])
def test_a_failure_leaves_what_was_there_and_nothing_else(tmp_path, failure):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(failure), replacing(path) as part:
        part.write_text("half")
        raise failure
    assert path.read_text() == "old" and [found.name for found in tmp_path.iterdir()] == ["a.txt"]


def test_a_body_that_wrote_nothing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "a.txt"):
        pass
