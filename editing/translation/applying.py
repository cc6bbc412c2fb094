"""Using a published translation network on pictures: sizes, codes, labels, and files that say what made them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from editing import provenance
from editing.faces import photo as photos
from editing.translation import checkpoints
from editing.translation.degrade import WAYS
from editing.translation.networks import (
    RBDN,
    BicycleEncoder,
    BicycleGenerator,
    StarGANGenerator,
    UnetGenerator,
)
from editing.types import Recipe
from stylegan2 import engine
from stylegan2.errors import PhotoError, UsageError, WplusError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
LARGEST = 4096  # pixels along a side


@dataclass(frozen=True)
class Job:
    """See the options of `python -m editing.translate apply`."""

    network: Path
    how: str = ""
    size: int | None = None
    samples: int = 4
    like: Path | None = None
    encoder: Path | None = None
    label: list[float] | None = None
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.how and self.how not in WAYS:
            raise UsageError(f"There is no way {self.how!r} to degrade a picture; there are {', '.join(WAYS)}.")
        if (self.like is None) != (self.encoder is None):
            raise UsageError("--like needs --encoder, and the other way round.")


def run(job: Job, img: Path, out: Path) -> Iterator[tuple[Path, Path | WplusError]]:
    """Every picture of a file or folder, translated: (its path, a written file or what was wrong with it)."""
    network = checkpoints.load_generator(job.network).to(job.device)
    calls = prepared(job, network)
    paths = sorted(p for p in img.rglob("*") if p.suffix.lower() in SUFFIXES) if img.is_dir() else [img]
    if not paths:
        raise UsageError(f"There are no pictures in {img}.")
    out.mkdir(parents=True, exist_ok=True)
    for path in paths:
        try:
            results = translated(job, network, calls, path)
        except WplusError as error:
            yield path, error
            continue
        for number, result in enumerate(results):
            name = f"{path.stem}.png" if len(results) == 1 else f"{path.stem}.{number}.png"
            target = out / (path.parent.relative_to(img) if img.is_dir() else "") / name
            target.parent.mkdir(parents=True, exist_ok=True)
            yield path, provenance.save(photos.from_rgb(result), target, Recipe(), sidecar=False)


def prepared(job: Job, network: nn.Module) -> list[tuple[Tensor, ...]]:
    """What a network takes besides the picture, one tuple a result."""
    if isinstance(network, StarGANGenerator):
        if job.label is None or len(job.label) != network.domains:
            raise UsageError(f"This StarGAN has {network.domains} domains: give --label as often, 0 or 1 each.")
        return [(torch.tensor([job.label], device=job.device),)]
    if job.label is not None:
        raise UsageError("--label is for StarGAN.")
    if isinstance(network, BicycleGenerator):
        if job.encoder is not None:
            return [(style(job, network),)]
        random = np.random.default_rng(job.seed).standard_normal((job.samples, 1, network.nz), np.float32)
        return [(torch.from_numpy(z).to(job.device),) for z in random]
    if job.encoder is not None:
        raise UsageError("--like and --encoder are for BicycleGAN.")
    return [()]


def style(job: Job, network: BicycleGenerator) -> Tensor:
    """The mean code (1, nz) of the picture whose style is taken."""
    encoder = checkpoints.load(job.encoder)
    if not isinstance(encoder, BicycleEncoder):
        raise UsageError(f"{job.encoder} holds {checkpoints.named(encoder)}, not BicycleGAN's encoder.")
    side = 16 * 2 ** len([name for name, _ in encoder.named_modules() if name.endswith("shortcut")])
    picture = Image.fromarray(pixels(job.like)).resize((side, side), Image.Resampling.BICUBIC)
    with torch.no_grad():
        code = encoder.to(job.device)(engine.to_float(np.asarray(picture)).to(job.device))[0]
    if code.shape[1] != network.nz:
        raise UsageError(f"The encoder's codes have {code.shape[1]} numbers, the generator's {network.nz}.")
    return code


def pixels(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB of any photo."""
    return photos.load(path).rgb


@torch.no_grad()
def translated(job: Job, network: nn.Module, calls: list[tuple[Tensor, ...]], path: Path) -> list[np.ndarray]:
    """One picture -> results (H, W, 3) uint8."""
    picture = pixels(path)
    if job.size:
        picture = np.asarray(Image.fromarray(picture).resize((job.size, job.size), Image.Resampling.LANCZOS))
    picture = WAYS[job.how](picture, np.random.default_rng(job.seed)) if job.how else picture
    height, width = picture.shape[:2]
    if max(height, width) > LARGEST:
        raise PhotoError(f"{path} is {width}x{height} pixels; at most {LARGEST} fit: --size 1024 makes it smaller.")
    exact = isinstance(network, UnetGenerator | BicycleGenerator)
    if exact and (height % network.size or width % network.size):
        wanted = f"sides that are multiples of {network.size}"
        raise PhotoError(f"{path} is {width}x{height} pixels; this network needs {wanted}: --size {network.size}.")
    x = engine.to_float(picture).to(job.device)
    step = network.size
    x = F.pad(x, (0, -width % step, 0, -height % step), mode="replicate")  # the others take any size, rounded up
    published = isinstance(network, RBDN) and job.network.suffix == ".caffemodel"
    results = []
    for call in calls:
        if published:  # BGR of 0 to 255
            y = network((x.flip(1) + 1) * 127.5).flip(1) / 127.5 - 1
        else:
            y = network(x, *call)
        results.append(engine.to_uint8(y[..., :height, :width])[0])
    return results
