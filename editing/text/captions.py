"""Sentences that describe a face, from what the judges say of it.

    rng = np.random.default_rng(0)
    captions({"age": 31, "smile": 1.5, ...}, 5, rng)      # ["a young woman with a broad smile", ...]

A grammar in the manner of Text2FaceGAN's (arXiv 1911.11378, section 3.1): every sentence mentions a few of the poles
that hold, rarer ones more often, now and then that something is *not* there, and takes one of several forms.  What a
sentence does not mention it says nothing about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from editing.text import poles as known
from editing.text.poles import Pole

MOST = 4  # poles that one sentence mentions
CERTAIN = 2.0  # log-odds of the gender judge beyond which a noun says it
GROWN, CHILD = 19, 13  # years
NOBODY = ("person", "face", "human face", "someone")
NOUNS = {  # (grown up, male) -> words
    (True, True): ("man", "man", "guy", "gentleman", "male"),
    (True, False): ("woman", "woman", "lady", "female"),
    (False, True): ("boy", "boy", "young boy", "kid"),
    (False, False): ("girl", "girl", "young girl", "kid"),
}
PRONOUNS = {True: "he", False: "she", None: "this person"}
OPENINGS = ("a photo of {}", "a portrait of {}", "a picture of {}", "a close-up of {}", "a headshot of {}", "{}")
NOT_SAID = {"masculine", "feminine"}  # the noun says it


@dataclass(frozen=True)
class Caption:
    """A sentence and what it mentions: names of poles; male: what its noun says, None where it says nothing."""

    text: str
    poles: tuple[str, ...]
    male: bool | None


def captions(values: Mapping[str, float], count: int, rng: np.random.Generator) -> list[str]:
    """`count` sentences about a face with these scores (`editing.judges.judge.Scores.values`)."""
    return [caption.text for caption in describe(values, count, rng)]


def describe(values: Mapping[str, float], count: int, rng: np.random.Generator) -> list[Caption]:
    """The same, with what every one of them mentions."""
    holding = [pole for pole in known.load().values() if pole.holds(values) and pole.name not in NOT_SAID]
    return [_caption(values, holding, rng) for _ in range(count)]


def _caption(values: Mapping[str, float], holding: Sequence[Pole], rng: np.random.Generator) -> Caption:
    male = _male(values) if rng.random() < 0.75 else None
    mentioned = mention(holding, int(rng.integers(1, MOST + 1)), rng)
    noun = _noun(values["age"], male, rng)
    return Caption(sentence(noun, male, mentioned, rng), tuple(pole.name for pole in mentioned), male)


def _male(values: Mapping[str, float]) -> bool | None:
    return None if abs(values["male"]) < CERTAIN else values["male"] > 0


def _noun(age: float, male: bool | None, rng: np.random.Generator) -> str:
    if male is None:
        return str(rng.choice(NOBODY if age >= CHILD else ("child", "kid", *NOBODY)))
    return str(rng.choice(NOUNS[age >= GROWN if age < CHILD or age >= GROWN else rng.random() < 0.5, male]))


def mention(holding: Sequence[Pole], count: int, rng: np.random.Generator) -> list[Pole]:
    """`count` of the poles, or all there are, rare ones rather than common ones; none twice about one judge."""
    weights = np.array([1 / (pole.share + 0.05) for pole in holding])
    order = rng.choice(len(holding), len(holding), replace=False, p=weights / weights.sum()) if holding else ()
    chosen, judges = [], set()
    for pole in (holding[i] for i in order):
        if len(chosen) < count and not judges & set(pole.seen):
            chosen.append(pole)
            judges |= set(pole.seen) - {"male"}
    return chosen


def sentence(noun: str, male: bool | None, mentioned: Sequence[Pole], rng: np.random.Generator) -> str:
    """One of the forms that mentions these poles, each in its words for a state ('smiling') or in those for what one
    has ('a broad smile')."""
    form = rng.integers(6)
    states = [pole for pole in mentioned if pole.state and (not pole.has or rng.random() < 0.5)]
    things = [pole for pole in mentioned if pole not in states]
    is_, has = [_word(pole.state, rng) for pole in states], [_word(pole.has, rng) for pole in things]
    if form == 0 and (is_ or has):  # bare: "smiling, glasses"
        words = [*is_, *has] if rng.random() < 0.5 else [noun, *is_, *has]
        return ", ".join(str(word) for word in rng.permutation(words))
    if form == 1 and (is_ or has):  # "she is smiling and has red hair"
        parts = ([f"is {_and(is_)}"] if is_ else []) + ([f"has {_and(has)}"] if has else [])
        subject = PRONOUNS[male] if rng.random() < 0.5 else f"the {noun}" if noun != "someone" else noun
        return f"{subject} {' and '.join(parts)}"
    short = [word for word in is_ if " " not in word]
    before = short[:1] if form < 4 and noun != "someone" else []
    after = [word for word in is_ if word not in before]
    phrase = noun if noun == "someone" else _article(" ".join([*before, noun]))
    if has:
        phrase += f" with {_and(has)}"
    if after:
        phrase += f", {_and(after)}" if has else f" who is {_and(after)}"
    return _opening(rng).format(phrase)


def _opening(rng: np.random.Generator) -> str:
    return str(rng.choice(OPENINGS)) if rng.random() < 0.5 else "{}"


def _word(words: Sequence[str], rng: np.random.Generator) -> str:
    return str(rng.choice(words))


def _article(phrase: str) -> str:
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def _and(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
