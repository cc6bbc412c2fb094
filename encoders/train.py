"""Train the compact encoder from the generator itself.

    python -m encoders.samples cache/ --count 20000                 # once: pictures with known codes
    python -m encoders.train --samples cache/ --out runs/e4e        # goes on where it was killed
    torchrun --nproc-per-node 4 -m encoders.train ...               # the same on four GPUs, or on the cores of a CPU

Losses of a batch of samples (photo x, its code u, the encoder's answer v, all whitened; y what v looks like):

    pixel + structure + perceptual + identity of (y, x)             `losses.picture`
    + code * mean |v - u|^2 + look * log(1 + (v - u)^T M (v - u))     where u is known
    + delta * |offsets| + adversarial * softplus(-D(v))               as in e4e (Tov et al., arXiv 2102.02766)

y is a preview (`stylegan2.preview`), an order of magnitude cheaper than a render, and x is given the faults that
the preview of u has (`allowed`); M is what a small error looks like (`metric`).  Offsets are switched on one
after the other.  Real photos (`--photos`, aligned crops), whose codes nobody knows, are a quarter of each batch.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from encoders import augment, compact, metric
from encoders.batches import Data, Photos
from encoders.efficientnet import EfficientNetLite0
from encoders.efficientnet import from_state as image_network
from encoders.latent_discriminator import LatentDiscriminator, Pool, discriminator_loss, encoder_loss, r1_penalty
from encoders.learner import Learner, Pace
from encoders.losses import identity, picture
from encoders.previewing import Follower
from stylegan2 import checkpoints, engine, preview, w_statistics, weights, zoo
from stylegan2.allocator import tune_allocator
from stylegan2.files import replacing
from stylegan2.generator import Generator

DIRECT_RATE = 0.1  # of the linear maps, whose 1536 inputs move their outputs together, in `rate`
FINE = 4.0  # fine rows that leave the others bring little likeness, and cost edits of age a quarter (measured)
Look = Callable[[Tensor], Tensor]  # ws (B, num_ws, w_dim) -> pictures (B, 3, R, R): a preview, or the generator itself
JUDGED, SHOWN = 32, 8  # held-out samples that are looked at in every save, and those of them that are rendered


@dataclass(frozen=True)
class Settings:
    """images: how many are seen in all, which the rate's decay needs to know; size: side of the pictures in pixels."""

    images: int = 200_000
    batch: int = 16
    size: int = compact.SIZE
    rate: float = 8e-4
    backbone_rate: float = 0.3
    pixel: float = 1.0
    structure: float = 0.3
    perceptual: float = 0.3
    identity: float = 0.3
    code: float = 0.1
    look: float = 0.2
    delta: float = 6e-3
    adversarial: float = 0.02
    r1: float = 10.0
    stage_images: int = 1500
    follow_every: int = 2
    ema: float = 0.998
    seed: int = 0


