"""Descent over a code: it solves what it knows at once, learns what it does not, never climbs, and can be cancelled."""

import pytest
import torch

from editing.inversion import descent
from editing.inversion.budget import Progress
from encoders.curvature import Curvature
from stylegan2.errors import Cancelled


def progress(steps=100):
    return Progress(None, steps, "")


@pytest.fixture
def bowl():
    """A badly scaled quadratic of 1,024 numbers: the loss, its minimum, and rows whose square is half its Hessian."""
    random = torch.Generator().manual_seed(0)
    rows = torch.linalg.qr(torch.randn(1024, 40, generator=random)).Q.T * torch.logspace(0.5, -2, 40)[:, None]
    goal = torch.randn(1, 2, 512, generator=random)

    def loss(u):
        return (rows @ (u - goal).flatten()).square().sum()

    return loss, goal, rows


def test_knowing_the_curvature_is_worth_many_steps(bowl):
    loss, _, rows = bowl
    start = torch.zeros(1, 2, 512)
    informed = descent.minimise(loss, start, Curvature.of(rows, 1e-5), 3, progress())
    learnt = descent.minimise(loss, start, Curvature(None), 3, progress())
    later = descent.minimise(loss, start, Curvature(None), 40, progress())
    assert loss(informed) < 1e-2 * loss(learnt) and loss(learnt) < 0.5 * loss(start)
    assert loss(later) < 0.1 * loss(learnt)


def test_it_never_ends_higher_than_it_began_even_where_the_curvature_is_wrong(bowl):
    loss, goal, rows = bowl
    wrong = Curvature.of(rows / 10, 1e-3)
    seen = []

    def uneven(u):
        return loss(u) + 0.3 * torch.sin(20 * (u - goal)).square().mean()

    def rough(u):
        value = uneven(u)
        seen.append(float(value))
        return value if len(seen) % 7 else value * float("nan")

    start = goal + 0.5
    found = descent.minimise(rough, start, wrong, 20, progress())
    assert uneven(found) < uneven(start) and len(seen) > 7 and bool(torch.isfinite(found).all())


def test_a_minimum_is_left_alone_and_the_start_is_not_changed(bowl):
    loss, goal, rows = bowl
    before = goal.clone()
    assert torch.allclose(descent.minimise(loss, goal, Curvature.of(rows, 1e-3), 5, progress()), before, atol=1e-5)
    descent.minimise(loss, goal + 1, Curvature.of(rows, 1e-3), 5, progress())
    assert torch.equal(goal, before)


def test_every_step_counts_and_one_that_is_cancelled_ends_it(bowl):
    loss, _, rows = bowl
    seen = []
    with pytest.raises(Cancelled, match="after 3 of 9 steps"):
        counted = Progress(lambda step, total, _: seen.append((step, total)) or step < 3, 9, "")
        descent.minimise(loss, torch.zeros(1, 2, 512), Curvature.of(rows, 1e-3), 9, counted)
    assert seen == [(1, 9), (2, 9), (3, 9)]
