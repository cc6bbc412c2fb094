"""Training heads from judged faces and judged moves, without rendering.

    python -m editing.heads.fit faces/ moves/ together/ led/ --inverted inverted/ --out heads/
    python -m editing.heads.fit faces/ moves/ together/ --out heads/ --only instagan

CycleGAN (arXiv 1703.10593): two translators, critics of both domains that see what judges would say, least squares;
the way back undoes the way there, and a face that is there already stays.  StarGAN (1711.09020): one translator for all
labels, with a critic that also names them.  Both: who somebody is, by the descriptor, and what the domain does not
speak of stay what they were.  InstaGAN (1812.10889): CycleGAN's losses for what one instance is like, whatever else
changes outside its mask, for that is not drawn: context is kept by construction instead of by a loss.

Teachers are several responses in turn, so that a head cannot live on the errors of one; inverted faces, if there are
any, are up to SHARE of what heads and critics get to see.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from editing.directions import sampling
from editing.heads import inverted as inverting
from editing.heads import moves as moving
from editing.heads.actions import Actions
from editing.heads.domains import COLUMNS, FLIPPED, FREE, GROUPS, INSTANCES, LABELS, NEARER, PAIRS, Pair, labels_of
from editing.heads.response import Response, Table, table, taught
from editing.heads.translators import Family, StarTranslator, Translator, load, save, with_label
from editing.judges.judge import NAMES
from stylegan2 import console
from stylegan2.errors import UsageError

TRAINED = 4500  # faces; those behind them are for judging heads
STEPS, BATCH, RATE = 2500, 128, 1e-3
ALREADY = 0.25  # of labels that are asked for, colours of hair apart, the share that is so already
TOLD = 0.8  # of signs, which are -0.8 and 0.9 on the two sides of a smile
SHARE, OFTEN = 0.25, 2
NOISE = 0.7  # standard deviations, on what critics see: they would tell fakes by trifles otherwise
SHRUNK, JITTER, BLURRED = 0.3, 0.2, 0.35  # least share of a view that translators see, noise on it
DISTANCE = 0.36  # of descriptors, from which on it is dear


class Critic(nn.Module):
    """What judges would say (B, J) and the mean of the views (B, COMPONENTS) -> a score, and logits of labels."""

    def __init__(self, inputs: int, labels: int = 0, width: int = 128) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.utils.spectral_norm(nn.Linear(inputs, width)), nn.LeakyReLU(0.2),
            nn.utils.spectral_norm(nn.Linear(width, width)), nn.LeakyReLU(0.2),
        )  # fmt: skip
        self.score, self.named = nn.Linear(width, 1), nn.Linear(width, labels) if labels else None

    def forward(self, observed: Tensor) -> tuple[Tensor, Tensor | None]:
        hidden = self.body(observed + NOISE * torch.randn_like(observed))
        return self.score(hidden)[:, 0], None if self.named is None else self.named(hidden)


def glimpse(x: Tensor) -> Tensor:
    """A view as an inversion gives it, which explains some of a face by offsets instead: codes of photos lie nearer the
    middle than those of generated faces, in every part of the rows by as much as it happens."""
    parts = x.unflatten(1, (3, -1))
    share = SHRUNK + (1 - SHRUNK) * torch.rand(len(x), 3, 1)
    whole = torch.rand(len(x), 1, 1) < 0.4
    return torch.where(whole, parts, share * parts + JITTER * torch.randn_like(parts)).flatten(1)


class Sampler:
    """Batches of rows of a table, at the end some inverted faces: at most SHARE, and of OFTEN faces one."""

    def __init__(self, data: Table, rows: np.ndarray, inverted: int | None = None) -> None:
        rows = torch.from_numpy(rows)
        self.data, self.plain, self.inverted = data, rows[rows < data.generated], rows[rows >= data.generated]
        self.last = min(int(SHARE * BATCH), len(self.inverted) // OFTEN if inverted is None else inverted)

    def rows(self) -> Tensor:
        some = self.plain[torch.randint(len(self.plain), (BATCH - self.last,))]
        return torch.cat([some, self.inverted[torch.randint(len(self.inverted), (self.last,))]]) if self.last else some

    def glimpse(self, x: Tensor) -> Tensor:
        """Of a batch: inverted faces are seen as they are, but so blurred that they cannot be known by heart."""
        inverted = x[BATCH - self.last :]
        return torch.cat([glimpse(x[: BATCH - self.last]), inverted + BLURRED * torch.randn_like(inverted)])

    def unblurred(self, seen: Tensor, x: Tensor) -> Tensor:
        """The batch as it was seen, inverted faces as they are: their moves do as little as theirs do."""
        return torch.cat([seen[: BATCH - self.last], x[BATCH - self.last :]])

    def known(self, response: Response, rows: Tensor) -> Tensor:
        """What faces are like (B, J): what is read, and of what judges say beyond that as much as lasts."""
        read, scores = response.read(self.data.x[rows])[:, : response.judges], self.data.scores[rows]
        return read + response.lasting * torch.where(scores.isfinite(), scores - read, 0.0)


def observed(
    response: Response, known: Tensor, x: Tensor, amounts: Tensor, seen: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """What a critic sees of faces with these scores after a move, and what `read` changed by; seen: what the translator
    saw, for moves of inversions do less."""
    change = response.change(x, amounts, seen)
    middle = response.moved(x, amounts).unflatten(1, (3, -1)).mean(1)
    return torch.cat([known + change[:, : response.judges], middle], 1), change


def kept(
    response: Response, x: Tensor, amounts: Tensor, change: Tensor, fixed: Tensor, identity: float | Tensor
) -> Tensor:
    """What it costs to have changed: who somebody is, judges (B, J) or (J,) that were to stay, and large moves."""
    distance = response.distance(x, amounts)
    lost = distance + 20 * F.relu(distance - DISTANCE).square()
    others = (change[:, : response.judges].square() * fixed).sum(1)
    size = (amounts / response.limits).abs().sum(1)
    return (identity * lost + 0.15 * others + 0.05 * size).mean()


def least_squares(critic: Critic, seen: Tensor, wanted: float) -> Tensor:
    return (critic(seen)[0] - wanted).square().mean()


def signs_of(data: Table, sides: Sequence[np.ndarray], columns: Sequence[int]) -> Tensor:
    """Weights (J,) of these judges, by least squares: their sum is below 0 on faces of the first side, above on those
    of the other, and -1 and 1 where they tell for certain."""
    below, above = (data.scores[torch.from_numpy(side)][:, list(columns)].nan_to_num() for side in sides)
    x, y = torch.cat([below, above]), torch.cat([-torch.ones(len(below), 1), torch.ones(len(above), 1)])
    solved = torch.linalg.solve(x.T @ x + 0.1 * len(x) * torch.eye(x.shape[1]), x.T @ y)[:, 0]
    return torch.zeros(data.scores.shape[1]).index_copy(0, torch.tensor(list(columns)), solved)


def cyclegan(
    teachers: Sequence[Response], data: Table, scores: np.ndarray, actions: Actions, pair: Pair, steps: int = STEPS,
    seed: int = 0, report: Callable[[int, dict[str, float]], None] = lambda step, losses: None,
) -> tuple[Translator, Translator]:  # fmt: skip
    """Translators from A to B and from B to A.  scores (N, J): as judges say them, of data's faces."""
    torch.manual_seed(seed)
    sides = [np.flatnonzero(domain.holds(scores)) for domain in (pair.a, pair.b)]
    samplers = [Sampler(data, side) for side in sides]
    if min(len(sampler.plain) for sampler in samplers) < 50:
        raise UsageError(f"There are only {[len(sampler.plain) for sampler in samplers]} faces of the two domains.")
    fewer = min(sampler.last for sampler in samplers)  # as many on both sides: critics would tell them by that
    samplers = [Sampler(data, side, fewer) for side in sides]
    inputs = data.scores.shape[1] + data.x.shape[1] // 3
    makers, critics = [Translator(len(actions)) for _ in sides], [Critic(inputs) for _ in sides]
    allowed = torch.tensor([float(pair.regressions or "/" not in name) for name in actions.names])
    for maker in makers:
        maker.limits.copy_(actions.limits * allowed[:, None])
    fixed = torch.tensor([float(name not in (pair.judge, *pair.free)) for name in NAMES])
    column = NAMES.index(pair.judge)
    threshold = float((pair.threshold - data.mean[column]) / data.std[column])
    others = [NAMES.index(name) for name in pair.free if name != pair.judge]
    telling = signs_of(data, sides, others) if pair.signs else torch.zeros(len(NAMES))
    adam_g = torch.optim.Adam([p for maker in makers for p in maker.parameters()], lr=RATE, betas=(0.5, 0.99))
    adam_d = torch.optim.Adam([p for critic in critics for p in critic.parameters()], lr=RATE, betas=(0.5, 0.99))
    for step in range(steps):
        rate = RATE * min(1.0, 2 * (1 - step / steps))
        for group in adam_g.param_groups + adam_d.param_groups:
            group["lr"] = rate
        response = teachers[step % len(teachers)]
        rows = [sampler.rows() for sampler in samplers]
        x = [data.x[some] for some in rows]
        known = [sampler.known(response, some) for sampler, some in zip(samplers, rows, strict=True)]
        total, fakes = torch.zeros(()), []
        losses: dict[str, float] = {}
        for here in (0, 1):
            there, sign = 1 - here, 1 - 2 * here
            glimpsed = samplers[here].glimpse(x[here])
            amounts = makers[here](glimpsed)
            glimpsed = samplers[here].unblurred(glimpsed, x[here])
            seen, change = observed(response, known[here], x[here], amounts, glimpsed)
            fakes.append(seen.detach())
            fooled = least_squares(critics[there], seen, 1.0)
            back = makers[there](response.moved(x[here], amounts))
            cycle = ((amounts + back) / response.limits).abs().mean()
            same = (makers[here](x[there]) / response.limits).abs().mean()
            crossed = F.relu(pair.beyond[here] - sign * (seen[:, column] - threshold)).mean()
            if pair.signs:
                crossed = crossed + 0.7 * F.relu(TOLD - sign * (seen[:, : len(NAMES)] @ telling)).mean()
            stayed = kept(response, x[here], amounts, change, fixed, pair.identity)
            total = total + 0.3 * fooled + 5 * cycle + 2 * same + 2 * crossed + stayed
            losses |= {f"gan{here}": fooled.item(), f"cycle{here}": cycle.item(), f"same{here}": same.item(),
                       f"crossed{here}": crossed.item(), f"kept{here}": stayed.item()}  # fmt: skip
        adam_g.zero_grad(set_to_none=True)
        total.backward()
        adam_g.step()
        found = torch.zeros(())
        for here in (0, 1):
            real, _ = observed(response, known[here], x[here], torch.zeros(BATCH, len(actions)))
            fake = fakes[1 - here]
            found = found + least_squares(critics[here], real, 1.0) + least_squares(critics[here], fake, 0.0)
        adam_d.zero_grad(set_to_none=True)
        found.backward()
        adam_d.step()
        if step % 500 == 499:
            report(step + 1, losses | {"critics": found.item()})
    return makers[0], makers[1]


