"""One photo's work, from bytes to bytes: whoever runs it (this process, a worker, a computer of a cluster) runs this.

A Work holds all that is needed: no path in it is opened, and what comes back, an Answer for every result, is
written by the process that was called.  So workers need no common file system, and killing one spoils no file.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from stylegan2.errors import Cancelled, WplusError


@dataclass(frozen=True)
class Order:
    """One picture that is wanted: its number among the photo's results, its recipe, and a suffix for its format."""

    number: int
    recipe: Any
    suffix: str


@dataclass(frozen=True)
class Work:
    """One photo's file and what is wanted of it.  options go to `Editor.set_photo`; inversions: send them too."""

    name: str
    content: bytes
    sha256: str
    orders: tuple[Order, ...]
    options: Mapping[str, Any]
    inversions: bool = False

    def after(self, answer: Answer) -> Work:
        """What is left to do when this answer came."""
        return replace(self, orders=tuple(order for order in self.orders if order.number != answer.number))


@dataclass(frozen=True)
class Answer:
    """The file of one result, or a sentence why there is none.  inversions: face -> file, with the first one."""

    number: int
    content: bytes = b""
    error: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    inversions: Mapping[int, bytes] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True)
class Prepared:
    """A photo that was opened, and its faces that the recipes ask for."""

    photo: Any
    targets: Mapping[int, Any]


@dataclass(frozen=True)
class Setup:
    """What a worker is: make() -> Editor, the options that its work will have, its device and its CPU threads."""

    make: Callable[[], Any]
    options: Mapping[str, Any]
    device: str = "cpu"
    threads: int = 1


def make_editor(
    catalogue: Mapping[str, Any] | None = None, device: str = "cpu", masks: Mapping[str, Any] = MappingProxyType({})
):
    """An Editor that has loaded nothing else yet.  masks: regions of one's own (`editing.regions`)."""
    from editing import session

    editor = session.Editor(catalogue=catalogue, device=device)
    editor.masks.update(masks)
    return editor


def warm(editor, options: Mapping[str, Any]) -> None:
    """Load whatever such work needs, by doing some: the face that is the generator's mean, in one step.

    WeightsMissing if there is no generator.  What else fails will fail again with a photo, and be told there.
    """
    from contextlib import suppress

    import torch

    from editing import invert, session
    from editing.faces import detect
    from editing.faces import photo as photos

    generator = editor.generator
    with suppress(Exception):
        with torch.inference_mode():
            mean = generator.synthesis(generator.w_avg.expand(1, generator.num_ws, -1))
        photo = photos.from_rgb(session.to_rgb(mean))
        if not options.get("aligned"):
            detect.find_faces(photo.rgb, options.get("detector", "auto"))
        editor.set_photo(photo, method=options["method"], budget=invert.make_budget(1, None), aligned=True)
    editor.scene = None


def prepare(work: Work, resolution: int) -> Prepared:
    """What can be done before the photo's turn: open it and find its faces."""
    from editing import session
    from editing.faces import photo as photos

    photo = photos.decode(work.content, Path(work.name))
    faces = list(dict.fromkeys(step.face for order in work.orders for step in order.recipe.steps)) or [0]
    where = {name: work.options[name] for name in ("detector", "aligned") if name in work.options}
    return Prepared(photo, {face: session.find(photo, resolution, face, **where) for face in faces})


def edit_photo(work: Work, editor, ready: Callable[[], Prepared] | None = None) -> Iterator[Answer]:
    """Invert a photo once, then make every result of it; an Answer for each, in order.

    ready: returns what `prepare` makes of the work, or raises what that raised.  Only Cancelled and KeyboardInterrupt
    are raised; other errors are answers.
    """
    from editing import provenance

    started = time.monotonic()
    try:
        prepared = ready() if ready else prepare(work, editor.generator.resolution)
        inversions = {
            face: editor.set_photo(prepared.photo, face=face, target=target, **work.options)
            for face, target in prepared.targets.items()
        }
        files = {face: inversion.to_bytes() for face, inversion in inversions.items()} if work.inversions else {}
    except Cancelled:
        raise
    except Exception as error:
        yield from (Answer(order.number, error=sentence(error)) for order in work.orders)
        return
    first = next(iter(inversions.values()))
    made = {"steps": first.steps, "threads": first.threads, "metrics": dict(first.metrics)}
    for order in work.orders:
        try:
            edit = editor.edit(order.recipe)
            content = provenance.encode(edit.photo, order.suffix, edit.recipe, edit.changed)
            answer = Answer(order.number, content, facts={"changed": edit.changed, **made}, inversions=files)
        except Cancelled:
            raise
        except Exception as error:
            answer = Answer(order.number, error=sentence(error))
        yield replace(answer, seconds=round(time.monotonic() - started, 2))
        started, files = time.monotonic(), {} if answer.content else files


def sentence(error: BaseException) -> str:
    """An error in one line, as it stands in the report."""
    known = isinstance(error, (WplusError, OSError, MemoryError))
    text = " ".join(str(error).split()) if known else f"unexpected {type(error).__name__}: {error}"
    return text or type(error).__name__
