"""Captions say what holds of a face, in many forms, and nothing else."""

import numpy as np
import pytest

from editing.judges import population
from editing.text import captions, poles

AVERAGE = {judge: mean for judge, (mean, _) in population.load().items()}
REDHEAD = AVERAGE | {"age": 25.0, "male": -9.0, "smile": 1.5, "hair_red": 18.0, "hair_light": 30.0, "glasses": 0.3}


def described(values, count=300, seed=0):
    return captions.describe(values, count, np.random.default_rng(seed))


def test_what_is_mentioned_holds():
    for caption in described(REDHEAD):
        assert all(poles.load()[name].holds(REDHEAD) for name in caption.poles)
        assert caption.male in (False, None)


def test_every_mention_is_in_the_words():
    for caption in described(REDHEAD):
        for name in caption.poles:
            pole = poles.load()[name]
            assert any(word in caption.text for word in (*pole.state, *pole.has)), (caption, name)


def test_many_forms_and_partial_mentions():
    found = described(REDHEAD)
    assert len({caption.text for caption in found}) > 200
    assert {len(caption.poles) for caption in found} == {1, 2, 3, 4}


def test_rare_things_are_mentioned_more_than_common_ones():
    faces = described(REDHEAD | {"glasses": -2.0}, 900)
    said = [caption.poles[0] for caption in faces if len(caption.poles) == 1]
    assert said.count("red_hair") > 1.5 * said.count("no_glasses") > 0


@pytest.mark.parametrize(
    ("values", "nouns", "never"),
    [
        ({"male": 9, "age": 40}, ("man", "gentleman"), ("woman", "lady", "boy", "girl", "she")),
        ({"male": -9, "age": 6}, ("girl",), ("woman", "man", "boy", "he")),
    ],
)
def test_the_noun_goes_by_age_and_gender(values, nouns, never):
    words = [set(caption.text.replace(",", "").split()) for caption in described(AVERAGE | values)]
    assert all(any(noun in found for found in words) for noun in nouns)
    assert not any(found & set(never) for found in words)


def test_nobody_is_called_a_gender_that_the_judge_is_unsure_of():
    assert {caption.male for caption in described(AVERAGE | {"male": 0.5})} == {None}


def test_the_same_seed_says_the_same():
    assert captions.captions(REDHEAD, 5, np.random.default_rng(3)) == captions.captions(
        REDHEAD, 5, np.random.default_rng(3)
    )


def test_a_face_of_which_nothing_special_holds_has_a_caption():
    nothing = dict.fromkeys(AVERAGE, float("nan")) | {"male": 0.0, "age": 35.0}
    assert all(caption.text and not caption.poles for caption in described(nothing, 50))
