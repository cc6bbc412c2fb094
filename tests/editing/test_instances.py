"""Faces as a set of instances: one after the other, whatever the order, and nothing else changes."""

import numpy as np
import pytest
import torch

from editing import instances, session
from editing.faces import detect
from editing.faces import photo as photos
from editing.heads import registry
from editing.types import Inversion
from stylegan2.errors import NoFaceFound
from tests.editing import fakes


class Darker:
    """A head that takes light from a face, within a mask or all of it."""

    name, sha256, region = "instagan:toy", "0" * 64, None

    def __call__(self, ws, strength=1.0):
        return ws - 0.2 * strength


@pytest.fixture
def editor(monkeypatch):
    quads = [np.array([(x, 30), (x, 90), (x + 60, 90), (x + 60, 30)], float) - 0.5 for x in (100, 10, 135)]
    marks = np.random.default_rng(0).uniform(30, 90, (68, 2))
    found = [
        type("Face", (), {"quad": quad, "score": 1.0, "landmarks": marks + (quad[0, 0] - 30, 0)}) for quad in quads
    ]
    monkeypatch.setattr(detect, "find_faces", lambda rgb, *_: found)
    monkeypatch.setattr(registry, "heads", lambda: {"instagan:toy": Darker()})

    def strategy(generator, image, *, callback=None, seed=0, budget=None):
        made.alive.append(image)
        w = torch.cat([image.mean((0, 2, 3)), torch.tensor([0.2])])
        return Inversion(w.expand(1, 2, 4).clone(), generator.family, method="toy")

    made = session.Editor(fakes.FakeGenerator(), catalogue=fakes.CATALOGUE, strategies={"auto": strategy})
    made.alive = []
    return made


@pytest.fixture
def group():
    rng = np.random.default_rng(0)
    return photos.from_rgb(rng.integers(90, 160, (120, 220, 3)).astype(np.uint8))


def test_every_face_changes_and_nothing_between_them(editor, group):
    before = group.samples.copy()
    result, recipe = instances.translated(editor, group, {"instagan:toy": 1.0})
    off = np.abs(result.samples.astype(int) - before).sum(-1)
    for x in (130, 40, 165):
        assert off[50:70, x - 8 : x + 8].mean() > 5
    assert off[:, 75:90].max() == 0 and off[:20].max() == 0 and off[100:].max() == 0
    assert np.array_equal(group.samples, before)
    assert [step.face for step in recipe.steps] == [1, 0, 2] and recipe.photo_sha256 == group.sha256


def test_the_order_in_which_faces_are_named_is_of_no_account(editor, group):
    results = [
        instances.translated(editor, group, {"instagan:toy": 1.0}, faces=order)[0].samples
        for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0, 0])
    ]
    assert np.array_equal(results[0], results[1]) and np.array_equal(results[0], results[2])
    some = instances.translated(editor, group, {"instagan:toy": 1.0}, faces=[1])[0].samples
    assert np.array_equal(some[:, 90:], group.samples[:, 90:]) and not np.array_equal(some, group.samples)


def test_every_face_is_inverted_from_the_photo_as_it_was_given(editor, group):
    instances.translated(editor, group, {"instagan:toy": 1.0})
    means = [float(image.mean()) for image in editor.alive]
    editor.alive.clear()
    for face in (1, 0, 2):
        instances.translated(editor, group, {"instagan:toy": 1.0}, faces=[face])
    assert means == [float(image.mean()) for image in editor.alive]


def test_faces_and_photos_that_there_are_not(editor, group, monkeypatch):
    with pytest.raises(NoFaceFound, match="numbered 0 to 2"):
        instances.translated(editor, group, {"instagan:toy": 1.0}, faces=[3])
    result, _ = instances.translated(editor, group, {"instagan:toy": 0.0})
    assert result is group
    monkeypatch.setattr(detect, "find_faces", lambda rgb, *_: [])
    with pytest.raises(NoFaceFound):
        instances.translated(editor, group, {"instagan:toy": 1.0})
