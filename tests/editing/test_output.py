"""Staged output: all files or none."""

import os

import pytest

from editing.output import staged
from stylegan2.errors import WplusError


def test_files_arrive_together_and_replace_older_ones(tmp_path):
    out = tmp_path / "a" / "b"
    out.mkdir(parents=True)
    (out / "one.txt").write_text("old")
    with staged(out) as scratch:
        (scratch / "one.txt").write_text("new")
        (scratch / "sub").mkdir()
        (scratch / "sub" / "two.txt").write_text("2")
        assert (out / "one.txt").read_text() == "old"
    assert sorted(p.name for p in out.rglob("*")) == ["one.txt", "sub", "two.txt"]
    assert (out / "one.txt").read_text() == "new"


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_interruption_leaves_nothing_not_even_the_folder(tmp_path, error):
    with pytest.raises(error), staged(tmp_path / "new" / "out") as scratch:
        (scratch / "half.png").write_text("half")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_all_files_arrive_or_none(tmp_path):
    (tmp_path / "a.png").write_text("old")
    (tmp_path / "b.inversion").mkdir()
    with pytest.raises(WplusError, match=r"b\.inversion: a folder is in its place"), staged(tmp_path) as scratch:
        for name in ("a.png", "b.inversion", "c.json"):
            (scratch / name).write_text("new")
    assert (tmp_path / "a.png").read_text() == "old" and not (tmp_path / "c.json").exists()


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(WplusError, match="Cannot"), staged(place):
            pass


def test_a_full_disk_is_one_sentence(tmp_path):
    with pytest.raises(WplusError, match="the disk is full"), staged(tmp_path / "out"):
        raise OSError(28, os.strerror(28))
    assert list(tmp_path.iterdir()) == []
