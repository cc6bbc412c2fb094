"""The linear part of disentangling, where the truth is known: the others go back, the target stays."""

import numpy as np
import pytest
import torch

from editing.directions import disentangle
from editing.directions.catalogue import Direction, disentangled
from stylegan2.errors import UsageError


def test_a_correction_takes_the_others_back_and_leaves_the_target():
    random = np.random.default_rng(0)
    g = random.standard_normal((512, 6)) / 20
    g[:, 2] += 0.4 * g[:, 0]  # entangled with the target
    odd = np.array([2.0, 0.5, 1.0, -0.7, 0.0, 0.3])
    step = disentangle.correction(odd, 0, g)
    after = odd + g.T @ step
    assert after[0] == pytest.approx(2.0, abs=1e-6)
    assert np.abs(after[1:]).mean() < 0.25 * np.abs(odd[1:]).mean()


def test_leak_is_movement_of_the_others_for_one_of_the_target():
    assert disentangle.leak(np.array([2.0, 1.0, -1.0]), 0) == 0.5
    assert disentangle.leak(np.array([-2.0, np.nan, 1.0]), 0) == 0.5


def test_a_direction_without_a_disentangled_form_says_so():
    plain = Direction("mine", torch.zeros(512), (0, 16))
    with pytest.raises(UsageError, match="no disentangled form"):
        disentangled(plain)
    other = Direction("mine", torch.zeros(512), (0, 16), clean=torch.ones(512))
    assert torch.equal(disentangled(other).vector, torch.ones(512))


def test_what_was_found_is_collected(tmp_path):
    plain = Direction("mine", torch.zeros(512), (0, 16))
    assert disentangle.collected(tmp_path, plain) is plain
    np.savez(tmp_path / "mine.clean.npz", vector=np.ones(512), before=0.4, after=0.1234, kept=0.9)
    found = disentangle.collected(tmp_path, plain)
    assert torch.equal(found.clean, torch.ones(512)) and found.clean_leak == 0.123
    np.savez(tmp_path / "mine.clean.npz", vector=np.zeros(0), before=np.nan, after=np.nan, kept=np.nan)
    assert disentangle.collected(tmp_path, found).clean is None
