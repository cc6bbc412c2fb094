"""Drawing pictures of sentences with GigaGAN (arXiv 2303.05511).

    pictures = draw("runs/faces/latest_net_G_mean.safetensors", ["a smiling woman"], [0, 1, 2])       # (3, S, S, 3)

    python -m editing.translation.gigagan_drawing runs/faces/latest_net_G_mean.safetensors sheet.webp \\
        --sentence "a smiling woman" --sentence "an old man with a beard" --seeds 8

The second writes one picture, a row a sentence, a column a seed.  psi below 1 draws w towards the mean of the sentence
(truncation), so that what the sentence says stays: less variety, fewer odd pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from PIL import Image
from torch import Tensor, nn

from editing.translation import checkpoints
from editing.translation.captioned_drawing import sheet
from editing.translation.networks import GigaGANGenerator
from editing.translation.systems.gigagan import padded
from encoders import sentence
from stylegan2 import console, engine
from stylegan2.errors import UsageError
from stylegan2.files import replacing

BATCH, MEAN = 16, 256  # pictures at a time; codes that the mean w of a sentence is of


@torch.no_grad()
def draw(
    network: nn.Module | Path | str,
    sentences: Sequence[str],
    seeds: Sequence[int],
    psi: float = 1.0,
    device: str = "cpu",
) -> np.ndarray:
    """-> (len(sentences) * len(seeds), S, S, 3) uint8, RGB: the first sentence with every seed, then the next.

    network: a generator, or its file.  A seed is the same noise for every sentence.  UsageError, one sentence, for what
    does not fit.
    """
    name = "this network" if isinstance(network, nn.Module) else str(network)
    network = (network if isinstance(network, nn.Module) else checkpoints.load_generator(network)).to(device)
    if not isinstance(network, GigaGANGenerator):
        raise UsageError(f"{name} is a {checkpoints.named(network)}, not GigaGAN's generator.")
    if network.features != sentence.WIDTH:
        raise UsageError(f"{name} reads tokens of {network.features} numbers, of an encoder that is not here.")
    if not sentences or not len(seeds) or not all(text.strip() for text in sentences):
        raise UsageError("Nothing is to be drawn: a sentence and a seed are needed.")
    noise = np.stack([np.random.default_rng(seed).standard_normal(network.z_dim, np.float32) for seed in seeds])
    found = []
    for text in sentences:
        hidden, mask = (t.to(device) for t in padded(list(sentence.load().tokens([text])[0])))
        words, token = network.text(hidden, mask)
        w = network.mapped(torch.from_numpy(noise).to(device), token.expand(len(noise), -1))
        if psi != 1:
            w = torch.lerp(mean_w(network, token), w, psi)
        for some in w.split(BATCH):
            pictures = network.synthesis(some, *(t.expand(len(some), *t.shape[1:]) for t in (words, mask)))
            found.append(engine.to_uint8(pictures[0]))
    return np.concatenate(found)


def mean_w(network: GigaGANGenerator, token: Tensor) -> Tensor:
    """Mean of w over noise, for a sentence's token (1, width) -> (1, w_dim)"""
    z = np.random.default_rng(0).standard_normal((MEAN, network.z_dim), np.float32)
    return network.mapped(torch.from_numpy(z).to(token), token.expand(MEAN, -1)).mean(0, keepdim=True)


def main(args: Sequence[str] | None = None) -> None:
    app = console.app("A sheet of pictures that GigaGAN draws of sentences.")

    @app.command()
    def run(
        network: Annotated[Path, typer.Argument(help="A generator's file of fit: latest_net_G_mean.safetensors.")],
        out: Annotated[Path, typer.Argument(help="The sheet: a row a sentence, a column a seed.")],
        sentences: Annotated[list[str] | None, typer.Option("--sentence", help="Repeatable.")] = None,
        seeds: Annotated[int, typer.Option(min=1, help="How many; they count from 0.")] = 8,
        psi: Annotated[float, typer.Option(min=0, max=2, help="Truncation.")] = 1.0,
        scale: Annotated[int, typer.Option(min=1, help="Pixels of the sheet for one.")] = 1,
    ) -> None:
        """Draw every sentence with every seed."""
        found = draw(network, sentences or [], range(seeds), psi)
        with replacing(out) as part:
            Image.fromarray(sheet(found, seeds, scale)).save(part, quality=90)
        print(out)

    console.run(app, "python -m editing.translation.gigagan_drawing", args)


if __name__ == "__main__":
    main()
