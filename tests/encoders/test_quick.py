"""Training of the read-out: it learns, and goes on where it stopped."""

import pytest
import torch
from safetensors.torch import load_file

from encoders import quick as training
from stylegan2 import quick
from stylegan2.mobile import MobileStyleGAN


@pytest.fixture
def generator(monkeypatch):
    torch.manual_seed(1)
    generator = MobileStyleGAN((16, 16, 16, 8))
    for parameter in generator.parameters():
        parameter.data += 0.04 * torch.randn_like(parameter)
    monkeypatch.setattr(training, "HELD_OUT", range(1 << 25, (1 << 25) + 3))
    return generator


def test_it_comes_nearer_to_renders(generator, tmp_path):
    before = training.held_out(quick.Quick(generator, quick.start(generator)))
    after = training.train(generator, tmp_path / "q.safetensors", 80, rate=1e-2)
    assert after > before + 3
    assert training.held_out(quick.load(generator, tmp_path / "q.safetensors")) == pytest.approx(after, abs=0.1)


def test_a_training_that_was_killed_ends_where_it_would_have(generator, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SAVE_EVERY", 3)
    training.train(generator, tmp_path / "whole.safetensors", 16)

    class Killed(Exception): ...

    def kill(model):
        kill.calls += 1
        if kill.calls == 2:
            raise Killed
        return 0.0

    kill.calls = 0
    with monkeypatch.context() as patch:
        patch.setattr(training, "held_out", kill)
        with pytest.raises(Killed):
            training.train(generator, tmp_path / "killed.safetensors", 16)
    training.train(generator, tmp_path / "killed.safetensors", 16)
    whole, killed = (load_file(tmp_path / f"{name}.safetensors") for name in ("whole", "killed"))
    for name, tensor in whole.items():
        torch.testing.assert_close(tensor, killed[name], rtol=1e-3, atol=1e-4)
