"""Disentangling where the truth is known: the others go back, the target stays, both sides of 0 are done apart."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from editing.directions import disentangle, files, probing
from editing.directions.calibrate import Case, Moved
from editing.directions.catalogue import MERGED, Direction, disentangled, leak
from editing.directions.disentangle import End, Found, Search
from editing.directions.own import slopes
from editing.directions.probing import Effects, Seen
from editing.judges import population
from editing.steps import checked_sha256, chosen
from editing.types import latent_step
from stylegan2.errors import CheckpointError, UsageError

SIDES = torch.stack([torch.full((16, 512), -1.0), torch.ones(16, 512)])


def found(change, target=0, kept=1.0, drift=0.1):
    change = np.array(change)
    return Found(np.zeros(1), change, leak(change, target), kept, drift)


def end(way=1, most=9.0):
    return End("any", 1, 0, way, most, torch.zeros(MERGED, 512), torch.zeros(MERGED, 512))


def corrected(form, effects, kept=1.0, most=9.0, far=100.0, doubt=1e-4, away=0.0):
    """Amounts of the moves, and of the edit itself as the last, of a form that keeps so much more than it must."""
    form = replace(form, amounts=np.zeros(len(effects) + 1), kept=kept * disentangle.KEPT)
    known = Effects(np.vstack([effects, form.change]), np.full(len(effects), away))
    return disentangle.correction(end(int(np.sign(form.change[0])), most), form, known, far, doubt)


def after(form, effects, amounts):
    return form.change + amounts @ np.vstack([effects, form.change])


def test_a_correction_takes_the_others_back_and_leaves_the_target():
    random = np.random.default_rng(0)
    effects = 0.2 * random.standard_normal((12, 6)) + np.vstack([np.eye(6), np.eye(6)])
    effects[:, 2] += 0.4 * effects[:, 0]  # entangled with the target
    for sign in (1, -1):
        form = found([2.0 * sign, 0.5, 1.0, -0.7, 0.0, 0.3])
        moved = after(form, effects, corrected(form, effects))
        assert sign * moved[0] > 1.95
        assert leak(moved, 0) < 0.1 * form.leak


def test_the_mean_of_absolutes_is_what_falls(monkeypatch):
    """Two leaks that cannot both be taken back: least squares would meet between them."""
    monkeypatch.setattr(disentangle, "SOFT", 0.01)
    form, effects = found([1.0, 2.0, 0.2]), [[0.0, -1.0, -2.0], [0.0, -1.0, 0.0]]
    moved = after(form, effects, corrected(form, effects))
    assert moved / moved[0] == pytest.approx([1, 0, 0], abs=0.05)
    taken = corrected(form, [[0.0, -1.0, -0.9]])
    assert taken[0] / (1 + taken[1]) == pytest.approx(2.0, abs=0.05)


def test_a_correction_is_no_longer_than_it_may_be_and_shorter_where_it_is_doubtful():
    form, effects = found([2.0, 3.0, -3.0]), np.vstack([np.eye(3), np.eye(3)])
    assert np.linalg.norm(corrected(form, effects, far=0.5)) == pytest.approx(0.5, abs=0.02)
    sure, doubtful = (corrected(form, effects, doubt=doubt) for doubt in (0.01, 1.5))
    assert np.linalg.norm(doubtful) < 0.7 * np.linalg.norm(sure)
    taken = corrected(found([1.0, 0.02]), [[0.0, -1.0]], doubt=2.0)
    assert np.abs(taken).max() < 0.005  # nothing is worth a step that is known so badly


def test_a_correction_drifts_no_further_than_it_may():
    form, effects = found([2.0, 1.0, 0.0], drift=0.3), np.eye(3)
    *step, more = corrected(form, effects, most=0.4, away=0.2)
    assert np.sqrt((form.drift * (1 + more)) ** 2 + 0.2 * np.square(step).sum()) < 0.41
    assert np.linalg.norm(corrected(form, effects, away=0.2)[:-1]) > 1.15 * np.linalg.norm(step)


def test_a_form_that_loses_its_target_is_made_stronger_and_one_that_drifts_too_far_weaker():
    form = found([1.0, 0.0], drift=0.4)
    assert corrected(form, np.zeros((3, 2)), 1 / 1.2)[-1] == pytest.approx(0.2, abs=0.02)
    assert corrected(form, np.zeros((3, 2)), 2.0, most=0.3)[-1] == pytest.approx(-0.25, abs=0.02)


def test_of_two_forms_the_one_is_worth_more_that_keeps_the_edit_and_the_person():
    good, stranger, weak = found([1.0, 0.2]), found([1.0, 0.01], drift=0.5), found([1.0, 0.01], drift=0.38, kept=0.7)
    assert end(most=0.4).worth(good) == pytest.approx(0.2)
    assert end(most=0.4).worth(good) < min(end(most=0.4).worth(weak), end(most=0.4).worth(stranger))
    assert end(most=0.5).worth(weak) < end(most=0.5).worth(good)  # there is room to make it stronger
    assert end().worth(found([1.0, 0.01], kept=-0.5)) == np.inf


def test_leak_is_movement_of_the_others_for_one_of_the_target():
    assert leak(np.array([2.0, 1.0, -1.0]), 0) == 0.5
    assert leak(np.array([-2.0, np.nan, 1.0]), 0) == 0.5


NAMES = list(population.load())
SMILE = Direction("smile", torch.zeros(512), (0, 16), judge="smile", safe_range=(-2.0, 2.0), ends=(-1.0, 1.0))


class Truth:
    """Judges that are linear in what is added, one of them, `exposure`, that also rises on both sides of 0, and faces
    that differ.  Stands for `probing.look`; counts what it draws."""

    def __init__(self):
        random = np.random.default_rng(1)
        along = probing.STEP * probing.unit_slopes() @ np.stack([slopes()[name] for name in NAMES]).T
        shares = random.uniform(0, 1, (len(NAMES), len(probing.BANDS)))
        self.moves = np.einsum("ij,jb->ibj", along, shares).reshape(-1, len(NAMES))
        self.begun = [0.15 * random.standard_normal(len(NAMES)) for _ in (0, 1)]
        for sign, leaks in zip((-1, 1), self.begun, strict=True):
            leaks[NAMES.index("smile")], leaks[NAMES.index("exposure")] = sign, 0.5
        self.faces, self.random, self.drawn = random.normal(0, 0.4, (99, len(NAMES))), random, 0

    def __call__(self, generator, faces, which, begun, moves, amounts):
        side, which = int(begun[0, 0] > 0), np.array(which)
        own = amounts[which]
        change = own[:, :-1] @ self.moves + (1 + own[:, -1:]) * (self.begun[side] + self.faces[which])
        self.drawn += len(which)
        drift = np.sqrt(0.04 * (1 + own[:, -1]) ** 2 + 0.01 * (own[:, :-1] ** 2).sum(1))
        return Seen(which, own, change + 0.05 * self.random.standard_normal(change.shape), drift)


@pytest.fixture
def ends(monkeypatch):
    monkeypatch.setattr(disentangle, "begun", lambda direction, side: torch.full((16, 512), 2.0 * side - 1))
    monkeypatch.setattr(disentangle, "plain", lambda direction: torch.ones(16, 512) / 2)
    monkeypatch.setattr(disentangle, "ROUNDS", 8)
    return disentangle.ends_of(SMILE)


def looks(folder, truth, monkeypatch, part=(0, 1)):
    monkeypatch.setattr(disentangle, "look", truth)
    return disentangle.Looks(None, [None] * 60, torch.zeros(220, 1, 1), folder, part)


def test_both_sides_lose_what_they_leak(ends, monkeypatch, tmp_path):
    truth = Truth()
    forms = disentangle.searched(looks(tmp_path, truth, monkeypatch), ends)
    for end, form in zip(ends, forms, strict=True):
        before = truth.begun[end.side] + truth.faces[:60].mean(0)
        moved = form.amounts[:-1] @ truth.moves + (1 + form.amounts[-1]) * before
        assert leak(moved, end.target) < 0.5 * leak(before, end.target)
        assert moved[end.target] / before[end.target] > 0.97 * disentangle.KEPT and form.drift < end.most
    drawn = truth.drawn
    again = disentangle.searched(looks(tmp_path, truth, monkeypatch), ends)  # what was seen is not drawn again
    assert truth.drawn == drawn and all(map(np.array_equal, *([f.amounts for f in both] for both in (forms, again))))


def test_parts_share_the_faces_and_wait_for_each_other(ends, monkeypatch, tmp_path):
    truth = Truth()
    monkeypatch.setattr(disentangle, "ROUNDS", 2)
    parts = [looks(tmp_path, truth, monkeypatch, (number, 2)) for number in (0, 1)]
    with ThreadPoolExecutor(2) as pool:
        forms = list(pool.map(lambda part: disentangle.searched(part, ends), parts))
    assert truth.drawn == 2 * (2 * 30 + disentangle.JUDGED)
    assert all(map(np.array_equal, *([form.amounts for form in part] for part in forms)))
    assert [seen.face.tolist() for seen in (parts[0].done("smile.0.00"), parts[1].done("smile.0.00"))] == [
        [*range(0, 30, 2), *range(1, 30, 2)]
    ] * 2


def test_what_is_kept_is_measured_against_the_plain_edit(ends, monkeypatch, tmp_path):
    truth = Truth()
    truth.begun[1] = 2 * truth.begun[1]
    end = disentangle.judged(looks(tmp_path, truth, monkeypatch), ends[1])
    assert truth.drawn == disentangle.JUDGED
    assert end.own == pytest.approx(2.0 + truth.faces[: disentangle.JUDGED, end.target].mean(), abs=0.05)
    rows = np.arange(60)
    seen = Seen(
        rows, np.zeros((60, 221)), np.where(rows < disentangle.JUDGED, 1.5, 9)[:, None] * np.ones(55), rows / 99
    )
    known = Effects(np.zeros((221, 55)), np.zeros(220))
    assert end.found(seen, known, np.zeros(221)).kept == pytest.approx(1.5 / end.own)


def test_a_search_ends_where_no_step_promises_anything(ends):
    (end, _), rows = ends, np.arange(8) // 2
    clean = np.zeros((8, len(NAMES)))
    clean[:, end.target] = -1.0
    earlier, now = (Seen(rows[half::2], np.zeros((4, 221)), clean[half::2], np.full(4, 0.1)) for half in (0, 1))
    search = Search(replace(end, own=-1.0), [np.zeros(221)])
    search.go_on(earlier, now, Effects(np.zeros((221, len(NAMES))), np.zeros(220)))
    assert search.over and len(search.tried) == 1


def test_what_is_too_weak_is_made_stronger(ends):
    amounts = np.zeros(221)
    amounts[3], amounts[-1] = 0.2, -0.1
    form = disentangle.strengthened(Found(amounts, np.ones(55), 0.1, 0.5 * disentangle.KEPT, 0.2))
    assert form.kept == pytest.approx(disentangle.KEPT) and form.leak == 0.1 and form.drift == 0.4
    begun, ways = torch.ones(16, 512), torch.randn(220, 16, 512)
    rows = probing.added(begun, ways, amounts)
    assert torch.allclose(probing.added(begun, ways, form.amounts), 2 * rows, atol=1e-5)
    assert disentangle.strengthened(form).amounts == pytest.approx(form.amounts)


def test_a_folder_is_for_one_search(ends, tmp_path):
    disentangle.same_search(tmp_path, ends)
    disentangle.same_search(tmp_path, ends)
    for others in (ends[:1], [ends[0], replace(ends[1], begun=2 * ends[1].begun)]):
        with pytest.raises(UsageError, match="another|other"):
            disentangle.same_search(tmp_path, others)


def test_a_step_that_did_something_else_is_doubted(ends):
    search = Search(ends[0], [np.zeros(221)])
    search.doubted(np.zeros(55), np.full(55, disentangle.NOISE), 0.4)
    sure = search.doubt
    assert sure < disentangle.DOUBT  # that far apart are two looks at the same
    search.doubted(np.zeros(55), np.full(55, 0.1), 0.4)
    assert search.doubt > 1.5 * sure
    for _ in range(20):
        search.doubted(np.zeros(55), np.full(55, 9.0), 0.4)
    assert search.doubt == disentangle.SURELY[1]


@pytest.fixture
def moved(monkeypatch):
    """Judges of whom age sees a form's sign, and smile how strong it is; the drift grows with it."""

    def move(generator, faces, direction, strength):
        change, size = np.zeros((len(faces), len(NAMES))), float(direction.vector.abs().max())
        change[:, NAMES.index("smile")] = 0.9 * np.sign(strength) * size
        change[:, NAMES.index("age")] = (0.5 if direction.vector[0, 0] > 0 else -0.1) * size
        return Moved(change, np.full(len(faces), 0.2 * size))

    monkeypatch.setattr(disentangle, "move", move)


