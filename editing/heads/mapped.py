"""Training SPADE's head on the latents (`editing.heads.maps`), on generated faces whose maps the parser drew.

    python -m editing.directions.sampling faces/ --count 6000 --psi 0.8
    python -m editing.heads.mapped layout faces/ --out heads/ --minutes 25
    python -m editing.heads.mapped painter faces/ --out heads/ --minutes 45

layout: squared errors of codes, and L1 of previews; begins with the head that reads sketches.  painter: a face's own
features, of which some are hidden, from its map and the rest,

    L1(painter(x * known, map), x) + hinge of a critic that knows the map

(SPADE's hinge and its first loss, arXiv 1903.07291, section 3; features take the place of VGG's).  What is hidden is
where another map would differ: one with a part moved, scaled, removed, painted over, or taken from another face; a part
may stay known, as if it had come along.  Nothing is rendered.  Goes on where it was killed; `--minutes` is the time of
all runs together.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor, nn

from editing.directions import sampling
from editing.heads import pictures, repaint
from editing.heads.maps import (
    CELLS,
    KNOWN,
    LARGE,
    SIDE,
    MapHead,
    Painter,
    changed,
    coarse,
    collage,
    one_hot,
    painted,
    save,
    shares,
    shrunk,
)
from editing.heads.paired import code_weights
from editing.judges.parsing import network as parsing
from editing.judges.parsing.labels import CLASSES
from stylegan2 import checkpoints, engine, preview, w_statistics, zoo
from stylegan2.allocator import tune_allocator
from stylegan2.errors import UsageError
from stylegan2.files import replacing

LEARNT = 7  # rows of the code that are learned from maps; of which SHAPED are used
HELD_OUT = 200  # the last faces
BATCH = {"layout": 16, "painter": 8}
RATE = {"layout": 5e-4, "painter": 5e-4}
SHIFT, SCALE = 0.08, 1.25  # of parts that are moved: of the picture's width, and a factor
CACHED = 2000  # faces whose features are kept in memory, a megabyte each
CRITIC = 0.1  # weight of the critic
SMALL = 3.0  # weight of classes that are small, where maps are read
ALONG = 0.2  # share of hidden parts of which the middle stays known
HOLES = 0.3  # share of faces with further holes
WHOLE = 0.5  # share of faces of which one to three parts are hidden wholly


@dataclass(frozen=True)
class Faces:
    """maps (N, SIDE, SIDE) uint8, codes whitened (N, 512), previews (N, SIDE, SIDE, 3) uint8."""

    maps: np.ndarray
    u: Tensor
    previews: np.ndarray

    def __len__(self) -> int:
        return len(self.u) - HELD_OUT


def opened(folder: Path, model: preview.Preview) -> Faces:
    """Samples of a folder; maps and previews are made once and kept there."""
    table = sampling.load(folder)
    w, pictures_ = torch.from_numpy(table["w"]).float(), table["picture"]

    def kept(name: str, make: Callable[[int, int], np.ndarray]) -> np.ndarray:
        file = folder / f"{name}.npy"
        if not file.exists() or len(np.load(file, mmap_mode="r")) != len(w):
            rows = [make(start, start + 16) for start in range(0, len(w), 16)]
            with replacing(file) as part, open(part, "wb") as stream:
                np.save(stream, np.concatenate(rows))
        return np.load(file, mmap_mode="r")

    def maps(start: int, end: int) -> np.ndarray:
        labels = [parsing.parse(picture) for picture in pictures_[start:end]]
        return shrunk(np.stack(labels)).numpy().astype(np.uint8)

    @torch.no_grad()
    def previews(start: int, end: int) -> np.ndarray:
        return engine.to_uint8(model(w[start:end, None].expand(-1, 16, -1)))

    if len(w) <= HELD_OUT:
        raise UsageError(f"{folder} holds {len(w)} faces; more than {HELD_OUT} are needed.")
    return Faces(kept("maps", maps), w_statistics.load().whiten(w), kept("previews", previews))


# ---- maps that somebody could have painted


def variation(labels: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A map with a part moved or scaled, removed, painted, or taken from another face's map."""
    kind = rng.choice(["moved", "taken", "taken", "painted", "removed"])
    if kind == "moved":
        return moved(labels, rng)
    if kind == "taken":
        return taken(
            labels, other, str(rng.choice(["hair", "hair", "mouth", "mouth", "glasses", "eyes", "brows"])), rng
        )
    if kind == "removed" and repaint.of(labels, "glasses").any():
        return repaint.without(labels, repaint.of(labels, "glasses"))
    return stroke(labels, rng)


