"""What a move changes, learned from judged moves: every judge, and who somebody is.

    response, explained = fit(table(faces, moves), actions)
    x = response.view(ws)
    scores, descriptor = response(x, amounts)      # without rendering, with gradients

x is a face as heads see it: the means of its coarse, middle and fine rows, each in whitened principal components of w.
Scores are in standard deviations of the population of `faces`.  A response is a teacher: it ships with no head.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from editing.heads.actions import ROWS, Actions
from editing.judges.judge import NAMES
from stylegan2.files import replacing

COMPONENTS = 64
STEPS, BATCH, RATE, DECAY = 3000, 256, 1e-3, 0.1
UNEVEN = 0.02  # variance of whitened components between groups of rows from which on faces are inverted ones
HELD = 0.1  # share of faces whose moves tell how good it is


class Whitening(nn.Module):
    """w (B, w_dim) -> u (B, COMPONENTS), of mean 0 and variance 1 over the faces that it was made from."""

    def __init__(self, w_dim: int = 512, components: int = COMPONENTS) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(w_dim))
        self.register_buffer("basis", torch.zeros(components, w_dim))

    @classmethod
    def of(cls, w: Tensor, components: int = COMPONENTS) -> Whitening:
        found = cls(w.shape[1], components)
        found.mean.copy_(w.mean(0))
        _, sizes, axes = torch.linalg.svd(w - found.mean, full_matrices=False)
        found.basis.copy_(axes[:components] * (len(w) ** 0.5 / sizes[:components, None]))
        return found

    def forward(self, w: Tensor) -> Tensor:
        return (w - self.mean) @ self.basis.T

    def view(self, ws: Tensor) -> Tensor:
        """ws (B, num_ws, w_dim) -> x (B, 3 * COMPONENTS)"""
        return torch.cat([self(ws[:, start:end].mean(1)) for start, end in ROWS.values()], 1)

    def views(self, vectors: Tensor) -> Tensor:
        """Changes of ws (K, rows, w_dim) -> changes of x (K, 3 * COMPONENTS)"""
        return torch.cat([vectors[:, start:end].mean(1) @ self.basis.T for start, end in ROWS.values()], 1)


def uneven(x: Tensor) -> Tensor:
    """How much the rows of codes differ (B,): 0 where they are one w, as a generated face's, nearly 1 in inversions."""
    off = x.unflatten(1, (3, -1)).std(1).square().mean(1)
    return off / (off + UNEVEN)


class Response(nn.Module):
    """(x, amounts) -> scores (B, J) and descriptor (B, 128) after the move.

    One reader says what a face is like, before and after; what the view of a move does not show, its actions add
    themselves.  No move, no change, exactly.  lasting (J,): how much of what a judge says of a face beyond what is read
    is still there after a move; the rest was the judge's error.
    """

    def __init__(self, whitening: Whitening, vectors: Tensor, limits: Tensor, judges: int, width: int = 256) -> None:
        super().__init__()
        seen, out = 3 * len(whitening.basis), judges + 128
        self.whitening, self.judges = whitening, judges
        self.skip = nn.Linear(seen, out)
        self.reader = nn.Sequential(
            nn.Linear(seen, width), nn.SiLU(), nn.Dropout(0.3), nn.Linear(width, width), nn.SiLU(),
            nn.Dropout(0.3), nn.Linear(width, out),
        )  # fmt: skip
        self.beside = nn.Linear(len(vectors), out, bias=False)
        nn.init.zeros_(self.beside.weight)
        self.away = nn.Linear(len(vectors), 32, bias=False)
        self.easily = nn.Linear(seen, 1)
        nn.init.zeros_(self.easily.weight)
        nn.init.zeros_(self.easily.bias)
        self.register_buffer("limits", limits.abs().amax(1))
        self.register_buffer("lasting", torch.ones(judges))
        self.damped = nn.Parameter(torch.zeros(out))
        self.register_buffer("moves", whitening.views(vectors))

    def view(self, ws: Tensor) -> Tensor:
        return self.whitening.view(ws)

    def read(self, x: Tensor) -> Tensor:
        """x -> scores and descriptor beside each other (B, J + 128), the descriptor times DESCRIPTORS"""
        return self.skip(x) + self.reader(x)

    def moved(self, x: Tensor, amounts: Tensor) -> Tensor:
        """x after the move."""
        return x + amounts @ self.moves

    def change(self, x: Tensor, amounts: Tensor, seen: Tensor | None = None) -> Tensor:
        """What `read` changes by.  seen: x as an inversion would have it; moves of inversions do less."""
        both = self.read(torch.cat([x, self.moved(x, amounts)]))
        full = both[len(x) :] - both[: len(x)] + self.beside(amounts / self.limits)
        return full * torch.exp(self.damped * uneven(x if seen is None else seen)[:, None])

    def distance(self, x: Tensor, amounts: Tensor) -> Tensor:
        """How far the descriptor goes (B,), whichever way: what changes it changes more than `change` can foretell, and
        some faces' more easily than others'."""
        far = (self.away(amounts / self.limits).square().sum(1) + 1e-6).sqrt()
        return far * torch.exp(torch.tanh(self.easily(x)[:, 0]))

    def forward(self, x: Tensor, amounts: Tensor) -> tuple[Tensor, Tensor]:
        both = self.read(x) + self.change(x, amounts)
        return both[:, : self.judges], both[:, self.judges :] / DESCRIPTORS


