"""Faces from sentences into files: named, marked, repeatable, editable further, and bad orders are one sentence."""

import numpy as np
import pytest
import torch
from PIL import Image

from editing import edit
from editing.text import __main__ as text
from editing.text import drawing
from editing.types import Inversion

SENTENCE = "an old man with a gray beard"


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    out = tmp_path_factory.mktemp("faces")
    order = drawing.Order((SENTENCE, "a smiling girl"), 2, 7, out=out)
    return list(drawing.run(order))


def test_every_face_has_a_name_a_picture_and_an_inversion(faces):
    assert [path.name for path in faces] == [
        "an_old_man_with_a_gray_beard.seed7.png", "an_old_man_with_a_gray_beard.seed8.png",
        "a_smiling_girl.seed7.png", "a_smiling_girl.seed8.png",
    ]  # fmt: skip
    pixels = [np.asarray(Image.open(path)) for path in faces]
    assert all(picture.shape == (1024, 1024, 3) for picture in pixels)
    assert all(np.abs(pixels[0].astype(int) - other).mean() > 8 for other in pixels[1:])
    assert all(
        b"TrainedAlgorithmicMedia" in path.read_bytes() or b"trainedAlgorithmicMedia" in path.read_bytes()
        for path in faces
    )


def test_a_face_is_the_same_alone(faces, tmp_path):
    (again,) = drawing.run(drawing.Order(("a smiling girl",), 1, 8, out=tmp_path))
    assert np.array_equal(np.asarray(Image.open(again)), np.asarray(Image.open(faces[3])))


def test_it_can_be_edited_further(command, faces, tmp_path):
    inversion = faces[0].with_suffix(".inversion")
    code, out, _ = command(
        edit.main, "--inversion", inversion, "--img", faces[0], "--set", "smile=2", "--out", tmp_path
    )
    assert code == 0
    change = np.abs(np.asarray(Image.open(out.split()[0])).astype(int) - np.asarray(Image.open(faces[0])))
    assert change[550:800, 300:700].mean() > 1.5


def test_from_one_sentence_to_another_begins_and_ends_there(tmp_path):
    order = drawing.Order(("a young woman",), 3, 5, to="an old man", out=tmp_path)
    steps = [Inversion.load(path.with_suffix(".inversion")).ws for path in drawing.run(order)]
    (end,) = drawing.run(drawing.Order(("an old man",), 1, 5, out=tmp_path / "end"))
    assert torch.allclose(steps[2], Inversion.load(end.with_suffix(".inversion")).ws, atol=1e-4)
    assert (steps[1] - (steps[0] + steps[2]) / 2).abs().max() < 0.5 * (steps[0] - steps[2]).abs().max()


def test_another_sentence_for_the_fine_rows(tmp_path):
    plain, fine = (
        Inversion.load(next(drawing.run(order)).with_suffix(".inversion")).ws
        for order in (
            drawing.Order(("a man",), 1, 3, out=tmp_path / "a"),
            drawing.Order(("a man",), 1, 3, fine="a person with red hair in warm light", out=tmp_path / "b"),
        )
    )
    assert torch.equal(plain[:, :4], fine[:, :4]) and not torch.equal(plain[:, 9:], fine[:, 9:])


def test_the_other_head_draws_too(tmp_path):
    (path,) = drawing.run(drawing.Order(("a smiling woman",), 1, 1, head="gan-cls", out=tmp_path))
    assert Inversion.load(path.with_suffix(".inversion")).ws.shape[1:] == (16, 512)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("",), "There is no sentence"),
        (("😀",), "There is no sentence"),
        (("a man", "--head", "gigga"), "giga"),
        (("a man", "--to", "a woman", "--n", 1), "two steps"),
        (("a man", "--fine", "red hair", "--head", "gan-cls"), "--fine"),
        (("a man", "A man!"), "one name"),
        (("a man", "--network", "nowhere.pth"), "nowhere.pth"),
        (("a man", "--embeddings", "x.npy"), "--network"),
        (("a man", "--network", "x.pth", "--to", "a woman"), "not for --network"),
    ],
)
def test_bad_orders_are_one_line_and_write_nothing(command, tmp_path, args, said):
    code, out, err = command(text.main, "generate", *args, "--out", tmp_path / "out")
    assert code in (1, 2) and not out and len(err.strip().splitlines()) == 1 and said in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("sentence", ["x" * 30_000, "a man; rm -rf /", "../../etc/passwd", "여자", "a\x00b"])
def test_any_sentence_has_a_harmless_file_name(sentence):
    name = drawing.stem(sentence)
    assert 0 < len(name) <= drawing.LONGEST + 7 and not set(name) & set("/\\\x00 ;") and not name.startswith(".")


def test_other_orders_have_other_names():
    text, long = "an old man", "a very old man with a long gray beard and " * 2
    orders = [drawing.Order((text,)), drawing.Order((text,), psi=0.5), drawing.Order((text,), fine="red hair"),
              drawing.Order((text,), head="gan-cls")]  # fmt: skip
    assert len({drawing.stem(text, order) for order in orders}) == 4
    assert drawing.stem(long + "x") != drawing.stem(long + "y")
