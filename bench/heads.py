"""Latent heads on faces that nobody trained on: do they cross over, who is left, and is a straight line as good?

    python -m editing.directions.sampling held/ --count 600 --first-seed 2000000
    python -m bench.heads faces/ held/ --heads cyclegan.safetensors --photos inversions/ --out figures.json

Crossing is judged by judges fitted anew for this (logistic regression on EfficientNet-Lite0 features of pictures of
faces/ that heads were not trained on), and, beside it, by the project's own.  Distance: of dlib's descriptors, before
and after.  A line is a catalogue edit or a partial regression on all rows, every face by the same strength: that at
which its mean distance is the head's.  Photos: inversions, as `editing.invert` writes them; before is their own
rendering.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from editing.directions import sampling
from editing.heads.actions import ROWS, Actions, moved
from editing.heads.domains import LABELS, PAIRS, Domain, labels_of
from editing.heads.fit import TRAINED
from editing.heads.translators import Head, load
from editing.judges.judge import NAMES, judge
from editing.types import Inversion
from encoders.efficientnet import from_state
from stylegan2 import checkpoints, console, engine, zoo
from stylegan2.allocator import tune_allocator

MOST, LINE = 200, 60  # faces a head, and a line, is tried on
SMALL = 256
SAME = 0.45  # distance below which two descriptors count as one person's
STRENGTHS = (0.35, 0.7, 1.0, 1.5)  # of a line, relative to what its action was measured to bear
CATALOGUE = {"age": "age", "hair_light": "blond", "smile": "smile"}  # edits that go up a judge


class Refit:
    """Judges of this bench: domain or not, from a picture."""

    def __init__(self, faces: dict[str, np.ndarray]) -> None:
        self.network = from_state(load_file(zoo.path("efficientnet-lite0")))
        self.features = self.seen(faces["picture"])
        self.scores = faces["scores"]
        self.known: dict[tuple, object] = {}

    @torch.no_grad()
    def seen(self, pictures: np.ndarray) -> np.ndarray:
        """(N, S, S, 3) uint8 -> (N, D): middle blocks on a grid of 4x4, and the last one's mean."""
        found = []
        for some in np.array_split(pictures, max(1, len(pictures) // 16)):
            images = engine.area_resize(engine.to_float(some), SMALL)
            middle, last = self.network(images, (7, 15))
            parts = [F.adaptive_avg_pool2d(middle, 4).flatten(1), last.mean((2, 3))]
            found.append(torch.cat(parts, 1).numpy())
        return np.concatenate(found)

    def between(self, a: np.ndarray, b: np.ndarray, key: tuple):
        """The judge that tells faces of mask a from those of mask b."""
        if key not in self.known:
            mine = a | b
            model = make_pipeline(StandardScaler(), LogisticRegression(C=0.003, max_iter=2000, class_weight="balanced"))
            self.known[key] = model.fit(self.features[mine], b[mine])
        return self.known[key]


def rendered(generator, inversion: Inversion) -> np.ndarray:
    with torch.no_grad():
        return engine.to_uint8(generator.synthesis(inversion.ws, inversion.deltas, inversion.features))[0]


def small(picture: np.ndarray) -> np.ndarray:
    side = picture.shape[0] // SMALL
    return picture.reshape(SMALL, side, SMALL, side, 3).mean((1, 3)).round().astype(np.uint8)


def measured(
    generator, refit: Refit, model, move: Callable[[Tensor], Tensor], faces, wanted: bool, own: Callable
) -> dict:
    """A move of some faces [(inversion, descriptor)] -> shares and distances."""
    crossed, by_own, distances = [], [], []
    for inversion, before in faces:
        picture = rendered(generator, replace(inversion, ws=move(inversion.ws)))
        scores = judge(picture)
        if scores is None:
            crossed.append(False)
            by_own.append(False)
            distances.append(np.nan)
            continue
        crossed.append(bool(model.predict(refit.seen(small(picture)[None]))[0]) == wanted)
        by_own.append(bool(own(np.array([[scores.values[name] for name in NAMES]]))[0]))
        distances.append(float(np.linalg.norm(scores.descriptor - before)))
    return {
        "faces": len(faces), "crossed": float(np.mean(crossed)), "own": float(np.mean(by_own)),
        "distance": float(np.nanmean(distances)), "same": float(np.mean(np.array(distances) < SAME)),
    }  # fmt: skip


def lines(name: str, sign: int, actions: Actions) -> dict[str, tuple[Tensor, float]]:
    """Straight lines up a judge (or down: sign) -> (vector (16, w_dim), the strength that it was measured to bear)."""
    rows = [actions.names.index(f"{name}/{part}") for part in ROWS]
    found = {f"{name}, all rows": (sign * actions.vectors[rows].sum(0), 4.0)}
    if name in CATALOGUE:
        place = actions.names.index(CATALOGUE[name])
        found[CATALOGUE[name]] = (sign * actions.vectors[place], float(actions.limits[place][int(sign > 0)].abs()))
    return found


def at_distance(points: list[dict], distance: float) -> float:
    """Share of crossings of a line where its mean distance is this, between the strengths that were tried."""
    points = sorted([{"distance": 0.0, "crossed": 0.0}, *points], key=lambda point: point["distance"])
    if distance > points[-1]["distance"]:
        return float("nan")  # no strength that was tried goes so far
    return float(np.interp(distance, [p["distance"] for p in points], [p["crossed"] for p in points]))


def ways(head: Head) -> tuple[str, Callable, Callable, bool, int, tuple]:
    """Of a head: its judge, masks from scores (from where, to where), whether 'to' is the higher side of the judge that
    tells them apart, the direction its judge's number goes, and that judge's key."""
    way = head.name.partition(":")[2]
    if head.family.kind == "cyclegan":
        a, b = way.split("2")
        pair, forward = (PAIRS[(a, b)], True) if (a, b) in PAIRS else (PAIRS[(b, a)], False)
        source, target = (pair.a, pair.b) if forward else (pair.b, pair.a)
        return pair.judge, source.holds, target.holds, forward, target.sign, (pair.a.judge, "pair")
    column, wanted = list(LABELS).index(way[1:]), way[0] == "+"

    def has(scores: np.ndarray) -> np.ndarray:
        return labels_of(scores)[:, column] == 1

    rule = LABELS[way[1:]]
    return rule.judge, *(((lambda s: ~has(s)), has) if wanted else (has, lambda s: ~has(s))), wanted, (
        rule.sign if wanted else -rule.sign
    ), (way[1:],)  # fmt: skip


def crossing(head: Head) -> Callable:
    """Whether the project's own judge has a face on the other side: of the middle, for pairs."""
    way = head.name.partition(":")[2]
    if head.family.kind == "cyclegan":
        a, b = way.split("2")
        pair, forward = (PAIRS[(a, b)], True) if (a, b) in PAIRS else (PAIRS[(b, a)], False)
        return Domain(pair.judge, pair.b.sign if forward else pair.a.sign, pair.threshold).holds
    return ways(head)[2]


def sheet(generator, held: dict, heads: dict[str, Head], path: Path, rows: int = 5, size: int = 192) -> None:
    """Held-back faces, as they are and through every head."""
    found = []
    for i in range(rows):
        ws = engine.broadcast(generator, torch.from_numpy(held["w"][i])[None])
        pictures = [rendered(generator, Inversion(w, "")) for w in (ws, *(head(ws) for head in heads.values()))]
        found.append(
            np.hstack([np.asarray(Image.fromarray(p).resize((size, size), Image.Resampling.LANCZOS)) for p in pictures])
        )
    Image.fromarray(np.vstack(found)).save(path, quality=85)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("faces", type=Path)
    parser.add_argument("held", type=Path)
    parser.add_argument("--heads", type=Path, required=True)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--out", type=Path, help="JSON; goes on where it was stopped")
    parser.add_argument("--sheet", type=Path, help="only a picture of five faces through all heads of the file")
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--most", type=int, default=MOST)
    parser.add_argument("--line", type=int, default=LINE)
    options = parser.parse_args()
    tune_allocator()
    generator = checkpoints.load(zoo.path("mobilestylegan-ffhq-1024"))
    if options.sheet:
        sheet(generator, sampling.load(options.held), load(options.heads), options.sheet)
        return
    refit = Refit({key: value[TRAINED:] for key, value in sampling.load(options.faces).items()})
    held = sampling.load(options.held)
    held_features = refit.seen(held["picture"])
    photos = []
    for path in sorted(options.photos.glob("*.inversion")) if options.photos else ():
        inversion = Inversion.load(path)
        scores = judge(rendered(generator, inversion))
        if scores:
            photos.append((inversion, scores.descriptor, np.array([[scores.values[name] for name in NAMES]])))
    found = json.loads(options.out.read_text()) if options.out.exists() else {}
    for name, head in load(options.heads).items():
        if (options.only and name not in options.only) or name in found:
            continue
        judged, source, target, up, sign, key = ways(head)
        model = refit.between(*((source(refit.scores), target(refit.scores)) if up else
                                (target(refit.scores), source(refit.scores))), key)  # fmt: skip
        rest = [mask(held["scores"]) for mask in (source, target)]
        if not all(mask.any() for mask in rest):
            print(f"{name}: nobody is on one of its sides", flush=True)
            continue
        right = [(model.predict(held_features[mask]) == (up == bool(i))).mean() for i, mask in enumerate(rest)]
        places = np.flatnonzero(rest[0])[: options.most]
        faces = [
            (Inversion(engine.broadcast(generator, torch.from_numpy(held["w"][i])[None]), ""), held["descriptor"][i])
            for i in places
        ]
        own = crossing(head)
        row = {"judge right": [round(float(value), 3) for value in right]}
        row["head"] = measured(generator, refit, model, head, faces, up, own)
        mine = [(inversion, descriptor) for inversion, descriptor, scores in photos if not own(scores)[0]]
        if mine:
            row["photos"] = measured(generator, refit, model, head, mine, up, own)
        if options.line:
            row["head, as many"] = measured(generator, refit, model, head, faces[: options.line], up, own)
            for line, (vector, bears) in lines(judged, sign, head.family.actions).items():
                points = []
                for strength in STRENGTHS:
                    amounts = torch.tensor([[strength * bears]])

                    def along(ws: Tensor, amounts=amounts, vector=vector) -> Tensor:
                        return moved(ws, amounts, vector[None])

                    points.append(measured(generator, refit, model, along, faces[: options.line], up, own))
                    if points[-1]["distance"] > 1.15 * row["head, as many"]["distance"]:
                        break
                row[f"line {line}"] = points
                row[f"line {line} at the head's distance"] = at_distance(points, row["head, as many"]["distance"])
        found[name] = row
        options.out.write_text(json.dumps(found, indent=1) + "\n")
        print(name, json.dumps(row), flush=True)


if __name__ == "__main__":
    console.plain(main)
