"""The disentangled form of a direction: what it moves besides its target is taken back, by measurement.

    python -m editing.directions.disentangle work/ --photos aligned/ --leakiest 10    # goes on where it was killed
    python -m editing.directions.disentangle work/ --collect                          # into the shipped catalogue

A direction that is orthogonal to all other judges' slopes still leaks: slopes are averages over whole codes, and an
edit goes far, on some rows.  So it is measured, in rounds.  Each draws half of the faces after the form that every end
of every edit has so far, the first two after the one that the catalogue has.  Disturbances on top tell what small
moves of the code do just there (`probing`), so a sum of moves is known that takes the leak back while the target stays:
the form of the next round.  What the moves do is never known exactly, so a step counts on being wrong by `DOUBT` of its
length: it is short where little is gained.  Both ends are done apart, since much of a leak is the same whichever way
one goes: the form is linear on either side of 0.  How well the best form does is then measured on the faces that the
catalogue's other figures come from.
"""

from __future__ import annotations

import argparse
import json
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from editing.directions.calibrate import MEASURED, Case, aim, cases, generated, invert, limit, move
from editing.directions.catalogue import MERGED, Catalogue, Direction, leak, load, save
from editing.directions.probing import Effects, Seen, added, disturbances, effects, foretold, look, moves
from stylegan2 import checkpoints, zoo
from stylegan2.allocator import tune_allocator
from stylegan2.errors import UsageError
from stylegan2.files import replacing
from stylegan2.generator import Generator

SEEDS, FACES, JUDGED = range(64, 233), 160, 40  # not those that the catalogue's figures come from
ROUNDS = 10
KEPT, PROMISED = 0.83, 0.8  # of the target's movement: asked for here, and on other faces
STRONGER, WEAK = 2, 1.15  # times that a form is made stronger there, and how much at most
ROOM = 0.975  # of the drift that an edit may have, where the form is looked for
FAR, LEAST, BOLDER, CAREFUL = 0.4, 0.04, 1.2, 0.7  # how long a step may be, must be, and the factors of the first
DOUBT, SURELY, NOISE = 0.1, (0.04, 0.3), 0.03  # sds a judge is wrong by for a step of 1; its bounds; without any step
RESTARTS = 8
SOFT = 0.05  # standard deviations: what a mean over so many faces is worth on others; a smaller leak may be none


@dataclass(frozen=True)
class Found:
    """A form of one end on the faces that forms are looked for on: amounts (K + 1,) of the moves and of what it began
    with, the mean movements of all judges (J,), its leakage, its share of the target's movement under the plain edit,
    and its median drift."""

    amounts: np.ndarray
    change: np.ndarray
    leak: float
    kept: float
    drift: float


@dataclass(frozen=True)
class End:
    """One end of an edit's range: the target and the way it goes there (1 or -1), what the median drift may be, what
    the plain edit adds there (16, 512) and what the form that the search begins with does, and how far the plain edit
    moves the target of the `JUDGED` faces (None: not known yet)."""

    name: str
    side: int
    target: int
    way: int
    most: float
    plain: Tensor
    begun: Tensor
    own: float | None = None

    def found(self, seen: Seen, known: Effects, amounts: np.ndarray) -> Found:
        change, drift = foretold(seen, known, amounts)
        judged, _ = foretold(seen.with_faces(np.arange(JUDGED)), known, amounts)
        kept = float(judged[self.target] / self.own)
        return Found(amounts, change, leak(change, self.target), kept, drift)

    def worth(self, found: Found) -> float:
        """The less the better: its leakage, and what it drifts too far once it is as strong as it must be."""
        if found.kept <= 0:
            return np.inf
        return found.leak + 2 * max(0.0, found.drift * max(1.0, KEPT / found.kept) / self.most - 1)


def ends_of(direction: Direction) -> list[End]:
    target, towards = aim(direction)
    sides = [side for side in (0, 1) if direction.safe_range[side]]
    return [End(direction.name, side, target, towards * (1, -1)[side == 0], ROOM * limit(direction),
                plain(direction) * direction.safe_range[side], begun(direction, side)) for side in sides]  # fmt: skip


