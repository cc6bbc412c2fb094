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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from stylegan2.files import replacing

VECTORS = Path(__file__).with_name("catalogue.safetensors")
FACTS = Path(__file__).with_name("catalogue.json")
MERGED = 16  # rows of the default generator


@dataclass(frozen=True)
class Direction:
    """One named edit.  vector (512,) in W, or (16, 512), a vector a row; rows (start, end) of ws that it moves, end
    exclusive.

    judge: the measurement it is judged by ('' where none can see it); effect: mean change of that judge
    per unit of strength; safe_range: strengths between which the median face keeps its identity, None where nobody
    has measured it; drift: median identity distance at the ends; leakage: standardised movement of the other judges.
    All measured on generated faces, see `editing.directions.calibrate`.
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
    drift: float | None = None
    leakage: Mapping[str, float] = field(default_factory=dict)


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


def load() -> Catalogue:
    """The catalogue that ships with the package."""
    vectors, facts = load_file(VECTORS), json.loads(FACTS.read_text())
    return Catalogue([from_facts(name, vectors[name].float(), fact) for name, fact in facts.items()])


def facts_of(direction: Direction) -> dict:
    """Everything of a direction but its name and its numbers, as JSON can hold it."""
    return {key: getattr(direction, key) for key in Direction.__dataclass_fields__ if key not in ("name", "vector")}


def from_facts(name: str, vector: Tensor, fact: dict) -> Direction:
    """The inverse of `facts_of`.  KeyError, TypeError or ValueError if facts are missing, unknown or wrong."""
    if not all(isinstance(fact[key], str) for key in ("group", "source", "description", "judge")):
        raise TypeError("group, source, description and judge are texts")
    first, last = (int(row) for row in fact["rows"])
    safe = fact["safe_range"] and tuple(float(end) for end in fact["safe_range"])
    if safe and not (len(safe) == 2 and all(map(math.isfinite, safe))):
        raise ValueError("a safe range has two ends")
    return Direction(name=name, vector=vector, **(fact | {"rows": (first, last), "safe_range": safe}))


def save(catalogue: Catalogue) -> None:
    """Write the shipped files: vectors as float32 safetensors, everything else as JSON that a diff can show."""
    with replacing(VECTORS) as part:
        save_file({name: direction.vector.float().contiguous() for name, direction in catalogue.items()}, part)
    facts = {name: facts_of(direction) for name, direction in catalogue.items()}
    with replacing(FACTS) as part:
        part.write_text(json.dumps(facts, indent=1) + "\n")
