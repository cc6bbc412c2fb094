"""How much 16-bit numbers change a picture of the default generator.

    python -m bench.precision --count 8

Peak signal-to-noise ratio of `lowered` pictures (the last four resolutions in 16 bits) against float32, over seeds.
"""

from __future__ import annotations

import argparse

import torch

from stylegan2 import checkpoints, engine, zoo
from stylegan2.allocator import tune_allocator
from stylegan2.runner import lowered


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    tune_allocator()
    generator = checkpoints.load(zoo.path("mobilestylegan-ffhq-1024")).to(options.device)
    ws = engine.broadcast(generator, engine.latents(generator, range(options.count), 0.7)).to(options.device)
    print("| numbers | resolutions | PSNR, mean | worst |\n|---|---|---|---|")
    with torch.no_grad():
        for dtype in (torch.float16, torch.bfloat16):
            for first in (4, 128, 256):
                found = []
                for one in ws.split(1):
                    right = generator.synthesis(one).clamp(-1, 1)
                    other = lowered(generator, dtype, first).synthesis(one).clamp(-1, 1)
                    found.append(10 * torch.log10(4 / (other - right).square().mean()).item())
                name = str(dtype).removeprefix("torch.")
                print(f"| {name} | from {first} | {sum(found) / len(found):.1f} | {min(found):.1f} |", flush=True)


if __name__ == "__main__":
    main()
