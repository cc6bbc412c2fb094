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
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from editing.directions.catalogue import Catalogue, Direction, load, save
from editing.directions.named import FITTED, GANSPACE, Fitted
from editing.directions.sampling import JUDGES
from editing.directions.sampling import load as load_samples
from stylegan2 import w_statistics
from stylegan2.files import replacing

NUM_WS = 16
SLOPES = Path(__file__).with_name("slopes.safetensors")  # the gradient of every judge, for `own`
ADULT = 22  # years; growing up is another change than ageing
RIDGE = 100.0


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


def fitted(table: dict[str, np.ndarray], entries: tuple[Fitted, ...] = FITTED) -> list[Direction]:
    """Labelled samples (see `sampling`) -> one unit direction per entry."""
    statistics = w_statistics.load()
    u = statistics.whiten(torch.from_numpy(table["w"])).numpy()
    directions = []
    for entry in entries:
        fits = slice(None)
        if entry.older_than is not None:
            fits = table["scores"][:, JUDGES.index("age")] > entry.older_than
        slopes = gradients(u[fits], standardise(table["scores"][fits]))
        others = slopes[:, [JUDGES.index(name) for name in entry.keep]]
        gradient = conditional(slopes[:, JUDGES.index(entry.judge)], others)
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


def described(entry: Fitted) -> str:
    """How a direction was fitted, in one line."""
    keeping = ", keeping " + ", ".join(entry.keep) if entry.keep else ""
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


def standardise(scores: np.ndarray) -> np.ndarray:
    """Scores (N, J) -> zero mean, unit deviation per judge."""
    return (scores - scores.mean(0)) / scores.std(0)


def held_out_correlations(table: dict[str, np.ndarray]) -> dict[str, tuple[float, float]]:
    """Per judge: correlation with its score on every fifth sample, of (ridge, linear SVM on high against low)."""
    from sklearn.svm import LinearSVC

    u = w_statistics.load().whiten(torch.from_numpy(table["w"])).numpy()
    scores, test = standardise(table["scores"]), np.arange(len(u)) % 5 == 0
    slopes, result = gradients(u[~test], scores[~test]), {}
    for index, name in enumerate(JUDGES):
        score = scores[:, index]
        low, high = np.quantile(score[~test], (0.3, 0.7))
        ends = ~test & ((score <= low) | (score > high))
        svm = LinearSVC(C=1e-3, max_iter=5000).fit(u[ends], score[ends] > high)
        both = (slopes[:, index], svm.coef_[0])
        result[name] = tuple(float(np.corrcoef(u[test] @ normal, score[test])[0, 1]) for normal in both)
    return result


def judge_slopes(table: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """Labelled samples -> judge: its gradient (512,) in whitened W, standardised; that of age among adults."""
    u, result = w_statistics.load().whiten(torch.from_numpy(table["w"])).numpy(), {}
    adults = table["scores"][:, JUDGES.index("age")] > ADULT
    for index, name in enumerate(JUDGES):
        fits = adults if name == "age" else slice(None)
        scores = standardise(table["scores"][fits])[:, index : index + 1]
        result[name] = torch.from_numpy(gradients(u[fits], scores)[:, 0]).float()
    return result


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
    fresh = [*fitted(table), *ganspace()]
    if options.only is not None:
        kept = load()
        fresh = [new if new.name in options.only or new.name not in kept else kept[new.name] for new in fresh]
    save(Catalogue(fresh))
    print(f"{len(fresh)} directions written; now run editing.directions.calibrate")


if __name__ == "__main__":
    main()
