"""StyleCLIP's ways as commands: a direction from two sentences that edits, and an inversion nearer to a sentence."""

import pytest
import torch

from editing.directions import __main__ as directions
from editing.directions import files
from editing.judges.judge import judge
from editing.text import __main__ as text
from editing.text import bridge as bridges
from editing.types import Inversion
from stylegan2 import engine


@pytest.fixture(scope="module")
def inversion(mobile, tmp_path_factory):
    path = tmp_path_factory.mktemp("directing") / "face.inversion"
    ws = engine.broadcast(mobile, engine.latents(mobile, [5], 0.7))
    Inversion(ws=ws, family=mobile.family, generator_sha256=mobile.provenance.sha256).save(path)
    return path


def test_a_direction_from_two_sentences_moves_what_they_differ_in(command, mobile, tmp_path):
    args = ("text", "a person with red hair", "--name", "copper", "--out", tmp_path / "own.safetensors")
    code, out, _ = command(directions.main, *args)
    assert code == 0 and "1 directions" in out
    (found,) = files.read(tmp_path / "own.safetensors")
    assert found.name == "copper" and found.vector.shape == (16, 512) and "red hair" in found.description
    ws = engine.broadcast(mobile, engine.latents(mobile, [5], 0.7))
    with torch.no_grad():
        plain, red = (engine.to_uint8(mobile.synthesis(ws + s * found.vector))[0] for s in (0.0, 3.0))
    assert judge(red).values["hair_red"] > judge(plain).values["hair_red"] + 3
    code, _, err = command(directions.main, *args)
    assert code == 2 and "already" in err


def test_an_optimised_inversion_is_nearer_to_the_sentence(command, inversion, tmp_path):
    sentence, out = "a woman with glasses", tmp_path / "near.inversion"
    code, stdout, _ = command(text.main, "optimise", sentence, "--inversion", inversion, "--out", out, "--steps", 25)
    assert code == 0 and stdout.strip() == str(out)
    before, after = (Inversion.load(path).ws for path in (inversion, out))
    bridge = bridges.load()
    assert float(bridge.score(after, [sentence]) - bridge.score(before, [sentence])) > 0.1


def test_the_inversion_itself_is_never_overwritten(command, inversion):
    before = inversion.read_bytes()
    code, _, err = command(text.main, "optimise", "x y", "--inversion", inversion, "--out", inversion)
    assert code == 2 and "never overwritten" in err and inversion.read_bytes() == before


@pytest.mark.parametrize(
    ("args", "said"),
    [(("a person", "--name", "x"), "the same"), (("a man", "--name", "bad=name"), "name of an edit"),
     (("a man", "--name", "x", "--clip", "nowhere.pt"), "clip")],
)  # fmt: skip
def test_what_cannot_be_a_direction_is_one_line(command, tmp_path, args, said):
    code, _, err = command(directions.main, "text", *args, "--out", tmp_path / "own.safetensors")
    assert code in (1, 2) and len(err.strip().splitlines()) == 1 and said in err
    assert not (tmp_path / "own.safetensors").exists()
