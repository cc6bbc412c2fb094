"""Pictures with captions, what GAN-CLS and its kin learn from (Reed et al., arXiv 1605.05396).

A folder of pictures, with the captions of NAME.jpg in NAME.txt beside it, one a line; or all of them in one table,
captions.csv or captions.jsonl in the folder (or anywhere, `--labels table.csv`), with the columns `file` and `caption`,
a file as often as it has captions:

    file,caption
    birds/7.jpg,a small red bird with a short beak

or a folder of the factory of the kind "captioned".  Pictures without captions are left out.  What does not fit is a
UsageError of one sentence.

A visit to a picture sees the mean of the embeddings of `averaged` captions, drawn anew (4, as published for birds and
flowers; the same one may be drawn twice).  Published embeddings are those of a char-CNN-RNN of 1,024 numbers; ours are
of a frozen sentence encoder.  There are no classes here as the published data have them: what a wrong picture is, is
one with other captions.  A picture whose captions speak of left or right is not mirrored.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from editing.translation import data
from encoders import sentence
from stylegan2.checkpoints import native
from stylegan2.errors import CheckpointError, UsageError

TABLES = ("captions.csv", "captions.jsonl")
LARGER = 76 / 64  # of the size that crops are cut from
LONGEST = 2000  # characters of a caption
CACHE = "captions.safetensors"
SIDE = re.compile(r"\b(left|right)\b", re.IGNORECASE)

Captions = tuple[str, ...]


def encode(sentences: Sequence[str]) -> Tensor:
    """-> (N, 384), of length sqrt(384): numbers around 1, as the noise beside them has.

    The networks have no norm between an embedding and the noise; of unit length it would be drowned.
    """
    return sentence.load()(sentences) * sentence.WIDTH**0.5


@dataclass(eq=False)
class Captioned:
    """Pictures a, and the captions of each."""

    a: data.Pictures
    captions: Sequence[Captions]
    averaged: int = 4
    b: None = None
    names: Sequence[str] = ()
    known: Tensor | None = None  # embeddings of `self.sentences`
    sentences: list[str] = field(init=False)  # all that there are, each once
    kinds: np.ndarray = field(init=False)  # (N,): pictures of the same number have the same captions

    def __post_init__(self) -> None:
        texts = {text for texts in self.captions for text in texts}
        self.sentences = sorted(texts, key=lambda text: (len(text), text))  # like lengths are read together
        numbers: dict[frozenset[str], int] = {}
        self.kinds = np.array([numbers.setdefault(frozenset(texts), len(numbers)) for texts in self.captions])
        if len(numbers) < 2:
            raise UsageError("All pictures have the same captions: there is nothing to learn from them.")
        self.places = {text: place for place, text in enumerate(self.sentences)}

    def __len__(self) -> int:
        return len(self.captions)

    def embedded(self, cache: Path | None = None) -> Tensor:
        """Embeddings (sentences, C), computed once, in the order of `sentences`; read from, or written to, a file."""
        if self.known is None:
            facts = {"format": "wplus", "family": "captions", "sha256": digest(self.sentences)}
            self.known = stored(cache, facts) if cache is not None else None
        if self.known is None:
            self.known = encode(self.sentences).half().float()  # the same before and after they were written
            if cache is not None:
                native.write(cache, {"embeddings": self.known.half()}, facts)
        return self.known

    def batch(self, number: int, count: int, size: int, seed: int) -> dict[str, Tensor]:
        """Batch `number` of a training, always the same: pictures a (B, 3, size, size) in [-1, 1], cropped from
        76 / 64 of the size and mirrored every second time, embeddings text (B, C), and wrong (B, 3, size, size): for
        every text a picture with other captions, of the same batch where it has one."""
        from encoders.batches import epoch_order

        places = epoch_order(len(self), count, number, seed)
        pictures = [self.picture(place, number, size, seed) for place in places]
        rng = np.random.default_rng((seed, number))
        texts = torch.stack([self.text(place, rng) for place in places])
        wrong = []
        for place, other in zip(places, strangers(self.kinds[places], rng), strict=True):
            if other is None:
                found = int(rng.choice(np.flatnonzero(self.kinds != self.kinds[place])))
                wrong.append(self.picture(found, number, size, seed))
            else:
                wrong.append(pictures[other])
        return {"a": torch.stack(pictures), "text": texts, "wrong": torch.stack(wrong)}

    def picture(self, place: int, number: int, size: int, seed: int) -> Tensor:
        rng = np.random.default_rng((seed, number, int(place)))
        sided = any(SIDE.search(text) for text in self.captions[int(place)])
        return data.cut([self.a[int(place)]], size, rng, LARGER, mirror=not sided)[0]

    def text(self, place: int, rng: np.random.Generator) -> Tensor:
        """Mean of the embeddings of some captions, (C,)"""
        texts = self.captions[int(place)]
        drawn = [self.places[texts[int(i)]] for i in rng.integers(len(texts), size=self.averaged)]
        return self.embedded()[drawn].mean(0)


def strangers(kinds: np.ndarray, rng: np.random.Generator) -> list[int | None]:
    """For each of a batch another one of another kind: a random permutation; None for what is left over where one kind
    is more than half of the batch."""
    _, labels, counts = np.unique(kinds, return_inverse=True, return_counts=True)
    order = np.lexsort((rng.random(len(kinds)), rng.permutation(len(counts))[labels]))  # kind after kind, all shuffled
    found = np.empty(len(kinds), int)
    found[order] = np.roll(order, -int(counts.max()))
    return [int(other) if kinds[other] != kind else None for other, kind in zip(found, kinds, strict=True)]


def digest(sentences: Sequence[str]) -> str:
    return hashlib.sha256("\n".join([sentence.RECORD, *sentences]).encode()).hexdigest()


def stored(cache: Path, facts: Mapping[str, str]) -> Tensor | None:
    """The embeddings in a file; None if it is not there, damaged, or of other sentences."""
    try:
        tensors, found = native.read(cache)
    except CheckpointError:
        return None
    embeddings = tensors.get("embeddings")
    return embeddings.float() if found == facts and embeddings is not None else None


# ---- where captions come from


def opened(folder: Path, table: Path | None = None) -> Captioned:
    """See the module."""
    if (folder / "facts.json").exists():
        if table is not None:
            raise UsageError("Faces of the factory have their own captions: leave --labels out.")
        return made(folder)
    files = data.Files(folder)
    table = table or next((path for name in TABLES if (path := folder / name).exists()), None)
    found = beside(files.paths) if table is None else listed(files, table)
    if not found:
        raise UsageError(
            f"No picture of {folder} has captions: NAME.txt beside NAME.jpg, one a line, or one {TABLES[0]} with the "
            "columns file and caption."
        )
    files.paths = list(found)
    return Captioned(files, list(found.values()))


def made(folder: Path) -> Captioned:
    """A folder of the factory."""
    kind = data.facts(folder).get("kind")
    if kind != "captioned":
        raise UsageError(f"{folder} holds {kind} pairs, not captioned faces: make some with --kind captioned")
    pictures, captions = data.Shards(folder, "a"), data.Shards(folder, "captions")
    return Captioned(pictures, [tuple(map(str, captions[index])) for index in range(len(captions))])


def beside(paths: Sequence[Path]) -> dict[Path, Captions]:
    """Pictures with a text of the same name -> its lines."""
    found = {}
    for path in paths:
        text = path.with_suffix(".txt")
        if text.exists():
            lines = tuple(line.strip() for line in lines_of(text) if line.strip())
            if not lines:
                raise UsageError(f"{text} holds no caption.")
            found[path] = tuple(checked(line, text) for line in lines)
    return found


def listed(files: data.Files, table: Path) -> dict[Path, Captions]:
    """Pictures that a table names, by their place in the folder -> their captions."""
    known = {path.relative_to(files.folder).as_posix(): path for path in files.paths}
    found: dict[Path, Captions] = {}
    for name, caption in rows(table):
        if name not in known:
            raise UsageError(f"{table} has a caption for {name[:80]!r}, which is not in {files.folder}.")
        if not caption.strip():
            raise UsageError(f"{table} has an empty caption for {name[:80]!r}.")
        found[known[name]] = (*found.get(known[name], ()), checked(caption.strip(), table))
    return found


def rows(table: Path) -> Iterator[tuple[str, str]]:
    """(file, caption) of a CSV or JSONL; "caption" of the latter may be a list of them."""
    lines = lines_of(table)
    if table.suffix.lower() == ".jsonl":
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield from entries(line, f"{table}, line {number}")
        return
    reader = csv.DictReader(lines)
    if not {"file", "caption"} <= set(reader.fieldnames or ()):
        raise UsageError(f"{table} is no table of captions: its first line names the columns, file and caption.")
    for row in reader:
        if row["caption"] is None:
            raise UsageError(f"{table}, line {reader.line_num}: a row is file,caption.")
        yield row["file"], row["caption"]


def entries(line: str, where: str) -> Iterator[tuple[str, str]]:
    try:
        entry = json.loads(line)
        name, caption = entry["file"], entry["caption"]
    except (ValueError, TypeError, KeyError, RecursionError):
        name = caption = None
    captions = caption if isinstance(caption, list) else [caption]
    if not isinstance(name, str) or not captions or not all(isinstance(text, str) for text in captions):
        raise UsageError(f'{where}: a line is {{"file": "a.jpg", "caption": "..."}}.')
    for text in captions:
        yield name, text


def lines_of(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None


def checked(caption: str, where: Path) -> str:
    if len(caption) > LONGEST:
        raise UsageError(f"{where} has a caption of {len(caption)} characters; at most {LONGEST} are read.")
    return caption
