"""Teach one network what edits of the catalogue do to a picture (`editing.heads.distilled`).

    python -m editing.translate pairs moved/ --kind ranged --size 512 --psi 0.8 --disentangle --set smile=-2:2.8 ...
    python -m editing.heads.distil moved/ --out distilled.safetensors --images 12000      # goes on where it was killed

The answer is known pixel by pixel, so there is no critic: an absolute error at several sizes, more of it where the edit
changes something, the motion that `editing.faces.flow` finds, and towards the end the distance of EfficientNet-Lite0
features, which asks for teeth and hairs where a mean of all answers would be soft, and what is finer than the network
sees.  Pictures are turned, scaled and shifted a little, as landmarks are wrong, and mirrored, toned and blurred, both
alike.
"""

from __future__ import annotations

import copy
import json
import pickle
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
import typer
from safetensors.torch import load_file
from torch import Tensor

from editing.faces import flow
from editing.heads import distilled
from editing.heads.distilled import Distilled
from editing.translation import data
from encoders.batches import epoch_order
from encoders.efficientnet import EfficientNetLite0, from_state
from encoders.losses import perceptual
from encoders.previewing import schedule
from stylegan2 import console, engine, zoo
from stylegan2.allocator import tune_allocator
from stylegan2.errors import UsageError
from stylegan2.files import replacing

HELD_OUT = 32  # seeds at the end of a folder that are looked at only
WEIGHED, FULL = 6.0, 0.15  # how much more an error counts where the edit changes the picture by FULL
PERCEPTUAL, MOTION, SURE = 1.5, 20.0, 0.01
SCALES = (256, 64)  # pixels at which pictures are compared beside their own
TRACKED, PARSED = 128, 128  # pixels at which motion is measured, and classes are kept
COARSE = 0.8  # of a training: pictures of SIDE and their error alone, which takes less than half the time
TURN, SCALE, SHIFT = 0.04, 0.04, 0.02  # of pictures: radians, a logarithm, halves of a picture
TONE, GAIN, BLURRED = 0.25, 0.2, 0.3  # exponent, per channel, and how many are blurred
SAVE_EVERY = 100


