"""Detection: the registry, choosing, and (with the weights) faces of every size up to 50 megapixels."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from editing.faces import detect, photo
from editing.faces.face import Face
from stylegan2.errors import NoFaceFound, UsageError, WeightsMissing


def face(score: float, left: float = 0.0) -> Face:
    return Face((left, 0.0, left + 50, 50.0), score, np.zeros((68, 2)), "test")


def test_choose():
    faces = [face(2.0), face(1.0, 100)]
    assert detect.choose(faces, 1) is faces[1]
    with pytest.raises(NoFaceFound, match="No face found in holiday.jpg: try --detector cnn, or crop closer."):
        detect.choose([], 0, "holiday.jpg")
    with pytest.raises(NoFaceFound, match="No face number 2 in a.jpg, which has 2 faces: they are numbered 0 to 1."):
        detect.choose(faces, 2, "a.jpg")
    with pytest.raises(NoFaceFound, match="has 1 face: it is number 0."):
        detect.choose(faces[:1], -1, "a.jpg")


def test_detectors_are_pluggable_sorted_and_distinct(monkeypatch):
    found = [face(1.0, 100), face(2.0), face(0.5, 4)]
    monkeypatch.setitem(detect.DETECTORS, "mine", lambda rgb: found)
    assert detect.find_faces(np.zeros((9, 9, 3), np.uint8), "mine") == [found[1], found[0]]


def test_unknown_detector():
    with pytest.raises(UsageError, match="No face detector is called 'hogg': use one of auto, hog"):
        detect.find_faces(np.zeros((9, 9, 3), np.uint8), "hogg")


def test_fan_without_its_package(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    detect._fan_model.cache_clear()
    with pytest.raises(UsageError, match="pip install face-alignment"):
        detect.find_faces(np.zeros((9, 9, 3), np.uint8), "fan")


@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (64, 64), (700, 3)])
def test_no_face_in_nothing(shape, monkeypatch):
    def missing(name):
        raise WeightsMissing("not here")

    monkeypatch.setattr(detect, "weights", missing)
    detect._cnn_model.cache_clear()
    assert detect.find_faces(np.full((*shape, 3), 120, np.uint8)) == []


@pytest.fixture
def portrait(real_photos):
    """A real photo with one frontal face of about 260 pixels, and that face."""
    try:
        detect.weights("dlib-landmarks-68")
    except WeightsMissing as missing:
        pytest.skip(str(missing))
    for path in real_photos:
        rgb = photo.load(path).rgb
        faces = detect.find_faces(rgb, "hog")
        if len(faces) == 1 and 200 < faces[0].box[2] - faces[0].box[0] < 300:
            return rgb, faces[0]
    pytest.skip("no photo with one face of that size")


@pytest.mark.weights
@pytest.mark.parametrize("scale", [0.15, 0.4, 1.0, 2.5, 7.0])
def test_a_face_is_the_same_at_every_size(portrait, scale):
    """Down to a face of 40 pixels and up to a photo of 50 megapixels: landmarks within 3% of the quad's side."""
    rgb, reference = portrait
    size = tuple(round(v * scale) for v in rgb.shape[1::-1])
    found = detect.find_faces(np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BICUBIC)))
    assert len(found) >= 1
    side = np.hypot(*(reference.quad[3] - reference.quad[0]))
    ratio = size[0] / rgb.shape[1]
    here = (found[0].landmarks + 0.5) / ratio - 0.5
    assert np.hypot(*(here - reference.landmarks).T).mean() < 0.03 * side
    assert np.hypot(*((found[0].quad + 0.5) / ratio - 0.5 - reference.quad).T).max() < 0.06 * side


@pytest.mark.weights
def test_real_photos_never_crash(real_photos, portrait):
    """Turned, cut off, tiny or absent: a list of faces comes back, most confident first."""
    for path in real_photos:
        faces = detect.find_faces(photo.load(path).rgb, "hog")
        assert [f.score for f in faces] == sorted((f.score for f in faces), reverse=True)
        assert all(f.landmarks.shape == (68, 2) and np.isfinite(f.landmarks).all() for f in faces)


@pytest.mark.weights
def test_cnn_finds_the_same_face(portrait):
    try:
        detect.weights("dlib-cnn-detector")
    except WeightsMissing as missing:
        pytest.skip(str(missing))
    rgb, reference = portrait
    small = Image.fromarray(rgb).reduce(2)
    found = detect.find_faces(np.asarray(small), "cnn")
    assert detect._shared(tuple(2 * edge for edge in found[0].box), reference.box) > 0.5
