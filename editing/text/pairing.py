"""Which sentences fit which faces: captions of judged faces, what each of them claims, and their embeddings.

    claims = written(scores, 4, seed=0)                          # four captions a face, and each with one pole swapped
    fit, near = fitting(misfits(scores), claims.mentions)        # (N, M) bool, both

Most captions fit other faces than the one they were written for.  What a sentence mentions says which, by the judges:
training that pulls a face from a sentence that fits it learns nothing good.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from editing.judges import population
from editing.judges.judge import NAMES
from editing.text import captions
from editing.text import poles as known
from editing.text.captions import CERTAIN, CHILD, GROWN, NOBODY, NOUNS, Caption
from stylegan2.errors import UsageError
from stylegan2.files import replacing

NEAR = 0.4  # standard deviations outside of what a pole asks: neither fits nor clearly does not
SAID = {"male": ("male", CERTAIN, 1e9), "female": ("male", -1e9, -CERTAIN), "grown": ("age", CHILD, 1e9),
        "child": ("age", -1e9, GROWN)}  # fmt: skip
WORDS = {  # by which a noun or pronoun says it
    "male": r"\b(man|guy|gentleman|male|boy|he)\b", "female": r"\b(woman|lady|female|girl|she)\b",
    "grown": r"\b(man|guy|gentleman|male|woman|lady|female)\b", "child": r"\b(boy|girl|kid|child)\b",
}  # fmt: skip


def columns() -> tuple[str, ...]:
    """What a sentence can claim: poles that faces are described by, and what nouns say."""
    return (*(pole.name for pole in known.load().values() if pole.seen), *SAID)


@dataclass(frozen=True)
class Claims:
    """texts (M); mentions (M, P) bool, over `columns`; about (M,), the place of the face it was written for; swapped
    (M,) bool: with one pole's opposite, so that it does not fit that face; embedding (M, 384) float, or none yet."""

    texts: Sequence[str]
    mentions: np.ndarray
    about: np.ndarray
    swapped: np.ndarray
    embedding: np.ndarray | None = None


def misfits(scores: np.ndarray) -> np.ndarray:
    """scores (N, J) as `judge.NAMES` -> (N, P): how many standard deviations a face is outside of every column; 0 where
    it holds, and NEAR / 2 where its judge had nothing to measure."""
    deviations = population.load()
    found = []
    for name in columns():
        ends = known.load()[name].seen if name not in SAID else {SAID[name][0]: SAID[name][1:]}
        outside = []
        for judge, (low, high) in ends.items():
            values = scores[:, NAMES.index(judge)]
            outside.append(np.maximum(low - values, values - high).clip(0) / deviations[judge][1])
        found.append(np.nan_to_num(np.max(outside, 0), nan=NEAR / 2))
    return np.stack(found, 1).astype(np.float32)


def fitting(misfit: Tensor, mentions: Tensor) -> tuple[Tensor, Tensor]:
    """misfit (N, P), mentions (M, P) float -> (N, M) bool: all that is mentioned holds; and no more than nearly."""
    outside, far = (misfit > 0).float() @ mentions.T, (misfit > NEAR).float() @ mentions.T
    return outside == 0, (outside > 0) & (far == 0)


def mentioned(caption: Caption) -> np.ndarray:
    """(P,) bool over `columns`"""
    names = {*caption.poles, *(name for name, words in WORDS.items() if re.search(words, caption.text))}
    return np.array([name in names for name in columns()])


def opposed(caption: Caption, rng: np.random.Generator) -> Caption:
    """The caption with one of its poles, or else what its noun says, turned into the opposite; itself, if nothing has
    one that there are words for."""
    poles = known.load()
    places = [i for i, name in enumerate(caption.poles) if said(poles[name].opposite)]
    names = list(caption.poles)
    male = caption.male
    if places and (male is None or rng.random() < 0.9):
        place = int(rng.choice(places))
        names[place] = poles[names[place]].opposite
    elif male is not None:
        male = not male
    else:
        return caption
    noun = next((n for n in (*sum(NOUNS.values(), ()), *NOBODY) if re.search(rf"\b{n}\b", caption.text)), "person")
    if male is not caption.male:
        noun = str(rng.choice(NOUNS[not re.search(WORDS["child"], caption.text), male]))
    return Caption(captions.sentence(noun, male, [poles[name] for name in names], rng), tuple(names), male)


def said(name: str) -> bool:
    pole = known.load().get(name)
    return pole is not None and bool(pole.seen) and bool(pole.state or pole.has)


def written(scores: np.ndarray, count: int, seed: int, swaps: float = 0.5) -> Claims:
    """scores (N, J) -> `count` captions of every face, a share of them a second time with one point that is wrong.  A
    face's captions depend on its place and the seed alone."""
    texts, mentions, about, swapped = [], [], [], []
    for place, row in enumerate(scores):
        rng = np.random.default_rng((seed, place))
        values = dict(zip(NAMES, map(float, row), strict=True))
        for caption in captions.describe(values, count, rng):
            wrong = opposed(caption, rng) if rng.random() < swaps else caption
            differs = (mentioned(wrong) & ~mentioned(caption)).any()
            for found in (caption, wrong) if differs else (caption,):
                texts.append(found.text)
                mentions.append(mentioned(found))
                about.append(place)
                swapped.append(found is not caption)
    return Claims(texts, np.array(mentions), np.array(about), np.array(swapped))


def embedded(texts: Sequence[str]) -> np.ndarray:
    """(M, 384) float32 by the sentence encoder, a thousand like lengths at a time."""
    from encoders import sentence

    encoder, order = sentence.load(), np.argsort([len(text) for text in texts], kind="stable")
    found = np.empty((len(texts), sentence.WIDTH), np.float32)
    for start in range(0, len(order), 1024):
        some = order[start : start + 1024]
        found[some] = encoder([texts[i] for i in some]).numpy()
    return found


def kept(path: Path, scores: np.ndarray, count: int, seed: int, swaps: float = 0.5) -> Claims:
    """`written` with embeddings, from a file that was made with the same arguments, or made and written there."""
    made = {"faces": len(scores), "count": count, "seed": seed, "swaps": swaps, "columns": " ".join(columns())}
    made["sum"] = float(np.nansum(scores))
    if path.exists():
        with np.load(path) as file:
            if any(name not in file or file[name] != value for name, value in made.items()):
                raise UsageError(
                    f"{path} holds other faces' sentences, or other poles: delete it, or take another folder."
                )
            return Claims(*(file[name] for name in ("texts", "mentions", "about", "swapped", "embedding")))
    claims = written(scores, count, seed, swaps)
    parts = {"texts": np.array(claims.texts), "mentions": claims.mentions, "about": claims.about,
             "swapped": claims.swapped, "embedding": embedded(claims.texts).astype(np.float16)}  # fmt: skip
    with replacing(path) as part, open(part, "wb") as file:
        np.savez(file, **made, **parts)
    return Claims(*parts.values())
