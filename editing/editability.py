"""How much of an edit an inversion keeps: the ruler by which strategies are compared.

Editability of an edit = mean change of its judge over the inverted photos, divided by the mean change for
the same step in w on 64 generated faces (seeds 0-63, psi 0.7).  Faces whose judge is already saturated -
beyond the 10% of generated faces that the edit moves towards - are left out of both.  The 95% interval
is a bootstrap over both sets of faces.  Drift is the price: the mean dlib distance of the edited face from the unedited
one, divided by what the same step costs generated faces.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from editing.directions import Catalogue, apply
from editing.inversion.residual import render
from editing.judges.judge import distance, judge
from editing.types import Inversion, generator_sha256
from stylegan2 import engine, zoo
from stylegan2.files import replacing
from stylegan2.generator import Generator

# Offsets to weights are regularised along smile and age (`inversion.tuning.Tune.edits`); yaw and pitch are held out.
EDITS = (("smile", 2.0), ("age", 3.0), ("age", -3.0), ("yaw", 2.0), ("yaw", -2.0), ("pitch", 2.0))
SEEDS, PSI = range(64), 0.7
DRAWS = 2000
Draw = Callable[[Generator, Inversion], Tensor]  # -> (1, 3, R, R), about [-1, 1]
Changes = dict[str, list[tuple[float, float, float]]]  # 'smile+2' -> per face (judge before, judge after, distance)


@dataclass(frozen=True)
class Editability:
    """ratio of mean changes, its 95% interval, how many inverted faces were counted; drift: ratio of mean distances."""

    ratio: float
    low: float
    high: float
    faces: int
    drift: float


def label(name: str, strength: float) -> str:
    return f"{name}{strength:+g}"


def changes(generator: Generator, inversions: Iterable[Inversion], catalogue: Catalogue,
            done: Callable[[], None] = lambda: None, draw: Draw = render) -> Changes:  # fmt: skip
    """Render every edit of every inversion, judge before and after, compare persons; NaN where no face is found."""
    result: Changes = {label(*edit): [] for edit in EDITS}
    for inversion in inversions:
        before = judge(engine.to_uint8(draw(generator, inversion))[0])
        for name, strength in EDITS:
            direction = catalogue[name]
            edited = replace(inversion, ws=apply(inversion.ws, direction, strength))
            after = judge(engine.to_uint8(draw(generator, edited))[0])
            values = tuple(s.values[direction.judge] if s else float("nan") for s in (before, after))
            moved = distance(before.descriptor, after.descriptor) if before and after else float("nan")
            result[label(name, strength)].append((*values, moved))
        done()
    return result


def reference(generator: Generator, catalogue: Catalogue) -> Changes:
    """`changes` of the 64 generated faces; kept in the cache under what it depends on."""
    vectors = b"".join(catalogue[name].vector.float().numpy().tobytes() for name, _ in EDITS)
    vectors += repr([(catalogue[name].rows, catalogue[name].judge) for name, _ in EDITS]).encode()
    key = hashlib.sha256(
        vectors + repr((EDITS, SEEDS, PSI, "distance")).encode() + generator_sha256(generator).encode()
    ).hexdigest()
    path = zoo.home() / "reference" / f"editability-{key[:16]}.json"
    if path.exists():
        return {name: [tuple(pair) for pair in pairs] for name, pairs in json.loads(path.read_text()).items()}
    ws = engine.broadcast(generator, engine.latents(generator, SEEDS, PSI))
    result = changes(generator, [Inversion(ws=w, family=generator.family) for w in ws.split(1)], catalogue)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        part.write_text(json.dumps(result))
    return result


def editability(photos: Changes, generated: Changes) -> dict[str, Editability]:
    """Per edit, and pooled over the signs of an edit ('age', 'yaw')."""
    pooled: dict[str, tuple[list, list]] = {}
    result = {}
    for name, strength in EDITS:
        edit, sign = label(name, strength), np.sign(strength)
        bound = np.nanquantile([sign * before for before, *_ in generated[edit]], 0.9)
        sets = [(_moves(faces, sign, bound), _distances(faces)) for faces in (photos[edit], generated[edit])]
        result[edit] = _ratio(*sets)
        pooled.setdefault(name, []).append(sets)
    for name, edits in pooled.items():
        if name not in result:
            result[name] = _ratio(
                *(tuple(map(np.concatenate, zip(*sets, strict=True))) for sets in zip(*edits, strict=True))
            )
    return result


def _moves(faces: list[tuple[float, float, float]], sign: float, bound: float) -> np.ndarray:
    """Signed changes of the faces that are not saturated; a face that the edit destroyed counts as no change."""
    before, after, _ = np.array(faces, dtype=float).reshape(-1, 3).T * sign
    return np.nan_to_num(after - before)[np.isfinite(before) & (before < bound)]


def _distances(faces: list[tuple[float, float, float]]) -> np.ndarray:
    """Of all faces that are found before and after."""
    distances = np.array(faces, dtype=float).reshape(-1, 3)[:, 2]
    return distances[np.isfinite(distances)]


def _ratio(photos: tuple[np.ndarray, np.ndarray], generated: tuple[np.ndarray, np.ndarray]) -> Editability:
    """Both: changes (n,), distances (m,)."""
    (ours, near), (theirs, usual) = photos, generated
    drift = float(near.mean() / usual.mean()) if len(near) and len(usual) else float("nan")
    if not len(ours) or not len(theirs):
        return Editability(float("nan"), float("nan"), float("nan"), len(ours), drift)
    random = np.random.default_rng(0)
    draws = [
        random.choice(ours, len(ours)).mean() / random.choice(theirs, len(theirs)).mean() for _ in range(DRAWS)
    ]  # fmt: skip
    low, high = np.quantile(draws, (0.025, 0.975))
    return Editability(float(ours.mean() / theirs.mean()), float(low), float(high), len(ours), drift)
