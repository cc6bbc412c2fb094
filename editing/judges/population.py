"""How every judge varies over people: mean and standard deviation on generated faces, the unit of effects and leakage.

Written by `python -m editing.directions.fit` from its samples (psi 0.8); without those whose region is hardly there.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np

FILE = Path(__file__).with_name("population.json")


@cache
def load() -> dict[str, tuple[float, float]]:
    """Judge -> (mean, standard deviation)."""
    return {name: tuple(facts) for name, facts in json.loads(FILE.read_text()).items()}


def arrays() -> tuple[list[str], np.ndarray, np.ndarray]:
    """-> names, means (J,), standard deviations (J,), in one order."""
    facts = load()
    return list(facts), *(np.array([fact[i] for fact in facts.values()]) for i in (0, 1))
