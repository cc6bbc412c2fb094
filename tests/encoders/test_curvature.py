"""Curvature: it inverts what it stands for, for codes whose rows move apart or together, and for places."""

import pytest
import torch

from encoders import curvature, metric
from encoders.curvature import Curvature
from tests.encoders import toys


def test_it_inverts_what_it_stands_for():
    random = torch.Generator().manual_seed(0)
    rows = torch.linalg.qr(torch.randn(1024, 40, generator=random)).Q.T * torch.logspace(0.5, -2, 40)[:, None]
    gradient = torch.randn(1024, generator=random)
    solved = Curvature.of(rows, 0.01).solve(gradient)
    assert torch.allclose(2 * (rows.T @ (rows @ solved) + 0.01 * solved), gradient, atol=1e-3)
    assert torch.equal(Curvature(None).solve(gradient), gradient)


def test_rows_that_move_together_share_their_curvature(monkeypatch):
    generator = toys.generator()
    assert curvature.of_codes(generator, "renders").rows is None
    rows = torch.randn(5, generator.num_ws, 512)
    monkeypatch.setattr(metric, "fitting", lambda *_: rows)
    apart, together = (curvature.of_codes(generator, "previews", choice) for choice in (False, True))
    step = torch.randn(512)
    everywhere = step.expand(generator.num_ws, -1).flatten()
    assert torch.allclose(together.rows @ step, apart.rows @ everywhere, rtol=1e-4, atol=1e-3)
    lengths = [float(x.square().sum()) for x in (step, everywhere)]
    assert together.damping * lengths[0] == pytest.approx(apart.damping * lengths[1], rel=1e-4)


def test_numbers_of_one_kind_are_solved_each_on_its_own():
    rows, gradient = torch.randn(5, 8), torch.randn(8, 12)
    known = Curvature.of(rows, 0.1)
    together = known.solve(gradient)
    assert together.shape == gradient.shape and torch.equal(known.solve(gradient.flatten()), together.flatten())
    assert torch.allclose(together[:, 3], known.solve(gradient[:, 3].contiguous()), atol=1e-5)


def test_that_of_places_is_for_activations_it_was_measured_on(mobile):
    known = curvature.of_places(mobile, torch.zeros(1, 256, 16, 16))
    assert known.rows.shape[1] == 256 and known.damping == pytest.approx(curvature.DAMPING["places"] / 256)
    assert curvature.of_places(mobile, torch.zeros(1, 64, 16, 16)).rows is None
