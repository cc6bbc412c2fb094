"""Drawing pictures from layouts with LostGANs: `python -m editing.translate apply --network G.pth --img layout.json`.

A layout is {"boxes": [{"class": name or number, "box": [x, y, width, height]}, ...]}, in fractions of the picture.
Names of classes stand in `settings.json` beside a network of `fit`, or as "classes" in the layout, in order from 1 on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from editing import provenance
from editing.faces import photo as photos
from editing.translation import layouts
from editing.translation.networks import LostGANGenerator
from editing.types import Recipe
from stylegan2 import engine
from stylegan2.errors import UsageError, WplusError

if TYPE_CHECKING:
    from editing.translation.applying import Job

LONGEST = 1 << 20  # bytes of a layout
BOUND = 2.0  # of the noise, as the published test has it


def run(job: Job, network: LostGANGenerator, img: Path, out: Path) -> Iterator[tuple[Path, Path | WplusError]]:
    """Every layout of a file or folder, drawn `job.samples` times: (its path, a written file or what was wrong)."""
    refused = {"--how": job.how, "--size": job.size, "--like": job.like, "--label": job.label, "--faces": job.faces,
               "--eval": job.evaluation, "--instances": job.instances, "--upsampling": job.upsampling}  # fmt: skip
    for option, value in refused.items():
        if value:
            raise UsageError(f"{option} is for networks that take pictures; LostGANs takes layouts.")
    paths = sorted(img.rglob("*.json")) if img.is_dir() else [img]
    if not paths:
        raise UsageError(f"There are no layouts (.json) in {img}.")
    known = names_beside(job.network, network.classes)
    for path in paths:
        folder = out / (path.parent.relative_to(img) if img.is_dir() else "")
        try:
            objects = layout(path, known, network.classes)
            folder.mkdir(parents=True, exist_ok=True)
            for sample in range(job.samples):
                name = f"{path.stem}.png" if job.samples == 1 else f"{path.stem}.{sample}.png"
                picture = photos.from_rgb(drawn(network, objects, job.seed, sample, job.device))
                yield path, provenance.save(picture, folder / name, Recipe(), sidecar=False)
        except WplusError as error:
            yield path, error


def layout(path: Path, known: Mapping[str, int], classes: int) -> layouts.Objects:
    """The objects in a layout's file; UsageError, one sentence, for whatever is wrong with it."""
    try:
        if path.stat().st_size > LONGEST:
            raise UsageError(f"{path} is too large for a layout.")
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}).") from None
    content = layouts.read(path)
    try:
        own = content.get("classes")
        if own is not None:
            if not isinstance(own, list) or len(own) != classes - 1 or not all(isinstance(name, str) for name in own):
                raise ValueError(f'"classes" are the names of this network\'s {classes - 1} classes, in order.')
            known = numbered(own)
        objects = layouts.objects(content.get("boxes"), known, classes)
        if not objects:
            raise ValueError("it has no boxes.")
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from None
    return objects


def numbered(names: list[str]) -> dict[str, int]:
    return {name: number for number, name in enumerate(names, 1)}


def names_beside(network: Path, classes: int) -> dict[str, int]:
    """Classes of a run of `fit`, by name; none if the network stands alone, or beside what is another run's.

    classes: of the network, with 0, which pads and has no name.
    """
    try:
        facts = json.loads((network.parent / "settings.json").read_text())
        names = facts["domains"] if facts["system"] == "lostgans" else []
        return numbered(names) if len(names) == classes - 1 and all(isinstance(name, str) for name in names) else {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}


def noise(count: int, z_dim: int, seed: int, sample: int) -> Tensor:
    """-> (count, z_dim) from a normal distribution without what lies beyond BOUND; row 0 is the same for any count."""
    rows = [torch.empty(z_dim) for _ in range(count)]
    for i, row in enumerate(rows):
        entropy = int(np.random.SeedSequence((seed, sample, i)).generate_state(1, np.uint64)[0] >> np.uint64(1))
        torch.nn.init.trunc_normal_(row, 0, 1, -BOUND, BOUND, generator=torch.Generator().manual_seed(entropy))
    return torch.stack(rows)


@torch.no_grad()
def drawn(network: LostGANGenerator, objects: layouts.Objects, seed: int, sample: int, device: str) -> np.ndarray:
    """-> (S, S, 3) uint8.  Adding an object changes no other's noise, nor the picture's."""
    labels, boxes = (tensor.to(device) for tensor in layouts.padded([objects]))
    z = noise(1 + len(objects), network.z_dim, seed, sample).to(device)
    return engine.to_uint8(network(z[None, 1:], boxes, z[:1], labels))[0]
