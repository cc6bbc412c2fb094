"""Another generator of the family: one that was fine-tuned to a style, and one that is put together from two.

    python -m hyperstyle.domain --style drawing --out drawing.safetensors --steps 100
    python -m editing.edit --inversion holiday.inversion --set smile=1 --generator drawing.safetensors --transfer

`fine_tune` teaches a copy's fine layers to draw what a filter makes of the generator's own pictures,

    L = sum_s mean (down_s(G'(w)) - down_s(S(G(w))))^2 + PERCEPTUAL * d(G'(w), S(G(w)))

with w random, S the filter and d the distance of `encoders.losses.perceptual`.  Codes, directions and coarse layers
stay what they were, so inversions and edits go with them (HyperStyle, Alaluf et al., arXiv 2111.15666, section 5, does
this with generators from StyleGAN-NADA).  `blend` swaps layers (Pinkney & Adler, arXiv 2010.05334): below some
resolution those of one generator, which decide shape, and from there on those of another.
"""

from __future__ import annotations

import copy
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stylegan2 import console
from stylegan2.allocator import tune_allocator
from stylegan2.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from encoders.efficientnet import EfficientNetLite0
    from stylegan2.generator import Generator

FIRST = 64  # resolution from which layers learn: what lies below decides the shape
SIZES = (1, 4, 16)  # pixels along a side that one of the loss covers
PERCEPTUAL, SIDE = 0.3, 256  # weight of the features, and the side of the pictures they are of
RATE, SMALLEST = 0.006, 0.05  # Adam's, in units of a tensor's own size, and the least size that counts: biases may be 0
PSI = 0.8

app = console.app("Fine-tune the generator to a style.")


# --------------------------------------------------------------------------------------------- styles


def smoothed(picture: np.ndarray, reach: int) -> np.ndarray:
    """Kuwahara's filter on (R, R, 3) in [0, 1]: every pixel takes the mean of the quietest of the four squares it is a
    corner of, so areas become flat and edges stay."""
    import numpy as np
    from scipy.ndimage import uniform_filter

    size, border = (2 * reach + 1, 2 * reach + 1, 1), 2 * reach
    padded = np.pad(picture, ((border, border), (border, border), (0, 0)), mode="edge")
    mean = uniform_filter(padded, size)
    noise = (uniform_filter(padded**2, size) - mean**2).sum(2)
    ways = [(down, right) for down in (-reach, reach) for right in (-reach, reach)]
    quietest = np.argmin([np.roll(noise, way, (0, 1)) for way in ways], axis=0)
    kept = np.choose(quietest[..., None], [np.roll(mean, way, (0, 1)) for way in ways])
    return kept[border:-border, border:-border]


def drawing(picture: np.ndarray) -> np.ndarray:
    """(R, R, 3) in [0, 1] -> pencil on warm paper: few tones of grey, and dark lines where the light changes."""
    import numpy as np
    from scipy.ndimage import gaussian_filter

    unit = picture.shape[0] / 1024
    steps = 5 * smoothed(picture, max(1, round(5 * unit))).mean(2)
    tones = (np.floor(steps) + 1 / (1 + np.exp(-12 * (steps % 1 - 0.5)))) / 5  # five tones with soft borders
    grey = gaussian_filter(picture.mean(2), 1.5 * unit)
    ink = np.clip(1 - 14 * np.maximum(gaussian_filter(grey, 4 * unit) - grey - 0.01, 0), 0.1, 1)
    return np.clip((0.25 + 0.75 * tones) * ink, 0, 1)[..., None] * np.array([1.0, 0.97, 0.9])


def painting(picture: np.ndarray) -> np.ndarray:
    """(R, R, 3) in [0, 1] -> broad strokes in warm light."""
    import numpy as np

    strokes = smoothed(picture, max(1, round(6 * picture.shape[0] / 1024)))
    return np.clip(strokes**0.9 * np.array([1.08, 0.98, 0.8]) + np.array([0.02, 0.01, 0]), 0, 1)


STYLES: dict[str, Callable[[np.ndarray], np.ndarray]] = {"drawing": drawing, "painting": painting}


def stylised(images: Tensor, style: Callable[[np.ndarray], np.ndarray]) -> Tensor:
    """Images (B, 3, R, R) RGB in about [-1, 1] -> what the style makes of each, the same shape and range."""
    import torch

    pictures = (images.detach().clamp(-1, 1) / 2 + 0.5).permute(0, 2, 3, 1).cpu().numpy()
    drawn = torch.stack([torch.from_numpy(style(picture)) for picture in pictures])
    return (drawn.permute(0, 3, 1, 2) * 2 - 1).to(images)


# ----------------------------------------------------------------------------------------- generators