@dataclass(frozen=True)
class Table:
    """Faces and moves as tensors.  scores in standard deviations, nan where a judge had nothing to say; generated: how
    many faces are codes of the generator, before those that are inversions."""

    x: Tensor
    scores: Tensor
    descriptors: Tensor
    face: Tensor
    amounts: Tensor
    scores_after: Tensor
    descriptors_after: Tensor
    mean: Tensor
    std: Tensor
    whitening: Whitening
    generated: int


Arrays = Mapping[str, np.ndarray]


def table(faces: Arrays, moves: Arrays, inverted: tuple[Arrays, Arrays] | None = None) -> Table:
    """inverted: faces with a ws each instead of one w, and moves of these, as `inverted.load` has them."""
    scores = torch.from_numpy(faces["scores"].astype(np.float32))
    known = scores.isfinite()
    filled = scores.nan_to_num()
    mean = filled.sum(0) / known.sum(0)
    std = (((filled - mean) * known).square().sum(0) / known.sum(0)).sqrt()
    w = torch.from_numpy(faces["w"].astype(np.float32))
    whitening = Whitening.of(w)
    x = whitening(w).repeat(1, 3)
    if inverted:
        more, moved = inverted
        x = torch.cat([x, whitening.view(torch.from_numpy(more["ws"]).float())])
        moves = {k: np.concatenate([moves[k], moved[k] + (len(w) if k == "face" else 0)]) for k in moved}
        faces = {k: np.concatenate([faces[k], more[k]]) for k in ("scores", "descriptor")}
    scores, descriptors, amounts, after, descriptors_after = (
        torch.from_numpy(values.astype(np.float32))
        for values in (faces["scores"], faces["descriptor"], *(moves[k] for k in ("amounts", "scores", "descriptor")))
    )
    return Table(
        x, (scores - mean) / std, descriptors, torch.from_numpy(moves["face"]), amounts, (after - mean) / std,
        descriptors_after, mean, std, whitening, len(w),
    )  # fmt: skip


DESCRIPTORS = 5.0  # their differences count so much more than standard deviations do


