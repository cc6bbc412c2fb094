"""The judge on generated faces: what it says of a person, and that it says nothing where there is no face."""

import numpy as np
import pytest

from editing.judges import judge as judges
from editing.judges.judge import SAME_PERSON, distance, judge, locate

pytestmark = pytest.mark.weights


@pytest.fixture(scope="module", autouse=True)
def _models(weights):
    for name in ("dlib-landmarks-68", "dlib-landmarks-5", "dlib-face-recognition", "age-onnx", "gender-onnx"):
        weights(name)


@pytest.fixture(scope="module")
def scores(generated):
    """Faces looked at beforehand: 1 a woman turned to the left, 2 and 3 men, 4 a small child turned to the left."""
    return {seed: judge(generated(seed)) for seed in (1, 2, 3, 4)}


def test_it_sees_what_is_there(scores):
    age, male, yaw, smile = (
        {s: score.values[name] for s, score in scores.items()} for name in ("age", "male", "yaw", "smile")
    )
    assert age[4] < 12 and all(18 < age[s] < 50 for s in (1, 2, 3))
    assert male[1] < -1 and male[2] > 1 and male[3] > 1
    assert yaw[1] < -0.2 and yaw[4] < -0.2 and abs(yaw[2]) < 0.1 and abs(yaw[3]) < 0.1
    assert smile[4] < 1 < min(smile[1], smile[2], smile[3])
    assert scores[4].values["mouth_open"] < 0.03 < 0.1 < scores[2].values["mouth_open"]


def test_shapes_and_the_same_answer_twice(scores, generated):
    again = judge(generated(1))
    assert again.values == pytest.approx(scores[1].values, rel=0, abs=0, nan_ok=True)
    assert np.array_equal(again.descriptor, scores[1].descriptor)
    assert again.descriptor.shape == (128,) and again.descriptor.dtype == np.float32
    assert again.landmarks.shape == (68, 2) and np.array_equal(locate(generated(1)), again.landmarks)
    assert all(type(value) is float for value in again.values.values())
    unseen = {name for name, value in again.values.items() if not np.isfinite(value)}
    assert unseen == {"clothes_light"}, "hair hides her clothes, and all else is there"


def test_identity_survives_light_and_size_but_not_another_person(scores, generated):
    darker = judge((generated(1) * 0.8).astype(np.uint8))
    smaller = judge(np.ascontiguousarray(generated(1)[::2, ::2]))
    assert distance(darker.descriptor, scores[1].descriptor) < SAME_PERSON / 2
    assert distance(smaller.descriptor, scores[1].descriptor) < SAME_PERSON / 2
    assert np.abs(smaller.landmarks * 2 - scores[1].landmarks).max() < 25
    others = [distance(scores[a].descriptor, scores[b].descriptor) for a, b in ((1, 2), (1, 3), (2, 3))]
    assert min(others) > SAME_PERSON and distance(scores[1].descriptor, scores[1].descriptor) == 0


def test_a_mirror_turns_the_yaw(scores, generated):
    mirrored = judge(generated(1)[:, ::-1])  # not contiguous, as slices are
    assert mirrored.values["yaw"] == pytest.approx(-scores[1].values["yaw"], abs=0.08)
    assert mirrored.values["smile"] == pytest.approx(scores[1].values["smile"], abs=0.15)


def test_the_gender_judge_does_not_stop_where_it_is_certain(scores, generated):
    assert scores[1].values["male"] < -15, "far beyond the log-odds of 0.0001"
    assert judges.male_of(generated(2)) == scores[2].values["male"]
    assert judges.male_of(generated(2)[::4, ::4]) == pytest.approx(scores[2].values["male"], abs=4)
    assert np.isnan(judges.male_of(np.zeros((64, 64, 3), np.uint8)))


def test_the_middle_face_of_several_is_measured(generated):
    left, middle, right = (generated(s)[::4, ::4] for s in (2, 1, 3))
    points = locate(np.concatenate([left, middle, right], 1))
    assert (points[:, 0] > 256).all() and (points[:, 0] < 512).all()


@pytest.mark.parametrize("shape", [(0, 0), (1, 1), (2, 2), (1, 300), (64, 64), (101, 77)])
def test_no_face_no_scores(shape):
    picture = np.full((*shape, 3), 90, np.uint8)
    assert judge(picture) is None and locate(picture) is None


def test_a_small_face_is_found_at_full_size(generated):
    """About 90 pixels of face: too few for the quick look at half the size."""
    canvas = np.full((400, 400, 3), 120, np.uint8)
    canvas[100:246, 150:296] = generated(2)[::7, ::7][:146, :146]
    assert not judges._detector()(np.ascontiguousarray(canvas[::2, ::2]), 0)
    points = locate(canvas)
    assert (points > (150, 100)).all() and (points < (300, 250)).all()


def test_age_and_gender_are_read_off_the_networks_classes(monkeypatch):
    monkeypatch.setattr(
        judges, "_run", lambda name, chip: np.eye(81)[40] if name == "age-onnx" else np.array([0.0, 1.0])
    )
    assert judges._age(None) == 40 and judges._male(None) == pytest.approx(np.log(1e30))
    monkeypatch.setattr(
        judges, "_run", lambda name, chip: np.eye(81)[0] if name == "age-onnx" else np.array([0.5, 0.5])
    )
    assert judges._age(None) == 0.25 and judges._male(None) == 0
