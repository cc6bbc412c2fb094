"""What a small move of a code does to the picture: pull-back metrics of the default generator, which ship.

Most of a code's 16 x 512 numbers hardly show and a few decide everything.  The squared change of a picture
under a small change d of the code is d^T M d, with M the pull-back of the image loss through the generator,

    M = E_w J(w)^T W J(w)      J = d phi(G(w)) / du      phi: whatever the loss compares

so M is an image loss that costs no render, and what Gauss and Newton would put in place of a Hessian.  Two are of
codes: `renders` (pixels at three sizes, image features, descriptor) and `previews` (pixels of `stylegan2.preview`).
Each is estimated from random projections (Hutchinson): with r standard normal, g = J^T W^(1/2) r has E g g^T = M,
and one backward pass gives one g.  What ships are the largest principal components of many of them.  Shao et al.
(arXiv 1711.08014) use the pull-back metric to measure a generator's latent space; here it is a loss
(`encoders.train`) and a preconditioner (`editing.inversion.descent`).

The third, `places`, is about the activation x at an eighth of the picture's resolution instead of the code, and about
pixels alone: the mean over all places of g g^T, with g the C numbers that J^T r has at one place.  What one place says
about its neighbours is left out.

    python -m encoders.metric --out metric.safetensors      # goes on where it was killed
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from encoders.efficientnet import EfficientNetLite0
from encoders.efficientnet import from_state as image_network
from encoders.losses import identity, perceptual, picture
from stylegan2 import checkpoints, engine, preview, w_statistics, zoo
from stylegan2.allocator import tune_allocator
from stylegan2.errors import CheckpointError
from stylegan2.files import replacing
from stylegan2.generator import FeatureEdit, Generator

SHIPPED = Path(__file__).with_name("data") / "metric.safetensors"
PIXELS, PREVIEW_PIXELS = (256, 64, 16), (128, 32, 8)  # sides of the pictures compared
PERCEPTUAL, IDENTITY = 0.5, 0.3
RANKS = {"renders": 400, "previews": 200, "places": 128}
PLACES_PIXELS, PLACES_DRAWS = (1024, 256, 64), 96  # a draw has 16,384 places, so that few do
Draw = Callable[[Tensor], Tensor]  # ws (1, num_ws, w_dim) -> picture (1, 3, R, R)
Project = Callable[[Tensor, torch.Generator], Tensor]  # picture, source of r -> r . phi(picture), a scalar
PSI = 0.7
FIRST_SEED = 9_000_000
SAVE_EVERY = 50


def of_renders(network: EfficientNetLite0, person: identity.FaceDescriptor | None) -> Project:
    """What an image loss compares: pixels, features and, with a person network, the descriptor."""

    def project(image: Tensor, random: torch.Generator) -> Tensor:
        at256 = engine.area_resize(image, 256)
        total = _pixels(at256, PIXELS, random)
        features = perceptual.features(network, at256)
        for feature in features:
            places = feature.shape[2] * feature.shape[3] * len(features)
            total = total + _project(perceptual.unit(feature), PERCEPTUAL / places, random)
        if person is not None:
            descriptor = person(identity.extract_chips(at256, picture.FACE_CHIP * 256))
            total = total + _project(descriptor, IDENTITY, random)
        return total

    return project


def of_previews(image: Tensor, random: torch.Generator) -> Tensor:
    """Pixels alone."""
    return _pixels(image, PREVIEW_PIXELS, random)


def stage(generator: Generator, share: int = 8) -> str:
    """The name of the stage at 1/share of the picture's resolution, and no coarser than the first."""
    return f"b{max(4, generator.resolution // share)}"


def of_places(generator: Generator, count: int) -> Tensor:
    """-> rows (C, C), largest first: the squared length of rows @ d is the picture's mean change if x changes by d
    at every place, each with a sign of its own.
    """
    name, total = stage(generator), 0.0
    for seed in range(FIRST_SEED, FIRST_SEED + count):
        ws = engine.broadcast(generator, engine.latents(generator, [seed], PSI))
        with torch.no_grad():
            residual = torch.zeros_like(generator.synthesis(ws, until=name))
        residual.requires_grad_(True)
        image = generator.synthesis(ws, None, {name: FeatureEdit(residual, torch.ones_like(residual[:, :1]), ws)})
        sizes = tuple(min(size, generator.resolution) for size in PLACES_PIXELS)
        projected = _pixels(image, sizes, torch.Generator().manual_seed(seed))
        gradient = torch.autograd.grad(projected, residual)[0][0].flatten(1)  # (C, places)
        total = total + gradient @ gradient.T / count
    values, vectors = torch.linalg.eigh(total.double())
    return (values.clamp(min=0).sqrt() * vectors).T.flip(0).float()


def _pixels(image: Tensor, sizes: tuple[int, ...], random: torch.Generator) -> Tensor:
    sized = (engine.area_resize(image, size) for size in sizes)
    return sum(_project(pixels, 1 / pixels.numel(), random) for pixels in sized)


