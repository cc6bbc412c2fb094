"""`editing.text`, `--text` of edit and batch: files, notes, exit codes, one-line errors, and the same pixels."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from editing import batch, edit, provenance
from editing.text import __main__ as text
from editing.text import edits, reading
from editing.types import Inversion
from stylegan2 import engine

SENTENCE = "make her smile and give her red hair"


@pytest.fixture(scope="module")
def inversion(mobile, tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "face.inversion"
    ws = engine.broadcast(mobile, engine.latents(mobile, [5], 0.7))
    sha256 = mobile.provenance.sha256
    Inversion(ws=ws, family=mobile.family, generator_sha256=sha256, method="hyper").save(path)
    return path


def test_edit_writes_the_picture_and_says_what_it_understood(command, inversion, tmp_path):
    code, out, err = command(text.main, "edit", "--inversion", inversion, SENTENCE, "--out", tmp_path)
    assert code == 0 and err.strip() == "understood: smiling, red hair"
    picture, sidecar = map(str, out.split())
    (step,) = provenance.load_recipe(picture).steps
    assert step.op == "text" and step.parameters["text"] == SENTENCE and step.direction_sha256
    assert json.loads(Path(sidecar).read_text())["steps"][0]["parameters"]["wants"] == {"smiling": 1.0, "red_hair": 1.0}


def test_the_same_sentence_anywhere_gives_the_same_pixels(command, inversion, tmp_path):
    ways = {
        "text": (text.main, "edit", "--inversion", inversion, SENTENCE),
        "edit": (edit.main, "--inversion", inversion, "--text", SENTENCE),
    }
    files = {}
    for name, (main, *args) in ways.items():
        code, out, _ = command(main, *args, "--out", tmp_path / name)
        assert code == 0
        files[name] = out.split()[0]
    _, out, _ = command(edit.main, "--inversion", inversion, "--recipe", files["text"], "--out", tmp_path / "again")
    pixels = [np.asarray(Image.open(path)) for path in (*files.values(), out.split()[0])]
    assert all(np.array_equal(pixels[0], other) for other in pixels[1:])


def test_a_region_may_stand_behind_the_sentence(command, inversion, tmp_path):
    code, out, _ = command(text.main, "edit", "--inversion", inversion, "dye the hair red @hair", "--out", tmp_path)
    (step,) = provenance.load_recipe(out.split()[0]).steps
    assert code == 0 and step.region == "hair" and step.parameters["text"] == "dye the hair red"
    code, _, err = command(text.main, "edit", "--inversion", inversion, "dye the hair red @mask", "--out", tmp_path)
    assert code == 2 and "--mask" in err


def test_half_of_a_sentence_is_done_and_the_rest_is_named(command, inversion, tmp_path):
    args = ("edit", "--inversion", inversion, "give him a beard and put a hat on him", "--out", tmp_path)
    code, _, err = command(text.main, *args)
    assert code == 0 and "'put a hat on him'" in err and "understood: beard" in err


@pytest.mark.parametrize("sentence", ["add a hat", "what time is it", "", "😀", "\x00" * 10, "x" * 20_000])
def test_nothing_known_is_one_line_and_nothing_is_written(command, inversion, tmp_path, sentence):
    code, out, err = command(text.main, "edit", "--inversion", inversion, sentence, "--out", tmp_path / "out")
    assert code == 2 and not out and len(err.strip().splitlines()) == 1 and err.startswith("error: ")
    assert not (tmp_path / "out").exists()


def test_a_strength_of_nothing_is_the_face(command, inversion, tmp_path):
    code, out, _ = command(
        text.main, "edit", "--inversion", inversion, SENTENCE, "--strength", 0, "--out", tmp_path / "a"
    )
    plain, _, _ = command(edit.main, "--inversion", inversion, "--set", "smile=0", "--out", tmp_path / "b")
    assert code == plain == 0
    first, second = (next((tmp_path / name).glob("*.png")) for name in ("a", "b"))
    assert np.array_equal(np.asarray(Image.open(first)), np.asarray(Image.open(second)))


def test_regions_and_masks_are_checked_first(command, inversion, tmp_path):
    code, _, err = command(text.main, "edit", "--inversion", inversion, SENTENCE, "--region", "hiar", "--out", tmp_path)
    assert code == 2 and "hair" in err
    code, _, err = command(text.main, "edit", "--inversion", inversion, SENTENCE, "--region", "mask", "--out", tmp_path)
    assert code == 2 and "--mask" in err
    code, _, err = command(edit.main, "--inversion", inversion, "--text", f"{SENTENCE} @mask", "--out", tmp_path)
    assert code == 2 and "--mask" in err


def test_read_tells_and_changes_nothing(command):
    code, out, _ = command(text.main, "read", SENTENCE, "--json")
    assert code == 0 and json.loads(out)["wants"] == {"smiling": 1.0, "red_hair": 1.0}
    code, out, _ = command(text.main, "read", "add a hat", "make her older")
    assert code == 1 and "Nothing in this sentence" in out and "understood: older" in out


def test_a_batch_takes_sentences(command, tmp_path):
    code, _, err = command(batch.main, tmp_path / "nowhere", "--text", "add a hat", "--out", tmp_path / "out")
    assert code == 2 and "Nothing in this sentence" in err and not (tmp_path / "out").exists()


def test_sentences_of_the_documents_are_understood():
    root, said = Path(__file__).parents[3], []
    for document in ("README.md", "README.ko.md", "docs/text.md"):
        for line in (root / document).read_text(encoding="utf-8").splitlines():
            if line.startswith("python -m editing.text edit") or (" --text " in line and line.startswith("python -m")):
                said += re.findall(r'(?<!--from )"([^"]+)"', line)
    wrong = [text for text in said if not reading.load().read(edits.split_region(text)[0]).wants]
    assert len(said) >= 9 and not wrong
