"""Previews: what they read of a code, that they can be differentiated, and what their loader refuses."""

import pytest
import torch
from safetensors.torch import save_file

from stylegan2 import checkpoints, preview, w_statistics, weights, zoo
from stylegan2.engine import area_resize, broadcast, latents
from stylegan2.errors import CheckpointError
from tests.encoders import toys


@pytest.fixture(scope="module")
def generator():
    return toys.generator(5)


@pytest.fixture(scope="module")
def model(generator):
    tail, rng = preview.start(generator), torch.Generator().manual_seed(4)
    with torch.no_grad():
        tail.block.to_img.weight.copy_(torch.randn(tail.block.to_img.weight.shape, generator=rng) * 0.1)
        for style in (tail.block.up, tail.block.conv1, tail.block.to_img):
            weight = style.modulation.weight
            weight.copy_(torch.randn(weight.shape, generator=rng) * 0.1)
    return preview.from_state(generator, weights.half(tail))


def codes(generator, count=2):
    return broadcast(generator, latents(generator, range(count), 0.7)).clone()


def test_a_new_tail_is_grey_and_the_same_for_a_seed(generator):
    tail = preview.start(generator, 3)
    picture = preview.Preview(generator, tail)(codes(generator))
    assert picture.shape == (2, 3, 128, 128) and picture.abs().max() == 0
    assert torch.equal(tail.paint.weight, preview.start(generator, 3).paint.weight)


def test_every_row_shows(generator, model):
    ws = codes(generator, 1).requires_grad_(True)
    (gradient,) = torch.autograd.grad(model(ws).square().mean(), ws)
    assert (gradient.abs().amax(2) > 0).all()


def test_it_leaves_the_generator_as_it_was(generator, model):
    before = {name: tensor.clone() for name, tensor in generator.state_dict().items()}
    model(codes(generator))
    assert all(torch.equal(tensor, before[name]) for name, tensor in generator.state_dict().items())
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_what_is_saved_can_be_loaded(generator, model, tmp_path):
    save_file(weights.half(model.tail), tmp_path / "preview.safetensors")
    loaded = preview.load(generator, tmp_path / "preview.safetensors")
    assert torch.equal(loaded(codes(generator)), model(codes(generator)))


def test_another_file_is_refused(generator, model, tmp_path):
    save_file(weights.half(model.tail) | {"paint.bias": torch.zeros(3)}, tmp_path / "a")
    with pytest.raises(CheckpointError, match="not a preview of this generator: paint.bias"):
        preview.load(generator, tmp_path / "a")


def test_the_shipped_one_is_near_the_render():
    generator = checkpoints.load(zoo.path("mobilestylegan-ffhq-1024"))
    ws = broadcast(generator, latents(generator, range(400, 404), 0.7))
    with torch.inference_mode():
        shown = preview.load(generator)(ws)
        renders = torch.cat([area_resize(generator.synthesis(w), preview.SIZE) for w in ws.split(1)])
        mean = area_resize(generator.synthesis(w_statistics.load().mean.expand(1, 16, -1)), preview.SIZE)
    error, baseline = ((x - renders).square().mean().item() for x in (shown, mean))
    assert error < 0.1 * baseline
