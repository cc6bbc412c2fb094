"""Training the GigaGAN head on the latents (`editing.text.giga`).

    python -m editing.directions.sampling faces/ --count 6000 --psi 0.8
    python -m editing.heads.moves faces/ more/ --count 1600 --more      # and --together; see `editing.text.steer`
    python -m editing.text.gigafit faces/ more/ together/ --out out/ --minutes 30

The non-saturating logistic loss, and GigaGAN's matching-aware one (arXiv 2303.05511, section 3.4): a sentence about
somebody else counts as fake for real and made faces alike, in the updates of critics and of the head.  One critic sees
codes, the other features at 32, 16 and 8 pixels; R1 of both every EVERY steps.  In CLIP's place for the contrastive
loss stands `editing.text.bridge`.  Readers of codes and features say what judges would see: what a sentence names is
to lie within its bounds, all else is to stay as the seed has it.

First T and M learn by codes, and nothing is drawn; then they rest, and the adapter learns by features.  Goes on where
it was killed; `--minutes` is the time of all runs together.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from editing.directions import sampling
from editing.heads import files
from editing.heads.fit import split
from editing.heads.response import table
from editing.judges.judge import NAMES
from editing.text import bridge, giga, gigacritics, gigadata
from editing.text.bridge import LatentBridge
from editing.text.giga import Network
from editing.text.gigacritics import CodeCritic, CodeReader, FeatureCritic, FeatureReader
from editing.text.gigadata import Codes, Said, Stages
from editing.text.steer import joined
from editing.translation.systems.gigagan import scored
from encoders.sentence import SentenceEncoder
from stylegan2 import checkpoints, engine, weights, zoo
from stylegan2.allocator import tune_allocator
from stylegan2.files import replacing
from stylegan2.generator import Generator

TRAINED = 5400  # faces; those behind them are for judging the head
BATCH = {"codes": 64, "features": 8}
RATE, CRITIC_RATE, BETAS = 2.5e-3, 1e-3, (0.0, 0.99)
ALONE = 0.6  # of the time: codes
EVERY, R1 = 16, {"codes": 0.5, "features": 0.5}
GAN, MATCH, SAID, KEPT, LIKE, SMALL, STILL = 0.3, 0.5, 1.0, 0.03, 0.2, 0.005, 0.02  # weights of the losses
INSIDE = 0.6  # standard deviations within its bounds that a judge is to lie, since readers err
TEACHERS = 2  # readers of codes
WINDOWS = 8  # of lengths, of which sentences of a batch have one
WORDS_LOST = 0.08  # share of tokens that the head does not get to see
SAVED = 60  # seconds between two files
SHARP = 0.07  # temperature of the contrastive loss


# ----------------------------------------------------------------------------------------- losses


def outside(found: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """How far judges (B, J) lie outside of what was said, or too near its bounds: the mean over what was said (B,)."""
    said = (low.isfinite() | high.isfinite()).float()
    margin = torch.where(low.isfinite() & high.isfinite(), (0.35 * (high - low)).clamp(max=INSIDE), INSIDE)
    off = F.relu(low + margin - found) + F.relu(found - high + margin)
    return (F.huber_loss(off, torch.zeros_like(off), reduction="none") * said).sum(1) / said.sum(1).clamp(min=1)


def holds(scores: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Whether a sentence with these bounds is true of faces with these scores (B,)."""
    return ((scores >= low) & (scores <= high) | ~(low.isfinite() | high.isfinite())).all(-1)


