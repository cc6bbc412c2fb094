"""Faces from sentences: does the sentence hold, do faces stay various, and is the way between two sentences straight?

    python -m editing.directions.sampling held/ --count 600 --first-seed 2000000
    python -m bench.generation held/ --families gancls/*.safetensors --base 0 1 2 --out figures.json
    python -m bench.generation held/ --families gancls/int-cls-0.safetensors --out ways.json --what interpolation
    python -m bench.generation --table figures.json
    python -m bench.generation held/ --captions held.npz --what bridge

Sentences are captions of held-back faces; every family is asked the same ones, with the same noise, and beside them the
unconditional generator is judged by the same sentences (the base rate).  R-precision: how often the bridge has a
code's own sentence first among ten, the others drawn from other faces (they may fit, too: the bridge's card says what
real faces reach).  Accuracy: the share of claims (poles, man or woman, grown up or child) that hold by the judges in
the 1024-pixel render; whole sentences: of which every claim does.  Diversity: mean pairwise perceptual distance of the
faces of one sentence, by that of unconditional faces.  Interpolation: eight steps between two sentences that differ in
one named pole, same noise; a pair is monotone if the judge ends farther than its noise in the direction that was asked
for, and on the way never goes back by more than its noise.  Noise: as `editing.judges.errors` has it, what a mirror, a
move by 2% and a small JPEG change, twice the root of the mean squared difference.  Intervals: bootstrap over sentences,
95%.
Bridge: retrieval among a hundred held-back faces with a caption each, by codes, by the shipped encoder's codes of their
pictures, and by the judges themselves, who tell what fits from what does not and no more.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from editing.directions import sampling
from editing.judges import errors, population
from editing.judges.judge import NAMES, judge
from editing.text import bridge as bridges
from editing.text import generators, pairing
from editing.text.bridge import LatentBridge
from editing.text.bridging import retrieval
from editing.text.generators import Family
from editing.text.pairing import Claims
from encoders import sentence
from encoders.efficientnet import from_state
from encoders.losses import perceptual
from stylegan2 import checkpoints, engine, zoo
from stylegan2.allocator import tune_allocator
from stylegan2.generator import Generator

SIDE = 256  # of pictures whose perceptual distance is taken
FIRST_SEED = 8_000_000  # of noise that no training drew
JUDGED, SCORED, SPREAD = 100, 400, 64  # faces that judges see, codes that the bridge reads, faces of one sentence
STEPS = 8
VARIOUS = "a woman with brown hair"  # the sentence of the many faces
WAYS = (  # judge that goes up, from, to
    ("age", "a young woman", "an elderly woman"),
    ("male", "a woman with short hair", "a man with short hair"),
    ("smile", "a man with a serious expression", "a man with a broad smile"),
    ("mouth_open", "a woman with closed lips", "a woman with an open mouth"),
    ("glasses", "a man without glasses", "a man with glasses"),
    ("hair_light", "a woman with black hair", "a woman with blond hair"),
    ("hair_red", "a woman with brown hair", "a woman with red hair"),
    ("hair_long", "a woman with short hair", "a woman with long hair"),
    ("skin_light", "a man with a dark complexion", "a man with a light complexion"),
    ("lip_red", "a woman with no lipstick", "a woman with lipstick"),
    ("yaw", "a woman with the face turned left", "a woman with the face turned right"),
    ("background_light", "a man with a dark background", "a man with a bright background"),
)
Maker = Callable[[Generator, Sequence[str], Sequence[int]], Tensor]  # sentences and seeds -> ws


def small(picture: np.ndarray) -> np.ndarray:
    side = picture.shape[0] // SIDE
    return picture.reshape(SIDE, side, SIDE, side, 3).mean((1, 3)).round().astype(np.uint8)


@torch.no_grad()
def rendered(generator: Generator, ws: Tensor) -> np.ndarray:
    """ws (1, num_ws, w_dim) -> (R, R, 3) uint8"""
    return engine.to_uint8(generator.synthesis(ws))[0]


def row(picture: np.ndarray) -> np.ndarray:
    """What all judges say (J,), nan where no face is found."""
    scores = judge(picture)
    return np.array([scores.values[name] if scores else np.nan for name in NAMES], np.float32)


# ------------------------------------------------------------------------------------ sentences


def chosen(claims: Claims, count: int, seed: int) -> np.ndarray:
    """Places of `count` captions of different faces, by the seed."""
    rng = np.random.default_rng((11, seed))
    right = np.flatnonzero(~claims.swapped)
    _, first = np.unique(claims.about[order := rng.permutation(right)], return_index=True)
    return rng.permutation(order[first])[:count]


def r_precision(bridge: LatentBridge, ws: Tensor, own: Tensor, others: Tensor, seed: int = 0) -> np.ndarray:
    """Codes (B, num_ws, w_dim), their sentences' numbers (B, 384) and a pool of others' (M, 384) -> which have their
    own first among ten (B,)."""
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        faces, right, wrong = bridge.latent(ws), bridge.embedded(own), bridge.embedded(others)
    mine = (faces * right).sum(1)
    nine = torch.stack([faces[i] @ wrong[rng.choice(len(wrong), 9, replace=False)].T for i in range(len(faces))])
    return (mine > nine.amax(1)).numpy()


def held(scores: np.ndarray, mentions: np.ndarray) -> np.ndarray:
    """scores (N, J) and what each one's sentence claims (N, P) -> the share of claims that hold (N,); 0 if no face."""
    fit = (pairing.misfits(scores) == 0) & np.isfinite(scores[:, :1])
    return (fit & mentions).sum(1) / mentions.sum(1).clip(1)


