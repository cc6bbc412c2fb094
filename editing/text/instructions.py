"""Sentences that ask for something: what the reader of instructions is trained on.

    request = draw(np.random.default_rng(0))
    request.text       # "give her ginger hair, and make her look a bit younger please"
    request.wants      # {"red_hair": 1.0, "younger": 0.5}

Made from the words of the poles (`words/english.json`), by slot: 'are' follows "make her ...", 'have' "give her ...",
'do' "let her ...", and 'change' is an instruction already.  Sentences ask for up to four things, for their opposites,
for a little or a lot, for what cannot be done, and for something to be left alone.  Nearly half are sentences that were
written, not put together (`words/natural.json`): complaints, hints, idioms.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from editing.text import captions
from editing.text import poles as known
from editing.text.poles import WORDS, Pole

FORMS: Mapping[str, Sequence[str]] = {
    "are": ("make {him} {m}{x}", "make {him} {m}{x}", "make {him} look {m}{x}", "{she} should look {m}{x}", "{m}{x}",
            "{she} should be {m}{x}", "I want {him} {m}{x}", "I want {him} to look {m}{x}", "have {him} look {m}{x}",
            "could {she} look {m}{x}", "{she} needs to look {m}{x}", "try {him} {m}{x}", "what if {she} were {m}{x}",
            "let {him} appear {m}{x}", "{she} would look better {m}{x}", "turn {him} {m}{x}"),
    "have": ("give {him} {x}", "give {him} {x}", "add {x}", "with {x}", "{x}", "put {x} on {him}", "let {him} have {x}",
             "{she} should have {x}", "{she} needs {x}", "I want {him} with {x}", "how about {x}", "{him} with {x}",
             "make it so {she} has {x}", "I would like to see {him} with {x}", "{x} would suit {him}",
             "show {him} with {x}", "can {she} have {x}"),
    "do": ("make {him} {x}", "let {him} {x}", "have {him} {x}", "{she} should {x}", "{x}", "I want {him} to {x}",
           "get {him} to {x}", "can {she} {x}", "ask {him} to {x}", "{she} could {x}"),
    "change": ("{x}",),
}  # fmt: skip
ADJECTIVES = ("{x} {noun}", "{x} {noun}", "{x} {noun}", "make {her} {noun} {x}", "make the {noun} {x}", "{noun} {x}",
              "{her} {noun} should be {x}", "give {him} {x} {noun}", "I want {her} {noun} {x}", "with {x} {noun}",
              "{x} {noun} for {him}", "{her} {noun} could be {x}", "{x} {noun} on {him}",
              "get {her} {noun} {x}")  # fmt: skip
DYED = ("dye {her} {noun} {x}", "colour {her} {noun} {x}", "paint {her} {noun} {x}", "{her} {noun}: {x}")
VERBS = ("{x} {her} {noun}", "{x} the {noun}", "{x} {her} {noun}", "could you {x} {her} {noun}", "{x} {noun}")
YEARS = {
    "older": ("{n} older", "make {him} {n} older", "make {him} look {n} older", "add {n} to {him}", "age {him} by {n}",
              "age {him} {n}", "put {n} on {him}", "{him} in {n}", "as {she} will look in {n}", "fast forward {n}",
              "{she} should be {n} older", "give {him} {n} more"),
    "younger": ("{n} younger", "make {him} {n} younger", "make {him} look {n} younger", "take {n} off {him}",
                "knock {n} off {her} face", "shave {n} off {him}", "turn back the clock {n}", "{him} {n} ago",
                "as {she} looked {n} ago", "{she} should be {n} younger", "lose {n}", "rejuvenate {him} by {n}"),
}  # fmt: skip
COUNTS = ("two", "three", "five", "ten", "fifteen", "twenty", "thirty", "forty", "fifty", "a few", "a couple of", "5",
          "10", "12", "15", "20", "25", "30", "40", "50", "about ten", "a good twenty", "thirty-odd")  # fmt: skip
COLOURED = {"blond", "dark_hair", "black_hair", "brown_hair", "red_hair", "golden_hair", "gray_hair", "lipstick",
            "dark_lips", "light_lips", "brows_strong", "brows_weak"}  # fmt: skip
OPPOSITES: Mapping[str, Sequence[str]] = {
    "are": ("make {him} less {x}", "{she} should not look {x}", "not so {x}", "less {x}", "{she} looks too {x}",
            "don't let {him} look {x}", "not {x}"),
    "have": ("no {bare}", "without {x}", "remove {bare}", "take away {bare}", "get rid of {bare}", "lose {bare}",
             "{she} should not have {x}", "take {bare} off", "I don't want {x}", "{him} without {x}", "less {bare}"),
    "do": ("don't {x}", "{she} should not {x}", "do not let {him} {x}", "stop {him} trying to {x}", "never {x}"),
}  # fmt: skip
FIXES = ("fix that", "fix it", "sort it out", "change that", "do something about it", "correct that please",
         "please help", "that has to change", "can you fix that", "not good", "it needs work")  # fmt: skip
COMPLAINTS: Mapping[str, Sequence[str]] = {  # {o}: what is wrong; {x}: what is wanted
    "are": ("{she} looks so {o}, {fix}", "{she} looks too {o}", "why so {o}? {x}", "{she} is far too {o}, {fix}",
            "{she} looks {o}, {x}", "stop {him} looking so {o}", "{she} came out too {o}", "{she} looks a bit {o}, {x}",
            "not so {o}, {x}", "{him}, so {o}, {fix}"),
    "part": ("{her} {noun} is too {o}", "{her} {noun} looks so {o}, {fix}", "the {noun} is {o}, make it {x}",
             "{her} {noun} is {o}, it should be {x}", "the {noun} came out too {o}",
             "{her} {noun} is way too {o}, {fix}", "it came out with the {noun} too {o}, {fix}",
             "{her} {noun} is not {x} enough", "such {o} {noun}, {fix}", "the {noun} is not {x} enough, {fix}"),
    "have": ("{she} has {o}, {fix}", "enough of {o}", "{o}, {fix}", "tone down {o}", "go easy on {o}",
             "take care of {o}", "{o} has to go", "there is {o}, get rid of it", "I am tired of {o}",
             "not so much of {o}"),
}  # fmt: skip
MORE = {
    "a bit": 0.5, "a little": 0.5, "a little bit": 0.5, "slightly": 0.5, "somewhat": 0.6, "a touch": 0.5, "a tad": 0.5,
    "subtly": 0.4, "much": 1.6, "a lot": 1.7, "far": 1.6, "way": 1.7, "very": 1.5, "really": 1.5, "extremely": 2.0,
    "incredibly": 2.0, "considerably": 1.5, "so much": 1.7,
}  # fmt: skip
AFTER = {
    "slightly": 0.5, "a bit": 0.5, "a little": 0.5, "just a touch": 0.5, "very gently": 0.4, "a lot": 1.7,
    "as much as possible": 2.0, "really strongly": 1.8, "completely": 1.6,
}  # fmt: skip
PEOPLE = (  # possessive, object, subject, reflexive
    ("her", "her", "she", "herself"), ("his", "him", "he", "himself"), ("their", "them", "they", "themselves"),
    ("the", "the face", "the face", "it"), ("the woman's", "the woman", "the woman", "herself"),
    ("the man's", "the man", "the man", "himself"), ("my", "me", "I", "myself"), ("this person's", "this person",
    "this person", "themselves"), ("my mum's", "my mum", "my mum", "herself"), ("the guy's", "the guy", "the guy",
    "himself"), ("the", "it", "it", "itself"),
)  # fmt: skip
BEFORE = ("please ", "can you ", "could you ", "I'd like you to ", "now ", "ok, ", "hey, ", "let's ", "just ", "maybe ")
LAST = (" please", ", thanks", "!", ", please", ".", "?", " now", " for me", ".")
JOINTS = (
    " and ",
    " + ",
    ", ",
    ", and ",
    " and also ",
    "; ",
    ". ",
    " but ",
    " then ",
    ", then ",
    " plus ",
    " with ",
    " & ",
)
ANY = ("don't make {him} any {x}", "without making {him} any {x}", "but not any {x}", "do not make {him} look {x}")
WHOLE = 0.45  # share of sentences that were written as they are
KEEPING = ("keep {her} {x}", "leave {her} {x} alone", "don't change {her} {x}", "do not touch {her} {x}",
           "{her} {x} should stay as it is", "without changing {her} {x}", "leave {her} {x} as it is")  # fmt: skip


@dataclass(frozen=True)
class Request:
    """A sentence, and how much of what it asks for: pole -> amount, 1 for 'make her smile'."""

    text: str
    wants: Mapping[str, float]


@cache
def others() -> Mapping:
    return json.loads((WORDS / "other.json").read_text(encoding="utf-8"))


@cache
def natural(held: bool = False) -> tuple[Request, ...]:
    """Whole sentences; held: the tenth of them that `draw` never draws."""
    rows = json.loads((WORDS / "natural.json").read_text(encoding="utf-8"))
    return tuple(
        Request(row["text"], dict.fromkeys(row["poles"], 1.0)) for i, row in enumerate(rows) if (i % 10 == 0) == held
    )


@cache
def askable() -> tuple[Pole, ...]:
    return tuple(pole for pole in known.load().values() if pole.asked)


def draw(rng: np.random.Generator) -> Request:
    """One sentence."""
    person = PEOPLE[rng.integers(len(PEOPLE))]
    if rng.random() < WHOLE:
        return whole(person, rng)
    if rng.random() < 0.12:
        return Request(dressed(nothing(person, rng), rng), {})
    if rng.random() < 0.08:
        return described(rng)
    if rng.random() < 0.06:
        return shared(person, rng)
    clauses, wants, short = [], {}, rng.random() < 0.25
    count = int(rng.choice((1, 2, 3, 4, 5), p=(0.4, 0.29, 0.17, 0.1, 0.04)))
    for pole in several(count, rng):
        text, name, amount = clause(pole, person, rng, short)
        clauses.append(text)
        wants[name] = amount
    if rng.random() < 0.12:
        clauses.insert(int(rng.integers(len(clauses) + 1)), nothing(person, rng))
    joints = (", ",) if short and rng.random() < 0.6 else JOINTS
    text = clauses[0] + "".join(str(rng.choice(joints)) + c for c in clauses[1:-1])
    text += str(rng.choice(JOINTS)) + clauses[-1] if len(clauses) > 1 else ""
    if rng.random() < 0.15:
        text += str(rng.choice((" but ", ", ", " and ", ", but ", " "))) + kept(person, rng)
    return Request(dressed(text, rng), wants)


def whole(person: Sequence[str], rng: np.random.Generator) -> Request:
    """A sentence that was written, now and then with another one or a clause beside it."""
    first = natural()[rng.integers(len(natural()))]
    kind = rng.random()
    if kind < 0.15:
        second = natural()[rng.integers(len(natural()))]
    elif kind < 0.3:
        text, name, amount = clause(askable()[rng.integers(len(askable()))], person, rng)
        second = Request(text, {name: amount})
    else:
        return Request(slipped(first.text, rng), first.wants)
    if set(judges(first)) & set(judges(second)):
        return Request(slipped(first.text, rng), first.wants)
    pair = [first, second] if rng.random() < 0.5 else [second, first]
    text = pair[0].text.rstrip(".") + str(rng.choice(JOINTS)) + pair[1].text
    return Request(slipped(text, rng), {**first.wants, **second.wants})


def judges(request: Request) -> list[str]:
    return [judge for name in request.wants for judge in known.load()[name].judges]


def described(rng: np.random.Generator) -> Request:
    """A description of what the face is to be like, as of captions."""
    poles = [pole for pole in several(8, rng) if pole.state or pole.has][: int(rng.integers(1, 4))]
    male = (True, False, None)[rng.integers(3)]
    noun = str(rng.choice(captions.NOBODY if male is None else captions.NOUNS[True, male]))
    return Request(dressed(captions.sentence(noun, male, poles, rng), rng), {pole.name: 1.0 for pole in poles})


def several(count: int, rng: np.random.Generator) -> list[Pole]:
    """Poles that do not share a judge."""
    chosen: list[Pole] = []
    for i in rng.permutation(len(askable())):
        pole = askable()[i]
        if len(chosen) < count and not any(set(pole.judges) & set(other.judges) for other in chosen):
            chosen.append(pole)
    return chosen


def clause(pole: Pole, person: Sequence[str], rng: np.random.Generator, short: bool = False) -> tuple[str, str, float]:
    """A part of a sentence -> it, the pole that it asks for, and how much of it.  Now and then it says 'not' of the
    other end.  short: in as few words as there are."""
    other = known.load().get(pole.opposite)
    if other is not None and not short and rng.random() < 0.14:
        found = complaint(pole, other, rng)
        if found:
            return addressed(found, person), pole.name, 1.0
    if other is not None and not short and rng.random() < 0.12:
        slots = [slot for slot in OPPOSITES if other.asked.get(slot)]
        if slots:
            slot = str(rng.choice(slots))
            return (
                addressed(_filled(str(rng.choice(OPPOSITES[slot])), other.asked[slot], "", rng), person),
                pole.name,
                1.0,
            )
    if pole.name in YEARS and rng.random() < 0.4:
        count = str(rng.choice(COUNTS))
        years = (
            str(rng.choice(("a decade", "a few decades", "two decades"))) if rng.random() < 0.12 else f"{count} years"
        )
        return addressed(str(rng.choice(YEARS[pole.name])).replace("{n}", years), person), pole.name, 1.0
    if pole.part and rng.random() < (0.6 if short else 0.3):
        return _of_part(pole, person, rng, short)
    slots = [slot for slot, words in pole.asked.items() if words and (not short or slot in ("are", "have"))]
    slot = str(rng.choice(slots, p=_weights(slots))) if slots else "change"
    modifier, amount = "", 1.0
    if slot == "are" and rng.random() < 0.3:
        modifier = str(rng.choice(list(MORE)))
        modifier, amount = f"{modifier} ", MORE[modifier]
    form = ("{m}{x}" if slot == "are" else "{x}") if short else str(rng.choice(FORMS[slot]))
    text = _filled(form, pole.asked[slot], modifier, rng)
    if amount == 1.0 and slot == "change" and rng.random() < 0.15:
        word = str(rng.choice(list(AFTER)))
        text, amount = f"{text} {word}", AFTER[word]
    return addressed(text, person), pole.name, amount


def complaint(pole: Pole, other: Pole, rng: np.random.Generator) -> str:
    """'his chin is too short, fix that': what is wrong is the other end.  '' where there are no words for it."""
    ways = [slot for slot in ("are", "have") if other.asked.get(slot)]
    nouns = sorted(set(pole.part.get("noun", ())) & set(other.part.get("noun", ())))
    ways += ["part", "part"] if nouns else []
    if not ways:
        return ""
    way = str(rng.choice(ways))
    if way == "part":
        wrong, wanted = other.part["adj"], pole.part["adj"]
    else:
        wrong, wanted = other.asked[way], pole.asked["change"]
    text = str(rng.choice(COMPLAINTS[way])).replace("{fix}", str(rng.choice(FIXES)))
    text = text.replace("{noun}", str(rng.choice(nouns)) if way == "part" else "")
    return text.replace("{o}", str(rng.choice(wrong))).replace("{x}", str(rng.choice(wanted)))


def _filled(form: str, words: Sequence[str], modifier: str, rng: np.random.Generator) -> str:
    x = str(rng.choice(words))
    bare = re.sub(r"^(an?|some|a pair of) ", "", x)
    if bare != x and rng.random() < 0.5:
        bare = f"{{her}} {bare}"
    return form.replace("{m}", modifier).replace("{x}", x).replace("{bare}", bare)


def _of_part(pole: Pole, person: Sequence[str], rng: np.random.Generator, short: bool) -> tuple[str, str, float]:
    """'make her lips thinner': a part, and how it is to be or what is to be done to it"""
    noun, amount, modifier = str(rng.choice(pole.part["noun"])), 1.0, ""
    if "verb" in pole.part and rng.random() < 0.35:
        form, x = str(rng.choice(VERBS[-1:] if short else VERBS)), str(rng.choice(pole.part["verb"]))
    else:
        forms = ADJECTIVES[:1] if short else (*ADJECTIVES, *DYED) if pole.name in COLOURED else ADJECTIVES
        form, x = str(rng.choice(forms)), str(rng.choice(pole.part["adj"]))
        if x.endswith("er") and rng.random() < 0.3:
            modifier = str(rng.choice(list(MORE)))
            modifier, amount = f"{modifier} ", MORE[modifier]
    text = form.replace("{x}", modifier + x).replace("{noun}", noun)
    return addressed(text, person), pole.name, amount


def shared(person: Sequence[str], rng: np.random.Generator) -> Request:
    """'shorter and narrower nose': one part, two things about it"""
    poles = [pole for pole in askable() if pole.part]
    first = poles[rng.integers(len(poles))]
    noun = str(rng.choice(first.part["noun"]))
    others = [p for p in poles if noun in p.part["noun"] and not set(p.judges) & set(first.judges)]
    if not others:
        text, name, amount = clause(first, person, rng)
        return Request(dressed(text, rng), {name: amount})
    second = others[rng.integers(len(others))]
    a, b = (str(rng.choice(pole.part["adj"])) for pole in (first, second))
    joint = str(rng.choice((" and ", ", ", " but ", " and also ")))
    form = str(rng.choice(("{x} {noun}", "make {her} {noun} {x}", "{her} {noun} should be {x}", "{noun}: {x}",
                           "give {him} {x} {noun}", "{her} {noun} {x}")))  # fmt: skip
    text = addressed(form.replace("{x}", f"{a}{joint}{b}").replace("{noun}", noun), person)
    return Request(dressed(text, rng), {first.name: 1.0, second.name: 1.0})


def _weights(slots: Sequence[str]) -> np.ndarray:
    weights = np.array([3.0 if slot == "change" else 1.0 for slot in slots])
    return weights / weights.sum()


def addressed(text: str, person: Sequence[str]) -> str:
    """'dye {her} hair' -> 'dye the guy's hair'"""
    for place, word in zip(("{her}", "{him}", "{she}", "{herself}"), person, strict=True):
        text = text.replace(place, word)
    return text


