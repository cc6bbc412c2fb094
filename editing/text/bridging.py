"""Training the bridge between sentences and codes of faces.

    python -m editing.directions.sampling faces/ --count 6000 --psi 0.8
    python -m editing.heads.moves faces/ moves/ --count 2400                # and others, see `editing.text.steer`
    python -m editing.text.bridging faces/ moves/ together/ more/ moretogether/ --out out/

InfoNCE both ways with a learned temperature (arXiv 2103.00020, figure 3), where all that fits counts as a pair, and
what fits nearly counts as nothing: `pairing` says which.  Among the sentences of every batch are captions with one pole
turned into its opposite; moved faces, which have no captions of their own, are paired with those that fit.  Beside it
the towers learn to say what the judges say of a face and what a sentence claims, or they learn 5,400 faces by heart.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from editing.directions import sampling
from editing.heads.actions import Actions
from editing.heads.fit import glimpse
from editing.heads.response import Whitening
from editing.judges import population
from editing.text import bridge as bridges
from editing.text import pairing
from editing.text.bridge import COMPONENTS, LatentBridge, lifted
from editing.text.pairing import Claims
from editing.text.steer import joined
from stylegan2.allocator import tune_allocator

TRAINED = 5400  # faces; those behind them are for choosing settings
STEPS, RATE, DECAY = 3500, 1.5e-3, 0.1
BATCH = 128  # sentences, as many faces, half as many moved ones and half as many sentences with a wrong point
DROPOUT = 0.2
JUDGED, CLAIMED = 2.0, 10.0  # weights of saying what judges say, and what sentences claim
HOTTEST = 4.6  # logarithm of the largest scale, CLIP's 100
CAPTIONS = 2  # a face


@dataclass(frozen=True)
class Data:
    """x (N, 3 * components), views of codes, the first `faces` of faces and those behind them of moved ones; scores
    (N, J) in standard deviations, nan where unknown; misfit (N, P); claims: sentences about the faces."""

    x: Tensor
    scores: Tensor
    misfit: Tensor
    claims: Claims
    whitening: Whitening
    faces: int


def data(
    faces: Mapping[str, np.ndarray], claims: Claims, moves: Mapping[str, np.ndarray], actions: Actions,
    components: int = COMPONENTS,
) -> Data:  # fmt: skip
    whitening = Whitening.of(torch.from_numpy(faces["w"].astype(np.float32)), components)
    x = whitening(torch.from_numpy(faces["w"].astype(np.float32))).repeat(1, 3)
    amounts = torch.from_numpy(moves["amounts"].astype(np.float32))
    after = x[torch.from_numpy(moves["face"])] + amounts @ whitening.views(actions.vectors)
    scores = np.concatenate([faces["scores"], moves["scores"]]).astype(np.float32)
    _, mean, deviation = population.arrays()
    standard = torch.from_numpy((scores - mean) / deviation).float()
    misfit = torch.from_numpy(pairing.misfits(scores))
    return Data(torch.cat([x, after]), standard, misfit, claims, whitening, len(x))


def contrast(cosines: Tensor, fit: Tensor, near: Tensor, scale: Tensor, shares: Tensor) -> Tensor:
    """Cosines (B, M) of faces and sentences -> InfoNCE of rows and of columns: of every pair that fits against all that
    clearly do not.  shares (M,), of all faces, that a sentence fits: a face is drawn to it by the less the more these
    are, or all would be nearest to what fits everybody.  Rows or columns that nothing fits say nothing."""
    logits, pairs = scale.exp() * cosines, fit.float()
    return 0.5 * (_against(logits, pairs / shares, fit | near) + _against(logits.T, pairs.T, (fit | near).T))


def _against(logits: Tensor, pairs: Tensor, left_out: Tensor) -> Tensor:
    wrong = logits.masked_fill(left_out, -torch.inf).logsumexp(1, keepdim=True)  # (B, 1)
    each = F.softplus(wrong - logits) * pairs  # -log of a pair's share, against the wrong ones
    some = pairs.sum(1) > 0
    return (each.sum(1)[some] / pairs.sum(1)[some]).mean()


def fit(
    found: Data, steps: int = STEPS, seed: int = 0, rate: float = RATE, batch: int = BATCH, dropout: float = DROPOUT,
    report: Callable[[int, Mapping[str, float], LatentBridge], None] = lambda step, losses, bridge: None,
) -> LatentBridge:  # fmt: skip
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    components, w_dim = found.whitening.basis.shape
    bridge = LatentBridge(w_dim, components, sentence=found.claims.embedding.shape[1], dropout=dropout)
    bridge.whitening.load_state_dict(found.whitening.state_dict())
    width, claimed = bridge.faces.out.in_features, found.claims.mentions.shape[1]
    judges, claiming = nn.Linear(width, found.scores.shape[1] + claimed), nn.Linear(width, claimed)
    networks = [p for part in (bridge.faces, bridge.sentences, judges, claiming) for p in part.parameters()]
    groups = [{"params": networks, "weight_decay": DECAY}, {"params": [bridge.scale], "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps, pct_start=0.1)
    right, wrong = (np.flatnonzero(found.claims.swapped == swapped) for swapped in (False, True))
    embedding = torch.from_numpy(np.asarray(found.claims.embedding))
    mentions = torch.from_numpy(np.asarray(found.claims.mentions))
    shares, moves = shared(found.misfit, mentions), len(found.x) > found.faces
    bridge.train()
    for step in range(steps):
        own = rng.choice(right, batch)
        texts = np.concatenate([own, rng.choice(wrong, batch // 2)]) if len(wrong) else own
        moved = found.faces + rng.integers(len(found.x) - found.faces, size=batch // 2) if moves else own[:0]
        faces = torch.from_numpy(np.concatenate([np.asarray(found.claims.about)[own], moved]))
        seen = glimpse(found.x[faces])
        claims = mentions[texts].float()
        fitting, near = pairing.fitting(found.misfit[faces], claims)
        looked, heard = bridge.faces.body(seen), bridge.sentences.body(read := lifted(embedding[texts].float()))
        cosines = bridge.faces.finished(seen, looked) @ bridge.sentences.finished(read, heard).T
        contrasted = contrast(cosines, fitting, near, bridge.scale, shares[texts])
        judged = _judged(judges(looked), found.scores[faces], found.misfit[faces])
        claimed = F.binary_cross_entropy_with_logits(claiming(heard), claims)
        optimiser.zero_grad(set_to_none=True)
        (contrasted + JUDGED * judged + CLAIMED * claimed).backward()
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            bridge.scale.clamp_(max=HOTTEST)
        if step % 500 == 499:
            losses = {"contrast": contrasted, "judged": judged, "claimed": claimed, "scale": bridge.scale.exp()}
            losses = {name: value.item() for name, value in losses.items()}
            report(step + 1, losses, bridge)
    return bridge.eval().requires_grad_(False)


def shared(misfit: Tensor, mentions: Tensor, least: float = 5e-4) -> Tensor:
    """misfit (N, P), mentions (M, P) bool -> what share of the faces every sentence fits (M,), no less than `least`."""
    some = misfit[:: max(1, len(misfit) // 4000)]
    parts = [pairing.fitting(some, part.float())[0].float().mean(0) for part in mentions.split(2000)]
    return torch.cat(parts).clamp(min=least)


def _judged(found: Tensor, scores: Tensor, misfit: Tensor) -> Tensor:
    """What was said (B, J + P) -> how far off: of scores (B, J), and of which claims hold (B, P), 0 in `misfit`."""
    known, count = scores.isfinite(), scores.shape[1]
    off = F.huber_loss(found[:, :count], scores.nan_to_num(), reduction="none", delta=2.0) * known
    return off.sum() / known.sum() + F.binary_cross_entropy_with_logits(found[:, count:], (misfit == 0).float())


@torch.no_grad()
def retrieval(
    faces: Tensor, claims: Claims, texts: Tensor, of: int = 100, rounds: int = 200, seed: int = 0
) -> dict[str, float]:
    """Unit vectors of faces (N, D) and of their sentences (M, D) -> R@1, 5 and 10 of `of` faces with a sentence each,
    both ways, and R-precision: how often its own sentence scores best among ten of different faces; means of `rounds`
    draws."""
    rng = np.random.default_rng(seed)
    own = [np.flatnonzero((claims.about == face) & ~claims.swapped) for face in range(len(faces))]
    described = [face for face in range(len(faces)) if len(own[face])]
    of = min(of, len(described))
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        some = rng.choice(described, of, replace=False)
        chosen = [int(rng.choice(own[face])) for face in some]
        cosines = faces[torch.from_numpy(some)] @ texts[chosen].T  # (faces, sentences)
        for way, table in (("sentence to face", cosines.T), ("face to sentence", cosines)):
            rank = (table > table.diagonal()[:, None]).sum(1)
            for k in (1, 5, 10):
                found.setdefault(f"{way} R@{k}", []).append(float((rank < k).float().mean()))
        ten = torch.stack(
            [cosines[i, [i, *rng.choice(np.delete(np.arange(of), i), 9, replace=False)]] for i in range(of)]
        )
        found.setdefault("R-precision of 10", []).append(float((ten.argmax(1) == 0).float().mean()))
    return {name: float(np.mean(values)) for name, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("faces", type=Path)
    parser.add_argument("moves", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=STEPS)
    options = parser.parse_args()
    tune_allocator()
    options.out.mkdir(parents=True, exist_ok=True)
    run(options.faces, options.moves, options.out, options.steps)


def prepared(
    table: Mapping[str, np.ndarray], moved: Sequence[Path], out: Path
) -> tuple[Data, Mapping[str, np.ndarray]]:
    """Judged faces and folders of their moves -> what is learned from, and the faces behind it.  Captions are written
    into `out`, or read from there."""
    faces = {key: value[:TRAINED] for key, value in table.items()}
    rest = {key: value[TRAINED:] for key, value in table.items()}
    moves, actions = joined(moved)
    moves = {key: value[moves["face"] < len(faces["w"])] for key, value in moves.items()}
    claims = pairing.kept(out / "faces.npz", faces["scores"], CAPTIONS, seed=0)
    return data(faces, claims, moves, actions), rest


def run(folder: Path, moved: Sequence[Path], out: Path, steps: int) -> None:
    """Captions, embeddings (both kept in `out`), training; writes out/bridge.safetensors."""
    found, rest = prepared(sampling.load(folder), moved, out)
    print(f"{found.faces} faces, {len(found.x) - found.faces} moves, {len(found.claims.texts)} sentences", flush=True)
    others = pairing.kept(out / "rest.npz", rest["scores"], CAPTIONS, seed=3) if len(rest["w"]) else None

    def report(step: int, losses: Mapping[str, float], bridge: LatentBridge) -> None:
        line = f"{step} " + " ".join(f"{name} {value:.3f}" for name, value in losses.items())
        if others is not None:
            bridge.eval()
            seen = bridge.faces(bridge.whitening(torch.from_numpy(rest["w"]).float()).repeat(1, 3))
            texts = bridge.embedded(torch.from_numpy(others.embedding).float())
            line += " " + " ".join(f"{k} {v:.3f}" for k, v in retrieval(seen, others, texts, rounds=40).items())
            bridge.train()
        print(line, flush=True)

    bridges.save(fit(found, steps, report=report), out / "bridge.safetensors")


if __name__ == "__main__":
    main()
