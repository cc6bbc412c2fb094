"""The data engine: every picture depends on its seed alone, and what it yields can be trained on."""

import numpy as np
import pytest
import torch

from stylegan2 import engine
from tests.stylegan2.test_mobile import small


@pytest.fixture(scope="module")
def g():
    return small()


def test_a_seed_gives_the_same_latent_in_any_batch_and_order(g):
    together = engine.latents(g, range(4))
    assert together.shape == (4, 10) and not torch.allclose(together[0], together[1])
    torch.testing.assert_close(engine.latents(g, [3, 1]), together[[3, 1]])


def test_psi_draws_latents_towards_the_average(g):
    full = engine.latents(g, [5], psi=1)
    torch.testing.assert_close(engine.latents(g, [5], psi=0.5), (full + g.w_avg) / 2)
    assert torch.equal(engine.latents(g, [5], psi=0), g.w_avg[None])


def test_latents_can_be_optimised(g):
    w = engine.latents(g, [1])
    amount = torch.ones(1, requires_grad=True)
    (w * amount).square().sum().backward()  # an inference tensor could not be saved for this
    assert amount.grad.item() == pytest.approx(2 * w.square().sum().item(), rel=1e-5)


def test_broadcast_repeats_the_code_in_every_row(g):
    w = engine.latents(g, [1, 2])
    ws = engine.broadcast(g, w)
    assert ws.shape == (2, 6, 10) and all(torch.equal(ws[:, row], w) for row in range(6))


def test_faces_are_the_renders_of_their_latents(g):
    seeds = [7, 2, 9]
    produced = list(engine.faces(g, iter(seeds), psi=0.6))
    assert [seed for seed, _, _ in produced] == seeds
    for seed, w, picture in produced:
        torch.testing.assert_close(w, engine.latents(g, [seed], 0.6)[0])
        expected = engine.to_uint8(g.synthesis(engine.broadcast(g, w[None])))[0]
        assert picture.shape == (32, 32, 3) and picture.dtype == np.uint8
        assert np.abs(picture.astype(int) - expected).max() <= 1 and picture.std() > 10


def test_faces_are_lazy_and_leave_the_callers_mode_alone(g):
    stream = engine.faces(g, iter([1, 2]))
    next(stream)
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    seeds = iter(range(100))
    next(engine.faces(g, seeds))
    assert next(seeds) == 1


def test_uint8_is_clamped_rounded_and_in_order():
    images = torch.zeros(1, 3, 2, 2)
    images[0, :, 0, 1] = torch.tensor([-3.0, 3.0, 0.5])
    pictures = engine.to_uint8(images)
    assert pictures.shape == (1, 2, 2, 3) and pictures.flags.c_contiguous
    assert pictures[0, 0, 1].tolist() == [0, 255, 191] and pictures[0, 1, 0].tolist() == [128, 128, 128]


def test_every_uint8_survives_the_round_trip():
    pictures = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, 3)
    pictures[..., 1] = 255 - pictures[..., 1]
    images = engine.to_float(pictures)
    assert images.shape == (1, 3, 16, 16) and images.min() == -1 and images.max() == 1
    assert np.array_equal(engine.to_uint8(images), pictures)
    assert torch.equal(engine.to_float(pictures[0]), images)
    images.zero_()
    assert pictures[0, 0, 0, 1] == 255  # a copy


def test_area_resize_averages_whole_squares():
    images = torch.arange(2 * 3 * 8 * 8, dtype=torch.float32).reshape(2, 3, 8, 8)
    expected = images.reshape(2, 3, 2, 4, 2, 4).mean((3, 5))
    torch.testing.assert_close(engine.area_resize(images, 2), expected)
