"""Training the mapper: moves of several folders together, wishes, their price, and it learns on a toy."""

import numpy as np
import pytest
import torch

from editing.heads import moves as moving
from editing.heads.actions import Actions
from editing.heads.response import Response, Table, Whitening
from editing.judges.judge import NAMES
from editing.text import mapper, poles, steer
from stylegan2.errors import UsageError

J = len(NAMES)


def folder(path, names, vectors, count=6):
    path.mkdir()
    moving.save(Actions(names, vectors, torch.ones(len(names), 2)), path / "actions.safetensors")
    rows = {"face": np.arange(count), "amounts": np.ones((count, len(names)), np.float32),
            "scores": np.zeros((count, J), np.float32), "descriptor": np.zeros((count, 128), np.float32)}  # fmt: skip
    np.savez(path / "0.npz", **rows)
    return path


def test_fewer_actions_are_the_first_of_more(tmp_path):
    vectors = torch.randn(3, 16, 8)
    few, more = folder(tmp_path / "few", ["a", "b"], vectors[:2]), folder(tmp_path / "more", ["a", "b", "c"], vectors)
    rows, actions = steer.joined([few, more])
    assert (
        rows["amounts"].shape == (12, 3)
        and rows["amounts"][:6, 2].max() == 0
        and list(actions.names) == ["a", "b", "c"]
    )
    other = folder(tmp_path / "other", ["a", "b"], vectors[1:])
    with pytest.raises(UsageError, match="other actions"):
        steer.joined([more, other])


def test_wishes_name_what_they_change_and_let_come_along_what_may():
    change, named, along = steer.wishes(torch.zeros(200, J), np.random.default_rng(0))
    assert change.shape == named.shape == along.shape == (200, J)
    assert not (change[named == 0]).any() and not (along * named).any()
    assert set(named.sum(1).tolist()) >= {1.0, 2.0, 3.0}
    assert change.abs().max() <= mapper.FARTHEST


def toy():
    """A response in which every action moves one judge, and nothing else."""
    torch.manual_seed(0)
    whitening = Whitening.of(torch.randn(200, 96), 64)
    vectors = torch.zeros(4, 16, 96)
    limits = torch.tensor([[-1.0, 1.0]] * 4)
    response = Response(whitening, vectors, limits, J)
    for parameter in response.parameters():
        torch.nn.init.zeros_(parameter)
    judges = [NAMES.index(name) for name in ("smile", "yaw", "hair_red", "hair_light")]
    with torch.no_grad():
        response.beside.weight[judges, range(4)] = 1.0
    return response.eval().requires_grad_(False), whitening, Actions(["a", "b", "c", "d"], vectors, limits)


def test_a_price_is_for_missing_for_others_and_for_the_person():
    response, _, _ = toy()
    change, named, along = torch.zeros(1, J), torch.zeros(1, J), torch.zeros(1, J)
    change[0, NAMES.index("smile")] = named[0, NAMES.index("smile")] = 1
    x = torch.zeros(1, 192)
    right = steer.price(response, x, torch.tensor([[1.0, 0, 0, 0]]), change, named, along)
    wrong = steer.price(response, x, torch.tensor([[-1.0, 0, 0, 0]]), change, named, along)
    both = steer.price(response, x, torch.tensor([[1.0, 1.0, 0, 0]]), change, named, along)
    assert right["missed"] < 1e-6 < wrong["missed"] and wrong["wrong"] > 1 > right["wrong"] == 0
    assert both["beside"] > right["beside"] == 0 and both["size"] > right["size"]
    along[0, NAMES.index("yaw")] = 1
    let = steer.price(response, x, torch.tensor([[1.0, 1.0, 0, 0]]), change, named, along)
    assert let["beside"] == pytest.approx(both["beside"].item() / 10)


def test_the_mapper_learns_what_actions_do(monkeypatch):
    response, whitening, actions = toy()
    chosen = {name: poles.load()[name] for name in ("smiling", "serious", "turn_left", "turn_right")}
    monkeypatch.setattr(poles, "load", lambda: chosen)
    count = 300
    none = torch.zeros(0)
    scores, rest = torch.randn(count, J), (torch.zeros(count, 128), none, none, none, none)
    data = Table(torch.randn(count, 192), scores, *rest, torch.zeros(J), torch.ones(J), whitening, count)
    found = steer.fit(data, actions, [response], steps=250, report=lambda line: None)
    amounts = found.amounts(torch.randn(1, 16, 96), {"smiling": 1.0})[0]
    assert amounts[0] > 0.6 and amounts[1:].abs().max() < 0.25
    assert found.amounts(torch.randn(1, 16, 96), {"turn_left": 1.0})[0, 1] < -0.6
