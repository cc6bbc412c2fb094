"""The pair factory: labelled pictures from the generator, for translation networks and for anybody who needs faces.

    python -m editing.translate pairs sketches/ --kind degraded --how sketch --count 2000 --size 128
    python -m editing.translate pairs smiles/   --kind edited --set smile=2 --count 2000
    python -m editing.translate pairs moved/    --kind ranged --set smile=-2:2.8 --set age=-3:3.3 --each 2 --disentangle
    python -m editing.translate pairs ages/     --kind judged --judge age --low 28 --high 48 --count 1000
    python -m editing.translate pairs faces/    --kind labelled --label 'young=age<32' --label 'smiling=smile>0.3'
    python -m editing.translate pairs hair/     --kind varied --how sketch --each 4
    python -m editing.translate pairs maps/     --kind parsed --count 2000 --size 256
    python -m editing.translate pairs told/     --kind captioned --count 6000 --size 64

A picture is its seed: a folder is described by `facts.json`, its shards by their first seed, and a killed run goes on
at the next shard.  Arrays of a shard: `a` and `b` (N, S, S, 3) uint8 (b of `varied`: (N, each, S, S, 3)), `labels`
(N, L) float32, and `w` or `ws`, the codes of a and b, float16.

- degraded: a is b with something taken away (see `degrade`).   - edited: b is a with edits of the catalogue.
- ranged: b (N, each, S, S, 3), every one of them a with one of several edits at a strength from its range; labels
  (N, each, E) say which and how strong.
- judged: a and b are different people, a judged below `low`, b above `high`.   - labelled: a with 0 or 1 a label; faces
  too near a threshold are left out.   - varied: a is degraded, the pictures of b share its coarse rows (style mixing,
  arXiv 1812.04948, section 3.1), so that one a has several right answers.   - parsed: a (N, S, S) is the face parser's
map of b, uint8 indices into `editing.judges.parsing.CLASSES`.   - captioned: a, and `captions` (N, each) of it, text,
made from what the judges say.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from editing.directions import catalogue
from editing.judges import population
from editing.steps import Layer, apply_step, cleaner, direction, restyled
from editing.translation.degrade import WAYS
from editing.types import Inversion, Step, latent_step
from stylegan2 import engine
from stylegan2.errors import UsageError
from stylegan2.files import replacing
from stylegan2.generator import Generator

KINDS = ("degraded", "edited", "ranged", "judged", "labelled", "varied", "parsed", "captioned")
SHARD = 100
MARGIN = 0.25  # population standard deviations around a label's threshold in which a face is neither
SHARED_ROWS = 5  # of `varied`: pose, shape and mouth come from the first code, hair, skin and light from others
SECOND = 1 << 31  # added to a seed: further codes


@dataclass(frozen=True)
class Order:
    """What a folder holds.  how: a key of `degrade.WAYS`; edits: name -> strength, of `ranged` (low, high); judge, low,
    high: of `judged`; labels: name -> '<judge><or><number>'; each: pictures of b, or captions, for one of a;
    disentangle: of `ranged`, the forms of edits that move as little else as possible, where there are such."""

    kind: str
    size: int = 256
    psi: float = 0.7
    how: str = ""
    edits: Mapping[str, float] | Mapping[str, tuple[float, float]] | None = None
    judge: str = ""
    low: float = 0.0
    high: float = 0.0
    labels: Mapping[str, str] | None = None
    each: int = 1
    disentangle: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"There is no kind of pairs {self.kind!r}; there are {', '.join(KINDS)}.")
        if self.size < 16 or 1024 % self.size:
            raise UsageError(f"Pictures are 16, 32, ... or 1024 pixels wide, not {self.size}.")
        if self.kind in ("degraded", "varied") and self.how not in WAYS:
            raise UsageError(f"There is no way {self.how!r} to degrade a picture; there are {', '.join(WAYS)}.")
        if self.kind in ("edited", "ranged"):
            if not self.edits:
                example = "smile=2" if self.kind == "edited" else "smile=-2:2.8"
                raise UsageError(f"{self.kind.capitalize()} pairs need an edit: --set {example}")
            for name in self.edits:
                direction(catalogue.load(), name)
        if self.kind == "ranged":
            for name, (low, high) in self.edits.items():
                if not (low <= 0 <= high and low < high and math.isfinite(high - low)):
                    raise UsageError(f"The strengths of {name} go from {low:g} to {high:g}: a range has 0 within it.")
        elif self.disentangle:
            raise UsageError("--disentangle is for ranged pairs.")
        if self.kind == "judged" and not self.low < self.high:
            raise UsageError("Judged sets need --judge, and --low below --high.")
        if self.kind == "labelled" and not self.labels:
            raise UsageError("Labelled faces need a label: --label young=age<32")
        for judge in (
            [self.judge] if self.kind == "judged" else [rule(text)[0] for text in (self.labels or {}).values()]
        ):
            if judge not in population.load():
                raise UsageError(f"There is no judge {judge!r}; there are {', '.join(population.load())}.")


def rule(text: str) -> tuple[str, int, float]:
    """'age<32' -> ('age', -1, 32.0)"""
    found = re.fullmatch(r"\s*([a-z_]+)\s*([<>])\s*(-?\d+(?:\.\d+)?)\s*", text)
    if not found:
        raise UsageError(f"{text!r} is no rule for a label: young=age<32, smiling=smile>0.3")
    return found[1], 1 if found[2] == ">" else -1, float(found[3])


Samples = Iterator[dict[str, np.ndarray]]


def degraded(generator: Generator, order: Order, seeds: range) -> Samples:
    for seed in seeds:
        w = engine.latents(generator, [seed], order.psi)
        b = drawn(generator, engine.broadcast(generator, w), order.size)
        yield {"a": WAYS[order.how](b, np.random.default_rng(seed)), "b": b, "w": half(w[0])}


def edited(generator: Generator, order: Order, seeds: range) -> Samples:
    known = catalogue.load()
    steps = [latent_step(name, strength) for name, strength in order.edits.items()]
    for seed in seeds:
        ws = engine.broadcast(generator, engine.latents(generator, [seed], order.psi)).clone()
        b = with_steps(generator, ws, steps, known, order.size)
        yield {"a": drawn(generator, ws, order.size), "b": b, "w": half(ws[0, 0])}


def ranged(generator: Generator, order: Order, seeds: range) -> Samples:
    known, names = catalogue.load(), list(order.edits)
    for seed in seeds:
        rng = np.random.default_rng(seed)
        ws = engine.broadcast(generator, engine.latents(generator, [seed], order.psi)).clone()
        labels, pictures = np.zeros((order.each, len(names)), np.float32), []
        for row in labels:
            which = int(rng.integers(len(names)))
            row[which] = strength = float(rng.uniform(*order.edits[names[which]]))
            step = latent_step(names[which], strength)
            step = cleaner(step, known) if order.disentangle else step
            pictures.append(with_steps(generator, ws, [step], known, order.size))
        yield {"a": drawn(generator, ws, order.size), "b": np.stack(pictures), "labels": labels, "w": half(ws[0, 0])}


def with_steps(generator: Generator, ws: Tensor, steps: Sequence[Step], known: catalogue.Catalogue, size: int
               ) -> np.ndarray:  # fmt: skip
    """ws (1, num_ws, w_dim) -> the face after these edits, (size, size, 3) uint8"""
    inversion = Inversion(ws=ws, family=generator.family)
    for step in steps:
        inversion = apply_step(inversion, step, known)
    after = restyled(generator, Layer(None, inversion), steps, known).inversion
    with torch.no_grad():
        image = generator.synthesis(after.ws, after.deltas, after.features)
    return engine.to_uint8(engine.area_resize(image, size))[0]


def judged(generator: Generator, order: Order, seeds: range) -> Samples:
    """Each sample one face of a and one of b: seeds are gone through until both are found."""
    from editing.judges.judge import judge

    waiting: dict[str, list] = {"a": [], "b": []}
    rest = iter(range(seeds.start * 1000, seeds.stop * 1000))  # far more than are needed; no shard shares one
    for _ in seeds:
        while not (waiting["a"] and waiting["b"]):
            try:
                _, w, picture = next(engine.faces(generator, [next(rest)], order.psi))
            except StopIteration:
                raise UsageError(
                    f"Hardly any face has {order.judge} below {order.low} or above {order.high}."
                ) from None
            scores = judge(picture)
            value = scores.values[order.judge] if scores else np.nan
            side = "a" if value < order.low else "b" if value > order.high else None
            if side and len(waiting[side]) < SHARD:
                small = engine.to_uint8(engine.area_resize(engine.to_float(picture), order.size))[0]
                waiting[side].append((small, half(w), value))
        (a, wa, va), (b, wb, vb) = waiting["a"].pop(0), waiting["b"].pop(0)
        yield {"a": a, "b": b, "w": np.stack([wa, wb]), "labels": np.array([va, vb], np.float32)}


def labelled(generator: Generator, order: Order, seeds: range) -> Samples:
    from editing.judges.judge import judge

    spread = population.load()
    for _, w, picture in engine.faces(generator, seeds, order.psi):
        scores = judge(picture)
        if scores is None:
            continue
        labels = []
        for text in order.labels.values():
            name, sign, bound = rule(text)
            far = sign * (scores.values[name] - bound) / spread[name][1]
            labels.append(np.nan if not abs(far) >= MARGIN else float(far > 0))  # nan: nearly neither
        if not np.isnan(labels).any():
            small = engine.to_uint8(engine.area_resize(engine.to_float(picture), order.size))[0]
            yield {"a": small, "w": half(w), "labels": np.array(labels, np.float32)}


def varied(generator: Generator, order: Order, seeds: range) -> Samples:
    for seed in seeds:
        first = engine.broadcast(generator, engine.latents(generator, [seed], order.psi))
        codes = []
        for number in range(order.each):
            other = engine.latents(generator, [seed + SECOND * number], order.psi)
            ws = engine.broadcast(generator, other).clone()
            ws[:, :SHARED_ROWS] = first[:, :SHARED_ROWS]
            codes.append(ws)
        pictures = [drawn(generator, ws, order.size) for ws in codes]
        a = WAYS[order.how](pictures[0], np.random.default_rng(seed))
        yield {"a": a, "b": np.stack(pictures), "ws": half(torch.cat(codes))}


def parsed(generator: Generator, order: Order, seeds: range) -> Samples:
    from editing.judges.parsing import parse

    for _, w, picture in engine.faces(generator, seeds, order.psi):
        small = engine.to_uint8(engine.area_resize(engine.to_float(picture), order.size))[0]
        labels = Image.fromarray(parse(picture)).resize((order.size, order.size), Image.Resampling.NEAREST)
        yield {"a": np.asarray(labels), "b": small, "w": half(w)}


def captioned(generator: Generator, order: Order, seeds: range) -> Samples:
    from editing.judges.judge import judge
    from editing.text.captions import captions

    for seed, w, picture in engine.faces(generator, seeds, order.psi):
        scores = judge(picture)
        if scores is not None:
            small = engine.to_uint8(engine.area_resize(engine.to_float(picture), order.size))[0]
            told = captions(scores.values, order.each, np.random.default_rng(seed))
            yield {"a": small, "captions": np.array(told), "w": half(w)}


MAKERS: Mapping[str, Callable[[Generator, Order, range], Samples]] = {
    "degraded": degraded,
    "edited": edited,
    "ranged": ranged,
    "judged": judged,
    "labelled": labelled,
    "varied": varied,
    "parsed": parsed,
    "captioned": captioned,
}


def drawn(generator: Generator, ws: Tensor, size: int) -> np.ndarray:
    """ws (1, num_ws, w_dim) -> (size, size, 3) uint8"""
    with torch.no_grad():
        return engine.to_uint8(engine.area_resize(generator.synthesis(ws), size))[0]


def half(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().half().numpy()


def stream(generator: Generator, order: Order, seeds: range) -> Samples:
    """Samples one after the other, without files."""
    return MAKERS[order.kind](generator, order, seeds)


def same(old: object, new: dict) -> bool:
    """Whether facts are those of a folder, the order of edits and labels included, which is that of columns."""
    old, new = {"disentangle": False} | old if isinstance(old, dict) else None, json.loads(json.dumps(new))
    return old == new and all(list(old[name] or ()) == list(new[name] or ()) for name in ("edits", "labels"))


def write(generator: Generator, folder: Path, order: Order, count: int, first_seed: int) -> Iterator[Path]:
    """Shards of SHARD seeds until `count` seeds are done; yields every new shard's first file.  See the module."""
    folder.mkdir(parents=True, exist_ok=True)
    facts = {"family": generator.family, "shard": SHARD, "first_seed": first_seed} | asdict(order)
    note = folder / "facts.json"
    if note.exists() and any(folder.glob("[0-9]*.npy")) and not same(json.loads(note.read_text()), facts):
        raise UsageError(f"{folder} holds other pairs already: choose another folder.")
    with replacing(note) as part:
        part.write_text(json.dumps(facts, indent=1) + "\n")
    for start in range(first_seed, first_seed + count, SHARD):
        seeds, done = range(start, min(start + SHARD, first_seed + count)), folder / f"{start}.seeds"  # written last
        if done.exists() and int(done.read_text()) >= len(seeds):
            continue
        samples = list(stream(generator, order, seeds))
        done.unlink(missing_ok=True)  # of a shorter shard: nobody reads it while it is replaced
        names = sorted(samples[0], reverse=True) if samples else ["a"]
        for name in names:
            with replacing(folder / f"{start}.{name}.npy") as part, open(part, "wb") as file:
                np.save(file, np.stack([sample[name] for sample in samples]) if samples else np.zeros((0,)))
        with replacing(done) as part:
            part.write_text(f"{len(seeds)}\n")
        yield folder / f"{start}.a.npy"
