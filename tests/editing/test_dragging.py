"""Dragging points: tracking and supervision where the truth is known, and a real face that follows."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from editing import dragging, steps
from editing.dragging import Drags
from editing.types import Inversion, Recipe, Step
from stylegan2.errors import Cancelled, UsageError

SIZE = 32


class Blob:
    """A generator whose activation is a bump; the first two whitened numbers of a code say where it lies."""

    num_ws, w_dim, resolution, channels = 16, 512, 1024, (8,) * 8
    renders = 0

    def synthesis(self, ws, deltas=None, features=None, until=None):
        from stylegan2 import w_statistics

        type(self).renders += 1
        at = w_statistics.load().whiten(ws)[:, :6, :2].mean(1)
        axis = torch.arange(SIZE) - (SIZE - 1) / 2
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        away = (x - 2 * at[:, 0]) ** 2 + (y - 2 * at[:, 1]) ** 2
        return torch.stack([torch.exp(-away / (2 * s)) for s in (4.0, 16.0, 40.0)])[None]


@pytest.fixture
def blob(monkeypatch):
    monkeypatch.setattr(dragging, "stage", lambda generator: "b")
    generator = Blob()
    from stylegan2 import w_statistics

    return generator, w_statistics.load().mean.expand(1, 16, -1).clone()


def whitened(ws):
    from stylegan2 import w_statistics

    return w_statistics.load().whiten(ws)


def test_what_is_dragged_comes_to_its_target(blob):
    generator, ws = blob
    moved = dragging.drag(generator, ws, [(0.5, 0.5, 0.5 + 4 / SIZE, 0.5 - 2 / SIZE)], 80)
    at = 2 * whitened(moved)[0, :6, :2].mean(0)
    assert at.tolist() == pytest.approx([4, -2], abs=0.7)
    assert torch.equal(moved[:, dragging.ROWS :], ws[:, dragging.ROWS :]) or torch.allclose(
        moved[:, dragging.ROWS :], ws[:, dragging.ROWS :], atol=1e-4
    )


def test_the_same_points_and_steps_give_the_same_code(blob):
    generator, ws = blob
    points = [(0.5, 0.5, 0.6, 0.5)]
    assert torch.equal(dragging.drag(generator, ws, points, 5), dragging.drag(generator, ws, points, 5))


def test_a_handle_that_is_there_needs_no_step(blob):
    generator, ws = blob
    assert torch.allclose(dragging.drag(generator, ws, [(0.5, 0.5, 0.5, 0.505)]), ws, atol=1e-5)


def test_a_handle_is_found_where_it_went():
    before = torch.randn(1, 4, 20, 20, generator=torch.Generator().manual_seed(0))
    handles = torch.tensor([[10.0, 8.0], [4.0, 12.0]])
    known = dragging.sampled(before, handles[:, None] + dragging.disc(dragging.SEEN))
    after = before.roll((1, -2), (2, 3))
    assert dragging.tracked(after, handles, known).tolist() == [[8.0, 9.0], [2.0, 13.0]]


def test_it_can_be_stopped(blob):
    generator, ws = blob
    with pytest.raises(Cancelled, match="after 2 of 9"):
        dragging.drag(generator, ws, [(0.5, 0.5, 0.9, 0.5)], 9, lambda step, *_: step < 2)


@pytest.mark.parametrize("points", [None, [], "abc", [(0.1, 0.2, 0.3)], [(0, 0, 0, 2)], [(0, 0, 0, float("nan"))],
                                    [(0, 0, 1, 1)] * 17, [("a", 0, 0, 0)]])  # fmt: skip
def test_points_that_are_none_are_refused(points):
    with pytest.raises(UsageError, match="four numbers"):
        dragging.checked(points)


def test_a_recipe_with_wrong_points_or_a_region_is_refused_before_anything_is_drawn():
    good = dragging.step_of([(0.1, 0.1, 0.2, 0.2)])
    assert steps.pin(Recipe(steps=(good,)), {}).steps == (good,)
    with pytest.raises(UsageError, match="region"):
        steps.pin(Recipe(steps=(good.model_copy(update={"region": "hair"}),)), {})
    with pytest.raises(UsageError, match="four numbers"):
        steps.pin(Recipe(steps=(Step(op="drag", parameters={"points": [[1]]}),)), {})
    with pytest.raises(UsageError, match="1 to 200"):
        dragging.change(
            None, SimpleNamespace(ws=None), Step(op="drag", parameters={"points": [[0, 0, 1, 1]], "steps": 0})
        )


def test_drags_come_first_are_remembered_and_scale(blob):
    generator, ws = blob
    inversion = Inversion(ws, "blob")
    step = dragging.step_of([(0.5, 0.5, 0.6, 0.5)], steps=4)
    half = step.model_copy(update={"parameters": {**step.parameters, "strength": 0.5}})
    memo = {}
    (layer,) = steps.layers(inversion, [step], {}, Drags(generator, memo))
    renders = Blob.renders
    (weaker,) = steps.layers(inversion, [half], {}, Drags(generator, memo))
    assert Blob.renders == renders and len(memo) == 1
    torch.testing.assert_close(2 * (weaker.inversion.ws - ws), layer.inversion.ws - ws)
    (none,) = steps.layers(inversion, [step.model_copy(update={"parameters": {**step.parameters, "strength": 0}})], {})
    assert none.inversion is inversion
    with pytest.raises(UsageError, match="dragged"):
        steps.layers(inversion, [step], {})


def test_the_corners_of_a_real_mouth_follow(mobile):
    from editing.judges.judge import locate
    from stylegan2 import engine

    ws = engine.broadcast(mobile, engine.latents(mobile, [11], 0.7))
    draw = lambda code: locate(engine.to_uint8(mobile.synthesis(code).detach())[0]) / 1024  # noqa: E731
    before = draw(ws)
    way = np.array([[-0.02, -0.03], [0.02, -0.03]])
    points = [(*before[i], *(before[i] + d)) for i, d in zip((48, 54), way, strict=True)]
    after = draw(dragging.drag(mobile, ws, points, 20))
    moved = after[[48, 54]] - before[[48, 54]]
    assert (moved * way).sum() / (way**2).sum() == pytest.approx(1, abs=0.5)
