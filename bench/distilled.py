"""Distilled edits against the latent edits that taught them, on faces that nobody trained on; prints Markdown tables.

    python -m bench.distilled --count 60 --photos photos/aligned
    python -m bench.distilled --sheet sheet.png --count 4

Both forms at both ends of what the network has seen.  Moves: what the edit's judge says, in standard deviations of
the population; right: the share of faces that it moves the way it should; distance: median of dlib's descriptors,
before and after; PSNR in decibels against the latent edit at 512 pixels, and of the unedited picture against it.
Photos: aligned crops, which the network sees as they are; nothing is inverted.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from editing.directions import catalogue
from editing.directions.calibrate import aim
from editing.heads import distilled
from editing.heads.distilled import Distilled
from editing.judges import population
from editing.judges.judge import Scores, distance, judge
from editing.steps import cleaner
from editing.translation.factory import with_steps
from editing.types import latent_step
from stylegan2 import checkpoints, engine, zoo
from stylegan2.allocator import tune_allocator

FIRST, PSI = 40_000_000, 0.7


def ends(network: Distilled) -> list[tuple[str, float]]:
    return [(name, end) for name, both in zip(network.edits, network.ends, strict=True) for end in both if end]


def student(network: Distilled, picture: np.ndarray, name: str, end: float) -> np.ndarray:
    return engine.to_uint8(network.edit(engine.to_float(picture), {name: end}))[0]


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    a, b = (engine.area_resize(engine.to_float(each), 512) for each in (one, other))
    return float(10 * torch.log10(4 / (a - b).square().mean()))


def figures(before: Scores, after: Scores | None, name: str, end: float, known: catalogue.Catalogue) -> tuple:
    """How far the target went the right way, in standard deviations, and the distance; nan where no face is left."""
    if after is None:
        return np.nan, np.nan
    names, _, spread = population.arrays()
    target, towards = aim(known[name])
    moved = (after.values[names[target]] - before.values[names[target]]) / spread[target]
    return towards * np.sign(end) * moved, distance(before.descriptor, after.descriptor)


def on_generated(network: Distilled, count: int) -> None:
    known, found = catalogue.load(), defaultdict(list)
    generator = checkpoints.load(zoo.path("mobilestylegan-ffhq-1024"))
    for _, w, picture in engine.faces(generator, range(FIRST, FIRST + count), PSI):
        before, ws = judge(picture), engine.broadcast(generator, w[None])
        if before is None:
            continue
        for name, end in ends(network):
            latent = with_steps(generator, ws, [cleaner(latent_step(name, end), known)], known, generator.resolution)
            ours = student(network, picture, name, end)
            rows = [figures(before, judge(each), name, end, known) for each in (latent, ours)]
            found[name, end].append((*rows[0], *rows[1], psnr(ours, latent), psnr(picture, latent)))
    print("| edit | moves: latent | distilled | right: latent | distilled | distance: latent | distilled | PSNR "
          "| unedited |\n|" + "---|" * 9)  # fmt: skip
    for (name, end), rows in found.items():
        table = np.array(rows)
        mean, right, median = np.nanmean(table, 0), (table > 0).mean(0), np.nanmedian(table, 0)
        print(f"| {name} {end:+g} | {mean[0]:.2f} | {mean[2]:.2f} | {right[0]:.0%} | {right[2]:.0%} | {median[1]:.2f} "
              f"| {median[3]:.2f} | {mean[4]:.1f} | {mean[5]:.1f} |", flush=True)  # fmt: skip


def photos(folder: Path) -> list[np.ndarray]:
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".png"))
    return [np.asarray(Image.open(p).convert("RGB").resize((1024, 1024), Image.Resampling.LANCZOS)) for p in paths]


def on_photos(network: Distilled, pictures: list[np.ndarray]) -> None:
    known = catalogue.load()
    scored = [(picture, scores) for picture in pictures if (scores := judge(picture)) is not None]
    print(f"\n| edit, on {len(scored)} photos | moves | right | distance |\n|---|---|---|---|")
    for name, end in ends(network):
        rows = [figures(before, judge(student(network, picture, name, end)), name, end, known)
                for picture, before in scored]  # fmt: skip
        table = np.array(rows)
        print(f"| {name} {end:+g} | {np.nanmean(table[:, 0]):.2f} | {(table[:, 0] > 0).mean():.0%} "
              f"| {np.nanmedian(table[:, 1]):.2f} |", flush=True)  # fmt: skip


def speed(network: Distilled, times: int = 10) -> float:
    """Milliseconds for a crop of 1024 pixels, the median."""
    picture, name = torch.zeros(1, 3, 1024, 1024), network.edits[0]
    spent = []
    for _ in range(times + 2):
        begun = time.perf_counter()
        network.edit(picture, {name: 1.0})
        spent.append(1000 * (time.perf_counter() - begun))
    return float(np.median(spent[2:]))


def sheet(network: Distilled, pictures: list[np.ndarray], path: Path, side: int = 224) -> None:
    """A row a face: the face, and every edit at its ends."""
    rows = []
    for picture in pictures:
        row = [picture, *(student(network, picture, name, end) for name, end in ends(network))]
        rows.append(
            np.hstack(
                [np.asarray(Image.fromarray(each).resize((side, side), Image.Resampling.LANCZOS)) for each in row]
            )
        )
    Image.fromarray(np.vstack(rows)).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, help="else those that ship")
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--sheet", type=Path, help="only a picture: of --photos, else of generated faces")
    options = parser.parse_args()
    tune_allocator()
    network = distilled.load(options.weights)
    if options.sheet:
        generator = checkpoints.load(zoo.path("mobilestylegan-ffhq-1024"))
        faces = engine.faces(generator, range(FIRST, FIRST + options.count), PSI)
        return sheet(
            network, photos(options.photos)[: options.count] if options.photos else [f[2] for f in faces], options.sheet
        )
    print(f"{speed(network):.0f} ms a crop of 1024 pixels, {torch.get_num_threads()} threads\n")
    on_generated(network, options.count)
    if options.photos:
        on_photos(network, photos(options.photos))


if __name__ == "__main__":
    main()
