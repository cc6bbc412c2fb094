"""The data of what can be said: every name, judge and word is known, and opposites are opposite."""

import re

import pytest

from editing.judges import population
from editing.judges.judge import NAMES
from editing.text import korean, poles

ALL = list(poles.load().values())
AVERAGE = {judge: mean for judge, (mean, _) in population.load().items()}


@pytest.mark.parametrize("pole", ALL, ids=[pole.name for pole in ALL])
def test_a_pole_is_complete(pole):
    assert pole.judges and set(pole.judges) <= set(NAMES) and pole.along <= set(NAMES)
    assert not set(pole.judges) & pole.along
    assert all(0 < abs(amount) <= 2.2 for amount in pole.wants.values())
    assert sum(map(len, pole.asked.values())) >= 20 and pole.korean
    assert bool(pole.seen) == bool(pole.state or pole.has) or pole.name in ("masculine", "feminine")
    for pattern in pole.korean:
        assert korean.written(pattern) and re.compile(pattern)


def test_opposites_are_mutual_and_pull_apart():
    for pole in ALL:
        if pole.opposite:
            other = poles.load()[pole.opposite]
            assert other.opposite == pole.name or pole.name in (
                "elderly",
                "childlike",
            )  # less of these is not the other
            shared = set(pole.wants) & set(other.wants)
            assert shared and all(pole.wants[judge] * other.wants[judge] < 0 for judge in shared)


def test_placeholders_are_those_that_are_filled():
    for pole in ALL:
        for phrase in (phrase for phrases in pole.asked.values() for phrase in phrases):
            assert set(re.findall(r"\{.*?\}", phrase)) <= {"{her}", "{him}", "{she}", "{herself}"}, phrase


def test_what_holds_of_a_face_goes_by_its_scores():
    glasses = poles.load()["glasses"]
    assert not glasses.holds(AVERAGE) and glasses.holds(AVERAGE | {"glasses": 0.2})
    assert not glasses.holds(AVERAGE | {"glasses": float("nan")})
    assert not poles.load()["sad"].holds(AVERAGE)  # nothing is seen of it


def test_both_ends_never_hold_of_one_face():
    for pole in ALL:
        other = poles.load().get(pole.opposite)
        if other and pole.seen and other.seen:
            shared = set(pole.seen) & set(other.seen)
            assert any(pole.seen[j][1] < other.seen[j][0] or other.seen[j][1] < pole.seen[j][0] for j in shared), pole


def test_shares_were_counted():
    counted = {pole.name: pole.share for pole in ALL if pole.seen}
    assert all(0 < share < 0.8 for share in counted.values())
    assert counted["no_glasses"] > counted["glasses"] > 0.03


def test_parts_have_a_noun_and_how_it_is_to_be():
    with_parts = [pole for pole in ALL if pole.part]
    assert len(with_parts) > 90
    for pole in with_parts:
        assert pole.part["noun"] and pole.part["adj"] and set(pole.part) <= {"noun", "adj", "verb"}, pole.name


def test_one_wording_asks_for_one_thing():
    said = {}
    for pole in ALL:
        for phrase in {phrase for phrases in pole.asked.values() for phrase in phrases}:
            assert said.setdefault(phrase, pole.name) == pole.name, phrase
