"""Directions from a formula of judges, or from two folders of photos.

Both live in whitened W, where a direction is the change that the prior finds least unusual.  `slopes` are the judges'
gradients there, from regression on thousands of generated faces (`fit`): a formula is a sum of them, and "keep" is
conditional projection (InterFaceGAN, Shen et al., arXiv 2005.09635, sec. 3.3), orthogonal to those of the judges kept.
Examples are told apart by a linear SVM on their codes, as InterFaceGAN tells scores apart.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from editing.directions.catalogue import Direction
from editing.directions.fit import SLOPES, conditional
from editing.directions.sampling import JUDGES
from editing.session import Editor
from stylegan2 import console, w_statistics
from stylegan2.errors import UsageError, WplusError

ROWS = (0, 16)
TERM = re.compile(r"\s*([+-]?)\s*(?:(\d+(?:\.\d+)?)\s*\*?\s*)?([a-z_]+)\s*")
FEWEST = 3  # photos on each side


@cache
def slopes() -> dict[str, np.ndarray]:
    """Judge -> its gradient (512,) in whitened W: standard deviations of the judge per one of the code."""
    return {name: slope.numpy() for name, slope in load_file(SLOPES).items()}


def parse(formula: str) -> dict[str, float]:
    """'smile - 0.5 * mouth_open' -> {'smile': 1.0, 'mouth_open': -0.5}.  UsageError for anything else."""
    weights: dict[str, float] = {}
    position = 0
    while position < len(formula):
        match = TERM.match(formula, position)
        if match is None or (position and not match[1]):
            raise UsageError(f"A formula adds judges, for example 'smile - 0.5 * mouth_open'; not '{formula}'.")
        weights[checked(match[3])] = weights.get(match[3], 0.0) + float(match[2] or 1) * (-1 if match[1] == "-" else 1)
        position = match.end()
    if not any(weights.values()):
        raise UsageError("The formula says nothing: no judge is left in it.")
    return weights


def checked(name: str) -> str:
    if name not in slopes():
        raise UsageError(console.unknown("judges", name, JUDGES))
    return name


def from_formula(name: str, formula: str, keep: tuple[str, ...] = ()) -> Direction:
    """The steepest way up a weighted sum of judges, each in its own standard deviations."""
    gradient = sum(weight * slopes()[judge] for judge, weight in parse(formula).items())
    return directed(name, gradient, keep, f"formula: {formula.strip()}")


def from_examples(name: str, positive: np.ndarray, negative: np.ndarray, keep: tuple[str, ...] = ()) -> Direction:
    """Whitened codes (n, 512) of photos with and without something -> what tells them apart, towards the first.

    UsageError if there are too few, or scikit-learn is missing.
    """
    if min(len(positive), len(negative)) < FEWEST:
        raise UsageError(f"There are {len(positive)} and {len(negative)} photos; {FEWEST} on each side is the least.")
    try:
        from sklearn.svm import LinearSVC
    except ImportError:
        raise UsageError("Fitting examples needs scikit-learn: pip install 'wplus[train]'.") from None
    labels = np.repeat([1, 0], [len(positive), len(negative)])
    machine = LinearSVC(C=1e-3, class_weight="balanced", max_iter=5000, random_state=0)
    machine.fit(np.concatenate([positive, negative]), labels)
    return directed(name, machine.coef_[0], keep, f"examples: {len(positive)} with, {len(negative)} without")


def directed(name: str, gradient: np.ndarray, keep: tuple[str, ...], source: str) -> Direction:
    """A gradient in whitened W, less what moves the judges kept -> a Direction of unit length in W."""
    others = np.stack([slopes()[checked(judge)] for judge in keep], 1) if keep else np.empty((len(gradient), 0))
    left = conditional(np.asarray(gradient, dtype=np.float64), others)
    if np.linalg.norm(left) < 1e-6 * np.linalg.norm(gradient):
        raise UsageError("Nothing is left of the direction once the judges that are kept are taken out.")
    statistics = w_statistics.load()
    vector = torch.from_numpy(left).float() * statistics.stdev @ statistics.components
    keeping = f", keeping {', '.join(keep)}" if keep else ""
    return Direction(name, vector / vector.norm(), ROWS, "own", source + keeping)


def codes(editor: Editor, folder: Path, aligned: bool, failed: list[WplusError]) -> np.ndarray:
    """Photos of a folder -> whitened codes (n, 512) by the encoder, mean over rows; what fails goes to `failed`."""
    from editing.batch import find_photos

    if not folder.is_dir():
        raise UsageError(f"There is no folder {folder}.")
    found = []
    for path in sorted(find_photos(folder)):
        try:
            ws = editor.set_photo(path, method="encoder", aligned=aligned).ws
        except WplusError as error:
            failed.append(error)
            continue
        found.append(w_statistics.load().whiten(ws)[0].mean(0).numpy())
    return np.array(found).reshape(-1, 512)
