"""Photos and what the generator makes of them so far: what the compact hypernetwork learns from.

    python -m encoders.samples cache/ --count 6250
    python -m hyperstyle.pairs cache/ --out pairs/ --count 1500     # goes on at the next shard

A pair is a goal x and a code w: x a sample in another scene and before a camera (`encoders.augment`), so that no code
draws it; w the compact encoder's answer, corrected a few times on previews as inversion corrects it
(ReStyle, Alaluf et al., arXiv 2104.02699, by descent), so that what is left is left for offsets of weights:

    u <- u - t (2 (M + damping I))^-1 grad |preview(u) - x|^2      M: `encoders.curvature`; t is halved where that fails

Beside them lies y = G(w), rendered: the hypernetwork sees x and y.  HyperStyle (Alaluf et al., arXiv 2111.15666) takes
its pairs from photos and from an encoder that is not corrected.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from encoders import augment, compact
from encoders.batches import Data, epoch_order
from encoders.curvature import Curvature, of_codes
from stylegan2 import checkpoints, engine, preview, w_statistics, zoo
from stylegan2.allocator import tune_allocator
from stylegan2.errors import UsageError
from stylegan2.files import replacing
from stylegan2.generator import Generator

SHARD = 50
BATCH = 10
GOAL, SHOWN = 256, 128  # sides of the goals, and of the renders beside them
STEPS = 4
SCALES = (128, 32, 8)  # sides at which previews are compared
Look = Callable[[Tensor], Tensor]  # ws (B, num_ws, w_dim) -> pictures (B, 3, r, r)


def write(generator: Generator, encoder: compact.CompactEncoder, look: Look, data: Data, out: Path,
          count: int) -> None:  # fmt: skip
    """`count` pairs (rounded up to whole shards) into the folder; shards that are there stay."""
    out.mkdir(parents=True, exist_ok=True)
    known = of_codes(generator, "previews")
    for shard in range(-(-count // SHARD)):
        path = out / f"{shard:05d}.safetensors"
        if path.exists():
            continue
        parts = [
            pairs(generator, encoder, look, data, known, shard * SHARD // BATCH + i) for i in range(SHARD // BATCH)
        ]
        with replacing(path) as part:
            save_file({name: torch.cat([part[name] for part in parts]) for name in parts[0]}, part)
        error = np.mean([part["l2"].mean().item() for part in parts])
        print(f"{path} l2 {error:.4f}", flush=True)


def pairs(generator: Generator, encoder: compact.CompactEncoder, look: Look, data: Data, known: Curvature,
          number: int) -> dict[str, Tensor]:  # fmt: skip
    """Batch `number` -> goal (B, 256, 256, 3) and shown (B, 128, 128, 3) uint8, code (B, num_ws, w_dim), whitened."""
    statistics = w_statistics.load().to(generator.w_avg.device)
    pictures = data.pictures(data.indices(BATCH, number)).to(generator.w_avg.device)
    goal, _ = augment.scene(pictures, number)
    goal = augment.camera(goal, number)
    start = statistics.whiten(compact.encode(encoder, goal))
    ws = statistics.unwhiten(corrected(look, start, goal, known).half().float())
    with torch.no_grad():
        shown = torch.cat([engine.area_resize(generator.synthesis(w), GOAL) for w in ws.split(1)]).clamp(-1, 1)
    error = (shown - goal).square().mean((1, 2, 3))
    images = {"goal": goal, "shown": engine.area_resize(shown, SHOWN)}
    images = {name: torch.from_numpy(engine.to_uint8(image)) for name, image in images.items()}
    return images | {"code": statistics.whiten(ws).half().cpu(), "l2": error.cpu()}


def corrected(look: Look, start: Tensor, goal: Tensor, known: Curvature, steps: int = STEPS) -> Tensor:
    """Whitened codes (B, num_ws, w_dim) -> the same, whose looks are nearer to the goals (B, 3, S, S)."""
    statistics = w_statistics.load().to(start.device)
    goals = [engine.area_resize(goal, side) for side in SCALES]

    def losses(u: Tensor) -> Tensor:
        drawn = engine.area_resize(look(statistics.unwhiten(u)), SCALES[0])
        sized = (drawn, *(engine.area_resize(drawn, side) for side in SCALES[1:]))
        return sum((a - b).square().mean((1, 2, 3)) for a, b in zip(sized, goals, strict=True))

    u, best, direction = start, torch.full((len(start),), float("inf"), device=start.device), torch.zeros_like(start)
    share = torch.ones_like(best)
    for _ in range(steps + 1):
        trial = (u - share[:, None, None] * direction).requires_grad_(True)
        value = losses(trial)
        (gradient,) = torch.autograd.grad(value.sum(), trial)
        fell = (value < best).detach()
        u = torch.where(fell[:, None, None], trial.detach(), u)
        best = torch.where(fell, value.detach(), best)
        wanted = known.solve(gradient.flatten(1).T).T.reshape(gradient.shape)
        direction = torch.where(fell[:, None, None], wanted, direction)
        share = torch.where(fell, share, share / 3)
    return u


class Pairs:
    """What `write` left in a folder; the first shard is held out."""

    def __init__(self, folder: Path, seed: int = 0) -> None:
        shards = [load_file(path) for path in sorted(folder.glob("[0-9]*.safetensors"))]
        if len(shards) < 2:
            raise UsageError(f"{folder} holds {len(shards)} shards of pairs; training needs two: hyperstyle.pairs.")
        self.parts = {name: torch.cat([shard[name] for shard in shards]) for name in shards[0]}
        self.held_out, self.seed = len(shards[0]["l2"]), seed

    def __len__(self) -> int:
        return len(self.parts["l2"]) - self.held_out

    def indices(self, batch: int, number: int) -> Tensor:
        """The pairs of batch `number`: every epoch its own order."""
        return torch.from_numpy(self.held_out + epoch_order(len(self), batch, number, self.seed))

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """-> goals (B, 3, 256, 256), shown (B, 3, 128, 128) in [-1, 1], codes (B, num_ws, w_dim), not whitened."""
        goal, shown = (engine.to_float(self.parts[name][indices].numpy()) for name in ("goal", "shown"))
        return goal, shown, w_statistics.load().unwhiten(self.parts["code"][indices].float())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("samples", type=Path, nargs="+", help="what encoders.samples wrote")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=1500)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    tune_allocator()
    generator = checkpoints.load(zoo.path("mobilestylegan-ffhq-1024")).to(options.device)
    encoder = compact.load().to(options.device, memory_format=torch.channels_last)
    data = Data(generator, options.samples, GOAL, 1)
    write(generator, encoder, preview.load(generator), data, options.out, options.count)


if __name__ == "__main__":
    main()
