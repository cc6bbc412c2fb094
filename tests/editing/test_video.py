"""Videos: frames come back, mark and recipe are inside and beside, and a broken file is no video."""

import struct

import numpy as np
import pytest

from editing import cli, provenance, video
from editing.types import Recipe
from stylegan2.errors import UsageError
from tests.editing.test_mix import one_line, pair  # noqa: F401

RECIPE = Recipe.from_strengths({"smile": 2})


def frames(count=5, side=64):
    return [np.full((side, side, 3), (40 * i, 100, 200 - 40 * i), np.uint8) for i in range(count)]


def decoded(path):
    import imageio.v2 as imageio

    with imageio.get_reader(path, format="FFMPEG") as reader:
        return [np.asarray(frame) for frame in reader], reader.get_meta_data()["fps"]


def test_frames_come_back_and_the_file_says_what_made_it(tmp_path):
    path = video.save(iter(frames()), tmp_path / "a.mp4", RECIPE)
    back, fps = decoded(path)
    assert len(back) == 5 and fps == video.FPS
    assert all(abs(a.astype(int) - b).mean() < 6 for a, b in zip(frames(), back, strict=True))
    assert provenance.SOURCE_TYPE.encode() in video.xmp(path)
    assert provenance.load_recipe(path) == RECIPE == provenance.load_recipe(tmp_path / "a.recipe.json")


def test_no_frames_are_no_video(tmp_path):
    with pytest.raises(UsageError, match="needs frames"):
        video.save([], tmp_path / "a.mp4", RECIPE)


def test_other_and_broken_files_have_no_mark_and_end_at_once(tmp_path):
    path = tmp_path / "a.mp4"
    whole = video.save(frames(2), path, RECIPE).read_bytes()
    head = whole[: struct.unpack(">I", whole[:4])[0]]
    for content in (
        b"",
        b"hello",
        head,
        whole[:-9],  # the last box claims more than there is
        head + struct.pack(">I4s", 0, b"free"),
        head + struct.pack(">I4s", 3, b"free") + whole,  # a size that would never get on
        head + struct.pack(">I4sQ", 1, b"free", 2**60),
    ):
        path.write_bytes(content)
        assert video.xmp(path) == b""
        with pytest.raises(UsageError):
            provenance.load_recipe(path)


def test_a_mark_behind_boxes_of_every_size_is_found(tmp_path):
    path = tmp_path / "a.mp4"
    packet = provenance.xmp(RECIPE)
    large = struct.pack(">I4sQ", 1, b"mdat", 16 + 5) + b"12345"
    last = struct.pack(">I4s16s", 0, b"uuid", video.XMP_BOX) + packet  # 0: to the end of the file
    other = struct.pack(">I4s16s", 24, b"uuid", b"x" * 16)
    path.write_bytes(struct.pack(">I4s4s", 12, b"ftyp", b"isom") + large + other + last)
    assert video.xmp(path) == packet and provenance.load_recipe(path) == RECIPE


def test_an_edit_as_a_video(command, toy, pair, tmp_path):  # noqa: F811
    out = tmp_path / "out"
    code, stdout, err = command(cli.main, "edit", "--inversion", pair[0], "--video", "smile=0:2:0.25", "--out", out)
    assert (code, err) == (0, ""), err
    assert stdout.split() == [str(out / "dark.smile.mp4"), str(out / "dark.smile.recipe.json")]
    back, _ = decoded(out / "dark.smile.mp4")
    assert len(back) == 9 and back[-1][..., 0].mean() > back[0][..., 0].mean() + 10
    (step,) = provenance.load_recipe(out / "dark.smile.mp4").steps
    assert step.parameters["name"] == "smile" and step.strength == 2
    twice = ("--video", "smile=0:1", "--video", "smile=0:2")
    _, stdout, _ = command(cli.main, "edit", "--inversion", pair[0], *twice, "--out", out / "two")
    assert {"dark.smile.mp4", "dark.smile.2.mp4"} <= {path.name for path in (out / "two").iterdir()}
    code, _, err = command(cli.main, "edit", "--inversion", pair[0], "--video", "smlie=0:2:0.25", "--out", out)
    assert code == 2 and "smile" in one_line(err)


def test_a_morph_as_a_video(command, toy, pair, tmp_path):  # noqa: F811
    out = tmp_path / "morph.mp4"
    code, stdout, err = command(cli.main, "mix", *pair, "--between", "0:1:0.02", "--out", out)
    assert (code, err) == (0, ""), err
    assert stdout.split() == [str(out), str(tmp_path / "morph.recipe.json")]
    back, _ = decoded(out)
    assert len(back) == 51 and back[-1].mean() > back[0].mean() + 30
    assert len(provenance.load_recipe(out).steps[0].parameters["amounts"]) == 51
    for wrong in (("--between", "0.5"), ("--style", "1"), ("--between", "0:1:0.0001")):
        code, _, err = command(cli.main, "mix", *pair, *wrong, "--out", tmp_path / "b.mp4")
        assert code == 2 and one_line(err) and not (tmp_path / "b.mp4").exists()


def test_without_the_encoder_one_sentence_says_what_to_install(command, toy, pair, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setitem(__import__("sys").modules, "imageio_ffmpeg", None)
    code, _, err = command(cli.main, "mix", *pair, "--between", "0:1:0.1", "--out", tmp_path / "b.mp4")
    assert code == 2 and "wplus[video]" in one_line(err)
