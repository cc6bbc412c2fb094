"""What the kernels compute, against the references, on random shapes, factors, filters, types and orders of memory.

On the CPU this runs the host build of the kernels' own source; on a GPU the kernels.
"""

import random

import pytest
import torch

from stylegan2.ops import bias_act, finish, inverse_haar, library, setup_fir, upfirdn2d
from stylegan2.ops.bias_act import ACTIVATIONS

TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-13, torch.float16: 1e-3, torch.bfloat16: 8e-3}
TYPES = list(TOLERANCE)


def drawn(seed, *shape, dtype=torch.float32, device="cpu", last=False):
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(device, dtype)
    return x.contiguous(memory_format=torch.channels_last) if last and x.ndim == 4 else x


def supported(device, dtype):
    if dtype not in library.get(device).types:
        pytest.skip("no CUDA headers here: the host build knows no 16-bit types")


def same(result, expected, dtype, roundings=1):
    """Equal but for a rounding to `dtype` of a sum computed in float32 or better."""
    assert result.dtype == dtype and result.shape == expected.shape
    tolerance = TOLERANCE[dtype] * roundings
    torch.testing.assert_close(result.double(), expected, rtol=tolerance, atol=tolerance)


def call(rng):
    """A random call of `upfirdn2d`: sizes beside tiles' edges, factors that have a kernel and others, odd borders."""
    usual = rng.random() < 0.7
    size = [rng.choice([rng.randint(1, 9), rng.choice([31, 32, 33, 62, 63, 123, 125, 128, 250])]) for _ in range(2)]
    factor = (
        rng.choice([(1, 1), (2, 1), (1, 2)]) if usual else [(rng.randint(1, 3), rng.randint(1, 3)) for _ in range(2)]
    )
    kind = rng.choice(["outer", "any", "line"])
    taps = {"outer": (rng.randint(1, 4),), "any": (rng.randint(1, 5), rng.randint(1, 5)), "line": (rng.randint(1, 24),)}
    fir = drawn(rng.randint(0, 999), *taps[kind], dtype=torch.float64)
    fir = (torch.outer(fir, fir) if kind == "outer" else fir) / fir.abs().sum()
    padding = tuple(rng.randint(-2, 6) for _ in range(4))
    return size, factor, fir, padding, rng.random() < 0.5, rng.choice([1.0, 4.0])


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("last", [False, True], ids=["nchw", "channels_last"])
def test_upfirdn2d_is_its_reference_on_random_calls(device, dtype, last):
    supported(device, dtype)
    rng, done = random.Random(f"{dtype}{last}"), 0
    while done < 40:
        size, (up, down), fir, padding, flip, gain = call(rng)
        channels = rng.choice([1, 3, 8, 16])
        x = drawn(done, rng.randint(1, 2), channels, *size, dtype=dtype, device=device, last=last)
        try:
            expected = upfirdn2d.reference(x.double(), fir.to(device), up, down, padding, flip, gain)
        except ValueError:  # smaller than the filter: both refuse
            with pytest.raises(ValueError, match="smaller than"):
                upfirdn2d(x, fir.to(device), up, down, padding, flip, gain)
            continue
        passes = 2 if fir.ndim == 1 else 1  # long lines are filtered along one axis, then along the other
        same(upfirdn2d(x, fir.to(device), up, down, padding, flip, gain), expected, dtype, passes)
        done += 1


@pytest.mark.parametrize("act", ACTIVATIONS)
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_bias_act_is_its_reference(device, dtype, act):
    supported(device, dtype)
    for seed, (shape, dim) in enumerate(
        [
            ((7,), 0),
            ((4, 3), 1),
            ((2, 8, 16, 16), 1),
            ((3, 5, 7, 3), 1),
            ((2, 3, 40), -1),
            ((4, 2, 64), 0),
            ((600, 8), 1),
        ]
    ):
        for last in (False, True):
            x = drawn(seed, *shape, dtype=dtype, device=device, last=last) * 3
            b = drawn(seed + 50, shape[dim], dtype=dtype, device=device)
            for arguments in ({}, {"gain": 0.7, "clamp": 0.4}, {"alpha": 0.1, "clamp": 2.0}):
                expected = bias_act.reference(x.double(), b.double(), dim, act, **arguments)
                result = bias_act(x, b, dim, act, **arguments)
                same(result, expected, dtype)
                assert result.stride() == x.stride()
            same(bias_act(x, act=act), bias_act.reference(x.double(), act=act), dtype)


def test_bias_act_takes_what_is_not_dense_and_what_is_empty(device):
    x = drawn(0, 4, 6, 10, device=device)
    for view in (x[:, ::2], x.transpose(0, 2), x[..., 1:], x.expand(2, 4, 6, 10)[0], x[:0], x[0, 0, 0]):
        result = bias_act(view, act="lrelu")
        torch.testing.assert_close(result, bias_act.reference(view, act="lrelu"))


