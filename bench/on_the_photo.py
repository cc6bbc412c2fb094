"""What the judges say of an edit that cannot lose anything of the photo: its change of pixels, added to the photo.

    python -m bench.on_the_photo photos/aligned

Beside it the same edit on the encoder's answer alone, from which the change of pixels is taken.  An inversion that
draws the photo itself shows about the first: what is missing there between photo and generated face is the judge's.
Prints a Markdown table of editability and of how far identity moves (`editing.editability`).
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from stylegan2.allocator import tune_allocator

tune_allocator()  # before anything large is allocated

from torch import Tensor  # noqa: E402

from editing import editability  # noqa: E402
from editing.batch import find_photos  # noqa: E402
from editing.inversion import Budget  # noqa: E402
from editing.inversion.residual import render  # noqa: E402
from editing.session import Editor  # noqa: E402
from editing.types import Inversion  # noqa: E402
from stylegan2.generator import Generator  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="aligned crops")
    parser.add_argument("--steps", type=int, default=10, help="of the encoder's corrections")
    options = parser.parse_args()
    editor, gaps, inversions = Editor(), [], []
    for path in sorted(find_photos(options.folder)):
        inversion = editor.set_photo(path, method="encoder", budget=Budget(steps=options.steps), aligned=True)
        gaps.append(editor.targets[0].crop - render(editor.generator, inversion))
        inversions.append(replace(inversion, seed=len(inversions)))  # by which its gap is found again

    def on_the_photo(generator: Generator, inversion: Inversion) -> Tensor:
        return (render(generator, inversion) + gaps[inversion.seed]).clamp(-1, 1)

    generated = editability.reference(editor.generator, editor.catalogue)
    edits = [editability.label(*edit) for edit in editability.EDITS]
    print("| editability, identity moves | " + " | ".join(edits) + " |")
    print("|---" * (1 + len(edits)) + "|")
    for name, draw in (("the encoder's answer", render), ("the photo, with that change of pixels", on_the_photo)):
        changes = editability.changes(editor.generator, inversions, editor.catalogue, draw=draw)
        found = editability.editability(changes, generated)
        cells = (found[edit] for edit in edits)
        print(f"| {name} | " + " | ".join(f"{cell.ratio:.0%}, {cell.drift:.0%}" for cell in cells) + " |", flush=True)


if __name__ == "__main__":
    main()
