"""The compiled kernels as a Python object: tensors in, a new tensor out.

`Library` calls the plain C entry points of csrc/ through ctypes, so one build serves every version of PyTorch.  It
computes nothing itself and knows nothing of gradients; `compiled` does.  One library a device type is in use; for
'cuda' it is built, or taken from the cache, when a tensor on a GPU first asks for it, checked against the reference,
and left out with one warning if anything goes wrong.
"""

from __future__ import annotations

import ctypes
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import c_char_p, c_double, c_int32, c_int64, c_void_p
from math import sqrt
from pathlib import Path
from threading import RLock

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from stylegan2.errors import WplusError

SWITCH = "WPLUS_OPS"  # set to 'reference': compiled kernels are left alone
VERSION = 1  # of the entry points; csrc/device.cu
TYPES = {torch.float32: 0, torch.float64: 1, torch.float16: 2, torch.bfloat16: 3}
NO_KERNEL = -1

_SIGNATURES = {
    "wplus_bias_act": [c_int32] * 2 + [c_void_p] * 5 + [c_int64] * 3 + [c_int32] + [c_double] * 3 + [c_int32, c_void_p],
    "wplus_styled_act": [c_int32] + [c_void_p] * 5 + [c_int64] * 3 + [c_int32, c_int64] + [c_double] * 3 + [c_void_p],
    "wplus_upfirdn2d": [c_int32] + [c_void_p] * 3 + [c_int64] * 6 + [c_int32] * 10 + [c_double, c_int32]
    + [c_void_p] * 3 + [c_int64] + [c_double] * 3 + [c_void_p],
    "wplus_inverse_haar": [c_int32] + [c_void_p] * 3 + [c_int64] * 4 + [c_int32, c_void_p],
    "wplus_on_device": [],
    "wplus_halves": [],
    "wplus_version": [],
    "wplus_error": [c_int32],
}  # fmt: skip


def dense(x: Tensor) -> Tensor:
    """x itself if its elements fill one stretch of memory in any order of axes, else a contiguous copy."""
    expected = 1
    for size, stride in sorted(zip(x.shape, x.stride(), strict=True), key=lambda pair: (pair[1], pair[0])):
        if size != 1 and stride != expected:
            return x.contiguous()
        expected *= size
    return x


def like(x: Tensor, order: Tensor) -> Tensor:
    """x in the order of memory of `order`, which is dense and has its shape."""
    return x if x.stride() == order.stride() else torch.empty_like(order, dtype=x.dtype).copy_(x)


def arranged(x: Tensor) -> tuple[Tensor, bool]:
    """x (B, C, H, W) in NCHW or channels_last, and whether the latter."""
    if x.is_contiguous():
        return on_16(x), False
    if x.is_contiguous(memory_format=torch.channels_last):
        return on_16(x), True
    return x.contiguous(), False


def on_16(x: Tensor) -> Tensor:
    """x, at an address that 16 bytes can be read from at once."""
    return x if x.data_ptr() % 16 == 0 else x.clone()


def numbers(x: Tensor | None) -> Tensor | None:
    """A scale, noise or bias as the kernels read it."""
    return None if x is None else on_16(x.float().contiguous())


def pointer(x: Tensor | None) -> int | None:
    return None if x is None else x.data_ptr()


def bound(clamp: float | None) -> float:
    return -1.0 if clamp is None else clamp