class Pairs:
    """A folder of `--kind ranged`: index -> a, one of its b, and that one's strengths."""

    def __init__(self, folder: Path) -> None:
        facts = data.facts(folder)
        if facts.get("kind") != "ranged":
            raise UsageError(f"{folder} holds no pairs of ranged edits: editing.translate pairs --kind ranged")
        self.facts = facts
        self.edits: Mapping[str, Sequence[float]] = facts["edits"]
        for start in sorted(int(path.stem) for path in folder.glob("[0-9]*.seeds")):
            see(folder, start)
        self.a, self.b, self.labels, self.classes = (
            data.Shards(folder, name) for name in ("a", "b", "labels", "classes")
        )
        if len(self.a) <= HELD_OUT:
            raise UsageError(f"{folder} holds {len(self.a)} faces; more than {HELD_OUT} are needed.")

    def __len__(self) -> int:
        return len(self.a)

    def __getitem__(self, place: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        index, which = place[0], place[1] % len(self.b[place[0]])
        classes = torch.from_numpy(self.classes[index].copy()).permute(2, 0, 1)[None].float() / 255
        return (engine.to_float(self.a[index]), engine.to_float(self.b[index][which]), classes,
                torch.from_numpy(self.labels[index][which].copy())[None])  # fmt: skip


def see(folder: Path, start: int) -> None:
    """What the parser sees in a of a shard, once: classes (N, PARSED, PARSED, C) uint8."""
    path, pictures = folder / f"{start}.classes.npy", data.opened(folder / f"{start}.a.npy")
    if path.exists() and len(data.opened(path)) == len(pictures):
        return
    found = []
    for picture in pictures:
        small = engine.area_resize(distilled.seen(engine.to_float(picture)), PARSED)[0]
        found.append((small * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())
    with replacing(path) as part, open(part, "wb") as file:
        np.save(file, np.stack(found))


def varied(a: Tensor, b: Tensor, classes: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """a, b (1, 3, S, S): the same change of place, tone and sharpness to both, of place also to classes."""
    turn, scale = rng.uniform(-TURN, TURN), np.exp(rng.uniform(-SCALE, SCALE))
    x, y, flip = rng.uniform(-SHIFT, SHIFT), rng.uniform(-SHIFT, SHIFT), rng.choice([-1, 1])
    cos, sin = scale * np.cos(turn), scale * np.sin(turn)
    theta = torch.tensor([[[flip * cos, -sin, x], [flip * sin, cos, y]]], dtype=torch.float32)
    both, classes = (
        F.grid_sample(each, F.affine_grid(theta, list(each.shape), align_corners=False), padding_mode="reflection",
                      align_corners=False) for each in (torch.cat([a, b], 1), classes)
    )  # fmt: skip
    if rng.random() < BLURRED:
        size = both.shape[-1]
        both = F.interpolate(
            engine.area_resize(both, int(size * rng.uniform(0.4, 0.9))), size=(size, size), mode="bilinear"
        )
    gains = torch.tensor(rng.uniform(1 - GAIN, 1 + GAIN, 3), dtype=torch.float32).repeat(2)[None, :, None, None]
    toned = ((both + 1) / 2).clamp(0, 1) ** float(np.exp(rng.uniform(-TONE, TONE))) * gains
    one, other = (toned.clamp(0, 1) * 2 - 1).split(3, 1)
    return one, other, distilled.enlarged(classes, distilled.SIDE)


def losses(network: Distilled, features: EfficientNetLite0 | None, a: Tensor, b: Tensor, classes: Tensor,
           strengths: Tensor) -> Tensor:  # fmt: skip
    """Mean over a batch a, b (B, 3, S, S), classes (B, C, SIDE, SIDE), strengths (B, E)."""
    small = engine.area_resize(a, distilled.SIDE)
    f, r, c, g = network.maps(small, classes, strengths)
    out = distilled.moved(a, small, f, r, c, g)
    change = F.avg_pool2d((b - a).abs().mean(1, keepdim=True), 17, 1, 8)
    weight = 1 + WEIGHED * (change / FULL).clamp(max=1)
    loss = MOTION * F.smooth_l1_loss(f, motion(a, b), beta=SURE) + (weight * (out - b).abs()).mean()
    for size in SCALES:
        w, one, other = (engine.area_resize(each, size) for each in (weight, out, b))
        loss = loss + (w * (one - other).abs()).mean()
    if features is None:
        return loss
    near, far = (engine.area_resize(each, distilled.SIDE) for each in (out, b))
    with torch.no_grad():
        wanted = perceptual.features(features, far)
    return loss + PERCEPTUAL * perceptual.distance(perceptual.features(features, near), wanted).mean()


def motion(a: Tensor, b: Tensor) -> Tensor:
    """a, b (B, 3, S, S) -> the f (B, 2, SIDE, SIDE) that optical flow finds: learned from pictures alone, motion stays
    where it begins."""
    found = []
    for pair in zip(a, b, strict=True):
        one, other = (
            (engine.area_resize(each[None], TRACKED)[0].permute(1, 2, 0).numpy() + 1) / 2 for each in pair
        )  # fmt: skip
        found.append(torch.from_numpy(flow.flow(one, other).copy()).permute(2, 0, 1) * (2 / TRACKED))
    return F.interpolate(torch.stack(found), size=(distilled.SIDE,) * 2, mode="bilinear")


@torch.no_grad()
def held_out(network: Distilled, pairs: Pairs) -> dict[str, float]:
    """Edit -> part of the absolute change of pictures it never saw that it explains."""
    missed, changed = ({name: [] for name in network.edits} for _ in range(2))
    for index in range(len(pairs) - HELD_OUT, len(pairs)):
        for which in range(len(pairs.b[index])):
            a, b, classes, strengths = pairs[index, which]
            name = network.edits[int(strengths.abs().argmax())]
            missed[name].append(
                float((network(a, distilled.enlarged(classes, distilled.SIDE), strengths) - b).abs().mean())
            )
            changed[name].append(float((a - b).abs().mean()))
    return {name: 1 - sum(missed[name]) / sum(changed[name]) for name in network.edits if changed[name]}


def train(pairs: Pairs, out: Path, images: int, rate: float, batch: int, minutes: float | None) -> None:
    features = from_state(load_file(zoo.path("efficientnet-lite0"))).requires_grad_(False)
    torch.manual_seed(0)
    network = Distilled(list(pairs.edits), list(pairs.edits.values()))
    average, kept, first = copy.deepcopy(network), out.with_suffix(".state"), 0
    groups = [{"params": [network.field], "rate": rate}, {"params": [network.gate, network.colour], "rate": 3 * rate}]
    adam = torch.optim.Adam(groups, lr=rate, betas=(0.9, 0.99))
    about = {"form": 2, "pairs": json.dumps(pairs.facts), "batch": batch}
    if kept.exists():
        try:
            state = torch.load(kept, weights_only=True)
            first, fits = state["step"], state["about"] == about
        except (RuntimeError, EOFError, KeyError, TypeError, OSError, pickle.UnpicklingError):
            fits = False
        if not fits:
            raise UsageError(f"{kept} is no state of a training on these pairs and batches: choose another --out.")
        for part, name in ((network, "network"), (average, "average"), (adam, "adam")):
            part.load_state_dict(state[name])
    steps, began, told = max(1, images // batch), time.monotonic(), []
    out.parent.mkdir(parents=True, exist_ok=True)
    distilled.save(out, average)
    if first >= steps:
        print(f"{out} has seen {first * batch} images already: --images says how many in all", flush=True)
    for step in range(first, steps):
        rows, coarse = [], step < COARSE * steps
        for place in epoch_order(len(pairs) - HELD_OUT, batch, step, 0):
            rng = np.random.default_rng((step, int(place)))
            a, b, classes, strengths = pairs[int(place), int(rng.integers(1 << 16))]
            if coarse:
                a, b = engine.area_resize(a, distilled.SIDE), engine.area_resize(b, distilled.SIDE)
            rows.append((*varied(a, b, classes, rng), strengths))
        loss = losses(network, None if coarse else features, *(torch.cat(column) for column in zip(*rows, strict=True)))
        adam.zero_grad(set_to_none=True)
        loss.backward()
        for group, mine in zip(adam.param_groups, groups, strict=True):
            group["lr"] = float(mine["rate"] * schedule(step, steps))
        adam.step()
        told.append(loss.item())
        with torch.no_grad():
            for mine, theirs in zip(average.parameters(), network.parameters(), strict=True):
                mine.lerp_(theirs, 1 - min(0.995, (step + 1) / (step + 10)))
        spent = (time.monotonic() - began) / 60
        over = step + 1 == steps or (minutes is not None and spent > minutes)
        if (step + 1) % SAVE_EVERY == 0 or over:
            distilled.save(out, average)
            state = {"step": step + 1, "network": network.state_dict(), "average": average.state_dict()}
            with replacing(kept) as part:
                torch.save(state | {"adam": adam.state_dict(), "about": about}, part)
            print(f"images {(step + 1) * batch} minutes {spent:.1f} loss {np.mean(told):.4f}", flush=True)
            told = []
        if (step + 1) % (5 * SAVE_EVERY) == 0 or over:
            print(*(f"{name} {part:.2f}" for name, part in held_out(average, pairs).items()), flush=True)
        if over:
            return


app = console.app(__doc__.splitlines()[0])


@app.command()
def fit(
    pairs: Annotated[Path, typer.Argument(help="A folder of ranged pairs.")],
    out: Annotated[Path, typer.Option(help="The weights' file, .safetensors; a killed run goes on there.")],
    images: Annotated[int, typer.Option(min=1, help="How many are seen in all.")] = 12000,
    rate: Annotated[float, typer.Option(min=0, help="Of learning.")] = 1.5e-3,
    batch: Annotated[int, typer.Option(min=1, help="Pictures a step.")] = 2,
    minutes: Annotated[float | None, typer.Option(min=0, help="Stop after so long; the next run goes on.")] = None,
) -> None:
    """Train a network, or go on with it."""
    if out.suffix != ".safetensors":
        raise UsageError(f"--out is a .safetensors file, not {out}.")
    tune_allocator()
    train(Pairs(pairs), out, images, rate, batch, minutes)


if __name__ == "__main__":
    console.run(app, "python -m editing.heads.distil")
