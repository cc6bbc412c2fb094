"""Which sentences fit which faces."""

import numpy as np
import pytest
import torch

from editing.judges import population
from editing.judges.judge import NAMES
from editing.text import pairing
from editing.text.captions import Caption
from stylegan2.errors import UsageError


def scores(count, **values):
    """Faces like the population's mean, but for these judges."""
    row = {name: mean for name, (mean, _) in population.load().items()} | values
    return np.array([[row[name] for name in NAMES]] * count, np.float32)


def column(name):
    return pairing.columns().index(name)


def test_a_misfit_is_counted_in_standard_deviations():
    low = population.load()["smile"][1]
    found = pairing.misfits(
        np.concatenate([scores(1, smile=1.3), scores(1, smile=1.3 - 2 * low), scores(1, smile=np.nan)])
    )
    assert found[0, column("smiling")] == 0
    assert found[1, column("smiling")] == pytest.approx(2, rel=1e-4)
    assert found[2, column("smiling")] == pytest.approx(pairing.NEAR / 2)  # nobody knows


def test_poles_of_two_judges_need_both():
    for name, pole in ((n, p) for n, p in pairing.known.load().items() if len(p.seen) > 1):
        middle = {judge: (max(low, -50) + min(high, 50)) / 2 for judge, (low, high) in pole.seen.items()}
        assert pairing.misfits(scores(1, **middle))[0, column(name)] == 0
        one = next(iter(middle))
        outside = {one: pole.seen[one][0] - 3 * population.load()[one][1]}
        if pole.seen[one][0] > -50:
            assert pairing.misfits(scores(1, **(middle | outside)))[0, column(name)] > 2, name


def test_fitting_near_and_not():
    misfit = torch.tensor([[0.0, 0.0], [0.0, 0.2], [0.0, 2.0]])
    mentions = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    fit, near = pairing.fitting(misfit, mentions)
    assert fit.tolist() == [[True, True], [True, False], [True, False]]
    assert near.tolist() == [[False, False], [False, True], [False, False]]


def test_captions_fit_the_face_that_they_were_written_for_and_swapped_ones_do_not():
    rng = np.random.default_rng(0)
    deviations = np.array([population.load()[name] for name in NAMES])
    faces = (deviations[:, 0] + deviations[:, 1] * rng.standard_normal((40, len(NAMES)))).astype(np.float32)
    claims = pairing.written(faces, 4, seed=3, swaps=1.0)
    fit, _ = pairing.fitting(
        torch.from_numpy(pairing.misfits(faces)), torch.from_numpy(claims.mentions.astype(np.float32))
    )
    own = fit[torch.from_numpy(claims.about), torch.arange(len(claims.texts))].numpy()
    assert own[~claims.swapped].all() and not own[claims.swapped].any()
    assert 0.3 < claims.swapped.mean() <= 0.5
    assert claims.mentions.any(1).mean() > 0.95
    again = pairing.written(faces[:10], 4, seed=3, swaps=1.0)
    assert list(again.texts) == list(claims.texts[: len(again.texts)])  # whatever stands behind


@pytest.mark.parametrize(
    "text, male, said",
    [("a woman with red hair", False, {"female", "grown", "red_hair"}), ("red hair", False, {"red_hair"}),
     ("the boy has red hair", True, {"male", "child", "red_hair"}), ("a face with red hair", None, {"red_hair"})],
)  # fmt: skip
def test_a_claim_is_what_is_said_and_no_more(text, male, said):
    found = pairing.mentioned(Caption(text, ("red_hair",), male))
    assert {name for name, there in zip(pairing.columns(), found, strict=True) if there} == said


def test_sentences_are_embedded_once(tmp_path, monkeypatch):
    calls = []

    def embedded(texts):
        calls.append(len(texts))
        return np.ones((len(texts), 384), np.float32)

    monkeypatch.setattr(pairing, "embedded", embedded)
    first = pairing.kept(tmp_path / "a.npz", scores(3, smile=2.0), 2, seed=0)
    again = pairing.kept(tmp_path / "a.npz", scores(3, smile=2.0), 2, seed=0)
    assert len(calls) == 1 and list(first.texts) == list(again.texts)
    np.testing.assert_array_equal(first.mentions, again.mentions)
    with pytest.raises(UsageError, match="other faces'"):
        pairing.kept(tmp_path / "a.npz", scores(3, smile=1.9), 2, seed=0)
