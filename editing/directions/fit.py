"""Fit directions from labelled samples, and build the catalogue from them and from GANSpace's table.

    python -m editing.directions.sampling out/ --count 2000     # seeds 1000000.., psi 0.8, with scores
    python -m editing.directions.fit out/                       # writes the shipped catalogue, uncalibrated
    python -m editing.directions.calibrate                      # measures every entry on generated faces

InterFaceGAN (Shen et al., arXiv 2005.09635) takes the normal of a linear SVM between high and low
scores.  Here the scores are numbers, so a ridge regression on them sees more (the held-out correlation
of both is printed), and it is fitted in whitened W: its gradient there is the direction that changes the
judge most for the least departure from the prior.  Conditional projection (their sec. 3.3) makes it
orthogonal, in whitened space, to the gradients of the judges that should stay.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from editing.directions.catalogue import Catalogue, Direction, load, save
from editing.directions.named import FITTED, GANSPACE, STYLES, Fitted
from editing.directions.sampling import JUDGES
from editing.directions.sampling import load as load_samples
from editing.directions.stylespace import of_channels
from editing.judges import population
from stylegan2 import checkpoints, w_statistics, zoo
from stylegan2.files import replacing

NUM_WS = 16
SLOPES = Path(__file__).with_name("slopes.safetensors")  # the gradient of every judge, for `own`
ADULT = 22  # years; growing up is another change than ageing
RIDGE = 100.0
SOFTNESS, IDENTITY = 3.0, 3.0  # weight of the other judges, and of the descriptor's numbers against theirs


def gradients(u: np.ndarray, scores: np.ndarray, ridge: float = RIDGE) -> np.ndarray:
    """Whitened codes (N, 512) and standardised scores (N, J) -> ridge coefficients (512, J)."""
    centred = u - u.mean(0)
    return np.linalg.solve(centred.T @ centred + ridge * np.eye(u.shape[1]), centred.T @ (scores - scores.mean(0)))


def conditional(gradient: np.ndarray, others: np.ndarray) -> np.ndarray:
    """gradient (512,) without its components along `others` (512, K): the part that leaves those judges alone."""
    if not others.shape[1]:
        return gradient
    basis, _ = np.linalg.qr(others)
    return gradient - basis @ (basis.T @ gradient)


def softly(gradient: np.ndarray, others: np.ndarray, weight: float) -> np.ndarray:
    """gradient (512,), others (512, K) -> (1 + weight O O^T)^-1 gradient: the less it moves the others, the more they
    weigh.  Conditional projection is the limit; with sixty judges, many of which tell of one thing (teeth and a smile),
    that would leave nothing.
    """
    inner = np.eye(others.shape[1]) / weight + others.T @ others
    return gradient - others @ np.linalg.solve(inner, others.T @ gradient)


def fitted(table: dict[str, np.ndarray], entries: tuple[Fitted, ...] = FITTED) -> list[Direction]:
    """Labelled samples (see `sampling`) -> one unit direction per entry."""
    statistics = w_statistics.load()
    u = statistics.whiten(torch.from_numpy(table["w"])).numpy()
    everyone, identity = slopes_of(u, table["scores"]), gradients(u, table["descriptor"])
    adults = table["scores"][:, JUDGES.index("age")] > ADULT
    directions = []
    for entry in entries:
        slopes = everyone if entry.older_than is None else slopes_of(u[adults], table["scores"][adults])
        index = JUDGES.index(entry.judge.lstrip("-"))
        gradient = slopes[:, index] * (-1 if entry.judge.startswith("-") else 1)
        if entry.keep is None:
            others = np.concatenate([np.delete(slopes, index, 1), identity * IDENTITY], 1)
            firm = slopes[:, [JUDGES.index(name) for name in entry.firm if name != entry.judge]]
            gradient = conditional(softly(gradient, others, SOFTNESS), firm)
        else:
            gradient = conditional(gradient, slopes[:, [JUDGES.index(name) for name in entry.keep]])
        vector = torch.from_numpy(gradient).float() * statistics.stdev @ statistics.components
        directions.append(
            Direction(
                name=entry.name,
                vector=vector / vector.norm(),
                rows=entry.rows,
                group=entry.group,
                source=described(entry),
                description=entry.description,
                judge=entry.judge,
            )
        )
    return directions


def slopes_of(u: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Whitened codes (N, 512), scores (N, J) with nan where unseen -> gradients (512, J), standardised per judge."""
    columns = []
    for column in scores.T:
        seen = np.isfinite(column)
        columns.append(gradients(u[seen], standardise(column[seen, None]))[:, 0])
    return np.stack(columns, 1)


