"""Heads that read pictures, on faces that nobody trained on: how near, how sharp, how alike, how many results.

    python -m editing.directions.sampling held/ --count 600 --first-seed 2000000
    python -m bench.pictures held/ --heads heads/rbdn.safetensors heads/pix2pix.safetensors heads/bicyclegan.safetensors
    python -m bench.pictures photos/aligned --shipped pix2pix:gray pix2pix:low

Full renders, compared at 256 pixels.  PSNR in decibels; sharpness: mean absolute Laplacian relative to the truth's;
perceptual: distance of EfficientNet-Lite0 features; person: mean distance of dlib's descriptors; lines: F1 of the dark
pixels of the answer's sketch and of the given one, a pixel of tolerance, at 128; spread: variance of what the ten first
components of W are, relative to the faces'.  Many results: mean perceptual distance between ten answers to one picture,
relative to that between random faces.

--shipped: methods of the package on photos of 1024 pixels, each by its answer alone and with its steps, against the
photo that something was taken from; with what a picture knows kept, as `translate apply` does.
"""

from __future__ import annotations

import argparse
import json
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from scipy import ndimage
from torch import Tensor

from bench.translation import laplacian
from editing.directions import sampling
from editing.heads.pictures import SIZE, PictureHead, load, view
from editing.judges.judge import judge
from editing.translation.degrade import WAYS, sketch
from encoders.efficientnet import from_state
from encoders.losses import perceptual
from stylegan2 import checkpoints, engine, w_statistics, zoo
from stylegan2.allocator import tune_allocator

COMPARED = 256
MANY, INPUTS = 10, 10
DARK = 160


def small(picture: np.ndarray, size: int) -> np.ndarray:
    side = picture.shape[0] // size
    return picture.reshape(size, side, size, side, 3).mean((1, 3)).round().astype(np.uint8)


def lines(picture: np.ndarray) -> np.ndarray:
    return sketch(small(picture, SIZE))[..., 0] < DARK


def f1(a: np.ndarray, b: np.ndarray) -> float:
    """Of two sets of pixels, those a pixel apart counting as one."""
    near = [ndimage.binary_dilation(x, np.ones((3, 3))) for x in (a, b)]
    precision, recall = (a & near[1]).sum() / max(1, a.sum()), (b & near[0]).sum() / max(1, b.sum())
    return float(2 * precision * recall / max(1e-9, precision + recall))


class Bench:
    def __init__(self, held: dict[str, np.ndarray], count: int) -> None:
        self.held, self.count = held, min(count, len(held["w"]))
        self.generator = checkpoints.load(zoo.path("mobilestylegan-ffhq-1024"))
        self.network = from_state(load_file(zoo.path("efficientnet-lite0")))
        self.pictures = held["picture"]

    def given(self, i: int, way: str) -> np.ndarray:
        return WAYS[way](small(self.pictures[i], SIZE), np.random.default_rng(i))

    @torch.no_grad()
    def rendered(self, ws: Tensor) -> np.ndarray:
        return engine.to_uint8(self.generator.synthesis(ws))[0]

    @torch.no_grad()
    def features(self, picture: np.ndarray) -> list[Tensor]:
        return perceptual.features(self.network, engine.to_float(small(picture, COMPARED)))

    def random_distance(self, count: int = 60) -> float:
        found = [self.features(picture) for picture in self.pictures[:count]]
        return float(np.mean([perceptual.distance(a, b).item() for a, b in zip(found, found[1:], strict=False)]))

    def row(self, head: PictureHead) -> dict[str, float]:
        rows, codes = [], []
        for i in range(self.count):
            given = self.given(i, head.way)
            ws = head(engine.to_float(given), seeds=[i])
            picture = self.rendered(ws)
            codes.append(view(w_statistics.load().whiten(ws))[0, :, :10].numpy())
            ours, truth = (engine.to_float(small(p, COMPARED)) for p in (picture, self.pictures[i]))
            scores = judge(picture)
            rows.append({
                "psnr": float(10 * torch.log10(4 / (ours - truth).square().mean())),
                "sharpness": float(laplacian(ours) / laplacian(truth)),
                "perceptual": perceptual.distance(self.features(picture), self.features(self.pictures[i])).item(),
                "person": float(np.linalg.norm(scores.descriptor - self.held["descriptor"][i])) if scores else np.nan,
                "lines": f1(lines(picture), self.given(i, "sketch")[..., 0] < DARK),
            })  # fmt: skip
        w = torch.from_numpy(self.held["w"][: self.count]).float()[:, None].expand(-1, 16, -1)
        spread = np.var(codes, 0).mean() / np.var(view(w_statistics.load().whiten(w))[:, :, :10].numpy(), 0).mean()
        return {key: float(np.nanmean([row[key] for row in rows])) for key in rows[0]} | {"spread": float(spread)}

    def many(self, head: PictureHead) -> dict[str, float]:
        """Distances between results for one picture, and how well their lines are the given ones."""
        apart, kept = [], []
        for i in range(INPUTS):
            drawn = [
                self.rendered(ws[None]) for ws in head(engine.to_float(self.given(i, head.way)), seeds=range(MANY))
            ]
            found = [self.features(picture) for picture in drawn]
            apart += [perceptual.distance(a, b).item() for a, b in combinations(found, 2)]
            wanted = self.given(i, "sketch")[..., 0] < DARK
            kept += [f1(lines(picture), wanted) for picture in drawn]
        return {"apart": float(np.mean(apart)), "lines": float(np.mean(kept))}


