"""StyleCLIP's ways on a bridge whose answers are known."""

import pytest
import torch
import torch.nn.functional as F

from editing.heads.response import Whitening
from editing.text import styleclip
from stylegan2.errors import UsageError

ROWS, WIDE, COMPONENTS = 18, 24, 8


@pytest.fixture(scope="module")
def whitening():
    w = torch.randn(400, WIDE, generator=torch.Generator().manual_seed(0)) * torch.linspace(3, 0.2, WIDE)
    return Whitening.of(w, COMPONENTS)


class Toy:
    """Sentences are axes; a code's place along them is what a linear map of its view says."""

    axes = {"a person": 0, "red": 1, "old": 2, "glad": 3}

    def __init__(self, whitening):
        self.whitening = whitening
        self.map = torch.zeros(3 * COMPONENTS, 4)
        self.map[2, 1], self.map[2 * COMPONENTS + 1, 1] = 1.0, 0.1  # red: coarse 2, and a little fine 1
        self.map[COMPONENTS + 5, 2] = 1.0  # old: middle 5

    def text(self, sentences):
        return torch.stack([torch.eye(4)[next(n for w, n in self.axes.items() if w in s)] for s in sentences])

    def latent(self, ws):
        return F.normalize(torch.tensor([2.0, 0, 0, 0.1]) + self.whitening.view(ws) @ self.map, dim=1)


@pytest.fixture
def bridge(whitening):
    return Toy(whitening)


@pytest.fixture
def ws(whitening):
    found = whitening.mean + torch.randn(3, WIDE, generator=torch.Generator().manual_seed(1))
    return found[:, None].expand(-1, ROWS, -1).contiguous()


def test_optimisation_brings_codes_nearer(bridge, ws, whitening):
    losses = []
    offset = styleclip.optimised(
        bridge, ws, "red", whitening=whitening, callback=lambda step, loss: losses.append(loss)
    )
    assert offset.shape == ws.shape and len(losses) == styleclip.STEPS
    before, after = (bridge.latent(codes) @ bridge.text(["red"])[0] for codes in (ws, ws + offset))
    assert (after > before + 0.3).all() and losses[-1] < losses[0]
    torch.testing.assert_close(offset[:, 15], offset[:, 17])  # rows that the default generator merges


def test_a_dear_length_keeps_codes_where_they_were(bridge, ws, whitening):
    near, far = (styleclip.optimised(bridge, ws, "red", l2=l2, whitening=whitening).norm() for l2 in (1.0, 0.005))
    assert near < 0.3 * far


def test_who_somebody_is_has_a_price(bridge, ws, whitening):
    def moved(codes):
        return (codes - ws)[:, :4].square().sum((1, 2))  # of a judge that looks at coarse rows

    free, held = (
        styleclip.optimised(bridge, ws, "red", whitening=whitening, identity=moved, identity_weight=weight)[
            :, :4
        ].norm()
        for weight in (0.0, 1.0)
    )
    assert held < 0.3 * free


def test_one_code_does_not_depend_on_the_others(bridge, ws, whitening):
    together = styleclip.optimised(bridge, ws, "red", steps=10, whitening=whitening)
    alone = styleclip.optimised(bridge, ws[1:2], "red", steps=10, whitening=whitening)
    seen, seen_alone = bridge.latent(ws + together)[1], bridge.latent(ws[1:2] + alone)[0]
    torch.testing.assert_close(seen, seen_alone, atol=1e-5, rtol=0)
    assert (together[1:2] - alone).abs().max() < 0.05 * alone.abs().max()  # what rounding moves where nothing pulls


def test_a_direction_is_where_the_sentence_points(bridge, ws, whitening):
    direction = styleclip.globally(bridge, ws, "red", "a person", beta=0.2, whitening=whitening)
    assert direction.shape == (ROWS, WIDE)
    parts = whitening.views(direction[None, :16]).unflatten(1, (3, -1))[0]
    assert parts.norm().item() == pytest.approx(1, abs=1e-3)
    expected = torch.zeros(3, COMPONENTS)
    expected[0, 2] = 1.0  # the little of the fine rows is below the threshold
    torch.testing.assert_close(parts, expected, atol=1e-3, rtol=0)
    told = styleclip.globally(bridge, ws, "red", "a person", beta=0.0, whitening=whitening)
    assert whitening.views(told[None, :16]).unflatten(1, (3, -1))[0, 2, 1] > 0.05
    up, down = (bridge.latent(ws + sign * 2 * direction) @ bridge.text(["red"])[0] for sign in (1, -1))
    assert (up > down + 0.5).all()


def test_what_cannot_be_asked(bridge, ws, whitening):
    with pytest.raises(UsageError, match="same for this bridge"):
        styleclip.globally(bridge, ws, "red", "a photo of red", whitening=whitening)
    with pytest.raises(UsageError, match="beta"):
        styleclip.globally(bridge, ws, "red", "a person", beta=1.0, whitening=whitening)
    with pytest.raises(UsageError, match="numbers a row"):
        styleclip.optimised(bridge, torch.zeros(1, 16, 7), "red", whitening=whitening)
