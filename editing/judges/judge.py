"""One call that measures a face picture: age, gender, expression, pose, looks and an identity descriptor.

Age and gender are dlib's networks (Cydral) through ONNX, on chips cut as their training did; the rest is landmark
geometry (`landmarks.measure`), colours and sizes of what the parser sees (`appearance.measure`) and dlib's
face-recognition descriptor (`encoders.losses.identity`).
A judge is a measuring tool with its own error and bias, not the truth about a person.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from PIL import Image

from editing.judges import appearance
from editing.judges import landmarks as geometry
from editing.judges.glasses import glasses
from editing.judges.parsing import parse
from encoders.losses import identity
from stylegan2 import zoo

NAMES = ("age", "male", *geometry.NAMES, "glasses", *appearance.NAMES)
AGE_CHIP, GENDER_CHIP, CHIP_PADDING = 64, 32, 0.2  # how the age and gender networks' chips are cut
CHIP_MEAN = identity.MEAN_RGB
SAME_PERSON = 0.45
TINY = 1e-30  # the gender network's probabilities count as no smaller


@dataclass(frozen=True)
class Scores:
    """values: judge name -> number (age in years, male in log-odds, the rest see `landmarks.measure`, `glasses` and
    `appearance.measure`, nan where that has nothing to measure);
    descriptor (128,) float32, for `distance`; landmarks (68, 2) in the picture's pixels."""

    values: dict[str, float]
    descriptor: np.ndarray
    landmarks: np.ndarray


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """Euclidean distance of two descriptors (128,); below `SAME_PERSON` counts as the same person."""
    return float(np.linalg.norm(np.asarray(a) - np.asarray(b)))


def judge(picture: np.ndarray) -> Scores | None:
    """Picture (H, W, 3) uint8 RGB of one face (an aligned crop) -> Scores, or None where no face is found.

    With several faces the one nearest the middle is measured.
    """
    import dlib

    box = _box(picture)
    if box is None:
        return None
    picture = np.ascontiguousarray(picture)
    shape68, shape5 = _predictor("dlib-landmarks-68")(picture, box), _predictor("dlib-landmarks-5")(picture, box)
    points = _points(shape68)
    age = _age(dlib.get_face_chip(picture, shape5, AGE_CHIP, CHIP_PADDING))
    male = _male(dlib.get_face_chip(picture, shape5, GENDER_CHIP, CHIP_PADDING))
    values = {"age": age, "male": male, **geometry.measure(points), "glasses": glasses(picture, points)}
    values |= looks(picture, points)
    return Scores(values, _descriptor(picture, shape68), points)


def looks(picture: np.ndarray, points: np.ndarray) -> dict[str, float]:
    """Picture (H, W, 3) uint8 RGB and its 68 landmarks (68, 2) -> what `appearance.measure` says, nan where unseen."""
    height, width = picture.shape[:2]
    scale = appearance.SIZE / np.array([width, height])
    small = Image.fromarray(picture).resize((appearance.SIZE, appearance.SIZE), Image.Resampling.BOX)
    return appearance.measure(np.asarray(small), parse(picture), (points + 0.5) * scale - 0.5)


def male_of(picture: np.ndarray) -> float:
    """Picture (H, W, 3) uint8 RGB -> `Scores.values["male"]` alone, nan where no face is found."""
    import dlib

    box, picture = _box(picture), np.ascontiguousarray(picture)
    if box is None:
        return float("nan")
    return _male(dlib.get_face_chip(picture, _predictor("dlib-landmarks-5")(picture, box), GENDER_CHIP, CHIP_PADDING))


def describe(picture: np.ndarray) -> np.ndarray | None:
    """Picture (H, W, 3) uint8 RGB -> identity descriptor (128,) alone; nothing else is asked of the face."""
    box = _box(picture)
    if box is None:
        return None
    picture = np.ascontiguousarray(picture)
    return _descriptor(picture, _predictor("dlib-landmarks-68")(picture, box))


def _descriptor(picture: np.ndarray, shape68) -> np.ndarray:
    import dlib

    chip = dlib.get_face_chip(picture, shape68, identity.CHIP_SIZE, identity.PADDING)
    tensor = torch.from_numpy(chip.astype(np.float32)).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.inference_mode():
        return descriptor_network()(tensor)[0].numpy()


def locate(picture: np.ndarray) -> np.ndarray | None:
    """Picture (H, W, 3) uint8 RGB -> the 68 landmarks (68, 2) of its middle face in pixels, or None."""
    box = _box(picture)
    return None if box is None else _points(_predictor("dlib-landmarks-68")(np.ascontiguousarray(picture), box))


def _points(shape) -> np.ndarray:
    return np.array([(p.x, p.y) for p in shape.parts()], dtype=np.float64)


def _box(picture: np.ndarray):
    """The box of the face nearest the middle; a half-size look first (quick), then full size."""
    import dlib

    half = _half(picture)
    for image, scale, upsample in ((half, 2, 0), (np.ascontiguousarray(picture), 1, 0)):
        boxes = list(_detector()(image, upsample))
        if boxes:
            middle = np.array([picture.shape[1], picture.shape[0]]) / 2
            box = min(boxes, key=lambda b: np.hypot(*(np.array([b.center().x, b.center().y]) * scale - middle)))
            return dlib.rectangle(*(int(v * scale) for v in (box.left(), box.top(), box.right(), box.bottom())))
    return None


def _half(picture: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 -> (H // 2, W // 2, 3): means of four pixels, rounded down; ten times quicker than `mean`."""
    height, width = (n // 2 * 2 for n in picture.shape[:2])
    quarters = (picture[i:height:2, j:width:2].astype(np.uint16) for i in (0, 1) for j in (0, 1))
    return (sum(quarters) // 4).astype(np.uint8)


def _age(chip: np.ndarray) -> float:
    """Chip (64, 64, 3) uint8 -> expected age in years over 81 classes (0.25, 1, 2, ..., 80)."""
    weights = np.concatenate([[0.25], np.arange(1, 81)])
    return float(_run("age-onnx", chip) @ weights)


def _male(chip: np.ndarray) -> float:
    """Chip (32, 32, 3) uint8 -> log-odds that the network calls the face male, also where it is certain."""
    other, male = np.log(_run("gender-onnx", chip).astype(np.float64).clip(min=TINY))
    return float(male - other)


def _run(name: str, chip: np.ndarray) -> np.ndarray:
    session = _session(name)
    batch = ((chip.astype(np.float32) - np.float32(CHIP_MEAN)) / 256).transpose(2, 0, 1)[None]
    return session.run(None, {session.get_inputs()[0].name: np.ascontiguousarray(batch)})[0].reshape(-1)


@cache
def _session(name: str):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(zoo.path(name)), options, providers=["CPUExecutionProvider"])


@cache
def _predictor(name: str):
    import dlib

    return dlib.shape_predictor(str(zoo.path(name)))


@cache
def _detector():
    import dlib

    return dlib.get_frontal_face_detector()


@cache
def descriptor_network() -> identity.FaceDescriptor:
    """The identity network, read once; frozen and in eval mode."""
    return identity.load(zoo.path("dlib-face-recognition"))
