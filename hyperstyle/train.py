"""Train the compact hypernetwork from the generator itself.

    python -m encoders.samples cache/ --count 6250
    python -m hyperstyle.pairs cache/ --out pairs/ --count 1500
    python -m hyperstyle.train --pairs pairs/ --out runs/hyper      # goes on where it was killed

Loss of a pair (goal x, code w, its render y; D = H(x, y), compared on a window of the picture):

    |G(w; D) - x|^2 at three sizes + structure * (1 - SSIM) + size * |D|^2

A render of 1024 pixels and its gradient take long, and what offsets do is seen in a part of it as well.  The
blocks up to 32x32 run whole; the others run on WINDOW x WINDOW places of that activation, with the noise of
those places.  What the window's border touches, MARGIN places, is left out of the loss.

Some pairs of each batch are seen a second time, y rendered whole with the offsets of a first pass, to
which the new ones are added: without them a second pass corrects what has been corrected (measured).
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.func import functional_call

from encoders.efficientnet import EfficientNetLite0
from encoders.efficientnet import from_state as image_network
from encoders.learner import Learner, Pace
from hyperstyle import compact
from hyperstyle.pairs import GOAL, Pairs
from hyperstyle.refine import add
from stylegan2 import checkpoints, engine, weights, zoo
from stylegan2.allocator import tune_allocator
from stylegan2.files import replacing
from stylegan2.generator import Deltas
from stylegan2.mobile import RESOLUTIONS, STAGES, MobileStyleGAN

STAGE = "b32"  # whole up to here
SIDE = 32  # its places along a side
WINDOW, MARGIN = 10, 1
SIZES = (1, 4, 16)  # pixels of a goal that one of the loss covers: 256, 64 and 16 along a picture's side
DIRECT_RATE = 0.1  # of the linear map, whose 768 inputs move its outputs together, in `rate`
WARM_UP = 20  # steps
JUDGED = 12  # held-out pairs that are rendered in every save


@dataclass(frozen=True)
class Settings:
    """images: how many pairs are seen in all, which the rate's decay needs to know; second: pairs of a second pass."""

    images: int = 8000
    batch: int = 8
    rate: float = 8e-4
    backbone_rate: float = 0.3
    structure: float = 0.05
    size: float = 0.02
    second: int = 2
    ema: float = 0.995
    seed: int = 0


def train(generator: MobileStyleGAN, pairs: Pairs, network: EfficientNetLite0, options: argparse.Namespace,
          settings: Settings) -> None:  # fmt: skip
    """The loop: batches by number until `settings.images` were seen; saves every `options.save` seconds."""
    run = Run(options.out, generator, network, settings)
    device, saved = generator.w_avg.device, time.monotonic()
    while run.seen < settings.images:
        number = run.seen // settings.batch
        goal, shown, ws = (part.to(device) for part in pairs.batch(pairs.indices(settings.batch, number)))
        photo = engine.area_resize(goal, compact.SIZE)
        shown, made = first_pass(generator, run.average, photo, shown, ws, settings.second)
        gains = {name: gain + made[name] for name, gain in run.network(photo, shown).items()}
        top, left = np.random.default_rng((settings.seed, 1, number)).integers(0, SIDE - WINDOW + 1, 2)
        singles = [compact.deltas({n: gain[i : i + 1] for n, gain in gains.items()}) for i in range(len(ws))]
        ours = torch.cat([window(generator, w, d, top, left) for w, d in zip(ws.split(1), singles, strict=True)])
        losses = compare(ours, seen_through(goal, top, left))
        losses["size"] = torch.cat(list(gains.values()), 1).square().mean()
        total = losses["pixel"] + settings.structure * losses["structure"] + settings.size * losses["size"]
        run.learner.step(total, run.seen)
        run.seen += settings.batch
        run.recent.append({name: loss.item() for name, loss in losses.items()})
        if time.monotonic() - saved > options.save and run.seen < settings.images:
            run.save(held_out(run.average, generator, pairs))
            saved = time.monotonic()
        if options.minutes and time.monotonic() - run.started > 60 * options.minutes:
            break
    run.save(held_out(run.average, generator, pairs))


@torch.no_grad()
def first_pass(generator: MobileStyleGAN, network: compact.CompactHyperNetwork, photo: Tensor, shown: Tensor,
               ws: Tensor, count: int) -> tuple[Tensor, dict[str, Tensor]]:  # fmt: skip
    """-> shown (B, 3, S, S), the first `count` rendered with offsets, and their gains (B, out), 0 for the others."""
    gains = network(photo, shown)
    for gain in gains.values():
        gain[count:] = 0
    few = [compact.deltas({name: gain[i : i + 1] for name, gain in gains.items()}) for i in range(min(count, len(ws)))]
    again = [engine.area_resize(generator.synthesis(ws[i : i + 1], d), compact.SIZE) for i, d in enumerate(few)]
    return torch.cat([*(image.clamp(-1, 1) for image in again), shown[len(few) :]]), gains


