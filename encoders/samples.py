"""Pictures with known codes, rendered once and kept: what the encoder and the hypernetwork are trained on.

    python -m encoders.samples cache/ --count 20000

A sample is its seed: truncation, style mixing and row noise are drawn from it (`Recipe`), so the
cache holds pictures only, codes are computed again, and a killed run goes on at the next shard.  Real photos lie
outside W; mixed and noisy rows show the encoder codes that do, too (style mixing: StyleGAN, Karras et
al., arXiv 1812.04948, sec. 3.1).
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stylegan2 import checkpoints, engine, w_statistics, zoo
from stylegan2.allocator import tune_allocator
from stylegan2.errors import UsageError
from stylegan2.files import replacing
from stylegan2.generator import Generator, truncate

SHARD = 250
SECOND = 1 << 31  # added to a seed: the code it is mixed with


@dataclass(frozen=True)
class Recipe:
    """How seeds become codes: psi uniform in `psi`; with chance `mixed`, fine rows of a second code from a random
    row on; with chance `noisy`, every row moved by `noise` standard deviations of whitened W."""

    psi: tuple[float, float] = (0.5, 1.0)
    mixed: float = 0.4
    noisy: float = 0.3
    noise: float = 0.25
    size: int = 256


def codes(generator: Generator, seeds: range, recipe: Recipe = Recipe()) -> Tensor:
    """seeds (N) -> ws (N, num_ws, w_dim) float32; the same for a seed whatever stands beside it."""
    statistics = w_statistics.load().to(generator.w_avg.device)
    first = engine.latents(generator, seeds, 1.0)
    second = engine.latents(generator, [seed + SECOND for seed in seeds], 1.0)
    result = engine.broadcast(generator, first).clone()
    for index, seed in enumerate(seeds):
        random = np.random.default_rng(seed)
        psi, chance, noisy = random.uniform(*recipe.psi), random.random(), random.random()
        crossover = int(random.integers(2, generator.num_ws - 2))
        if chance < recipe.mixed:
            result[index, crossover:] = second[index]
        result[index] = truncate(result[index], generator.w_avg, psi)
        if noisy < recipe.noisy:
            noise = random.standard_normal((generator.num_ws, generator.w_dim), dtype=np.float32)
            moved = statistics.whiten(result[index]) + recipe.noise * torch.from_numpy(noise).to(result)
            result[index] = statistics.unwhiten(moved)
    return result


def render(generator: Generator, ws: Tensor, size: int) -> np.ndarray:
    """ws (N, num_ws, w_dim) -> pictures (N, size, size, 3) uint8 RGB, area-averaged, one at a time."""
    with torch.inference_mode():
        images = [engine.area_resize(generator.synthesis(code), size) for code in ws.split(1)]
    return np.concatenate([engine.to_uint8(image) for image in images])


def write(generator: Generator, folder: Path, count: int, first_seed: int, recipe: Recipe = Recipe()) -> None:
    """Render `count` samples (rounded up to whole shards) into the folder; shards that are there stay."""
    folder.mkdir(parents=True, exist_ok=True)
    facts = {"family": generator.family, "first_seed": first_seed, "shard": SHARD, **asdict(recipe)}
    note = folder / "recipe.json"
    if note.exists() and json.loads(note.read_text()) != json.loads(json.dumps(facts)):
        raise UsageError(f"{folder} holds samples of another recipe: choose another folder.")
    with replacing(note) as part:
        part.write_text(json.dumps(facts, indent=1) + "\n")
    for start in range(first_seed, first_seed + count, SHARD):
        path = folder / f"{start}.npy"
        if path.exists():
            continue
        pictures = render(generator, codes(generator, range(start, start + SHARD), recipe), recipe.size)
        with replacing(path) as part:
            np.save(part, pictures)
        print(path, flush=True)


def read(folder: Path) -> tuple[list[np.ndarray], list[int], Recipe]:
    """-> the shards (SHARD, size, size, 3) uint8, mapped and not read, their first seeds, and their recipe."""
    note = folder / "recipe.json"
    if not note.exists():
        raise UsageError(f"{folder} holds no samples: make them with python -m encoders.samples {folder}")
    facts = json.loads(note.read_text())
    recipe = Recipe(tuple(facts["psi"]), *(facts[name] for name in ("mixed", "noisy", "noise", "size")))
    paths = sorted((path for path in folder.glob("*.npy") if not path.name.startswith(".")), key=lambda p: int(p.stem))
    return [np.load(path, mmap_mode="r") for path in paths], [int(path.stem) for path in paths], recipe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--first-seed", type=int, default=10_000_000)
    options = parser.parse_args()
    tune_allocator()
    generator = checkpoints.load(zoo.path("mobilestylegan-ffhq-1024"))
    write(generator, options.folder, options.count, options.first_seed)


if __name__ == "__main__":
    main()
