"""The registered operators: gradients of both orders, what torch.library asks of them, torch.compile, torch.export.

On the CPU with the host build of the kernels; with the kernels where there is a GPU.
"""

import pytest
import torch

from stylegan2.ops import bias_act, finish, inverse_haar, library, setup_fir, upfirdn2d
from stylegan2.ops.bias_act import ACTIVATIONS


def drawn(seed, *shape, device="cpu", dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(device, dtype)


def several(device, *shapes, dtype=torch.float32):
    return [drawn(seed, *shape, device=device, dtype=dtype) for seed, shape in enumerate(shapes)]


def gradients(function, reference, tensors, seed=9):
    """Derivatives of both orders, of a random combination of what comes out: [(ours, the reference's), ...]."""
    found = []
    for f in (function, reference):
        leaves = [t.detach().clone().requires_grad_() for t in tensors]
        y = f(*leaves)
        first = torch.autograd.grad(
            (y * drawn(seed, *y.shape, device=y.device).to(y.dtype)).sum(), leaves, create_graph=True
        )
        energy = sum(g.square().sum() for g in first)  # as R1 and the path length make one
        second = (
            torch.autograd.grad(energy, leaves, allow_unused=True) if energy.requires_grad else (None,) * len(leaves)
        )
        found.append([*first, *(torch.zeros_like(t) if s is None else s for s, t in zip(second, leaves, strict=True))])
    return list(zip(*found, strict=True))


@pytest.mark.parametrize("act", ACTIVATIONS)
@pytest.mark.parametrize("settings", [{}, {"gain": 0.7, "clamp": 0.5}, {"alpha": -0.3, "gain": -1.1}], ids=str)
def test_bias_act_has_the_gradients_of_its_reference(device, act, settings):
    x, b = drawn(0, 2, 3, 4, 5, device=device), drawn(1, 3, device=device)
    for dim in (1, -3):
        pairs = gradients(
            lambda x, b, dim=dim: bias_act(x, b, dim, act, **settings),
            lambda x, b, dim=dim: bias_act.reference(x, b, dim, act, **settings),
            (x, b),
        )
        for ours, theirs in pairs:
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)
    small = (x[:1, :, :2, :2].contiguous() + 0.05).requires_grad_()
    assert torch.autograd.gradcheck(lambda t: bias_act(t, b, act=act, **settings), small)
    assert torch.autograd.gradgradcheck(lambda t: bias_act(t, b, act=act, **settings), small)


CALLS = [
    {"up": 2, "padding": (2, 1, 2, 1), "gain": 4.0},
    {"down": 2, "padding": 1},
    {"padding": (2, 1, 1, 2), "flip": True},
    {"up": (2, 3), "down": (3, 1), "padding": (3, -1, 2, 4)},
    {"up": (1, 2), "down": 2, "padding": 3, "gain": 0.5},
]


@pytest.mark.parametrize("taps", [(4, 4), (3, 2), (3,), (7,)], ids=str)
@pytest.mark.parametrize("settings", CALLS, ids=str)
def test_upfirdn2d_has_the_gradients_of_its_reference(device, settings, taps):
    fir = drawn(1, *taps, device=device)
    for last in (False, True):
        x = drawn(0, 2, 4, 9, 11, device=device)
        x = x.contiguous(memory_format=torch.channels_last) if last else x
        pairs = gradients(
            lambda x: upfirdn2d(x, fir, **settings).square(),
            lambda x: upfirdn2d.reference(x, fir, **settings).square(),
            (x,),
        )
        for ours, theirs in pairs:
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_gradients_in_the_types_that_networks_train_in(device, dtype):
    if dtype not in library.get(device).types:
        pytest.skip("the host build knows no 16-bit types here")
    tolerance = {torch.float32: 1e-5, torch.float16: 2e-2, torch.bfloat16: 8e-2}[dtype]
    x, b, fir = several(device, (2, 8, 20, 20), (8,), (4, 4), dtype=torch.float64)
    x, b = x.to(dtype), b.to(dtype)
    fir = fir.float() / fir.abs().sum()

    def layer(x, b):
        return bias_act(upfirdn2d(x, fir, down=2, padding=1), b, act="lrelu", clamp=1.5)

    ours = gradients(layer, layer, (x, b))
    with library.using(device, None):
        exact = gradients(layer, layer, (x.double(), b.double()))
    for (low, _), (high, _) in zip(ours, exact, strict=True):
        assert (low.double() - high).norm() <= tolerance * high.norm()  # a sign lost to rounding changes one slope


