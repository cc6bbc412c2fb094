"""How much a sentence asks for, which the reader leaves to rules: words for little and much, years, and ages.

amount("slightly older")                      # 0.5
years("make her ten years younger")           # 10.0
age("make him look about sixty")              # 60.0; of what a face *is*, 'she is 60 years old', nothing
"""

from __future__ import annotations

import re

AMOUNTS = tuple(
    (re.compile(rf"\b({words})\b", re.IGNORECASE), much)
    for words, much in (
        ("slightly|subtl[ey]|somewhat|gently|mildly|hint|bit|tad|touch|a little|little bit|smidge|ever so", 0.5),
        ("extremely|incredibly|insanely|massively|as possible|maximum|totally|completely", 2.0),
        ("much|a lot|lots|way|far|very|really|considerably|strongly|heavily|super|loads|seriously|good deal", 1.5),
    )
)
NO_AMOUNT = re.compile(r"\b(?:too|not) much\b|\ba little (?:girl|boy|kid|child)", re.IGNORECASE)

UNITS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9}
TEENS = {"ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16,
         "seventeen": 17, "eighteen": 18, "nineteen": 19}  # fmt: skip
TENS = {"twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90}
SOME = {"a": 1, "an": 1, "several": 7, "few": 5, "couple": 2, "some": 5}
WORDS = UNITS | TEENS | TENS | SOME

_PAIR = rf"(?:{'|'.join(TENS)})[ -](?:{'|'.join(UNITS)})"
_COUNT = rf"\d{{1,3}}(?:\.\d+)?|{_PAIR}|{'|'.join(WORDS)}"
YEARS = re.compile(
    rf"(?<![\w.])(?<!half )({_COUNT})[ -](?:(?:odd|of|or so|more|full|good)\s+)*"
    r"(years?|yrs?|decades?)\b(?![ -]*olds?\b)",
    re.IGNORECASE,
)

_AGE = rf"(?:\d{{1,3}}|{_PAIR}|{'|'.join(TENS)}|{'|'.join(list(TEENS)[1:])})"
_OLD = rf"(?:{_AGE}|{'|'.join(UNITS)}|ten)"
_DECADE = r"(?:twent|thirt|fort|fift|sixt|sevent|eight|ninet)ies|\d0'?s"
_ABOUT = (
    r"(?:about |around |roughly |like |maybe |approximately |at least "
    r"|(?:she|he|they|I)(?:'s| is| are|'m| am| were| was) )*"
)
AGED = re.compile(  # only of what a face is to look like: 'she looks 60' is not asked for
    r"\b(?P<way>(?<!\bI )(?<!\bthey )(?:look|appear|seem)|make (?:her|him|them|me|us)|age[ds]?(?: (?:her|him|them|me))?"
    r"(?: to)?|turn(?: (?:her|him|them|me))?(?: to| into)?|into|as|like|be|at) "
    rf"{_ABOUT}(?:an? |the age of |age |aged |be |to be )*(?:"
    rf"(?P<old>{_OLD})[ -]*(?:(?:years?|yrs?)[ -]*)?(?:olds?|y/?o)\b(?! (?:photo|picture|image))"
    rf"|(?P<bare>{_AGE})(?:ish|-ish)?(?=\s*(?:$|[.,:;!?]|(?:and|again|with|without|please|plz|thanks)\b))"
    rf"|in (?:her|his|their|my|your) (?:early |mid |late |mid-)?(?P<decade>{_DECADE})\b)",
    re.IGNORECASE,
)
NUMBERED = ("into", "as", "like", "be", "at")  # what follows these is an age only if it is no small number: 'be a 10'
SMALLEST = 13
NEVER = re.compile(r"\b(?:don't|dont|not|never)\b", re.IGNORECASE)


def amount(part: str) -> float:
    """How much: 1, or what a word for little or much says."""
    part = NO_AMOUNT.sub("", part)
    return next((much for words, much in AMOUNTS if words.search(part)), 1.0)


def years(text: str) -> float | None:
    """The number of years that a sentence gives, by which somebody is to be older or younger."""
    found = YEARS.search(text)
    if not found:
        return None
    return _number(found[1]) * (10 if found[2].lower().startswith("decade") else 1)


def age(part: str) -> float | None:
    """The age that a part of a sentence says a face is to look."""
    found = None if NEVER.search(part) else AGED.search(part)
    if not found:
        return None
    if found["decade"]:
        word = found["decade"].lower()
        return _number(word[:2] if word[0].isdigit() else word.removesuffix("ies") + "y") + 5  # 'fort' + 'y'
    value = _number(found["old"] or found["bare"])
    if found["bare"] and found["way"].lower() in NUMBERED and value < SMALLEST:
        return None
    return value


def _number(words: str) -> float:
    """'25', 'twenty-five', 'a' -> 25, 25, 1"""
    if words[0].isdigit():
        return float(words)
    return float(sum(WORDS[word] for word in re.split("[ -]", words.lower())))
