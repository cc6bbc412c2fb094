"""Training: batches by number, one step learns, a killed run goes on, and what it writes is what is loaded."""

import argparse
import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from encoders import compact, metric, samples, train
from encoders.batches import Data, Photos
from encoders.losses.identity import FaceDescriptor
from stylegan2 import preview, w_statistics
from stylegan2.engine import area_resize, to_float, to_uint8
from stylegan2.errors import UsageError
from stylegan2.weights import half
from tests.encoders import toys

SETTINGS = train.Settings(images=24, batch=4, size=128, stage_images=8)


@pytest.fixture(scope="module")
def parts():
    generator = toys.generator()
    return generator, generator.synthesis, toys.image_network()


@pytest.fixture
def folder(parts, tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "SHARD", 6)
    samples.write(parts[0], tmp_path / "samples", 18, 0)
    return tmp_path


def options(folder, out="run", **changes):
    named = {"samples": [folder / "samples"], "out": folder / out, "init": None, "photos": None, "minutes": None}
    named["save"] = 1e9
    return argparse.Namespace(**named | changes)


def weights(folder, out="run"):
    return compact.load(folder / out / "encoder.safetensors").state_dict()


def test_every_epoch_shows_every_sample_once_and_never_the_held_out(parts, folder):
    data = Data(parts[0], [folder / "samples"], 128, 0)
    assert len(data) == 12
    epochs = np.concatenate([data.indices(4, number) for number in range(6)]).reshape(2, 12)
    assert all(sorted(epoch) == list(range(6, 18)) for epoch in epochs) and list(epochs[0]) != list(epochs[1])
    assert np.array_equal(data.indices(4, 5), Data(parts[0], [folder / "samples"], 128, 0).indices(4, 5))
    picture = data.pictures(np.array([7]))
    assert picture.shape == (1, 3, 128, 128) and picture.std() > 0.05


def test_folders_of_other_recipes_join(parts, folder, monkeypatch):
    monkeypatch.setattr(samples, "SHARD", 4)
    samples.write(parts[0], folder / "more", 4, 900, samples.Recipe((0.8, 0.8), 0.0, 0.0))
    data = Data(parts[0], [folder / "samples", folder / "more"], 128, 0)
    assert len(data) == 16 and data.codes.shape == (22, 6, 512)
    expected = samples.read(folder / "more")[0][0][1]
    assert torch.equal(data.pictures(np.array([19])), area_resize(to_float(expected), 128))
    w = samples.codes(parts[0], range(901, 902), samples.Recipe((0.8, 0.8), 0.0, 0.0))
    assert torch.allclose(data.codes[19].float(), w_statistics.load().whiten(w)[0], atol=0.02)


def test_training_is_repeatable(parts, folder):
    for out in ("a", "b"):
        train.train(*parts, options(folder, out), SETTINGS)
    same = [
        torch.equal(x, y) for x, y in zip(weights(folder, "a").values(), weights(folder, "b").values(), strict=True)
    ]
    assert all(same)
    row = list(csv.DictReader((folder / "a" / "log.csv").open()))[-1]
    assert int(row["seen"]) == 24 and {
        "held_out_code",
        "held_out_l2",
        "held_out_render",
        "pixel",
        "code",
        "adversarial",
    } <= set(row)


def test_training_learns_four_faces(parts, tmp_path, monkeypatch):
    """The same four in every batch, differently blurred: if anything is learnt, they are."""
    monkeypatch.setattr(train.augment, "SCENES", 0.0)
    for name, shard, first in (("held_out", 6, 0), ("four", 4, 50)):
        monkeypatch.setattr(samples, "SHARD", shard)
        samples.write(parts[0], tmp_path / name, shard, first)
    way = parts[1], metric.of_renders(parts[2], None)
    draws = torch.stack([metric.pull_back(parts[0], *way, seed) for seed in range(4)])
    monkeypatch.setattr(metric, "fitting", lambda *_: metric.principal(draws, 4))
    settings = replace(SETTINGS, images=240, rate=3e-3, stage_images=1)
    train.train(*parts, options(tmp_path, samples=[tmp_path / "held_out", tmp_path / "four"], save=0), settings)
    rows = list(csv.DictReader((tmp_path / "run" / "log.csv").open()))
    for name, share in {"pixel": 0.95, "look": 0.6, "code": 0.8}.items():
        values = [float(row[name]) for row in rows if row[name]]
        assert np.mean(values[-8:]) < share * np.mean(values[:8]), f"{name} did not fall"


def test_a_run_that_was_stopped_goes_on(parts, folder):
    train.train(*parts, options(folder), replace(SETTINGS, images=8))
    before = weights(folder)
    train.train(*parts, options(folder), SETTINGS)
    assert json.loads((folder / "run" / "state.json").read_text())["seen"] == 24
    rows = [int(row["seen"]) for row in csv.DictReader((folder / "run" / "log.csv").open())]
    assert rows[0] == 8 and rows[-1] == 24
    assert any(not torch.equal(before[name], tensor) for name, tensor in weights(folder).items())
    assert not [path for path in (folder / "run").iterdir() if path.name.startswith(".")]


