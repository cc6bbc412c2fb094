"""The catalogue of named edits: directions in W with the rows they act on and what was measured of them.

    catalogue = load()
    edited = apply(ws, catalogue["smile"], 2.0)          # ws + 2 * direction, on its rows

Two kinds share one meaning of strength s, ws[rows] + s * vector, and s = 0 is always the identity:
fitted directions (InterFaceGAN-like, arXiv 2005.09635) have unit length, so s counts units of w; those of
GANSpace (arXiv 2004.02546) are a principal component times its standard deviation, so s counts sigmas
(the published code moves a coordinate *to* s instead, where 0 is not the identity).
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from stylegan2.errors import UsageError
from stylegan2.files import replacing

VECTORS = Path(__file__).with_name("catalogue.safetensors")
FACTS = Path(__file__).with_name("catalogue.json")
MERGED = 16  # rows of the default generator


@dataclass(frozen=True)
class Direction:
    """One named edit.  vector (512,) in W, or (16, 512), a vector a row; rows (start, end) of ws that it moves, end
    exclusive.

    judge: the measurement it is judged by, '-hair_warm' where it falls; effect: mean change of that judge
    per unit of strength; safe_range: strengths between which the median face keeps its identity, None where nobody
    has measured it; ends: what its judge moves at both, in standard deviations of the population, and right: the share
    of faces that it moves the right way there; drift: median identity distance, the larger of both ends; leakage: what
    another judge moves, in its own standard deviations, for one of its judge's.
    Measured on generated faces and photos, see `editing.directions.calibrate`.
    clean: (2, 16, 512), what a strength of 1 adds in the disentangled form, below 0 and above; see
    `editing.directions.disentangle`.  clean_figures: its mean leakage (leak), the share of the target's movement that
    it keeps (kept) and its drift;
    styles: what a strength of 1 adds to the gains of these styles, (C,) each, see `editing.directions.stylespace`; a
    direction that has them may have a vector of zeros;
    identity: what recipes pin it by instead of its numbers, for one that is computed where it is used.
    """

    name: str
    vector: Tensor
    rows: tuple[int, int]
    group: str = ""
    source: str = ""
    description: str = ""
    judge: str = ""
    safe_range: tuple[float, float] | None = None
    effect: float | None = None
    ends: tuple[float, float] | None = None
    right: tuple[float, float] | None = None
    drift: float | None = None
    leakage: Mapping[str, float] = field(default_factory=dict)
    clean_figures: Mapping[str, float] | None = None
    styles: Mapping[str, Tensor] | None = None
    clean: Tensor | None = None
    identity: str = ""

    @property
    def leaks(self) -> float:
        """What the other judges move on average, each in its standard deviations, for one of its judge's."""
        return float(np.nanmean(list(self.leakage.values())))


class Catalogue(Mapping[str, Direction]):
    """Directions by name, in the order they are shown."""

    def __init__(self, directions: list[Direction]) -> None:
        self._directions = {direction.name: direction for direction in directions}

    def __getitem__(self, name: str) -> Direction:
        return self._directions[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._directions)

    def __len__(self) -> int:
        return len(self._directions)


def apply(ws: Tensor, direction: Direction, strength: float) -> Tensor:
    """ws (B, num_ws, 512) -> a new ws with strength * vector added to the direction's rows.

    Rows count as in the default generator, which merges StyleGAN2's last three of 18 rows into its 16th: a
    direction that moves that one moves all three there.
    """
    start, end = direction.rows
    end = ws.shape[1] if end == MERGED else end
    rows = torch.zeros(ws.shape[1], 1, dtype=ws.dtype, device=ws.device)
    rows[start:end] = strength
    vector = direction.vector.to(ws)
    if vector.ndim == 2:  # rows that are merged in the default generator share its last vector; others have fewer
        vector = vector[torch.arange(ws.shape[1], device=ws.device).clamp(max=MERGED - 1)]
    return ws + rows * vector