def contrasted(faces: Tensor, sentences: Tensor, scores: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """InfoNCE of unit vectors (B, D), both ways; pairs of which a sentence is true, too, are no negatives."""
    logits = faces @ sentences.T / SHARP
    true = torch.stack([holds(scores, *pair) for pair in zip(low, high, strict=True)], 1)
    logits = logits.masked_fill(true & ~torch.eye(len(true), dtype=torch.bool), -torch.inf)
    places = torch.arange(len(logits))
    return (F.cross_entropy(logits, places) + F.cross_entropy(logits.T, places)) / 2


def steepness(value: Tensor, inputs: list[Tensor]) -> Tensor:
    """R1: the squared slope at real inputs, summed over what is in one of them."""
    slopes = torch.autograd.grad(value, inputs, create_graph=True)
    return sum(slope.square().sum() for slope in slopes) / len(inputs[0])


# ------------------------------------------------------------------------------------ what is known


@dataclass(frozen=True)
class Known:
    """Everything that does not learn: scores in standard deviations, cached features, readers, and the bridge, if there
    is one, with its vectors of all sentences."""

    generator: Generator
    codes: Codes
    scores: Tensor
    said: Said
    stages: Stages | None
    cache: Mapping[str, np.ndarray] | None
    code_readers: list[CodeReader]
    feature_reader: FeatureReader | None
    bridge: LatentBridge | None = None
    vectors: Tensor | None = None


@dataclass(frozen=True)
class Some:
    """A batch of sentences: hidden, mask, bounds, what is free, whom they describe, and their places."""

    hidden: Tensor
    mask: Tensor
    low: Tensor
    high: Tensor
    free: Tensor
    code: np.ndarray
    places: np.ndarray


def some(said: Said, places: np.ndarray) -> Some:
    hidden, mask = gigadata.padded([said.hidden[i] for i in places])
    rows = torch.from_numpy(places)
    return Some(hidden, mask, said.low[rows], said.high[rows], said.free[rows], said.code[places], places)


def alike(order: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Places of `count` sentences that are about equally long, of all in this order."""
    window = max(1, len(order) // WINDOWS)
    start = rng.integers(len(order) - window + 1)
    return order[start + rng.integers(window, size=count)]


# --------------------------------------------------------------------------------------- training


class Trainer:
    """The head, its running mean and the critics, with their optimisers."""

    def __init__(self, known: Known, seed: int = 0, network: Callable[[], Network] = Network) -> None:
        torch.manual_seed(seed)
        self.known, self.seed, self.steps = known, seed, 0
        self.order = np.argsort([len(hidden) for hidden in known.said.hidden], kind="stable")
        self.head = network()
        if known.stages is not None:
            self.head.stage.load_state_dict(known.stages[giga.DOOR].state_dict())
        self.mean = copy.deepcopy(self.head).requires_grad_(False)
        self.critics = nn.ModuleDict({"codes": CodeCritic(), "features": FeatureCritic()})
        self.adam = torch.optim.AdamW(self.head.parameters(), RATE, BETAS, weight_decay=0)
        self.critics_adam = {
            name: torch.optim.AdamW(critic.parameters(), CRITIC_RATE, BETAS, weight_decay=0)
            for name, critic in self.critics.items()
        }

    def rate(self, share: float) -> None:
        """Full until 60% of a stage, then down to nothing."""
        factor = min(1.0, 2.5 * (1 - share) + 0.02)
        for adam, rate in ((self.adam, RATE), *((adam, CRITIC_RATE) for adam in self.critics_adam.values())):
            for group in adam.param_groups:
                group["lr"] = rate * factor

    def rest(self) -> None:
        """T and M learn no more: they are what their running means are."""
        for name in ("tower", "mapping"):
            part = getattr(self.head, name)
            part.load_state_dict(getattr(self.mean, name).state_dict())
            part.requires_grad_(False)

    def step(self, drawn: bool) -> dict[str, float]:
        """One update of a critic and of the head: of codes, or of features that are drawn."""
        rng = np.random.default_rng((self.seed, self.steps))
        kind = "features" if drawn else "codes"
        count = BATCH[kind]
        batch = some(self.known.said, alike(self.order, count, rng))
        seeds = rng.integers(2**31, size=count)
        shift = int(rng.integers(1, count))
        torch.manual_seed(int(rng.integers(2**31)))
        made = self.made(batch, seeds, drawn)
        self.critics.requires_grad_(True)
        losses = self.criticised(kind, batch, made, shift)
        self.critics.requires_grad_(False)
        losses |= self.improved(kind, batch, made, shift)
        self.steps += 1
        self.average()
        return losses

    def made(self, batch: Some, seeds: np.ndarray, drawn: bool) -> dict[str, Tensor]:
        """Faces of the batch's sentences: own w, ws, and if drawn, components of features and the residual."""
        kept = batch.mask & (torch.rand(batch.mask.shape) > WORDS_LOST)
        kept[:, 0] = True
        words, token = self.head.tower(batch.hidden, kept)
        w = engine.latents(self.known.generator, seeds, giga.BASE)
        change = self.head.mapping(giga.whitened(w, giga.SEEN), token)
        ws = giga.changed(w, change, self.known.generator.num_ws)
        found = {"w": w, "ws": ws, "change": change}
        if drawn:
            with torch.no_grad():
                x = self.known.generator.synthesis(ws, until=giga.DOOR)
            edit = self.head.residual(x, words, kept, token, ws)
            found["residual"] = edit.residual
            seen = gigadata.through(self.known.generator, ws, {giga.DOOR: edit})
            found |= self.known.stages(seen)
        return found

    def token(self, kind: str, batch: Some) -> Tensor:
        """What a critic makes of the sentences (B, width)."""
        return self.critics[kind].text(batch.hidden, batch.mask)[1]

    def judged(self, kind: str, inputs: Mapping[str, Tensor], token: Tensor, shift: int) -> tuple[list, list]:
        """Logits of these faces with their own sentences, and with others'."""
        critic = self.critics[kind]
        if kind == "codes":
            seen = critic.seen(inputs["codes"])
            return [critic.judged(seen, token)[:, None]], [critic.judged(seen, token.roll(shift, 0))[:, None]]
        seen = critic.seen([inputs[name] for name in reversed(gigadata.DOORS)])
        return critic.judged(seen, token), critic.judged(seen, token.roll(shift, 0))

    def criticised(self, kind: str, batch: Some, made: dict[str, Tensor], shift: int) -> dict[str, float]:
        real, token = self.real(kind, batch), self.token(kind, batch)
        fake = {name: x.detach() for name, x in self.shown(kind, made).items()}
        steep = self.steps % EVERY < 2
        if steep:
            real = {name: x.requires_grad_() for name, x in real.items()}
        right, wrong = self.judged(kind, real, token, shift)
        false, false_wrong = self.judged(kind, fake, token, shift)
        loss = scored(right, True) + scored(false, False) + MATCH * (scored(wrong, False) + scored(false_wrong, False))
        if steep:
            slope = steepness(sum(x.flatten(1).mean(1).sum() for x in right) / len(right), [*real.values()])
            loss = loss + R1[kind] / 2 * EVERY * slope
        descend(self.critics_adam[kind], loss, self.critics[kind])
        return {f"critic of {kind}": loss.item()}

    def real(self, kind: str, batch: Some) -> dict[str, Tensor]:
        if kind == "codes":
            return {"codes": gigacritics.rows_of(self.known.codes.ws[torch.from_numpy(batch.code)])}
        return gigacritics.features_of(self.known.cache, batch.code)

    def shown(self, kind: str, made: dict[str, Tensor]) -> dict[str, Tensor]:
        if kind == "codes":
            return {"codes": gigacritics.rows_of(made["ws"])}
        return {name: made[name] for name in gigadata.DOORS}

    def improved(self, kind: str, batch: Some, made: dict[str, Tensor], shift: int) -> dict[str, float]:
        right, wrong = self.judged(kind, self.shown(kind, made), self.token(kind, batch), shift)
        losses = {"gan": GAN * scored(right, True), "match": GAN * MATCH * scored(wrong, False)}
        losses |= self.adapted(batch, made) if kind == "features" else self.meant(batch, made)
        descend(self.adam, sum(losses.values()), self.head)
        return {name: loss.item() for name, loss in losses.items()}

    def meant(self, batch: Some, made: dict[str, Tensor]) -> dict[str, Tensor]:
        """What codes are to say."""
        known = self.known
        x, before = (gigacritics.view(ws) for ws in (made["ws"], made["w"][:, None].expand_as(made["ws"])))
        reader = known.code_readers[self.steps % len(known.code_readers)]
        found = reader(x)
        losses = {
            "said": SAID * outside(found, batch.low, batch.high).mean(),
            "kept": KEPT * ((found - reader(before)).square() * (1 - batch.free)).sum(1).mean(),
            "small": SMALL * made["change"].square().sum(2).mean(),
        }
        if known.bridge is not None:
            scores, vectors = known.scores[torch.from_numpy(batch.code)], known.vectors[torch.from_numpy(batch.places)]
            faces = known.bridge.latent(made["ws"])
            losses["like"] = LIKE * contrasted(faces, vectors, scores, batch.low, batch.high)
        return losses

    def adapted(self, batch: Some, made: dict[str, Tensor]) -> dict[str, Tensor]:
        """What features are to say."""
        read = self.known.feature_reader({name: made[name] for name in gigadata.DOORS}, gigacritics.view(made["ws"]))
        return {
            "read": SAID * outside(read, batch.low, batch.high).mean(),
            "still": STILL * made["residual"].square().mean((2, 3)).sum(1).mean(),
        }

    @torch.no_grad()
    def average(self) -> None:
        kept = min(0.998, 0.5 ** (1 / max(1.0, 0.05 * self.steps)))
        for mean, now in zip(self.mean.parameters(), self.head.parameters(), strict=True):
            mean.lerp_(now, 1 - kept)

    def state(self) -> dict:
        networks = {"head": self.head, "mean": self.mean, "critics": self.critics}
        return {name: network.state_dict() for name, network in networks.items()} | {"steps": self.steps}

    def load(self, state: Mapping) -> None:
        for name, network in (("head", self.head), ("mean", self.mean), ("critics", self.critics)):
            network.load_state_dict(state[name])
        self.steps = int(state["steps"])


def descend(adam: torch.optim.Optimizer, loss: Tensor, network: nn.Module) -> None:
    adam.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), 5.0)
    adam.step()


