"""Training: batches by number, one step learns, a killed run goes on, and what it writes is what is loaded."""

import argparse
import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

from encoders import compact, restyle, samples, train
from encoders.losses.identity import FaceDescriptor
from stylegan2 import w_statistics
from stylegan2.engine import area_resize, to_float
from stylegan2.errors import UsageError
from tests.encoders import toys

SETTINGS = train.Settings(images=24, batch=4, size=128, metric_draws=4, stage_images=8)


@pytest.fixture(scope="module")
def parts():
    return toys.generator(), toys.image_network()


@pytest.fixture
def folder(parts, tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "SHARD", 6)
    samples.write(parts[0], tmp_path / "samples", 18, 0)
    return tmp_path


def options(folder, out="run", **changes):
    named = {"samples": [folder / "samples"], "out": folder / out, "photos": None, "minutes": None, "save": 1e9}
    return argparse.Namespace(**named | changes)


def weights(folder, out="run"):
    return compact.load(folder / out / "encoder.safetensors").state_dict()


def test_every_epoch_shows_every_sample_once_and_never_the_held_out(parts, folder):
    data = train.Data(parts[0], [folder / "samples"], 128, 0)
    assert len(data) == 12
    epochs = np.concatenate([data.indices(4, number) for number in range(6)]).reshape(2, 12)
    assert all(sorted(epoch) == list(range(6, 18)) for epoch in epochs) and list(epochs[0]) != list(epochs[1])
    assert np.array_equal(data.indices(4, 5), train.Data(parts[0], [folder / "samples"], 128, 0).indices(4, 5))
    picture = data.pictures(np.array([7]))
    assert picture.shape == (1, 3, 128, 128) and picture.std() > 0.05


def test_folders_of_other_recipes_join(parts, folder, monkeypatch):
    monkeypatch.setattr(samples, "SHARD", 4)
    samples.write(parts[0], folder / "more", 4, 900, samples.Recipe((0.8, 0.8), 0.0, 0.0))
    data = train.Data(parts[0], [folder / "samples", folder / "more"], 128, 0)
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
    assert int(row["seen"]) == 24 and {"held_out_l2", "code", "adversarial"} <= set(row)


def test_training_learns_four_faces(parts, tmp_path, monkeypatch):
    """The same four in every batch, differently disturbed: if anything is learnt, they are."""
    for name, shard, first in (("held_out", 6, 0), ("four", 4, 50)):
        monkeypatch.setattr(samples, "SHARD", shard)
        samples.write(parts[0], tmp_path / name, shard, first)
    settings = train.Settings(**{**vars(SETTINGS), "images": 240, "rate": 3e-3, "stage_images": 1})
    train.train(*parts, options(tmp_path, samples=[tmp_path / "held_out", tmp_path / "four"], save=0), settings)
    rows = list(csv.DictReader((tmp_path / "run" / "log.csv").open()))
    for name in ("look", "code"):
        values = [float(row[name]) for row in rows if row[name]]
        assert np.mean(values[-8:]) < 0.85 * np.mean(values[:8]), f"{name} did not fall"


def test_a_run_that_was_stopped_goes_on(parts, folder):
    train.train(*parts, options(folder), train.Settings(**{**vars(SETTINGS), "images": 8}))
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


def test_rendered_answers_and_real_photos_take_part(parts, folder):
    (folder / "photos").mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 300, 3), np.uint8)).save(
        folder / "photos" / "a.png"
    )
    person = FaceDescriptor()
    torch.nn.init.normal_(person.fc.weight)
    settings = train.Settings(**{**vars(SETTINGS), "render_every": 1})
    train.train(*parts, options(folder, photos=folder / "photos"), settings, person=person)
    row = list(csv.DictReader((folder / "run" / "log.csv").open()))[-1]
    assert float(row["pixel"]) > 0 and float(row["perceptual"]) > 0 and row["identity"]
    with pytest.raises(UsageError, match="no photos"):
        train.Photos(folder / "run")


def test_half_of_the_batches_start_from_an_earlier_answer(parts, folder):
    generator, network = parts
    encoder = compact.start(network, generator)
    encoder.code.bias.data.fill_(0.3)
    shards, first, _ = samples.read(folder / "samples")
    (folder / "samples" / "earlier").mkdir()
    for start, shard in zip(first, shards, strict=True):
        answer = restyle.answers(encoder, generator, np.asarray(shard), start)
        assert answer["u"].shape == (6, 6, 512) and answer["pictures"].shape == (6, 256, 256, 3)
        np.savez(folder / "samples" / "earlier" / f"{start}.npz", **answer)
    data, mean = train.Data(generator, [folder / "samples"], 128, 0), compact.mean_face(encoder, 128)
    drawn = [data.starts(np.arange(6, 18), number, mean) for number in range(10)]
    later = torch.stack([codes.abs().amax((1, 2)) > 0 for codes, _ in drawn])
    assert 0.35 < later.float().mean() < 0.65
    codes, pictures = drawn[0]
    assert codes[later[0]].mean().item() == pytest.approx(0.3, abs=0.01)
    assert torch.equal(pictures[~later[0]], mean.expand_as(pictures[~later[0]]))
    assert (pictures[later[0]] - mean).abs().max() > 0.01


def test_too_few_samples_are_refused(parts, tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "SHARD", 6)
    samples.write(parts[0], tmp_path / "samples", 6, 0)
    with pytest.raises(UsageError, match="needs 2 or more"):
        train.train(*parts, options(tmp_path), SETTINGS)
