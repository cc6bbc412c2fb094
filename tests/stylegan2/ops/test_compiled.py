"""The registered operators: gradients of both orders, what torch.library asks of them, torch.compile, torch.export.

On the CPU with the host build of the kernels; with the kernels where there is a GPU.
"""

import warnings

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from stylegan2.ops import bias_act, build, finish, inverse_haar, library, setup_fir, upfirdn2d
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


def test_what_the_kernels_would_misread_goes_to_the_reference(device):
    x, scale = several(device, (3, 8, 6, 6), (3, 8))
    wide = setup_fir([1, 3, 3, 1]).to(device)
    for fir in (wide.half(), wide.double()):  # whatever type a filter has
        torch.testing.assert_close(finish(x, scale, fir=fir, padding=1), finish(x, scale, fir=wide, padding=1))
    one = torch.ones(1, 8, device=device) * 2  # what broadcasts only in PyTorch
    torch.testing.assert_close(finish(x, one), finish.reference(x, one))
    noise = torch.ones(3, 8, 6, 6, device=device)
    torch.testing.assert_close(finish(x, noise=noise), finish.reference(x, noise=noise))
    gain = torch.full((3, 1, 1, 1), 2.0, device=device)
    torch.testing.assert_close(inverse_haar(x, gain), inverse_haar.reference(x, gain))
    with pytest.raises(RuntimeError):
        inverse_haar(x[:, :6])
    infinite = x.clone()
    infinite[0, 0, 1, 1] = float("inf")
    assert torch.equal(upfirdn2d(infinite, None, down=2), infinite[..., ::2, ::2])


def test_empty_pictures(device):
    fir = setup_fir([1, 3, 3, 1]).to(device)
    for shape in ((2, 0, 8, 8), (0, 8, 8, 8)):
        x = torch.zeros(shape, device=device)
        assert finish(x, padding=1).shape == shape and bias_act(x, act="lrelu").shape == shape
        assert finish(x, fir=fir, padding=2).shape == (*shape[:2], 9, 9) and inverse_haar(x).shape[1] == shape[1] // 4
    assert finish(torch.zeros(2, 8, 0, 4, device=device)).shape == (2, 8, 0, 4)


def test_forward_mode_and_function_transforms_go_through_the_reference(device):
    x, fir = several(device, (2, 8, 6, 6), (4, 4))
    for function in (
        lambda t: bias_act(t, act="swish"),
        lambda t: upfirdn2d(t, fir, padding=2),
        lambda t: finish(t),
        lambda t: inverse_haar(t),
    ):
        value, tangent = torch.func.jvp(function, (x,), (torch.ones_like(x),))
        with library.using(device, None):
            expected = torch.func.jvp(function, (x,), (torch.ones_like(x),))
        torch.testing.assert_close((value, tangent), expected)
        found = torch.func.grad(lambda t, f=function: f(t).square().sum())(x)
        leaf = x.clone().requires_grad_()
        torch.testing.assert_close(found, torch.autograd.grad(function(leaf).square().sum(), leaf)[0])


@pytest.mark.parametrize("around", ["autocast", "float64", "tracing", "inference"])
def test_the_first_use_may_come_at_any_time(around, host, monkeypatch):
    """Inside autocast, under another default type, while somebody traces: kernels are checked, and stay."""
    monkeypatch.setattr(library, "_libraries", {})
    monkeypatch.setattr(build, "here", lambda: ["90"])
    monkeypatch.setattr(build, "build", lambda *_: host.path)
    check = library.check
    monkeypatch.setattr(library, "check", lambda found, _: check(found, "cpu"))
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        if around == "autocast":
            with torch.autocast("cpu", dtype=torch.bfloat16):
                assert library.get("cuda") is not None
        elif around == "float64":
            torch.set_default_dtype(torch.float64)
            try:
                assert library.get("cuda") is not None
            finally:
                torch.set_default_dtype(torch.float32)
        elif around == "tracing":
            with FakeTensorMode():
                assert library.get("cuda") is not None
        else:
            with torch.inference_mode():
                assert library.get("cuda") is not None


def test_without_kernels_the_registered_operators_say_so():
    with library.using("cpu", None), pytest.raises(RuntimeError, match="no compiled kernels for cpu"):
        torch.ops.wplus.inverse_haar(torch.zeros(1, 4, 1, 1), None)