def test_numbers_that_are_not_finite_stay_what_they_are(device):
    x = torch.tensor([float("nan"), float("inf"), -float("inf"), 0.0], device=device)
    for act in ACTIVATIONS:
        for clamp in (None, 2.0):
            reference = bias_act.reference(x, act=act, clamp=clamp)
            torch.testing.assert_close(bias_act(x, act=act, clamp=clamp), reference, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("last", [False, True], ids=["nchw", "channels_last"])
@pytest.mark.parametrize("size", [(5, 9), (33, 17), (64, 64), (40, 257)])
def test_finish_is_its_reference(device, dtype, last, size):
    supported(device, dtype)
    x = drawn(0, 2, 8, *size, dtype=dtype, device=device, last=last)
    scale, b = drawn(1, 2, 8, device=device), drawn(2, 8, device=device)
    fir = setup_fir([1, 3, 3, 1]).to(device)
    for filtered in (False, True):
        settings = {"fir": fir, "padding": (1, 1, 1, 1), "fir_gain": 4.0} if filtered else {}
        out = (size[0] - filtered, size[1] - filtered)
        maps = [
            None,
            drawn(3, *out, device=device),
            drawn(4, 2, 1, *out, device=device),
            drawn(5, 1, 1, *out, device=device),
        ]
        for noise in maps:
            for s, bias, clamp in ((scale, b, None), (None, b, 0.6), (scale, None, None), (None, None, 2.0)):
                wide = [None if t is None else t.double() for t in (s, noise, bias)]
                doubled = {**settings, "fir": fir.double()} if filtered else {}
                with library.using(device, None):
                    expected = finish(x.double(), *wide, **doubled, clamp=clamp)
                same(finish(x, s, noise, bias, **settings, clamp=clamp), expected, dtype)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("last", [False, True], ids=["nchw", "channels_last"])
def test_inverse_haar_is_its_reference(device, dtype, last):
    supported(device, dtype)
    for shape in ((1, 4, 1, 1), (2, 32, 5, 3), (1, 12, 16, 9), (2, 64, 8, 8)):
        x = drawn(0, *shape, dtype=dtype, device=device, last=last)
        gain = drawn(1, *shape[:2], 1, 1, device=device)
        same(inverse_haar(x), inverse_haar.reference(x.double()), dtype)
        same(inverse_haar(x, 3.0), inverse_haar.reference(x.double(), 3.0), dtype)
        same(inverse_haar(x, gain), inverse_haar.reference(x.double(), gain.double()), dtype)


def test_division_by_multiplication_is_exact(host):
    """Through the bias: element i of a tensor of n takes bias (i / step) % channels, for awkward steps and sizes."""
    for step, channels in [(1, 1), (3, 7), (5, 641), (1023, 3), (1025, 2), (4097, 33), (65535, 5), (65537, 3)]:
        x = torch.zeros(2, channels, step)
        b = torch.arange(channels, dtype=torch.float32)
        y = host.bias_act(x, b, 1, 0, 0.0, 1.0, -1.0)
        assert torch.equal(y, b[None, :, None].expand_as(y))


def test_what_a_kernel_leaves_to_the_reference(device):
    x, fir = drawn(0, 1, 3, 8, 8, device=device), drawn(1, 3, 3, device=device).requires_grad_()
    upfirdn2d(x, fir).sum().backward()  # a filter that is trained
    assert fir.grad is not None
    whole = torch.ones(2, 3, dtype=torch.int32, device=device)
    assert torch.equal(bias_act(whole, act="relu", gain=1), whole)  # a type without kernels
    twelve = setup_fir([1.0] * 12).to(device)
    wide = finish(x, fir=twelve, padding=6)
    torch.testing.assert_close(wide, finish.reference(x, fir=twelve, padding=6))


def test_a_launch_that_fails_says_what_and_for_which_tensor(host):
    with pytest.raises(RuntimeError, match=r"wplus_bias_act failed for \(2, 3\).*no kernel"):
        host.bias_act(torch.zeros(2, 3), None, 1, 0, 0.0, 1.0, -1.0, order=3)


def test_check_refuses_a_library_that_computes_something_else(host, monkeypatch):
    library.check(host, "cpu")
    for name in ("bias_act", "upfirdn2d", "inverse_haar", "styled_act"):
        right = getattr(host, name)
        with monkeypatch.context() as wrong:
            wrong.setattr(host, name, lambda *a, right=right, **k: right(*a, **k) + 1e-3)
            with pytest.raises(library.WplusError, match=f"{name}.*something else"):
                library.check(host, "cpu")
