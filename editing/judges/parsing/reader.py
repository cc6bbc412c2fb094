"""A per-pixel reader of the generator's own activations: the labels that the parser learns from.

    python -m editing.judges.parsing.reader          # fits the shipped reader again (a quarter of an hour)

A generator that draws faces has had to tell hair from skin from background (Collins et al., arXiv 2004.14367; Zhang
et al., DatasetGAN, arXiv 2104.06490), so few labels are enough.  Its activations are upsampled, reduced by PCA and
clustered; clusters get their names from a few hundred points that were named by looking (`points.json`), those that
no point names, or that points disagree on, teach nothing; landmarks name the inner face.  A small network with the
place of the pixel as a further input makes one smooth reader of both.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from editing.judges.judge import locate
from editing.judges.parsing.labels import CLASSES, UNKNOWN, from_landmarks
from stylegan2 import checkpoints, engine, weights, zoo
from stylegan2.allocator import tune_allocator
from stylegan2.files import replacing
from stylegan2.generator import Generator

FILE = Path(__file__).with_name("reader.safetensors")
POINTS = Path(__file__).with_name("points.json")  # [seed, x, y, class]: pixels of 1024-pixel pictures at psi PSI
STAGES = ("b16", "b32", "b64", "b128", "b256")
SIZE = 256  # labels are SIZE x SIZE
COMPONENTS, CLUSTERS, HIDDEN = 96, 96, 128
SEEDS, PSI = range(20_000, 20_300), 0.8  # what it is fitted on
PIXELS = 2000  # drawn from each face
REPEATED = 150  # times that a named point is learned from itself
AGREE = 0.75  # share of a cluster's points that must say the same


class Reader(nn.Module):
    """Activations of `STAGES` -> logits (B, classes, SIZE, SIZE)."""

    def __init__(self, channels: int, components: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.project = nn.Linear(channels, components)
        self.hidden = nn.Linear(components + 2, hidden)
        self.out = nn.Linear(hidden, classes)

    def components(self, stages: Sequence[Tensor]) -> Tensor:
        """Activations [(B, C, H, W)] -> (B, components, SIZE, SIZE); projecting before upsampling is the same."""
        parts = self.project.weight.split([x.shape[1] for x in stages], 1)
        total = self.project.bias[None, :, None, None]
        for x, part in zip(stages, parts, strict=True):
            total = total + F.interpolate(F.conv2d(x, part[:, :, None, None]), size=(SIZE, SIZE), mode="bilinear")
        return total

    def read(self, components: Tensor) -> Tensor:
        """(B, components, SIZE, SIZE) -> logits of the classes"""
        x = torch.cat([components, places(len(components))], 1).permute(0, 2, 3, 1)
        return self.out(F.relu(self.hidden(x))).permute(0, 3, 1, 2)

    def forward(self, stages: Sequence[Tensor]) -> Tensor:
        return self.read(self.components(stages))


def places(batch: int) -> Tensor:
    """(B, 2, SIZE, SIZE): x and y from -1 to 1, for aligned faces sit in one place"""
    axis = torch.linspace(-1, 1, SIZE)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack([x, y]).expand(batch, -1, -1, -1)


def activations(generator: Generator, ws: Tensor) -> list[Tensor]:
    """ws (B, num_ws, w_dim) -> the activations of `STAGES`."""
    found = {}
    with torch.inference_mode():
        for name, found[name] in generator.stages(ws):
            if name == STAGES[-1]:
                break
    return [found[stage] for stage in STAGES]


def load(path: Path = FILE) -> Reader:
    """The shipped reader, for the default generator.  CheckpointError for another file."""
    state = weights.read(path, "a reader")
    with weights.described(path, "a reader of the generator's activations"):
        (components, channels), (classes, hidden) = state["project.weight"].shape, state["out.weight"].shape
        return weights.filled(lambda: Reader(channels, components, hidden, classes), state)


def labels(reader: Reader, generator: Generator, ws: Tensor) -> np.ndarray:
    """ws (B, num_ws, w_dim) -> (B, SIZE, SIZE) uint8 labels."""
    with torch.inference_mode():
        return reader(activations(generator, ws)).argmax(1).to(torch.uint8).numpy()


# ------------------------------------------------------------------------------------------------- fitting


def principal(generator: Generator, codes: Tensor) -> tuple[Tensor, Tensor]:
    """Codes ws (N, num_ws, w_dim) -> weight (COMPONENTS, C), bias: PCA of standardised activations at random pixels.

    Components count by the fourth root of their variance: between plain PCA and whitening.
    """
    from sklearn.decomposition import PCA

    rng, rows = np.random.default_rng(0), []
    for ws in codes.split(1):
        at = torch.from_numpy(rng.choice(SIZE * SIZE, PIXELS // 2, replace=False))
        sampled = [
            F.interpolate(x, size=(SIZE, SIZE), mode="bilinear").flatten(2)[0, :, at]
            for x in activations(generator, ws)
        ]
        rows.append(torch.cat(sampled).T.numpy())
    pixels = np.concatenate(rows)
    mean, deviation = pixels.mean(0), pixels.std(0) + 1e-3
    pca = PCA(COMPONENTS, random_state=0).fit((pixels - mean) / deviation)
    weight = pca.components_ / pca.explained_variance_[:, None] ** 0.25 / deviation
    return torch.from_numpy(weight).float(), torch.from_numpy(-weight @ mean).float()


def named_points(reader: Reader, generator: Generator) -> tuple[np.ndarray, np.ndarray]:
    """The points of `POINTS` -> (N, components + 2) as the reader sees them, and their classes (N,)."""
    points, rows, names = json.loads(POINTS.read_text()), [], []
    for seed in dict.fromkeys(point[0] for point in points):
        ws = engine.broadcast(generator, engine.latents(generator, [seed], PSI))
        found = torch.cat([reader.components(activations(generator, ws)), places(1)], 1)[0]
        for x, y, name in (point[1:] for point in points if point[0] == seed):
            rows.append(found[:, y * SIZE // generator.resolution, x * SIZE // generator.resolution].numpy())
            names.append(CLASSES.index(name))
    return np.array(rows), np.array(names)


def named_clusters(centres: np.ndarray, points: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Cluster centres (K, components) -> the class of each, UNKNOWN where the named points in it do not agree."""
    votes: list[Counter] = [Counter() for _ in centres]
    for point, name in zip(points, classes, strict=True):
        votes[((centres - point[:COMPONENTS]) ** 2).sum(1).argmin()][name] += 1
    names = np.full(len(centres), UNKNOWN)
    for index, counted in enumerate(votes):
        (first, often), *_ = counted.most_common(1) or [(UNKNOWN, 0)]
        if often >= AGREE * counted.total() and often:
            names[index] = first
    return names


