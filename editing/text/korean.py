"""Korean: a small lexicon beside the English network, since the sentence encoder knows no Korean.

    read("머리를 빨갛게 하고 조금 더 젊게 해줘")     # ({"red_hair": 1.0, "younger": 0.5}, ())

Every pole has a few patterns (`ko` in `words/poles.toml`).  Where patterns of two poles overlap, the longer match
counts.  A word for little or much before a match, or shortly after, says how much.
"""

from __future__ import annotations

import re
from functools import cache

from editing.judges import population
from editing.text import poles as known

HANGUL = re.compile(r"[\uac00-\ud7a3\u1100-\u11ff\u3130-\u318f]")
LITTLE, MUCH = re.compile("조금|살짝|약간|좀|은은"), re.compile("많이|훨씬|매우|아주|엄청|굉장히|완전|확|최대")
YEARS = re.compile(r"(\d{1,3}|한|두|세|다섯|열|스무|서른) ?(살|년|세)")
COUNTED = {"한": 1, "두": 2, "세": 3, "다섯": 5, "열": 10, "스무": 20, "서른": 30}
NEAR = 10  # characters
SPLIT = re.compile(r"[.,;!?\n]+|그리고|하고 |고 |며 ")
NEVER = re.compile(r"^.{0,8}?(지 ?(말|마|않)|안 ?(해|하|되))")  # after a match: it is not wanted


def written(text: str) -> bool:
    return bool(HANGUL.search(text))


@cache
def patterns() -> tuple[tuple[str, re.Pattern], ...]:
    return tuple((name, re.compile(p, re.IGNORECASE)) for name, pole in known.load().items() for p in pole.korean)


def read(text: str) -> tuple[dict[str, float], tuple[str, ...]]:
    """A sentence -> pole -> amount, and its parts that ask for nothing known."""
    matches = [(m.start(), m.end(), name) for name, pattern in patterns() for m in pattern.finditer(text)]
    chosen: list[tuple[int, int, str]] = []
    for start, end, name in sorted(matches, key=lambda m: m[0] - m[1]):
        if all(end <= s or start >= e for s, e, _ in chosen):
            chosen.append((start, end, name))
    chosen = [found for found in sorted(chosen) if not NEVER.search(text[found[1] :])]
    wants = {name: amount(text, start, end, name) for start, end, name in chosen}
    return wants, tuple(
        part for part, start, end in parts(text) if not any(s < end and e > start for s, e, _ in chosen)
    )


def parts(text: str) -> list[tuple[str, int, int]]:
    """Clauses with their places; those without a Korean letter are left out."""
    found, start = [], 0
    for split in [*SPLIT.finditer(text), None]:
        end = split.start() if split else len(text)
        if written(text[start:end]):
            found.append((text[start:end].strip(), start, end))
        start = split.end() if split else end
    return found


def amount(text: str, start: int, end: int, name: str) -> float:
    """How much of the pole whose words are there is asked for."""
    around = text[max(start - NEAR, 0) : end + 2]
    years = YEARS.search(text)
    if "age" in known.load()[name].wants and years:
        number = COUNTED.get(years[1]) or float(years[1])
        _, deviation = population.load()["age"]
        return round(min(number / deviation / abs(known.load()[name].wants["age"]), 3.0), 2)
    return 0.5 if LITTLE.search(around) else 1.6 if MUCH.search(around) else 1.0