class Library:
    """The entry points of one build.  OSError if the file is no library, WplusError if it is another version's."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._library = ctypes.CDLL(str(path))
        try:
            for name, arguments in _SIGNATURES.items():
                function = getattr(self._library, name)
                function.argtypes, function.restype = arguments, c_char_p if name == "wplus_error" else c_int32
        except AttributeError as error:
            raise WplusError(f"{self.path} is not a build of these kernels: {error}") from None
        if self._library.wplus_version() != VERSION:
            raise WplusError(f"{self.path} was built from another version of the kernels")
        self.on_device = bool(self._library.wplus_on_device())
        self.types = {t: code for t, code in TYPES.items() if code < 2 or self._library.wplus_halves()}

    def covers(self, x: Tensor) -> bool:
        """Whether there are kernels for its type."""
        return x.dtype in self.types

    def _call(self, name: str, x: Tensor, *arguments) -> None:
        function = getattr(self._library, name)
        if not x.is_cuda:
            code = function(TYPES[x.dtype], *arguments, None)
        elif x.device.index == torch.cuda.current_device():
            code = function(TYPES[x.dtype], *arguments, torch.cuda.current_stream().cuda_stream)
        else:
            with torch.cuda.device(x.device):
                code = function(TYPES[x.dtype], *arguments, torch.cuda.current_stream().cuda_stream)
        if code != 0:
            reason = self._library.wplus_error(code).decode()
            raise RuntimeError(f"{name} failed for {tuple(x.shape)} {x.dtype} on {x.device}: {reason}")

    def bias_act(
        self,
        x: Tensor,
        b: Tensor | None,
        dim: int,
        kind: int,
        alpha: float,
        gain: float,
        clamp: float,
        order: int = 0,
        g: Tensor | None = None,
        v: Tensor | None = None,
        of_output: bool = False,
    ) -> Tensor:
        """order 0: clamp(gain * f(x + b)); 1: g times its derivative; 2: g * v times its second derivative.

        kind: place in ACTIVATIONS.  clamp < 0: none.  of_output: x is the result instead (rectifiers, order 1).
        """
        x = dense(x)
        g, v = (None if t is None else like(t, x) for t in (g, v))
        b = None if b is None else b.to(x.dtype).contiguous()
        y = torch.empty_like(x)
        step, channels = (x.stride(dim), x.shape[dim]) if x.ndim else (1, 1)
        tensors = (pointer(x), pointer(b), pointer(g), pointer(v), pointer(y))
        self._call(
            "wplus_bias_act", x, order, *tensors, x.numel(), max(step, 1), max(channels, 1),
            kind, alpha, gain, clamp, of_output,
        )  # fmt: skip
        return y

    def styled_act(
        self,
        x: Tensor,
        scale: Tensor | None,
        noise: Tensor | None,
        b: Tensor | None,
        alpha: float,
        gain: float,
        clamp: float,
    ) -> Tensor:
        """x (B, C, H, W) -> clamp(gain * lrelu(x * scale + noise + b)); scale, noise, b: see `finish`."""
        x, channels_last = arranged(x)
        y = torch.empty_like(x)
        batch, channels, height, width = x.shape
        scale, noise, b = map(numbers, (scale, noise, b))
        self._call(
            "wplus_styled_act", x, pointer(x), pointer(scale), pointer(noise), pointer(b), pointer(y),
            batch, channels, height * width, channels_last, noise_step(noise), alpha, gain, clamp,
        )  # fmt: skip
        return y

    def upfirdn2d(
        self,
        x: Tensor,
        fir: Tensor,
        up: tuple[int, int],
        down: tuple[int, int],
        padding: tuple[int, int, int, int],
        flip: bool,
        gain: float,
        after: tuple[Tensor | None, Tensor | None, Tensor | None, float, float, float] | None = None,
    ) -> Tensor:
        """The operator for a filter (kh, kw), float64 for float64 pictures, else float32.

        after: scale, noise, b, alpha, gain, clamp of what follows it.
        """
        x, channels_last = arranged(x)
        fir = fir.contiguous()
        batch, channels, in_h, in_w = x.shape
        out_h, out_w = resampled(in_h, in_w, fir.shape, up, down, padding)
        order = torch.channels_last if channels_last else torch.contiguous_format
        y = torch.empty(batch, channels, out_h, out_w, dtype=x.dtype, device=x.device, memory_format=order)
        scale, noise, b, alpha, act_gain, clamp = after or (None, None, None, 0.0, 1.0, -1.0)
        scale, noise, b = map(numbers, (scale, noise, b))
        self._call(
            "wplus_upfirdn2d", x, pointer(x), pointer(fir), pointer(y), batch, channels, in_h, in_w, out_h, out_w,
            *up, *down, padding[0], padding[2], fir.shape[1], fir.shape[0], flip, channels_last, gain,
            after is not None, pointer(scale), pointer(noise), pointer(b), noise_step(noise), alpha, act_gain, clamp,
        )  # fmt: skip
        return y

    def inverse_haar(self, x: Tensor, gain: Tensor | None) -> Tensor:
        """gain (B, 4C) * x (B, 4C, H, W) -> (B, C, 2H, 2W)."""
        x, channels_last = arranged(x)
        batch, channels, height, width = x.shape
        order = torch.channels_last if channels_last else torch.contiguous_format
        shape = (batch, channels // 4, 2 * height, 2 * width)
        y = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=order)
        gain = numbers(gain)
        sizes = (batch, channels // 4, height, width)
        self._call("wplus_inverse_haar", x, pointer(x), pointer(gain), pointer(y), *sizes, channels_last)
        return y


def noise_step(noise: Tensor | None) -> int:
    """Numbers from one image's noise to the next's: (H, W) and (1, 1, H, W) serve all images."""
    if noise is None or noise.ndim == 2 or noise.shape[0] == 1:
        return 0
    return noise[0].numel()


def resampled(height: int, width: int, taps, up, down, padding) -> tuple[int, int]:
    """Height and width that `upfirdn2d` gives; up, down: (x, y), taps: (y, x), padding: left, right, top, bottom."""
    left, right, top, bottom = padding
    return (height * up[1] + top + bottom - taps[0]) // down[1] + 1, (width * up[0] + left + right - taps[1]) // down[
        0
    ] + 1


# ---- which library is in use

_libraries: dict[str, Library | None] = {}
_lock = RLock()


def get(device_type: str) -> Library | None:
    """The library for this device type; 'cuda' has one from its first call on.  None: there is none, or none works."""
    if device_type not in _libraries and device_type == "cuda":
        with _lock:
            if device_type not in _libraries:
                _libraries[device_type] = _first_use()
    return _libraries.get(device_type)


@torch.compiler.assume_constant_result
def available(device_type: str) -> bool:
    """Whether there is one; builds it if need be, also while torch.compile is tracing."""
    return get(device_type) is not None


@contextmanager
def using(device_type: str, library: Library | None) -> Iterator[None]:
    """Another library (or none: the reference) for this device type, for as long as the context lasts."""
    missing = object()
    before = _libraries.get(device_type, missing)
    _libraries[device_type] = library
    try:
        yield
    finally:
        if before is missing:
            del _libraries[device_type]
        else:
            _libraries[device_type] = before


def _first_use() -> Library | None:
    if os.environ.get(SWITCH) == "reference":
        return None
    try:
        from stylegan2.ops import build

        library = Library(build.build(*build.here()))
        # whatever the caller is in the middle of: tracing, autocast, another default type
        with torch.no_grad(), _disable_current_modes(), torch.autocast("cuda", enabled=False):
            check(library, "cuda")
    except (WplusError, OSError, RuntimeError) as error:
        text = f"The CUDA kernels are not in use, everything works without them, only slower. {error}"
        warnings.warn(f"{text} ({SWITCH}=reference silences this.)", RuntimeWarning, stacklevel=4)
        return None
    return library


def check(library: Library, device: str) -> None:
    """Small calls of every kernel against plain PyTorch, in both orders of memory and two types.  WplusError if one is
    wrong, as on another kind of GPU."""
    from stylegan2.ops import bias_act, haar, upfirdn2d
    from stylegan2.ops.upfirdn2d import borders

    fir = torch.ones(4, 4, device=device, dtype=torch.float32) / 16
    calls = [((1, 1), (1, 1), 1), ((2, 2), (1, 1), (2, 1, 2, 1)), ((1, 1), (2, 2), 1), ((3, 1), (1, 2), 2)]
    for dtype in (torch.float32, torch.float16):
        if dtype not in library.types:
            continue
        for order in (torch.contiguous_format, torch.channels_last):
            x = torch.linspace(-2, 2, 2 * 8 * 37 * 71, device=device, dtype=torch.float32).reshape(2, 8, 37, 71)
            x = x.to(dtype).contiguous(memory_format=order)
            b, exact = x[0, :, 5, 5].contiguous(), x.double()
            pairs = [("bias_act", library.bias_act(x, b, 1, 2, 0.2, 1.0, -1.0),
                      bias_act.reference(exact, b.double(), act="lrelu", gain=1)),
                     ("styled_act", library.styled_act(x, None, x[0, 0], None, 0.2, sqrt(2), 2.0),
                      (F.leaky_relu(exact + exact[0, 0], 0.2) * sqrt(2)).clamp(-2, 2)),
                     ("inverse_haar", library.inverse_haar(x, None), haar.inverse_haar(exact))]  # fmt: skip
            for up, down, padding in calls:
                sides = borders(padding)
                ours = library.upfirdn2d(x, fir, up, down, sides, False, 1.0)
                pairs.append(("upfirdn2d", ours, upfirdn2d.reference(exact, fir.double(), up, down, sides)))
            for name, ours, theirs in pairs:
                close = 1e-5 if dtype == torch.float32 else 4e-3
                if not torch.allclose(ours.double(), theirs, atol=close, rtol=close):
                    raise WplusError(f"{name} of {library.path} computes something else here than it should.")