def train(generator: Generator, look: Look, network: EfficientNetLite0, options: argparse.Namespace,
          settings: Settings, rank: int = 0, world: int = 1, person: nn.Module | None = None) -> None:  # fmt: skip
    """The loop: batches by number until `settings.images` were seen; saves every `options.save` seconds.

    look: what a code looks like; where it is a Preview, it goes on learning with the encoder (`previewing.Follower`).
    """
    device = generator.w_avg.device
    statistics, data = w_statistics.load().to(device), Data(generator, options.samples, settings.size, settings.seed)
    rows = metric.fitting(generator, "renders")  # None: this generator has none, and does without that loss
    run = Run(options.out, generator, network, settings, device, options.init)
    follower = Follower(look, data) if isinstance(look, preview.Preview) and settings.follow_every else None
    model = run.encoder
    if world > 1:  # every process its own latent discriminator; offsets that are not switched on yet have no gradient
        model = torch.nn.parallel.DistributedDataParallel(model, find_unused_parameters=settings.stage_images > 0)
    photos = Photos(options.photos, settings.size, settings.seed) if options.photos else None
    saved = time.monotonic()
    while run.seen < settings.images:
        number = run.seen // (settings.batch * world) * world + rank
        goal, target, known, pictures = batch_of(data, photos, settings, number, device)
        photo = augment.camera(goal, settings.seed * 1_000_003 + number).contiguous(memory_format=torch.channels_last)
        last = run.encoder.num_ws - 1
        stage = min(last, run.seen // settings.stage_images) if settings.stage_images else last
        answer = model(photo, stage)
        ws = statistics.unwhiten(answer)
        wanted = goal + allowed(look, statistics.unwhiten(target), pictures, goal)
        losses = picture.compare(look(ws), wanted, network, person)
        if known.any():
            error = (answer - target)[known]
            losses["code"] = error.square().mean()
            if rows is not None:
                losses["look"] = metric.distance(error, rows).log1p().mean()
        losses["delta"] = offsets(answer)
        losses["adversarial"] = encoder_loss(run.discriminator(ws[:, : stage + 1]))
        run.learner.step(sum(getattr(settings, name) * loss for name, loss in losses.items()), run.seen)
        run.adversary_step(generator, ws.detach(), number)
        if follower and number // world % settings.follow_every == 0:
            losses["preview"] = torch.tensor(follower.step(ws[:1].detach(), number))
        run.seen += settings.batch * world
        run.recent.append({name: loss.item() for name, loss in losses.items()} | {"stage": stage})
        if rank == 0 and time.monotonic() - saved > options.save and run.seen < settings.images:
            run.save(held_out(run.average, generator, look, data, options.out), look)
            saved = time.monotonic()
        if options.minutes and time.monotonic() - run.started > 60 * options.minutes:
            break
    if rank == 0:
        run.save(held_out(run.average, generator, look, data, options.out), look)


def batch_of(data: Data, photos: Photos | None, settings: Settings, number: int,
             device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """-> pictures to match (B, 3, S, S), whitened codes (B, num_ws, w_dim), whether the code is the picture's (B,).

    The fourth are the codes' own pictures (b, 3, S, S): those of the last b of the batch, the first are real photos.
    """
    indices = data.indices(settings.batch, number)
    pictures, target = data.pictures(indices).to(device), data.codes[indices].float().to(device)
    goal, changed = augment.scene(pictures, settings.seed * 1_000_003 + number)
    known, few = ~changed, 0
    if photos is not None:
        few = max(1, settings.batch // 4)
        goal[:few] = photos.pictures(few, number).to(device)
        known[:few] = False
    return goal, target, known, pictures[few:]


def offsets(answer: Tensor) -> Tensor:
    """How far rows (B, num_ws, w_dim) are from the first: mean length, fine rows counted FINE times (scalar)."""
    lengths = (answer[:, 1:] - answer[:, :1]).square().sum(2).add(1e-6).sqrt()
    return torch.cat([lengths[:, : compact.LEVELS[0]], FINE * lengths[:, compact.LEVELS[0] :]], 1).mean()


def allowed(look: Look, ws: Tensor, pictures: Tensor, goal: Tensor) -> Tensor:
    """What a preview gets wrong about the samples' own codes, to be added to the goals (B, 3, S, S); no gradient.

    Without it the best answer is not the sample's code, but one whose preview makes up for the preview's errors.
    """
    result = torch.zeros_like(goal)
    with torch.no_grad():
        drawn = resized(look(ws[-len(pictures) :]), goal.shape[-1])
        result[-len(pictures) :] = drawn - pictures
    return result


def resized(images: Tensor, size: int) -> Tensor:
    """(B, 3, R, R) -> (B, 3, size, size): area-averaged where smaller, bilinear where larger."""
    if images.shape[-1] >= size:
        return engine.area_resize(images, size)
    return F.interpolate(images, size=(size, size), mode="bilinear")


class Run:
    """What a training carries from step to step, and from one life to the next: weights, their average, images seen."""

    def __init__(self, folder: Path, generator: Generator, network, settings: Settings, device: torch.device,
                 init: Path | None) -> None:  # fmt: skip
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.settings, self.seen, self.started = folder, settings, 0, time.monotonic()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            encoder, average = compact.start(network, generator), None
            self.discriminator, self.pool = LatentDiscriminator(generator.w_dim).to(device), Pool(seed=settings.seed)
            if init is not None and not (folder / "state.json").exists():
                encoder.load_state_dict(compact.load(init).state_dict())
        if (folder / "state.json").exists():
            average = self.restore(encoder)
        parts = {"backbone": settings.backbone_rate, "direct": DIRECT_RATE}
        pace = Pace(settings.rate, settings.images, settings.batch, settings.ema, parts=parts)
        self.learner = Learner(encoder, average, device, pace)
        self.encoder, self.average = self.learner.network, self.learner.average
        self.adversary = torch.optim.Adam(self.discriminator.parameters(), lr=1e-4, betas=(0.5, 0.99))
        self.recent: list[dict[str, float]] = []

    def restore(self, encoder: compact.CompactEncoder) -> compact.CompactEncoder:
        """Weights into encoder and discriminator; -> the average."""
        self.seen = json.loads((self.folder / "state.json").read_text())["seen"]
        state = load_file(self.folder / "training.safetensors")
        for prefix, module in (("encoder.", encoder), ("discriminator.", self.discriminator)):
            own = {name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)}
            module.load_state_dict({name: t.to(module.state_dict()[name].dtype) for name, t in own.items()})
        return compact.load(self.folder / "encoder.safetensors")

    def adversary_step(self, generator: Generator, ws: Tensor, number: int) -> None:
        """The latent discriminator learns codes of the mapping network against rows of the answers."""
        seeds = range(number * len(ws), (number + 1) * len(ws))
        real = engine.latents(generator, seeds, 1.0)
        fake = self.pool.query(ws)
        loss = discriminator_loss(self.discriminator(real), self.discriminator(fake))
        if number % 16 == 0:
            loss = loss + 16 * self.settings.r1 / 2 * r1_penalty(self.discriminator, real)
        self.adversary.zero_grad(set_to_none=True)
        loss.backward()
        self.adversary.step()

    def save(self, measured: dict[str, float], look: Look) -> None:
        """Weights (fp16), their average, the preview's, images seen, a row of the log: a file whole or not at all."""
        training = {f"encoder.{name}": tensor for name, tensor in weights.half(self.encoder).items()}
        training |= {f"discriminator.{name}": t.half().cpu() for name, t in self.discriminator.state_dict().items()}
        files = {"training": training, "encoder": weights.half(self.average)}
        if isinstance(look, preview.Preview):
            files["preview"] = weights.half(look.tail)
        for name, state in files.items():
            with replacing(self.folder / f"{name}.safetensors") as part:
                save_file(state, part)
        names = sorted({name for row in self.recent for name in row})
        means = {name: float(np.mean([row[name] for row in self.recent if name in row])) for name in names}
        row = {"seen": self.seen, "minutes": round((time.monotonic() - self.started) / 60, 2)} | measured | means
        log = self.folder / "log.csv"
        fields = ["seen", "minutes", *measured, "stage", "pixel", "structure", "perceptual", "identity", "code", "look",
                  "delta", "adversarial", "preview"]  # fmt: skip
        with log.open("a", newline="") as file:
            writer = csv.DictWriter(file, fields, restval="", extrasaction="ignore")
            if file.tell() == 0:
                writer.writeheader()
            writer.writerow(
                {name: f"{value:.5g}" if isinstance(value, float) else value for name, value in row.items()}
            )
        with replacing(self.folder / "state.json") as part:
            part.write_text(json.dumps({"seen": self.seen, "settings": asdict(self.settings)}, indent=1) + "\n")
        self.recent = []
        print(" ".join(f"{name} {value:.4g}" for name, value in row.items()), flush=True)


def held_out(encoder: compact.CompactEncoder, generator: Generator, look: Look, data: Data,
             folder: Path) -> dict[str, float]:  # fmt: skip
    """How the average does on samples that it was not trained on; `folder/grid.png` shows the first few and answers.

    l2 compares previews of all of them, render those of the first few.
    """
    device = generator.w_avg.device
    indices, statistics = np.arange(min(JUDGED, data.held_out)), w_statistics.load().to(device)
    pictures, codes = data.pictures(indices).to(device), data.codes[indices].float().to(device)
    with torch.no_grad():
        answers = torch.cat([encoder(few) for few in pictures.split(16)])
        ws = statistics.unwhiten(answers)
        looks = torch.cat([resized(look(few), data.size) for few in ws.split(16)])
        shown = [engine.area_resize(generator.synthesis(w), data.size) for w in ws[:SHOWN].split(1)]
    rows = [pictures[:SHOWN], torch.cat(shown)]
    result = {
        "held_out_code": (answers - codes).square().mean().item(),
        "held_out_l2": F.mse_loss(looks, pictures).item(),
        "held_out_render": F.mse_loss(rows[1], rows[0]).item(),
    }
    grid = np.concatenate([np.concatenate(list(engine.to_uint8(row)), 1) for row in rows])
    with replacing(folder / "grid.png") as part:
        Image.fromarray(grid).save(part)
    return result


def distributed(device: str) -> tuple[int, int, torch.device]:
    """-> rank, number of processes, device: from torchrun's environment where there is one."""
    world = int(os.environ.get("WORLD_SIZE", 1))
    if world == 1:
        return 0, 1, torch.device(device)
    torch.distributed.init_process_group("nccl" if device == "cuda" else "gloo")
    rank = torch.distributed.get_rank()
    return (
        rank,
        world,
        torch.device(device, int(os.environ["LOCAL_RANK"])) if device == "cuda" else torch.device(device),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=Path, nargs="+", required=True, help="what encoders.samples wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; a run that is there goes on")
    parser.add_argument("--init", type=Path, help="weights to begin from, of an earlier training")
    parser.add_argument("--photos", type=Path, help="aligned crops of real photos, used without labels")
    parser.add_argument("--preview", type=Path, default=preview.SHIPPED, help="weights of the generator's preview")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--minutes", type=float, help="stop after so long; the same command goes on later")
    parser.add_argument("--save", type=float, default=300, help="seconds between saves")
    for name, default in asdict(Settings()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    options = parser.parse_args()
    tune_allocator()
    rank, world, device = distributed(options.device)
    generator = checkpoints.load(zoo.path("mobilestylegan-ffhq-1024")).to(device)
    network = image_network(load_file(zoo.path("efficientnet-lite0"))).to(device)
    settings = Settings(**{name: getattr(options, name) for name in asdict(Settings())})
    person = identity.load(zoo.path("dlib-face-recognition")).to(device) if settings.identity else None
    own = options.out / "preview.safetensors"  # of a run that goes on
    look = preview.load(generator, own if own.exists() else options.preview)
    train(generator, look, network, options, settings, rank, world, person)


if __name__ == "__main__":
    main()
