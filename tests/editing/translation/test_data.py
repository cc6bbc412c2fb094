"""Where pictures come from: folders, halves, tables and shards, and everything that can be wrong with them."""

import numpy as np
import pytest
import torch
from PIL import Image

from editing.translation import data
from stylegan2.errors import PhotoError, UsageError


def picture(path, colour, size=(20, 20)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def test_pairs_of_two_folders_and_of_halves(tmp_path):
    for index in range(3):
        picture(tmp_path / "a" / f"{index}.png", (index * 40, 0, 0))
        picture(tmp_path / "b" / f"{index}.jpg", (0, 0, index * 40))
        both = Image.new("RGB", (40, 20), (9, 9, 9))
        both.paste((200, 0, 0), (0, 0, 20, 20))
        (tmp_path / "ab").mkdir(exist_ok=True)
        both.save(tmp_path / "ab" / f"{index}.png")
    source = data.paired(tmp_path / "a", tmp_path / "b")
    assert len(source) == 3 and source.a[2][0, 0, 0] == 80 and abs(int(source.b[2][0, 0, 2]) - 80) < 4
    halves = data.paired(tmp_path / "ab")
    assert halves.a[1].shape == halves.b[1].shape == (20, 20, 3)
    assert (halves.a[0] == (200, 0, 0)).all() and (halves.b[0] == 9).all()


@pytest.mark.parametrize(
    "make,words",
    [
        (lambda t: data.paired(t / "missing", t / "a"), "is not a folder"),
        (lambda t: data.paired(t / "empty", t / "a"), "no pictures"),
        (lambda t: data.paired(t / "a", t / "b"), "a has 3, .*b has 2"),
        (lambda t: data.paired(t / "a", t / "c"), "0.png has no counterpart"),
        (lambda t: data.unpaired(t / "a"), "need two folders"),
        (lambda t: data.labelled(t / "a"), "need a table"),
        (lambda t: data.labelled(t / "a", t / "none.csv"), "cannot be read"),
        (lambda t: data.labelled(t / "a", t / "words.csv"), "no table of labels"),
        (lambda t: data.labelled(t / "a", t / "short.csv"), "every row needs 2"),
        (lambda t: data.labelled(t / "a", t / "others.csv"), "No picture .* has a row"),
        (lambda t: data.labelled(t / "a", t / "seven.csv"), "no table of labels"),
        (lambda t: data.labelled(t / "a", t / "five.csv"), "no table of labels"),
    ],
)
def test_what_does_not_fit_is_one_sentence(tmp_path, make, words):
    for folder, names in (("a", "012"), ("b", "01"), ("c", "xyz")):
        for name in names:
            picture(tmp_path / folder / f"{name}.png", (0, 0, 0))
    (tmp_path / "empty").mkdir()
    (tmp_path / "words.csv").write_text("file,young\n0.png,yes\n")
    (tmp_path / "short.csv").write_text("file,young,male\n0.png,1\n")
    (tmp_path / "seven.csv").write_text("file,young\n0.png,7\n")
    (tmp_path / "five.csv").write_text("5\n")
    (tmp_path / "others.csv").write_text("file,young\nq.png,1\n")
    with pytest.raises(UsageError, match=words) as caught:
        make(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_picture_that_cannot_be_read(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.png").write_bytes(b"not a picture")
    with pytest.raises(PhotoError, match=r"x\.png"):
        data.Files(tmp_path / "a")[0]


def test_pictures_are_read_as_everywhere_else(tmp_path):
    """Upright, in 8 bits, and without what file managers leave behind."""
    (tmp_path / "a").mkdir()
    Image.fromarray(np.full((20, 40), 30000, np.uint16)).save(tmp_path / "a" / "0.png")
    turned = Image.new("RGB", (40, 20))
    exif = turned.getexif()
    exif[274] = 6
    turned.save(tmp_path / "a" / "1.jpg", exif=exif)
    (tmp_path / "a" / "._1.jpg").write_bytes(b"")
    files = data.Files(tmp_path / "a")
    assert len(files) == 2 and abs(int(files[0][0, 0, 0]) - 117) <= 1 and files[1].shape == (40, 20, 3)


def test_tables_of_labels(tmp_path):
    for name in ("1.jpg", "2.jpg", "3.jpg"):
        picture(tmp_path / "faces" / name, (0, 0, 0))
    (tmp_path / "own.csv").write_text("file,young,male\n3.jpg,1,0\n1.jpg,0,1\n")
    source = data.labelled(tmp_path / "faces", tmp_path / "own.csv")
    assert source.names == ["young", "male"] and source.labels.tolist() == [[0, 1], [1, 0]] and len(source) == 2
    (tmp_path / "list_attr.txt").write_text("2\nMale Young Smiling\n1.jpg -1  1 -1\n2.jpg  1 -1  1\n")
    source = data.labelled(tmp_path / "faces", tmp_path / "list_attr.txt")
    assert source.names == ["Male", "Young", "Smiling"] and source.labels.tolist() == [[0, 1, 0], [1, 0, 1]]


def test_both_pictures_of_a_pair_are_cut_alike(tmp_path):
    rng = np.random.default_rng(0)
    for index in range(4):
        noise = rng.integers(0, 255, (50, 70, 3), dtype=np.uint8)
        for folder in ("a", "b"):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(noise).save(tmp_path / folder / f"{index}.png")
    source = data.paired(tmp_path / "a", tmp_path / "b")
    seen = [data.batch(source, number, 2, 32, 0) for number in range(4)]
    for tensors in seen:
        assert tensors["a"].shape == (2, 3, 32, 32) and torch.equal(tensors["a"], tensors["b"])
    assert not torch.equal(seen[0]["a"], seen[2]["a"])  # another epoch, other crops
    assert torch.equal(seen[1]["a"], data.batch(source, 1, 2, 32, 0)["a"])  # the same number, the same batch
    wide = data.batch(data.unpaired(tmp_path / "a", tmp_path / "b"), 0, 3, 32, 0)
    assert wide["a"].shape == wide["b"].shape == (3, 3, 32, 32) and not torch.equal(wide["a"], wide["b"])
