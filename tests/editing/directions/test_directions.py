"""Directions: applying them, fitting them on data with a known answer, and what the shipped catalogue promises."""

import json

import numpy as np
import pytest
import torch

from editing import directions
from editing.directions import fit, table
from editing.directions.calibrate import LEAST, RIGHT, limit
from editing.directions.catalogue import FACTS, Catalogue, Direction
from editing.directions.sampling import JUDGES
from editing.judges import population
from editing.judges.judge import judge
from stylegan2 import engine, w_statistics


def direction(rows=(2, 5), name="one"):
    return Direction(name, torch.linspace(-1, 1, 512), rows)


def test_a_direction_moves_its_rows_by_its_strength_and_no_others():
    ws = torch.randn(2, 16, 512)
    edited = directions.apply(ws, direction(), 1.5)
    assert torch.allclose(edited[:, 2:5] - ws[:, 2:5], (1.5 * direction().vector).expand(2, 3, 512), atol=1e-6)
    assert torch.equal(edited[:, :2], ws[:, :2]) and torch.equal(edited[:, 5:], ws[:, 5:])
    assert torch.equal(directions.apply(ws, direction(), 0.0), ws)


def test_on_an_18_row_generator_the_merged_last_row_is_three():
    ws = torch.zeros(1, 18, 512)
    moved = directions.apply(ws, direction(rows=(8, 16)), 1.0).abs().sum(2)[0] > 0
    assert moved.tolist() == [False] * 8 + [True] * 10
    assert int((directions.apply(ws, direction(rows=(8, 11)), 1.0).abs().sum(2) > 0).sum()) == 3


def test_gradients_find_the_direction_that_made_the_scores():
    random = np.random.default_rng(0)
    u, true = random.standard_normal((4000, 512)), random.standard_normal(512)
    slopes = fit.gradients(u, (u @ true + random.standard_normal(4000))[:, None], ridge=1.0)[:, 0]
    assert slopes @ true / np.linalg.norm(slopes) / np.linalg.norm(true) > 0.99


def test_a_conditional_direction_leaves_the_others_alone_and_keeps_the_rest():
    random = np.random.default_rng(1)
    gradient, others = random.standard_normal(512), random.standard_normal((512, 3))
    kept = fit.conditional(gradient, others)
    assert np.abs(kept @ others).max() < 1e-9
    assert kept @ gradient == pytest.approx(kept @ kept)  # it is a projection
    assert np.array_equal(fit.conditional(gradient, others[:, :0]), gradient)


def test_a_fitted_direction_raises_its_judge_and_not_those_it_keeps():
    statistics, random = w_statistics.load(), np.random.default_rng(2)
    u, true = random.standard_normal((3000, 512)), random.standard_normal((512, len(JUDGES)))
    true[:, JUDGES.index("age")] += 0.8 * true[:, JUDGES.index("male")]  # entangled, as in life
    w, scores = statistics.unwhiten(torch.from_numpy(u).float()).numpy(), u @ true + 200  # everyone an adult
    age = fitted_age(w, scores)
    by_judge = dict(zip(JUDGES, statistics.whiten(statistics.mean + age.vector).numpy() @ true, strict=True))
    assert by_judge["age"] > 0
    assert abs(by_judge["male"]) < 0.1 * by_judge["age"]
    assert age.vector.norm() == pytest.approx(1.0, abs=1e-5)
    children = scores.copy()
    children[:, JUDGES.index("age")] = 10
    children[:, JUDGES.index("male")] *= 50
    with_children = fitted_age(np.concatenate([w, w]), np.concatenate([scores, children]))
    assert torch.allclose(with_children.vector, age.vector, atol=1e-4), "the faces of children had a say"


def test_softly_kept_judges_give_way_as_their_weight_grows():
    random = np.random.default_rng(3)
    gradient, others = random.standard_normal(512), random.standard_normal((512, 3))
    gradient += others @ [1.0, 0.5, -1.0]
    leaks = [np.abs(fit.softly(gradient, others, weight) @ others).max() for weight in (1e-6, 0.01, 1.0, 1e6)]
    assert leaks == sorted(leaks, reverse=True) and leaks[-1] < 1e-3
    assert np.allclose(fit.softly(gradient, others, 1e9), fit.conditional(gradient, others), atol=1e-4)
    assert np.allclose(fit.softly(gradient, others, 1e-9), gradient, atol=1e-4)