def train(trainer: Trainer, minutes: float, file: Path, report: Callable[[str], None] = print) -> Network:
    """Until `minutes` are spent in all runs together; `file` holds where it stands."""
    spent = 0.0
    if file.exists():
        state = torch.load(file, weights_only=True)
        trainer.load(state)
        spent = state["seconds"]
    begun, kept, losses = time.monotonic() - spent, spent, {}
    while (now := time.monotonic() - begun) < 60 * minutes:
        share = now / (60 * minutes)
        drawn = share >= ALONE
        if drawn and trainer.head.mapping.out.weight.requires_grad:
            trainer.rest()
        trainer.rate((share - ALONE) / (1 - ALONE) if drawn else share / ALONE)
        for name, value in trainer.step(drawn).items():
            losses.setdefault(name, []).append(value)
        if now - kept > SAVED:
            kept = now
            keep(trainer, now, file)
            report(f"{now:.0f} s, {trainer.steps} steps: "
                   + ", ".join(f"{name} {np.mean(values):.3f}" for name, values in losses.items()))  # fmt: skip
            losses = {}
    keep(trainer, time.monotonic() - begun, file)
    return trainer.mean


def keep(trainer: Trainer, seconds: float, file: Path) -> None:
    with replacing(file) as part:
        torch.save(trainer.state() | {"seconds": seconds}, part)


