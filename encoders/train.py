"""Train the compact encoder from the generator itself.

    python -m encoders.samples cache/ --count 20000                 # once: pictures with known codes
    python -m encoders.train --samples cache/ --out runs/e4e        # goes on where it was killed
    torchrun --nproc-per-node 4 -m encoders.train ...               # the same on four GPUs

Losses of a batch of samples (photo x, its code u, the encoder's answer v, all whitened):

    code * mean |v - u|^2 + look * log(1 + (v - u)^T M (v - u)) + delta * |offsets| + adversarial * softplus(-D(v))

M is what a small error looks like (`losses.code`), at no render; pictures differ only so much, hence the
log.  Every `render_every` steps a few answers are rendered, and pixels, features and the person are compared
as well; real photos (`--photos`, aligned crops), whose codes nobody knows, join there alone.  Offsets are
switched on one after the other (e4e, Tov et al.), and half of the batches start from an earlier answer
and its picture (`encoders.restyle`).
"""

from __future__ import annotations

import argparse
import copy
import csv
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from encoders import compact, samples
from encoders.augment import augment
from encoders.efficientnet import EfficientNetLite0
from encoders.efficientnet import from_state as image_network
from encoders.latent_discriminator import LatentDiscriminator, Pool, discriminator_loss, encoder_loss, r1_penalty
from encoders.losses import code as code_loss
from encoders.losses import identity, perceptual
from stylegan2 import checkpoints, engine, w_statistics, zoo
from stylegan2.allocator import tune_allocator
from stylegan2.errors import UsageError
from stylegan2.generator import Generator

METRIC_SEED = 7_000_000  # the metric's own faces
HELD_OUT = 1  # shards that are never trained on: they say how well it does
FACE_CHIP = np.array([[0.00464, 0.0, 0.1584], [0.0, 0.00464, 0.25809]])  # identity chip of an aligned face, side 1


@dataclass(frozen=True)
class Settings:
    """images: how many are seen in all, which the rate's decay needs to know; size: side of the pictures in pixels."""

    images: int = 400_000
    batch: int = 32
    size: int = 256
    rate: float = 1e-3
    backbone_rate: float = 0.3
    code: float = 0.5
    look: float = 0.5
    delta: float = 2e-3
    adversarial: float = 0.02
    r1: float = 10.0
    stage_images: int = 1500
    render_every: int = 0
    render_batch: int = 2
    pixel: float = 1.0
    perceptual: float = 0.5
    identity: float = 0.3
    metric_draws: int = 200
    ema: float = 0.998
    seed: int = 0


class Data:
    """The samples of some folders: batches by number, so that any run can go on anywhere."""

    def __init__(self, generator: Generator, folders: list[Path], size: int, seed: int) -> None:
        statistics, codes = w_statistics.load(), []
        self.shards: list[np.ndarray] = []
        self.earlier: list[dict[str, np.ndarray] | None] = []
        for folder in folders:
            shards, first, recipe = samples.read(folder)
            for start, shard in zip(first, shards, strict=True):
                ws = samples.codes(generator, range(start, start + len(shard)), recipe).cpu()
                codes.append(statistics.whiten(ws).half())
                path = folder / "earlier" / f"{start}.npz"
                self.earlier.append(dict(np.load(path)) if path.exists() else None)
                self.shards.append(shard)
        if len(self.shards) <= HELD_OUT:
            raise UsageError(f"There are {len(self.shards)} shards of samples; training needs {HELD_OUT + 1} or more.")
        self.codes, self.size, self.seed = torch.cat(codes), size, seed
        self.places = [(shard, row) for shard, rows in enumerate(self.shards) for row in range(len(rows))]
        self.held_out = sum(len(shard) for shard in self.shards[:HELD_OUT])

    def __len__(self) -> int:
        return len(self.codes) - self.held_out

    def indices(self, batch: int, number: int) -> np.ndarray:
        """The samples of batch `number`: every epoch its own order."""
        places = np.arange(batch * number, batch * (number + 1))
        epochs = places // len(self)
        orders = {e: np.random.default_rng((self.seed, e)).permutation(len(self)) for e in np.unique(epochs)}
        return self.held_out + np.array([orders[e][p % len(self)] for e, p in zip(epochs, places, strict=True)])

    def pictures(self, indices: np.ndarray) -> Tensor:
        """-> (B, 3, size, size) in [-1, 1]"""
        stack = np.stack([self.shards[shard][row] for shard, row in (self.places[index] for index in indices)])
        return engine.area_resize(engine.to_float(stack), self.size)

    def starts(self, indices: np.ndarray, number: int, mean: Tensor) -> tuple[Tensor, Tensor]:
        """Where the encoder starts from -> codes (B, num_ws, w_dim) whitened, their pictures (B, 3, size, size)."""
        random = np.random.default_rng((self.seed, 1, number))
        codes, pictures = torch.zeros(len(indices), *self.codes.shape[1:]), mean.repeat(len(indices), 1, 1, 1)
        for place, index in enumerate(indices):
            shard, row = self.places[index]
            earlier = self.earlier[shard]
            if earlier is not None and random.random() < 0.5:
                codes[place] = torch.from_numpy(earlier["u"][row].astype(np.float32))
                picture = engine.to_float(earlier["pictures"][row])
                pictures[place] = engine.area_resize(picture, self.size)[0]
        return codes, pictures


