"""Faces from sentences, into files: a picture of 1024 pixels and its inversion, from which any edit can go on.

    python -m editing.text generate "an old man with a gray beard" --n 8 --seed 1 --out faces/
    python -m editing.text generate "a woman with red hair" --fine "a pale face in cool light" --out faces/
    python -m editing.text generate "a young woman" --to "an old woman" --n 8 --out faces/

Nobody who is drawn exists.  The pictures carry the mark of generated content like all others.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from editing import provenance, session
from editing.faces import align
from editing.faces import photo as photos
from editing.invert import check_device
from editing.output import make_folder
from editing.text import generators, giga
from editing.types import Inversion, Recipe, generator_sha256
from stylegan2 import console
from stylegan2.allocator import tune_allocator
from stylegan2.errors import UsageError
from stylegan2.generator import Generator

HEADS = ("giga", "gan-cls")
LONGEST = 40  # characters of a sentence in a file's name
STANDARD = ("", "", 1.0, "giga", "None")  # of what else names a file


@dataclass(frozen=True)
class Order:
    """count: faces a sentence; seed: of the first; psi: truncation; fine: a sentence for the fine rows; to: a sentence
    to go to in `count` steps; head: of HEADS; network: a published network's file instead of a head; embeddings: of the
    sentences, for networks whose sentence encoder is not here."""

    sentences: tuple[str, ...]
    count: int = 4
    seed: int = 0
    psi: float = 1.0
    fine: str = ""
    to: str = ""
    head: str = "giga"
    network: Path | None = None
    embeddings: Path | None = None
    out: Path = Path("out")
    device: str = "cpu"


def check(order: Order) -> None:
    """UsageError for what cannot be drawn."""
    for text in (*order.sentences, *filter(None, (order.fine, order.to))):
        if not re.search(r"\w", text):
            raise UsageError("There is no sentence: say what the face is like, for example 'an old man with a beard'.")
    if order.head not in HEADS:
        raise UsageError(console.unknown("heads that draw sentences", order.head, HEADS))
    if order.fine and order.head != "giga":
        raise UsageError("--fine is for --head giga.")
    if order.network is not None and (order.fine or order.to):
        raise UsageError("--fine and --to are for heads on the latents, not for --network.")
    if order.embeddings is not None and order.network is None:
        raise UsageError("--embeddings is for --network.")
    if order.to and order.count < 2:
        raise UsageError("--to takes two steps or more: --n 8.")
    names = [stem(text, order) for text in order.sentences]
    if len(set(names)) < len(names):
        raise UsageError("Two sentences would be written under one name: draw them one after the other.")


def run(order: Order) -> Iterator[Path]:
    """Draws and writes one face after the other.  UsageError, WeightsMissing before the first."""
    check(order)
    tune_allocator()
    device = check_device(order.device)
    if order.network is not None:
        yield from published(order)
        return
    generator = session.load_generator(device)
    make_folder(order.out)
    for text in order.sentences:
        for number in range(order.count):
            seed = order.seed if order.to else order.seed + number
            mark = f"seed{seed}.step{number + 1}" if order.to else f"seed{seed}"
            yield write(
                generator, drawn(generator, order, text, number, seed), order.out / f"{stem(text, order)}.{mark}.png"
            )


def drawn(generator: Generator, order: Order, text: str, number: int, seed: int) -> Inversion:
    """One face of a sentence; of those on the way to another, the one of this number."""
    t = number / (order.count - 1) if order.to else 0.0
    if order.head == "giga":
        return giga.load().draw(generator, text, seed, order.psi, order.fine or None, order.to or None, t)
    family = generators.load()
    if order.to:
        ws = family.between(generator, text, order.to, seed, order.count, order.psi)[number, None]
    else:
        ws = family.ws(generator, [text], [seed], order.psi)
    return Inversion(ws=ws, family=generator.family, seed=seed)


def write(generator: Generator, inversion: Inversion, file: Path) -> Path:
    """The picture, marked, and its inversion beside it."""
    rgb = session.to_rgb(session.synthesise(generator, inversion))
    facts = {"generator_sha256": generator_sha256(generator), "quad": align.border(rgb), "method": "text",
             "device": str(inversion.ws.device), "threads": torch.get_num_threads()}  # fmt: skip
    inversion = replace(inversion, **facts).compact()
    provenance.save(photos.from_rgb(rgb), file, Recipe().about(inversion), sidecar=False)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    replace(inversion, photo_sha256=sha256).save(file.with_suffix(".inversion"))
    return file


def published(order: Order) -> Iterator[Path]:
    """The pictures of a published network, as small as it draws them."""
    from editing.translation import captioned_drawing, checkpoints, gigagan_drawing
    from editing.translation.networks import GigaGANGenerator

    network, seeds = checkpoints.load_generator(order.network), range(order.seed, order.seed + order.count)
    if isinstance(network, GigaGANGenerator):
        if order.embeddings is not None:
            raise UsageError("--embeddings is for networks of Reed et al.: this one reads sentences itself.")
        pictures = gigagan_drawing.draw(network, order.sentences, seeds, order.psi, order.device)
    else:
        pictures = captioned_drawing.draw(network, order.sentences, seeds, order.embeddings, order.device)
    make_folder(order.out)
    for i, picture in enumerate(pictures):
        text, seed = order.sentences[i // order.count], seeds[i % order.count]
        file = order.out / f"{stem(text, order)}.seed{seed}.png"
        provenance.save(photos.from_rgb(picture), file, Recipe(), sidecar=False)
        yield file


def stem(text: str, order: Order | None = None) -> str:
    """'An old man, smiling!' -> 'an_old_man_smiling', with a few digits where that is not all that was asked for."""
    words = re.sub(r"\W+", "_", text.lower()).strip("_")
    found = words[:LONGEST].strip("_") or "face"
    more = (order.fine, order.to, order.psi, order.head, str(order.network)) if order else STANDARD
    if words == found and more == STANDARD:
        return found
    return f"{found}.{hashlib.sha256(json.dumps([text, *more]).encode()).hexdigest()[:6]}"
