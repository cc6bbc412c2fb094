"""Train the generator's preview (`stylegan2.preview`) on rendered samples.

    python -m encoders.samples cache/ --count 10000
    python -m encoders.previewing --samples cache/ --out preview.safetensors

The generator's half stays as it is; only the tail learns, by squared error at two sizes, with AdamW, a cosine
rate and a running average of the weights, which is what is written.
"""

from __future__ import annotations

import argparse
import copy
import os
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from encoders.batches import Data
from stylegan2 import checkpoints, preview, zoo
from stylegan2.allocator import tune_allocator
from stylegan2.engine import area_resize
from stylegan2.generator import Generator

PAINT_RATE = 0.1  # of the projection, whose 5120 inputs move its outputs together
SMALL = 32  # side of the second size: colours and light
SAVE_EVERY = 100
JUDGED = 48  # held-out samples


def train(generator: Generator, folders: list[Path], out: Path, images: int, batch: int = 8, rate: float = 2e-3,
          init: Path | None = None, seed: int = 0) -> float:  # fmt: skip
    """-> mean squared error on held-out samples, pictures in [-1, 1]; writes `out` (fp16) as it goes."""
    device = generator.w_avg.device
    data = Data(generator, folders, preview.SIZE, seed)
    tail = preview.load(generator, init).tail.requires_grad_(True) if init else preview.start(generator, seed)
    tail = tail.to(device, memory_format=torch.channels_last)
    average, model = copy.deepcopy(tail), preview.Preview(generator, tail)
    paint = list(tail.paint.parameters())
    others = [parameter for name, parameter in tail.named_parameters() if not name.startswith("paint.")]
    groups = [{"params": paint, "factor": PAINT_RATE}, {"params": others, "factor": 1.0}]
    adam = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.99), weight_decay=0.01)
    steps, began, error = max(1, images // batch), time.monotonic(), float("nan")
    for step in range(steps):
        indices = data.indices(batch, step)
        goal, ws = data.pictures(indices).to(device), model.statistics.unwhiten(data.codes[indices].float().to(device))
        ours = model(ws)
        loss = F.mse_loss(ours, goal) + F.mse_loss(area_resize(ours, SMALL), area_resize(goal, SMALL))
        adam.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(tail.parameters(), 1.0)
        for group in adam.param_groups:
            group["lr"] = rate * group["factor"] * schedule(step, steps)
        adam.step()
        with torch.no_grad():
            for mine, theirs in zip(average.parameters(), tail.parameters(), strict=True):
                mine.lerp_(theirs, 1 - min(0.995, (step + 1) / (step + 10)))
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == steps:
            error = held_out(preview.Preview(generator, average), data)
            part = out.with_name(f".{out.name}.{os.getpid()}")
            save_file(preview.state(average), part)
            os.replace(part, out)
            minutes = (time.monotonic() - began) / 60
            print(f"images {(step + 1) * batch} minutes {minutes:.1f} held_out {error:.4f}", flush=True)
    return error


def schedule(step: int, steps: int) -> float:
    """Warm-up over 50 steps, then a cosine down to 2%."""
    return min(1.0, (step + 1) / 50) * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * step / steps)))


def held_out(model: preview.Preview, data: Data) -> float:
    """Mean squared error on samples that it was not trained on."""
    device, total, count = model.statistics.mean.device, 0.0, min(JUDGED, data.held_out)
    with torch.no_grad():
        for few in np.array_split(np.arange(count), -(-count // 8)):
            ours = model(model.statistics.unwhiten(data.codes[few].float().to(device)))
            total += (ours - data.pictures(few).to(device)).square().mean((1, 2, 3)).sum().item()
    return total / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=Path, nargs="+", required=True, help="what encoders.samples wrote")
    parser.add_argument("--out", type=Path, required=True, help="the weights' file")
    parser.add_argument("--images", type=int, default=60_000, help="how many are seen in all")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--init", type=Path, help="weights to begin from")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    tune_allocator()
    generator = checkpoints.load(zoo.path("mobilestylegan-ffhq-1024")).to(options.device)
    train(generator, options.samples, options.out, options.images, options.batch, options.rate, options.init)


if __name__ == "__main__":
    main()