def train(generator: Generator, network: EfficientNetLite0, options: argparse.Namespace, settings: Settings,
          rank: int = 0, world: int = 1, person: nn.Module | None = None) -> None:  # fmt: skip
    """The loop: batches by number until `settings.images` were seen; saves every `options.save` seconds."""
    device = generator.w_avg.device
    statistics, data = w_statistics.load().to(device), Data(generator, options.samples, settings.size, settings.seed)
    metric = look_metric(generator, network, settings, options.samples[0]).to(device)
    run = Run(options.out, generator, network, settings, device)
    encoder = run.encoder
    model = torch.nn.parallel.DistributedDataParallel(encoder) if world > 1 else encoder
    mean = compact.mean_face(encoder, settings.size).to(device)
    photos = Photos(options.photos) if options.photos else None
    saved = time.monotonic()
    while run.seen < settings.images:
        number = run.seen // (settings.batch * world) * world + rank
        indices = data.indices(settings.batch, number)
        clean = data.pictures(indices).to(device)
        photo = augment(clean, settings.seed * 1_000_003 + number).contiguous(memory_format=torch.channels_last)
        start, rendered = (tensor.to(device) for tensor in data.starts(indices, number, mean.cpu()))
        target = data.codes[indices].float().to(device)
        stage = min(encoder.num_ws - 1, run.seen // settings.stage_images)
        answer = start + model(photo, rendered, stage)
        error = answer - target
        losses = {
            "code": settings.code * error.square().mean(),
            "look": settings.look * code_loss.distance(error, metric).log1p().mean(),
            "delta": settings.delta * (answer[:, 1:] - answer[:, :1]).square().sum(2).add(1e-6).sqrt().mean(),
            "adversarial": settings.adversarial * run.adversarial(statistics.unwhiten(answer), stage),
        }
        if settings.render_every and number % settings.render_every == 0:
            few = slice(0, settings.render_batch)
            ws, goal = statistics.unwhiten(answer[few]), clean[few]
            if photos and number // settings.render_every % 2:
                goal = engine.area_resize(photos.batch(settings.render_batch, number).to(device), settings.size)
                ws = statistics.unwhiten(model(goal, mean.expand_as(goal)))
            losses |= picture_losses(generator.synthesis(ws), goal, network, person, settings)
        run.step(sum(losses.values()))
        run.adversary_step(generator, statistics, answer.detach(), number)
        run.seen += settings.batch * world
        run.log({name: loss.item() for name, loss in losses.items()}, stage)
        if rank == 0 and time.monotonic() - saved > options.save and run.seen < settings.images:
            run.save(held_out(run.average, generator, data, metric))
            saved = time.monotonic()
        if options.minutes and time.monotonic() - run.started > 60 * options.minutes:
            break
    if rank == 0:
        run.save(held_out(run.average, generator, data, metric))


def picture_losses(images: Tensor, goal: Tensor, network, person, settings: Settings) -> dict[str, Tensor]:
    """Rendered images (B, 3, R, R) against goals (B, 3, S, S): pixels, features and the person."""
    small = engine.area_resize(images, goal.shape[-1])
    features = (perceptual.features(network, x) for x in (small, goal))
    faces = [identity.extract_chips(x, FACE_CHIP * x.shape[-1]) for x in (small, goal)]
    ours, theirs = (person(chip) for chip in faces)
    return {
        "pixel": settings.pixel * F.mse_loss(small, goal),
        "perceptual": settings.perceptual * perceptual.distance(*features).mean(),
        "identity": settings.identity * (ours - theirs).square().sum(1).mean(),
    }


class Photos:
    """Real photos, aligned crops of a user's folder: pictures without codes."""

    def __init__(self, folder: Path) -> None:
        self.paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
        if not self.paths:
            raise UsageError(f"There are no photos in {folder}.")

    def batch(self, count: int, number: int) -> Tensor:
        """-> (count, 3, 256, 256) in [-1, 1]"""
        from PIL import Image

        chosen = np.random.default_rng((2, number)).integers(0, len(self.paths), count)
        pictures = []
        for index in chosen:
            with Image.open(self.paths[index]) as picture:
                pictures.append(np.asarray(picture.convert("RGB").resize((compact.SIZE, compact.SIZE), Image.BOX)))
        return engine.to_float(np.stack(pictures))


class Run:
    """What a training carries from step to step, and from one life to the next: weights, their average, images seen.

    The optimisers' moments are not kept: after a restart they warm up again.
    """

    def __init__(self, folder: Path, generator: Generator, network, settings: Settings, device: torch.device) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.settings, self.seen, self.steps, self.started = folder, settings, 0, 0, time.monotonic()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.encoder = compact.start(network, generator)
            self.discriminator, self.pool = LatentDiscriminator(generator.w_dim).to(device), Pool(seed=settings.seed)
        self.average = copy.deepcopy(self.encoder)
        if (folder / "state.json").exists():
            self.restore()
        self.encoder = self.encoder.to(device, memory_format=torch.channels_last)
        self.average = self.average.to(device, memory_format=torch.channels_last).requires_grad_(False)
        backbone = {id(parameter) for parameter in self.encoder.backbone.parameters()}
        groups = [
            {"params": [p for p in self.encoder.parameters() if (id(p) in backbone) == inside], "factor": factor}
            for inside, factor in ((True, settings.backbone_rate), (False, 1.0))
        ]
        self.adam = torch.optim.AdamW(groups, lr=settings.rate, betas=(0.9, 0.99), weight_decay=0.01)
        self.adversary = torch.optim.Adam(self.discriminator.parameters(), lr=1e-4, betas=(0.5, 0.99))
        self.recent: list[dict[str, float]] = []

    def restore(self) -> None:
        self.seen = json.loads((self.folder / "state.json").read_text())["seen"]
        state = load_file(self.folder / "training.safetensors")
        for prefix, module in (("encoder.", self.encoder), ("discriminator.", self.discriminator)):
            own = {name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)}
            module.load_state_dict({name: t.to(module.state_dict()[name].dtype) for name, t in own.items()})
        self.average.load_state_dict(compact.load(self.folder / "encoder.safetensors").state_dict())

    def rate(self) -> float:
        """Warm-up over 100 steps of this life, then a cosine down to 2% over all images."""
        progress = min(1.0, self.seen / self.settings.images)
        return min(1.0, (self.steps + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * progress)))

    def step(self, loss: Tensor) -> None:
        """One step of the encoder and of its running average."""
        self.adam.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.encoder.parameters(), 1.0)
        for group in self.adam.param_groups:
            group["lr"] = self.settings.rate * group["factor"] * self.rate()
        self.adam.step()
        self.steps += 1
        keep = min(self.settings.ema, self.seen / (self.seen + 20 * self.settings.batch))
        with torch.no_grad():
            for mine, theirs in zip(self.average.parameters(), self.encoder.parameters(), strict=True):
                mine.lerp_(theirs, 1 - keep)

    def adversarial(self, ws: Tensor, stage: int) -> Tensor:
        return encoder_loss(self.discriminator(ws[:, : stage + 1]))

    def adversary_step(self, generator: Generator, statistics, answer: Tensor, number: int) -> None:
        """The latent discriminator learns codes of the mapping network against rows of the answers."""
        seeds = range(number * len(answer), (number + 1) * len(answer))
        real = engine.latents(generator, seeds, 1.0)
        fake = self.pool.query(statistics.unwhiten(answer))
        loss = discriminator_loss(self.discriminator(real), self.discriminator(fake))
        if number % 16 == 0:
            loss = loss + 16 * self.settings.r1 / 2 * r1_penalty(self.discriminator, real)
        self.adversary.zero_grad(set_to_none=True)
        loss.backward()
        self.adversary.step()

    def log(self, losses: dict[str, float], stage: int) -> None:
        self.recent.append(losses | {"stage": stage})

    def save(self, measured: dict[str, float]) -> None:
        """Weights (fp16), their average, the count of images, a row of the log: each file whole or not at all."""
        training = {f"encoder.{name}": tensor for name, tensor in compact.state(self.encoder).items()}
        training |= {f"discriminator.{name}": t.half().cpu() for name, t in self.discriminator.state_dict().items()}
        for name, state in (("training", training), ("encoder", compact.state(self.average))):
            part = self.folder / f".{name}.{os.getpid()}"
            save_file(state, part)
            os.replace(part, self.folder / f"{name}.safetensors")
        names = sorted({name for row in self.recent for name in row})
        means = {name: float(np.mean([row[name] for row in self.recent if name in row])) for name in names}
        row = {"seen": self.seen, "minutes": round((time.monotonic() - self.started) / 60, 2)} | measured | means
        log = self.folder / "log.csv"
        fields = ["seen", "minutes", *measured, "stage", "code", "look", "delta", "adversarial", "pixel", "perceptual",
                  "identity"]  # fmt: skip
        with log.open("a", newline="") as file:
            writer = csv.DictWriter(file, fields, restval="", extrasaction="ignore")
            if file.tell() == 0:
                writer.writeheader()
            writer.writerow(
                {name: f"{value:.5g}" if isinstance(value, float) else value for name, value in row.items()}
            )
        part = self.folder / f".state.{os.getpid()}"
        part.write_text(json.dumps({"seen": self.seen, "settings": asdict(self.settings)}, indent=1) + "\n")
        os.replace(part, self.folder / "state.json")
        self.recent = []
        print(" ".join(f"{name} {value:.4g}" for name, value in row.items()), flush=True)


