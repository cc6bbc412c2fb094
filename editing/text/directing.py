"""StyleCLIP's ways as files: an edit of one's own from two sentences, and an inversion nearer to a sentence.

    python -m editing.directions text "a person with red hair" --from "a person" --name copper --out copper.safetensors
    python -m editing.edit --img photo.jpg --directions copper.safetensors --set copper=2
    python -m editing.text optimise --inversion face.inversion "a person with red hair" --out copper.inversion

With the bridge that ships, or, `--clip weights.safetensors --model ViT-B-32`, with CLIP for those who have it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from editing.directions.catalogue import MERGED, Direction
from editing.text import bridge as bridges
from editing.text import clip, styleclip
from editing.text.bridge import Bridge
from editing.types import Inversion, generator_sha256
from stylegan2 import engine
from stylegan2.errors import UsageError
from stylegan2.generator import Generator

FACES, RENDERED = 64, 8  # that a direction is the mean of: with our bridge, and where each has to be rendered


def bridge_of(generator: Generator, file: Path | None, model: str) -> Bridge:
    """Ours, or CLIP's with these weights.  UsageError, CheckpointError."""
    return bridges.load() if file is None else clip.load(file, model, generator)


def direction(generator: Generator, bridge: Bridge, name: str, target: str, neutral: str, beta: float) -> Direction:
    """An edit from one sentence to another; strength counts standard deviations of codes."""
    seeds = range(RENDERED if isinstance(bridge, clip.ClipBridge) else FACES)
    ws = torch.cat([engine.broadcast(generator, engine.latents(generator, [seed], 0.7)) for seed in seeds])
    vector = styleclip.globally(bridge, ws, target, neutral, beta=beta)[:MERGED].detach().cpu()
    about = f"from '{neutral}' to '{target}'"
    return Direction(name, vector, (0, MERGED), "own", f"StyleCLIP in W+, beta {beta:g}", about)


def optimise(
    generator: Generator, bridge: Bridge, inversion: Inversion, sentence: str, steps: int,
    callback: Callable[[int, float], None] | None = None,
) -> Inversion:  # fmt: skip
    """The inversion, its code nearer to the sentence.  UsageError, InversionError if it is another generator's."""
    if not sentence.strip():
        raise UsageError("There is no sentence.")
    inversion.require(generator.family, generator_sha256(generator))
    offset = styleclip.optimised(bridge, inversion.ws, sentence, steps=steps, callback=callback)
    return replace(inversion, ws=inversion.ws + offset)
