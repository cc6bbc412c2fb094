"""Disentangling where the truth is known: the others go back, the target stays, both sides of 0 are done apart."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from editing.directions import disentangle, files
from editing.directions.calibrate import Case, Moved
from editing.directions.catalogue import Direction, disentangled, leak
from editing.directions.disentangle import Found
from editing.directions.probing import Effects
from editing.judges import population
from editing.steps import checked_sha256, chosen
from editing.types import latent_step
from stylegan2.errors import CheckpointError, UsageError

SIDES = torch.stack([torch.full((16, 512), -1.0), torch.ones(16, 512)])


def found(change, target=0, drift=0.1):
    change = np.array(change)
    return Found(torch.zeros(16, 512), change, leak(change, target), abs(change[target]), drift)


def corrected(form, effects, kept, drift=9.0, far=100.0, doubt=1e-4, away=0.0):
    known = Effects(np.array(effects), np.full(len(effects), away))
    return disentangle.correction(form, 0, known, kept, drift, far, doubt)


def test_a_correction_takes_the_others_back_and_leaves_the_target():
    random = np.random.default_rng(0)
    effects = 0.2 * random.standard_normal((12, 6)) + np.vstack([np.eye(6), np.eye(6)])
    effects[:, 2] += 0.4 * effects[:, 0]  # entangled with the target
    for sign in (1, -1):
        form = found([2.0 * sign, 0.5, 1.0, -0.7, 0.0, 0.3])
        after = form.change + corrected(form, effects, 2.0) @ effects
        assert sign * after[0] > 1.95
        assert leak(after, 0) < 0.1 * form.leak


def test_the_mean_of_absolutes_is_what_falls():
    """Two leaks that cannot both be taken back: least squares would meet between them."""
    form = found([1.0, 2.0, 0.2])
    taken = corrected(form, [[0.0, -1.0, -2.0], [0.0, -1.0, 0.0]], 1.0)
    assert form.change + taken @ np.array([[0.0, -1.0, -2.0], [0.0, -1.0, 0.0]]) == pytest.approx([1, 0, 0], abs=0.05)
    (taken,) = corrected(form, [[0.0, -1.0, -0.9]], 1.0)
    assert taken == pytest.approx(2.0, abs=0.05)


def test_a_correction_is_no_longer_than_it_may_be_and_shorter_where_it_is_doubtful():
    form, effects = found([2.0, 3.0, -3.0]), np.vstack([np.eye(3), np.eye(3)])
    assert np.linalg.norm(corrected(form, effects, 2.0, far=0.5)) == pytest.approx(0.5, abs=0.02)
    sure, doubtful = (corrected(form, effects, 2.0, doubt=doubt) for doubt in (0.01, 1.5))
    assert np.linalg.norm(doubtful) < 0.7 * np.linalg.norm(sure)
    (taken,) = corrected(found([1.0, 0.02]), [[0.0, -1.0]], 1.0, doubt=2.0)
    assert abs(taken) < 0.005  # nothing is worth a step that is known so badly


def test_a_correction_drifts_no_further_than_it_may():
    form, effects = found([2.0, 1.0, 0.0], drift=0.3), np.eye(3)
    step = corrected(form, effects, 2.0, drift=0.4, away=0.2)
    assert np.sqrt(form.drift**2 + 0.2 * step @ step) < 0.41
    assert np.linalg.norm(corrected(form, effects, 2.0, away=0.2)) > 1.3 * np.linalg.norm(step)


def test_an_update_explains_what_was_seen_and_leaves_other_ways_as_they_were():
    random = np.random.default_rng(0)
    effects, step, moved = random.standard_normal((5, 3)), random.standard_normal(5), random.standard_normal(3)
    after = disentangle.updated(Effects(effects, np.zeros(5)), step, moved).judges
    assert step @ after == pytest.approx(moved)
    other = random.standard_normal(5)
    other -= step * (other @ step) / (step @ step)
    assert other @ after == pytest.approx(other @ effects)


def test_leak_is_movement_of_the_others_for_one_of_the_target():
    assert leak(np.array([2.0, 1.0, -1.0]), 0) == 0.5
    assert leak(np.array([-2.0, np.nan, 1.0]), 0) == 0.5


@pytest.fixture
def linear(monkeypatch):
    """Judges that are linear in what is added to the code, and one, `exposure`, that rises on both sides of 0; moves,
    and what they do as it is known: not exactly."""
    names, _, _ = population.arrays()
    random = np.random.default_rng(1)
    response = torch.from_numpy(random.standard_normal((len(names), 16, 512)) / 512**0.5).float()
    moves = torch.from_numpy(random.standard_normal((4 * len(names), 16, 512)) / 40).float()

    def move(generator, faces, direction, strength):
        change = strength * torch.einsum("jrc,rc->j", response, disentangle.plain(direction)).numpy()
        change[names.index("exposure")] += abs(strength) * 0.5
        return Moved(np.tile(change, (len(faces), 1)), np.full(len(faces), 0.1 * abs(strength)))

    monkeypatch.setattr(disentangle, "move", move)
    monkeypatch.setattr(disentangle, "FAR", 100.0)  # these judges move by dozens of standard deviations
    effects = torch.einsum("jrc,krc->kj", response, moves).numpy()
    effects += 0.3 * effects.std() * random.standard_normal(effects.shape)
    return moves, Effects(effects, np.full(len(moves), 1e-4))


def test_both_sides_lose_what_they_leak(linear):
    moves, known = linear
    faces = [Case(None, None)] * 3
    vector = torch.randn(512, generator=torch.Generator().manual_seed(0))
    smile = Direction("smile", vector, (0, 16), judge="smile", safe_range=(-2.0, 2.0))
    if disentangle.measured(None, faces, smile, disentangle.plain(smile), 2.0).kept < 0:
        smile = replace(smile, vector=-smile.vector)
    forms = []
    for side, end in enumerate((-2.0, 2.0)):
        own = disentangle.measured(None, faces, smile, disentangle.plain(smile), end)
        form = disentangle.clean_side(None, faces, smile, side, moves, known)
        assert form.leak < 0.5 * own.leak and form.kept > 0.83 * own.kept
        forms.append(form)
    again = replace(smile, clean=torch.stack([form.vector for form in forms]))
    for side in (0, 1):  # and it goes on from the form that a direction has
        assert disentangle.clean_side(None, faces, again, side, moves, known).leak <= forms[side].leak + 1e-6


def test_a_form_that_drifts_too_far_is_not_kept(linear, monkeypatch):
    moves, known = linear
    smile = Direction("smile", torch.ones(512), (0, 16), judge="smile", safe_range=(0.0, 2.0))
    move = disentangle.move

    def strangers(generator, faces, direction, strength):  # whoever is corrected becomes another person
        own = bool((direction.vector == 1).all())
        return replace(move(generator, faces, direction, strength), drift=np.full(len(faces), 0.2 if own else 0.9))

    monkeypatch.setattr(disentangle, "move", strangers)
    form = disentangle.clean_side(None, [Case(None, None)], smile, 1, moves, known)
    assert torch.equal(form.vector, torch.ones(16, 512))


def test_a_form_that_loses_its_target_is_made_stronger():
    form = found([1.0, 0.2]).scaled(1.5)
    assert (form.kept, form.leak, form.drift) == pytest.approx((1.5, 0.2, 0.15)) and form.change[1] == pytest.approx(
        0.3
    )


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
    kept = disentangle.collected(tmp_path, plain)
    assert torch.equal(kept.clean, SIDES) and kept.clean_figures == {"leak": 0.123, "kept": 0.9, "drift": 0.2}
    for wrong in ({"leak": 0.21}, {"kept": 0.7}, {"drift": 0.46}):
        figures = {"leak": 0.1, "kept": 0.9, "drift": 0.2} | wrong
        np.savez(tmp_path / "mine.clean.npz", vector=SIDES.numpy(), **figures)
        assert disentangle.collected(tmp_path, plain) is plain
    np.savez(tmp_path / "mine.clean.npz", vector=SIDES.numpy() * 2, leak=0.13, kept=0.9, drift=0.2)
    assert disentangle.collected(tmp_path, kept) is kept  # what it has leaks less
    np.savez(tmp_path / "mine.clean.npz", vector=SIDES.numpy() * 2, leak=0.11, kept=0.9, drift=0.2)
    assert torch.equal(disentangle.collected(tmp_path, kept).clean, SIDES * 2)


def test_a_shared_file_carries_the_form_and_a_wrong_shape_is_refused(tmp_path):
    mine = Direction("mine", torch.ones(512), (0, 16), clean=SIDES, clean_figures={"leak": 0.1})
    files.write(tmp_path / "a.safetensors", [mine])
    (read,) = files.read(tmp_path / "a.safetensors")
    assert torch.equal(read.clean, SIDES) and read.clean_figures == {"leak": 0.1}
    assert files.same(read, mine) and not files.same(read, Direction("mine", torch.ones(512), (0, 16)))
    files.write(tmp_path / "b.safetensors", [Direction("mine", torch.ones(512), (0, 16), clean=torch.ones(512))])
    with pytest.raises(CheckpointError, match="disentangled form"):
        files.read(tmp_path / "b.safetensors")
