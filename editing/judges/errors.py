"""How far is every judge to be trusted?  python -m editing.judges.errors [photos/]

Two measurements, neither on what the judges were made from:

- repeated: real photos (aligned crops) against themselves mirrored, moved by 2%, and saved as a small JPEG, none of
  which changes the person.  The root of the mean squared difference, in standard deviations of the population: 0.3
  says that a tenth of what distinguishes two people in this judge is noise;
- looked at: generated faces that a person has sorted (`looked.json`): the share of pairs, one with and one without,
  in which the judge puts the one with it higher (area under the ROC curve; 0.5 is a coin).

The printed table stands in docs/cards/judges.md.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from editing.faces.photo import open_picture
from editing.judges import population
from editing.judges.judge import Scores, judge

LOOKED = Path(__file__).with_name("looked.json")
MIRRORED = ("yaw", "roll", "shade")  # judges that change their sign in a mirror
MOVED, QUALITY, SMALL = 0.02, 60, 512


def copies(picture: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Picture (H, W, 3) uint8 RGB -> the same face three more times."""
    yield "mirrored", np.ascontiguousarray(picture[:, ::-1])
    shift = max(1, int(len(picture) * MOVED))
    yield "moved", np.pad(picture, ((shift, 0), (shift, 0), (0, 0)), mode="edge")[:-shift, :-shift]
    image, file = Image.fromarray(picture).resize((SMALL, SMALL), Image.Resampling.BOX), io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY)
    yield "jpeg", np.asarray(Image.open(file).convert("RGB"))


def difference(a: Scores, b: Scores, mirrored: bool) -> np.ndarray:
    """(J,) in standard deviations of the population, nan where one of them sees nothing."""
    names, _, spread = population.arrays()
    signs = np.array([-1 if mirrored and name in MIRRORED else 1 for name in names])
    pairs = np.array([(a.values[name], b.values[name]) for name in names])
    return (pairs[:, 0] - signs * pairs[:, 1]) / spread


def repeated(folder: Path) -> dict[str, np.ndarray]:
    """Aligned photos of a folder -> copy: root mean squared difference (J,)."""
    found: dict[str, list[np.ndarray]] = {}
    for path in sorted(p for p in folder.iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png")):
        picture = np.asarray(open_picture(path).convert("RGB"))
        first = judge(picture)
        for name, copy in copies(picture):
            again = judge(copy)
            if first is not None and again is not None:
                found.setdefault(name, []).append(difference(first, again, name == "mirrored"))
    return {name: np.sqrt(np.nanmean(np.square(rows), 0)) for name, rows in found.items()}


def auc(yes: np.ndarray, no: np.ndarray) -> float:
    """Scores of both groups -> share of pairs in the right order, ties counting half."""
    above = yes[:, None] - no[None]
    return float((above > 0).mean() + (above == 0).mean() / 2)


def looked_at() -> dict[str, tuple[str, float, int, int]]:
    """What was looked for -> judge, area under the curve, faces with it, faces without."""
    from stylegan2 import checkpoints, engine, zoo

    facts = json.loads(LOOKED.read_text())
    first, psi = facts.pop("first_seed"), facts.pop("psi")
    sorted_faces = {name: fact for name, fact in facts.items() if isinstance(fact, dict)}
    wanted = sorted({index for fact in sorted_faces.values() for index in (*fact["yes"], *fact["no"])})
    generator = checkpoints.load(zoo.path("mobilestylegan-ffhq-1024"))
    pictures = engine.faces(generator, [first + index for index in wanted], psi)
    scores = {index: judge(picture) for index, (_, _, picture) in zip(wanted, pictures, strict=True)}
    result = {}
    for name, fact in sorted_faces.items():
        groups = [[scores[i].values[fact["judge"]] for i in fact[side] if scores[i]] for side in ("yes", "no")]
        yes, no = (np.array([value for value in group if np.isfinite(value)]) for group in groups)
        result[name] = (fact["judge"], auc(yes, no), len(yes), len(no))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path, nargs="?", help="a folder of aligned photos")
    options = parser.parse_args()
    if options.photos:
        found = repeated(options.photos)
        print("| judge | " + " | ".join(found) + " |\n|---|" + "---|" * len(found))
        for index, name in enumerate(population.load()):
            print(f"| {name} | " + " | ".join(f"{rows[index]:.2f}" for rows in found.values()) + " |")
        print()
    print("| looked for | judge | right pairs | with | without |\n|---|---|---|---|---|")
    for name, (by, area, yes, no) in looked_at().items():
        print(f"| {name} | {by} | {area:.3f} | {yes} | {no} |")


if __name__ == "__main__":
    main()
