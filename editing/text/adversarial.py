"""Training the GAN-CLS family on codes of faces (Reed et al., arXiv 1605.05396, algorithm 1 and section 4.3).

    python -m editing.text.bridging faces/ moves/ ... --out out/              # writes the captions that this reads, too
    python -m editing.text.adversarial faces/ moves/ ... --captions out/ --out gancls/ --only int-cls --seed 0

The losses are the paper's, and of its code: the matcher learns that a face with its sentence is right, a face with a
sentence that does not fit is wrong (`cls`), and what the maker made is wrong; the maker learns to be called right, for
sentences of the data and (`int`) for means of two of them, which the matcher never gets to see as wrong.  Half of the
wrong pairs are another face and half the face's own caption with one pole turned into its opposite.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from editing.directions import sampling
from editing.heads.response import Whitening
from editing.text import bridge as bridges
from editing.text import generators, pairing
from editing.text.bridge import LatentBridge
from editing.text.bridging import Data, prepared
from editing.text.generators import COMPONENTS, PSI, VARIANTS, Family, Maker, Matcher, between
from stylegan2 import checkpoints, engine, zoo
from stylegan2.allocator import tune_allocator
from stylegan2.errors import UsageError

STEPS, BATCH = 2000, 64
RATE, BETAS = 5e-4, (0.5, 0.999)  # the paper: 2e-4, and far longer
WRONG = 0.5  # weight of wrong pairs, the rest of 1 goes to what was made: the paper's code
HARD = 0.5  # share of wrong pairs that are wrong in one point
JITTER = 0.1  # on views that the matcher sees, in standard deviations
AVERAGE = 0.999  # of the maker's weights, which is what is written
NOISES, FIRST_NOISE = 20_000, 5_000_000  # codes that noise is drawn from, and their first seed
FITTING = 4  # sentences that a moved face is paired with


@dataclass(frozen=True)
class Pairs:
    """x (N, 3 * C), views of real codes; t (M, SPACE), sentences; right (R, 2), places in x and t of pairs that fit;
    opposed (R', 2), of a face and a caption of its own with one wrong point; mentions (M, P) and misfit (N, P) for
    `pairing.fitting`; noise (Z, C), codes of the mapping network."""

    x: Tensor
    t: Tensor
    right: Tensor
    opposed: Tensor
    mentions: Tensor
    misfit: Tensor
    noise: Tensor


def pairs(found: Data, bridge: LatentBridge, noise: Tensor, seed: int = 0) -> Pairs:
    """noise (Z, w_dim), codes of the mapping network.  A face goes with its captions; a moved one, which has none, with
    FITTING of the sentences that fit it, where there are any."""
    claims, rng = found.claims, np.random.default_rng(seed)
    with torch.no_grad():
        t = bridge.embedded(torch.from_numpy(np.asarray(claims.embedding)).float())
    mentions = torch.from_numpy(np.asarray(claims.mentions)).float()
    own = np.stack([np.asarray(claims.about), np.arange(len(claims.texts))], 1)
    swapped, of_moves = np.asarray(claims.swapped), []
    for start in range(found.faces, len(found.x), 500):
        fit, _ = pairing.fitting(found.misfit[start : start + 500], mentions)
        for face, row in enumerate(fit.numpy(), start):
            texts = np.flatnonzero(row)
            of_moves += [(face, text) for text in rng.permutation(texts)[:FITTING]]
    right = np.concatenate([own[~swapped], np.array(of_moves, np.int64).reshape(-1, 2)])
    opposed = own[swapped & (found.misfit[own[:, 0]] * mentions).amax(1).gt(pairing.NEAR).numpy()]
    indices = [torch.from_numpy(part) for part in (right, opposed)]
    whitening = first(found.whitening)
    x = found.x.unflatten(1, (3, -1))[..., : len(whitening.basis)].flatten(1)
    return Pairs(x, t, *indices, mentions, found.misfit, whitening(noise))


def first(whitening: Whitening, components: int = COMPONENTS) -> Whitening:
    """The components in which faces vary most."""
    found = Whitening(len(whitening.mean), min(components, len(whitening.basis)))
    found.mean.copy_(whitening.mean)
    found.basis.copy_(whitening.basis[: len(found.basis)])
    return found


def matcher_loss(right: Tensor, wrong: Tensor, made: Tensor, weight: float) -> Tensor:
    """Logits (B,) each -> BCE(right, 1) + weight BCE(wrong, 0) + (1 - weight) BCE(made, 0)"""
    return F.softplus(-right).mean() + weight * F.softplus(wrong).mean() + (1 - weight) * F.softplus(made).mean()


def maker_loss(made: Tensor) -> Tensor:
    """Logits (B,), or (1.5 B,) with those for means of two sentences -> BCE(made, 1)"""
    return F.softplus(-made).mean()


def asked(t: Tensor, interpolated: bool) -> Tensor:
    """Sentences (B, SPACE) -> with the means of the first half's with the second half's behind them (1.5 B, SPACE)"""
    half = len(t) // 2
    return torch.cat([t, between(t[:half], t[half : 2 * half], 0.5)]) if interpolated else t


class Sampler:
    """Draws right and wrong pairs."""

    def __init__(self, found: Pairs, seed: int, hard: float = HARD) -> None:
        self.found, self.hard, self.rng = found, hard, np.random.default_rng(seed)

    def rightly(self, count: int) -> tuple[Tensor, Tensor]:
        """-> places of codes and of sentences that fit them (count,)"""
        return self.found.right[torch.from_numpy(self.rng.integers(len(self.found.right), size=count))].unbind(1)

    def wrongly(self, texts: Tensor) -> tuple[Tensor, Tensor]:
        """Places of sentences (B,) -> places of codes and sentences that do not fit: a share of faces with a caption of
        theirs that is wrong in one point, and these sentences with others' codes."""
        count = int(self.hard * len(texts)) if len(self.found.opposed) else 0
        places = torch.from_numpy(self.rng.integers(max(1, len(self.found.opposed)), size=count))
        hard_codes, hard_texts = self.found.opposed[places].unbind(1)
        texts = texts[count:]
        codes = torch.from_numpy(self.rng.integers(len(self.found.x), size=len(texts)))
        for _ in range(3):
            far = (self.found.misfit[codes] * self.found.mentions[texts]).amax(1) > pairing.NEAR
            codes = torch.where(far, codes, torch.from_numpy(self.rng.integers(len(self.found.x), size=len(texts))))
        return torch.cat([hard_codes, codes]), torch.cat([hard_texts, texts])

    def noise(self, count: int) -> Tensor:
        return self.found.noise[torch.from_numpy(self.rng.integers(len(self.found.noise), size=count))]


def seen(u: Tensor, added: Tensor) -> Tensor:
    """Noise's components (B, C) and what was added (B, 3, C) -> the view of the code (B, 3 * C)"""
    return (u[:, None] + added).flatten(1)


def fit(
    found: Pairs, bridge: LatentBridge, kind: str, steps: int = STEPS, seed: int = 0, batch: int = BATCH,
    report: Callable[[int, Mapping[str, float]], None] = lambda step, losses: None,
) -> Family:  # fmt: skip
    """One of VARIANTS.  bridge: of the whitening and the tower of sentences that `found` was made with."""
    if kind not in VARIANTS:
        raise UsageError(f"There is no variant {kind!r} of GAN-CLS: {', '.join(VARIANTS)} are known.")
    torch.manual_seed(seed)
    draws, weight = Sampler(found, seed), WRONG if "cls" in kind else 0.0
    components, space = found.noise.shape[1], found.t.shape[1]
    maker, matcher = Maker(components, space), Matcher(components, space)
    average = copy.deepcopy(maker)
    adam_g = torch.optim.Adam(maker.parameters(), lr=RATE, betas=BETAS)
    adam_d = torch.optim.Adam(matcher.parameters(), lr=RATE, betas=BETAS)
    for step in range(steps):
        for group in (*adam_g.param_groups, *adam_d.param_groups):
            group["lr"] = RATE * min(1.0, 2 * (1 - step / steps))
        faces, texts = draws.rightly(batch)
        t, u = found.t[texts], draws.noise(batch)
        with torch.no_grad():
            made = seen(u, maker(u, t))
        strangers, wrong_texts = draws.wrongly(texts)
        shown = torch.cat([found.x[faces], found.x[strangers], made])
        matching, mismatching, false = matcher(_jittered(shown), torch.cat([t, found.t[wrong_texts], t])).chunk(3)
        judged = matcher_loss(matching, mismatching, false, weight)
        adam_d.zero_grad(set_to_none=True)
        judged.backward()
        adam_d.step()
        t = asked(t, "int" in kind)
        u = draws.noise(len(t))
        matcher.requires_grad_(False)
        fooled = maker_loss(matcher(_jittered(seen(u, maker(u, t))), t))
        adam_g.zero_grad(set_to_none=True)
        fooled.backward()
        adam_g.step()
        matcher.requires_grad_(True)
        with torch.no_grad():
            for mine, theirs in zip(average.parameters(), maker.parameters(), strict=True):
                mine.lerp_(theirs, 1 - min(AVERAGE, (step + 1) / (step + 10)))
        if step % 500 == 499:
            logits = {"right": matching, "wrong": mismatching, "made": false}
            means = {name: value.mean().item() for name, value in logits.items()}
            report(step + 1, {"matcher": judged.item(), "maker": fooled.item()} | means)
    return Family(kind, first(bridge.whitening), bridge.sentences, average.eval().requires_grad_(False))


def _jittered(x: Tensor) -> Tensor:
    return x + JITTER * torch.randn_like(x)


def noises(count: int = NOISES) -> Tensor:
    """(count, w_dim), codes of the default generator."""
    generator = checkpoints.load(zoo.path("mobilestylegan-ffhq-1024"))
    seeds = range(FIRST_NOISE, FIRST_NOISE + count)
    return torch.cat([engine.latents(generator, seeds[start : start + 500], PSI) for start in range(0, count, 500)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("faces", type=Path)
    parser.add_argument("moves", type=Path, nargs="+")
    parser.add_argument("--captions", type=Path, required=True, help="the folder that the bridge was trained into")
    parser.add_argument("--out", type=Path, required=True, help="a file KIND-SEED.safetensors each goes there")
    parser.add_argument("--only", nargs="*", default=VARIANTS, choices=VARIANTS)
    parser.add_argument("--seed", type=int, nargs="*", default=(0,))
    parser.add_argument("--steps", type=int, default=STEPS)
    options = parser.parse_args()
    tune_allocator()
    options.out.mkdir(parents=True, exist_ok=True)
    bridge = bridges.read(options.captions / "bridge.safetensors")
    found = pairs(prepared(sampling.load(options.faces), options.moves, options.captions)[0], bridge, noises())

    def report(step: int, losses: Mapping[str, float]) -> None:
        print(step, *(f"{name} {value:.3f}" for name, value in losses.items()), flush=True)

    for seed in options.seed:
        for kind in options.only:
            path = options.out / f"{kind}-{seed}.safetensors"
            if not path.exists():
                print(f"{kind}, seed {seed}", flush=True)
                generators.save(fit(found, bridge, kind, options.steps, seed, report=report), path)


if __name__ == "__main__":
    main()
