"""What landmarks say of a pixel, and how two maps of labels are compared."""

import numpy as np

from editing.judges.parsing.labels import CLASSES, INNER, UNKNOWN, from_landmarks, intersection_over_union
from tests.editing.judges.test_appearance import LANDMARKS


def at(labels, x, y):
    value = labels[y, x]
    return None if value == UNKNOWN else CLASSES[value]


def test_landmarks_name_the_inner_face():
    labels = from_landmarks(LANDMARKS, 256, 256)
    points = {(100, 120): "eyes", (155, 120): "eyes", (95, 98): "brows", (160, 98): "brows", (128, 150): "nose",
              (128, 184): "upper_lip", (128, 199): "lower_lip", (128, 190): "mouth", (80, 170): "skin",
              (128, 225): "skin", (20, 20): None, (128, 60): None}  # fmt: skip
    assert {point: at(labels, *point) for point in points} == points


def test_labels_scale_with_the_picture():
    large = from_landmarks((LANDMARKS + 0.5) * 4 - 0.5, 1024, 256)
    assert np.array_equal(large, from_landmarks(LANDMARKS, 256, 256))
    small = from_landmarks(LANDMARKS, 256, 128)
    assert (small == large[::2, ::2]).mean() > 0.97


def test_a_closed_mouth_has_no_inside():
    closed = LANDMARKS.copy()
    closed[60:68, 1] = 187
    assert CLASSES.index("mouth") not in from_landmarks(closed, 256, 256)


def test_intersection_over_union_is_summed_over_pictures():
    truth = np.zeros((2, 4, 4), np.uint8)
    truth[:, :2] = CLASSES.index("eyes")
    found = truth.copy()
    assert intersection_over_union(found, truth)["eyes"] == 1
    found[0, 0] = 0  # 4 of 16 are missed
    assert intersection_over_union(found, truth)["eyes"] == 12 / 16
    found[1, 3] = CLASSES.index("eyes")  # 4 too many
    assert intersection_over_union(found, truth)["eyes"] == 12 / 20
    assert set(intersection_over_union(found, truth)) == set(INNER)
