"""Words for little and much, years to go, and ages to reach."""

import pytest

from editing.text import counting


@pytest.mark.parametrize(
    ("part", "much"),
    [("make her smile", 1.0), ("a bit older", 0.5), ("much darker lips", 1.5), ("as blond as possible", 2.0),
     ("too much makeup", 1.0), ("a little girl", 1.0), ("a little blonder", 0.5)],
)  # fmt: skip
def test_words_for_little_and_much(part, much):
    assert counting.amount(part) == much


@pytest.mark.parametrize(
    ("text", "years"),
    [("ten years younger", 10), ("twenty-five years older", 25), ("a decade or two", 10), ("a few years", 5),
     ("3 decades", 30), ("I am 45 years old, make me look 10 years younger", 10), ("she is 60 years old", None),
     ("as she was twenty years ago", 20), ("younger", None)],
)  # fmt: skip
def test_years(text, years):
    assert counting.years(text) == years


@pytest.mark.parametrize(
    ("part", "age"),
    [("make him look 60", 60), ("make her forty", 40), ("about 30 years old", None), ("as a 70 year old", 70),
     ("make him look about seventy-five please", 75), ("make her look in her 40s", 45), ("in his early thirties", None),
     ("turn him into a man in his early thirties", None), ("make me look like I'm 20", 20), ("show me at 70", 70),
     ("make her 30 with a hat", 30), ("look like a five year old", 5), ("she looks 60", None), ("I look 60", None),
     ("don't make her look 60", None), ("be a 10", None), ("increase the smile to 50", None),
     ("look 10 years older", None),
     ("make it look like a 20 year old photo", None)],
)  # fmt: skip
def test_ages_that_a_face_is_to_look(part, age):
    assert counting.age(part) == age
