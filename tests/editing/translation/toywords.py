"""A sentence encoder of random words, captioned squares, a tiny network: what GigaGAN is tried on, without weights."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from editing.translation import checkpoints
from editing.translation.networks import GigaGANDiscriminator, GigaGANGenerator
from editing.translation.systems.gigagan import GigaGAN
from encoders import sentence


class Fake:
    """A sentence encoder of random words, as many tokens as there are."""

    def tokens(self, texts):
        rows = [torch.stack([self.word(word) for word in text.split()]) for text in texts]
        longest = max(map(len, rows))
        mask = torch.arange(longest) < torch.tensor([len(row) for row in rows])[:, None]
        return torch.stack([F.pad(row, (0, 0, 0, longest - len(row))) for row in rows]), mask

    def word(self, word):
        return torch.randn(384, generator=torch.Generator().manual_seed(zlib.crc32(word.encode())))


@pytest.fixture(autouse=True)
def no_weights_are_needed(monkeypatch):
    monkeypatch.setattr(sentence, "load", Fake)
    monkeypatch.setattr(GigaGAN, "vision", 0.0)


def tiny(seed=0):
    torch.manual_seed(seed)
    g = GigaGANGenerator(12, 6, 10, 8, (8, 8, 4), (1, 2, 3), (1, 2, 1), (0, 1, 1), 1, 2)
    return g, GigaGANDiscriminator(12, 8, (4, 8, 8), (1, 0, 2), (0, 1, 0), 5, 1)


def squares(folder, count=24, size=16, colours=("red", "green", "blue")):
    """Squares of a colour somewhere on gray, captioned."""
    folder.mkdir()
    rng, rows = np.random.default_rng(0), []
    for index in range(count):
        colour, pixels = colours[index % len(colours)], np.full((size, size, 3), 127, np.uint8)
        top, left = rng.integers(0, size // 4, 2)
        side, rgb = 3 * size // 4, [230 if c == colour else 20 for c in ("red", "green", "blue")]
        pixels[top : top + side, left : left + side] = rgb
        Image.fromarray(pixels).save(folder / f"{index:02d}.png")
        rows.append(f"{index:02d}.png,a {colour} square")
    (folder / "captions.csv").write_text("file,caption\n" + "\n".join(rows) + "\n")
    return folder


def saved(tmp_path, network):
    checkpoints.save(network, tmp_path / "own.safetensors")
    return tmp_path / "own.safetensors"