def described(entry: Fitted) -> str:
    """How a direction was fitted, in one line."""
    keeping = ", keeping " + ", ".join(entry.keep) if entry.keep else ""
    if entry.keep is None:
        keeping = ", softly keeping all else" + (f", firmly {', '.join(entry.firm)}" if entry.firm else "")
    older = "" if entry.older_than is None else f", on faces judged older than {entry.older_than:g}"
    return f"fitted: {entry.judge}{keeping}{older}"


def ganspace() -> list[Direction]:
    """GANSpace's published edits for StyleGAN2-FFHQ that were verified by eye: a component times its stdev."""
    statistics = w_statistics.load()
    return [
        Direction(
            name=entry.name,
            vector=entry.sign * statistics.components[entry.component] * statistics.stdev[entry.component],
            rows=(entry.rows[0], min(entry.rows[1], NUM_WS)),
            group=entry.group,
            source=f"GANSpace component {entry.component}, rows {entry.rows[0]} to {entry.rows[1] - 1}",
            description=entry.description,
            judge=entry.judge,
        )
        for entry in GANSPACE
    ]


def single_channels() -> list[Direction]:
    """StyleSpace's edits of the default generator."""
    generator = checkpoints.load(zoo.path("mobilestylegan-ffhq-1024"))
    return [
        replace(
            of_channels(generator, entry.channels, entry.name, entry.description), group=entry.group, judge=entry.judge
        )
        for entry in STYLES
    ]


def standardise(scores: np.ndarray) -> np.ndarray:
    """Scores (N, J) -> zero mean, unit deviation per judge."""
    return (scores - scores.mean(0)) / scores.std(0)


def held_out_correlations(table: dict[str, np.ndarray]) -> dict[str, tuple[float, float]]:
    """Per judge: correlation with its score on every fifth sample, of (ridge, linear SVM on high against low)."""
    from sklearn.svm import LinearSVC

    u = w_statistics.load().whiten(torch.from_numpy(table["w"])).numpy()
    scores, test, result = table["scores"], np.arange(len(u)) % 5 == 0, {}
    for index, name in enumerate(JUDGES):
        seen = np.isfinite(scores[:, index])
        score, fits, unseen = standardise(scores[seen])[:, index], ~test[seen], test[seen]
        codes = u[seen]
        low, high = np.quantile(score[fits], (0.3, 0.7))
        ends = fits & ((score <= low) | (score > high))
        svm = LinearSVC(C=1e-3, max_iter=5000).fit(codes[ends], score[ends] > high)
        both = (gradients(codes[fits], score[fits, None])[:, 0], svm.coef_[0])
        result[name] = tuple(float(np.corrcoef(codes[unseen] @ normal, score[unseen])[0, 1]) for normal in both)
    return result


def judge_slopes(table: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """Labelled samples -> judge: its gradient (512,) in whitened W, standardised; that of age among adults."""
    u, scores = w_statistics.load().whiten(torch.from_numpy(table["w"])).numpy(), table["scores"]
    slopes, index = slopes_of(u, scores), JUDGES.index("age")
    adults = scores[:, index] > ADULT
    slopes[:, index] = slopes_of(u[adults], scores[adults][:, [index]])[:, 0]
    return {name: torch.from_numpy(slopes[:, i].copy()).float() for i, name in enumerate(JUDGES)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="what editing.directions.sampling wrote")
    parser.add_argument("--only", nargs="*", help="names of directions to fit again; the others stay as they are")
    options = parser.parse_args()
    table = load_samples(options.folder)
    print(f"{len(table['w'])} samples; held-out correlation with the judge, ridge and SVM:")
    for name, (ridge, svm) in held_out_correlations(table).items():
        print(f"  {name:12} {ridge:5.2f} {svm:5.2f}")
    with replacing(SLOPES) as part:
        save_file(judge_slopes(table), part)
    means, spreads = np.nanmean(table["scores"], 0), np.nanstd(table["scores"], 0)
    facts = {n: [round(float(m), 4), round(float(s), 4)] for n, m, s in zip(JUDGES, means, spreads, strict=True)}
    with replacing(population.FILE) as part:
        part.write_text(json.dumps(facts, indent=1) + "\n")
    fresh = [*fitted(table), *ganspace(), *single_channels()]
    if options.only is not None:
        kept = load()
        fresh = [new if new.name in options.only or new.name not in kept else kept[new.name] for new in fresh]
    save(Catalogue(fresh))
    print(f"{len(fresh)} directions written; now run editing.directions.calibrate")


if __name__ == "__main__":
    main()
