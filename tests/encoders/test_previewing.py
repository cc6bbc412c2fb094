"""Training of previews: it learns what samples look like, and writes what is loaded."""

import numpy as np
import pytest
import torch

from encoders import previewing, samples
from encoders.batches import Data
from stylegan2 import preview, weights
from stylegan2.errors import UsageError
from tests.encoders import toys


@pytest.fixture(scope="module")
def generator():
    return toys.generator(5)


@pytest.fixture
def folder(generator, tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "SHARD", 8)
    samples.write(generator, tmp_path / "samples", 72, 0)
    return tmp_path


def test_it_learns_and_goes_on_from_what_it_wrote(generator, folder):
    out = folder / "preview.safetensors"
    first = previewing.train(generator, [folder / "samples"], out, 16)
    later = previewing.train(generator, [folder / "samples"], out, 320, rate=5e-3)
    assert later < 0.9 * first
    model, data = preview.load(generator, out), Data(generator, [folder / "samples"], preview.SIZE, 0)
    codes, pictures = data.codes[:8].float(), data.pictures(np.arange(8))
    own, anothers = (
        (model(model.statistics.unwhiten(u)) - pictures).square().mean().item() for u in (codes, codes.roll(1, 0))
    )
    assert own == pytest.approx(later, rel=0.02) and own < 0.98 * anothers, "it hardly reads the code"
    again = previewing.train(generator, [folder / "samples"], out, 8, rate=0.0, init=out)
    assert again == pytest.approx(later, rel=0.02)
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


def test_a_follower_learns_what_it_is_asked_about_and_goes_back_to_rest(generator, folder):
    data = Data(generator, [folder / "samples"], preview.SIZE, 0)
    model = preview.from_state(generator, weights.half(preview.start(generator)))
    follower = previewing.Follower(model, data, rate=5e-3)
    ws = model.statistics.unwhiten(2 * torch.randn(1, 10, 512, generator=torch.Generator().manual_seed(0)))
    errors = [follower.step(ws, number) for number in range(30)]
    assert np.mean(errors[-5:]) < 0.6 * np.mean(errors[:5])
    assert len(follower.pool) == 30 and not any(p.requires_grad for p in model.tail.parameters())
    assert model(ws).requires_grad is False
    follower.POOL = 30
    follower.step(ws, 30)
    assert len(follower.pool) == 30


def test_it_needs_samples(generator, tmp_path):
    with pytest.raises(UsageError, match="holds no samples"):
        previewing.train(generator, [tmp_path], tmp_path / "preview.safetensors", 8)
