"""Training the hypernetwork: pairs, windows of the picture, one that learns, and a killed run that goes on."""

import argparse
import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from encoders import compact as encoder
from encoders import samples
from encoders.batches import Data
from encoders.curvature import Curvature
from hyperstyle import compact, pairs, train
from stylegan2 import engine, w_statistics
from stylegan2.errors import UsageError
from tests.encoders import toys

SETTINGS = train.Settings(images=8, batch=2)


@pytest.fixture(scope="module")
def generator():
    """With noise, which the toys have not: a window takes its own part of it."""
    generator, rng = toys.generator(5), torch.Generator().manual_seed(7)
    for name, buffer in generator.named_buffers():
        if name.endswith("noise"):
            buffer.copy_(torch.randn(buffer.shape, generator=rng) * 0.05)
    return generator


@pytest.fixture(scope="module")
def folder(generator, tmp_path_factory):
    folder, patch = tmp_path_factory.mktemp("pairs"), pytest.MonkeyPatch()
    for module, name, value in ((samples, "SHARD", 4), (pairs, "SHARD", 4), (pairs, "BATCH", 2), (pairs, "STEPS", 1)):
        patch.setattr(module, name, value)
    samples.write(generator, folder / "samples", 12, 0)
    data = Data(generator, [folder / "samples"], pairs.GOAL, 0)
    network = encoder.start(toys.image_network(), generator).eval()
    pairs.write(generator, network, generator.synthesis, data, folder / "pairs", 8)
    patch.undo()
    return folder / "pairs"


@pytest.fixture
def run(generator, folder, tmp_path):
    def run(settings, out="run", **changes):
        options = argparse.Namespace(**{"out": tmp_path / out, "save": 1e9, "minutes": None} | changes)
        train.train(generator, pairs.Pairs(folder), toys.image_network(), options, settings)
        return tmp_path / out

    return run


def weights(folder):
    return compact.load(folder / "network.safetensors").state_dict()


def test_a_pair_is_a_goal_its_code_and_what_that_renders_to(generator, folder):
    made = pairs.Pairs(folder)
    assert len(made) == 4 and made.held_out == 4
    goal, shown, ws = made.batch(torch.tensor([5]))
    rendered = engine.area_resize(generator.synthesis(ws), pairs.GOAL).clamp(-1, 1)
    assert goal.shape == (1, 3, 256, 256)
    assert (engine.area_resize(rendered, pairs.SHOWN) - shown).abs().max() < 0.02
    assert made.parts["l2"][5] == pytest.approx((rendered - goal).square().mean().item(), rel=0.05)
    epochs = torch.cat([made.indices(2, number) for number in range(4)]).view(2, 4)
    assert all(sorted(epoch.tolist()) == [4, 5, 6, 7] for epoch in epochs)


def test_shards_that_are_there_stay_and_one_is_too_few(generator, folder, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    pairs.write(generator, None, None, None, folder, 100)
    assert before == {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    with pytest.raises(UsageError, match="0 shards"):
        pairs.Pairs(tmp_path)


def test_corrections_come_nearer_to_the_goal_and_never_farther(generator):
    codes = torch.randn(3, generator.num_ws, 512, generator=torch.Generator().manual_seed(1))
    statistics = w_statistics.load()
    draw = lambda ws: generator.synthesis(ws)  # noqa: E731
    goal = draw(statistics.unwhiten(codes * 0.5))
    error = lambda u: (draw(statistics.unwhiten(u)) - goal).square().mean((1, 2, 3))  # noqa: E731
    after = pairs.corrected(draw, codes, goal, Curvature(None), 4)
    assert bool((error(after) < error(codes)).all())
    rows = torch.randn(6, generator.num_ws * 512, generator=torch.Generator().manual_seed(2)) * 0.01
    informed = pairs.corrected(draw, codes, goal, Curvature.of(rows, 0.5), 4)
    assert bool((error(informed) < error(codes)).all()) and not torch.allclose(informed, after)


def test_a_window_is_the_picture_that_it_is_a_window_of(generator):
    ws = w_statistics.load().unwhiten(torch.randn(1, generator.num_ws, 512, generator=torch.Generator().manual_seed(1)))
    gains = {name: torch.full((1, few), 0.1) for name, few in compact.tuned(generator).items()}
    with torch.no_grad():
        for deltas in ({}, compact.deltas(gains)):
            whole, part = generator.synthesis(ws, deltas), train.window(generator, ws, deltas, 7, 20)
            error = (part - train.seen_through(whole, 7, 20)).abs()
            assert error.median() < 1e-5 and error[..., 4:-4, 4:-4].max() < 1e-5
            assert (part - train.seen_through(whole, 8, 20)).abs().median() > 1e-3


def test_a_second_pass_sees_what_the_first_one_made(generator, folder):
    network, rng = compact.start(toys.image_network(), generator), torch.Generator().manual_seed(2)
    with torch.no_grad():
        for head in network.heads.values():
            head.weight.copy_(torch.randn(head.weight.shape, generator=rng) * 0.05)
    goal, shown, ws = pairs.Pairs(folder).batch(torch.tensor([4, 5, 6]))
    photo = engine.area_resize(goal, compact.SIZE)
    again, gains = train.first_pass(generator, network, photo, shown, ws, 2)
    assert torch.equal(again[2:], shown[2:]) and (again[:2] - shown[:2]).abs().mean() > 1e-3
    rendered = generator.synthesis(ws[1:2], compact.offsets(network, goal[1:2], shown[1:2])).clamp(-1, 1)
    assert torch.allclose(engine.area_resize(rendered, compact.SIZE), again[1:2], atol=1e-4)
    assert all(gain[:2].abs().max() > 0 and not gain[2:].any() for gain in gains.values())


def test_training_is_repeatable_and_goes_on_where_it_was_stopped(run):
    first, second = weights(run(SETTINGS, "a")), weights(run(SETTINGS, "b"))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    stopped = run(replace(SETTINGS, images=4))
    before = weights(stopped)
    run(SETTINGS)
    assert json.loads((stopped / "state.json").read_text())["seen"] == 8
    assert [row["seen"] for row in csv.DictReader((stopped / "log.csv").open())] == ["4", "8"]
    assert any(not torch.equal(tensor, before[name]) for name, tensor in weights(stopped).items())
    assert all(tensor.dtype == torch.float16 for tensor in load_file(stopped / "network.safetensors").values())


def test_a_time_limit_stops_between_batches(run):
    assert json.loads((run(SETTINGS, minutes=1e-9) / "state.json").read_text())["seen"] == 2


def test_training_learns_four_faces(run, monkeypatch):
    """The same four in every batch, and the whole of each, so that losses of different steps can be compared."""
    for name, value in {"JUDGED": 1, "WINDOW": train.SIDE}.items():
        monkeypatch.setattr(train, name, value)
    settings = replace(SETTINGS, images=72, batch=4, rate=1e-3, second=0)
    rows = list(csv.DictReader((run(settings, save=0) / "log.csv").open()))
    pixel = [float(row["pixel"]) for row in rows]
    assert np.mean(pixel[-6:]) < 0.9 * np.mean(pixel[:6])
    assert float(rows[-1]["size"]) > float(rows[1]["size"])
    assert float(rows[0]["before"]) == pytest.approx(float(rows[0]["after"]), rel=0.1)
