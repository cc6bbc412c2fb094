"""Instructions ask for what they say they ask for."""

import numpy as np

from editing.text import instructions, poles

DRAWN = [instructions.draw(np.random.default_rng((5, i))) for i in range(3000)]


def test_sentences_are_filled_in_and_not_empty():
    assert all(request.text.strip() and "{" not in request.text for request in DRAWN)


def test_all_poles_are_asked_for_and_nothing_too():
    asked = {name for request in DRAWN for name in request.wants}
    assert asked == set(poles.load())
    assert 0.05 < np.mean([not request.wants for request in DRAWN]) < 0.25


def test_one_to_four_at_once_never_two_about_one_judge():
    for request in DRAWN:
        judges = [judge for name in request.wants for judge in poles.load()[name].judges]
        assert len(request.wants) <= 4
        if len(judges) != len(set(judges)):  # the other end of one stands for another of like judges
            assert len(request.wants) > 1


def test_little_and_much_are_amounts():
    amounts = {amount for request in DRAWN for amount in request.wants.values()}
    assert min(amounts) <= 0.5 and max(amounts) == 2.0 and 1.0 in amounts
    little = [r for r in DRAWN if " a bit " in f" {r.text} " and len(r.wants) == 1]
    assert little and min(min(r.wants.values()) for r in little) == 0.5


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