# ---------------------------------------------------------------------------------- diversity


class Spread:
    """Mean pairwise perceptual distance of pictures that are given one at a time: for squared distances it follows from
    the features' mean and their mean square."""

    def __init__(self) -> None:
        self.network, self.count = from_state(load_file(zoo.path("efficientnet-lite0"))), 0
        self.sums: list[Tensor] = []
        self.squares = 0.0

    @torch.no_grad()
    def add(self, picture: np.ndarray) -> None:
        """picture (SIDE, SIDE, 3) uint8"""
        features = [perceptual.unit(x) for x in perceptual.features(self.network, engine.to_float(picture))]
        self.sums = [a + b for a, b in zip(self.sums, features, strict=True)] if self.sums else features
        self.squares += float(sum(x.square().sum(1).mean() for x in features)) / len(features)
        self.count += 1

    def mean(self) -> float:
        n = self.count
        centre = float(sum((x / n).square().sum(1).mean() for x in self.sums)) / len(self.sums)
        return 2 * n / (n - 1) * (self.squares / n - centre)


def spread(generator: Generator, ws: Tensor) -> float:
    found = Spread()
    for one in ws:
        found.add(small(rendered(generator, one[None])))
    return found.mean()


# -------------------------------------------------------------------------------- interpolation


def noise(generator: Generator, count: int = 6) -> np.ndarray:
    """Of every judge (J,): twice the root mean squared difference of generated faces from themselves mirrored, moved by
    2% and as a small JPEG."""
    found = []
    for seed in range(count):
        picture = rendered(generator, engine.broadcast(generator, engine.latents(generator, [FIRST_SEED + seed], 0.8)))
        first = judge(picture)
        for name, copy in errors.copies(picture):
            again = judge(copy)
            if first and again:
                found.append(errors.difference(first, again, name == "mirrored"))
    return 2 * np.sqrt(np.nanmean(np.square(found), 0)) * population.arrays()[2]


def monotone(values: np.ndarray, noise: float) -> bool:
    """Values on the way (S,): do they rise by more than the noise in all, and never fall back by more than it?"""
    if not np.isfinite(values).all():
        return False
    return bool(values[-1] - values[0] > noise and (np.maximum.accumulate(values) - values).max() <= noise)


def interpolation(generator: Generator, between: Callable[[str, str, int], Tensor], seeds: Sequence[int]) -> list[dict]:
    """between: two sentences and a seed -> ws (STEPS, num_ws, w_dim)."""
    unsure, found = noise(generator), []
    deviations = population.load()
    for name, first, second in WAYS:
        for seed in seeds:
            place = NAMES.index(name)
            values = np.array([row(rendered(generator, ws[None]))[place] for ws in between(first, second, seed)])
            limit, rank = float(unsure[place]), np.argsort(np.argsort(values))
            found.append({
                "judge": name, "from": first, "to": second, "seed": seed, "noise": round(limit, 3),
                "values": [round(float(value), 3) for value in values],
                "went": round(float(values[-1] - values[0]) / deviations[name][1], 2),
                "monotone": monotone(values, limit), "spearman": float(np.corrcoef(rank, np.arange(len(rank)))[0, 1]),
            })  # fmt: skip
            print(json.dumps(found[-1]), flush=True)
    return found


# --------------------------------------------------------------------------------------- bridge


