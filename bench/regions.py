"""What an edit that is limited to a region changes outside it; prints a Markdown table.

    python -m bench.regions photos/aligned --count 16

Each photo is inverted by `hyper` and edited in one region at a time.  Outside is where neither the face before nor
the edited one belongs to the region, by the parser; the rim that is blended (about a hundredth of the face) lies half
there.  In the crop: mean change in 255ths, of the rendered face, and of the same edit without a region.  In the photo:
samples beyond the rim that are not exactly those of the input, which must be none.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from stylegan2.allocator import tune_allocator

tune_allocator()  # before anything large is allocated

from editing import regions  # noqa: E402
from editing.batch import find_photos  # noqa: E402
from editing.judges import parsing  # noqa: E402
from editing.session import Editor, to_rgb  # noqa: E402
from editing.types import Recipe, latent_step  # noqa: E402

EDITS = (("blond", 3.0, "hair"), ("lipstick", 2.0, "lips"), ("smile", 2.0, "mouth"), ("age", 2.0, "face"),
         ("light_eyes", 3.0, "eyes"), ("background_light", 4.0, "background"))  # fmt: skip


def recipe(name: str, strength: float, region: str | None) -> Recipe:
    return Recipe(steps=(latent_step(name, strength).model_copy(update={"region": region}),))


def measured(editor: Editor, name: str, strength: float, region: str) -> tuple[float, float, float, int]:
    """-> mean change outside in 255ths, limited and not, mean change inside, samples of the photo that changed
    beyond the rim"""
    before, whole = editor.reconstruction(), editor.render(recipe(name, strength, None))
    pictures = to_rgb(before), to_rgb(whole)
    size = len(pictures[0])
    wanted = [parsing.CLASSES.index(each) for each in regions.classes(region)]
    labels = [parsing.probabilities(picture) for picture in pictures]
    inside = np.any([np.isin(label.argmax(-1), wanted) for label in labels], 0)
    inside = np.kron(inside, np.ones((size // len(inside),) * 2, bool))
    edit = editor.edit(recipe(name, strength, region))
    limited, free = (
        np.abs((crop - before)[0].numpy()).mean(0).clip(0, 2) * 127.5 for crop in (edit.crop, whole)
    )  # fmt: skip
    rim = regions.mask(region, *labels, size)
    changed = (edit.photo.rgb != editor.scene.photo.rgb).any(-1)
    return (
        float(limited[~inside].mean()), float(free[~inside].mean()), float(limited[inside].mean()),
        int(changed[rim == 0].sum()),
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path, help="a folder of aligned photos, as large as the generator's pictures")
    parser.add_argument("--count", type=int, default=16)
    options = parser.parse_args()
    rows: dict[str, list[tuple[float, float, float, int]]] = {}
    editor = Editor()
    for path in sorted(find_photos(options.photos))[: options.count]:
        editor.set_photo(path, method="hyper", aligned=True)
        for name, strength, region in EDITS:
            rows.setdefault(f"{name} {strength:+g} @{region}", []).append(measured(editor, name, strength, region))
    print("| edit | outside, in 255ths | without a region | inside | changed samples beyond the rim |")
    print("|---|---|---|---|---|")
    for name, found in rows.items():
        limited, free, inside, changed = np.array(found).T
        print(f"| {name} | {limited.mean():.2f} (worst photo {limited.max():.2f}) | {free.mean():.2f} | "
              f"{inside.mean():.2f} | {int(changed.sum())} |")  # fmt: skip


if __name__ == "__main__":
    main()