def shipped(folder: Path, names: list[str]) -> None:
    """A line for every method and number of steps: means over the photos."""
    from editing import session
    from editing.heads.drawing import kept
    from editing.inversion import Budget
    from editing.inversion.metrics import reconstruction_metrics

    editor = session.Editor()
    paths = sorted(path for path in folder.iterdir() if path.suffix in (".jpg", ".png"))
    print(
        "| method | steps | photos | PSNR, given | PSNR | MS-SSIM | identity distance | same person |\n|" + "---|" * 8
    )
    for name in names:
        for budget in (Budget(steps=1), Budget()):
            rows: list[dict[str, float]] = []
            for number, path in enumerate(paths):
                with Image.open(path) as image:
                    photo = np.asarray(image.convert("RGB").resize((1024, 1024), Image.Resampling.LANCZOS))
                given = WAYS[name.split(":")[1]](photo, np.random.default_rng(number))
                inversion = editor.strategies[name](editor.generator, session.to_tensor(given), budget=budget)
                drawn = session.to_rgb(session.synthesise(editor.generator, inversion))
                truth, lacks, found = map(session.to_tensor, (photo, given, kept(name.split(":")[1], given, drawn)))
                metrics = reconstruction_metrics(truth, found)
                errors = [float((one - truth).square().mean()) for one in (lacks, found)]
                rows.append(
                    {"id_distance": np.nan, "given": 10 * np.log10(4 / errors[0]), "psnr": 10 * np.log10(4 / errors[1])}
                    | metrics
                )
            mean = {key: np.nanmean([row[key] for row in rows]) for key in rows[0]}
            same = np.mean([row["id_distance"] < 0.45 for row in rows])
            print(
                f"| {name} | {inversion.steps} | {len(rows)} | {mean['given']:.1f} | {mean['psnr']:.1f} | "
                f"{mean['ms_ssim']:.3f} | {mean['id_distance']:.2f} | {same:.0%} |",
                flush=True,
            )


def sheet(bench: Bench, heads: list[PictureHead], path: Path, rows: int = 5, size: int = 192, many: int = 1) -> None:
    """The truth, and for every head what it was given and its answers."""
    found = []
    for i in range(rows):
        row = [small(bench.pictures[i], 128)]
        for head in heads:
            given = bench.given(i, head.way)
            row += [given, *(bench.rendered(ws[None]) for ws in head(engine.to_float(given), seeds=range(many)))]
        found.append(
            np.hstack([np.asarray(Image.fromarray(p).resize((size, size), Image.Resampling.LANCZOS)) for p in row])
        )
    Image.fromarray(np.vstack(found)).save(path, quality=85)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("held", type=Path)
    parser.add_argument("--heads", type=Path, nargs="+", default=[])
    parser.add_argument("--shipped", nargs="+", help="methods to try on the photos of the folder instead")
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--out", type=Path, help="JSON; goes on where it was stopped")
    parser.add_argument("--sheet", type=Path, help="only a picture of five faces")
    parser.add_argument("--many", type=int, default=1, help="answers of the sheet to one picture")
    options = parser.parse_args()
    tune_allocator()
    if options.shipped:
        shipped(options.held, options.shipped)
        return
    bench = Bench(sampling.load(options.held), options.count)
    heads = {name: head for path in options.heads for name, head in load(path).items()}
    heads = {name: head for name, head in heads.items() if not options.only or name in options.only}
    if options.sheet:
        sheet(bench, list(heads.values()), options.sheet, many=options.many)
        return
    found = json.loads(options.out.read_text()) if options.out and options.out.exists() else {}
    found.setdefault("random faces", {"apart": bench.random_distance()})
    for name, head in heads.items():
        if name not in found:
            found[name] = bench.row(head) | ({"many": bench.many(head)} if head.varies else {})
            print(name, json.dumps(found[name]), flush=True)
            if options.out:
                options.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found["random faces"]))


if __name__ == "__main__":
    main()
