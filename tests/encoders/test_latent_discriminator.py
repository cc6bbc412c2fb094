"""The adversary in W: parity, losses against their formulas, and the history of codes."""

import math

import pytest
import torch
from torch import nn

from encoders.latent_discriminator import LatentDiscriminator, Pool, discriminator_loss, encoder_loss, r1_penalty

# ---- network


def test_parity(golden):
    fixture = golden("e4e_latent_discriminator")
    assert {entry["name"] for entry in fixture.figures["outputs"]} == {"logits"}
    network = LatentDiscriminator()
    assert {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()} == fixture.shapes()
    network.load_state_dict(fixture.state(), strict=True)
    with torch.no_grad():
        fixture.check("logits", network(fixture.inputs["w"]))
        rows = network(fixture.inputs["w"].reshape(2, 4, 512))  # ws as well as w
    fixture.check("logits", rows.reshape(8, 1))


# ---- losses


def test_losses_are_the_logarithms_of_the_formulas():
    real, fake = torch.tensor([[0.3], [-2.0]]), torch.tensor([[1.5], [0.1], [-0.7]])
    log_d, log_not_d = torch.log(torch.sigmoid(real)), torch.log(1 - torch.sigmoid(fake))
    torch.testing.assert_close(discriminator_loss(real, fake), -log_d.mean() - log_not_d.mean())
    torch.testing.assert_close(encoder_loss(fake), -torch.log(torch.sigmoid(fake)).mean())
    assert discriminator_loss(torch.zeros(3), torch.zeros(3)).item() == pytest.approx(2 * math.log(2))


def test_losses_stay_finite_and_do_not_saturate():
    far = torch.tensor([-200.0], requires_grad=True)
    loss = encoder_loss(far)
    loss.backward()
    assert loss.item() == pytest.approx(200) and far.grad.item() == pytest.approx(-1)


def test_r1_of_known_functions():
    linear = nn.Linear(5, 1)
    expected = linear.weight.square().sum()
    torch.testing.assert_close(r1_penalty(linear, torch.randn(7, 5)), expected)
    torch.testing.assert_close(r1_penalty(linear, torch.randn(7, 3, 5)), expected)  # a mean over codes, not a sum
    w = torch.randn(4, 5)
    square = lambda w: w.square().sum(dim=1, keepdim=True)  # noqa: E731
    torch.testing.assert_close(r1_penalty(square, w), 4 * w.square().sum(dim=1).mean())


def test_r1_trains_the_discriminator_and_leaves_the_codes_alone():
    torch.manual_seed(0)
    network, w = LatentDiscriminator(8), torch.randn(16, 8, requires_grad=True)
    with torch.no_grad():
        before = r1_penalty(network, w)  # works where gradients are switched off, too
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(10):
        optimizer.zero_grad()
        r1_penalty(network, w).backward()
        optimizer.step()
    assert w.grad is None and r1_penalty(network, w) < 0.9 * before


def test_a_few_steps_tell_two_clouds_apart():
    torch.manual_seed(0)
    network = LatentDiscriminator(8)
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    real, fake = torch.randn(64, 8) + 1, torch.randn(64, 8) - 1
    for _ in range(60):
        optimizer.zero_grad()
        (discriminator_loss(network(real), network(fake)) + 0.5 * r1_penalty(network, real)).backward()
        optimizer.step()
    assert ((network(real) > 0).float().mean() + (network(fake) < 0).float().mean()) / 2 > 0.95


# ---- history


def numbered(start, count):
    """Codes (count, 2) that say which they are."""
    return torch.arange(start, start + count, dtype=torch.float32).unsqueeze(1).repeat(1, 2)


def test_pool_fills_up_first():
    pool = Pool(5)
    assert torch.equal(pool.query(numbered(0, 3)), numbered(0, 3)) and len(pool) == 3
    assert torch.equal(pool.query(numbered(3, 2)), numbered(3, 2)) and len(pool) == 5
    assert Pool().capacity == 50


def test_pool_exchanges_half_and_loses_nothing():
    pool = Pool(50, seed=1)
    pool.query(numbered(0, 50))
    new, answers = numbered(50, 400), []
    for batch in new.split(8):
        answers.append(pool.query(batch))
        assert len(pool) == 50 and answers[-1].shape == batch.shape
    answers = torch.cat(answers)
    old = (answers != new).any(dim=1)
    assert 0.4 < old.float().mean() < 0.6
    assert (answers[old, 0] < new[old, 0]).all()  # what comes instead of a new code was there before
    everything = torch.cat([answers[:, 0], torch.stack(pool.codes)[:, 0]])
    assert sorted(everything.tolist()) == list(range(450))  # each is handed back once or still there
    assert len(set(torch.stack(pool.codes)[:, 0].tolist()) & set(range(50))) < 20  # every place is used


def test_pool_repeats_with_its_seed():
    def run(seed):
        pool = Pool(4, seed)
        return torch.cat([pool.query(batch) for batch in numbered(0, 60).split(5)])

    assert torch.equal(run(3), run(3)) and not torch.equal(run(3), run(4))
    torch.manual_seed(0)
    first = torch.rand(3)
    torch.manual_seed(0)
    run(3)
    assert torch.equal(torch.rand(3), first)  # the global generator is not touched


@pytest.mark.parametrize("filled", [0, 2, 20])
def test_pool_continues_from_its_state(filled, tmp_path):
    pool = Pool(6, seed=2)
    if filled:
        pool.query(numbered(0, filled))
    torch.save(pool.state(), tmp_path / "pool")
    state = torch.load(tmp_path / "pool", weights_only=True)
    expected = [pool.query(batch) for batch in numbered(100, 40).split(4)]
    again = Pool(6, seed=99)
    again.query(numbered(500, 9))
    again.restore(state)
    assert len(again) == min(filled, 6)
    assert all(torch.equal(again.query(b), e) for b, e in zip(numbered(100, 40).split(4), expected, strict=True))
    again.restore(state)  # the state was not used up by what came after
    assert torch.equal(again.query(numbered(100, 4)), expected[0])
    with pytest.raises(ValueError, match="does not fit"):
        Pool(5).restore(state)


def test_pool_draws_one_row_of_ws():
    ws = torch.arange(200.0).reshape(20, 5, 2)  # 20 images of 5 rows
    rows = Pool(50, seed=0).query(ws)
    assert rows.shape == (20, 2)
    chosen = [(ws[i] == rows[i]).all(dim=1).nonzero().item() for i in range(20)]
    assert set(chosen) == {0, 1, 2, 3, 4}


def test_pool_keeps_copies_without_gradients():
    pool, codes = Pool(2), torch.ones(2, 3, requires_grad=True)
    assert not pool.query(codes * 2).requires_grad
    stored = torch.zeros(2, 3)
    pool = Pool(2)
    pool.query(stored)
    stored += 7
    assert all(code.eq(0).all() for code in pool.codes)


def test_pool_of_nothing_and_wrong_shapes():
    pool = Pool(0)
    assert all(torch.equal(pool.query(numbered(i, 3)), numbered(i, 3)) for i in range(9)) and len(pool) == 0
    with pytest.raises(ValueError, match="codes must be"):
        pool.query(torch.zeros(3))
    with pytest.raises(ValueError, match="0 codes or more"):
        Pool(-1)
