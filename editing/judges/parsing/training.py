"""Train the face parser on generated faces that the reader has labelled.

    python -m editing.directions.sampling samples/ --count 2600
    python -m editing.judges.parsing.training samples/ --out editing/judges/parsing/parser.safetensors

Only the decoder learns.  What real photos have and generated ones lack comes from augmentation: other backgrounds
(the labels say where they are), crops that sit a little off, other light and colours, and a camera.  Labels are kept
beside the samples and the weights are written as it goes, so a training that was killed goes on with `--init`.
"""

from __future__ import annotations

import argparse
import time
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from editing.directions.sampling import load as load_samples
from editing.judges.parsing import network, reader
from editing.judges.parsing.labels import CLASSES, INNER, from_landmarks, intersection_over_union
from encoders import augment
from encoders.batches import epoch_order
from encoders.learner import Learner, Pace
from stylegan2 import checkpoints, engine, weights, zoo
from stylegan2.allocator import tune_allocator
from stylegan2.files import replacing
from stylegan2.generator import Generator

HELD_OUT = 100  # the last samples: never trained on
BACKGROUNDS = 0.4  # share of pictures that get another one's background
TURN, SCALE, SHIFT = 0.15, 0.15, 0.06  # radians, factor, halves of the picture: how far a crop may sit off
SAVE_EVERY = 100


def labelled(generator: Generator, folder: Path, limit: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Samples of a folder -> pictures (N, 256, 256, 3) and labels (N, 256, 256), uint8.

    What the reader says is kept in `folder`/labels.npy.
    """
    table = load_samples(folder)
    codes, pictures, kept = table["w"][:limit], table["picture"][:limit], folder / "labels.npy"
    found = list(np.load(kept)) if kept.exists() else []
    reads = reader.load()
    for number, w in enumerate(torch.from_numpy(codes[len(found) :]), len(found) + 1):
        found.append(reader.labels(reads, generator, engine.broadcast(generator, w[None]))[0])
        if number % 200 == 0 or number == len(codes):
            with replacing(kept) as part, open(part, "wb") as stream:
                np.save(stream, np.stack(found))
            print(f"{number} of {len(codes)} labelled", flush=True)
    resolution = generator.resolution
    drawn = [from_landmarks(landmarks, resolution, network.SIZE) for landmarks in table["landmarks"][: len(codes)]]
    return pictures, np.stack([combined(*pair) for pair in zip(found, drawn, strict=False)])


def combined(read: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Labels of the reader and of the landmarks -> of both: landmarks outline the inner face, but not through hair or
    glasses; all else is the reader's."""
    inner = [CLASSES.index(name) for name in INNER]
    bare = np.isin(read, [CLASSES.index("skin"), *inner])
    result = np.where(bare & np.isin(read, inner), CLASSES.index("skin"), read)
    return np.where(bare & np.isin(drawn, inner), drawn, result).astype(np.uint8)


@cache
def _light():
    """Colours, light and contrast; every picture of a batch draws its own (kornia works in [0, 1])."""
    from kornia import augmentation as K

    return K.AugmentationSequential(
        K.ColorJiggle(brightness=0.15, contrast=0.3, saturation=0.5, hue=0.03, p=0.8),
        K.RandomGamma((0.6, 1.6), p=0.5),
        K.RandomLinearIllumination((0.05, 0.35), p=0.4),
        K.RandomGrayscale(p=0.05),
        data_keys=["input"],
    )


def disturbed(images: Tensor, truth: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """images (B, 3, S, S) in [-1, 1] and labels (B, S, S) -> the same, as a photo might have them; by seed."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        batch = len(images)
        behind = truth == CLASSES.index("background")
        swapped = behind & (torch.rand(batch, 1, 1) < BACKGROUNDS) & behind.roll(1, 0)
        images = torch.where(swapped[:, None], images.roll(1, 0), images)
        turn, scale = (torch.rand(batch) * 2 - 1) * TURN, 1 + (torch.rand(batch) * 2 - 1) * SCALE
        mirror = torch.where(torch.rand(batch) < 0.5, -1.0, 1.0)
        cos, sin = turn.cos() * scale, turn.sin() * scale
        shift = (torch.rand(batch, 2) * 2 - 1) * SHIFT
        rows = [torch.stack([cos * mirror, -sin, shift[:, 0]], 1), torch.stack([sin * mirror, cos, shift[:, 1]], 1)]
        grid = F.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
        options = {"padding_mode": "reflection", "align_corners": False}
        moved = F.grid_sample(images, grid, **options)
        labels = F.grid_sample(truth[:, None].float(), grid, mode="nearest", **options)
        lit = _light()((moved + 1) / 2).clamp(0, 1) * 2 - 1
    return augment.camera(lit, seed + 1), labels[:, 0].long()


def train(folder: Path, out: Path, images: int, batch: int, rate: float, init: Path | None, seen: int,
          seed: int = 0, limit: int | None = None) -> float:  # fmt: skip
    """-> mean IoU on held-out samples against the reader; writes `out` (fp16) as it goes."""
    generator = checkpoints.load(zoo.path("mobilestylegan-ffhq-1024"))
    pictures, labels = labelled(generator, folder, limit)
    del generator
    torch.manual_seed(seed)
    decoder = network.load(init).decoder if init else network.Decoder(len(CLASSES))
    learner = Learner(decoder.requires_grad_(True).train(), None, torch.device("cpu"), Pace(rate, images, batch, 0.998))
    backbone = network.backbone()
    trained, began, score = len(labels) - HELD_OUT, time.monotonic(), float("nan")
    while seen < images:
        number = seen // batch
        chosen = epoch_order(trained, batch, number, seed)
        truth = torch.from_numpy(labels[chosen])
        shown, truth = disturbed(engine.to_float(pictures[chosen]), truth, number)
        logits = network.Parser(backbone, learner.network)(shown)
        loss = F.cross_entropy(logits, truth)
        learner.step(loss, seen)
        seen += batch
        if number % SAVE_EVERY == SAVE_EVERY - 1 or seen >= images:
            score = held_out(network.Parser(backbone, learner.average), pictures, labels)
            with replacing(out) as part:
                save_file(weights.half(learner.average), part)
            minutes = (time.monotonic() - began) / 60
            print(f"images {seen} minutes {minutes:.1f} loss {loss.item():.3f} held-out IoU {score:.3f}", flush=True)
    return score


def held_out(parser: network.Parser, pictures: np.ndarray, labels: np.ndarray) -> float:
    found = np.stack([network.parse(picture, parser) for picture in pictures[-HELD_OUT:]])
    return float(np.mean(list(intersection_over_union(found, labels[-HELD_OUT:], CLASSES).values())))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("samples", type=Path, help="what editing.directions.sampling wrote")
    parser.add_argument("--out", type=Path, required=True, help="the weights' file")
    parser.add_argument("--faces", type=int, help="use the first so many; default: all")
    parser.add_argument("--images", type=int, default=24_000, help="how many are seen in all")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--init", type=Path, help="weights to go on from")
    parser.add_argument("--seen", type=int, default=0, help="how many images those have seen")
    options = parser.parse_args()
    tune_allocator()
    pace = options.images, options.batch, options.rate
    train(options.samples, options.out, *pace, options.init, options.seen, limit=options.faces)


if __name__ == "__main__":
    main()
