"""What the page says, in every language: one JSON file each; a new file is a new language."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent
FALLBACK = "en"


@cache
def languages() -> dict[str, str]:
    """Code -> the language's own name, English first."""
    found = {path.stem: _read(path.stem)["language"] for path in sorted(FOLDER.glob("*.json"))}
    return {FALLBACK: found.pop(FALLBACK), **found}


@cache
def _read(code: str) -> dict[str, str]:
    return json.loads((FOLDER / f"{code}.json").read_text("utf-8"))


def say(code: str, key: str, **values: object) -> str:
    """The text `key` in a language, in English where it is not translated, and the key itself where it is nowhere."""
    text = _read(code if code in languages() else FALLBACK).get(key) or _read(FALLBACK).get(key, key)
    return text.format(**values) if values else text


def name_of(code: str, kind: str, name: str) -> str:
    """What an edit, group, judge, ... is called: the text 'kind.name', else its name with spaces."""
    text = say(code, f"{kind}.{name}")
    return name.replace("_", " ") if text == f"{kind}.{name}" else text
