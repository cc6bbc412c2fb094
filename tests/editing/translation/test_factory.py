"""Pairs from the generator: what a kind promises, shards that go on, and orders that make no sense."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from editing.directions.catalogue import load
from editing.judges import population
from editing.judges.parsing import parse
from editing.judges.parsing.labels import PALETTE
from editing.translation import data, factory
from editing.translation.degrade import WAYS
from editing.translation.factory import Order
from editing.types import latent_step
from stylegan2 import engine
from stylegan2.errors import UsageError
from stylegan2.mobile import MobileStyleGAN


@pytest.fixture(scope="module")
def tiny():
    generator = MobileStyleGAN((16, 16, 16, 16, 16, 16), w_dim=8, mapping_layers=1)
    for seed, tensor in enumerate((*generator.parameters(), *generator.buffers())):
        noise = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(seed))
        tensor.data.copy_(noise * (tensor[0].numel() ** -0.5 if tensor.ndim > 1 else 0.1) + (tensor == 1))
    return generator


PHOTO = np.random.default_rng(3).integers(0, 255, (64, 64, 3), dtype=np.uint8)


@pytest.mark.parametrize("how", WAYS)
def test_degrading_keeps_size_and_type_and_is_its_seed(how):
    one, same = (WAYS[how](PHOTO, np.random.default_rng(5)) for _ in range(2))
    assert one.shape == PHOTO.shape and one.dtype == np.uint8 and np.array_equal(one, same)
    assert not np.array_equal(one, PHOTO)
    if how in ("noise", "half", "relit"):
        assert not all(np.array_equal(one, WAYS[how](PHOTO, np.random.default_rng(seed))) for seed in range(6, 12))


def test_what_degrading_takes_away():
    flat = np.full((64, 64, 3), (120, 60, 30), np.uint8)
    assert (np.ptp(WAYS["gray"](PHOTO, None), axis=2) == 0).all()
    assert abs(WAYS["low"](PHOTO, None).mean() - PHOTO.mean()) < 2 and WAYS["low"](PHOTO, None).std() < PHOTO.std() / 3
    assert (WAYS["sketch"](flat) == 255).all()  # no lines where nothing is
    assert (WAYS["half"](flat, np.random.default_rng(0)) == 128).mean() == 0.5
    dark = flat // 4
    dark[20:40, 30] //= 2
    assert np.array_equal(WAYS["sketch"](dark)[..., 0] < 128, WAYS["sketch"](dark)[..., 1] < 128)
    assert WAYS["sketch"](dark)[30, 30, 0] < 60  # and lines in the dark


def test_degraded_pairs_belong_to_their_seeds(tiny, tmp_path):
    order = Order("degraded", size=32, how="gray")
    paths = list(factory.write(tiny, tmp_path / "set", order, 103, 7))
    assert [p.name for p in paths] == ["7.a.npy", "107.a.npy"]
    source = data.paired(tmp_path / "set")
    assert len(source) == 103 and source.a[0].shape == (32, 32, 3)
    w = engine.latents(tiny, [109], 0.7)
    expected = factory.drawn(tiny, engine.broadcast(tiny, w), 32)
    assert np.array_equal(source.b[102], expected) and np.array_equal(source.a[102], WAYS["gray"](expected, None))
    assert np.allclose(data.Shards(tmp_path / "set", "w")[102], w[0].numpy(), atol=2e-3)
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "set").glob("*.npy")}
    (tmp_path / "set" / "107.seeds").unlink()  # a run that was killed goes on where it was
    assert len(data.paired(tmp_path / "set")) == 100  # and what it left unfinished is not read
    assert [p.name for p in factory.write(tiny, tmp_path / "set", order, 103, 7)] == ["107.a.npy"]
    assert before["7.a.npy"] == (tmp_path / "set" / "7.a.npy").stat().st_mtime_ns
    more = list(factory.write(tiny, tmp_path / "set", order, 105, 7))  # asked for more: the last shard grows
    assert [p.name for p in more] == ["107.a.npy"] and len(data.paired(tmp_path / "set")) == 105
    with pytest.raises(UsageError, match="other pairs"):
        list(factory.write(tiny, tmp_path / "set", Order("degraded", size=32, how="noise"), 1, 7))


def test_varied_answers_share_what_is_coarse(tiny):
    samples = list(factory.stream(tiny, Order("varied", size=32, how="sketch", each=3), range(2)))
    for seed, sample in enumerate(samples):
        assert sample["b"].shape == (3, 32, 32, 3) and sample["ws"].shape == (3, tiny.num_ws, 8)
        assert np.array_equal(sample["a"], WAYS["sketch"](sample["b"][0]))
        ws = sample["ws"]
        assert (ws[:, : factory.SHARED_ROWS] == ws[:1, : factory.SHARED_ROWS]).all()
        assert not np.array_equal(ws[0, -1], ws[1, -1])
        again = factory.drawn(tiny, torch.tensor(ws[:1]).float(), 32)  # from codes that were rounded to float16
        assert np.abs(sample["b"][0].astype(int) - again).mean() < 2
        first = engine.broadcast(tiny, engine.latents(tiny, [seed], 0.7))
        assert np.array_equal(sample["b"][0], factory.drawn(tiny, first, 32))


@pytest.mark.parametrize(
    "settings,words",
    [
        ({"kind": "pictures"}, "no kind of pairs 'pictures'"),
        ({"kind": "degraded", "how": "blur"}, "no way 'blur'"),
        ({"kind": "degraded", "how": "gray", "size": 100}, "not 100"),
        ({"kind": "edited"}, "--set smile=2"),
        ({"kind": "edited", "edits": {"smlie": 2.0}}, "smile"),
        ({"kind": "ranged"}, "--set smile=-2:2.8"),
        ({"kind": "ranged", "edits": {"yaw": (-1.0, -0.5)}}, "0 within it"),
        ({"kind": "ranged", "edits": {"yaw": (0.0, float("inf"))}}, "0 within it"),
        ({"kind": "ranged", "edits": {"yaw": (-1e308, 1e308)}}, "0 within it"),
        ({"kind": "edited", "edits": {"yaw": 1.0}, "disentangle": True}, "--disentangle"),
        ({"kind": "judged", "judge": "age", "low": 3, "high": 2}, "--low below --high"),
        ({"kind": "judged", "judge": "beauty", "low": 1, "high": 2}, "no judge 'beauty'"),
        ({"kind": "labelled"}, "--label young=age<32"),
        ({"kind": "labelled", "labels": {"young": "age=32"}}, "no rule"),
    ],
)
def test_orders_that_make_no_sense(settings, words):
    with pytest.raises(UsageError, match=words):
        Order(**settings)


def test_rules():
    assert factory.rule("age<32") == ("age", -1, 32.0) and factory.rule(" smile > -0.5 ") == ("smile", 1, -0.5)


class Told:
    """A judge that says of picture number k what it was told."""

    def __init__(self, values):
        self.values, self.asked = values, 0

    def __call__(self, picture):
        value = self.values[self.asked % len(self.values)]
        self.asked += 1
        return None if value is None else type("Scores", (), {"values": {"age": value}})()


def test_judged_sets_are_on_their_sides(tiny, monkeypatch):
    monkeypatch.setattr("editing.judges.judge.judge", Told([20.0, 35.0, 60.0, None, 25.0, 50.0]))
    samples = list(factory.stream(tiny, Order("judged", size=32, judge="age", low=30, high=45), range(4)))
    assert [tuple(s["labels"]) for s in samples] == [(20, 60), (25, 50), (20, 60), (25, 50)]
    assert samples[0]["w"].shape == (2, 8)


def test_labels_leave_out_faces_that_are_nearly_neither(tiny, monkeypatch, tmp_path):
    spread = population.load()["age"][1]
    near = 32 + factory.MARGIN * spread / 2
    monkeypatch.setattr("editing.judges.judge.judge", Told([20.0, near, 60.0, None]))
    order = Order("labelled", size=32, labels={"young": "age<32", "old": "age>50"})
    assert len(list(factory.write(tiny, tmp_path / "faces", order, 8, 0))) == 1
    source = data.labelled(tmp_path / "faces")
    assert source.names == ["young", "old"] and source.labels.tolist() == [[1, 0], [0, 1]] * 2
    assert json.loads((tmp_path / "faces" / "facts.json").read_text())["labels"] == order.labels


def test_sets_are_not_taken_for_pairs_and_several_answers_are_one_a_time(tiny, monkeypatch, tmp_path):
    monkeypatch.setattr("editing.judges.judge.judge", Told([20.0, 60.0]))
    list(factory.write(tiny, tmp_path / "ages", Order("judged", size=32, judge="age", low=30, high=45), 2, 0))
    with pytest.raises(UsageError, match="two sets without pairs"):
        data.paired(tmp_path / "ages")
    list(factory.write(tiny, tmp_path / "hair", Order("varied", size=32, how="gray", each=2), 2, 0))
    for source in (data.paired(tmp_path / "hair"), data.unpaired(tmp_path / "hair")):
        assert data.batch(source, 0, 2, 32, 0)["b"].shape == (2, 3, 32, 32)
    (tmp_path / "hair" / "0.a.npy").write_bytes(b"")
    with pytest.raises(UsageError, match="damaged"):
        data.paired(tmp_path / "hair")
    (tmp_path / "hair" / "facts.json").write_text("{")
    with pytest.raises(UsageError, match="cannot be read"):
        data.paired(tmp_path / "hair")


@pytest.mark.weights
def test_edited_pairs_are_the_edit(weights):
    from editing.judges.judge import distance, judge
    from stylegan2 import checkpoints

    generator = checkpoints.load(weights("mobilestylegan-ffhq-1024"))
    (sample,) = factory.stream(generator, Order("edited", size=1024, edits={"smile": -2.0}), range(1))
    before, after = judge(sample["a"]), judge(sample["b"])
    spread = population.load()["smile"][1]
    assert after.values["smile"] < before.values["smile"] - spread
    assert distance(before.descriptor, after.descriptor) < 0.45


def test_ranged_pairs_say_which_edit_and_how_strong(mobile, tmp_path):
    edits = {"smile": (-2.0, 2.8), "blond": (0.0, 2.3), "yaw": (-1.0, 0.0)}
    order = Order("ranged", size=64, edits=edits, each=5, disentangle=True)
    list(factory.write(mobile, tmp_path / "moved", order, 2, 7))
    a, b, labels = (data.Shards(tmp_path / "moved", name) for name in ("a", "b", "labels"))
    assert b[0].shape == (5, 64, 64, 3) and labels[0].shape == (5, 3)
    used, known = set(), load()
    for row, picture in zip(labels[1], b[1], strict=True):
        (which,) = np.flatnonzero(row)
        name, strength = list(edits)[which], float(row[which])
        assert edits[name][0] <= strength <= edits[name][1]
        used.add((name, round(strength, 2)))
        ws = engine.broadcast(mobile, engine.latents(mobile, [8], order.psi))
        step = latent_step(name, strength)
        if known[name].clean is not None:
            step = step.model_copy(update={"parameters": {**step.parameters, "disentangle": True}})
        np.testing.assert_allclose(factory.with_steps(mobile, ws, [step], known, 64), picture, atol=1)
    assert len(used) == 5 and not np.array_equal(labels[0], labels[1])
    assert not list(factory.write(mobile, tmp_path / "moved", order, 2, 7))  # nothing is drawn again
    for other in (dict(reversed(edits.items())), edits | {"yaw": (-1.0, 1.0)}):
        with pytest.raises(UsageError, match="other pairs"):
            next(factory.write(mobile, tmp_path / "moved", replace(order, edits=other), 2, 7))
    (tmp_path / "moved" / "facts.json").write_text("[]")
    with pytest.raises(UsageError, match="other pairs"):
        next(factory.write(mobile, tmp_path / "moved", order, 2, 7))


def test_parsed_pictures_come_with_their_maps(mobile, tmp_path):
    list(factory.write(mobile, tmp_path / "maps", Order("parsed", size=128), 2, 7))
    labels, pictures = data.Shards(tmp_path / "maps", "a"), data.Shards(tmp_path / "maps", "b")
    assert labels[0].shape == (128, 128) and labels[0].dtype == np.uint8 and pictures[0].shape == (128, 128, 3)
    whole = next(engine.faces(mobile, [8], 0.7))[2]
    assert np.array_equal(labels[1], parse(whole)[1::2, 1::2])
    source = data.paired(tmp_path / "maps")  # pix2pix's labels to photo
    assert np.array_equal(source.a[1], PALETTE[labels[1]]) and np.array_equal(source.b[1], pictures[1])
