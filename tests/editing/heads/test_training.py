"""Training latent heads, on faces whose judges are formulas."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from editing.heads import fit, moves
from editing.heads.actions import FITTED, HELD, MERGED, ROWS, Actions, make, partial_regressions
from editing.heads.response import fit as fit_response
from editing.heads.response import table
from editing.judges.judge import NAMES
from stylegan2.errors import UsageError

AGE = NAMES.index("age")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Small matrices: as fast with one, and the same sums on every machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def world():
    """Age goes with one axis of w, hair with another; the descriptor with a third.  Two actions move age, one of them
    who somebody is, too."""
    rng = np.random.default_rng(0)
    w = rng.standard_normal((800, 512)).astype(np.float32) * 0.5
    w[:, :8] *= 4  # what varies most
    axes = np.eye(512, dtype=np.float32)

    def judged(w):
        scores = np.zeros((len(w), len(NAMES)), np.float32)
        scores += 0.1 * rng.standard_normal(scores.shape)
        scores[:, AGE] = 35 + 8 * w[:, 0]
        scores[:, NAMES.index("hair_light")] = 30 + 10 * w[:, 1]
        scores[:, NAMES.index("male")] = 5 * w[:, 3]
        descriptor = np.zeros((len(w), 128), np.float32)
        descriptor[:, 0] = 0.3 * w[:, 2]
        return scores, descriptor

    def rows(*pairs):
        return sum(size * np.tile(axes[axis], (MERGED, 1)) for axis, size in pairs)

    vectors = torch.from_numpy(np.stack([rows((0, 1.0)), rows((0, 1.0), (2, 1.5)), rows((1, 1.0))]).astype(np.float32))
    actions = Actions(["clean", "costly", "hair"], vectors, torch.tensor([[-4.0, 4.0]] * 3))
    amounts = rng.uniform(-4, 4, (1500, 3)).astype(np.float32) * (rng.random((1500, 3)) < 0.6)
    face = rng.integers(0, len(w), len(amounts))
    after = judged(w[face] + amounts @ vectors[:, 0].numpy())
    scores, descriptor = judged(w)
    faces = {"w": w, "scores": scores, "descriptor": descriptor}
    return faces, {"face": face, "amounts": amounts, "scores": after[0], "descriptor": after[1]}, actions


@pytest.fixture(scope="module")
def learned(world):
    faces, moved, actions = world
    data = table(faces, moved)
    return data, *fit_response(data, actions, steps=500)


def test_a_response_tells_what_moves_change(world, learned):
    _, response, explained = learned
    assert explained[AGE] > 0.9 and explained[-1] > 0.2  # age, and the distance of descriptors
    none = torch.zeros(5, 3)
    assert (response.change(torch.randn(5, 192), none) == 0).all()
    assert response.distance(none).max() < 0.01


def test_cyclegan_goes_over_and_back_by_what_costs_least(world, learned):
    faces, _, actions = world
    data, response, _ = learned
    pair = fit.PAIRS[("young", "old")]
    there, back = fit.cyclegan(response, data, faces["scores"], actions, pair, steps=400)
    young = torch.from_numpy(np.flatnonzero(pair.a.holds(faces["scores"])))
    x = data.x[young]
    with torch.no_grad():
        amounts = there(x)
        scores, _ = response(x, amounts)
        returned = back(response.moved(x, amounts))
        old = torch.from_numpy(np.flatnonzero(pair.b.holds(faces["scores"])))
        still = there(data.x[old])
    threshold = (pair.threshold - data.mean[AGE]) / data.std[AGE]
    assert (scores[:, AGE] > threshold).float().mean() > 0.9
    assert amounts[:, 0].mean() > 2 * amounts[:, 1].abs().mean()  # the clean way
    assert (amounts + returned).abs().mean() < 0.5 * amounts.abs().mean()
    assert still.abs().mean() < 0.35 * amounts.abs().mean()


def test_a_pair_may_do_without_partial_regressions(world, learned):
    faces, _, actions = world
    data, response, _ = learned
    named = replace(actions, names=["clean", "age/coarse", "hair"])
    pair = replace(fit.PAIRS[("young", "old")], regressions=False)
    for maker in fit.cyclegan(response, data, faces["scores"], named, pair, steps=1):
        assert maker.limits[:, 1].tolist() == [4, 0, 4] and (maker(data.x[:9])[:, 1] == 0).all()


def test_stargan_sets_one_label_and_leaves_others(world, learned):
    faces, _, actions = world
    data, response, _ = learned
    star = fit.stargan(response, data, faces["scores"], actions, steps=400)
    labels = torch.from_numpy(fit.labels_of(faces["scores"]))
    column = list(fit.LABELS).index("young")
    old = labels[:, column] == 0
    wanted = labels.clone()
    wanted[:, column] = 1
    with torch.no_grad():
        amounts = star(data.x, labels, wanted)
        scores, _ = response(data.x, amounts)
    assert (amounts[~old] == 0).all()
    bound = (fit.LABELS["young"].bound - data.mean[AGE]) / data.std[AGE]
    assert (scores[old, AGE] < bound).float().mean() > 0.8
    assert amounts[old, 2].abs().mean() < 0.5 * amounts[old, :2].abs().sum(1).mean()  # hair stays


def test_labels_of_a_group_exclude_each_other(world):
    labels = fit.labels_of(world[0]["scores"])
    colours = labels[:, [list(fit.LABELS).index(name) for name in fit.GROUPS[0]]]
    assert (colours.sum(1) == 1).all() and (colours.sum(0) > 0).all()
    after, _ = fit.flipped(torch.from_numpy(labels), torch.Generator().manual_seed(0))
    assert (after[:, :3].sum(1) == 1).all()
    changed = (after.numpy() != labels).sum(1)
    assert changed.max() <= 2 and (changed > 0).mean() > 0.7


def test_too_few_faces_of_a_domain(world, learned):
    faces, _, actions = world
    data, response, _ = learned
    scores = faces["scores"].copy()
    scores[:, AGE] = 20
    with pytest.raises(UsageError, match="only"):
        fit.cyclegan(response, data, scores, actions, fit.PAIRS[("young", "old")], steps=1)


def test_partial_regressions_hold_the_others():
    """Two judges go together in the population; each has an axis of w of its own."""
    rng = np.random.default_rng(1)
    names = [*FITTED, *HELD]
    scores = rng.standard_normal((4000, len(names)))
    scores[:, 1] = 0.8 * scores[:, 0] + 0.6 * scores[:, 1]
    w = np.zeros((4000, 512))
    w[:, : len(names)] = scores
    found = partial_regressions({"scores": scores.astype(np.float32), "w": w}, names)
    for i, name in enumerate(FITTED):
        expected = np.zeros(512)
        expected[i] = scores[:, i].std()
        np.testing.assert_allclose(found[name], expected, atol=1e-3)


def test_actions_and_random_moves():
    rng = np.random.default_rng(2)
    samples = {
        "scores": rng.standard_normal((500, len(NAMES))).astype(np.float32),
        "w": rng.standard_normal((500, 512)),
    }
    actions = make(samples, list(NAMES))
    assert len(actions.names) == len(set(actions.names)) == len(actions.vectors) == len(actions.limits)
    low, high = actions.limits.numpy().T
    for together in (False, True):
        for number in range(200):
            amounts = moves.amounts(actions, number, together)
            assert (amounts >= low - 1e-6).all() and (amounts <= high + 1e-6).all() and amounts.any()
            assert (amounts == moves.amounts(actions, number, together)).all()
            if not together:
                assert (amounts != 0).sum() <= moves.MOST
    grouped = moves.amounts(actions, 3, True)
    rows = [[actions.names.index(f"{name}/{part}") for part in ROWS] for name in FITTED]
    assert any(np.abs(grouped[row]).min() > 0 and np.ptp(np.sign(grouped[row])) == 0 for row in rows)


def test_moves_are_kept_in_files(tmp_path):
    rng = np.random.default_rng(3)
    actions = Actions(["a", "b"], torch.randn(2, MERGED, 512), torch.tensor([[-1.0, 1.0]] * 2))
    moves.save(actions, tmp_path / "actions.safetensors")
    back = moves.load_actions(tmp_path / "actions.safetensors")
    assert list(back.names) == ["a", "b"] and torch.equal(back.vectors, actions.vectors)
    with pytest.raises(UsageError, match="editing.heads.moves"):
        moves.load(tmp_path)
    with pytest.raises(UsageError, match="missing"):
        moves.load_actions(tmp_path / "nothing.safetensors")
    descriptor = rng.standard_normal((4, 128)).astype(np.float32)
    descriptor[1] = np.nan  # no face was found
    np.savez(
        tmp_path / "0.npz", face=np.arange(4), amounts=np.zeros((4, 2)), scores=np.zeros((4, 3)), descriptor=descriptor
    )
    assert moves.load(tmp_path)["face"].tolist() == [0, 2, 3]
