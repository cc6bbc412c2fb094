"""Training heads that read pictures, on pairs of the factory: rbdn, then pix2pix and bicyclegan from there.

    python -m editing.translate pairs faces/ --kind degraded --how sketch --size 128 --psi 0.8 --count 6000
    python -m editing.heads.paired rbdn faces/ --out heads/ --minutes 25
    python -m editing.heads.paired pix2pix faces/ --out heads/ --init heads/rbdn.safetensors --minutes 30
    python -m editing.heads.paired bicyclegan faces/ --out heads/ --init heads/rbdn.safetensors --minutes 30

What is taken from a picture is taken anew whenever it is seen.  Pictures of answers are previews (`stylegan2.preview`,
128 pixels): full renders would be too dear.

- rbdn: squared error, of codes and of pictures: regression and nothing else (arXiv 1612.03268, section 3).
- pix2pix: L1 of pictures and a PatchGAN that sees what was given, too (1611.07004, eq. 3 and 4); another critic sees
  codes, so that answers stay where the generator's own codes are.
- bicyclegan: cVAE-GAN and cLR-GAN (1711.11586, eq. 4 to 8), whose encoder reads codes instead of pictures.

Goes on where it was killed; `--minutes` is the time of all runs together.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor, nn

from editing.heads.pictures import COMPONENTS, KINDS, PLAIN, SIZE, Drawer, Family, StyleReader, load, save, start, view
from editing.translation.data import Shards
from editing.translation.degrade import LUMA, WAYS, low
from editing.translation.losses import adversarial
from editing.translation.networks.patchgan import PatchGAN
from stylegan2 import checkpoints, engine, preview, w_statistics, zoo
from stylegan2.allocator import tune_allocator
from stylegan2.errors import UsageError
from stylegan2.files import replacing

TRAINED = {"rbdn": (PLAIN, "noise", "gray", "relit", "low", "sketch", "half"),
           "pix2pix": (PLAIN, "sketch", "gray", "low", "half"), "bicyclegan": ("sketch", "gray")}  # fmt: skip
Z = 16
BATCH, SEEN = 16, 8  # samples a step, and those of them whose previews are looked at
RATE, BACKBONE = 1e-3, 0.5  # the latter: of the rate, for what was trained before
CODES, PIXELS, GAN, CRITIC, KEPT = 1.0, 8.0, 0.25, 0.25, 1.0  # weights of losses
KL, LATENT = 0.02, 0.5
HELD_OUT = 100  # the last pictures, which say how well it does


@dataclass(frozen=True)
class Data:
    """pictures (N, SIZE, SIZE, 3), u (N, 512) of their codes, whitened, previews as the pictures; all of a folder."""

    pictures: Shards
    u: Tensor
    previews: np.ndarray

    def __len__(self) -> int:
        return len(self.u) - HELD_OUT


def opened(folders: list[Path], model: preview.Preview) -> list[Data]:
    """Folders of the factory; their previews are drawn once and kept there."""
    found = []
    for folder in folders:
        pictures, codes = Shards(folder, "b"), Shards(folder, "w")
        w = torch.from_numpy(np.stack([codes[i] for i in range(len(codes))])).float()
        if pictures[0].shape != (SIZE, SIZE, 3) or len(pictures) != len(w):
            raise UsageError(f"{folder} holds no pairs of {SIZE} pixels with one code each: see --help.")
        if len(w) <= HELD_OUT:
            raise UsageError(f"{folder} holds {len(w)} pairs; training needs more than {HELD_OUT}.")
        kept, note = folder / "previews.npy", folder / "previews.sha256"
        wanted = hashlib.sha256(w.numpy().tobytes() + preview.SHIPPED.read_bytes()).hexdigest()
        if not kept.exists() or not note.exists() or note.read_text() != wanted:
            note.unlink(missing_ok=True)
            drawn = [engine.to_uint8(model(some[:, None].expand(-1, 16, -1))) for some in w.split(16)]
            with replacing(kept) as part, open(part, "wb") as file:
                np.save(file, np.concatenate(drawn))
            note.write_text(wanted)
        u = w_statistics.load().whiten(w)
        found.append(Data(pictures, u, np.load(kept, mmap_mode="r")))
    return found


def lacking(picture: np.ndarray, way: str, rng: np.random.Generator) -> np.ndarray:
    """What is left of a picture, as cameras and hands vary it: lines thicker, thinner and missing, other exposures."""
    if way == PLAIN:
        return picture
    if way == "low":
        small = int(rng.integers(8, 33))  # pixels
        return _resized(picture, small) if rng.random() < 0.7 else low(picture, rng)
    found = WAYS[way](picture, rng)
    if way == "sketch" and rng.random() < 0.7:
        lines = ndimage.minimum_filter(found[..., 0], 2) if rng.random() < 0.4 else found[..., 0]
        lines = 255 * (lines / 255.0) ** rng.uniform(0.4, 2.5)
        if rng.random() < 0.5:
            holes = ndimage.zoom(rng.random((8, 8)), SIZE // 8, order=1) < rng.uniform(0, 0.3)
            lines = np.where(holes, 255, lines)
        return np.repeat(lines[..., None], 3, 2).astype(np.uint8)
    if way == "gray" and rng.random() < 0.7:
        tone = 255 * (found / 255.0) ** rng.uniform(0.7, 1.4)
        return np.clip((tone - 128) * rng.uniform(0.7, 1.15) + 128, 0, 255).astype(np.uint8)
    return found


def _resized(picture: np.ndarray, small: int) -> np.ndarray:
    from PIL import Image

    image = Image.fromarray(picture).resize((small, small), Image.Resampling.BOX)
    return np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BILINEAR))


@dataclass(frozen=True)
class Batch:
    given: Tensor  # (B, 3, SIZE, SIZE), what is left of pictures
    way: Tensor  # (B,)
    u: Tensor  # (B, 16, 512)
    goal: Tensor  # (SEEN, 3, SIZE, SIZE), previews of the first codes


def batch(data: list[Data], ways: tuple[str, ...], number: int, seed: int, count: int = BATCH) -> Batch:
    """By number, so that a training can go on anywhere."""
    rng = np.random.default_rng((seed, number))
    sizes = np.array([len(one) for one in data])
    given, way, u, goal = [], [], [], []
    for i in range(count):
        source = data[rng.choice(len(data), p=sizes / sizes.sum())]
        place, kind = int(rng.integers(len(source))), int(rng.integers(len(ways)))
        given.append(lacking(source.pictures[place], ways[kind], rng))
        way.append(kind)
        u.append(source.u[place])
        if i < SEEN:
            goal.append(source.previews[place])
    stacked = torch.stack(u)[:, None].expand(-1, 16, -1)
    return Batch(channels_last(engine.to_float(np.stack(given))), torch.tensor(way), stacked,
                 channels_last(engine.to_float(np.stack(goal))))  # fmt: skip


def channels_last(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)


class CodeCritic(nn.Module):
    """u (B, 16, 512), and what was read of the picture (B, hidden) -> a score (B,)"""

    def __init__(self, hidden: int, width: int = 256) -> None:
        super().__init__()
        norm = nn.utils.spectral_norm
        self.net = nn.Sequential(
            norm(nn.Linear(3 * COMPONENTS + hidden, width)), nn.LeakyReLU(0.2), norm(nn.Linear(width, width)),
            nn.LeakyReLU(0.2), nn.Linear(width, 1),
        )  # fmt: skip

    def forward(self, u: Tensor, hidden: Tensor) -> Tensor:
        seen = view(u).flatten(1)
        return self.net(torch.cat([seen + 0.3 * torch.randn_like(seen), hidden], 1))[:, 0]


def code_weights() -> Tensor:
    """What an error of every component counts (512,): between whitened and plain W, mean 1."""
    stdev = w_statistics.load().stdev
    return stdev / stdev.mean()


def layout(images: Tensor) -> Tensor:
    """images (B, 3, SIZE, SIZE) -> where they are darker and lighter than around, relative to contrast, at half size:
    what colour, light and the shade of hair leave alone."""
    small = engine.area_resize(images, SIZE // 2)
    luma = (small * torch.from_numpy(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
    off = luma - F.avg_pool2d(luma, 9, 1, 4, count_include_pad=False)
    return off / (F.avg_pool2d(off.square(), 17, 1, 8, count_include_pad=False) + 0.003).sqrt()


class Trainer:
    """Networks, optimisers and a step of one kind."""

    def __init__(self, kind: str, model: preview.Preview, drawer: Drawer, rate: float = RATE) -> None:
        self.kind, self.model, self.drawer, self.rate = kind, model, drawer, rate
        self.average = copy.deepcopy(drawer).requires_grad_(False)
        self.style = StyleReader(drawer.z) if drawer.z else None
        self.patches, self.critic = PatchGAN(6, 24, 3, "instance"), CodeCritic(drawer.into.in_features - drawer.z)
        old = [*drawer.stem.parameters(), *drawer.blocks.parameters(), drawer.place]
        known = {id(p) for p in old}
        new = [p for p in drawer.parameters() if id(p) not in known]
        new += list(self.style.parameters()) if self.style else []
        beta = 0.9 if kind == "rbdn" else 0.5
        groups = [{"params": old, "share": BACKBONE}, {"params": new, "share": 1.0}]
        self.adam_g = torch.optim.AdamW(groups, lr=rate, betas=(beta, 0.99), weight_decay=0.02)
        critics = [*self.patches.parameters(), *self.critic.parameters()]
        self.adam_d = torch.optim.Adam([{"params": critics, "share": 0.7}], lr=rate, betas=(0.5, 0.99))
        self.weights, self.statistics = code_weights(), w_statistics.load()

    def parts(self) -> dict:
        found = {"drawer": self.drawer, "average": self.average, "patches": self.patches, "critic": self.critic,
                 "adam_g": self.adam_g, "adam_d": self.adam_d}  # fmt: skip
        return found | ({"style": self.style} if self.style else {})

    def codes(self, u: Tensor, goal: Tensor, squared: bool) -> Tensor:
        off = (u - goal).square() if squared else (u - goal).abs()
        return (off * self.weights).mean()

    def step(self, given: Batch, share: float, done: float) -> dict[str, float]:
        """share: of the rate; done: how far the training is, 0 to 1."""
        for adam in (self.adam_g, self.adam_d):
            for group in adam.param_groups:
                group["lr"] = self.rate * share * group["share"]
        losses = self.regression(given) if self.kind == "rbdn" else self.adversarial(given)
        with torch.no_grad():
            keep = min(0.998, 1 - 1 / (1 + 1000 * done))
            for mine, theirs in zip(self.average.parameters(), self.drawer.parameters(), strict=True):
                mine.lerp_(theirs, 1 - keep)
        return losses

    def pictures(self, u: Tensor) -> Tensor:
        return self.model(self.statistics.unwhiten(u))

    def update(self, total: Tensor) -> None:
        self.adam_g.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(self.drawer.parameters(), 5.0)
        self.adam_g.step()

    def regression(self, given: Batch) -> dict[str, float]:
        u = self.drawer(given.given, given.way)
        codes = self.codes(u, given.u, squared=True)
        seen = SEEN // 2  # squared errors of codes say most of it
        pixels = F.mse_loss(self.pictures(u[:seen]), given.goal[:seen])
        self.update(CODES * codes + PIXELS * pixels)
        return {"codes": codes.item(), "pixels": pixels.item()}

    def adversarial(self, given: Batch) -> dict[str, float]:
        hidden = self.drawer.read(given.given, given.way)
        losses: dict[str, Tensor] = {}
        seen = given.given[:SEEN]
        if self.style is None:
            u = self.drawer.drawn(hidden)
            drawn, goal = self.pictures(u[:SEEN]), given.goal
            losses["codes"] = CODES * self.codes(u, given.u, squared=False)
            losses["pixels"] = PIXELS * (drawn - goal).abs().mean()
            fake_codes, fake = u, drawn
        else:
            mean, log_variance = self.style(view(given.u))
            z = mean + (log_variance / 2).exp() * torch.randn_like(mean)
            other = torch.randn_like(mean)
            told, free = self.drawer.drawn(hidden, z), self.drawer.drawn(hidden, other)
            half = SEEN // 2
            drawn = self.pictures(torch.cat([told[:half], free[half:SEEN]]))
            fake_codes, fake = torch.cat([told, free]), drawn
            losses["codes"] = CODES * self.codes(told, given.u, squared=False)
            losses["pixels"] = PIXELS * (drawn[:half] - given.goal[:half]).abs().mean()
            losses["kl"] = KL * 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean()
            losses["latent"] = LATENT * (self.style(view(free))[0] - other).abs().mean()
            losses["kept"] = KEPT * (layout(drawn) - layout(given.goal)).abs().mean()
        told_of = hidden.detach() if self.style is None else hidden.detach().repeat(2, 1)
        losses["patches"] = GAN * adversarial(self.patches(torch.cat([seen, fake], 1)), True, "lsgan")
        losses["critic"] = CRITIC * (self.critic(fake_codes, told_of) - 1).square().mean()
        self.update(sum(losses.values()))
        real = self.patches(torch.cat([seen, given.goal], 1))
        found = adversarial(real, True, "lsgan")
        found = found + adversarial(self.patches(torch.cat([seen, fake.detach()], 1)), False, "lsgan")
        told_of = hidden.detach()
        found = found + (self.critic(given.u, told_of) - 1).square().mean()
        fakes = fake_codes.detach()[-len(told_of) :]
        found = found + self.critic(fakes, told_of).square().mean()
        self.adam_d.zero_grad(set_to_none=True)
        found.backward()
        self.adam_d.step()
        return {name: value.item() for name, value in losses.items()} | {"critics": found.item()}


def started(kind: str, init: Path | None) -> Drawer:
    """A new network: the encoder, or what a file of heads knows (`init`), ways by their names."""
    ways = TRAINED[kind]
    drawer = start(len(ways), Z if kind == "bicyclegan" else 0)
    if init is None:
        return drawer
    family = next(iter(load(init).values())).family
    if missing := set(ways) - set(family.ways):
        raise UsageError(f"{init} knows nothing of {', '.join(sorted(missing))}.")
    state, rows = family.drawer.state_dict(), [family.ways.index(way) for way in ways]
    for name in ("way", "named"):
        state[name] = state[name][rows]
    into = drawer.into.weight.detach().clone()
    into[:, : state["into.weight"].shape[1]] = state["into.weight"]
    drawer.load_state_dict(drawer.state_dict() | state | {"into.weight": into})
    return drawer


def train(kind: str, folders: list[Path], out: Path, minutes: float, init: Path | None = None, seed: int = 0,
          report: Callable[[int, dict[str, float]], None] = lambda step, losses: None) -> Family:  # fmt: skip
    """Train for so many minutes, those of earlier runs included; writes out/KIND.safetensors."""
    torch.manual_seed(seed)
    model = preview.load(checkpoints.load(zoo.path("mobilestylegan-ffhq-1024")))
    data, drawer = opened(folders, model), started(kind, init).requires_grad_(True)
    drawer = drawer.to(memory_format=torch.channels_last)
    trainer, file = Trainer(kind, model, drawer), out / f"{kind}.safetensors"
    out.mkdir(parents=True, exist_ok=True)
    kept, step, before = out / f"{kind}.state", 0, 0.0
    if kept.exists():
        state = torch.load(kept, weights_only=True)
        step, before = state["step"], state["minutes"]
        for name, part in trainer.parts().items():
            part.load_state_dict(state[name])
    began = saved = time.monotonic()
    gathered: list[dict[str, float]] = []

    def family() -> Family:
        trainer.average.eval()
        return Family(kind, TRAINED[kind], trainer.average, trainer.style)

    while True:
        done = (before + (time.monotonic() - began) / 60) / minutes
        last = done >= 1
        if last or time.monotonic() - saved > 120:
            save(family(), file)
            state = {name: part.state_dict() for name, part in trainer.parts().items()}
            with replacing(kept) as part:
                torch.save(state | {"step": step, "minutes": done * minutes}, part)
            saved = time.monotonic()
        if last:
            break
        given = batch(data, TRAINED[kind], step, seed)
        share = min(1.0, (step + 1) / 100) * (0.03 + 0.97 * 0.5 * (1 + np.cos(np.pi * done)))
        gathered.append(trainer.step(given, float(share), done))
        step += 1
        if not all(np.isfinite(value) for value in gathered[-1].values()):
            raise UsageError(f"The losses of {kind} are no numbers any more: try another --seed and --out.")
        if len(gathered) == 100:
            report(step, {name: float(np.mean([row[name] for row in gathered])) for name in gathered[0]})
            gathered = []
    report(step, held_out(family(), data))
    return family()


@torch.no_grad()
def held_out(family: Family, data: list[Data]) -> dict[str, float]:
    """Weighted squared error of codes by way, on pictures that nobody was trained on."""
    weights, found = code_weights(), {}
    for number, way in enumerate(family.ways):
        rng = np.random.default_rng(number)
        places = [(one, len(one.u) - 1 - i) for one in data for i in range(HELD_OUT // len(data))]
        given = engine.to_float(np.stack([lacking(one.pictures[place], way, rng) for one, place in places]))
        u = torch.stack([one.u[place] for one, place in places])[:, None]
        z = torch.zeros(len(given), family.drawer.z) if family.drawer.z else None
        off = family.drawer(given, torch.full((len(given),), number), z) - u
        found[way] = float((off.square() * weights).mean())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("faces", type=Path, nargs="+", help="folders of degraded pairs of 128 pixels")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--init", type=Path, help="a file of heads to go on from")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    tune_allocator()

    def report(step: int, losses: dict[str, float]) -> None:
        print(step, *(f"{name} {value:.4f}" for name, value in losses.items()), flush=True)

    train(options.kind, options.faces, options.out, options.minutes, options.init, options.seed, report)


if __name__ == "__main__":
    main()
