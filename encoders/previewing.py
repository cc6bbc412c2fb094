"""Train the generator's preview (`stylegan2.preview`) on rendered samples.

    python -m encoders.samples cache/ --count 10000
    python -m encoders.previewing --samples cache/ --out preview.safetensors

The generator's half stays as it is; only the tail learns, by squared error at two sizes, with AdamW, a cosine
rate and a running average of the weights, which is what is written.
"""

from __future__ import annotations

import argparse
import copy
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from encoders.batches import Data
from stylegan2 import checkpoints, preview, weights, zoo
from stylegan2.allocator import tune_allocator
from stylegan2.engine import area_resize
from stylegan2.files import replacing
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
    adam = optimiser(tail, rate)
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
            group["lr"] = group["rate"] * schedule(step, steps)
        adam.step()
        with torch.no_grad():
            for mine, theirs in zip(average.parameters(), tail.parameters(), strict=True):
                mine.lerp_(theirs, 1 - min(0.995, (step + 1) / (step + 10)))
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == steps:
            error = held_out(preview.Preview(generator, average), data)
            with replacing(out) as part:
                save_file(weights.half(average), part)
            minutes = (time.monotonic() - began) / 60
            print(f"images {(step + 1) * batch} minutes {minutes:.1f} held_out {error:.4f}", flush=True)
    return error


class Follower:
    """Keeps a preview honest about what an encoder answers while that learns from it.

    An encoder finds codes that a fixed preview draws as the photo and the generator does not: measured, held-out L2
    .05 in previews and .10 in renders after 5,000 images.  So at every step one answer is rendered, and the tail
    learns it, with earlier ones (`POOL`) and a sample, at a constant rate.
    """

    POOL, RECALLED = 512, 2

    def __init__(self, model: preview.Preview, data: Data, rate: float = 3e-4) -> None:
        self.model, self.data, self.pool = model, data, []
        self.adam = optimiser(model.tail, rate)

    def step(self, ws: Tensor, number: int) -> float:
        """One answer's ws (1, num_ws, w_dim) -> how far the preview was off (mean squared error); it learns from it."""
        random = np.random.default_rng((3, number))
        with torch.no_grad():
            seen = area_resize(self.model.generator.synthesis(ws), preview.SIZE)
        entry = (ws.detach(), seen.clamp(-1.2, 1.2))
        recalled = random.permutation(len(self.pool))[: self.RECALLED]
        sample = self.data.indices(1, number)
        code = self.model.statistics.unwhiten(self.data.codes[sample].float().to(ws.device))
        drawn = area_resize(self.data.pictures(sample).to(ws.device), preview.SIZE)
        batch = [entry, *(self.pool[index] for index in recalled), (code, drawn)]
        goal = torch.cat([picture for _, picture in batch])
        self.model.tail.requires_grad_(True)  # only here: what looks at pictures needs no gradients of weights
        ours = self.model(torch.cat([code for code, _ in batch]))
        loss = F.mse_loss(ours, goal) + F.mse_loss(area_resize(ours, SMALL), area_resize(goal, SMALL))
        self.adam.zero_grad(set_to_none=True)
        loss.backward()
        parameters = list(self.model.tail.parameters())
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            for parameter in parameters:
                torch.distributed.all_reduce(parameter.grad)
                parameter.grad /= torch.distributed.get_world_size()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        self.adam.step()
        self.model.tail.requires_grad_(False)
        if len(self.pool) < self.POOL:
            self.pool.append(entry)
        else:
            self.pool[int(random.integers(self.POOL))] = entry
        return F.mse_loss(ours[:1].detach(), goal[:1]).item()


def optimiser(tail: preview.Tail, rate: float) -> torch.optim.Optimizer:
    """AdamW with `rate`, and PAINT_RATE of it for the projection of the rows."""
    paint = list(tail.paint.parameters())
    others = [parameter for name, parameter in tail.named_parameters() if not name.startswith("paint.")]
    groups = [{"params": ps, "lr": r, "rate": r} for ps, r in ((paint, PAINT_RATE * rate), (others, rate))]
    return torch.optim.AdamW(groups, betas=(0.9, 0.99), weight_decay=0.01)


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