def nothing(person: Sequence[str], rng: np.random.Generator) -> str:
    """What nobody can do to a face here, or no request at all."""
    words = others()
    kind = rng.integers(5)
    if kind == 0:
        form = str(rng.choice(("add {}", "give {him} {}", "put {} on {him}", "with {}", "{she} should wear {}")))
        text = form.replace("{}", str(rng.choice(words["things"])))
    elif kind == 1:
        form = str(rng.choice(("put {him} {}", "place {him} {}", "show {him} {}", "I want {him} {}")))
        text = form.replace("{}", str(rng.choice(words["places"])))
    elif kind == 2:
        form = str(rng.choice(("turn {him} into {}", "make {him} {}", "make {him} look like {}", "as {}")))
        text = form.replace("{}", str(rng.choice(words["styles"])))
    else:
        text = str(rng.choice(words["acts" if kind == 3 else "talk"]))
    return addressed(text, person)


def kept(person: Sequence[str], rng: np.random.Generator) -> str:
    """What is to stay as it is, or is not to be either."""
    if rng.random() < 0.3:
        poles = [pole for pole in askable() if pole.asked.get("are")]
        words = poles[rng.integers(len(poles))].asked["are"]
        return addressed(str(rng.choice(ANY)).replace("{x}", str(rng.choice(words))), person)
    things = others()["keep"]
    word = str(rng.choice(things[str(rng.choice(list(things)))]))
    return addressed(str(rng.choice(KEEPING)).replace("{x}", word), person)


def dressed(text: str, rng: np.random.Generator) -> str:
    """As people type: politely or not."""
    if rng.random() < 0.2:
        text = str(rng.choice(BEFORE)) + text
    if rng.random() < 0.3:
        text += str(rng.choice(LAST))
    return slipped(text, rng)


def slipped(text: str, rng: np.random.Generator) -> str:
    """With or without a capital, with a slip of the finger."""
    if rng.random() < 0.08 and len(text) > 4:
        i = int(rng.integers(1, len(text) - 2))
        text = text[:i] + (text[i + 1] + text[i] + text[i + 2 :] if rng.random() < 0.5 else text[i + 1 :])
    return text[:1].upper() + text[1:] if rng.random() < 0.3 else text