def test_faces_in_which_a_judge_sees_nothing_have_no_say_in_its_slope():
    random = np.random.default_rng(4)
    u = random.standard_normal((900, 20))
    scores = np.stack([u[:, 0] + 5, u[:, 1]], 1)
    scores[::3, 1] = np.nan
    slopes = fit.slopes_of(u, scores)
    assert slopes.shape == (20, 2) and np.isfinite(slopes).all()
    assert np.abs(slopes[:, 1]).argmax() == 1 and slopes[1, 1] > 0.5


def fitted_age(w, scores):
    table = {"w": w, "scores": scores, "descriptor": np.zeros((len(w), 128))}
    (age,) = (d for d in fit.fitted(table) if d.name == "age")
    return age


def test_the_shipped_catalogue_keeps_what_it_promises():
    catalogue = directions.load()
    assert {"smile", "age", "yaw", "pitch", "blond", "lipstick"} <= set(catalogue) and len(catalogue) >= 40
    judges = population.load()
    for name, entry in catalogue.items():
        assert entry.name == name and entry.vector.shape == (512,) and torch.isfinite(entry.vector).all()
        assert 0 <= entry.rows[0] < entry.rows[1] <= 16 and entry.group and entry.description
        assert entry.judge.lstrip("-") in judges and set(entry.leakage) == set(judges) - {entry.judge.lstrip("-")}
        low, high = entry.safe_range
        assert low <= 0 <= high and high - low > 0, f"{name} has no safe range"
        for strength, moved, right in zip((low, high), entry.ends, entry.right, strict=True):
            assert not strength or (np.sign(strength) * moved >= LEAST and right >= RIGHT), name
        assert entry.drift < limit(entry), f"{name} makes another person"
        assert np.sign(entry.effect) == (-1 if entry.judge.startswith("-") else 1)
        if entry.source.startswith("fitted"):
            assert entry.vector.norm() == pytest.approx(1, abs=1e-4)


def test_disentangled_forms_leak_less_and_keep_their_edit():
    forms = [entry for entry in directions.load().values() if entry.clean is not None]
    assert len(forms) >= 8
    for entry in forms:
        assert entry.clean.shape == (2, 16, 512) and torch.isfinite(entry.clean).all()
        assert entry.clean_figures["leak"] < entry.leaks and entry.clean_figures["kept"] >= 0.8
        assert entry.clean_figures["drift"] < limit(entry)
        for side, end in zip(entry.clean, entry.safe_range, strict=True):
            assert bool(side.any()) == bool(end), f"{entry.name}: a form for every open end"


def test_entries_of_the_catalogue_are_distinct():
    catalogue = directions.load()
    cosines = table.cosines(catalogue)
    assert (cosines - torch.diag(cosines.diag())).abs().max() < 0.9
    channels = [entry.source for entry in catalogue.values() if entry.styles]
    assert len(set(channels)) == len(channels)


def test_ganspace_entries_are_components_times_their_deviation():
    statistics = w_statistics.load()
    for entry in fit.ganspace():
        component = int(entry.source.split()[2].rstrip(","))
        assert entry.vector.norm() == pytest.approx(float(statistics.stdev[component]), rel=1e-4)


def test_facts_are_plain_json_that_a_diff_can_show():
    facts = json.loads(FACTS.read_text())
    assert list(facts) == list(directions.load())
    assert all(isinstance(fact["description"], str) for fact in facts.values())


def test_a_catalogue_is_a_mapping():
    catalogue = Catalogue([direction(name="a"), direction(name="b")])
    assert list(catalogue) == ["a", "b"] and "a" in catalogue and "c" not in catalogue and len(catalogue) == 2


@pytest.mark.weights
@pytest.mark.parametrize(
    ("name", "strength"),
    [("smile", 2.0), ("age", 3.0), ("age", -3.0), ("yaw", 2.0), ("pitch", 2.0), ("blond", 2.0), ("lipstick", 2.0)],
)
def test_core_edits_move_their_judge_on_faces_they_were_not_fitted_on(mobile, name, strength):
    entry, changes = directions.load()[name], []
    for seed in (12, 17, 20):
        ws = engine.broadcast(mobile, engine.latents(mobile, [seed], 0.7))
        with torch.no_grad():
            before, after = (
                judge(engine.to_uint8(mobile.synthesis(code))[0])
                for code in (ws, directions.apply(ws, entry, strength))
            )
        changes.append(after.values[entry.judge] - before.values[entry.judge])
    assert np.sign(np.mean(changes)) == np.sign(strength)
    assert abs(np.mean(changes)) > 0.3 * abs(entry.effect * strength)