def fit(
    data: Table, actions: Actions, steps: int = STEPS, seed: int = 0,
    report: Callable[[int, float], None] = lambda step, loss: None,
) -> tuple[Response, Tensor]:  # fmt: skip
    """The response, and for every output of `read`, and at last for `distance`, the share of the variance of held-back
    changes that it explains."""
    torch.manual_seed(seed)
    response = Response(data.whitening, actions.vectors, actions.limits, data.scores.shape[1])
    base = torch.cat([data.scores, data.descriptors * DESCRIPTORS], 1)
    after = torch.cat([data.scores_after, data.descriptors_after * DESCRIPTORS], 1)
    x, change = data.x[data.face], after - base[data.face]
    distance = (data.descriptors_after - data.descriptors[data.face]).norm(dim=1)
    unseen = torch.zeros(len(base), dtype=torch.bool)  # faces, not moves: judges' errors about a face are in all of its
    unseen[torch.randperm(len(base))[: int(HELD * len(base))]] = True
    faces, held, rest = (where.nonzero()[:, 0] for where in (~unseen, unseen[data.face], ~unseen[data.face]))
    beside = set(response.beside.parameters())
    others = [p for p in response.parameters() if p not in beside]
    groups = [{"params": others, "weight_decay": DECAY}, {"params": list(beside), "weight_decay": 10 * DECAY}]
    optimiser = torch.optim.AdamW(groups, lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
    response.train()
    for step in range(steps):
        some = faces[torch.randint(len(faces), (BATCH,))]
        loss = far(response.read(data.x[some]), base[some])
        some = rest[torch.randint(len(rest), (BATCH,))]
        loss = loss + far(response.change(x[some], data.amounts[some]), change[some])
        loss = loss + 5 * far(response.distance(x[some], data.amounts[some]), distance[some])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 500 == 499:
            report(step + 1, loss.item())
    response.eval().requires_grad_(False)
    with torch.no_grad():
        before = data.scores[data.face[held]] - response.read(x[held])[:, : response.judges]
        after = data.scores_after[held] - response(x[held], data.amounts[held])[0]
        known = before.isfinite() & after.isfinite()
        before, after = (value.nan_to_num() * known for value in (before, after))
        response.lasting.copy_(((before * after).sum(0) / before.square().sum(0).clamp(min=1e-6)).clamp(0, 1))
        off = response.change(x[held], data.amounts[held]) - change[held]
        explained = 1 - off.nan_to_num().square().sum(0) / change[held].nan_to_num().square().sum(0)
        off = response.distance(x[held], data.amounts[held]) - distance[held]
    return response, torch.cat([explained, 1 - off.var()[None] / distance[held].var()])


TEACHERS = 3


def taught(
    data: Table, actions: Actions, out: Path, report: Callable[[str], None] = print, steps: int = STEPS
) -> list[Response]:
    """TEACHERS responses; those that the folder holds already, of the same data, are read."""
    shapes = [
        (k, *v.shape)
        for k, v in Response(data.whitening, actions.vectors, actions.limits, len(NAMES)).named_parameters()
    ]
    digest = hashlib.sha256(f"{shapes} {steps, BATCH, RATE, DECAY, HELD, UNEVEN, DESCRIPTORS}".encode())
    for tensor in (*(v for v in vars(data).values() if isinstance(v, Tensor)), actions.vectors, actions.limits):
        digest.update(tensor.contiguous().numpy().tobytes())
    found = []
    for seed in range(TEACHERS):
        file = out / "teachers" / f"{digest.hexdigest()[:12]}-{seed}.safetensors"
        response = Response(data.whitening, actions.vectors, actions.limits, len(NAMES))
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            response, explained = fit(data, actions, steps, seed)
            with replacing(file) as part:
                save_file(response.state_dict(), part)
            shares = {name: round(float(share), 2) for name, share in zip(NAMES, explained, strict=False)}
            report(f"explained of held-back changes: {shares}, distance {float(explained[-1]):.2f}")
        response.load_state_dict(load_file(file))
        found.append(response.eval().requires_grad_(False))
    return found


def far(found: Tensor, wanted: Tensor) -> Tensor:
    """Mean Huber distance where there is something to compare with."""
    known = wanted.isfinite()
    return (F.huber_loss(found, wanted.nan_to_num(), reduction="none", delta=2.0) * known).sum() / known.sum()
