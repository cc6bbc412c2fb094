"""Finding faces, and 68 landmarks on each.

Detectors are functions in `DETECTORS`, rgb (H, W, 3) uint8 -> faces; add to it to plug in another.
dlib's HOG detector is quick and sees frontal faces from about 80 pixels; pictures are brought to a
working size first, so a 50-megapixel photo takes no longer than a small one, and landmarks are
measured on a cut-out in which every face has the same size.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from editing.faces.face import Face
from stylegan2.errors import NoFaceFound, UsageError, WeightsMissing

_HOG_SIDE = 1600  # long side of the picture the first HOG pass sees; the second sees twice that
_HOG_SMALL = 640  # small pictures are enlarged to at least this for the second pass
_CNN_SIDE = 800  # dlib's CNN is slow on a CPU, and its faces start at about 80 pixels too
_LANDMARK_FACE = 320  # width of a face when its landmarks are measured
DOUBTFUL = 0.15  # a face of a lower score is a patch of cloth more often than a person
_OVERLAP = 0.4  # two boxes that share this much (intersection over union) are one face


def find_faces(rgb: np.ndarray, detector: str = "auto") -> list[Face]:
    """Faces of a photo rgb (H, W, 3) uint8, most confident first; an empty list if there is none.

    detector: a name in DETECTORS.  Raises UsageError for other names, WeightsMissing if its weights are not there.
    """
    if detector not in DETECTORS:
        raise UsageError(f"No face detector is called '{detector}': use one of {', '.join(DETECTORS)}.")
    faces = DETECTORS[detector](np.ascontiguousarray(rgb))
    return _distinct(sorted(faces, key=lambda face: -face.score))


def choose(faces: list[Face], index: int = 0, name: str = "the picture") -> Face:
    """The face number `index` (0 is the most confident) of the photo `name`.  Raises NoFaceFound if there is none."""
    if not faces:
        raise NoFaceFound(f"No face found in {name}: try --detector cnn, or crop closer.")
    if not 0 <= index < len(faces):
        has = (
            "1 face: it is number 0"
            if len(faces) == 1
            else f"{len(faces)} faces: they are numbered 0 to {len(faces) - 1}"
        )
        raise NoFaceFound(f"No face number {index} in {name}, which has {has}.")
    return faces[index]


def hog(rgb: np.ndarray) -> list[Face]:
    """dlib's HOG detector; where it sees nothing in a small picture, again on twice the size."""
    return _hog(rgb, 1) or (_hog(rgb, 2) if max(rgb.shape[:2]) < _HOG_SIDE else [])


def cnn(rgb: np.ndarray) -> list[Face]:
    """dlib's CNN detector (max-margin object detection): slower, and better on turned and covered faces."""
    long_side = max(rgb.shape[:2])
    working = min(max(long_side, _HOG_SMALL), _CNN_SIDE)
    picture, scale = _resized(rgb, working / long_side)
    found = _cnn_model()(picture, 0)
    return [_face(rgb, _box(d.rect, scale), d.confidence, "cnn") for d in found]


def fan(rgb: np.ndarray) -> list[Face]:
    """The face-alignment package's detector and FAN landmarks, where both it and its weights are installed."""
    boxes_and_points = _fan_model().get_landmarks_from_image(rgb, return_bboxes=True)
    points, _, boxes = boxes_and_points if boxes_and_points else (None, None, None)
    if points is None:
        return []
    return [
        Face(tuple(float(v) for v in box[:4]), float(box[4]), np.asarray(landmarks, np.float64)[:, :2], "fan")
        for landmarks, box in zip(points, boxes, strict=True)
    ]


def auto(rgb: np.ndarray) -> list[Face]:
    """HOG, then HOG on twice the size, then the CNN if its weights are there: the first that sees a face."""
    faces = _hog(rgb, 1) or _hog(rgb, 2)
    if faces:
        return faces
    try:
        return cnn(rgb)
    except WeightsMissing:
        return []


DETECTORS: dict[str, Callable[[np.ndarray], list[Face]]] = {"auto": auto, "hog": hog, "cnn": cnn, "fan": fan}


# ---------------------------------------------------------------------------------------------- dlib


