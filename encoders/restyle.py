"""What an encoder answered, rendered: where its next pass starts from in training.

    python -m encoders.restyle --samples cache/ --encoder runs/e4e/encoder.safetensors --shards 20

ReStyle (Alaluf et al., arXiv 2104.02699) renders every pass of every step.  Rendering is what costs here,
so the first pass's answers to the samples are rendered once, into `cache/earlier`, and serve many epochs
(`encoders.train` finds them there).  Made again after more training, they are those of the better encoder:
delete the folder first.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import torch

from encoders import compact, samples
from encoders.augment import augment
from stylegan2 import checkpoints, engine, w_statistics, zoo
from stylegan2.allocator import tune_allocator
from stylegan2.generator import Generator


def answers(encoder: compact.CompactEncoder, generator: Generator, pictures: np.ndarray, seed: int) -> dict:
    """Pictures (N, 256, 256, 3) uint8 -> "u" (N, num_ws, w_dim) fp16 whitened codes, "pictures": what they render to.

    Half of the answers are to disturbed pictures, as in training.
    """
    images = engine.to_float(pictures)
    images[::2] = augment(images[::2], seed)
    mean = compact.mean_face(encoder)
    with torch.no_grad():
        u = torch.cat([encoder(batch, mean.expand_as(batch)) for batch in images.split(10)])
    rendered = samples.render(generator, w_statistics.load().unwhiten(u), compact.SIZE)
    return {"u": u.half().numpy(), "pictures": rendered}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=Path, required=True)
    parser.add_argument("--encoder", type=Path, required=True)
    parser.add_argument("--shards", type=int, default=20, help="how many shards get one; those that have one stay")
    options = parser.parse_args()
    tune_allocator()
    generator = checkpoints.load(zoo.path("mobilestylegan-ffhq-1024"))
    encoder = compact.load(options.encoder)
    shards, first, _ = samples.read(options.samples)
    folder = options.samples / "earlier"
    folder.mkdir(exist_ok=True)
    for start, shard in list(zip(first, shards, strict=True))[: options.shards]:
        path = folder / f"{start}.npz"
        if not path.exists():
            part = folder / f".{start}.{os.getpid()}.npz"
            np.savez(part, **answers(encoder, generator, np.asarray(shard), start))
            os.replace(part, path)
            print(path, flush=True)


if __name__ == "__main__":
    main()
