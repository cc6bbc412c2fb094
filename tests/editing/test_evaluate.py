"""The ruler itself: same person, editability and the table, on figures with a known answer."""

import json

import numpy as np
import pytest
import torch

from editing import editability as rule
from editing import evaluate
from editing.judges import gallery
from tests.editing.fakes import write_photo


def test_same_person_needs_a_small_distance_and_no_nearer_stranger(monkeypatch):
    photo = np.zeros(128, np.float32)
    near, far = photo.copy(), photo.copy()
    near[0], far[0] = 0.3, 0.5
    stranger = near + np.float32(0.01)
    monkeypatch.setattr(gallery, "strangers", lambda: np.full((1, 128), 9, np.float32))
    assert gallery.same_person(photo, near) and not gallery.same_person(photo, far)
    assert not gallery.same_person(photo, None) and not gallery.same_person(None, near)
    monkeypatch.setattr(gallery, "strangers", lambda: stranger[None])
    assert not gallery.same_person(photo, near)


def test_a_thousand_strangers_ship_and_hardly_any_two_are_one_person():
    strangers = gallery.strangers()
    assert strangers.shape == (1000, 128) and np.isfinite(strangers).all()
    distances = np.linalg.norm(strangers[:100, None] - strangers[None, :100], axis=2)[np.triu_indices(100, 1)]
    assert (distances < 0.45).mean() < 0.02


def figures(change, faces=64, seed=0, drift=0.3):
    random = np.random.default_rng(seed)
    before = random.standard_normal(faces)
    result = {}
    for name, strength in rule.EDITS:
        noise = 0.1 * random.standard_normal(faces)
        moves = np.sign(strength) * (change + noise)
        result[rule.label(name, strength)] = list(zip(before, before + moves, np.full(faces, drift), strict=True))
    return result


def test_editability_is_the_ratio_of_mean_changes_with_an_interval_around_it():
    found = rule.editability(figures(0.5, faces=16, seed=1, drift=0.36), figures(1.0))
    assert set(found) == {"smile+2", "age+3", "age-3", "yaw+2", "yaw-2", "pitch+2", "smile", "age", "yaw", "pitch"}
    for value in found.values():
        assert value.ratio == pytest.approx(0.5, abs=0.1)
        assert value.low < value.ratio < value.high < value.low + 0.3
        assert value.drift == pytest.approx(1.2)
    assert found["age"].faces == found["age+3"].faces + found["age-3"].faces


def test_saturated_faces_are_left_out_and_destroyed_ones_count_as_no_change():
    generated, ours, nan = figures(1.0), figures(1.0, faces=4, seed=2), float("nan")
    ours["smile+2"] = [(0.0, 1.0, 0.1), (99.0, 99.0, 0.5), (nan, 0.0, nan)]
    smile = rule.editability(ours, generated)["smile+2"]
    assert smile.faces == 1 and smile.ratio == pytest.approx(1.0, abs=0.05)
    assert smile.drift == pytest.approx(1.0)  # saturated faces count for the drift, lost ones cannot
    ours["smile+2"].append((0.0, nan, nan))
    smile = rule.editability(ours, generated)["smile+2"]
    assert smile.faces == 2 and smile.ratio == pytest.approx(0.5, abs=0.05)
    ours["age-3"] = [(-99.0, -99.0, 0.3), (0.0, -1.0, 0.3)]  # for a lowering edit the low end is the saturated one
    assert rule.editability(ours, generated)["age-3"].faces == 1


def test_the_table_has_one_row_a_photo_means_and_what_went_wrong():
    good = {
        "photo": "a.jpg",
        "l2": 0.01,
        "ms_ssim": 0.9,
        "id_distance": 0.2,
        "same_person": True,
        "steps": 5,
        "seconds": 2.0,
        "bytes": 1_500_000,
    }
    rows = [good, good | {"photo": "b.jpg", "l2": 0.03, "same_person": False}, {"photo": "c.jpg", "error": "No face."}]
    result = evaluate.summary(rows)
    assert (result["n"], result["skipped"], result["same_person"]) == (2, 1, 1)
    assert result["l2"] == pytest.approx(0.02) and result["seconds"] == 2.0
    text = evaluate.table(result | {"method": "tune", "render_seconds": 0.2}, rows)
    assert (
        "| a.jpg | 0.0100 |" in text and "No face." in text and "1/2" in text and "0.200 s" in text and "1.5 MB" in text
    )


def test_the_command_measures_a_folder_and_says_what_it_skipped(tmp_path, toy, command, monkeypatch):
    from editing import session

    torch.manual_seed(0)
    write_photo(tmp_path / "a.png")
    (tmp_path / "broken.jpg").write_text("not a picture")
    monkeypatch.setattr(session.Editor, "catalogue", toy.CATALOGUE)
    code, out, err = command(evaluate.main, tmp_path, "--method", "fake", "--aligned", "--json")
    result = json.loads(out)
    assert code == 1 and (result["n"], result["skipped"]) == (1, 1)
    assert result["bytes"] == 4 * 2 * 4  # a toy's ws
    assert result["same_person"] == 0 and result["l2"] == pytest.approx(0.1)
    assert [row["photo"] for row in result["photos"]] == ["a.png", "broken.jpg"]
    assert "error" in result["photos"][1] and not err.startswith("Traceback")


def test_an_empty_folder_and_an_unknown_method_are_usage_errors(tmp_path, toy, command):
    code, _, err = command(evaluate.main, tmp_path)
    assert code == 2 and "no photos" in err
    write_photo(tmp_path / "a.png")
    code, _, err = command(evaluate.main, tmp_path, "--method", "tunee", "--aligned")
    assert code == 2 and "tune" in err
