"""Disentangling where the truth is known: the others go back, the target stays, both sides of 0 are done apart."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from editing.directions import disentangle, files
from editing.directions.calibrate import Case, Moved
from editing.directions.catalogue import Direction, disentangled, leak
from editing.judges import population
from editing.steps import checked_sha256, chosen
from editing.types import latent_step
from stylegan2.errors import CheckpointError, UsageError

SIDES = torch.stack([torch.full((16, 512), -1.0), torch.ones(16, 512)])


@pytest.fixture(autouse=True)
def effects_are_exact(monkeypatch):
    monkeypatch.setattr(disentangle, "DAMPED", 0.02)
    monkeypatch.setattr(disentangle, "FAR", 100.0)


def test_a_correction_takes_the_others_back_and_leaves_the_target():
    random = np.random.default_rng(0)
    effects = 0.2 * random.standard_normal((12, 6)) + np.vstack([np.eye(6), np.eye(6)])
    effects[:, 2] += 0.4 * effects[:, 0]  # entangled with the target
    moved = np.array([2.0, 0.5, 1.0, -0.7, 0.0, 0.3])
    after = moved + disentangle.correction(moved, 0, effects, 2.0, 0.01) @ effects
    assert after[0] == pytest.approx(2.0, abs=0.02)
    assert np.abs(after[1:]).mean() < 0.1 * np.abs(moved[1:]).mean()
    more = moved + disentangle.correction(moved, 0, effects, 3.0, 0.01) @ effects
    assert more[0] == pytest.approx(3.0, abs=0.1)
    careful = disentangle.correction(moved, 0, effects, 2.0, 3.0)
    assert np.linalg.norm(careful) < np.linalg.norm(disentangle.correction(moved, 0, effects, 2.0, 0.01))


def test_small_leaks_count_for_more_than_their_square():
    """Two leaks that cannot both be taken back: the mean of absolutes is what should fall."""
    effects = np.array([[0.0, -1.0, -1.0], [1.0, 0.0, 0.0]])
    moved = np.array([1.0, 2.0, 0.2])
    step = disentangle.correction(moved, 0, effects, 1.0, 1e-6)
    taken = step[0]
    assert taken < (2.0 + 0.2) / 2 - 0.3  # least squares would meet in the middle, at 1.1


def test_a_correction_goes_no_further_at_once_than_effects_can_be_trusted(monkeypatch):
    monkeypatch.setattr(disentangle, "FAR", 0.5)
    effects = np.vstack([np.eye(3), np.eye(3)])
    moved = np.array([2.0, 3.0, -3.0])
    step = disentangle.correction(moved, 0, effects, 2.0, 0.01)
    assert np.linalg.norm(step) == pytest.approx(0.5)
    assert np.abs(moved + step @ effects)[1:].max() < 3.0


def test_an_update_explains_what_was_seen_and_leaves_other_ways_as_they_were():
    random = np.random.default_rng(0)
    effects, step, moved = random.standard_normal((5, 3)), random.standard_normal(5), random.standard_normal(3)
    after = disentangle.updated(effects, step, moved)
    assert step @ after == pytest.approx(moved)
    other = random.standard_normal(5)
    other -= step * (other @ step) / (step @ step)
    assert other @ after == pytest.approx(other @ effects)


def test_leak_is_movement_of_the_others_for_one_of_the_target():
    assert leak(np.array([2.0, 1.0, -1.0]), 0) == 0.5
    assert leak(np.array([-2.0, np.nan, 1.0]), 0) == 0.5


@pytest.fixture
def linear(monkeypatch):
    """Judges that are linear in what is added to the code, and one, `exposure`, that rises on both sides of 0."""
    names, _, _ = population.arrays()
    random = np.random.default_rng(1)
    response = torch.from_numpy(random.standard_normal((len(names), 16, 512)) / 512**0.5).float()
    moves = torch.from_numpy(random.standard_normal((2 * len(names), 16, 512)) / 40).float()

    def move(generator, faces, direction, strength):
        vector = torch.zeros(16, 512)
        vector[slice(*direction.rows)] = direction.vector
        change = strength * torch.einsum("jrc,rc->j", response, vector).numpy()
        change[names.index("exposure")] += abs(strength) * 0.5
        return Moved(np.tile(change, (len(faces), 1)), np.full(len(faces), 0.1 * abs(strength)))

    monkeypatch.setattr(disentangle, "move", move)
    return names, moves


def test_both_sides_lose_what_they_leak(linear, tmp_path):
    names, moves = linear
    faces = [Case(None, None)] * 3
    disentangle.jacobian(None, faces, moves, tmp_path, (0, 2))
    disentangle.jacobian(None, faces, moves, tmp_path, (1, 2))
    effects = np.stack([np.load(path) for path in sorted(tmp_path.glob("*.npy"))])
    vector = torch.randn(512, generator=torch.Generator().manual_seed(0))
    smile = Direction("smile", vector, (0, 16), judge="smile", safe_range=(-2.0, 2.0))
    before = [disentangle.judged(None, faces, smile, smile.vector.expand(16, -1), end)[0] for end in (-2.0, 2.0)]
    if before[1].kept < 0:
        smile = replace(smile, vector=-smile.vector)
    forms = []
    for side, end in enumerate((-2.0, 2.0)):
        own, _ = disentangle.judged(None, faces, smile, smile.vector.expand(16, -1), end)
        found = disentangle.clean_side(None, faces, smile, side, moves, effects)
        assert found.leak < 0.3 * own.leak and found.kept > 0.85 * own.kept
        forms.append(found)
    again = replace(smile, clean=torch.stack([found.vector for found in forms]))
    for side in (0, 1):  # and it goes on from the form that a direction has
        assert disentangle.clean_side(None, faces, again, side, moves, effects).leak <= forms[side].leak


def test_a_form_that_drifts_too_far_is_not_kept(linear, monkeypatch):
    _, moves = linear
    smile = Direction("smile", torch.ones(512), (0, 16), judge="smile", safe_range=(0.0, 2.0))
    move = disentangle.move

    def strangers(generator, faces, direction, strength):  # whoever is corrected becomes another person
        own = bool((direction.vector == 1).all())
        return replace(move(generator, faces, direction, strength), drift=np.full(len(faces), 0.2 if own else 0.9))

    monkeypatch.setattr(disentangle, "move", strangers)
    effects = np.eye(len(moves), len(population.load()))
    found = disentangle.clean_side(None, [Case(None, None)], smile, 1, moves, effects)
    assert torch.equal(found.vector, torch.ones(16, 512))


def test_a_direction_without_a_disentangled_form_says_so():
    plain = Direction("mine", torch.zeros(512), (0, 16))
    with pytest.raises(UsageError, match="no disentangled form"):
        disentangled(plain, 1.0)


def test_the_sign_of_the_strength_chooses_the_side_and_one_hash_holds_for_both():
    catalogue = {"mine": Direction("mine", torch.ones(512), (2, 5), clean=SIDES)}
    up, down = (
        latent_step("mine", strength).model_copy(update={"parameters": {"name": "mine", "strength": strength,
                                                                        "disentangle": True}})
        for strength in (1.0, -1.0)
    )  # fmt: skip
    assert torch.equal(chosen(up, catalogue).vector, SIDES[1]) and chosen(up, catalogue).rows == (0, 16)
    assert torch.equal(chosen(down, catalogue).vector, SIDES[0])
    assert checked_sha256(up, catalogue) == checked_sha256(down, catalogue)
    assert checked_sha256(up, catalogue) != checked_sha256(latent_step("mine", 1.0), catalogue)


def test_what_was_found_is_collected(tmp_path):
    plain = Direction("mine", torch.zeros(512), (0, 16), leakage={"age": 0.3, "smile": 0.1})
    assert disentangle.collected(tmp_path, plain) is plain
    np.savez(tmp_path / "mine.clean.npz", vector=SIDES.numpy(), leak=0.1234, kept=0.9, drift=0.2)
    found = disentangle.collected(tmp_path, plain)
    assert torch.equal(found.clean, SIDES) and found.clean_figures == {"leak": 0.123, "kept": 0.9, "drift": 0.2}
    for wrong in ({"leak": 0.21}, {"kept": 0.7}, {"drift": 0.46}):
        figures = {"leak": 0.1, "kept": 0.9, "drift": 0.2} | wrong
        np.savez(tmp_path / "mine.clean.npz", vector=SIDES.numpy(), **figures)
        assert disentangle.collected(tmp_path, plain) is plain
    np.savez(tmp_path / "mine.clean.npz", vector=SIDES.numpy() * 2, leak=0.13, kept=0.9, drift=0.2)
    assert disentangle.collected(tmp_path, found) is found  # what it has leaks less
    np.savez(tmp_path / "mine.clean.npz", vector=SIDES.numpy() * 2, leak=0.11, kept=0.9, drift=0.2)
    assert torch.equal(disentangle.collected(tmp_path, found).clean, SIDES * 2)


def test_a_shared_file_carries_the_form_and_a_wrong_shape_is_refused(tmp_path):
    mine = Direction("mine", torch.ones(512), (0, 16), clean=SIDES, clean_figures={"leak": 0.1})
    files.write(tmp_path / "a.safetensors", [mine])
    (found,) = files.read(tmp_path / "a.safetensors")
    assert torch.equal(found.clean, SIDES) and found.clean_figures == {"leak": 0.1}
    assert files.same(found, mine) and not files.same(found, Direction("mine", torch.ones(512), (0, 16)))
    files.write(tmp_path / "b.safetensors", [Direction("mine", torch.ones(512), (0, 16), clean=torch.ones(512))])
    with pytest.raises(CheckpointError, match="disentangled form"):
        files.read(tmp_path / "b.safetensors")