def correction(end: End, found: Found, known: Effects, far: float, doubt: float) -> np.ndarray:
    """The amounts (K + 1,) on top of a form's own after which it is expected to leak least.

    Its target keeps moving enough, it drifts no further than it may, and the step is no longer than `far`.  doubt: by
    how many standard deviations a judge is expected to be wrong for a step of 1.
    """
    count, need = len(found.change) - 1, KEPT / found.kept * end.way * found.change[end.target]
    others = np.arange(count + 1) != end.target

    def cost(a: np.ndarray) -> tuple[float, np.ndarray]:
        moved = found.change + a @ known.judges
        along = max(end.way * moved[end.target], 1e-3)
        ratio = moved[others] / along
        soft = np.sqrt(ratio**2 + (SOFT**2 + doubt**2 * (a @ a)) / need**2)
        value, slope = soft.sum() / count + 1e-4 * (a @ a), np.zeros(len(moved))
        slope[others] = ratio / soft / count / along
        slope[end.target] = -end.way * (ratio**2 / soft).sum() / count / along
        gradient = known.judges @ slope + a * (doubt**2 / need**2 * (1 / soft).sum() / count + 2e-4)
        before, after = found.amounts[:-1], found.amounts[:-1] + a[:-1]
        scale = 1 + a[-1] / (1 + found.amounts[-1])
        far_off = np.sqrt(max((found.drift * scale) ** 2 + known.drift @ (after**2 - before**2), 1e-4))
        away = np.append(known.drift * after, found.drift**2 * scale / (1 + found.amounts[-1])) / far_off
        for over, change in (
            (1 - along / need, -end.way * known.judges[:, end.target] / need),
            (far_off / end.most - 1, away / end.most),
            (np.linalg.norm(a) / far - 1, a / (np.linalg.norm(a) + 1e-9) / far),
        ):
            if over > 0:
                value += 20 * over**2
                gradient = gradient + 40 * over * change
        return float(value), gradient

    amounts = np.zeros(len(found.amounts))
    for _ in range(RESTARTS):  # a line search gives up where a bound begins
        done = minimize(cost, amounts, jac=True, method="L-BFGS-B", options={"maxiter": 500})
        amounts = done.x
        if done.success:
            break
    return amounts


@dataclass
class Search:
    """One end's forms, a list of amounts, the last not yet looked at; how far a step may go and how it is doubted."""

    end: End
    tried: list[np.ndarray]
    far: float = FAR
    doubt: float = DOUBT
    stepped: float = 0.0
    over: bool = False
    known: Effects | None = None  # as the last step was told
    places: dict[int, np.ndarray] = field(default_factory=dict)  # where the half that begins with a face was seen last

    def best(self, seen: Seen, known: Effects) -> Found:
        return min((self.end.found(seen, known, amounts) for amounts in self.tried), key=self.end.worth)

    def last(self, seen: Seen, known: Effects) -> Found:
        """A step on from the best form by all that is known in the end, not looked at any more."""
        best = self.best(seen, known)
        return strengthened(self.end.found(seen, known, best.amounts + correction(self.end, best, known, FAR, DOUBT)))

    def go_on(self, earlier: Seen, now: Seen, known: Effects) -> str:
        """The next form, from the best so far as all that was seen now tells it."""
        last, half, seen = self.tried[-1], int(now.face[0]), Seen.joined([earlier, now])
        here, best = self.end.found(seen, known, last), self.best(seen, known)
        if self.known is not None:
            if half in self.places:
                told, _ = foretold(earlier.with_faces(now.face), self.known, last)
                was, _ = foretold(now, known, last)
                self.doubted(told, was, float(np.linalg.norm(last - self.places[half])))
            self.far = self.far * BOLDER if best.amounts is last else CAREFUL * min(self.far, self.stepped)
        self.known, self.places[half] = known, last
        step = correction(self.end, best, known, self.far, self.doubt)
        self.stepped = float(np.linalg.norm(step))
        self.over = self.stepped < LEAST
        if not self.over:
            self.tried.append(best.amounts + step)
        return (
            f"{self.end.name} {'-+'[self.end.side]}: {here.leak:.3f}, kept {here.kept:.2f}, drift {here.drift:.3f} of "
            f"{self.end.most:.3f}; a step of {self.stepped:.2f} from {best.leak:.3f}, doubted by {self.doubt:.2f}"
        )

    def doubted(self, told: np.ndarray, was: np.ndarray, reach: float) -> None:
        """What was foretold of a half so far from where it had been seen, and what it did."""
        wrong = max(0.0, float(((told - was) ** 2).mean()) - NOISE**2)
        self.doubt = float(np.clip(np.sqrt(0.6 * self.doubt**2 + 0.4 * wrong / max(reach, LEAST) ** 2), *SURELY))


def plain(direction: Direction) -> Tensor:
    """The direction's own vector as rows (16, 512)."""
    rows = torch.zeros(MERGED, 512)
    rows[slice(*direction.rows)] = direction.vector
    return rows