def disentangled(direction: Direction, strength: float) -> Direction:
    """Its disentangled form on this side of 0 (see `editing.directions.disentangle`).

    UsageError if nobody has measured one, also for this side alone.
    """
    if direction.clean is None:
        raise UsageError(f"'{direction.name}' has no disentangled form: leave --disentangle out for it.")
    side = direction.clean[int(strength > 0)]
    if strength and not bool(side.any()):
        raise UsageError(
            f"'{direction.name}' has a disentangled form only for strengths {'below' if strength > 0 else 'above'} 0."
        )
    return replace(direction, vector=side, rows=(0, MERGED))


def leak(change: np.ndarray, target: int) -> float:
    """Mean movements (J,) in standard deviations -> mean movement of the others for one of the target's."""
    others = np.delete(np.abs(change), target)
    return float(np.nanmean(others) / max(abs(change[target]), 1e-6))


def load() -> Catalogue:
    """The catalogue that ships with the package."""
    tensors, facts = load_file(VECTORS), json.loads(FACTS.read_text())
    return Catalogue([from_facts(name, tensors, fact) for name, fact in facts.items()])


def tensors_of(directions: Collection[Direction]) -> dict[str, Tensor]:
    """Everything that is numbers, for a safetensors file: 'name' the vector, 'name/style' a change of that style,
    'name#clean' the disentangled form."""
    tensors = {direction.name: direction.vector for direction in directions}
    for direction in directions:
        tensors |= {f"{direction.name}/{style}": change for style, change in (direction.styles or {}).items()}
        if direction.clean is not None:
            tensors[f"{direction.name}#clean"] = direction.clean
    return {name: tensor.float().contiguous() for name, tensor in tensors.items()}


def facts_of(direction: Direction) -> dict:
    """Everything of a direction but its name and its numbers, as JSON can hold it."""
    numbers = ("name", "vector", "styles", "clean", "identity")
    return {key: getattr(direction, key) for key in Direction.__dataclass_fields__ if key not in numbers}


def from_facts(name: str, tensors: Mapping[str, Tensor], fact: dict) -> Direction:
    """The inverse of `facts_of` and `tensors_of`.

    KeyError, TypeError or ValueError if facts are missing, unknown or wrong.
    """
    if not all(isinstance(fact[key], str) for key in ("group", "source", "description", "judge")):
        raise TypeError("group, source, description and judge are texts")
    first, last = (int(row) for row in fact["rows"])
    safe = fact["safe_range"] and tuple(float(end) for end in fact["safe_range"])
    if safe and not (len(safe) == 2 and all(map(math.isfinite, safe))):
        raise ValueError("a safe range has two ends")
    if "styles" in fact or "clean" in fact:
        raise ValueError("styles and vectors are numbers, not facts")
    styles = {key.partition("/")[2]: t.float() for key, t in tensors.items() if key.startswith(f"{name}/")}
    pairs = {key: fact[key] and tuple(map(float, fact[key])) for key in ("ends", "right") if key in fact}
    if fact.get("clean_figures"):
        pairs["clean_figures"] = {key: float(value) for key, value in fact["clean_figures"].items()}
    facts = fact | pairs | {"rows": (first, last), "safe_range": safe, "styles": styles or None}
    clean = tensors[f"{name}#clean"].float() if f"{name}#clean" in tensors else None
    return Direction(name=name, vector=tensors[name].float(), clean=clean, **facts)


def save(catalogue: Catalogue) -> None:
    """Write the shipped files: vectors as float32 safetensors, everything else as JSON that a diff can show."""
    with replacing(VECTORS) as part:
        save_file(tensors_of(catalogue.values()), part)
    facts = {name: facts_of(direction) for name, direction in catalogue.items()}
    with replacing(FACTS) as part:
        part.write_text(json.dumps(facts, indent=1) + "\n")