def fit(generator: Generator) -> Reader:
    """A reader from `SEEDS` and the named points, alone."""
    from sklearn.cluster import MiniBatchKMeans

    codes = engine.broadcast(generator, engine.latents(generator, SEEDS, PSI))
    weight, bias = principal(generator, codes[:: len(codes) // 100])
    torch.manual_seed(0)
    reader = Reader(weight.shape[1], COMPONENTS, HIDDEN, len(CLASSES)).requires_grad_(False)
    reader.project.weight.copy_(weight)
    reader.project.bias.copy_(bias)

    rng, pixels, drawn = np.random.default_rng(1), [], []
    for ws in codes.split(1):
        with torch.inference_mode():
            picture = engine.to_uint8(generator.synthesis(ws))[0]
            found = torch.cat([reader.components(activations(generator, ws)), places(1)], 1)[0].flatten(1)
        landmarks = locate(picture)
        if landmarks is None:
            continue
        face = from_landmarks(landmarks, generator.resolution, SIZE).ravel()
        face[face == CLASSES.index("skin")] = UNKNOWN  # hair may lie over it
        inner = np.flatnonzero(face != UNKNOWN)
        at = np.concatenate([rng.choice(face.size, PIXELS, replace=False), rng.choice(inner, PIXELS // 3)])
        pixels.append(found[:, torch.from_numpy(at)].T.numpy())
        drawn.append(face[at])
    pixels, truth = np.concatenate(pixels), np.concatenate(drawn)
    clusters = MiniBatchKMeans(CLUSTERS, random_state=0, n_init=3, batch_size=4096).fit(pixels[:, :COMPONENTS])
    points, classes = named_points(reader, generator)
    names = named_clusters(clusters.cluster_centers_, points, classes)
    print("clusters:", dict(Counter(CLASSES[n] if n != UNKNOWN else "unnamed" for n in names)))
    truth = np.where(truth == UNKNOWN, names[clusters.labels_], truth)
    known = truth != UNKNOWN
    pixels = np.concatenate([pixels[known], np.repeat(points, REPEATED, 0)])
    truth = np.concatenate([truth[known], np.repeat(classes, REPEATED)])
    learn(reader, torch.from_numpy(pixels), torch.from_numpy(truth).long())
    return reader


def learn(reader: Reader, pixels: Tensor, truth: Tensor, steps: int = 3000, batch: int = 2048) -> None:
    """pixels (N, components + 2), truth (N,) -> the reader's last two layers, by cross entropy."""
    layers = [reader.hidden, reader.out]
    parameters = [p.requires_grad_(True) for layer in layers for p in layer.parameters()]
    adam = torch.optim.AdamW(parameters, lr=3e-3, weight_decay=1e-3)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    draw = torch.Generator().manual_seed(0)
    for step in range(steps):
        at = torch.randint(len(pixels), (batch,), generator=draw)
        loss = F.cross_entropy(reader.out(F.relu(reader.hidden(pixels[at]))), truth[at])
        adam.zero_grad()
        loss.backward()
        adam.step()
        rate.step()
        if step % 500 == 499:
            print(step + 1, round(loss.item(), 4), flush=True)
    for parameter in parameters:
        parameter.requires_grad_(False)


def main() -> None:
    argparse.ArgumentParser(description="Fit the shipped reader of the generator's activations again.").parse_args()
    from safetensors.torch import save_file

    tune_allocator()
    reader = fit(checkpoints.load(zoo.path("mobilestylegan-ffhq-1024")))
    with replacing(FILE) as part:
        save_file(weights.half(reader), part)


if __name__ == "__main__":
    main()
