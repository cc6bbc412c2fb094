"""What moves do, where the truth is known."""

import numpy as np
import pytest

from editing.directions import probing
from editing.directions.own import slopes
from editing.judges import population

NAMES = list(population.load())
BANDS = len(probing.BANDS)


def test_moves_lie_on_their_rows_and_are_as_long_as_they_should_be():
    moves = probing.moves()
    assert moves.shape == (BANDS * len(NAMES), 16, 512)
    for band, (start, end) in enumerate(probing.BANDS):
        move = moves[band]
        assert move[start:end].std(0).max() == 0 and move[start].abs().max() > 0
        assert move.abs().sum() == pytest.approx(float(move[start:end].abs().sum()))
    assert np.linalg.norm(probing.unit_slopes(), axis=1) == pytest.approx(np.ones(len(NAMES)))


def test_a_disturbance_is_the_opposite_of_the_one_before_and_another_at_every_end():
    first, second, third = (probing.disturbances(0, turn, 5, 220) for turn in range(3))
    assert first.shape == (5, 221) and not first[:, -1].any()
    assert np.array_equal(first, -second) and not np.allclose(first, third)
    assert first[:, :-1].std() == pytest.approx(probing.SPREAD, rel=0.1)
    assert not np.allclose(first, probing.disturbances(1, 0, 5, 220))


def truth(random):
    """A share for every judge and band of what its slope says, and a little more that no slope says."""
    shares = random.uniform(0, 1, (len(NAMES), BANDS))
    along = probing.STEP * probing.unit_slopes() @ np.stack([slopes()[name] for name in NAMES]).T
    judges = np.einsum("ij,jb->ibj", along, shares).reshape(-1, len(NAMES))
    return judges + 0.02 * random.standard_normal(judges.shape)


def rows(random, judges, end, turns=2, faces=40):
    """Faces that differ more than what the disturbances do to them."""
    amounts = np.vstack([probing.disturbances(end, turn, faces, len(judges)) for turn in range(turns)])
    own = random.standard_normal((faces, len(NAMES)))
    change = amounts[:, :-1] @ judges + np.tile(own, (turns, 1)) + 0.1 * random.standard_normal((len(amounts), 55))
    return probing.Seen(np.tile(np.arange(faces), turns), amounts, change, np.full(len(amounts), 0.3))


def test_disturbances_say_what_all_moves_do_though_faces_differ():
    random = np.random.default_rng(0)
    judges = truth(random)
    seen = [rows(random, judges, end) for end in range(8)]
    seen[0].change[3], seen[0].drift[3] = np.nan, np.nan  # no face is found any more
    seen[1].change[:, 4] = np.nan  # a judge that sees nothing
    found = probing.effects(seen)
    assert len(found) == 8
    assert ((found[2].judges[:-1] - judges) ** 2).mean() < 0.2 * (judges**2).mean()
    assert found[2].judges[-1] == pytest.approx(seen[2].change[:40].mean(0), abs=0.35)  # the edit itself
    assert np.array_equal(found[0].drift.reshape(-1, BANDS), np.tile(probing.DRIFT, (len(NAMES), 1)))


def test_what_a_form_does_is_foretold_from_the_nearest_row_of_every_face():
    judges = np.array([[1.0, 0.0], [0.0, 2.0]])  # of one move and of the edit itself
    known = probing.Effects(judges, np.array([0.5]))
    seen = probing.Seen(np.array([0, 0, 1, 1]), np.array([[0.0, 0], [1, 0], [1, 0], [9, 0]]),
                        np.array([[0.0, 0], [7, 7], [3, np.nan], [np.nan, np.nan]]),
                        np.array([0.1, 0.2, 0.3, np.nan]))  # fmt: skip
    change, drift = probing.foretold(seen, known, np.array([0.9, 0.5]))
    assert change == pytest.approx([(6.9 + 2.9) / 2, 8.0])  # where a judge sees nothing, the others say it
    squares = [0.2**2 * 2.25 + 0.5 * (0.81 - 1), 0.3**2 * 2.25 + 0.5 * (0.81 - 1)]
    assert drift == pytest.approx(np.sqrt(np.median(squares)))
