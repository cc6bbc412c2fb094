"""The heads that ship, by name."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from editing.heads.translators import Head, load
from stylegan2 import console
from stylegan2.errors import UsageError

DATA = Path(__file__).with_name("data")


@lru_cache(maxsize=1)
def heads() -> Mapping[str, Head]:
    found: dict[str, Head] = {}
    for path in sorted(DATA.glob("*.safetensors")):
        found |= load(path)
    return found


def find(name: str) -> Head:
    """UsageError, with the nearest name, if there is none."""
    if name not in heads():
        raise UsageError(console.unknown("heads", name, heads()))
    return heads()[name]