def asked(truth: Tensor, believed: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Somebody asks for one label of each face, mostly for what it is not, but ALREADY of the time for what it is.
    truth (B, L) of 0 and 1, believed (B, L) -> what is believed with it set, the truth then, its column (B,)."""
    column = torch.randint(truth.shape[1], (len(truth),), generator=rng)
    value = 1 - truth[torch.arange(len(truth)), column]
    value = torch.where(torch.rand(len(truth), generator=rng) < ALREADY, 1 - value, value)
    value = torch.where(torch.isin(column, torch.tensor(sum(COLUMNS, []))), 1.0, value)  # no colour is no wish
    return *(with_label(labels, column, value, COLUMNS) for labels in (believed, truth)), column


def read_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Of labels (B, L) that are read: of a group one holds, of the others each or not."""
    alone = [column for column in range(truth.shape[1]) if column not in sum(COLUMNS, [])]
    loss = F.binary_cross_entropy_with_logits(logits[:, alone], truth[:, alone])
    return loss + sum(F.cross_entropy(logits[:, columns], truth[:, columns].argmax(1)) for columns in COLUMNS) / 2


def stargan(
    teachers: Sequence[Response], data: Table, scores: np.ndarray, actions: Actions, steps: int = 2 * STEPS,
    seed: int = 0, report: Callable[[int, dict[str, float]], None] = lambda step, losses: None,
) -> StarTranslator:  # fmt: skip
    """One translator for all of LABELS.  scores (N, J): as judges say them, of data's faces."""
    torch.manual_seed(seed)
    rng = torch.Generator().manual_seed(seed)
    names, labels, sampler = list(LABELS), torch.from_numpy(labels_of(scores)), Sampler(data, np.arange(len(data.x)))
    maker = StarTranslator(len(actions), len(names))
    critic = Critic(data.scores.shape[1] + data.x.shape[1] // 3, len(names))
    maker.inner.limits.copy_(actions.limits)
    fixed = torch.stack(
        [torch.tensor([float(j not in (LABELS[n].judge, *FREE[n])) for j in NAMES]) for n in names]
        + [torch.ones(len(NAMES))]
    )
    identity = torch.tensor([0.1 if name in ("male", "young") else 1.3 for name in names] + [1.0])
    judged = torch.tensor([NAMES.index(LABELS[name].judge) for name in names])
    bounds = torch.tensor([(LABELS[n].bound - data.mean[j]) / data.std[j] for n, j in zip(names, judged, strict=True)])
    signs = torch.tensor([float(LABELS[name].sign) for name in names])
    beyond = torch.tensor([FLIPPED if name in ("male", "young") else NEARER for name in names])
    brown = torch.tensor([name == "brown_hair" for name in names])  # which lies between two thresholds
    adam_g = torch.optim.Adam(maker.parameters(), lr=RATE, betas=(0.5, 0.99))
    adam_d = torch.optim.Adam(critic.parameters(), lr=RATE, betas=(0.5, 0.99))
    for step in range(steps):
        rate = RATE * min(1.0, 2 * (1 - step / steps))
        for group in adam_g.param_groups + adam_d.param_groups:
            group["lr"] = rate
        response, some = teachers[step % len(teachers)], sampler.rows()
        x, before, known = data.x[some], labels[some], sampler.known(response, some)
        glimpsed = sampler.glimpse(x)
        believed = maker.labels(glimpsed, COLUMNS)
        wish, after, column = asked(before, believed.detach(), rng)
        amounts = maker(glimpsed, believed.detach(), wish)
        seen, change = observed(response, known, x, amounts, sampler.unblurred(glimpsed, x))
        score, logits = critic(seen)
        back = maker(response.moved(x, amounts), wish, believed.detach())
        cycle = ((amounts + back) / response.limits).abs().mean()
        named = F.binary_cross_entropy_with_logits(logits, after)
        margin = signs * (seen[:, judged] - bounds)  # of every label's own judge
        below = torch.where(brown, -margin[:, names.index("blond_hair"), None], torch.inf)
        margin = torch.minimum(margin, below)
        wanted = 2 * after - 1
        moves = (before != after).float()
        there = 1 - moves.amax(1)
        same = ((amounts / response.limits).abs().mean(1) * there).sum() / there.sum().clamp(min=1)
        crossed = (F.relu(beyond - wanted * margin) * moves).sum(1).mean()
        column = torch.where(there == 1, -1, column)  # then everything is to stay
        stayed = kept(response, x, amounts, change, fixed[column], identity[column])
        plain = BATCH - sampler.last  # labels of a few inverted faces could be learned by heart
        read = read_loss(maker.read(glimpsed[:plain]), before[:plain])
        fooled = (score - 1).square().mean()
        total = 0.3 * fooled + 0.3 * named + 5 * cycle + 2 * same + 2 * crossed + stayed + read
        adam_g.zero_grad(set_to_none=True)
        total.backward()
        adam_g.step()
        real, real_logits = critic(observed(response, known, x, torch.zeros_like(amounts))[0])
        fake, _ = critic(seen.detach())
        found = (real - 1).square().mean() + fake.square().mean()
        found = found + F.binary_cross_entropy_with_logits(real_logits, before)
        adam_d.zero_grad(set_to_none=True)
        found.backward()
        adam_d.step()
        if step % 500 == 499:
            losses = {"gan": fooled, "named": named, "cycle": cycle, "same": same, "crossed": crossed,
                      "kept": stayed, "read": read}  # fmt: skip
            report(step + 1, {key: value.item() for key, value in losses.items()} | {"critic": found.item()})
    return maker


def split(faces: Mapping[str, np.ndarray], moves: Mapping[str, np.ndarray], count: int = TRAINED):
    """Those of the first `count` faces."""
    mine = moves["face"] < count
    return {k: v[:count] for k, v in faces.items()}, {k: v[mine] for k, v in moves.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("faces", type=Path)
    parser.add_argument("moves", type=Path, nargs="+")
    parser.add_argument("--inverted", type=Path, help="inverted faces and their moves, of editing.heads.inverted")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="*", help="of the pairs ('young-old'), stargan and instagan")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    known = [*(f"{a}-{b}" for a, b in PAIRS), "stargan", "instagan"]
    for name in options.only or ():
        if name not in known:
            raise UsageError(f"There is no {name!r} to train; there are {', '.join(known)}.")
    file = options.out / "cyclegan.safetensors"
    actions = moving.load_actions(options.moves[0] / "actions.safetensors")
    for folder in (*options.moves[1:], *([options.inverted] if options.inverted else [])):
        if not moving.load_actions(folder / "actions.safetensors").same(actions):
            raise UsageError(f"{folder} was made with other actions than {options.moves[0]}.")
    paired = [name for name in options.only or () if "-" in name]
    old = next(iter(load(file).values())).family if paired and file.exists() else None
    tables = [moving.load(folder) for folder in options.moves]
    joined = {key: np.concatenate([part[key] for part in tables]) for key in tables[0]}
    faces, moves = split(sampling.load(options.faces), joined)
    inverted = inverting.load(options.inverted) if options.inverted else None
    data = table(faces, moves, inverted)
    scores = np.concatenate([faces["scores"], *([inverted[0]["scores"]] if inverted else [])])
    if old is not None and not (
        old.actions.same(actions) and torch.allclose(old.whitening.basis, data.whitening.basis, atol=1e-2)
    ):
        raise UsageError(f"{file} has other actions or is of other faces: train all ways, or choose another folder.")
    print(f"{len(data.x)} faces, {len(data.face)} moves", flush=True)
    teachers = taught(data, actions, options.out, lambda line: print(line, flush=True))

    def report(step: int, losses: dict[str, float]) -> None:
        print(step, *(f"{key} {value:.3f}" for key, value in losses.items()), flush=True)

    ways: dict[str, Translator] = dict(old.translators) if old else {}
    for (a, b), pair in PAIRS.items():
        if options.only and f"{a}-{b}" not in options.only:
            continue
        print(f"cyclegan {a} {b}", flush=True)
        ways[f"{a}2{b}"], ways[f"{b}2{a}"] = cyclegan(teachers, data, scores, actions, pair, report=report)
        save(Family("cyclegan", data.whitening, actions, ways), file)
    if not options.only or "instagan" in options.only:
        ways, regions = {}, {}
        for (a, b), (pair, places) in INSTANCES.items():
            print(f"instagan {a} {b}", flush=True)
            ways[f"{a}2{b}"], ways[f"{b}2{a}"] = cyclegan(teachers, data, scores, actions, pair, report=report)
            regions |= dict(zip((f"{a}2{b}", f"{b}2{a}"), places, strict=True))
        family = Family("instagan", data.whitening, actions, ways, regions=regions)
        save(family, options.out / "instagan.safetensors")
    if options.only and "stargan" not in options.only:
        return
    print("stargan", flush=True)
    star = {"all": stargan(teachers, data, scores, actions, report=report)}
    save(Family("stargan", data.whitening, actions, star, list(LABELS), GROUPS), options.out / "stargan.safetensors")


if __name__ == "__main__":
    console.plain(main)