def test_a_time_limit_stops_between_batches(parts, folder):
    train.train(*parts, options(folder, minutes=1e-9), SETTINGS)
    assert json.loads((folder / "run" / "state.json").read_text())["seen"] == 4


def test_a_run_begins_from_the_weights_of_another(parts, folder):
    train.train(*parts, options(folder, "first"), SETTINGS)
    beginning = options(folder, "second", init=folder / "first" / "encoder.safetensors")
    still = replace(SETTINGS, images=4, rate=0.0)
    train.train(*parts, beginning, still)
    first, second = weights(folder, "first"), weights(folder, "second")
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_real_photos_and_the_person_take_part(parts, folder):
    (folder / "photos").mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (300, 300, 3), np.uint8)
    Image.fromarray(noise).save(folder / "photos" / "a.png")
    data, photos = Data(parts[0], [folder / "samples"], 128, 0), Photos(folder / "photos", 128, 0)
    goal, target, known, pictures = train.batch_of(data, photos, SETTINGS, 3, torch.device("cpu"))
    assert goal.shape == (4, 3, 128, 128) and target.shape == (4, 6, 512)
    assert torch.equal(pictures, data.pictures(data.indices(4, 3)[1:]))
    shrunk = to_float(np.asarray(Image.fromarray(noise).resize((128, 128), Image.Resampling.BOX)))
    assert torch.equal(goal[:1], shrunk) and not known[0]
    person = FaceDescriptor()
    torch.nn.init.normal_(person.fc.weight)
    settings = replace(SETTINGS, identity=0.3)
    train.train(*parts, options(folder, photos=folder / "photos"), settings, person=person)
    row = list(csv.DictReader((folder / "run" / "log.csv").open()))[-1]
    assert all(float(row[name]) > 0 for name in ("pixel", "structure", "perceptual", "identity"))
    with pytest.raises(UsageError, match="no photos"):
        Photos(folder / "samples", 128, 0)


def test_goals_are_given_the_faults_of_the_previews_and_photos_none(parts):
    ws, pictures = torch.zeros(4, 6, 512), torch.full((3, 3, 128, 128), 0.25)
    look = lambda ws: torch.full((len(ws), 3, 64, 64), 0.35)  # noqa: E731
    given = train.allowed(look, ws, pictures, torch.zeros(4, 3, 128, 128))
    assert torch.equal(given[0], torch.zeros(3, 128, 128))
    assert torch.allclose(given[1:], torch.tensor(0.1), atol=1e-6)
    generator = parts[0]
    ws = w_statistics.load().mean.expand(2, 6, -1)
    shown = train.resized(generator.synthesis(ws), 128)
    assert train.allowed(generator.synthesis, ws, shown, torch.zeros(2, 3, 128, 128)).abs().max() < 1e-6


def test_a_save_shows_held_out_faces(parts, folder):
    train.train(*parts, options(folder), SETTINGS)
    with Image.open(folder / "run" / "grid.png") as grid:
        assert grid.size == (6 * 128, 2 * 128)
        first = np.asarray(grid)[:128, :128]
    shown = Data(parts[0], [folder / "samples"], 128, 0).pictures(np.array([0]))
    assert np.array_equal(first, to_uint8(shown)[0])


def test_too_few_samples_are_refused(parts, tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "SHARD", 6)
    samples.write(parts[0], tmp_path / "samples", 6, 0)
    with pytest.raises(UsageError, match="needs 2 or more"):
        train.train(*parts, options(tmp_path), SETTINGS)


def test_a_preview_learns_with_the_encoder_and_is_saved_and_taken_up_again(parts, tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "SHARD", 6)
    generator = toys.generator(5)
    samples.write(generator, tmp_path / "samples", 18, 0)
    beginning = half(preview.start(generator))
    look = preview.from_state(generator, beginning)
    train.train(generator, look, parts[2], options(tmp_path), SETTINGS)
    learnt = load_file(tmp_path / "run" / "preview.safetensors")
    assert any(not torch.equal(tensor, learnt[name]) for name, tensor in beginning.items())
    row = list(csv.DictReader((tmp_path / "run" / "log.csv").open()))[-1]
    assert float(row["preview"]) > 0
    frozen = preview.from_state(generator, beginning)
    train.train(generator, frozen, parts[2], options(tmp_path, "still"), replace(SETTINGS, follow_every=0))
    assert all(torch.equal(tensor, beginning[name]) for name, tensor in half(frozen.tail).items())


def _one_of_two(rank, folder, meeting):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    generator = toys.generator()
    settings = replace(SETTINGS, images=32, stage_images=8)
    samples.SHARD = 6
    train.train(generator, generator.synthesis, toys.image_network(), options(folder), settings, rank, 2)
    torch.distributed.destroy_process_group()


def test_two_processes_train_one_encoder_stage_by_stage(folder):
    torch.multiprocessing.spawn(_one_of_two, (folder, folder / "meeting"), nprocs=2)
    rows = list(csv.DictReader((folder / "run" / "log.csv").open()))
    assert [int(row["seen"]) for row in rows] == [32] and float(rows[0]["stage"]) == 1.5
    assert weights(folder)["code.weight"].abs().max() > 0