def _project(values: Tensor, weight: float, random: torch.Generator) -> Tensor:
    return (values * torch.randn(values.shape, generator=random).to(values)).sum() * weight**0.5


def pull_back(generator: Generator, draw: Draw, project: Project, seed: int) -> Tensor:
    """-> g (num_ws, w_dim): the mean over seeds of (g . d)^2 is the picture's change under d, in whitened W+."""
    statistics = w_statistics.load().to(generator.w_avg.device)
    ws = engine.broadcast(generator, engine.latents(generator, [seed], PSI))
    u = statistics.whiten(ws).requires_grad_(True)
    total = project(draw(statistics.unwhiten(u)), torch.Generator().manual_seed(seed))
    return torch.autograd.grad(total, u)[0][0]


def principal(draws: Tensor, rank: int) -> Tensor:
    """draws g (N, num_ws, w_dim) -> rows (rank, num_ws, w_dim): sum of row row^T is the nearest to the mean g g^T."""
    matrix = draws.flatten(1).double() / len(draws) ** 0.5
    values, vectors = torch.linalg.eigh(matrix @ matrix.T)
    return (vectors[:, -rank:].T.flip(0) @ matrix).float().view(-1, *draws.shape[1:])


def distance(difference: Tensor, rows: Tensor) -> Tensor:
    """difference of whitened codes (B, num_ws, w_dim), metric (K, num_ws, w_dim) -> (B,): about the image loss."""
    return (difference.flatten(1) @ rows.flatten(1).T).square().sum(1)


@cache
def load(path: Path | str = SHIPPED) -> dict[str, Tensor]:
    """-> `renders` and `previews`: rows (K, num_ws, w_dim) float32, whitened W+; `places`: (K, C); on the CPU.

    CheckpointError if the file is anything else.
    """
    try:
        state = load_file(path)
        metrics = {name: state[name].float() for name in RANKS}
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} cannot be read as a metric: {error}") from None
    dimensions = {"renders": 3, "previews": 3, "places": 2}
    if any(rows.ndim != dimensions[name] or not bool(torch.isfinite(rows).all()) for name, rows in metrics.items()):
        raise CheckpointError(f"{path} is not a metric: its rows must be finite numbers, (K, num_ws, w_dim) or (K, C).")
    return metrics


def fitting(generator: Generator, name: str) -> Tensor | None:
    """The shipped metric of that name, on the generator's device; None if its codes have another shape."""
    rows = load()[name]
    return rows.to(generator.w_avg.device) if rows.shape[1:] == (generator.num_ws, generator.w_dim) else None


def fitting_places(generator: Generator, channels: int) -> Tensor | None:
    """`places` (K, channels) on the generator's device; None if its activations have another number of channels."""
    rows = load()["places"]
    return rows.to(generator.w_avg.device) if rows.shape[1] == channels else None


def draws(generator: Generator, draw: Draw, project: Project, count: int, beside: Path) -> Tensor:
    """-> g (count, num_ws, w_dim), one a seed; those so far are kept in the file `beside`."""
    done = load_file(beside)["draws"] if beside.exists() else torch.zeros(0, generator.num_ws, generator.w_dim)
    while len(done) < count:
        seeds = range(FIRST_SEED + len(done), FIRST_SEED + min(count, len(done) + SAVE_EVERY))
        new = [pull_back(generator, draw, project, seed).cpu() for seed in seeds]
        done = torch.cat([done, torch.stack(new)])
        with replacing(beside) as part:
            save_file({"draws": done}, part)
        print(f"{beside.stem} {len(done)} trace {done.square().sum((1, 2)).mean():.2f}", flush=True)
    return done[:count]


def compute(generator: Generator, ways: dict[str, tuple[Draw, Project]], count: int, out: Path) -> None:
    """ways: how each metric draws and compares.  Writes `out` (fp16); the draws lie beside it until it is done."""
    places = {name: out.with_name(f"{out.stem}-{name}.safetensors") for name in ways}
    found = {name: draws(generator, *way, count, places[name]) for name, way in ways.items()}
    rows = {name: principal(found[name], min(RANKS[name], count)).half() for name in ways}
    rows["places"] = of_places(generator, min(PLACES_DRAWS, count))[: RANKS["places"]].half()
    with replacing(out) as part:
        save_file(rows, part)
    for place in places.values():
        place.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the file to write")
    parser.add_argument("--draws", type=int, default=1600, help="of each")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    tune_allocator()
    generator = checkpoints.load(zoo.path("mobilestylegan-ffhq-1024")).to(options.device)
    network = image_network(load_file(zoo.path("efficientnet-lite0"))).to(options.device)
    person = identity.load(zoo.path("dlib-face-recognition")).to(options.device)
    ways = {
        "renders": (generator.synthesis, of_renders(network, person)),
        "previews": (preview.load(generator), of_previews),
    }
    compute(generator, ways, options.draws, options.out)


if __name__ == "__main__":
    main()
