"""How else a CPU could filter: the reference of `upfirdn2d` against other ways to say the same, on StyleGAN2's shapes.

python -m bench.resample
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from stylegan2.allocator import tune_allocator
from stylegan2.networks import StyleGAN2, StyleGAN2Config
from stylegan2.ops import setup_fir, upfirdn2d

SHAPES = ((512, 64), (128, 256), (32, 1024), (3, 1024))  # channels, pixels
LINE = (1.0, 3.0, 3.0, 1.0)


def two_passes(x: Tensor) -> Tensor:
    channels, line = x.shape[1], torch.tensor(LINE) / 4
    x = F.conv2d(x, line.view(1, 1, 1, 4).expand(channels, 1, 1, 4), padding=(0, 1), groups=channels)
    return F.conv2d(x, line.view(1, 1, 4, 1).expand(channels, 1, 4, 1), padding=(1, 0), groups=channels)


def shifted_sums(x: Tensor) -> Tensor:
    x = F.pad(x, (1, 1, 1, 1))
    for axis in (3, 2):
        size = x.shape[axis] - 3
        a, b, c, d = (x.narrow(axis, k, size) for k in range(4))
        x = ((a + d) / 4).add_(b + c, alpha=0.75)
    return x


def seconds(function: Callable[[], object], runs: int = 7) -> float:
    """The least of several runs."""
    function()
    found = []
    for _ in range(runs):
        start = time.perf_counter()
        function()
        found.append(time.perf_counter() - start)
    return min(found)


@torch.no_grad()
def main() -> None:
    tune_allocator()
    fir = setup_fir(LINE)
    print("| picture | reference | channels_last | two passes | shifted sums |\n|---|---|---|---|---|")
    for channels, size in SHAPES:
        x = torch.randn(1, channels, size + 1, size + 1)
        last = x.contiguous(memory_format=torch.channels_last)
        ways = [lambda x=x: upfirdn2d(x, fir, padding=1, gain=4), lambda x=last: upfirdn2d(x, fir, padding=1, gain=4),
                lambda x=x: two_passes(x), lambda x=x: shifted_sums(x)]  # fmt: skip
        for way in ways:
            torch.testing.assert_close(way(), ways[0](), rtol=1e-4, atol=1e-4)
        first, *others = map(seconds, ways)
        print(
            f"| {channels}x{size}x{size} | 1 | {' | '.join(f'{other / first:.2f}' for other in others)} |", flush=True
        )
    torch.manual_seed(0)
    generator = StyleGAN2(StyleGAN2Config()).eval()
    ws = torch.randn(1, generator.num_ws, generator.w_dim)
    const = generator.synthesis.b4.const
    spent = seconds(lambda: generator.synthesis(ws), 3)
    weights = [p for p in generator.synthesis.parameters() if p.ndim == 4]
    for tensor in weights:
        tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
    const.data = const.data[None].contiguous(memory_format=torch.channels_last)[0]
    print(f"\nStyleGAN2-1024 in channels_last: {seconds(lambda: generator.synthesis(ws), 3) / spent:.2f} times as long")


if __name__ == "__main__":
    main()