def test_what_is_only_drawn_has_gradients_through_the_reference(device):
    x, scale, b = several(device, (2, 8, 6, 6), (2, 8), (8,))
    pairs = gradients(lambda x, s, b: finish(x, s, b=b), lambda x, s, b: finish.reference(x, s, b=b), (x, scale, b))
    pairs += gradients(inverse_haar, inverse_haar.reference, (x, scale[:, :, None, None]))
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(finish(x, scale, b=b), finish.reference(x, scale, b=b))


def test_torch_library_finds_nothing_to_say_about_them(device):
    x, b, fir = several(device, (2, 8, 6, 6), (8,), (4, 4))
    settings = (1, "swish", 0.0, 1.4, -1.0)
    x, scale = x.requires_grad_(), drawn(5, 2, 8, device=device, dtype=torch.float32)
    check, ops = torch.library.opcheck, torch.ops.wplus
    check(ops.bias_act.default, (x, b, *settings))
    check(ops.bias_act_slope.default, (x.detach().clone().requires_grad_(), x, b, *settings, False))
    check(ops.upfirdn2d.default, (x, fir, [2, 2], [1, 1], [2, 1, 2, 1], False, 4.0))
    last = x.detach().contiguous(memory_format=torch.channels_last)
    for image in (x.detach(), last):
        check(ops.bias_act_bend.default, (image, image, image, b, *settings))
        check(ops.upfirdn2d.default, (image, fir, [1, 1], [2, 2], [1, 1, 1, 1], True, 1.0))
        check(ops.finish.default, (image, scale, None, b, fir, [1, 1, 1, 1], 4.0, 0.2, 1.4, 256.0))
        check(ops.finish.default, (image, scale, None, b, None, [0, 0, 0, 0], 1.0, 0.2, 1.4, -1.0))
        check(ops.inverse_haar.default, (image, scale))


class Layer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("fir", setup_fir([1, 3, 3, 1]))
        self.bias = torch.nn.Parameter(torch.linspace(-1, 1, 8))

    def forward(self, x):
        x = upfirdn2d(x, self.fir, up=2, padding=(2, 1, 2, 1), gain=4)
        return bias_act(x, self.bias, act="lrelu")


def test_torch_compile_goes_through_them_in_one_graph(device):
    layer, x = Layer().to(device), drawn(0, 2, 8, 6, 6, device=device, dtype=torch.float32)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    losses = [f(x).square().mean() for f in (layer, compiled)]
    torch.testing.assert_close(*losses)
    found = [torch.autograd.grad(loss, layer.bias)[0] for loss in losses]
    torch.testing.assert_close(*found)


def test_torch_export_keeps_them(device):
    layer, x = Layer().to(device), drawn(0, 2, 8, 6, 6, device=device, dtype=torch.float32)
    program = torch.export.export(layer, (x,))
    assert "wplus.upfirdn2d" in str(program.graph) and "wplus.bias_act" in str(program.graph)
    torch.testing.assert_close(program.module()(x), layer(x))


def test_without_kernels_the_registered_operators_say_so():
    with library.using("cpu", None), pytest.raises(RuntimeError, match="no compiled kernels for cpu"):
        torch.ops.wplus.inverse_haar(torch.zeros(1, 4, 1, 1), None)
