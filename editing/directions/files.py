"""Files of directions: one's own to share, and the ones that others published; nothing in them is executed.

    read("mine.safetensors")         # what `write` wrote: vectors, rows, names, what was measured
    read("age.pt"), read("smile.npy")  # one direction, named after the file: (512,), (1, 512) or a vector a row
    read("ffhq_pca.pt")              # principal components with deviations (e4e's GANSpace file): pca-0, pca-1, ...

Published vectors are those of StyleGAN2-FFHQ, whose W the default generator shares.  One vector a row of 18 becomes one
a row of 16: the last of them is the mean of three, as `catalogue.apply` merges rows.
"""

from __future__ import annotations

import json
import re
import tokenize
from collections.abc import Iterable, Mapping
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from editing.directions.catalogue import MERGED, Catalogue, Direction, facts_of, from_facts, tensors_of
from encoders.checkpoints import faults_of
from stylegan2 import checkpoints
from stylegan2.checkpoints.values import StoredTensor, printable
from stylegan2.errors import CheckpointError, UsageError
from stylegan2.files import replacing

FORMAT = "wplus-directions"
W_DIM, PUBLISHED_ROWS = 512, 18
NAME = r"[A-Za-z0-9][A-Za-z0-9_. +-]{0,59}"
STYLE = r"[A-Za-z0-9_.]{1,60}"
MALFORMED = (SafetensorError, OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError,
             RecursionError, MemoryError, SyntaxError, tokenize.TokenError)  # fmt: skip
TEXTS = ("group", "source", "description", "judge")
MOST = 80  # components that are taken of a file


def read(path: Path | str) -> list[Direction]:
    """The directions of a file.  CheckpointError, one sentence with its name, if it holds none."""
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"There is no file {path}.")
    readers = {".safetensors": _own, ".npy": _numpy}
    directions = readers.get(path.suffix.lower(), _torch)(path)
    for direction in directions:
        if not re.fullmatch(NAME, direction.name):
            raise CheckpointError(f"{path}: {direction.name[:40]!r} cannot be the name of an edit.")
        if not sound(direction):
            raise CheckpointError(f"{path}: the direction '{direction.name}' is all zeros, or not finite.")
    return directions


def sound(direction: Direction) -> bool:
    """Are all of its numbers finite, and some not zero?"""
    numbers = [direction.vector, *(direction.styles or {}).values()]
    numbers += [direction.clean] if direction.clean is not None else []
    return all(bool(torch.isfinite(n).all()) for n in numbers) and any(bool(n.any()) for n in numbers)


def write(path: Path | str, directions: Iterable[Direction]) -> None:
    """One safetensors file: float32 vectors, everything else as JSON in its header.

    UsageError if there are none, or for what could not be read again: a name, or numbers that do nothing.
    """
    named = {checked(direction.name): direction for direction in directions}
    if not named:
        raise UsageError("There are no directions to write.")
    for direction in named.values():
        if not sound(direction):
            raise UsageError(f"'{direction.name}' would change nothing, or is not finite: it is not written.")
    metadata = {"format": FORMAT, "facts": json.dumps({name: facts_of(d) for name, d in named.items()})}
    with replacing(Path(path)) as part:
        save_file(tensors_of(named.values()), part, metadata)


def checked(name: str) -> str:
    """The name of an edit, as --set can take it.  UsageError otherwise."""
    if not re.fullmatch(NAME, name):
        raise UsageError(f"'{name[:40]}' cannot be the name of an edit: take letters, digits and any of _ . + - only.")
    return name


def joined(catalogue: Catalogue, paths: Iterable[Path | str]) -> Catalogue:
    """The catalogue with the directions of these files.  UsageError if a name stands for two: edits mean one thing."""
    known = dict(catalogue)
    for path in paths:
        for direction in read(path):
            other = known.setdefault(direction.name, direction)
            if not same(other, direction):
                raise UsageError(f"{path}: there is an edit called '{direction.name}' already; import it as --name.")
    return Catalogue(list(known.values()))


def same(a: Direction, b: Direction) -> bool:
    """Do two directions draw the same edit?"""
    changes, others = a.styles or {}, b.styles or {}
    return (
        a.rows == b.rows
        and torch.equal(a.vector, b.vector)
        and changes.keys() == others.keys()
        and all(torch.equal(changes[style], others[style]) for style in changes)
        and (a.clean is None) == (b.clean is None)
        and (a.clean is None or torch.equal(a.clean, b.clean))
    )


