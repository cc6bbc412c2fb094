"""Calibration on a made-up face whose judges are linear: ranges end where they must, figures are those put in."""

import json

import numpy as np
import pytest
import torch

from editing.directions import calibrate
from editing.directions.calibrate import Case, Moved
from editing.directions.catalogue import Direction
from editing.judges import population


@pytest.fixture
def linear(monkeypatch):
    """move() that knows: the target moves by `gain` a unit, the person by `drift`."""
    names, _, spread = population.arrays()

    def install(gain=0.5, drift=0.1, target="smile", lost_beyond=np.inf):
        def move(generator, faces, direction, strength):
            change = np.zeros((len(faces), len(names)))
            change[:, names.index(target)] = gain * strength
            change[:, names.index("age")] = 0.25 * gain * strength
            drifts = np.full(len(faces), drift * abs(strength))
            if abs(strength) > lost_beyond:
                drifts[: len(faces) // 2] = np.nan
            return Moved(change, drifts)

        monkeypatch.setattr(calibrate, "move", move)
        return spread[names.index(target)]

    return install


FACES = [Case(None, None)] * 10
SMILE = Direction("smile", torch.zeros(512), (0, 16), "expression", judge="smile")


def test_a_range_ends_where_the_person_is_about_to_change(linear):
    linear(gain=0.25, drift=0.1)
    assert calibrate.furthest(None, FACES, SMILE, 1) == pytest.approx(4.0, rel=0.1)
    assert calibrate.furthest(None, FACES, SMILE, -1) == pytest.approx(-4.0, rel=0.1)


def test_nothing_is_measured_where_the_target_hardly_moves(linear):
    linear(gain=0.1, drift=0.1)
    assert calibrate.furthest(None, FACES, SMILE, 1) == 0
    assert "moves its target" in calibrate.broken(SMILE, calibrate.measured(None, FACES, SMILE, 0.0))


def test_or_where_the_target_has_moved_enough(linear):
    linear(gain=1.0, drift=0.01)
    assert calibrate.furthest(None, FACES, SMILE, 1) == pytest.approx(2.0, rel=0.1)


def test_or_where_faces_are_lost(linear):
    linear(gain=0.3, drift=0.01, lost_beyond=4.0)
    assert 0 < calibrate.furthest(None, FACES, SMILE, 1) <= 5.0


def test_figures_are_those_of_the_faces(linear):
    spread = linear(gain=0.5, drift=0.1)
    found = calibrate.calibrate(None, SMILE, FACES, FACES)
    low, high = found.safe_range
    assert found.effect == pytest.approx(0.5 * spread, rel=1e-3)
    assert found.ends == (round(0.5 * low, 2), round(0.5 * high, 2)) and found.right == (1.0, 1.0)
    assert found.drift == pytest.approx(0.1 * max(-low, high)) and found.leakage["age"] == 0.25
    assert "smile" not in found.leakage


def test_a_judge_that_falls_is_followed_downwards(linear):
    linear(gain=-0.5, drift=0.1)
    falling = Direction("in_awe", torch.zeros(512), (3, 6), "expression", judge="-smile")
    found = calibrate.calibrate(None, falling, FACES, FACES)
    assert found.ends[0] < 0 < found.ends[1] and found.effect < 0 and found.right == (1.0, 1.0)


def test_an_end_at_which_faces_drift_too_far_comes_nearer(linear):
    linear(gain=1.0, drift=0.1)
    end = calibrate.measured(None, FACES, SMILE, 8.0)
    assert 4.0 < end.strength < 4.5 and end.drift < 0.45
    assert not calibrate.broken(SMILE, end)


def test_an_end_that_moves_its_target_too_little_goes_further_while_the_person_stays(linear):
    linear(gain=0.25, drift=0.1)
    end = calibrate.measured(None, FACES, SMILE, 3.8)
    assert 4.0 < end.strength < 4.3 and not calibrate.broken(SMILE, end)
    linear(gain=0.2, drift=0.1)  # would drift too far
    assert calibrate.measured(None, FACES, SMILE, 3.8).strength == 3.8


def test_an_edit_that_breaks_its_promises_has_no_range_and_leaves_the_catalogue(linear, tmp_path):
    linear(gain=-0.05, drift=0.1)  # the wrong way, and little
    end = calibrate.measured(None, FACES, SMILE, 2.0)
    assert "wrong way on 100%" in calibrate.broken(SMILE, end) and "moves its target" in calibrate.broken(SMILE, end)
    found = calibrate.calibrate(None, SMILE, FACES, FACES)
    assert found.safe_range == (0.0, 0.0)
    facts = {key: getattr(found, key) for key in ("safe_range", "ends")}
    (tmp_path / "smile.json").write_text(json.dumps(facts))
    assert calibrate.collected(tmp_path, SMILE) is None
    other = Direction("other", torch.zeros(512), (0, 16))
    assert calibrate.collected(tmp_path, other) is None
    measured = Direction("measured", torch.zeros(512), (0, 16), safe_range=(-1, 1))
    assert calibrate.collected(tmp_path, measured) is measured


def test_one_bad_end_closes_and_the_other_stays(linear, monkeypatch):
    linear(gain=0.5, drift=0.1)
    good = calibrate.move

    def one_sided(generator, faces, direction, strength):
        moved = good(generator, faces, direction, strength)
        return moved if strength > 0 else Moved(moved.change * 0.1, moved.drift)

    monkeypatch.setattr(calibrate, "move", one_sided)
    found = calibrate.calibrate(None, SMILE, FACES, FACES)
    assert found.safe_range[0] == 0 < found.safe_range[1] and found.ends[0] == 0
    assert found.drift == pytest.approx(0.1 * found.safe_range[1])
