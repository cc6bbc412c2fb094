"""What the page says, in every language: one JSON file each; a new file is a new language.

The rest of the program speaks English.  What it tells a person stands in `sentences`, a file for each language, by the
English sentence with its gaps: '{name} is empty.'
"""

from __future__ import annotations

import json
import re
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


@cache
def _sentences(code: str) -> list[tuple[re.Pattern, str]]:
    path = FOLDER / "sentences" / f"{code}.json"
    known = json.loads(path.read_text("utf-8")) if code in languages() and path.exists() else {}
    longest_first = sorted(known.items(), key=lambda item: -len(re.sub(r"{\w+}", "", item[0])))
    return [(re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>.+?)", re.escape(english)), re.DOTALL), text)
            for english, text in longest_first]  # fmt: skip


def told(code: str, sentence: str) -> str:
    """An English sentence of the program's in a language, the same where it is not translated."""
    for pattern, text in _sentences(code):
        if match := pattern.fullmatch(sentence):
            return re.sub(r"{(\w+)}", lambda gap: match[gap[1]], text)
    return sentence