def moved(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    part = str(rng.choice(["eyes", "mouth", "hair", "nose", "brows", "left_eyes", "right_eyes"]))
    box = repaint.box_of(repaint.of(labels, part))
    if box is None:
        return labels.copy()
    dx, dy = rng.uniform(-SHIFT, SHIFT, 2)
    return repaint.moved(labels, part, repaint.shifted(box, dx, dy, rng.uniform(1 / SCALE, SCALE)))


def taken(labels: np.ndarray, other: np.ndarray, part: str, rng: np.random.Generator) -> np.ndarray:
    """Hair comes as it lies there; small parts to where the face has them (glasses: where its eyes are)."""
    inside, theirs = repaint.of(labels, part), repaint.of(other, part)
    if not theirs.any():
        return moved(labels, rng)
    box = to = repaint.box_of(theirs)
    if part != "hair":
        place = repaint.box_of(repaint.of(labels, "eyes" if part == "glasses" else part))
        if place is None:
            return labels.copy()
        across = place[0] + place[2] / 2 - box[0] - box[2] / 2
        to = repaint.shifted(box, across, place[1] + place[3] / 2 - box[1] - box[3] / 2, rng.uniform(0.9, 1.15))
    part_there = repaint.carried(other, theirs, box, to)
    return repaint.pasted(repaint.without(labels, inside), part_there, beneath=part == "hair")


def stroke(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An ellipse on a border, with the label from one of its sides."""
    size = labels.shape[0]
    border = np.argwhere((labels[:-1] != labels[1:])[:, :-1])
    y, x = border[rng.integers(len(border))]
    rows, columns = np.mgrid[:size, :size]
    turn, (a, b) = rng.uniform(0, np.pi), rng.uniform(0.02, 0.14, 2) * size
    along, across = (
        (columns - x) * np.cos(turn) + (rows - y) * np.sin(turn),
        (rows - y) * np.cos(turn) - (columns - x) * np.sin(turn),
    )
    inside = (along / a) ** 2 + (across / b) ** 2 < 1
    return np.where(inside, labels[y + int(rng.integers(2)), x], labels).astype(np.uint8)


# ---- networks that are trained


def hinge(real: Tensor, fake: Tensor) -> Tensor:
    """A critic's loss."""
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


class FeatureCritic(nn.Module):
    """Features (B, C, CELLS, CELLS), in standard deviations, and maps -> logits (B, 1, 8, 8)."""

    def __init__(self, channels: int = 512, width: int = 64) -> None:
        super().__init__()
        norm = nn.utils.spectral_norm
        self.net = nn.Sequential(
            norm(nn.Conv2d(channels + len(CLASSES), width, 1)), nn.LeakyReLU(0.2),
            norm(nn.Conv2d(width, width, 3, 1, 1)), nn.LeakyReLU(0.2),
            norm(nn.Conv2d(width, 2 * width, 4, 2, 1)), nn.LeakyReLU(0.2),
            norm(nn.Conv2d(2 * width, 2 * width, 4, 2, 1)), nn.LeakyReLU(0.2), nn.Conv2d(2 * width, 1, 3, padding=1),
        )  # fmt: skip

    def forward(self, x: Tensor, maps: Tensor) -> Tensor:
        return self.net(torch.cat([x, F.interpolate(maps, x.shape[-2:], mode="area")], 1))


def hidden(labels: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """A face's map, and another's -> where features are hidden, softly, and where they are known (1, CELLS, CELLS)."""
    differs = variation(labels, other, rng) != labels
    if rng.random() < HOLES:
        differs |= stroke(stroke(labels, rng), rng) != labels
    for part in rng.choice(list(repaint.PARTS), rng.integers(1, 4), replace=False) if rng.random() < WHOLE else ():
        differs |= ndimage.binary_dilation(repaint.of(labels, str(part)), iterations=2)
    mask = changed(torch.from_numpy(differs[None]), torch.zeros(1, SIDE, SIDE, dtype=torch.bool))[0]
    known = (mask < KNOWN).float()
    if rng.random() < ALONG:
        part = repaint.of(labels, str(rng.choice(["eyes", "mouth", "hair", "nose", "brows", "glasses"])))
        core = F.interpolate(torch.from_numpy(part[None, None].astype(np.float32)), (CELLS, CELLS), mode="area")[0]
        known = torch.maximum(known, (core > KNOWN).float())
    return mask, known


class Training:
    """What a phase trains, one step of it, and what a file keeps of it."""

    def __init__(self, phase: str, faces: Faces, model: preview.Preview) -> None:
        self.phase, self.faces, self.model, self.statistics = phase, faces, model, w_statistics.load()
        self.network = STARTS[phase]().train().requires_grad_(True)
        beta = 0.5 if phase == "painter" else 0.9
        self.adam = torch.optim.AdamW(self.network.parameters(), lr=RATE[phase], betas=(beta, 0.99), weight_decay=0.01)
        self.parts = {"network": self.network, "adam": self.adam}
        if phase == "painter":
            self.features = self.cached()
            self.network.scale.copy_(self.features[:64].float().transpose(0, 1).flatten(1).std(1))
            self.critic = FeatureCritic()
            self.adam_d = torch.optim.Adam(self.critic.parameters(), lr=2 * RATE[phase], betas=(0.0, 0.9))
            self.parts |= {"critic": self.critic, "adam_d": self.adam_d}
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        self.parts["average"] = self.average

    @torch.no_grad()
    def cached(self) -> Tensor:
        """Features (CACHED, C, CELLS, CELLS) float16 of the first faces."""
        u = self.faces.u[: min(CACHED, len(self.faces)), None].expand(-1, 16, -1)
        draw = self.model.generator.synthesis
        return torch.cat([draw(self.statistics.unwhiten(some), until=preview.STAGE).half() for some in u.split(8)])

    def maps(self, places: np.ndarray) -> Tensor:
        return torch.from_numpy(self.faces.maps[places].astype(np.int64))

    def step(self, number: int, share: float) -> dict[str, float]:
        rng = np.random.default_rng((7, number))
        for adam, times in ((self.adam, 1.0), (getattr(self, "adam_d", None), 2.0)):
            for group in adam.param_groups if adam else ():
                group["lr"] = times * share * RATE[self.phase]
        losses = {"layout": self.layout_step, "painter": self.painter_step}[self.phase](rng)
        with torch.no_grad():
            keep = min(0.998, 1 - 1 / (1 + number / 10))
            for mine, theirs in zip(self.average.parameters(), self.network.parameters(), strict=True):
                mine.lerp_(theirs, 1 - keep)
        return losses

    def descend(self, losses: dict[str, Tensor]) -> dict[str, float]:
        self.adam.zero_grad(set_to_none=True)
        sum(losses.values()).backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.adam.step()
        return {name: loss.item() for name, loss in losses.items()}

    def layout_step(self, rng: np.random.Generator) -> dict[str, float]:
        places = rng.choice(len(self.faces), BATCH["layout"], replace=False)
        u = self.network(painted(self.maps(places)), torch.zeros(len(places), dtype=torch.long))
        goal, seen = self.faces.u[places][:, None], 4
        known = torch.cat([u[:seen, :LEARNT], goal[:seen].expand(-1, 16 - LEARNT, -1)], 1)  # its own style
        pixels = F.l1_loss(
            self.model(self.statistics.unwhiten(known)), engine.to_float(self.faces.previews[places[:seen]])
        )
        codes = ((u - goal).square() * code_weights())[:, :LEARNT].mean()
        return self.descend({"codes": codes, "pixels": 2 * pixels})

    def painter_step(self, rng: np.random.Generator) -> dict[str, float]:
        places = rng.choice(len(self.features), BATCH["painter"], replace=False)
        x, wanted, scale = self.features[places].float(), self.maps(places), self.network.scale[None, :, None, None]
        others = rng.integers(len(self.faces), size=len(places))
        made = [hidden(self.faces.maps[i], self.faces.maps[j], rng) for i, j in zip(places, others, strict=True)]
        mask, known = (torch.stack(each) for each in zip(*made, strict=True))
        hole = mask * (1 - known)
        weight = hole * class_weights()[coarse(shares(wanted))][:, None]
        found = self.network(x, known, wanted)
        off = ((found - x) / scale).abs().mean(1, keepdim=True)
        hot, fake = one_hot(wanted), torch.lerp(x, found, hole) / scale
        losses = {
            "features": (off * weight).sum() / weight.sum().clamp_min(1),
            "critic": CRITIC * -self.critic(fake, hot).mean(),
        }
        said = self.descend(losses)
        total = hinge(self.critic(x / scale, hot), self.critic(fake.detach(), hot))
        self.adam_d.zero_grad(set_to_none=True)
        total.backward()
        self.adam_d.step()
        return said | {"critics": total.item()}

    @torch.no_grad()
    def held_out(self) -> dict[str, float]:
        """Of faces that were never seen: the painter's error, in standard deviations, and a collage's alone."""
        if self.phase != "painter":
            return {}
        count, rng = min(48, HELD_OUT), np.random.default_rng(3)
        places = np.arange(len(self.faces), len(self.faces) + count)
        x = self.model.generator.synthesis(
            self.statistics.unwhiten(self.faces.u[places, None].expand(-1, 16, -1)), until=preview.STAGE
        )
        made = [hidden(self.faces.maps[i], self.faces.maps[i - count], rng) for i in places]
        mask, known = (torch.stack(each) for each in zip(*made, strict=True))
        wanted, hole, scale = self.maps(places), mask * (1 - known), self.network.scale[None, :, None, None]

        def error(found: Tensor) -> float:
            return float((((found - x) / scale).abs().mean(1, keepdim=True) * hole).sum() / hole.sum())

        return {"painter": error(self.average(x, known, wanted)), "collage": error(collage(x, known, wanted)[0])}


def first_layout() -> pictures.Drawer:
    """The head that reads sketches, which has to learn what colours mean."""
    from editing.heads import registry

    family = registry.drawers()["pix2pix:sketch"].family
    state, row = dict(family.drawer.state_dict()), family.ways.index("sketch")
    state |= {name: state[name][row : row + 1] for name in ("way", "named")}
    drawer = pictures.start(1)
    drawer.load_state_dict(state)
    return drawer


STARTS = {"layout": first_layout, "painter": Painter}


def class_weights() -> Tensor:
    """1 for large classes, SMALL for small ones."""
    return torch.tensor([1.0 if name in LARGE else SMALL for name in CLASSES])


def loaded(out: Path, phase: str) -> nn.Module:
    """A finished phase's network, frozen."""
    file = out / f"{phase}.state"
    if not file.exists():
        raise UsageError(f"Train the {phase} first: there is no {file}.")
    network = pictures.start(1) if phase == "layout" else Painter()
    network.load_state_dict(torch.load(file, weights_only=True)["average"])
    return network.eval().requires_grad_(False)


def train(phase: str, folder: Path, out: Path, minutes: float,
          report: Callable[[int, dict[str, float]], None] = lambda step, losses: None) -> nn.Module:  # fmt: skip
    """Train for so many minutes, those of earlier runs included; the painter's also write the head's file."""
    torch.manual_seed(0)
    model = preview.load(checkpoints.load(zoo.path("mobilestylegan-ffhq-1024")))
    out.mkdir(parents=True, exist_ok=True)
    training, file, step, before = Training(phase, opened(folder, model), model), out / f"{phase}.state", 0, 0.0
    if file.exists():
        state = torch.load(file, weights_only=True)
        step, before = state["step"], state["minutes"]
        for name, part in training.parts.items():
            part.load_state_dict(state[name])
    began, saved, gathered = time.monotonic(), time.monotonic(), []
    while True:
        done = (before + (time.monotonic() - began) / 60) / minutes
        if done >= 1 or time.monotonic() - saved > 120:
            state = {name: part.state_dict() for name, part in training.parts.items()}
            with replacing(file) as part:
                torch.save(state | {"step": step, "minutes": done * minutes}, part)
            saved = time.monotonic()
            if phase == "painter" and (out / "layout.state").exists():
                save(
                    MapHead(*(loaded(out, name) for name in ("layout", "painter"))),
                    out / "spade.safetensors",
                )
        if done >= 1:
            report(step, training.held_out())
            return training.average
        share = min(1.0, (step + 1) / 100) * (0.03 + 0.97 * 0.5 * (1 + np.cos(np.pi * done)))
        gathered.append(training.step(step, float(share)))
        step += 1
        if not all(np.isfinite(value) for value in gathered[-1].values()):
            raise UsageError(f"The losses of the {phase} are no numbers any more: try another --out.")
        if len(gathered) == 100:
            report(step, {name: float(np.mean([row[name] for row in gathered])) for name in gathered[0]})
            gathered = []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("phase", choices=("layout", "painter"))
    parser.add_argument("faces", type=Path, help="a folder of editing.directions.sampling")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=15)
    options = parser.parse_args()
    tune_allocator()

    def report(step: int, losses: dict[str, float]) -> None:
        print(step, *(f"{name} {value:.4f}" for name, value in losses.items()), flush=True)

    train(options.phase, options.faces, options.out, options.minutes, report)


if __name__ == "__main__":
    main()