def held_out(encoder: compact.CompactEncoder, generator: Generator, data: Data, metric: Tensor,
             shown: int = 8) -> dict[str, float]:  # fmt: skip
    """How the average does on samples that it was not trained on; `shown` of them are rendered, for L2 and a grid."""
    device = metric.device
    indices = np.arange(data.held_out)
    pictures = data.pictures(indices).to(device)
    with torch.no_grad():
        mean = compact.mean_face(encoder, data.size).to(device)
        answer = torch.cat([encoder(batch, mean.expand_as(batch)) for batch in pictures.split(25)])
        error = answer - data.codes[indices].float().to(device)
        ws = w_statistics.load().to(device).unwhiten(answer[:shown])
        copies = torch.cat([engine.area_resize(generator.synthesis(w), data.size) for w in ws.split(1)])
    return {
        "held_out_code": error.square().mean().item(),
        "held_out_look": code_loss.distance(error, metric).log1p().mean().item(),
        "held_out_l2": F.mse_loss(copies, pictures[:shown]).item(),
    }


def look_metric(generator: Generator, network, settings: Settings, folder: Path) -> Tensor:
    """The pull-back metric of `losses.code`, computed once and kept beside the samples."""
    path = folder / f"metric-{settings.metric_draws}.safetensors"
    if not path.exists():
        part = folder / f".metric.{os.getpid()}"
        save_file({"metric": code_loss.pull_back(generator, network, settings.metric_draws, METRIC_SEED).cpu()}, part)
        os.replace(part, path)
    return load_file(path)["metric"]


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
    parser.add_argument("--photos", type=Path, help="aligned crops of real photos, used without labels")
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
    person = identity.load(zoo.path("dlib-face-recognition")).to(device) if settings.render_every else None
    train(generator, network, options, settings, rank, world, person)


if __name__ == "__main__":
    main()
