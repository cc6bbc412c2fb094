"""Colours and sizes of a face: known colours come out, a change of one part moves its judge, and nothing else."""

import numpy as np
import pytest

from editing.judges import appearance
from editing.judges.judge import NAMES
from editing.judges.landmarks import NAMES as GEOMETRY
from editing.judges.landmarks import measure as measure_landmarks
from editing.judges.parsing.labels import CLASSES, UNKNOWN, from_landmarks

# the mean of generated faces, which is nobody's
LANDMARKS = np.array([
    (55, 123), (55, 142), (57, 161), (61, 180), (68, 197), (79, 213), (94, 225), (110, 235), (127, 238), (145, 235),
    (161, 225), (175, 212), (186, 197), (193, 180), (197, 161), (199, 142), (199, 123), (69, 110), (78, 101), (91,
    98), (104, 100), (117, 105), (139, 105), (151, 100), (164, 98), (177, 101), (185, 110), (128, 119), (128, 131),
    (128, 144), (128, 156), (113, 164), (120, 167), (128, 169), (135, 167), (143, 165), (84, 121), (92, 117), (101,
    117), (109, 123), (100, 124), (91, 124), (146, 123), (154, 117), (163, 117), (171, 121), (164, 124), (155, 124),
    (98, 186), (109, 183), (120, 181), (128, 182), (135, 181), (146, 183), (157, 186), (147, 197), (136, 202), (128,
    203), (119, 202), (109, 197), (102, 187), (120, 186), (128, 187), (135, 186), (153, 187), (136, 193), (128,
    194), (120, 193),
], dtype=float)  # fmt: skip


def painted(**colours):
    """A drawn face -> picture, labels: skin below hair, the inner face where landmarks say, colours as asked for."""
    labels = from_landmarks(LANDMARKS, 256, 256)
    outside = labels == UNKNOWN
    rows = np.arange(256)[:, None]
    labels[outside] = CLASSES.index("background")
    eyes = LANDMARKS[36:48].mean(0)
    distance = LANDMARKS[42:48].mean(0)[0] - LANDMARKS[36:42].mean(0)[0]
    columns = np.abs(np.arange(256)[None] - eyes[0])
    forehead = outside & (rows < eyes[1]) & (rows > eyes[1] - 0.95 * distance) & (columns < distance)
    labels[forehead] = CLASSES.index("skin")
    hair = outside & (rows <= eyes[1] - 0.95 * distance) & (columns < distance)
    labels[hair] = CLASSES.index("hair")
    palette = {"background": (90, 120, 90), "skin": (215, 170, 150), "hair": (60, 40, 30), "brows": (70, 50, 40),
               "eyes": (90, 80, 70), "nose": (210, 165, 145), "upper_lip": (180, 90, 90), "lower_lip": (185, 95, 95),
               "mouth": (240, 240, 235)} | colours  # fmt: skip
    picture = np.zeros((256, 256, 3), np.uint8)
    for name, colour in palette.items():
        picture[labels == CLASSES.index(name)] = colour
    return picture, labels


def measured(**colours):
    return appearance.measure(*painted(**colours), LANDMARKS)


@pytest.mark.parametrize(
    ("rgb", "expected"),
    [((255, 255, 255), (100, 0, 0)), ((0, 0, 0), (0, 0, 0)), ((255, 0, 0), (53.24, 80.09, 67.20)),
     ((0, 0, 255), (32.30, 79.19, -107.86)), ((119, 119, 119), (50.03, 0, 0))],
)  # fmt: skip
def test_lab_of_known_colours(rgb, expected):
    assert np.allclose(appearance.lab(np.array([[rgb]], np.uint8))[0, 0], expected, atol=0.05)


def test_names_are_those_that_are_measured():
    assert tuple(measured()) == appearance.NAMES
    assert tuple(measure_landmarks(LANDMARKS)) == GEOMETRY
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize(
    ("change", "judge", "rises"),
    [({"hair": (220, 190, 120)}, "hair_light", True), ({"hair": (150, 50, 30)}, "hair_red", True),
     ({"upper_lip": (200, 30, 60), "lower_lip": (200, 30, 60)}, "lip_red", True),
     ({"brows": (190, 150, 130)}, "brow_dark", False),
     ({"eyes": (180, 190, 210)}, "iris_light", True), ({"background": (20, 20, 20)}, "background_light", False),
     ({"mouth": (40, 10, 10)}, "teeth", False)],
)  # fmt: skip
def test_a_part_in_another_colour_moves_its_judge_and_no_other_part(change, judge, rises):
    before, after = measured(), measured(**change)
    assert (after[judge] > before[judge]) is rises and abs(after[judge] - before[judge]) > 0.01
    whole = {"exposure", "contrast", "warmth", "tint", "colourful", "sharpness", "eye_dark", "skin_texture"}
    others = {n for n in before if n.split("_")[0] != judge.split("_")[0]} - whole - {judge}
    for name in others:
        assert after[name] == pytest.approx(before[name], nan_ok=True, abs=0.5), name


def test_a_beard_darkens_the_chin_and_blush_reddens_the_cheeks():
    picture, labels = painted()
    x, y = np.meshgrid(np.arange(256), np.arange(256))
    plain = appearance.measure(picture, labels, LANDMARKS)
    bearded, skin = picture.copy(), labels == CLASSES.index("skin")
    bearded[skin & (y > LANDMARKS[57, 1])] = (90, 70, 60)
    grown = appearance.measure(bearded, labels, LANDMARKS)
    assert grown["beard"] > plain["beard"] + 20 and abs(grown["moustache"] - plain["moustache"]) < 3
    rosy = picture.copy()
    rosy[skin & (y > LANDMARKS[41, 1] + 5) & (y < LANDMARKS[33, 1])] = (225, 140, 140)
    assert appearance.measure(rosy, labels, LANDMARKS)["blush"] > plain["blush"] + 5


def test_what_is_hardly_there_is_nan():
    picture, labels = painted()
    labels[labels == CLASSES.index("hair")] = CLASSES.index("background")
    values = appearance.measure(picture, labels, LANDMARKS)
    assert np.isnan(values["hair_light"]) and values["hair_volume"] == 0 and np.isfinite(values["skin_light"])


def test_light_from_one_side_shows_in_shade():
    picture, labels = painted()
    ramp = np.linspace(0.7, 1.15, 256)[None, :, None]
    lit = (picture * ramp).clip(0, 255).astype(np.uint8)
    assert appearance.measure(lit, labels, LANDMARKS)["shade"] > 5 > abs(measured()["shade"])
