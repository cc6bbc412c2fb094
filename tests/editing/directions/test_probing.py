"""What moves do, where the truth is known."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

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


def test_a_handful_is_the_same_every_time_and_few_moves():
    face, end, amounts = probing.handful(7, 10, 3, 220)
    again = probing.handful(7, 10, 3, 220)
    assert (face, end) == again[:2] and np.array_equal(amounts, again[2])
    assert 0 <= face < 10 and -1 <= end < 3 and (amounts != 0).sum() == probing.HANDFUL
    assert {probing.handful(index, 10, 3, 220)[1] for index in range(60)} == {-1, 0, 1, 2}


def truth(random):
    """A share for every judge and band of what its slope says, and a little more that no slope says."""
    shares = random.uniform(0, 1, (len(NAMES), BANDS))
    along = probing.STEP * probing.unit_slopes() @ np.stack([slopes()[name] for name in NAMES]).T
    judges = np.einsum("ij,jb->ibj", along, shares).reshape(-1, len(NAMES))
    return judges + 0.02 * random.standard_normal(judges.shape)


def test_few_probes_say_what_all_moves_do():
    random = np.random.default_rng(0)
    judges = truth(random)
    probes = [probing.handful(index, 10, 2, len(judges)) for index in range(600)]
    ends, amounts = np.array([end for _, end, _ in probes]), np.array([own for *_, own in probes])
    changes = amounts @ judges + 0.3 * random.standard_normal((600, len(NAMES)))  # faces differ
    by_band = (amounts.reshape(600, -1, BANDS) ** 2).sum(1)
    squares = np.array([0.01, 0.04, 0.09])[ends + 1] + by_band @ np.array([0.02, 0.01, 0.005, 0.0])
    found = probing.fitted(amounts, changes, squares, ends)
    assert ((found.judges - judges) ** 2).mean() < 0.15 * (judges**2).mean()
    drift = found.drift.reshape(-1, BANDS)
    assert drift[0] == pytest.approx([0.02, 0.01, 0.005, probing.LEAST_DRIFT], abs=1e-3)
    assert drift.std(0).max() == pytest.approx(0)


def test_probes_are_judged_once_and_read_back(tmp_path, monkeypatch):
    monkeypatch.setattr(probing, "PROBES", 60)
    random = np.random.default_rng(0)
    moves, judges = torch.from_numpy(random.standard_normal((220, 16, 512))).float(), truth(random)
    base, judged = random.standard_normal((2, 10, len(NAMES))), []

    def changed(generator, face, added):
        index = len(judged)
        number, end, amounts = probing.handful(index, 10, 2, 220)
        judged.append(index)
        if index == 5:
            return probing.Changed(np.full(len(NAMES), np.nan), np.nan)  # no face is found
        own = base[end][number] if end >= 0 else 0
        ends = torch.stack([torch.ones(16, 512), 2 * torch.ones(16, 512)])
        expected = torch.einsum("k,krc->rc", torch.from_numpy(amounts).float(), moves) + (ends[end] if end >= 0 else 0)
        assert torch.allclose(added, expected, atol=1e-4)
        return probing.Changed(own + amounts @ judges, 0.3)

    monkeypatch.setattr(probing, "changed", changed)
    faces, ends = [SimpleNamespace()] * 10, [torch.ones(16, 512), 2 * torch.ones(16, 512)]
    probing.probe(None, faces, ends, moves, tmp_path, (0, 1))
    assert len(judged) == 60 and len(list(tmp_path.glob("probes-*.npz"))) == 3
    probing.probe(None, faces, ends, moves, tmp_path, (0, 1))
    assert len(judged) == 60
    found = probing.effects(tmp_path, list(base))
    assert np.corrcoef(found.judges.ravel(), judges.ravel())[0, 1] > 0.8
