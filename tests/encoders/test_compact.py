"""The compact encoder: what a new one answers, its stages, and what its loader refuses."""

import pytest
import torch
from safetensors.torch import save_file

from encoders import compact
from stylegan2 import w_statistics, weights
from stylegan2.errors import CheckpointError
from tests.encoders import toys


@pytest.fixture(scope="module")
def generator():
    return toys.generator()


@pytest.fixture
def encoder(generator):
    """One with drawn heads: a new one answers 0 to everything."""
    encoder, rng = compact.start(toys.image_network(), generator), torch.Generator().manual_seed(2)
    with torch.no_grad():
        for layer in (encoder.code, *encoder.offsets):
            layer.weight.copy_(torch.randn(layer.weight.shape, generator=rng) * 0.05)
    return encoder.eval()


def pictures(count=2, size=128):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(3)) * 2 - 1


def test_a_new_encoder_answers_with_the_mean_face(generator):
    encoder = compact.start(toys.image_network(), generator)
    ws = compact.encode(encoder, pictures())
    assert torch.allclose(ws, w_statistics.load().mean.expand_as(ws), atol=1e-6)


def test_it_is_small_enough():
    with torch.device("meta"):
        assert sum(p.numel() for p in compact.CompactEncoder().parameters()) < 15e6


def test_offsets_take_part_one_after_the_other(encoder):
    photo = pictures()
    whole = encoder(photo)
    for stage in range(encoder.num_ws):
        rows = encoder(photo, stage)
        assert torch.equal(rows[:, : stage + 1], whole[:, : stage + 1])
        assert torch.equal(rows[:, stage + 1 :], whole[:, :1].expand_as(rows[:, stage + 1 :]))
    assert not torch.equal(whole[:, 0], whole[:, 1])


def test_a_picture_is_encoded_alike_alone_and_in_a_batch_and_at_any_size(encoder):
    large = torch.nn.functional.interpolate(pictures(3), scale_factor=2, mode="nearest")
    together = compact.encode(encoder, pictures(3))
    assert torch.allclose(together[1:2], compact.encode(encoder, pictures(3)[1:2]), atol=1e-4)
    assert torch.allclose(together, compact.encode(encoder, large), atol=1e-4)
    assert (together[0] - together[1]).abs().mean() > 1e-3


def test_what_is_saved_can_be_loaded_and_answers_alike(encoder, tmp_path):
    save_file(weights.half(encoder), tmp_path / "encoder.safetensors")
    loaded = compact.load(tmp_path / "encoder.safetensors")
    ours, theirs = (compact.encode(e, pictures()) for e in (encoder, loaded))
    assert (ours - theirs).abs().mean() < 0.01 * ours.std()
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())


def test_another_file_is_refused(tmp_path):
    save_file({"input": torch.zeros(1, 512, 4, 4)}, tmp_path / "a")
    with pytest.raises(CheckpointError, match="not a compact encoder: .* is missing"):
        compact.load(tmp_path / "a")


def test_what_is_loaded_once_can_be_trained_around_whoever_asked_first():
    for cached in (compact.shipped, w_statistics.load):
        cached.cache_clear()
    with torch.inference_mode():
        shipped, statistics = compact.shipped(torch.device("cpu")), w_statistics.load()
    seen = pictures(1).requires_grad_()
    statistics.unwhiten(shipped(seen)).square().sum().backward()
    assert seen.grad.abs().max() > 0
