"""Iterative refinement: how HyperStyle's hypernetwork inverts a photo (Alaluf et al., arXiv 2111.15666, section 3).

    w   = E(x)                       the W-encoder, once; w never changes
    y_t = G(w; D_t),  D_0 = 0        a render
    D_t = D_(t-1) + H(x, y_(t-1))    t = 1 ... T, T = 5

Every pass sees what the last one left to do, and its offsets are added to those so far.  Five passes are the published
number; with more, pictures are reported to blur.  What stays beside w are the offsets alone.  They travel as an
argument: the generator is never changed, and edits of w go on working.  For a generator that was adapted to another
domain the published work keeps the offsets of the fine layers only (`transferable`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from encoders.checkpoints import LoadedEncoder, encode
from hyperstyle.checkpoints import LoadedHyperStyle
from hyperstyle.networks import INPUT_SIZE
from stylegan2.engine import area_resize
from stylegan2.errors import CheckpointError
from stylegan2.generator import Delta, Deltas, Generator

PASSES = 5
FINE = tuple(f"b{resolution}.conv{i}" for resolution in (128, 256, 512, 1024) for i in (0, 1))  # 14, 15, 17 ... 24


def add(one: Deltas, other: Deltas) -> dict[str, Delta]:
    """The sum of two sets of offsets for the same layers, kinds and shapes; of low rank there is none."""
    if set(one) != set(other):
        raise ValueError(f"deltas for different layers cannot be added: {', '.join(sorted(set(one) ^ set(other)))}")
    total = {}
    for name, delta in one.items():
        a, b = delta.factors[0], other[name].factors[0]
        if delta.kind != other[name].kind or delta.kind == "lowrank" or a.shape != b.shape:
            raise ValueError(f"the deltas of {name} cannot be added: they differ in kind or shape, or are of low rank")
        total[name] = Delta(delta.kind, (a + b,))
    return total


def transferable(deltas: Deltas) -> dict[str, Delta]:
    """The offsets of the fine layers, 128 pixels and up: the published numbers 14, 15, 17, 18, 20, 21, 23 and 24."""
    return {name: delta for name, delta in deltas.items() if name in FINE}


@torch.no_grad()
def refine(
    hypernet: Callable[[Tensor], Mapping[str, Delta]],
    generator: Generator,
    images: Tensor,
    ws: Tensor,
    passes: int = PASSES,
    callback: Callable[[], None] | None = None,
) -> dict[str, Delta]:
    """Images (B, 3, S, S), RGB in [-1, 1], and their codes ws (B, num_ws, w_dim) -> offsets after that many passes.

    callback: called before every pass; an exception of it ends the work, which leaves nothing behind.
    """
    photo, deltas = area_resize(images, INPUT_SIZE), {}
    for _ in range(passes):
        if callback is not None:
            callback()
        rendered = area_resize(generator.synthesis(ws, deltas), INPUT_SIZE)  # (B, 3, 256, 256)
        correction = hypernet(torch.cat([photo, rendered.to(photo)], dim=1))
        deltas = add(deltas, correction) if deltas else dict(correction)
    return deltas


def invert(
    loaded: LoadedHyperStyle,
    w_encoder: LoadedEncoder,
    generator: Generator,
    image: Tensor,
    passes: int = PASSES,
    callback: Callable[[], None] | None = None,
) -> tuple[Tensor, dict[str, Delta]]:
    """Images (B, 3, S, S), RGB in [-1, 1] -> ws (B, num_ws, w_dim) in W and the offsets to render them with."""
    check_generator(loaded, w_encoder, generator)
    image = image.to(next(loaded.hypernet.parameters()))
    ws = encode(w_encoder, image, generator.w_avg if loaded.latent_avg is None else loaded.latent_avg)
    return ws, refine(loaded.hypernet, generator, image, ws, passes, callback)


def check_generator(loaded: LoadedHyperStyle, w_encoder: LoadedEncoder, generator: Generator) -> None:
    """Refuse a generator whose layers are not those that are tuned, or whose codes are not those of the encoder."""
    for name, layer in loaded.hypernet.layers.items():
        if name not in generator.layers or generator.layers[name].shape != layer.shape:
            raise CheckpointError(
                f"{loaded.path} tunes the layer {name} in the shape {layer.shape}, which a {generator.family} "
                "does not have: use the StyleGAN2 it was trained with."
            )
    codes = w_encoder.encoder.config
    if (codes.num_ws, codes.w_dim) != (generator.num_ws, generator.w_dim):
        raise CheckpointError(
            f"{w_encoder.path} gives {codes.num_ws} rows of {codes.w_dim} numbers, where the generator takes "
            f"{generator.num_ws} of {generator.w_dim}: an encoder for this generator is needed."
        )
