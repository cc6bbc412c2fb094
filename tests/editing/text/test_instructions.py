"""Instructions ask for what they say they ask for."""

import numpy as np

from editing.text import counting, instructions, poles

DRAWN = [instructions.draw(np.random.default_rng((5, i))) for i in range(3000)]


def test_sentences_are_filled_in_and_not_empty():
    assert all(request.text.strip() and "{" not in request.text for request in DRAWN)


def test_all_poles_are_asked_for_and_nothing_too():
    asked = {name for request in DRAWN for name in request.wants}
    assert asked == set(poles.load())
    assert 0.05 < np.mean([not request.wants for request in DRAWN]) < 0.25


def test_one_to_five_at_once():
    assert {len(request.wants) for request in DRAWN} >= {0, 1, 2, 3, 4, 5}


def test_requests_do_not_share_a_judge():
    rng = np.random.default_rng(1)
    for _ in range(100):
        judges = [judge for pole in instructions.several(5, rng) for judge in pole.judges]
        assert len(judges) == len(set(judges))


def test_little_and_much_are_amounts_as_the_reader_takes_them():
    amounts = {amount for request in DRAWN for amount in request.wants.values()}
    assert min(amounts) <= 0.5 and max(amounts) == 2.0 and 1.0 in amounts
    said = [r for r in DRAWN if list(r.wants.values()) in ([0.5], [1.5], [2.0])]
    agree = [abs(counting.amount(r.text) - next(iter(r.wants.values()))) < 0.3 for r in said]
    assert len(said) > 30 and np.mean(agree) > 0.85


def test_not_is_the_other_end():
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(2000):
        text, name, _ = instructions.clause(poles.load()["no_glasses"], instructions.PEOPLE[0], rng)
        assert name == "no_glasses"
        seen.add(text)
    assert any(text.startswith(("no ", "without ", "remove ", "don't ")) for text in seen)


def test_the_same_seed_asks_the_same():
    again = instructions.draw(np.random.default_rng((5, 7)))
    assert again == DRAWN[7]


def test_one_part_two_things_about_it():
    found = [instructions.shared(instructions.PEOPLE[0], np.random.default_rng(i)) for i in range(200)]
    both = [request for request in found if len(request.wants) == 2]
    assert len(both) > 100
    for request in both:
        nouns = [set(poles.load()[name].part["noun"]) for name in request.wants]
        assert nouns[0] & nouns[1]


def test_years_are_asked_for_in_numbers():
    assert any("years" in request.text and "younger" in request.wants for request in DRAWN)
