"""Training heads for maps and layouts: maps that could have been painted, what is hidden, and steps that learn."""

import numpy as np
import pytest
import torch

from editing.heads import boxed, layouts, mapped, maps, repaint
from editing.judges.parsing.labels import CLASSES
from stylegan2 import preview
from stylegan2.errors import UsageError
from tests.editing.heads.test_repaint import drawn


def face(shift=0, hair=24):
    return drawn(
        hair=(hair, 10, 104, 90), skin=(36 + shift, 30, 92 + shift, 112), nose=(60 + shift, 64, 68 + shift, 82),
        eyes=[(44 + shift, 56, 56 + shift, 62), (72 + shift, 56, 84 + shift, 62)],
        brows=[(42 + shift, 46, 58 + shift, 50), (70 + shift, 46, 86 + shift, 50)],
        upper_lip=(54 + shift, 90, 74 + shift, 94), lower_lip=(54 + shift, 94, 74 + shift, 102),
        glasses=[(40 + shift, 54, 58 + shift, 56)] if shift else [],
    )  # fmt: skip


def test_variations_are_maps_of_the_same_classes_and_differ_somewhere():
    differ = []
    for seed in range(60):
        found = mapped.variation(face(), face(6, 10), np.random.default_rng(seed))
        assert found.shape == (128, 128) and found.dtype == np.uint8 and found.max() < len(CLASSES)
        differ.append((found != face()).mean())
    assert np.mean(np.array(differ) > 0) > 0.9 and 0.005 < np.mean(differ) < 0.3
    same = [mapped.variation(face(), face(6, 10), np.random.default_rng(3)) for _ in range(2)]
    assert np.array_equal(*same)


def test_a_part_that_is_taken_comes_to_where_the_face_has_its_own():
    found = mapped.taken(face(), face(6, 10), "glasses", np.random.default_rng(0))
    glasses, eyes = (
        np.argwhere(repaint.of(labels, part)).mean(0) for labels, part in ((found, "glasses"), (face(), "eyes"))
    )
    assert repaint.of(found, "glasses").any() and abs(glasses[0] - eyes[0]) < 6
    hair = mapped.taken(face(), face(6, 10), "hair", np.random.default_rng(0))
    assert (hair[20:80, 12:22] == CLASSES.index("hair")).all()
    assert np.array_equal(repaint.of(hair, "eyes"), repaint.of(face(), "eyes"))


def test_what_is_hidden_is_where_maps_differ():
    for seed in range(20):
        mask, known = mapped.hidden(face(), face(6, 10), np.random.default_rng(seed))
        assert mask.shape == known.shape == (1, 32, 32) and ((known == 0) <= (mask >= maps.KNOWN)).all()


@pytest.fixture(scope="module")
def samples(mobile, tmp_path_factory):
    """A folder as `editing.directions.sampling` writes it."""
    from editing.directions import sampling

    folder = tmp_path_factory.mktemp("faces")
    shard = sampling.sample_shard(mobile, range(7, 13), 0.7)
    np.savez(folder / "7.npz", **shard)
    return folder


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(mapped, "HELD_OUT", 2)
    monkeypatch.setattr(boxed, "HELD_OUT", 2)
    monkeypatch.setattr(mapped, "BATCH", {"layout": 2, "painter": 2})
    monkeypatch.setattr(boxed, "BATCH", 2)


def test_too_few_faces_are_one_sentence(samples, mobile):
    with pytest.raises(UsageError, match="more than 200"):
        mapped.opened(samples, preview.load(mobile))


def test_the_painter_learns_what_is_hidden(samples, small, mobile):
    training = mapped.Training("painter", mapped.opened(samples, preview.load(mobile)), preview.load(mobile))
    first = [training.step(n, 1.0)["features"] for n in range(4)]
    for n in range(4, 24):
        last = training.step(n, 1.0)["features"]
    assert last < 0.97 * np.mean(first)
    found = training.held_out()  # of faces that it never saw
    assert set(found) == {"painter", "collage"} and 0 < found["painter"] < 1.5 * found["collage"]


def test_trainings_go_on_where_they_were_and_write_heads(samples, small, tmp_path, monkeypatch):
    monkeypatch.setattr(mapped.Training, "held_out", lambda self: {})
    said = []
    mapped.train("layout", samples, tmp_path, 0.03, lambda *row: said.append(row))
    mapped.train("painter", samples, tmp_path, 0.03, lambda *row: said.append(row))
    state = torch.load(tmp_path / "painter.state", weights_only=True)
    assert state["step"] >= 1
    mapped.train("painter", samples, tmp_path, 0.06, lambda *row: said.append(row))
    assert torch.load(tmp_path / "painter.state", weights_only=True)["step"] > state["step"]
    assert maps.load(tmp_path / "spade.safetensors").painter.scale.min() > 0
    with pytest.raises(UsageError, match="layout first"):
        mapped.loaded(tmp_path / "other", "layout")
    for minutes in (0.03, 0.06):
        boxed.train(samples, tmp_path, minutes, lambda *row: said.append(row))
    head = layouts.load(tmp_path / "lostgans.safetensors")
    assert head.map_of({"hair": (0.2, 0.1, 0.6, 0.5)}).shape == (128, 128) and "held_out" in said[-1][1]