def _hog(rgb: np.ndarray, zoom: int) -> list[Face]:
    long_side = max(rgb.shape[:2])
    working = min(long_side, _HOG_SIDE) * zoom
    working = max(working, _HOG_SMALL) if zoom > 1 else working
    if working > long_side * 8:  # a handful of pixels holds no face
        return []
    picture, scale = _resized(rgb, working / long_side)
    rectangles, scores, _ = _hog_model().run(picture, 0, 0.0)
    return [_face(rgb, _box(r, scale), s, "hog") for r, s in zip(rectangles, scores, strict=True)]


def _resized(rgb: np.ndarray, scale: float) -> tuple[np.ndarray, float]:
    """The picture scaled, antialiased; and the scale again."""
    if scale == 1:
        return rgb, 1.0
    height, width = (max(1, round(v * scale)) for v in rgb.shape[:2])
    picture = Image.fromarray(rgb)
    gap = 2.0 if scale < 0.5 else None  # quick block averaging before the last, exact reduction
    return np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=gap)), scale


def _box(rectangle, scale: float) -> tuple[float, float, float, float]:
    edges = (rectangle.left(), rectangle.top(), rectangle.right() + 1, rectangle.bottom() + 1)
    return tuple(edge / scale - 0.5 for edge in edges)


def _face(rgb: np.ndarray, box, score: float, name: str) -> Face:
    return Face(box, float(score), landmarks_in(rgb, box), name)


def landmarks_in(rgb: np.ndarray, box) -> np.ndarray:
    """The 68 landmarks (68, 2) of the face in a box of a photo rgb (H, W, 3), in photo pixels."""
    import dlib

    left, top, right, bottom = box
    reach = 0.5 * max(right - left, bottom - top)
    height, width = rgb.shape[:2]
    x0, y0 = int(np.clip(left - reach, 0, width - 1)), int(np.clip(top - reach, 0, height - 1))
    x1, y1 = int(np.clip(right + reach, x0 + 1, width)), int(np.clip(bottom + reach, y0 + 1, height))
    scale = _LANDMARK_FACE / max(right - left, 1.0)
    picture, _ = _resized(np.ascontiguousarray(rgb[y0:y1, x0:x1]), scale)
    scale_x, scale_y = picture.shape[1] / (x1 - x0), picture.shape[0] / (y1 - y0)
    edges = [round((left - x0) * scale_x), round((top - y0) * scale_y)]
    edges += [round((right - x0) * scale_x), round((bottom - y0) * scale_y)]
    shape = _landmark_model()(picture, dlib.rectangle(*edges))
    points = np.array([(point.x, point.y) for point in shape.parts()], np.float64)
    return (points + 0.5) / [scale_x, scale_y] - 0.5 + [x0, y0]


def _distinct(faces: list[Face]) -> list[Face]:
    """Faces sorted by score, less those that mostly cover a better one."""
    kept: list[Face] = []
    for face in faces:
        if all(_shared(face.box, other.box) < _OVERLAP for other in kept):
            kept.append(face)
    return kept


def _shared(a, b) -> float:
    """Intersection over union of two boxes."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return width * height / (areas - width * height)


# ---------------------------------------------------------------------------------------------- models


def weights(name: str) -> Path:
    """Where the weight file `name` of the zoo lies.  Raises WeightsMissing."""
    from stylegan2 import zoo

    return zoo.path(name)


@lru_cache(maxsize=1)
def _hog_model():
    import dlib

    return dlib.get_frontal_face_detector()


@lru_cache(maxsize=1)
def _cnn_model():
    import dlib

    return dlib.cnn_face_detection_model_v1(str(weights("dlib-cnn-detector")))


@lru_cache(maxsize=1)
def _landmark_model():
    import dlib

    return dlib.shape_predictor(str(weights("dlib-landmarks-68")))


@lru_cache(maxsize=1)
def _fan_model():
    if importlib.util.find_spec("face_alignment") is None:
        raise UsageError("The detector 'fan' needs the package face-alignment: pip install face-alignment.")
    import torch

    folder = Path(torch.hub.get_dir()) / "checkpoints"
    if not (any(folder.glob("s3fd*")) and any(folder.glob("2DFAN4*"))):
        raise WeightsMissing(f"The detector 'fan' needs its weights s3fd and 2DFAN4 in {folder}.")
    import face_alignment

    device = "cuda" if torch.cuda.is_available() else "cpu"
    return face_alignment.FaceAlignment(face_alignment.LandmarksType.TWO_D, device=device)
