"""Faces of eight numbers and sentences about two of them: what the trainings are tried on."""

import numpy as np
import torch

from editing.heads.response import Whitening
from editing.text.bridging import Data
from editing.text.pairing import Claims

WIDE, COMPONENTS, SENTENCE = 12, 6, 10
CLAIMS = ("first high", "first low", "second high", "second low")


def found(count=600, seed=0, whitening=None):
    """Codes w (N, 12), of which the first two whitened components are what sentences speak of; every face has captions
    of one and of two claims, and one that is wrong."""
    rng = np.random.default_rng(seed)
    w = torch.from_numpy(rng.standard_normal((count, WIDE)) * np.linspace(3, 0.3, WIDE)).float()
    whitening = whitening or Whitening.of(w, COMPONENTS)
    u = whitening(w)
    misfit = torch.stack([(0.3 - u[:, 0]).clamp(min=0), (u[:, 0] + 0.3).clamp(min=0),
                          (0.3 - u[:, 1]).clamp(min=0), (u[:, 1] + 0.3).clamp(min=0)], 1)  # fmt: skip
    rows = []
    for face in range(count):
        holding = [claim for claim in range(4) if misfit[face, claim] == 0]
        for claim in holding:
            rows.append((face, [claim], False))
            rows.append((face, [claim ^ 1], True))
        if len(holding) == 2:
            rows.append((face, holding, False))
    mentions = np.zeros((len(rows), 4), bool)
    for row, (_, claims, _) in enumerate(rows):
        mentions[row, claims] = True
    claims = Claims(
        [" and ".join(CLAIMS[c] for c in claims) for _, claims, _ in rows], mentions,
        np.array([row[0] for row in rows]), np.array([row[2] for row in rows]), embedding(mentions, rng),
    )  # fmt: skip
    return Data(u.repeat(1, 3), u[:, :3].clone(), misfit, claims, whitening, count), w


def embedding(mentions, rng):
    """A sentence's numbers: what it claims, and how it is put."""
    mixing = np.random.default_rng(99).standard_normal((4, SENTENCE))
    raw = mentions @ mixing + 0.2 * rng.standard_normal((len(mentions), SENTENCE))
    return (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)
