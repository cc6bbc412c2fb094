"""Landmark measurements on a drawn face: each one answers to its own movement and to no change of camera."""

import numpy as np
import pytest

from editing.judges.landmarks import measure, upright


def face(mouth=0.0, lift=0.0, width=1.0, eyes=0.15, brows=0.0, turn=0.0, nod=0.0):
    """68 points, eye distance 2 about (0, 0), y downwards; the arguments move one part each."""
    p = np.zeros((68, 2))
    angles = np.linspace(0, np.pi, 17)
    p[:17] = np.stack([-2 * np.cos(angles), 3.5 * np.sin(angles)], 1)
    p[17:22] = np.stack([np.linspace(-1.5, -0.5, 5), np.full(5, -0.6 - brows)], 1)
    p[22:27] = np.stack([np.linspace(0.5, 1.5, 5), np.full(5, -0.6 - brows)], 1)
    p[27:31] = np.stack([np.full(4, turn), np.linspace(0, 1.1 + nod, 4)], 1)
    p[31:36] = np.stack([np.linspace(-0.4, 0.4, 5), np.full(5, 1.3)], 1)
    for start, middle in ((36, -1.0), (42, 1.0)):
        x = middle + np.array([-0.4, -0.15, 0.15, 0.4, 0.15, -0.15])
        p[start : start + 6] = np.stack([x, eyes * np.array([0, -1, -1, 0, 1, 1])], 1)
    outer = np.linspace(-0.8, 0.8, 7) * width
    p[48:55] = np.stack([outer, [2.2 - lift, *[1.95 - mouth / 2] * 5, 2.2 - lift]], 1)
    p[55:60] = np.stack([outer[5:0:-1], np.full(5, 2.45 + mouth / 2)], 1)
    inner = np.linspace(-0.5, 0.5, 5) * width
    p[60:65] = np.stack([inner, np.full(5, 2.15 - mouth / 2)], 1)
    p[65:68] = np.stack([inner[3:0:-1], np.full(3, 2.25 + mouth / 2)], 1)
    return p * 100 + 500


def mirrored(points):
    """The face in a mirror, its points renumbered."""
    order = [*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1)]
    order += [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40, *range(54, 47, -1), *range(59, 54, -1)]
    order += [*range(64, 59, -1), 67, 66, 65]
    return (points * [-1, 1] + [1000, 0])[order]


def turned(points, degrees, scale=1.0, shift=(0.0, 0.0)):
    a = np.radians(degrees)
    return scale * points @ np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]]) + shift


def test_upright_frame():
    p = upright(turned(face(), 25, 0.3, (10, 900)))
    assert np.allclose(p[36:42].mean(0), [-0.5, 0]) and np.allclose(p[42:48].mean(0), [0.5, 0])
    assert p[8, 1] > p[57, 1] > 0 > p[19, 1]  # chin under mouth under eyes under brows


def test_values_of_the_drawn_face():
    found = measure(face(mouth=0.4, eyes=0.2))
    assert found["mouth_open"] == pytest.approx((0.1 + 0.4) / 2)
    assert found["eye_open"] == pytest.approx(0.4 / 0.8)
    assert found["brow_raise"] == pytest.approx(0.6 / 2)
    assert found["yaw"] == pytest.approx(0) and found["roll"] == pytest.approx(0)
    assert found["smile"] == pytest.approx(1.6 / 2)


CHANGES = {
    "mouth_open": {"mouth": 0.3},
    "eye_open": {"eyes": 0.1},
    "brow_raise": {"brows": 0.2},
    "yaw": {"turn": 0.3},
}


@pytest.mark.parametrize("name", CHANGES)
def test_each_measure_answers_to_its_own_part(name):
    base, moved = (
        measure(face()),
        measure(face(**{k: v + (0.15 if k == "eyes" else 0) for k, v in CHANGES[name].items()})),
    )
    assert moved[name] > base[name] + 0.05
    for other in CHANGES.keys() - {name}:
        assert moved[other] == pytest.approx(base[other], abs=0.02)


def test_smile_is_a_wide_mouth_with_lifted_corners():
    base = measure(face())["smile"]
    assert measure(face(width=1.3))["smile"] == pytest.approx(base + 0.24)
    assert measure(face(lift=0.2))["smile"] > base + 0.1 > base - 0.1 > measure(face(lift=-0.2))["smile"]


def test_pitch_grows_when_the_nose_comes_up_to_the_eyes():
    assert measure(face(nod=-0.3))["pitch"] > measure(face())["pitch"] > measure(face(nod=0.3))["pitch"]


def test_a_mirror_turns_yaw_and_roll_only():
    points = turned(face(turn=0.3, lift=0.1), 8)
    there, back = measure(points), measure(mirrored(points))
    assert there["yaw"] > 0.05 and there["roll"] == pytest.approx(8)
    for name, value in there.items():
        assert back[name] == pytest.approx(-value if name in ("yaw", "roll") else value)


@pytest.mark.parametrize(("degrees", "scale"), [(0, 0.2), (30, 1.0), (-75, 3.0)])
def test_neither_size_nor_place_nor_rotation_matters(degrees, scale):
    points = face(turn=0.2, mouth=0.2)
    base, found = measure(points), measure(turned(points, degrees, scale, (40, -700)))
    assert found.pop("roll") == pytest.approx(degrees) and base.pop("roll") == pytest.approx(0)
    assert found == pytest.approx(base)


def test_integer_landmarks_are_welcome():
    points = np.round(face()).astype(int)
    assert measure(points) == pytest.approx(measure(points.astype(float)))