def facts(folder):
    table = np.load(folder / "smile.clean.npz")
    return table["vector"], [float(table[name]) for name in ("leak", "kept", "drift")]


def test_a_form_is_measured_as_calibrate_measures(moved, tmp_path):
    disentangle.measure(None, [Case(None, None)] * 3, SMILE, {side: SIDES[side] for side in (0, 1)}, tmp_path)
    vector, figures = facts(tmp_path)
    assert np.array_equal(vector, SIDES.numpy())
    assert figures == pytest.approx([0.3 / 0.9 / (len(NAMES) - 1), 0.9, 0.2])


def test_a_form_that_is_a_little_too_weak_is_made_stronger(moved, tmp_path):
    disentangle.measure(None, [Case(None, None)], SMILE, {1: 0.8 * SIDES[0]}, tmp_path)
    vector, (_, kept, _) = facts(tmp_path)
    assert kept == pytest.approx(1.01 * disentangle.PROMISED) and vector[0].max() == 0
    disentangle.measure(None, [Case(None, None)], SMILE, {1: 0.5 * SIDES[0]}, tmp_path)
    assert facts(tmp_path)[1][1] == pytest.approx(0.45)  # that is no little


def test_the_former_form_stays_where_it_does_better(moved, tmp_path):
    former = replace(SMILE, clean=torch.stack([SIDES[0], SIDES[1]]))
    disentangle.measure(None, [Case(None, None)], former, {0: SIDES[1], 1: SIDES[0]}, tmp_path)
    vector, _ = facts(tmp_path)
    assert (vector == -1).all()
    wild = replace(SMILE, clean=torch.stack([3 * SIDES[0], 3 * SIDES[0]]))  # leaks less, and becomes somebody else
    disentangle.measure(None, [Case(None, None)], wild, {1: SIDES[1]}, tmp_path)
    assert (facts(tmp_path)[0][1] == 1).all()


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