@torch.no_grad()
def connections(bridge: LatentBridge, faces: dict, claims: Claims) -> str:
    """Retrieval by codes, pictures and judges, as a table."""
    w = torch.from_numpy(faces["w"]).float()[:, None].expand(-1, 16, -1)
    pictures = [bridge.image(engine.to_float(some)) for some in np.array_split(faces["picture"], len(w) // 20)]
    texts = bridge.embedded(torch.from_numpy(np.asarray(claims.embedding)).float())
    wrong = (pairing.misfits(faces["scores"]) > 0) @ claims.mentions.T.astype(np.float32) > 0  # (N, M)
    fits = torch.from_numpy(~wrong).float()
    ties = torch.rand(fits.shape, generator=torch.Generator().manual_seed(0))
    rows = {
        "codes": retrieval(bridge.latent(w), claims, texts),
        "pictures": retrieval(torch.cat(pictures), claims, texts),
        "judges": retrieval(fits + 0.01 * ties, claims, torch.eye(len(texts))),
    }
    names = list(rows["codes"])
    lines = [f"| | {' | '.join(names)} |", "|" + "---|" * (len(names) + 1)]
    return "\n".join(
        lines + [f"| {row} | " + " | ".join(f"{v:.1%}" for v in r.values()) + " |" for row, r in rows.items()]
    )


# ----------------------------------------------------------------------------------------- runs


def judged(
    generator: Generator, bridge: LatentBridge, claims: Claims, make: Maker, seed: int, faces: int, codes: int,
    spreads: int,
) -> dict:  # fmt: skip
    """One maker's row.  seed: which sentences and which noise."""
    places = chosen(claims, codes, seed)
    seeds = [FIRST_SEED + 1000 * seed + n for n in range(len(places))]
    ws = make(generator, [claims.texts[i] for i in places], seeds)
    embedding = torch.from_numpy(np.asarray(claims.embedding)).float()
    own, pool = embedding[places], embedding[np.flatnonzero(~claims.swapped)]
    found: dict = {"codes": len(ws), "r": r_precision(bridge, ws, own, pool, seed).tolist()}
    scores = np.array([row(rendered(generator, one[None])) for one in ws[:faces]])
    found["share"] = held(scores, claims.mentions[places[:faces]]).tolist()
    found["lost"] = int(np.isnan(scores[:, 0]).sum())
    if spreads:
        ws = make(generator, [VARIOUS] * spreads, [FIRST_SEED + n for n in range(spreads)])
        found["spread"] = spread(generator, ws)
    return found


def asking(family: Family, claims: Claims) -> Maker:
    """A family's maker that knows the embeddings of these sentences already."""
    known = dict(zip(claims.texts, torch.from_numpy(np.asarray(claims.embedding)).float(), strict=True))

    def make(generator: Generator, sentences: Sequence[str], seeds: Sequence[int]) -> Tensor:
        for text in {*sentences} - known.keys():
            known[text] = sentence.load()([text])[0]
        return family.codes(generator, family.read(torch.stack([known[text] for text in sentences])), seeds)

    return make


def unconditional(
    generator: Generator, bridge: LatentBridge, claims: Claims, table: dict, seed: int, faces: int, codes: int,
    spreads: int,
) -> dict:  # fmt: skip
    """The row of faces that nobody told anything: held-back ones, by sentences that were written for others."""
    places = chosen(claims, codes, seed)
    others = (claims.about[places] + len(table["w"]) // 2) % len(table["w"])
    ws = engine.broadcast(generator, torch.from_numpy(table["w"][others]).float())
    embedding = torch.from_numpy(np.asarray(claims.embedding)).float()
    pool = embedding[np.flatnonzero(~claims.swapped)]
    share = held(table["scores"][others], claims.mentions[places])[:faces]
    found = {"codes": len(ws), "r": r_precision(bridge, ws, embedding[places], pool, seed).tolist()}
    found |= {"share": share.tolist(), "lost": 0}
    if spreads:
        seeds = [FIRST_SEED + n for n in range(spreads)]
        ws = engine.broadcast(generator, engine.latents(generator, seeds, generators.PSI))
        found["spread"] = spread(generator, ws)
    return found


def interval(values: Sequence[float], draws: int = 4000) -> tuple[float, float, float]:
    """Mean and bootstrap 95% interval."""
    values, rng = np.asarray(values, float), np.random.default_rng(0)
    means = values[rng.integers(len(values), size=(draws, len(values)))].mean(1)
    return float(values.mean()), *(float(x) for x in np.quantile(means, (0.025, 0.975)))


def table(found: dict[str, dict]) -> str:
    """Rows by variant, seeds together; differences from plain GAN by sentence."""
    kinds: dict[str, list[dict]] = {}
    for name, result in found.items():
        kinds.setdefault(name.rsplit("-", 1)[0], []).append(result)
    base = [result["spread"] for result in kinds.get("unconditional", ()) if "spread" in result]
    titles = ("", "R-precision of 10", "claims that hold", "whole sentences", "by seed", "diversity", "no face")
    lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    for kind, results in kinds.items():
        r, share = (sum((result[key] for result in results), []) for key in ("r", "share"))
        whole = [float(value == 1) for value in share]
        cells = ["{:.1%} ({:.1%} to {:.1%})".format(*interval(values)) for values in (r, share, whole)]
        means = ", ".join(f"{np.mean(result['share']):.1%}" for result in results)
        various = [result["spread"] / base[0] for result in results if "spread" in result and base]
        cells += [means, ", ".join(f"{v:.0%}" for v in various) or "–", str(sum(result["lost"] for result in results))]
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    for kind, results in kinds.items():
        if kind in ("gan", "unconditional") or "gan" not in kinds or len(results) != len(kinds["gan"]):
            continue
        for key, what in (("r", "R-precision"), ("share", "claims")):
            mine, plain = (np.array(sum((x[key] for x in some), []), float) for some in (results, kinds["gan"]))
            lines.append("{} less gan, {}: {:+.1%} ({:+.1%} to {:+.1%})".format(kind, what, *interval(mine - plain)))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("held", type=Path, nargs="?")
    parser.add_argument("--families", type=Path, nargs="*", default=())
    parser.add_argument("--captions", type=Path, help="sentences of the held-back faces, kept here")
    parser.add_argument("--base", type=int, nargs="*", default=(), help="seeds that unconditional faces answer for")
    parser.add_argument("--bridge", type=Path, help="another bridge than the one that ships")
    parser.add_argument("--what", choices=["accuracy", "interpolation", "bridge"], default="accuracy")
    parser.add_argument("--out", type=Path, help="JSON; goes on where it was stopped")
    parser.add_argument("--table", type=Path, nargs="+", help="only print the table of such files")
    parser.add_argument("--faces", type=int, default=JUDGED)
    parser.add_argument("--codes", type=int, default=SCORED)
    parser.add_argument("--spread", type=int, default=SPREAD, help="of the families of seed 0")
    parser.add_argument("--seeds", type=int, nargs="*", default=(1,), help="of interpolations")
    options = parser.parse_args()
    tune_allocator()
    if options.table:
        print(table({name: row for path in options.table for name, row in json.loads(path.read_text()).items()}))
        return
    if options.what == "bridge":
        faces = sampling.load(options.held)
        claims = pairing.kept(options.captions, faces["scores"], 4, seed=2, swaps=0.0)
        print(connections(bridges.read(options.bridge) if options.bridge else bridges.load(), faces, claims))
        return
    generator = checkpoints.load(zoo.path("mobilestylegan-ffhq-1024"))
    if options.what == "interpolation":
        family = generators.read(options.families[0])
        found = interpolation(generator, lambda a, b, s: family.between(generator, a, b, s, STEPS), options.seeds)
        options.out.write_text(json.dumps(found, indent=1) + "\n")
        print(f"monotone: {np.mean([way['monotone'] for way in found]):.0%} of {len(found)}", flush=True)
        return
    bridge = bridges.read(options.bridge) if options.bridge else bridges.load()
    faces = sampling.load(options.held)
    claims = pairing.kept(options.captions or options.out.with_suffix(".npz"), faces["scores"], 4, seed=2, swaps=0.0)
    makers = {path.stem: asking(generators.read(path), claims) for path in options.families}
    makers |= {f"unconditional-{number}": None for number in options.base}
    found = json.loads(options.out.read_text()) if options.out.exists() else {}
    for name, make in makers.items():
        if name not in found:
            seed = int(name.rsplit("-", 1)[1])
            counts = (seed, options.faces, options.codes, options.spread if seed == 0 else 0)
            if make is None:
                found[name] = unconditional(generator, bridge, claims, faces, *counts)
            else:
                found[name] = judged(generator, bridge, claims, make, *counts)
            options.out.write_text(json.dumps(found, indent=1) + "\n")
            print(f"{name}: R-precision {np.mean(found[name]['r']):.3f}, claims {np.mean(found[name]['share']):.3f}",
                  flush=True)  # fmt: skip
    print(table(found))


if __name__ == "__main__":
    main()
