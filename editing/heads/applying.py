"""`python -m editing.translate apply --head ...`: heads on the latents, from pictures, maps, layouts, and on photos."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from stylegan2 import console
from stylegan2.errors import UsageError, WplusError


@dataclass(frozen=True)
class Order:
    """See the options of `apply`; samples and steps: None for the head's own."""

    heads: Sequence[str]
    img: Path
    out: Path
    device: str = "cpu"
    how: str = ""
    samples: int = 4
    seed: int = 0
    steps: int | None = None
    like: Path | None = None

    def refuse(self, reason: str, **given: object) -> None:
        """UsageError for the first option that was given and means nothing here."""
        for name, value in given.items():
            if value:
                raise UsageError(f"--{name} {reason}")


def apply(order: Order) -> None:
    """Whatever the heads are: what was written goes to stdout, what was wrong to stderr.  typer.Exit(1) if some was."""
    from editing.heads import composing

    random = {"seed": order.seed, "samples": order.samples != 4}
    given = {"how": order.how, "steps": order.steps}
    if composing.heads(order.heads):
        order.refuse("is for heads that read pictures.", **given)
        return report(from_maps(order))
    order.refuse("is for networks, and for spade:map and lostgans:layout.", like=order.like)
    if draws(order.heads):
        return report(from_pictures(order))
    order.refuse(f"is for heads that draw a face; {', '.join(order.heads)} changes one.", **given, **random)
    if any(name.startswith("distilled:") for name in order.heads):
        return report(without_inversion(order))
    if any(name.startswith("instagan:") for name in order.heads):
        return report(on_all_faces(order))
    on_one_face(order)


def report(results: Iterable[tuple[Path, Path | WplusError]]) -> None:
    failed = False
    for _, result in results:
        if isinstance(result, WplusError):
            console.fail(str(result), 1)
            failed = True
        else:
            print(result, flush=True)
    if failed:
        raise typer.Exit(1)


def draws(heads: Sequence[str]) -> bool:
    """Whether these heads draw a face from a picture, one at a time; others change the face that is there."""
    from editing.heads import registry

    found = [text for text in heads if text in registry.DRAWERS and not registry.known(text)]
    if found and len(heads) > 1:
        raise UsageError(f"{found[0]} draws a face: it goes alone.  Change what it drew with editing.edit.")
    return bool(found)


def editor(order: Order):
    from editing import session
    from editing.invert import check_device

    return session.Editor(device=check_device(order.device))


def from_maps(order: Order) -> Iterable[tuple[Path, Path | WplusError]]:
    """See `editing.heads.composing`."""
    from editing.heads import composing

    asked = composing.Order(order.heads[0], order.samples, order.seed, order.like)
    return composing.run(editor(order), asked, order.img, order.out)


def from_pictures(order: Order) -> Iterable[tuple[Path, Path | WplusError]]:
    """See `editing.heads.drawing`."""
    from editing.heads import drawing
    from editing.translation.degrade import WAYS

    if order.how and order.how not in WAYS:
        raise UsageError(console.unknown("ways", order.how, WAYS))
    asked = drawing.Order(order.heads[0], order.how, order.samples, order.seed, order.steps)
    return drawing.run(editor(order), asked, order.img, order.out)


def strengths(texts: Sequence[str]) -> dict[str, float]:
    """'cyclegan:dark2blond', perhaps with '=0.7' -> head: strength.  UsageError for heads that there are not."""
    from editing.heads import registry
    from editing.types import finite

    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        registry.find(name.strip())
        found[name.strip()] = finite(value, name) if equals else 1.0
    return found


def without_inversion(order: Order) -> Iterable[tuple[Path, Path | WplusError]]:
    """Distilled edits of all faces of every photo, see `editing.heads.distilled`."""
    from editing.heads import distilled
    from editing.invert import check_device
    from editing.types import finite
    from stylegan2.allocator import tune_allocator

    tune_allocator()
    found = {}
    for text in order.heads:
        name, equals, value = text.partition("=")
        kind, _, edit = name.strip().partition(":")
        if kind != distilled.KIND:
            raise UsageError(
                f"{name.strip()} needs the face's inversion: distilled edits go without, and by themselves."
            )
        if edit in found:
            raise UsageError(f"{name.strip()} is named twice: give it one strength.")
        found[edit] = finite(value, name) if equals else 1.0
    return distilled.run(found, order.img, order.out, check_device(order.device))


def on_all_faces(order: Order) -> Iterable[tuple[Path, Path | WplusError]]:
    """Instances: all faces of every photo, see `editing.instances`."""
    from editing import instances, provenance
    from editing.faces import photo as photos
    from editing.translation.applying import places, written

    heads, use, found = strengths(order.heads), editor(order), places(order.img, order.out)
    sources = {path.resolve() for path, _ in found}
    for path, base in found:
        try:
            (file,) = written(base, 1, sources)
            result, recipe = instances.translated(use, photos.load(path), heads)
            yield path, provenance.save(result, file, recipe, sidecar=False)
        except WplusError as error:
            yield path, error


def on_one_face(order: Order) -> None:
    """Heads as `editing.edit` does every edit: inverted, changed, drawn, and back into the photo."""
    from editing import edit

    sets = [f"{name}={value:g}" for name, value in strengths(order.heads).items()]
    if order.img.is_dir():
        raise UsageError("Heads take one photo here; for folders: python -m editing.batch --set NAME=1")
    edit.edit(img=order.img, out=order.out, sets=sets, device=order.device)
