"""Drawing pictures of sentences with the networks of Reed et al. (arXiv 1605.05396, section 5).

    pictures = draw("runs/faces/latest_net_G.safetensors", ["a smiling woman"], [0, 1, 2])       # (3, 64, 64, 3)

    python -m editing.translation.captioned_drawing runs/faces/latest_net_G.safetensors sheet.webp \\
        --sentence "a smiling woman" --sentence "an old man with a beard" --seeds 8

The second writes one picture, a row a sentence, a column a seed.  Networks of `fit` read what `captioned.encode` makes
of a sentence, 384 numbers.  Published ones read the 1,024 of a char-CNN-RNN that there is no encoder of here: they need
embeddings, rows of an .npy file.
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

from editing.translation import captioned, checkpoints
from editing.translation.networks import ReedGenerator, ReedPortGenerator
from encoders import sentence
from stylegan2 import console, engine
from stylegan2.errors import UsageError
from stylegan2.files import replacing

BATCH = 64
MOST_BYTES = 1 << 28  # of a file of embeddings
Network = ReedGenerator | ReedPortGenerator


@torch.no_grad()
def draw(
    network: nn.Module | Path | str,
    sentences: Sequence[str],
    seeds: Sequence[int],
    embeddings: Path | str | np.ndarray | None = None,
    device: str = "cpu",
) -> np.ndarray:
    """-> (len(sentences) * len(seeds), 64, 64, 3) uint8, RGB: the first sentence with every seed, then the next.

    network: a generator, or its file (of `fit`, of the PyTorch port, or a .t7).  A seed is the same noise for every
    sentence.  embeddings: (sentences, text_dim), or an .npy file of them, in the place of our encoder's; then there
    may be no sentences at all.  UsageError, one sentence, for what does not fit.
    """
    name = "this network" if isinstance(network, nn.Module) else str(network)
    network = (network if isinstance(network, nn.Module) else checkpoints.load_generator(network)).to(device)
    if not isinstance(network, Network):
        raise UsageError(f"{name} is a {checkpoints.named(network)}, which draws nothing from sentences.")
    text = given(embeddings, network, sentences) if embeddings is not None else encoded(sentences, network, name)
    if not len(text) or not len(seeds):
        raise UsageError("Nothing is to be drawn: a sentence and a seed are needed.")
    noise = np.stack([np.random.default_rng(seed).standard_normal(network.nz, np.float32) for seed in seeds])
    z = torch.from_numpy(noise).repeat(len(text), 1).to(device)  # (N, nz)
    text = text.to(device).repeat_interleave(len(seeds), 0)  # (N, text_dim)
    pairs = zip(z.split(BATCH), text.split(BATCH), strict=True)
    return np.concatenate([engine.to_uint8(network(*pair)) for pair in pairs])


def encoded(sentences: Sequence[str], network: Network, name: str) -> Tensor:
    """-> (N, 384), where the network reads as many."""
    if network.text_dim != sentence.WIDTH:
        raise UsageError(
            f"{name} reads sentences as {network.text_dim} numbers of an encoder that is not here: give them as "
            "--embeddings file.npy, a row a sentence."
        )
    if not all(text.strip() for text in sentences):
        raise UsageError("A sentence is empty.")
    return captioned.encode(sentences)


def given(embeddings: Path | str | np.ndarray, network: Network, sentences: Sequence[str]) -> Tensor:
    """Embeddings (N, text_dim), of a file too, checked."""
    if isinstance(embeddings, np.ndarray):
        name, rows = "embeddings", embeddings
    else:
        name, rows = str(embeddings), read(Path(embeddings))
    if rows.ndim == 1:
        rows = rows[None]
    if rows.ndim != 2 or rows.shape[1] != network.text_dim or not len(rows):
        raise UsageError(f"{name} has the shape {rows.shape}; this network reads (sentences, {network.text_dim}).")
    if rows.dtype.kind not in "fiu" or not np.isfinite(rows).all():
        raise UsageError(f"{name} holds what is no number.")
    if sentences and len(sentences) != len(rows):
        raise UsageError(f"{name} has {len(rows)} rows for {len(sentences)} sentences.")
    return torch.from_numpy(np.ascontiguousarray(rows, np.float32))


def read(path: Path) -> np.ndarray:
    """The array of an .npy file."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UsageError(f"{path} is too large for embeddings.")
        rows = np.load(path, allow_pickle=False)
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror or error}).") from None
    except (ValueError, EOFError, MemoryError):
        rows = None
    if not isinstance(rows, np.ndarray):
        raise UsageError(f"{path} is no array of numbers (.npy).")
    return rows


def sheet(pictures: np.ndarray, columns: int, scale: int = 1) -> np.ndarray:
    """Pictures (N, H, W, 3), row by row -> one, every pixel `scale` wide"""
    rows = [np.concatenate(list(pictures[i : i + columns]), 1) for i in range(0, len(pictures), columns)]
    return np.concatenate(rows).repeat(scale, 0).repeat(scale, 1)


def main(args: Sequence[str] | None = None) -> None:
    app = console.app("A sheet of pictures that a network of Reed et al. draws of sentences.")

    @app.command()
    def run(
        network: Annotated[Path, typer.Argument(help="A generator's file: of fit, gen_200.pth, or a .t7.")],
        out: Annotated[Path, typer.Argument(help="The sheet: a row a sentence, a column a seed.")],
        sentences: Annotated[list[str] | None, typer.Option("--sentence", help="Repeatable.")] = None,
        seeds: Annotated[int, typer.Option(min=1, help="How many; they count from 0.")] = 8,
        embeddings: Annotated[Path | None, typer.Option(help="An .npy file, a row a sentence.")] = None,
        scale: Annotated[int, typer.Option(min=1, help="Pixels of the sheet for one.")] = 1,
    ) -> None:
        """Draw every sentence with every seed."""
        found = draw(network, sentences or [], range(seeds), embeddings)
        with replacing(out) as part:
            Image.fromarray(sheet(found, seeds, scale)).save(part, quality=90)
        print(out)

    console.run(app, "python -m editing.translation.captioned_drawing", args)


if __name__ == "__main__":
    main()
