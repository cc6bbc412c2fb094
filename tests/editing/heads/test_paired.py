"""Training heads that read pictures: what is taken from a picture, batches by number, and losses that go down."""

import numpy as np
import pytest
import torch

from editing.heads import paired, pictures
from editing.heads.paired import SEEN, TRAINED, Batch, Data, Trainer, batch, lacking, started
from editing.heads.pictures import PLAIN, SIZE, Family, save
from stylegan2.errors import UsageError


class Painter(torch.nn.Module):
    """In place of a preview: a code's first numbers as broad colours."""

    def forward(self, ws):
        return torch.tanh(torch.nn.functional.interpolate(ws[:, 0, :48].view(-1, 3, 4, 4), SIZE, mode="bilinear"))


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (130, 8, 8, 3)).astype(np.uint8)
    faces = coarse.repeat(16, 1).repeat(16, 2)
    return [Data(faces, torch.randn(130, 512, generator=torch.manual_seed(0)), faces[::-1])]


@pytest.mark.parametrize("way", sorted({way for ways in TRAINED.values() for way in ways}))
def test_what_is_taken_is_its_seed(data, way):
    picture = data[0].pictures[0]
    before, found = picture.copy(), [lacking(picture, way, np.random.default_rng(s)) for s in (1, 1, *range(2, 9))]
    assert all(one.shape == picture.shape and one.dtype == np.uint8 for one in found)
    assert np.array_equal(found[0], found[1]) and np.array_equal(picture, before)
    varies = any(not np.array_equal(found[0], other) for other in found[2:])
    assert varies == (way != PLAIN) and (way == PLAIN) == np.array_equal(found[0], picture)


def test_a_batch_is_its_number(data):
    one, same, other = (batch(data, TRAINED["rbdn"], number, 0) for number in (3, 3, 4))
    assert torch.equal(one.given, same.given) and not torch.equal(one.given, other.given)
    assert one.given.shape == (paired.BATCH, 3, SIZE, SIZE) and one.goal.shape == (SEEN, 3, SIZE, SIZE)
    assert one.u.shape == (paired.BATCH, 16, 512) and torch.equal(one.u[:, 0], one.u[:, 15])
    held = data[0].u[-paired.HELD_OUT :]
    for number in range(20):
        u = batch(data, TRAINED["rbdn"], number, 0, count=SEEN).u[:, 0]
        assert not (u[:, None] == held).all(2).any()  # nobody is trained on those


@pytest.mark.parametrize("kind", sorted(TRAINED))
def test_losses_go_down(data, kind):
    torch.manual_seed(0)
    trainer, goes = Trainer(kind, Painter(), started(kind, None)), batch(data, TRAINED[kind], 0, 0, count=SEEN)
    goes = Batch(goes.given, goes.way, goes.u * 0.3, goes.goal)
    base = [p.clone() for p in trainer.drawer.base[0].parameters()]
    found = [trainer.step(goes, 1.0, 0.1) for _ in range(6)]
    assert found[-1]["codes"] < found[0]["codes"] and found[-1]["pixels"] < found[0]["pixels"]
    assert {"rbdn": 2, "pix2pix": 5, "bicyclegan": 8}[kind] == len(found[0])
    assert all(torch.equal(a, b) for a, b in zip(base, trainer.drawer.base[0].parameters(), strict=True))
    assert any(
        not torch.equal(a, b) for a, b in zip(trainer.average.parameters(), trainer.drawer.parameters(), strict=True)
    )


def test_ways_are_taken_over_by_their_names(tmp_path):
    old = started("rbdn", None)
    old.named.data += torch.arange(len(TRAINED["rbdn"]))[:, None]
    save(Family("rbdn", TRAINED["rbdn"], old), tmp_path / "rbdn.safetensors")
    new = started("bicyclegan", tmp_path / "rbdn.safetensors")
    assert new.named[:, 0].tolist() == [float(TRAINED["rbdn"].index(way)) for way in TRAINED["bicyclegan"]]
    assert new.into.weight.shape[1] == old.into.weight.shape[1] + paired.Z
    few = Family("rbdn", (PLAIN, "gray"), pictures.start(2))
    save(few, tmp_path / "few.safetensors")
    with pytest.raises(UsageError, match="half, low, sketch"):
        started("pix2pix", tmp_path / "few.safetensors")


def test_pictures_of_another_size_are_refused(tmp_path):
    np.save(tmp_path / "0.b.npy", np.zeros((2, 64, 64, 3), np.uint8))
    np.save(tmp_path / "0.w.npy", np.zeros((2, 512), np.float16))
    (tmp_path / "0.seeds").write_text("2\n")
    with pytest.raises(UsageError, match="128 pixels"):
        paired.opened([tmp_path], None)


def test_a_run_goes_on_where_it_was(tmp_path, weights):
    weights("mobilestylegan-ffhq-1024")
    rng = np.random.default_rng(0)
    np.save(tmp_path / "0.b.npy", rng.integers(0, 255, (110, SIZE, SIZE, 3)).astype(np.uint8))
    np.save(tmp_path / "0.w.npy", rng.standard_normal((110, 512)).astype(np.float16))
    (tmp_path / "0.seeds").write_text("110\n")
    out, steps = tmp_path / "heads", []
    for minutes in (0.02, 0.04, 0.04):
        if steps:
            drawn = (tmp_path / "previews.npy").stat().st_mtime_ns
        paired.train("rbdn", [tmp_path], out, minutes, report=lambda step, losses: steps.append((step, losses)))
    assert 0 < steps[0][0] < steps[1][0] == steps[2][0]
    assert (tmp_path / "previews.npy").stat().st_mtime_ns == drawn
    np.save(tmp_path / "0.w.npy", rng.standard_normal((110, 512)).astype(np.float16))
    paired.train("rbdn", [tmp_path], out, 0.04)
    assert (tmp_path / "previews.npy").stat().st_mtime_ns != drawn  # others' pictures are no goals
    assert set(steps[0][1]) == set(TRAINED["rbdn"])
    assert set(pictures.load(out / "rbdn.safetensors")) == {f"rbdn:{way}" for way in TRAINED["rbdn"] if way != PLAIN}
