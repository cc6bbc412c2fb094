"""Train the read-out that draws half-size pictures (`stylegan2.quick`), on renders made as it learns.

    python -m encoders.quick --out quick.safetensors --images 4000      # goes on where it was killed

Codes are those of `encoders.samples`, from seeds that nothing else uses.  Each is rendered once: the activation on the
way is what the read-out sees, the finished picture, area-averaged, is what it should say.  Squared error, AdamW, a
cosine rate and a running average of the weights, which is what is written.
"""

from __future__ import annotations

import argparse
import copy
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from encoders import samples
from encoders.previewing import schedule
from stylegan2 import checkpoints, quick, weights, zoo
from stylegan2.allocator import tune_allocator
from stylegan2.engine import area_resize
from stylegan2.files import replacing
from stylegan2.generator import Generator

SEEDS, HELD_OUT = 1 << 24, range(1 << 25, (1 << 25) + 24)
GAIN_RATE = 0.1  # of the gains, whose many inputs move them together
SAVE_EVERY = 100


def pair(generator: Generator, ws: Tensor) -> tuple[Tensor, Tensor]:
    """ws (1, num_ws, w_dim) -> the activation that a read-out sees, and the picture (1, 3, R/2, R/2) it should give."""
    with torch.no_grad():
        x, draw = generator.split(ws, quick.stage_of(generator))
        return x, area_resize(draw(x), generator.resolution // 2).clamp(-1.1, 1.1)


def train(generator: Generator, out: Path, images: int, rate: float = 2e-3, batch: int = 2) -> float:
    """-> peak signal-to-noise ratio (dB) on held-out codes; writes `out` (fp16), and beside it how to go on."""
    kept, readout = out.with_suffix(".state"), quick.start(generator)
    readout = readout.to(generator.w_avg.device, memory_format=torch.channels_last)
    average, model = copy.deepcopy(readout), quick.Quick(generator, readout)
    gains = [p for n, p in readout.named_parameters() if "gain" in n or "modulation" in n]
    others = [p for n, p in readout.named_parameters() if not ("gain" in n or "modulation" in n)]
    groups = [{"params": gains, "rate": GAIN_RATE * rate}, {"params": others, "rate": rate}]
    adam = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.99), weight_decay=0.01)
    first, steps, began, figure = 0, max(1, images // batch), time.monotonic(), float("nan")
    if kept.exists():
        state = torch.load(kept, weights_only=True)
        first = state["step"]
        for part, name in ((readout, "readout"), (average, "average"), (adam, "adam")):
            part.load_state_dict(state[name])
        for group, mine in zip(adam.param_groups, groups, strict=True):
            group["rate"] = mine["rate"]
    for step in range(first, steps):
        adam.zero_grad(set_to_none=True)
        for seed in range(SEEDS + step * batch, SEEDS + (step + 1) * batch):  # one by one: quicker on a CPU
            ws = samples.codes(generator, range(seed, seed + 1))
            x, goal = pair(generator, ws)
            (F.mse_loss(model.draw(x, ws), goal) / batch).backward()
        torch.nn.utils.clip_grad_norm_(readout.parameters(), 1.0)
        for group in adam.param_groups:
            group["lr"] = float(group["rate"] * schedule(step, steps))  # not numpy's: the state must load safely
        adam.step()
        with torch.no_grad():
            for mine, theirs in zip(average.parameters(), readout.parameters(), strict=True):
                mine.lerp_(theirs, 1 - min(0.99, (step + 1) / (step + 10)))
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == steps:
            figure = held_out(quick.Quick(generator, average))
            with replacing(out) as part:
                save_file(weights.half(average), part)
            state = {"step": step + 1, "readout": readout.state_dict(), "average": average.state_dict()}
            with replacing(kept) as part:
                torch.save(state | {"adam": adam.state_dict()}, part)
            minutes = (time.monotonic() - began) / 60
            print(f"images {(step + 1) * batch} minutes {minutes:.1f} held_out {figure:.2f} dB", flush=True)
    return figure


def held_out(model: quick.Quick) -> float:
    """Mean PSNR (dB, of pictures in [-1, 1]) on codes that it was not trained on."""
    figures = []
    for seed in HELD_OUT:
        ws = samples.codes(model.generator, range(seed, seed + 1))
        x, goal = pair(model.generator, ws)
        with torch.no_grad():
            error = F.mse_loss(model.draw(x, ws).clamp(-1, 1), goal.clamp(-1, 1))
        figures.append(float(10 * torch.log10(4 / error)))
    return sum(figures) / len(figures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the weights' file")
    parser.add_argument("--images", type=int, default=4000, help="how many are seen in all")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    tune_allocator()
    generator = checkpoints.load(zoo.path("mobilestylegan-ffhq-1024")).to(options.device)
    train(generator, options.out, options.images, options.rate)


if __name__ == "__main__":
    main()
