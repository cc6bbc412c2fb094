"""Drawing fast: 16-bit high resolutions, graphs where there is a GPU, and a generator that stays what it is."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from stylegan2.generator import FeatureEdit
from stylegan2.mobile import MobileStyleGAN
from stylegan2.networks import StyleGAN2, StyleGAN2Config
from stylegan2.ops import library
from stylegan2.runner import Runner, lowered


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def stylegan2():
    torch.manual_seed(0)
    generator = StyleGAN2(StyleGAN2Config(resolution=32, z_dim=16, w_dim=16, channel_base=512, channel_max=32))
    for module in generator.modules():
        if hasattr(module, "noise_strength"):
            module.noise_strength.data.fill_(0.1)
    return generator.eval().requires_grad_(False)


def mobile():
    generator = MobileStyleGAN((32, 32, 32, 32), w_dim=16, mapping_layers=1)
    for seed, tensor in enumerate((*generator.parameters(), *generator.buffers())):
        size = tensor[0].numel() ** -0.5 if tensor.ndim > 1 else 0.1  # activations stay about 1
        tensor.data.copy_(drawn(*tensor.shape, seed=seed) * size + (tensor == 1))
    return generator


MADE = pytest.mark.parametrize("make", [stylegan2, mobile])


@MADE
@pytest.mark.parametrize("batch", [1, 3])
def test_the_kernels_draw_the_same_picture(make, batch, host):
    generator = make()
    ws = drawn(batch, generator.num_ws, 16)
    expected = generator.synthesis(ws)
    with library.using("cpu", host):
        torch.testing.assert_close(generator.synthesis(ws), expected, rtol=1e-4, atol=1e-4)
        for dtype in (torch.bfloat16, torch.float16):
            if dtype in host.types:
                images = lowered(generator, dtype, 8).synthesis(ws)
                assert images.dtype == torch.float32
                assert (images - expected).norm() < 0.05 * expected.norm()


@MADE
def test_gradients_of_a_network_are_those_of_the_reference(make, host):
    generator = make()

    def gradient():
        ws = drawn(2, generator.num_ws, 16).requires_grad_()
        return torch.autograd.grad(generator.synthesis(ws).square().mean(), ws)[0]

    expected = gradient()
    with library.using("cpu", host):
        torch.testing.assert_close(gradient(), expected, rtol=1e-4, atol=1e-5)


@MADE
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_lowered_draws_nearly_the_same_and_leaves_the_generator_alone(make, dtype):
    generator = make()
    ws = drawn(2, generator.num_ws, 16)
    before = generator.synthesis(ws)
    low = lowered(generator, dtype, 8)
    images = low.synthesis(ws)
    assert images.dtype == torch.float32 and not torch.equal(images, before)
    assert (images - before).norm() < (0.05 if dtype == torch.bfloat16 else 0.01) * before.norm()
    assert low.synthesis(ws, until="b8").dtype == dtype and low.synthesis(ws, until="b4").dtype == torch.float32
    assert torch.equal(generator.synthesis(ws), before)
    shared = {t.data_ptr() for t in generator.state_dict().values()}
    assert {t.data_ptr() for t in low.state_dict().values()} == shared


def test_float16_does_not_overflow_where_weights_and_styles_are_large():
    generator = stylegan2()
    for module in generator.modules():
        if hasattr(module, "affine"):
            module.affine.weight.mul_(300)
            module.weight.mul_(300)
    ws = drawn(2, generator.num_ws, 16)
    low, x = lowered(generator, torch.float16, 8), generator.synthesis(ws, until="b32")
    half = low.synthesis(ws, until="b32").float()
    assert half.isfinite().all() and (half - x).norm() < 0.02 * x.norm()


@MADE
def test_a_runner_draws_what_its_generator_draws(make):
    generator = make()
    ws = drawn(2, generator.num_ws, 16).requires_grad_()
    runner = Runner(generator)
    expected = generator.synthesis(ws)
    images = runner(ws)
    assert torch.equal(images, expected) and expected.requires_grad and not images.requires_grad
    shape = generator.synthesis(ws, until="b8").shape
    edit = {"b8": FeatureEdit(drawn(*shape), torch.ones(1, 1, 8, 8), ws.detach())}
    assert torch.equal(runner(ws, features=edit), generator.synthesis(ws, features=edit))
    assert torch.equal(Runner(generator, dtype=torch.bfloat16)(ws), lowered(generator, torch.bfloat16).synthesis(ws))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@MADE
def test_graphs_draw_the_same_for_every_batch_size_and_from_several_threads(make):
    generator = make().cuda()
    runner = Runner(generator)
    for batch in (1, 2, 3, 4, 5, 1):  # more than are kept
        ws = drawn(batch, generator.num_ws, 16, seed=batch).cuda()
        first, second = runner(ws), runner(ws * 0.5)
        torch.testing.assert_close(first, generator.synthesis(ws), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(second, generator.synthesis(ws * 0.5), rtol=1e-4, atol=1e-4)
    many = [drawn(1, generator.num_ws, 16, seed=seed).cuda() for seed in range(32)]
    with ThreadPoolExecutor(4) as pool:
        for ws, images in zip(many, pool.map(runner, many), strict=True):
            torch.testing.assert_close(images, generator.synthesis(ws), rtol=1e-4, atol=1e-4)