def _own(path: Path) -> list[Direction]:
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        if metadata.get("format") != FORMAT:
            raise CheckpointError(f"{path} is a safetensors file, but not one of directions.")
        facts = {name: cleaned(fact) for name, fact in json.loads(metadata["facts"]).items()}
        directions = [from_facts(name, tensors, fact) for name, fact in facts.items()]
    except MALFORMED as error:
        raise CheckpointError(f"{path} cannot be read as directions: {reason(error)}.") from None
    for direction in directions:
        start, end = direction.rows
        if tuple(direction.vector.shape) not in ((W_DIM,), (MERGED, W_DIM)) or not 0 <= start < end <= MERGED:
            raise CheckpointError(f"{path}: the direction {direction.name!r} has a shape or rows that do not fit.")
        for style, change in (direction.styles or {}).items():
            if not re.fullmatch(STYLE, style) or change.ndim != 1:
                raise CheckpointError(f"{path}: the direction {direction.name!r} changes a style that none can be.")
        if direction.clean is not None and tuple(direction.clean.shape) != (2, MERGED, W_DIM):
            raise CheckpointError(f"{path}: the disentangled form of {direction.name!r} has a shape that does not fit.")
    return directions


def cleaned(fact: dict) -> dict:
    """The facts of a direction, its texts such as a terminal can show."""
    return {key: printable(value) if key in TEXTS and isinstance(value, str) else value for key, value in fact.items()}


def reason(error: BaseException) -> str:
    """What a library says of a file: the first line, or what kind of error it is."""
    lines = str(error).splitlines() or [type(error).__name__]
    return printable(lines[0][:120])


def _numpy(path: Path) -> list[Direction]:
    try:
        with path.open("rb") as file:  # not np.load, which opens archives and pickles as well
            array = np.lib.format.read_array(file, allow_pickle=False)
    except MALFORMED as error:
        raise CheckpointError(f"{path} cannot be read as an array: {reason(error)}.") from None
    if array.dtype.kind not in "fiu":
        raise CheckpointError(f"{path} holds no array of numbers.")
    check_shape(path.stem, array.shape, path)
    return [named(path.stem, torch.from_numpy(array.astype(np.float32)), path)]


def _torch(path: Path) -> list[Direction]:
    content = checkpoints.read_container(path)
    if isinstance(content, StoredTensor):
        content = {path.stem: content}
    found = content.items() if isinstance(content, Mapping) else ()
    stored = {str(name): value for name, value in found if isinstance(value, StoredTensor)}
    if {"comp", "std"} <= set(stored):
        return _components(stored["comp"], stored["std"], path)
    if not stored:
        raise CheckpointError(f"{path} holds no tensor that could be a direction.")
    for name, value in stored.items():  # before anything is loaded
        check_shape(name, value.shape, path)
    with faults_of(path):
        tensors = {name: value.load() for name, value in stored.items()}
    return [named(name, tensor, path) for name, tensor in tensors.items()]


def _components(comp: StoredTensor, std: StoredTensor, path: Path) -> list[Direction]:
    """Principal components (N, 512) and their standard deviations (N,), with ones around: N directions."""
    if len(comp.shape) < 2 or prod(comp.shape[1:]) != W_DIM or comp.shape[0] != prod(std.shape):
        raise CheckpointError(f"{path}: components and deviations do not fit each other.")
    with faults_of(path):
        components, deviations = comp.load().float().flatten(1), std.load().float().flatten()
    rows = zip(components[:MOST], deviations[:MOST], strict=True)
    return [named(f"pca-{index}", vector * deviation, path) for index, (vector, deviation) in enumerate(rows)]


def check_shape(name: str, shape: tuple[int, ...], path: Path) -> None:
    """CheckpointError unless it is (512,), (16, 512) or (18, 512), with ones around."""
    if tuple(n for n in shape if n != 1) not in ((W_DIM,), (MERGED, W_DIM), (PUBLISHED_ROWS, W_DIM)):
        raise CheckpointError(f"{path}: {name[:60]!r} has the shape {tuple(shape)}; a direction has 512 numbers.")


def named(name: str, tensor: Tensor, path: Path) -> Direction:
    """A published tensor of a shape that `check_shape` lets through -> Direction on all rows."""
    tensor = tensor.float().squeeze()
    if tensor.shape == (PUBLISHED_ROWS, W_DIM):
        tensor = torch.cat([tensor[: MERGED - 1], tensor[MERGED - 1 :].mean(0, keepdim=True)])
    return Direction(name, tensor.contiguous(), (0, MERGED), source=f"imported: {printable(path.name)}")


def renamed(directions: list[Direction], name: str) -> list[Direction]:
    """A single direction under another name.  UsageError for several."""
    if len(directions) != 1:
        raise UsageError(f"The file holds {len(directions)} directions; --name is for files with one.")
    return [replace(directions[0], name=name)]
