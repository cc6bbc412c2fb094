"""How judges' errors are counted: signs in a mirror, pairs in order, and copies that are the same face."""

import json

import numpy as np
import pytest

from editing.judges import errors, population
from editing.judges.judge import NAMES, Scores


def scores(**values):
    return Scores(dict.fromkeys(NAMES, 1.0) | values, np.zeros(128), np.zeros((68, 2)))


def test_copies_show_the_same_face_elsewhere():
    picture = np.random.default_rng(0).integers(0, 255, (600, 600, 3), dtype=np.uint8)
    found = dict(errors.copies(picture))
    assert np.array_equal(found["mirrored"][:, ::-1], picture)
    assert np.array_equal(found["moved"][12:, 12:], picture[:-12, :-12]) and found["moved"].shape == picture.shape
    assert found["jpeg"].shape == (512, 512, 3)


def test_a_difference_is_in_deviations_of_the_population_and_knows_mirrors():
    names, _, spread = population.arrays()
    change = errors.difference(scores(age=30.0, yaw=0.2), scores(age=30.0 + spread[0], yaw=-0.2), mirrored=True)
    assert change[names.index("age")] == pytest.approx(-1)
    assert change[names.index("yaw")] == pytest.approx(0)
    unseen = errors.difference(scores(hair_light=np.nan), scores(), mirrored=False)
    assert np.isnan(unseen[names.index("hair_light")]) and unseen[names.index("smile")] == 0


def test_area_under_the_curve():
    assert errors.auc(np.array([3.0, 4.0]), np.array([1.0, 2.0])) == 1
    assert errors.auc(np.array([1.0, 4.0]), np.array([2.0, 3.0])) == 0.5
    assert errors.auc(np.array([1.0]), np.array([1.0])) == 0.5


def test_what_was_looked_at_names_judges_and_nobody_twice():
    facts = {name: fact for name, fact in json.loads(errors.LOOKED.read_text()).items() if isinstance(fact, dict)}
    assert len(facts) >= 6
    for fact in facts.values():
        assert fact["judge"] in NAMES and not set(fact["yes"]) & set(fact["no"])


def test_the_population_has_every_judge():
    names, _, spread = population.arrays()
    assert tuple(names) == NAMES and (spread > 0).all()
