"""Translation networks on pairs they never saw: how near, how sharp, how alike.

    python -m editing.translate pairs held/ --kind degraded --how sketch --size 128 --count 100 --first-seed 30000000
    python -m bench.translation held/ --network rbdn=runs/rbdn/latest_net_G.safetensors \
        --network pix2pix=runs/sketch/latest_net_G.safetensors --sheet sheet.webp

PSNR in decibels; sharpness: the mean absolute Laplacian of the result, relative to the answer's; perceptual: distance
of EfficientNet-Lite0 features (`encoders.losses.perceptual`), 0 for the same picture, beside that of random answers.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from editing.translation import checkpoints, data
from editing.translation.networks import UnetGenerator
from editing.translation.networks.norms import own_statistics
from encoders.efficientnet import from_state
from encoders.losses import perceptual
from stylegan2 import engine, zoo
from stylegan2.allocator import tune_allocator

SHOWN = 6


def laplacian(images: Tensor) -> Tensor:
    """(B, 3, H, W) -> mean absolute Laplacian of the luma (B,)"""
    kernel = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]]).view(1, 1, 3, 3)
    luma = (images * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    return F.conv2d(luma, kernel).abs().mean((1, 2, 3))


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--network", action="append", required=True, metavar="NAME=FILE")
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--eval", action="store_true", help="pix2pix with stored statistics, without dropout.")
    options = parser.parse_args()
    tune_allocator()
    features = from_state(load_file(zoo.path("efficientnet-lite0")))
    source = data.paired(options.pairs)
    a, b = (engine.to_float(np.stack([part[i] for i in range(len(source))])) for part in (source.a, source.b))
    columns = [a]
    answers = perceptual.features(features, b)
    apart = perceptual.distance(answers, [torch.roll(f, 1, 0) for f in answers]).mean()
    print(f"{len(a)} pairs; two random answers are {apart:.3f} apart\n")
    print("| network | PSNR | sharpness | perceptual |\n|---|---|---|---|")
    for text in options.network:
        name, _, file = text.partition("=")
        network = checkpoints.load_generator(file)
        network = own_statistics(network) if isinstance(network, UnetGenerator) and not options.eval else network
        y = torch.cat([network(one).clamp(-1, 1) for one in a.split(1)])
        psnr = (10 * torch.log10(4 / (y - b).square().mean((1, 2, 3)))).mean()
        sharp = (laplacian(y) / laplacian(b)).mean()
        alike = perceptual.distance(perceptual.features(features, y), answers).mean()
        print(f"| {name} | {psnr:.2f} | {sharp:.2f} | {alike:.3f} |", flush=True)
        columns.append(y)
    if options.sheet:
        columns = [engine.to_uint8(column[:SHOWN]) for column in (*columns, b)]
        Image.fromarray(np.vstack([np.hstack(row) for row in zip(*columns, strict=True)])).save(
            options.sheet, quality=85
        )


if __name__ == "__main__":
    main()
