"""How well does the parser read real photos?  python -m editing.judges.parsing photos/ [--sheet sheet.png]

Aligned crops of real faces (none was trained on): intersection over union with what landmarks say of the inner face,
summed over all photos; beside it that of landmarks with themselves, read off the mirrored photo, since they are not the
truth either; and the seconds a photo takes.  Landmarks know nothing of hair, ears and clothes: for those
there is the sheet, to be looked at.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from editing.faces.photo import open_picture
from editing.judges.judge import locate
from editing.judges.parsing.labels import CLASSES, INNER, PALETTE, from_landmarks, intersection_over_union
from editing.judges.parsing.network import SIZE, load, parse
from stylegan2.allocator import tune_allocator


def painted(picture: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Picture and labels (256, 256) -> the picture over its classes' colours, one above the other (512, 256, 3)."""
    return np.vstack([picture, picture // 3 + PALETTE[labels] // 3 * 2])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path, help="a folder of aligned crops")
    parser.add_argument("--weights", type=Path, help="a parser in training; default: the one that ships")
    parser.add_argument("--sheet", type=Path, help="write the photos over their classes' colours here")
    parser.add_argument("--columns", type=int, default=8)
    options = parser.parse_args()
    tune_allocator()
    network = load(options.weights) if options.weights else None
    found, truth, mirrored, tiles, seconds = [], [], [], [], []
    for path in sorted(p for p in options.photos.iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp")):
        picture = np.asarray(open_picture(path).convert("RGB"))
        started = time.perf_counter()
        labels = parse(picture, network)
        seconds.append(time.perf_counter() - started)
        small = np.asarray(Image.fromarray(picture).resize((SIZE, SIZE), Image.Resampling.BOX))
        tiles.append(painted(small, labels))
        landmarks, others = locate(picture), locate(np.ascontiguousarray(picture[:, ::-1]))
        if landmarks is None or others is None:
            print(f"{path.name}: no landmarks, left out of the figures", file=sys.stderr)
            continue
        found.append(labels)
        truth.append(from_landmarks(landmarks, len(picture), SIZE))
        mirrored.append(from_landmarks(others, len(picture), SIZE)[:, ::-1])
    scores, own = (intersection_over_union(np.stack(each), np.stack(truth)) for each in (found, mirrored))
    print("| | " + " | ".join(INNER) + " | mean |\n|---" + "|---" * (len(INNER) + 1) + "|")
    for name, row in (("parser", scores), ("landmarks, mirrored", own)):
        print(
            f"| {name} | "
            + " | ".join(f"{row[part]:.3f}" for part in INNER)
            + f" | {np.mean(list(row.values())):.3f} |"
        )
    median, threads = np.median(seconds[1:] or seconds), torch.get_num_threads()
    print(f"\n{len(found)} photos, {len(CLASSES)} classes, {median:.3f} s a photo, {threads} threads")
    if options.sheet:
        tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % options.columns)
        rows = [np.hstack(tiles[i : i + options.columns]) for i in range(0, len(tiles), options.columns)]
        Image.fromarray(np.vstack(rows)).save(options.sheet)


if __name__ == "__main__":
    main()
