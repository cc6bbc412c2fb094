"""The glasses judge: an edge across the nose is seen, whatever the size and the tilt of the picture."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, rotate

from editing import directions
from editing.directions import own
from editing.judges.glasses import WEARS, glasses
from editing.judges.judge import judge
from stylegan2 import engine

EYES = np.zeros((68, 2))
EYES[36:42], EYES[42:48] = (96, 120), (160, 120)  # (x, y) in a 256-pixel picture


def bare():
    """Skin with two dark eyes and soft shading."""
    picture = np.full((256, 256), 190.0)
    picture[112:128, 84:108] = picture[112:128, 148:172] = 60
    return gaussian_filter(picture, 3) + np.linspace(-10, 10, 256)[:, None]


def framed():
    picture = bare()
    picture[110:114, 60:196] = 30  # the bridge and the upper rims
    return gaussian_filter(picture, 0.7)


def colour(picture):
    return np.repeat(picture.clip(0, 255).astype(np.uint8)[..., None], 3, 2)


def test_a_frame_across_the_nose_is_seen():
    assert glasses(colour(framed()), EYES) > WEARS > glasses(colour(bare()), EYES) + 0.5


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_size_does_not_matter(factor):
    for picture in (bare(), framed()):
        large = colour(picture).repeat(factor, 0).repeat(factor, 1)
        points = (EYES + 0.5) * factor - 0.5
        assert glasses(large, points) == pytest.approx(glasses(colour(picture), EYES), abs=0.2)


def test_a_tilted_head_scores_alike():
    tilted = colour(rotate(framed(), 20, reshape=False, order=1, mode="nearest"))
    angle, middle = np.radians(-20), np.array([127.5, 127.5])
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = (EYES - middle) @ matrix.T + middle
    assert glasses(tilted, points) == pytest.approx(glasses(colour(framed()), EYES), abs=0.4)


def test_a_picture_of_one_colour_has_no_glasses():
    assert glasses(np.full((256, 256, 3), 127, np.uint8), EYES) < WEARS


@pytest.mark.weights
def test_real_generated_faces_with_and_without(mobile):
    """By eye: seed 12 wears glasses, seeds 17, 20 and 24 do not; a formula puts them on and takes them off."""
    entry = own.from_formula("glasses", "glasses", ("age", "male", "smile", "yaw", "roll"))
    worn = {}
    for seed, strength in ((12, 0), (17, 0), (20, 0), (24, 0), (12, -3), (20, 3)):
        ws = engine.broadcast(mobile, engine.latents(mobile, [seed], 0.7))
        picture = engine.to_uint8(mobile.synthesis(directions.apply(ws, entry, strength)).detach())[0]
        worn[seed, strength] = judge(picture).values["glasses"]
    assert worn[12, 0] > WEARS > max(worn[17, 0], worn[20, 0], worn[24, 0])
    assert worn[12, -3] < worn[12, 0] and worn[20, 3] > worn[20, 0]
