"""A thousand strangers: descriptors of generated faces, against which 'the same person' is decided.

A distance alone is too kind (random generated pairs pass dlib's usual 0.6 six times in a hundred).  So a
reconstruction is the same person only if it is near its photo *and* the photo is the nearest of 1,001.

    python -m editing.judges.gallery          # recomputes the shipped file
"""

from __future__ import annotations

import argparse
from functools import cache
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from editing.judges.judge import SAME_PERSON, describe

FILE = Path(__file__).with_name("strangers.safetensors")
SEEDS, PSI = range(100_000, 101_000), 0.7


@cache
def strangers() -> np.ndarray:
    """(about 1000, 128) float32 descriptors of generated faces (seeds 100000.., psi 0.7)."""
    return load_file(FILE)["descriptors"].astype(np.float32)


def same_person(photo: np.ndarray | None, copy: np.ndarray | None) -> bool:
    """Two descriptors (128,): nearer than 0.45, and no stranger is nearer to the copy.  No face counts as no."""
    if photo is None or copy is None:
        return False
    own = float(np.linalg.norm(photo - copy))
    return own < SAME_PERSON and own < float(np.linalg.norm(strangers() - copy, axis=1).min())


def main() -> None:
    argparse.ArgumentParser(description="Recompute the shipped descriptors of generated faces.").parse_args()
    from stylegan2 import checkpoints, engine, zoo

    generator = checkpoints.load(zoo.path("mobilestylegan-ffhq-1024"))
    found = [describe(picture) for _, _, picture in engine.faces(generator, SEEDS, PSI)]
    descriptors = np.stack([descriptor for descriptor in found if descriptor is not None])
    save_file({"descriptors": descriptors.astype(np.float16)}, FILE)
    print(f"{len(descriptors)} of {len(SEEDS)} faces were found and kept")


if __name__ == "__main__":
    main()