def begun(direction: Direction, side: int) -> Tensor:
    """What the form that a direction has on this side, or its own vector, adds at the end of its range (16, 512)."""
    vector = plain(direction) if direction.clean is None else direction.clean[side]
    return vector * direction.safe_range[side]


def searched(looks: Looks, ends: Sequence[End]) -> list[Found]:
    """The best form of every end."""
    count, ways = len(looks.faces), len(looks.moves)
    nothing = np.zeros((count, ways + 1))
    searches = [Search(end, [nothing[0]]) for end in ends]
    seen, now = [[] for _ in ends], {}
    for turn in range(ROUNDS):
        half = np.array_split(range(count), 2)[turn // 2 % 2]
        going = [k for k, search in enumerate(searches) if not search.over]
        for k in going:
            amounts = searches[k].tried[-1] + disturbances(k, turn, count, ways)
            looks.do(f"{ends[k].name}.{ends[k].side}.{turn:02d}", half, ends[k].begun, amounts)
        for k in going:
            now[k] = looks.done(f"{ends[k].name}.{ends[k].side}.{turn:02d}")
            row = disturbances(k, turn, count, ways)[now[k].face[0]]
            searches[k].tried[-1] = now[k].amounts[0] - row  # what was really looked at, by whichever part came first
        if turn == 1:
            for k in going:
                searches[k].end = judged(looks, ends[k])
        if turn:  # nothing differs yet after the first
            known = effects([Seen.joined([*seen[k], *([now[k]] if k in going else [])]) for k in range(len(ends))])
            for k in going if turn < ROUNDS - 1 else ():
                print(f"  {turn}: {searches[k].go_on(Seen.joined(seen[k]), now[k], known[k])}", flush=True)
        for k in going:
            seen[k].append(now[k])
    return [search.last(Seen.joined(seen[k]), known[k]) for k, search in enumerate(searches)]


def strengthened(found: Found) -> Found:
    """A form that keeps as much of the edit as it must: as much more of all of it as is missing."""
    factor = max(1.0, KEPT / found.kept)
    amounts = found.amounts * factor
    amounts[-1] += factor - 1
    return Found(amounts, found.change * factor, found.leak, found.kept * factor, found.drift * factor)


def judged(looks: Looks, end: End) -> End:
    """An end that knows what the plain edit moves."""
    name, nothing = f"{end.name}.{end.side}.plain", np.zeros((len(looks.faces), len(looks.moves) + 1))
    looks.do(name, range(JUDGED), end.plain, nothing)
    return replace(end, own=float(np.nanmean(looks.done(name).change[:, end.target])))


@dataclass(frozen=True)
class Looks:
    """What was seen, kept in files of `work`; each of several parts looks at its share of the faces."""

    generator: Generator
    faces: Sequence[Case]
    moves: Tensor
    work: Path
    part: tuple[int, int] = (0, 1)

    def do(self, name: str, which: Sequence[int], begun: Tensor, amounts: np.ndarray) -> None:
        """Look at this part's share of some faces after amounts (faces, K + 1), if it was not looked at before."""
        path, own = self._path(name, self.part[0]), which[self.part[0] :: self.part[1]]
        if not path.exists():
            seen = look(self.generator, self.faces, own, begun, self.moves, amounts)
            with replacing(path) as unfinished, open(unfinished, "wb") as stream:
                np.savez(stream, **vars(seen))

    def done(self, name: str) -> Seen:
        """All parts' share, once it is there."""
        parts = []
        for path in (self._path(name, number) for number in range(self.part[1])):
            while not path.exists():
                time.sleep(5)
            with np.load(path) as table:
                parts.append(Seen(**{key: table[key] for key in table.files}))
        return Seen.joined(parts)

    def _path(self, name: str, part: int) -> Path:
        return self.work / f"{name}.{part}.npz"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--photos", type=Path, help="a folder of aligned photos, as for calibrate")
    parser.add_argument("--leakiest", type=int, help="only so many, those that leak most")
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--part", nargs=2, type=int, default=(0, 1), metavar=("K", "N"))
    parser.add_argument("--collect", action="store_true")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    tune_allocator()
    catalogue = load()
    if options.collect:
        save(Catalogue([collected(options.work, direction) for direction in catalogue.values()]))
        return
    generator = checkpoints.load(zoo.path("mobilestylegan-ffhq-1024"))
    ranged = [name for name, direction in catalogue.items() if direction.safe_range]
    names = sorted(ranged, key=lambda name: -catalogue[name].leaks)[: options.leakiest]
    names = [n for n in options.only or names if not catalogue[n].styles]
    faces = cases(generator, generated(generator, SEEDS))[:FACES]
    looks = Looks(generator, faces, moves(), options.work, tuple(options.part))
    ends = [end for name in names for end in ends_of(catalogue[name])]
    same_search(options.work, ends)
    forms = searched(looks, ends)
    photos = invert(generator, options.photos, options.work) if options.photos else []
    shown = cases(generator, [*generated(generator, MEASURED), *photos])
    for name in names[options.part[0] :: options.part[1]]:
        if not (options.work / f"{name}.clean.npz").exists():
            sides = {end.side: added(end.begun, moves(), found.amounts) / catalogue[name].safe_range[end.side]
                     for end, found in zip(ends, forms, strict=True) if end.name == name}  # fmt: skip
            measure(generator, shown, catalogue[name], sides, options.work)


def same_search(work: Path, ends: Sequence[End]) -> None:
    """UsageError if the folder holds what was seen of other ends, or of other forms of them."""
    about = {f"{end.name}.{end.side}": zlib.crc32(end.begun.numpy().tobytes()) for end in ends}
    path = work / "search.json"
    if not path.exists():
        with replacing(path) as part:
            part.write_text(json.dumps(about))
    if json.loads(path.read_text()) != about:
        raise UsageError(f"{work} holds a search for other edits, or from other forms of them: take an empty folder.")


def measure(generator: Generator, faces: Sequence[Case], direction: Direction, sides: dict[int, Tensor], work: Path
            ) -> None:  # fmt: skip
    """The form of each side (16, 512), for a strength of 1, or the former one where that does better on these faces,
    and how well it does: into `work`."""
    vectors, best = torch.zeros(2, MERGED, 512), []
    for side, vector in sides.items():
        tried = [measured(generator, faces, direction, side, vector)]
        if direction.clean is not None:
            tried.append(measured(generator, faces, direction, side, direction.clean[side]))
        good = [one for one in tried if one.kept >= PROMISED and one.drift < limit(direction)]
        best.append(min(good or tried, key=lambda one: one.leak))
        vectors[side] = best[-1].vector
    facts = {"leak": np.mean([one.leak for one in best]), "kept": min(one.kept for one in best),
             "drift": max(one.drift for one in best)}  # fmt: skip
    told = ", ".join(f"{name} {value:.3f}" for name, value in facts.items())
    print(f"{direction.name}, on the faces of the catalogue's figures: {told}", flush=True)
    with replacing(work / f"{direction.name}.clean.npz") as part, open(part, "wb") as stream:
        np.savez(stream, vector=vectors.numpy(), **facts)


@dataclass(frozen=True)
class Measured:
    """A form of one side (16, 512): its leakage, its share of the plain edit's movement and its median drift."""

    vector: Tensor
    leak: float
    kept: float
    drift: float


def measured(generator: Generator, faces: Sequence[Case], direction: Direction, side: int, vector: Tensor) -> Measured:
    """Drawn and judged; one that is a little too weak is made stronger and drawn again."""
    (target, towards), end = aim(direction), direction.safe_range[side]
    for _ in range(STRONGER + 1):
        moved = move(generator, faces, replace(direction, vector=vector, rows=(0, MERGED)), end)
        change = np.nan_to_num(np.nanmean(moved.change, 0))
        kept = float(np.sign(end) * towards * change[target]) / abs(direction.ends[side])
        found = Measured(vector, leak(change, target), kept, float(np.nanmedian(moved.drift)))
        if not PROMISED / WEAK < kept < PROMISED:
            break
        vector = vector * (1.01 * PROMISED / kept)
    return found


def collected(work: Path, direction: Direction) -> Direction:
    """The direction with the form that `work` has for it, if that leaks less than what it has (on all faces), keeps the
    edit and the person."""
    path = work / f"{direction.name}.clean.npz"
    if not path.exists():
        return direction
    facts = np.load(path)
    figures = {name: round(float(facts[name]), 3) for name in ("leak", "kept", "drift")}
    least = direction.leaks if direction.clean is None else direction.clean_figures["leak"]
    if figures["leak"] >= least or figures["kept"] < PROMISED or figures["drift"] >= limit(direction):
        print(f"{direction.name}: left as it was, {figures}")
        return direction
    return replace(direction, clean=torch.from_numpy(facts["vector"]).float(), clean_figures=figures)


if __name__ == "__main__":
    main()
