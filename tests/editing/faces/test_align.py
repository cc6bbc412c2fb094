"""FFHQ alignment: the quad's formulas, exact transforms, and what the crop shows."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from editing.faces import align
from stylegan2.errors import NoFaceFound


def landmarks(eye=20.0, mouth=30.0, angle=0.0, centre=(100.0, 80.0)) -> np.ndarray:
    """68 points with eyes 2 * eye apart and a mouth `mouth` below them, turned by `angle`."""
    points = np.zeros((68, 2))
    points[36:42], points[42:48] = (-eye, 0), (eye, 0)
    points[48], points[54] = (-10, mouth), (10, mouth)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return points @ turn + centre


def test_quad_of_an_upright_face():
    # half side = max(2 * 40, 1.8 * 30) = 80 along (40 + 30, 0); centre = eyes + 0.1 * (0, 30)
    expected = np.array([[-80, -80], [-80, 80], [80, 80], [80, -80]]) + [100, 83]
    np.testing.assert_allclose(align.quad_of(landmarks()), expected)


def test_quad_is_as_large_as_the_longer_of_eyes_and_mouth():
    assert align.side(align.quad_of(landmarks(eye=10, mouth=60))) == pytest.approx(2 * 1.8 * 60)


@pytest.mark.parametrize("angle", [0.4, -1.2, 3.0])
def test_quad_turns_with_the_face(angle):
    still, turned = align.quad_of(landmarks()), align.quad_of(landmarks(angle=angle))
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    np.testing.assert_allclose(turned, (still - [100, 80]) @ turn + [100, 80])


def test_landmarks_in_one_point_are_no_face():
    with pytest.raises(NoFaceFound, match="do not form a face"):
        align.quad_of(np.ones((68, 2)))


def test_transforms_are_inverses_and_hit_the_corners():
    quad = align.quad_of(landmarks(angle=0.3))
    points = np.random.default_rng(0).uniform(-50, 300, (20, 2))
    np.testing.assert_allclose(align.to_photo(align.to_crop(points, quad, 512), quad, 512), points)
    np.testing.assert_allclose(
        align.to_crop(quad, quad, 512), [[-0.5, -0.5], [-0.5, 511.5], [511.5, 511.5], [511.5, -0.5]]
    )


@pytest.mark.parametrize("half, size", [(20.0, 128), (60.0, 128), (140.0, 64), (200.0, 64)])
def test_crop_shows_the_photo_where_to_photo_says(half, size):
    """Faces far smaller and far larger than the crop, on a photo whose colours say where they are: 0.2 a pixel, so
    that half a pixel of shift is a mean error of 0.1."""
    y, x = np.mgrid[:1200, :1200].astype(np.float64)
    dither = np.random.default_rng(0).uniform(-0.5, 0.5, (*x.shape, 3))
    photo = np.rint(np.stack([x, y, x + y], -1) * [0.2, 0.2, 0.1] + dither).astype(np.uint8)
    quad = align.quad_of(landmarks(eye=half / 2, mouth=half / 2, angle=0.2, centre=(590.0, 600.0)))
    where = align.to_photo(np.stack(np.meshgrid(np.arange(size), np.arange(size)), -1), quad, size)
    expected = np.stack([where[..., 0], where[..., 1], where.sum(-1)], -1) * [0.2, 0.2, 0.1]
    crop = align.crop(photo, quad, size)
    assert crop.dtype == np.uint8 and crop.shape == (size, size, 3)
    error = (crop - expected)[4:-4, 4:-4]
    assert np.abs(error).max() < 2
    assert np.abs(error.mean((0, 1))).max() < 0.05


def test_large_faces_are_antialiased():
    """A checkerboard finer than the crop becomes grey, not moire."""
    photo = np.repeat((np.indices((900, 900)).sum(0) % 2 * 255).astype(np.uint8)[..., None], 3, 2)
    quad = np.array([[50.0, 50], [50, 850], [850, 850], [850, 50]])
    assert np.abs(align.crop(photo, quad, 64)[2:-2, 2:-2].astype(int) - 127).max() <= 4


@pytest.mark.parametrize("shape", [(64, 64), (1, 1), (3, 200)])
def test_quad_that_leaves_the_photo_is_padded(shape):
    photo = np.full((*shape, 3), 90, np.uint8)
    crop = align.crop(photo, np.array([[-40.0, -30], [-40, 90], [80, 90], [80, -30]]), 64)
    assert np.abs(crop.astype(int) - 90).max() <= 1  # a plain photo continues plainly


def test_a_quad_that_is_the_border_gives_the_picture_itself():
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert np.array_equal(align.crop(picture, align.border(picture), 64), picture)
    half = align.crop(picture, align.border(picture), 32)
    assert np.array_equal(half, np.asarray(Image.fromarray(picture).resize((32, 32), Image.Resampling.LANCZOS)))


@pytest.mark.parametrize(("move", "size", "reaches"), [
    ((0, 0), 1, True), ((300, 0), 1, True), ((-160, -160), 1, True), ((0, 0), 4, True),
    ((4000, 0), 1, False), ((0, -900), 1, False), ((0, 0), 40, False),
])  # fmt: skip
def test_a_face_lies_in_its_photo(move, size, reaches):
    square = np.array([(-1, -1), (-1, 1), (1, 1), (1, -1)], np.float64)
    assert align.reaches(square * 150 * size + (320, 240) + np.array(move), (640, 480)) is reaches