def window(generator: MobileStyleGAN, ws: Tensor, deltas: Deltas, top: int, left: int) -> Tensor:
    """ws (1, num_ws, w_dim) -> a part of its picture, (1, 3, r, r), of (WINDOW - 2 MARGIN) / SIDE of its side.

    The part begins at place (top + MARGIN, left + MARGIN) of the SIDE x SIDE of STAGE.
    """
    first = STAGES.index(STAGE)
    x = generator.synthesis(ws, deltas, until=STAGE)[:, :, top : top + WINDOW, left : left + WINDOW]
    x = x.contiguous(memory_format=torch.channels_last)
    for index, block in enumerate(generator.blocks):
        if index >= first:
            k = RESOLUTIONS[index + 1] // SIDE
            rows, columns = slice(k * top, k * (top + WINDOW)), slice(k * left, k * (left + WINDOW))
            noise = {f"{c}.noise": getattr(block, c).noise[..., rows, columns] for c in ("conv1", "conv2")}
            call = (x, ws[:, 2 * index + 1], ws[:, 2 * index + 2], deltas, f"layers.{index}")
            x = functional_call(block, noise, call)
    image = block.to_img(x, ws[:, -1], deltas, f"layers.{index}.to_img")
    border = MARGIN * image.shape[-1] // WINDOW
    return image[..., border:-border, border:-border]


def seen_through(goal: Tensor, top: int, left: int) -> Tensor:
    """Pictures (B, 3, S, S) -> what the window at this place shows of them."""
    k, side = goal.shape[-1] // SIDE, WINDOW - 2 * MARGIN
    rows, columns = (slice(k * (at + MARGIN), k * (at + MARGIN + side)) for at in (top, left))
    return goal[..., rows, columns]


def compare(ours: Tensor, goal: Tensor) -> dict[str, Tensor]:
    """Windows (B, 3, R, R) and goals (B, 3, S, S), RGB in [-1, 1] -> losses, means over the batch."""
    from kornia.metrics import ssim

    ours = engine.area_resize(ours, goal.shape[-1])
    pixel = sum(F.mse_loss(F.avg_pool2d(ours, size), F.avg_pool2d(goal, size)) for size in SIZES)
    return {"pixel": pixel, "structure": 1 - ssim((ours + 1) / 2, (goal + 1) / 2, 7).mean()}


class Run:
    """What a training carries from step to step, and from one life to the next: weights, their average, pairs seen."""

    def __init__(self, folder: Path, generator: MobileStyleGAN, image_net: EfficientNetLite0, settings: Settings):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.settings, self.seen, self.started = folder, settings, 0, time.monotonic()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            network, average = compact.start(image_net, generator), None
        if (folder / "state.json").exists():
            self.seen = json.loads((folder / "state.json").read_text())["seen"]
            network.load_state_dict(compact.load(folder / "training.safetensors").state_dict())
            average = compact.load(folder / "network.safetensors")
        parts = {"backbone": settings.backbone_rate, "direct": DIRECT_RATE}
        pace = Pace(settings.rate, settings.images, settings.batch, settings.ema, WARM_UP, parts)
        self.learner = Learner(network, average, generator.w_avg.device, pace)
        self.network, self.average = self.learner.network, self.learner.average
        self.recent: list[dict[str, float]] = []

    def save(self, measured: dict[str, float]) -> None:
        """Weights (fp16), their average, pairs seen, a row of the log: a file whole or not at all."""
        for name, network in (("training", self.network), ("network", self.average)):
            with replacing(self.folder / f"{name}.safetensors") as part:
                save_file(weights.half(network), part)
        means = {name: float(np.mean([row[name] for row in self.recent])) for name in ("pixel", "structure", "size")}
        row = {"seen": self.seen, "minutes": round((time.monotonic() - self.started) / 60, 2)} | measured | means
        with (self.folder / "log.csv").open("a", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            if file.tell() == 0:
                writer.writeheader()
            writer.writerow(row)
        with replacing(self.folder / "state.json") as part:
            part.write_text(json.dumps({"seen": self.seen, "settings": asdict(self.settings)}, indent=1) + "\n")
        self.recent = []
        print(" ".join(f"{name} {value:.4g}" for name, value in row.items()), flush=True)


@torch.no_grad()
def held_out(network: compact.CompactHyperNetwork, generator: MobileStyleGAN, pairs: Pairs) -> dict[str, float]:
    """L2 at 256 pixels of pairs that it was not trained on: without offsets, with those of one pass, and of two."""
    indices = torch.arange(min(JUDGED, pairs.held_out))
    goal, shown, ws = (part.to(generator.w_avg.device) for part in pairs.batch(indices))
    errors = []
    for x, y, w in zip(goal.split(1), shown.split(1), ws.split(1), strict=True):
        once = compact.offsets(network, x, y)
        image = generator.synthesis(w, once)
        twice = generator.synthesis(w, add(once, compact.offsets(network, x, image)))
        errors.append([F.mse_loss(engine.area_resize(i, GOAL).clamp(-1, 1), x).item() for i in (image, twice)])
    after, twice = np.mean(errors, 0)
    return {"before": pairs.parts["l2"][indices].mean().item(), "after": float(after), "twice": float(twice)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=Path, required=True, help="what hyperstyle.pairs wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; a run that is there goes on")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--minutes", type=float, help="stop after so long; the same command goes on later")
    parser.add_argument("--save", type=float, default=300, help="seconds between saves")
    for name, default in asdict(Settings()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    options = parser.parse_args()
    tune_allocator()
    generator = checkpoints.load(zoo.path("mobilestylegan-ffhq-1024")).to(options.device)
    network = image_network(load_file(zoo.path("efficientnet-lite0")))
    settings = Settings(**{name: getattr(options, name) for name in asdict(Settings())})
    train(generator, Pairs(options.pairs, settings.seed), network, options, settings)


if __name__ == "__main__":
    main()
