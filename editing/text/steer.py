"""Training the mapper: judged moves teach what actions do, the mapper learns which to take.

    python -m editing.directions.sampling faces/ --count 6000 --psi 0.8
    python -m editing.heads.moves faces/ more/ --count 1600 --more
    python -m editing.heads.moves faces/ together/ --count 1200 --more --together
    python -m editing.text.steer faces/ more/ together/ --out out/

Moves that were made for other heads, with fewer actions, may be given, too.  Three responses are learned and asked in
turn, so that the mapper cannot lean on the errors of one.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from editing.directions import sampling
from editing.heads import moves as moving
from editing.heads.actions import Actions
from editing.heads.fit import TRAINED, glimpse, split
from editing.heads.response import Response, Table, table, taught
from editing.judges.judge import NAMES
from editing.text import mapper as mapping
from editing.text import poles as known
from editing.text.mapper import Guess, Mapper, Network
from stylegan2 import console
from stylegan2.allocator import tune_allocator
from stylegan2.errors import UsageError

STEPS, BATCH, RATE = 6000, 256, 1e-3
DISTANCE = 0.38  # of descriptors; farther counts more
LOOSE = ("age", "male", "glasses")  # judges that cannot move without the descriptor


def joined(folders: Sequence[Path]) -> tuple[dict[str, np.ndarray], Actions]:
    """Moves of all folders, with the actions of the first that has most; others' actions must be its first ones."""
    found = [(moving.load(folder), moving.load_actions(folder / "actions.safetensors")) for folder in folders]
    actions = max((actions for _, actions in found), key=len)
    tables = []
    for (rows, own), folder in zip(found, folders, strict=True):
        first = Actions(actions.names[: len(own)], actions.vectors[: len(own)], actions.limits[: len(own)])
        if not own.same(first):
            raise UsageError(f"The moves of {folder} were made with other actions: make them anew.")
        rows["amounts"] = np.pad(rows["amounts"], ((0, 0), (0, len(actions) - len(own))))
        tables.append(rows)
    return {key: np.concatenate([rows[key] for rows in tables]) for key in tables[0]}, actions


def wishes(now: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """What the judges say (B, J) -> changes, which are named, which may come along, (B, J) each: one to three poles a
    face."""
    names = list(known.load())
    rows = []
    for i in range(len(now)):
        chosen: dict[str, float] = {}
        for name in rng.choice(names, int(rng.choice((1, 2, 3), p=(0.6, 0.27, 0.13))), replace=False):
            used = {judge for other in chosen for judge in known.load()[other].judges}
            if not used & set(known.load()[name].judges):
                chosen[str(name)] = float(rng.uniform(0.35, 1.7))
        change, named = mapping.wish(now[i : i + 1], chosen)
        rows.append((change, named, torch.tensor([[float(n in mapping.along(list(chosen))) for n in NAMES]])))
    return tuple(torch.cat(part) for part in zip(*rows, strict=True))


def price(
    response: Response, x: Tensor, amounts: Tensor, change: Tensor, named: Tensor, along: Tensor
) -> dict[str, Tensor]:
    """What a choice of amounts costs: what was asked for and did not happen, what happened beside it, who was lost,
    and how much was moved."""
    found = response.change(x, amounts)[:, : response.judges]
    loose = (named[:, [NAMES.index(name) for name in LOOSE]].sum(1) > 0).float()
    missed = (F.huber_loss(found, change, reduction="none") * named).sum(1) / named.sum(1).clamp(min=1)
    missed = missed * (1 + loose)
    wrong = F.relu(0.35 * change.abs() - found * change.sign()) * named
    beside = (found.square() * (1 - named) * (1 - 0.9 * along)).sum(1)
    distance = response.distance(x, amounts)
    lost = (distance + 20 * F.relu(distance - DISTANCE).square()) * (1 - 0.85 * loose)
    size = (amounts / response.limits).abs().sum(1)
    return {"missed": 3 * missed.mean(), "wrong": 2 * wrong.sum(1).mean(), "beside": 0.35 * beside.mean(),
            "lost": 1.2 * lost.mean(), "size": 0.04 * size.mean()}  # fmt: skip


def fit(
    data: Table, actions: Actions, teachers: Sequence[Response], steps: int = STEPS, seed: int = 0,
    report: Callable[[str], None] = print,
) -> Mapper:  # fmt: skip
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network, guess = Network(data.x.shape[1], len(actions)), Guess(data.x.shape[1])
    network.limits.copy_(actions.limits)
    optimiser = torch.optim.AdamW([*network.parameters(), *guess.parameters()], lr=RATE, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps, pct_start=0.1)
    pool = wishes(data.scores[rng.integers(len(data.x), size=16 * BATCH)].nan_to_num(), rng)
    for step in range(steps):
        some = torch.from_numpy(rng.integers(len(data.x), size=BATCH))
        if step % 4 == 3:  # an eighth of the wishes is new every fourth step
            fresh = wishes(data.scores[rng.integers(len(data.x), size=BATCH // 4)].nan_to_num(), rng)
            place = torch.from_numpy(rng.integers(16 * BATCH, size=BATCH // 4))
            for old, new in zip(pool, fresh, strict=True):
                old[place] = new
        place = torch.from_numpy(rng.integers(16 * BATCH, size=BATCH))
        change, named, along = (part[place] for part in pool)
        seen = glimpse(data.x[some])
        amounts = network(seen, change, named)
        costs = price(teachers[step % len(teachers)], data.x[some], amounts, change, named, along)
        guessed = F.huber_loss(guess(seen), data.scores[some].nan_to_num(), delta=2.0)
        optimiser.zero_grad(set_to_none=True)
        (sum(costs.values()) + guessed).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 500 == 499:
            report(f"{step + 1} " + " ".join(f"{key} {float(value):.3f}" for key, value in costs.items()))
    for part in (network, guess):
        part.eval().requires_grad_(False)
    return Mapper(data.whitening, actions, network, guess)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("faces", type=Path)
    parser.add_argument("moves", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=STEPS)
    options = parser.parse_args()
    tune_allocator()
    options.out.mkdir(parents=True, exist_ok=True)

    def report(line: str) -> None:
        print(line, flush=True)

    moves, actions = joined(options.moves)
    faces = {name: rows for name, rows in sampling.load(options.faces).items() if name != "picture"}
    faces, moves = split(faces, moves, TRAINED)
    data = table(faces, moves)
    report(f"{len(data.x)} faces, {len(data.face)} moves, {len(actions)} actions")
    teachers = taught(data, actions, options.out, report)
    mapping.save(fit(data, actions, teachers, options.steps, report=report), options.out / "mapper.safetensors")


if __name__ == "__main__":
    console.plain(main)