# ------------------------------------------------------------------------------------ preparations


def staged(out: Path, generator: Generator, codes: Codes) -> Stages:
    """Components of the features of DOORS, found once and kept in `out`."""
    file = out / "stages.safetensors"
    if not file.exists():
        files.write(file, {}, {"stages": Stages.of(generator, codes.ws[:: max(1, len(codes) // 192)][:192])})
    state = weights.read(file, "components of features")
    parts: dict[str, dict[str, Tensor]] = {name: {} for name in gigadata.DOORS}
    for name, tensor in state.items():
        _, door, part = name.split(".")
        parts[door][part] = tensor
    return Stages({door: weights.filled(giga.Stage, found) for door, found in parts.items()})


def readers(
    out: Path, codes: Codes, scores: Tensor, cache: Mapping[str, np.ndarray] | None, report: Callable[[str], None]
) -> tuple[list[CodeReader], FeatureReader | None]:
    """Taught once and kept in `out`."""
    judges, views = scores.shape[1], torch.cat([gigacritics.view(some) for some in codes.ws.split(500)])

    def view(places: np.ndarray, noisy: bool) -> Tensor:
        x = views[torch.from_numpy(places)]
        return x + 0.1 * torch.randn_like(x) if noisy else x

    def both(places: np.ndarray, noisy: bool) -> tuple:
        features = gigacritics.features_of(cache, places)
        if noisy:
            features = {name: x + 0.2 * torch.randn_like(x) for name, x in features.items()}
        return features, view(places, noisy)

    def taught(name: str, reader: nn.Module, inputs: Callable, kind: str, seed: int) -> nn.Module:
        file = out / f"{name}.pt"
        if file.exists():
            reader.load_state_dict(torch.load(file, weights_only=True))
            return reader.eval().requires_grad_(False)
        steps, batch = gigacritics.STEPS[kind], gigacritics.BATCH[kind]
        shares = gigacritics.fit_reader(reader, inputs, scores, codes, steps, batch, seed, report)
        report(f"{name} explains {dict(zip(NAMES, (round(float(s), 2) for s in shares), strict=True))}, "
               f"mean {float(shares.mean()):.3f}")  # fmt: skip
        with replacing(file) as part:
            torch.save(reader.state_dict(), part)
        return reader

    found = []
    for seed in range(TEACHERS):
        torch.manual_seed(seed)
        reader = CodeReader(judges)
        found.append(taught(f"codes{seed}", reader, lambda p, noisy: (view(p, noisy),), "codes", seed))
    if cache is None:
        return found, None
    return found, taught("features", FeatureReader(judges), both, "features", 0)


def bridged(said: Said) -> tuple[LatentBridge | None, Tensor | None]:
    """The bridge that ships and its vectors of all sentences, if there is one."""
    if not bridge.FILE.exists():
        return None, None
    found, vectors = bridge.load(), []
    for start in range(0, len(said), 256):
        hidden, mask = gigadata.padded(said.hidden[start : start + 256])
        vectors.append(found.embedded(SentenceEncoder.pooled(hidden, mask)))
    return found, torch.cat(vectors)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("faces", type=Path)
    parser.add_argument("moves", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=30)
    options = parser.parse_args()
    tune_allocator()
    options.out.mkdir(parents=True, exist_ok=True)

    def report(line: str) -> None:
        print(time.strftime("%H:%M:%S"), line, flush=True)

    moves, actions = joined(options.moves)
    faces, moves = split(sampling.load(options.faces), moves, TRAINED)
    generator = checkpoints.load(zoo.path("mobilestylegan-ffhq-1024"))
    codes, data = gigadata.codes_of(faces, moves, actions), table(faces, moves)
    scores = (torch.from_numpy(codes.scores) - data.mean) / data.std
    said = gigadata.opened(options.out, codes, data.mean, data.std, report=report)
    report(f"{len(codes)} codes, {len(said)} sentences")
    stages = staged(options.out, generator, codes)
    cache = gigadata.cached(options.out, generator, stages, codes.ws, report)
    known = Known(generator, codes, scores, said, stages, cache, *readers(options.out, codes, scores, cache, report),
                  *bridged(said))  # fmt: skip
    report("with the bridge" if known.bridge is not None else "without the bridge")
    head = train(Trainer(known), options.minutes, options.out / "state.pt", report)
    giga.save(head, generator.family, options.out / "giga.safetensors")


if __name__ == "__main__":
    main()
