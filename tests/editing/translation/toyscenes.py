"""Red and blue squares with their masks, as files: what InstaGAN's data, training and use are tried on."""

from __future__ import annotations

import numpy as np
from PIL import Image

RED, BLUE = (220, 40, 40), (40, 40, 220)


def saved(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path)
    return path


def square(size, top, left, side):
    mask = np.zeros((size, size), np.uint8)
    mask[top : top + side, left : left + side] = 255
    return mask


def domain(folder, colour, count=4, size=36, beside=False, seed=0):
    """Gray pictures with one or two squares of a colour, and the squares' masks."""
    rng = np.random.default_rng(seed)
    for index in range(count):
        picture = np.full((size, size, 3), 128, np.uint8)
        for number in range(1 + index % 2):
            mask = square(size, *rng.integers(2, size - 14, 2), 12 - 3 * number)
            picture[mask > 0] = colour
            apart = folder.with_name(f"{folder.name}_seg") / f"{index:02d}_{number}.png"
            saved(folder / f"{index:02d}.mask{number}.png" if beside else apart, mask)
        saved(folder / f"{index:02d}.png", picture)
    return folder
