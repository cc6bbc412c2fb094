"""A learner: its rate warms up and falls, its parts have rates of their own, and its average follows."""

import pytest
import torch
from torch import nn

from encoders.learner import Learner, Pace

PACE = Pace(rate=0.1, images=100, batch=1, ema=0.9, warm_up=4)


def make():
    torch.manual_seed(0)
    return nn.ModuleDict({"slow": nn.Linear(2, 1), "fast": nn.Linear(2, 1)})


def loss(network):
    return sum((layer(torch.ones(1, 2)) - 1).square().sum() for layer in network.values())


def test_the_rate_warms_up_and_falls_to_a_fiftieth():
    learner = Learner(make(), None, torch.device("cpu"), PACE)
    assert learner.rate(0) == pytest.approx(0.25)
    learner.steps = 4
    assert learner.rate(0) == pytest.approx(1) and learner.rate(50) == pytest.approx(0.51)
    assert learner.rate(100) == learner.rate(1000) == pytest.approx(0.02)


def test_it_descends_each_part_at_its_own_rate():
    network, start = make(), make()
    learner = Learner(network, None, torch.device("cpu"), Pace(0.1, 100, 1, 0.9, 1, {"slow": 0.1}))
    before = loss(network).item()
    learner.step(loss(network), 1)
    moves = {name: (network[name].weight - start[name].weight).abs().mean().item() for name in network}
    assert loss(network).item() < before
    assert moves["slow"] == pytest.approx(0.1 * moves["fast"], rel=0.1)


def test_its_average_follows_and_goes_on_from_the_one_given():
    learner = Learner(make(), None, torch.device("cpu"), PACE)
    start = make()["fast"].weight
    for seen in range(1, 9):
        learner.step(loss(learner.network), seen)
    moved, followed = ((n["fast"].weight - start).abs().mean().item() for n in (learner.network, learner.average))
    assert 0 < followed < moved
    again = Learner(make(), learner.average, torch.device("cpu"), PACE)
    assert torch.equal(again.average["fast"].weight, learner.average["fast"].weight)
    assert not any(parameter.requires_grad for parameter in again.average.parameters())
