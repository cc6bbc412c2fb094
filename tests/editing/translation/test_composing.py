"""Drawing pictures from layouts with LostGANs."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from editing.translation import composing
from tests.editing.translation.test_lostgans import SMALL, published, seeded


def written(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.fixture
def network(tmp_path):
    return published(tmp_path / "G.pth", seeded(SMALL["v1, 64"]))


LAYOUT = {"boxes": [{"class": 1, "box": [0, 0, 0.5, 0.5]}, {"class": 6, "box": [0.4, 0.4, 0.6, 0.6]}]}
NAMES = ["skin", "brows", "eyes", "nose", "hair", "neck"]


def test_a_layout_is_drawn_as_often_as_asked_and_marked(tmp_path, run, network):
    layout, out = written(tmp_path / "in" / "face.json", LAYOUT), tmp_path / "out"
    common = ("apply", "--network", network, "--out", out)
    code, lines, error = run(*common, "--img", layout, "--samples", 2)
    assert code == 0 and lines == [str(out / "face.0.png"), str(out / "face.1.png")], error
    first, second = (np.asarray(Image.open(line)) for line in lines)
    assert first.shape == (64, 64, 3) and not np.array_equal(first, second)
    with Image.open(lines[0]) as result:
        assert "rainedAlgorithmicMedia" in str(result.info)
    code, lines, _ = run(*common, "--img", layout, "--samples", 1)
    assert lines == [str(out / "face.png")] and np.array_equal(np.asarray(Image.open(lines[0])), first)
    run(*common, "--img", layout, "--samples", 1, "--seed", 7)
    assert not np.array_equal(np.asarray(Image.open(lines[0])), first)
    written(tmp_path / "in" / "sub" / "bad.json", "{"), written(tmp_path / "in" / "sub" / "good.json", LAYOUT)
    code, lines, error = run(*common, "--img", tmp_path / "in", "--samples", 1)
    assert code == 1 and error.count("\n") == 1 and "bad.json" in error
    assert lines == [str(out / "face.png"), str(out / "sub" / "good.png")]


def test_classes_have_the_names_of_the_run_or_of_the_layout(tmp_path, run, network):
    named = {"boxes": [{"class": NAMES[entry["class"] - 1], "box": entry["box"]} for entry in LAYOUT["boxes"]]}
    found = []
    for content in (LAYOUT, named | {"classes": NAMES}, named):
        if content is named:
            written(network.parent / "settings.json", {"system": "lostgans", "domains": NAMES})
        layout = written(tmp_path / "face.json", content)
        code, lines, error = run("apply", "--network", network, "--img", layout, "--samples", 1, "--out", tmp_path)
        assert code == 0, error
        found.append(np.asarray(Image.open(lines[0])))
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[1], found[2])


def test_names_of_another_run_or_of_too_few_classes_are_not_believed(tmp_path):
    def known(content):
        written(tmp_path / "settings.json", content)
        return composing.names_beside(tmp_path / "G.pth", 7)

    assert known({"system": "lostgans", "domains": NAMES}) == {name: n for n, name in enumerate(NAMES, 1)}
    for content in (
        {"system": "spade", "domains": NAMES},
        {"system": "lostgans", "domains": NAMES[:5]},
        {"system": "lostgans", "domains": [*NAMES, "more"]},
        {"system": "lostgans", "domains": [*NAMES[:5], 6]},
        {"system": "lostgans", "domains": 6},
        {"system": "lostgans"},
        "[" * 100_000,
        [],
    ):
        assert known(content) == {}


def test_noise_is_cut_off_and_an_object_more_leaves_the_others_theirs():
    z = composing.noise(9, 4000, 3, 1)
    assert 1.9 < z.abs().max() < 2 and z.std().item() == pytest.approx(0.88, abs=0.01)  # of a normal one cut at 2
    assert torch.equal(z[:4], composing.noise(4, 4000, 3, 1)) and not torch.equal(z[0], z[1])
    assert not torch.equal(z, composing.noise(9, 4000, 3, 2))


@pytest.mark.parametrize(
    "content,words",
    [
        ({}, "boxes are a list"),
        ({"boxes": []}, "no boxes"),
        ("no json", "a JSON object"),
        ('{"boxes": "' + "x" * (1 << 20) + '"}', "too large"),
        ({"boxes": [{"class": 0, "box": [0, 0, 1, 1]}]}, "no class 0: they are numbered from 1 to 6"),
        ({"boxes": [{"class": 7, "box": [0, 0, 1, 1]}]}, "no class 7"),
        ({"boxes": [{"class": "hair", "box": [0, 0, 1, 1]}]}, "no name for 'hair': give numbers from 1 to 6"),
        ({"classes": ["a", "b"], "boxes": []}, "names of this network's 6 classes"),
        ({"classes": NAMES, "boxes": [{"class": "hiar", "box": [0, 0, 1, 1]}]}, "did you mean hair"),
        ({"boxes": [{"class": 1, "box": [0.5, 0.5, 0.6, 0.2]}]}, "not inside the picture"),
        ({"boxes": LAYOUT["boxes"] * 16}, "32 objects; at most 31"),
        ({"boxes": [{"class": 1, "box": [0, 0, 10**400, 1]}]}, "four numbers"),
        ({"boxes": [{"class": 1, "box": [0.5, 0.5, 0.001, 0.01]}]}, "too small"),
    ],
)
def test_a_layout_that_does_not_fit_is_one_line(tmp_path, run, network, content, words):
    layout, out = written(tmp_path / "face.json", content), tmp_path / "out"
    code, lines, error = run("apply", "--network", network, "--img", layout, "--out", out)
    assert (code, lines, error.count("\n")) == (1, [], 1) and words in error and "face.json" in error


def test_options_of_other_networks_are_refused(tmp_path, run, network):
    layout = written(tmp_path / "face.json", LAYOUT)
    for extra in (("--faces",), ("--how", "gray"), ("--size", 64), ("--label", 1), ("--eval",)):
        code, _, error = run("apply", "--network", network, "--img", layout, *extra)
        assert code == 2 and error.count("\n") == 1 and "LostGANs takes layouts" in error
    code, _, error = run("apply", "--network", network, "--img", tmp_path / "none.json")
    assert code == 1 and "cannot be read" in error
    (tmp_path / "empty").mkdir()
    code, _, error = run("apply", "--network", network, "--img", tmp_path / "empty")
    assert code == 2 and "no layouts (.json)" in error
    Image.new("RGB", (64, 64)).save(tmp_path / "photo.png")
    code, _, error = run("apply", "--network", network, "--img", tmp_path / "photo.png")
    assert code == 1 and "no layout" in error
