"""Korean: a small lexicon beside the English network, since the sentence encoder knows no Korean.

    read("머리를 빨갛게 하고 조금 더 젊게 해줘")     # ({"red_hair": 1.0, "younger": 0.5}, (), None)
    read("60세로 보이게 해줘")                          # ({}, (), 60.0)

Every pole has a few patterns (`ko` in `words/poles.toml`).  Where patterns of two poles overlap, the longer match
counts.  A word for little or much before a match, or shortly after, says how much.
"""

from __future__ import annotations

import re
from functools import cache

from editing.judges import population
from editing.text import poles as known

HANGUL = re.compile(r"[\uac00-\ud7a3\u1100-\u11ff\u3130-\u318f]")
LITTLE, MUCH = re.compile("조금|살짝|약간|은은"), re.compile("많이|훨씬|매우|아주|엄청|굉장히|완전|확|최대")
COUNTED = {
    "열다섯": 15, "스무": 20, "서른": 30, "마흔": 40, "쉰": 50, "예순": 60, "일흔": 70, "여든": 80, "다섯": 5, "한": 1,
    "두": 2, "세": 3, "열": 10,
}  # fmt: skip
_COUNT = rf"\d{{1,3}}|(?<![가-힣])(?:{'|'.join(COUNTED)})"
YEARS = re.compile(rf"({_COUNT}) ?(살|년|세)(?!인데|이지만|이고|이니|짜리)")
NEAR = 10  # characters
SPLIT = re.compile(r"[.,;!?\n]+|그리고|하고 |고 |며 ")
NEVER = re.compile(r"지 ?(말|마|않)|(?<![가-힣])안 ?(해|하|되|쓴|쓰|바른|한)|싫|멈춰")  # it is not wanted
LESS = re.compile(r"(?<![가-힣])덜 ")
LOOKS = re.compile(
    rf"({_COUNT}) ?(세|살|대)(?: ?(?:초반|중반|후반))?(?: ?(?!아래|위|더|덜)[가-힣]{{1,4}}?)?"
    r"(?:으?로|까지| ?처럼| ?같이| ?같은)(?![가-힣])"
)
TOO_MUCH, MEANS = re.compile("너무"), re.compile("게|지 ?않|지 ?말")  # a complaint, unless it says how it is to be
NOT_IN = re.compile(r"(?<![가-힣])안 ")


def written(text: str) -> bool:
    """Are most letters Korean?"""
    return len(HANGUL.findall(text)) > len(re.findall("[A-Za-z]", text))


@cache
def patterns() -> tuple[tuple[str, re.Pattern], ...]:
    return tuple((name, re.compile(p, re.IGNORECASE)) for name, pole in known.load().items() for p in pole.korean)


def read(text: str) -> tuple[dict[str, float], tuple[str, ...], float | None]:
    """A sentence -> pole -> amount, its parts that ask for nothing known, and the age that the face is to look."""
    matches = [(m.start(), m.end(), name) for name, pattern in patterns() for m in pattern.finditer(text)]
    chosen: list[tuple[int, int, str]] = []
    for start, end, name in sorted(matches, key=lambda m: m[0] - m[1]):
        if all(end <= s or start >= e for s, e, _ in chosen):
            chosen.append((start, end, name))
    wants: dict[str, float] = {}
    for start, end, name in sorted(chosen):
        first, last = clause(text, start, end)
        said = meant(name, text[first:start], text[start:end], text[end:last])
        if said:
            for other in [other for other in wants if known.apart(other, said)]:
                del wants[other]  # what is said last counts
            wants[said] = amount(text[first:last], start - first, end - first, said)
    aged = next((m for m in LOOKS.finditer(text) if not NEVER.search(text[m.end() : clause(text, *m.span())[1]])), None)
    if aged:
        wants = {name: much for name, much in wants.items() if "age" not in known.load()[name].wants}
        chosen.append((*aged.span(), ""))
    ignored = (part for part, start, end in parts(text) if not any(s < end and e > start for s, e, _ in chosen))
    return wants, tuple(ignored), years(aged) if aged else None


def years(aged: re.Match) -> float:
    """'60세' is 60, '60대' the middle of its decade."""
    return float(COUNTED.get(aged[1]) or aged[1]) + (5 if aged[2] == "대" else 0)


def meant(name: str, before: str, match: str, after: str) -> str:
    """A pole whose words stand in this clause -> the one that is wanted: its opposite where there is to be less of it,
    none ('') where it is not to be."""
    opposite = known.load()[name].opposite
    if LESS.search(before) or (TOO_MUCH.search(before + match) and not MEANS.search(after)):
        return opposite
    if NEVER.search(after) or (NOT_IN.search(before[-3:] + match) and not name.startswith("no_")):
        return opposite if name in ("glasses", "makeup", "lipstick", "smiling", "teeth") else ""
    return name


def clause(text: str, start: int, end: int) -> tuple[int, int]:
    """Where the clause around a match begins and ends."""
    cuts = [(m.start(), m.end()) for m in SPLIT.finditer(text)]
    first = max((e for _, e in cuts if e <= start), default=0)
    last = min((s for s, _ in cuts if s >= end), default=len(text))
    return first, last


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
    """How much of the pole whose words are there in a clause is asked for."""
    around = text[max(start - NEAR, 0) : end + 2]
    count = YEARS.search(text)
    if "age" in known.load()[name].wants and count:
        number = COUNTED.get(count[1]) or float(count[1])
        _, deviation = population.load()["age"]
        return round(min(number / deviation / abs(known.load()[name].wants["age"]), 3.0), 2)
    return 0.5 if LITTLE.search(around) else 1.6 if MUCH.search(around) else 1.0