def fine_tune(
    generator: Generator,
    stylise: Callable[[Tensor], Tensor],
    steps: int,
    *,
    first: int = FIRST,
    rate: float = RATE,
    seed: int = 0,
    network: EfficientNetLite0 | None = None,
    callback: Callable[[int, int, float], object] | None = None,
) -> Generator:
    """A new generator that draws stylise(G(w)); `generator` stays as it is.

    stylise: images (1, 3, R, R) in about [-1, 1] -> the same; first: resolution from which layers learn; network: of
    the features in the loss, None for pixels alone; callback: called with (steps done, steps, loss).
    """
    import torch

    from stylegan2.engine import broadcast, latents

    tuned = copy.deepcopy(generator)
    learning = [tensor for name, tensor in tuned.named_parameters() if learns(name, generator.resolution, first)]
    sizes = [max(float(tensor.square().mean().sqrt()), SMALLEST) for tensor in learning]
    groups = [
        {"params": [t.requires_grad_(True)], "rate": rate * size} for t, size in zip(learning, sizes, strict=True)
    ]
    adam = torch.optim.Adam(groups, lr=0.0, betas=(0.9, 0.99))
    for step in range(steps):
        ws = broadcast(generator, latents(generator, [seed + step], PSI))  # (1, num_ws, w_dim), another one every time
        with torch.no_grad():
            goal = stylise(generator.synthesis(ws))
        loss = difference(tuned.synthesis(ws), goal, network)
        adam.zero_grad(set_to_none=True)
        loss.backward()
        for group in adam.param_groups:
            group["lr"] = group["rate"] * min(1, (step + 1) / 10, 1.1 - step / steps)  # linearly down to a tenth
        adam.step()
        if callback is not None:
            callback(step + 1, steps, loss.item())
    return stamped(tuned, "fine-tuned")


def difference(ours: Tensor, goal: Tensor, network: EfficientNetLite0 | None) -> Tensor:
    """Images and goals (1, 3, R, R) in about [-1, 1] -> the loss of `fine_tune`, a scalar."""
    import torch.nn.functional as F

    from encoders.losses import perceptual
    from stylegan2.engine import area_resize

    side = ours.shape[-1]
    sizes = (max(1, side // covered) for covered in SIZES)
    loss = sum(F.mse_loss(area_resize(ours, size), area_resize(goal, size)) for size in sizes)
    if network is not None:
        features = (perceptual.features(network, area_resize(images, SIDE)) for images in (ours, goal))
        loss = loss + PERCEPTUAL * perceptual.distance(*features).mean()
    return loss


def blend(coarse: Generator, fine: Generator, resolution: int) -> Generator:
    """A new generator: layers below `resolution` and the mapping of coarse, the layers from there on of fine.

    Raises UsageError for generators of two families.
    """
    if coarse.family != fine.family:
        raise UsageError(f"A {coarse.family} and a {fine.family} have no layers in common: blend two of one family.")
    theirs = fine.state_dict()
    blended = copy.deepcopy(coarse)
    state = {name: theirs[name] if place(name) >= resolution else t for name, t in coarse.state_dict().items()}
    blended.load_state_dict(state)
    return stamped(blended, "blended")


def place(name: str) -> int:
    """The resolution of the layer that a tensor of either family belongs to; 0 for the mapping and w_avg."""
    found = re.match(r"synthesis\.b(\d+)\.|blocks\.(\d+)\.|(input|conv1)\b", name)
    if found is None:
        return 0
    resolution, block, _ = found.groups()
    return int(resolution) if resolution else 8 << int(block) if block else 4


def learns(name: str, resolution: int, first: int) -> bool:
    """Whether `fine_tune` moves that parameter: of the fine layers all but what makes gains of a code.

    first: resolution of the first of them; a small generator's last stage learns in any case.
    """
    return place(name) >= min(first, resolution // 2) and ".modulation." not in name and ".affine." not in name


def stamped(generator: Generator, made: str) -> Generator:
    """The generator, frozen, with the fingerprint of its own weights."""
    from stylegan2.checkpoints import Provenance, tensors_sha256

    sha256 = tensors_sha256(generator.state())
    generator.provenance = Provenance(sha256, sha256, made)
    return generator.eval().requires_grad_(False)


# --------------------------------------------------------------------------------------- command line


@app.command()
def domain(
    style: Annotated[str, typer.Option(help=f"One of: {', '.join(STYLES)}.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The new generator, a .safetensors file.", show_default=False)],
    steps: Annotated[int, typer.Option(min=1, help="Pictures it learns from; one takes seconds on a CPU.")] = 100,
    generator: Annotated[
        Path | None, typer.Option(help="A checkpoint to start from (default: the fetched one).")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the first picture; the others count on.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps.")] = "cpu",
) -> None:
    """Fine-tune the fine layers of the generator to a style."""
    if style not in STYLES:
        raise UsageError(console.unknown("styles", style, STYLES))
    if out.suffix != ".safetensors" or not out.parent.is_dir():
        raise UsageError(f"--out takes the name of a .safetensors file in a folder that exists, not '{out}'.")
    if generator is not None and generator.exists() and out.exists() and out.samefile(generator):
        raise UsageError("--out is the generator to start from: it is never overwritten.")
    tune_allocator()
    from safetensors.torch import load_file

    from encoders.efficientnet import from_state
    from stylegan2 import checkpoints, zoo

    start = checkpoints.load(generator or zoo.path("mobilestylegan-ffhq-1024")).to(device)
    network = from_state(load_file(zoo.path("efficientnet-lite0"))).to(device)
    with console.step_bar(style) as bar:

        def report(done: int, count: int, loss: float) -> None:
            bar(done, count, f"{loss:.4f}")
            if done in (1, count) or done % 10 == 0:
                print(f"step {done} of {count}: loss {loss:.4f}", file=sys.stderr)

        tuned = fine_tune(
            start, lambda x: stylised(x, STYLES[style]), steps, seed=seed, network=network, callback=report
        )
    checkpoints.save(tuned, out)
    print(out)


def main(args: Sequence[str] | None = None, prog: str = "python -m hyperstyle.domain") -> None:
    console.run(app, prog, args)


if __name__ == "__main__":
    main()
