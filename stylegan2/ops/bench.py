"""How fast the kernels are: StyleGAN2's shapes at 1024 pixels, against plain PyTorch and torch.compile of it.

Times are medians of CUDA events after a warm-up.  Bandwidth counts what has to be read and written once; `of copy` is
the time that a plain copy takes, on the same card in the same run, to read and write as many bytes, over the call's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import exp, log, prod
from statistics import median

import torch
from torch import Tensor

from stylegan2.errors import WplusError
from stylegan2.generator import Generator
from stylegan2.mobile import MobileStyleGAN
from stylegan2.networks import StyleGAN2, StyleGAN2Config
from stylegan2.ops import bias_act, finish, inverse_haar, library, setup_fir, upfirdn2d
from stylegan2.runner import Runner, lowered

RUNS, WARM_UP = 20, 5
COLD, AHEAD = 2**28, 1_000_000  # bytes written, and cycles waited, before a call that is timed alone
LARGE = 64 * 2**20  # bytes read and written from which a call counts as large
MOBILE_CHANNELS = (512, 512, 512, 512, 512, 256, 128, 64)


@dataclass(frozen=True)
class Call:
    """One call as a network makes it: function(*arguments), and the reference of the same signature."""

    name: str
    operator: Callable[..., Tensor]
    arguments: tuple
    settings: dict


def milliseconds(function: Callable[[], object], runs: int = RUNS, alone: bool = False) -> float:
    """Median time of a call on the GPU.  alone: of its kernels, from a cold cache, without what Python takes to ask."""
    for _ in range(WARM_UP):
        function()
    marks = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(runs)]
    cold = torch.empty(COLD, dtype=torch.uint8, device="cuda") if alone else None
    for start, end in marks:
        if alone:
            cold.zero_()  # nothing of the inputs is left in the L2 cache
            torch.cuda._sleep(AHEAD)  # Python gets ahead of the GPU
        start.record()
        function()
        end.record()
    torch.cuda.synchronize()
    return median(start.elapsed_time(end) for start, end in marks)


def calls(batch: int, dtype: torch.dtype, last: bool, least: int = 32) -> list[Call]:
    """Synthesis (filter after up-sampling, skip image, activation) and what a training step adds (the discriminator's
    filters, the gradients of both), each resolution from `least` on once."""
    config, found = StyleGAN2Config(), []
    fir = setup_fir(config.fir).cuda()
    order = torch.channels_last if last else torch.contiguous_format

    def picture(channels: int, size: int) -> Tensor:
        return torch.randn(batch, channels, size, size, device="cuda", dtype=dtype).to(memory_format=order)

    for r in (r for r in config.resolutions if r >= least):
        c, b = config.channels(r), torch.randn(config.channels(r), device="cuda", dtype=dtype)
        scale, noise = torch.rand(batch, c, device="cuda"), torch.randn(r, r, device="cuda")
        filtered = {"fir": fir, "padding": 1, "fir_gain": 4.0}
        x, wide, small, rgb = picture(c, r), picture(c, r + 1), picture(c, r // 2), picture(3, r // 2)
        found += [
            Call("filter after up", upfirdn2d, (wide, fir), {"padding": 1, "gain": 4.0}),
            Call("filter before down", upfirdn2d, (x, fir), {"padding": 2}),
            Call("skip down", upfirdn2d, (x, fir), {"down": 2, "padding": 1}),
            Call("skip down, gradient", upfirdn2d, (small, fir), {"up": 2, "padding": (2, 1, 2, 1), "flip": True}),
            Call("skip image up", upfirdn2d, (rgb, fir), {"up": 2, "padding": (2, 1, 2, 1), "gain": 4.0}),
            Call("bias, lrelu", bias_act, (x, b), {"act": "lrelu", "clamp": 256.0}),
            Call("filter, noise, lrelu", finish, (wide, scale, noise, b), filtered),
            Call("noise, lrelu", finish, (x, scale, noise, b), {}),
            Call("Haar up", inverse_haar, (x, torch.rand(batch, c, 1, 1, device="cuda")), {}),
        ]
    return found


@cache
def copying(moved: int) -> float:
    """Milliseconds of a copy that reads and writes this many bytes in all."""
    x = torch.empty(moved // 2, device="cuda", dtype=torch.uint8)
    y = torch.empty_like(x)
    return milliseconds(lambda: y.copy_(x), alone=True)


def operators(batch: int, name: str, compile_too: bool = True, least: int = 32) -> None:
    """Print the table of the operators.  WplusError without a GPU or kernels."""
    dtype = _type(name)
    _ready()
    ratios, shares = {}, {}
    speed = 2**30 / copying(2**30) / 1e6
    print(f"{torch.cuda.get_device_name()}, {name}, batch {batch}; a large copy reaches {speed:.0f} GB/s\n")
    print("| operator | shape | order | us | GB/s | of copy | plain us | compiled us | ratio | off by |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for last in (False, True):
        for call in calls(batch, dtype, last, least):
            x, run = call.arguments[0], call.operator

            def plain(*arguments, call=call):
                return call.operator.reference(*arguments, **call.settings)

            with torch.no_grad():
                y = run(*call.arguments, **call.settings)
                ours = milliseconds(lambda run=run, call=call: run(*call.arguments, **call.settings), alone=True)
                with library.using("cuda", None):
                    off = (y.float() - plain(*call.arguments).float()).abs().max().item()
                    theirs = milliseconds(lambda call=call, plain=plain: plain(*call.arguments), alone=True)
                    theirs_compiled = float("inf")
                    if compile_too:
                        compiled = torch.compile(plain, dynamic=False)
                        theirs_compiled = milliseconds(lambda call=call, f=compiled: f(*call.arguments), alone=True)
                        torch.compiler.reset()
            moved = (x.numel() + y.numel()) * x.element_size()
            share, ratio = copying(moved) / ours, min(theirs, theirs_compiled) / ours
            ratios.setdefault(call.name, []).append(ratio)
            if moved >= LARGE:
                shares.setdefault(call.name, []).append(share)
            shape, order = "x".join(map(str, x.shape)), "NHWC" if last else "NCHW"
            speed = f"{ours * 1e3:.1f} | {moved / ours / 1e6:.0f} | {share:.0%}"
            others = f"{theirs * 1e3:.1f} | {theirs_compiled * 1e3:.1f} | {ratio:.2f} | {off:.2g}"
            print(f"| {call.name} | {shape} | {order} | {speed} | {others} |", flush=True)
    print("\n| operator | geometric mean of the ratios | least share of a copy's speed (large shapes) |\n|---|---|---|")
    for name, values in ratios.items():
        mean = exp(sum(map(log, values)) / len(values))
        print(f"| {name} | {mean:.2f} | {f'{min(shares[name]):.0%}' if name in shares else ''} |")
    filters = [r for name, values in ratios.items() if "filter" in name or "skip" in name for r in values]
    print(f"\nupfirdn2d in all: {prod(filters) ** (1 / len(filters)):.2f}")


def networks(name: str, compile_too: bool = True) -> None:
    """Print the time of whole pictures, StyleGAN2 config F and the default generator's shape, random weights."""
    dtype = _type(name)
    _ready()
    torch.manual_seed(0)
    made: dict[str, Generator] = {
        "StyleGAN2-1024": StyleGAN2(StyleGAN2Config()).eval().requires_grad_(False).cuda(),
        "MobileStyleGAN-1024": MobileStyleGAN(MOBILE_CHANNELS).cuda(),
    }
    for parameter in made["MobileStyleGAN-1024"].parameters():
        parameter.data.normal_(0, 0.02)  # zeros would draw less power, and run at a higher clock
    print("\n| network | batch | how | ms | ratio |\n|---|---|---|---|---|")
    for network, generator in made.items():
        for batch in (1, 8):
            ws = torch.randn(batch, generator.num_ws, generator.w_dim, device="cuda")
            low, first = lowered(generator, dtype), None
            compiled = torch.compile(lambda ws, low=low: low.synthesis(ws), dynamic=False)
            ways = {
                "float32, plain": (False, generator.synthesis),
                f"{name}, plain": (False, low.synthesis),
                "float32, kernels": (True, generator.synthesis),
                f"{name}, kernels": (True, low.synthesis),
                f"{name}, kernels, torch.compile": (True, compiled),
                f"{name}, kernels, CUDA graph": (True, Runner(generator, dtype=dtype)),
            }
            for how, (kernels, draw) in ways.items():
                if "compile" in how and not compile_too:
                    continue
                with torch.no_grad(), library.using("cuda", library.get("cuda") if kernels else None):
                    spent = milliseconds(lambda draw=draw, ws=ws: draw(ws))
                first = first or spent
                print(f"| {network} | {batch} | {how} | {spent:.2f} | {first / spent:.2f} |", flush=True)
            torch.compiler.reset()


def _type(name: str) -> torch.dtype:
    types = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
    if name not in types:
        raise WplusError(f"There is no bench for {name!r}, only for {', '.join(types)}.")
    return types[name]


def _ready() -> None:
    if not torch.cuda.is_available():
        raise WplusError("The bench measures kernels on a GPU, and this PyTorch sees none.")
    if library.get("cuda") is None:
        raise WplusError("The kernels are not in use; `python -m stylegan2.ops info` says why.")
