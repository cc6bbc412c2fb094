"""What 68 landmarks say about a face: smile, mouth, eyes, brows, pose and width, as pure functions.

Points follow the iBUG order: 0-16 jaw, 17-26 brows, 27-35 nose, 36-47 eyes, 48-67 mouth; "left" and
"right" are the picture's.  Everything is measured in a frame turned upright by the eyes and divided by
the distance of the eye centres, so neither size nor in-plane rotation of the face matters.
"""

from __future__ import annotations

import numpy as np

NAMES = (
    "smile", "mouth_open", "eye_open", "brow_raise", "yaw", "pitch", "roll", "face_width",
    "jaw_wide", "chin_long", "nose_long", "nose_wide", "mouth_wide", "eye_size", "eye_tilt", "brow_tilt",
)  # fmt: skip
LEFT_EYE, RIGHT_EYE = slice(36, 42), slice(42, 48)


def upright(landmarks: np.ndarray) -> np.ndarray:
    """(68, 2) pixels -> (68, 2): eye midpoint at 0, eyes level, eye distance 1, y downwards."""
    left, right = landmarks[LEFT_EYE].mean(0), landmarks[RIGHT_EYE].mean(0)
    x_axis = (right - left) / np.linalg.norm(right - left)
    y_axis = np.array([-x_axis[1], x_axis[0]])
    return (landmarks - (left + right) / 2) @ np.stack([x_axis, y_axis], 1) / np.linalg.norm(right - left)


def measure(landmarks: np.ndarray) -> dict[str, float]:
    """(68, 2) pixels -> measurements, in eye distances unless said otherwise.

    smile: mouth width plus twice the lift of its corners over the lips' centre; mouth_open: gap of the
    inner lips; eye_open: mean aperture over width; brow_raise: brows over eyes; yaw: -1..1, positive
    when the face looks to the picture's right; pitch: 0..1, grows as it looks up
    (about 0.45 for a level head); roll: degrees, clockwise;
    face_width: jaw width over the height from eyes to chin; jaw_wide: the jaw at the mouth's height over that at the
    ears'; chin_long: lower lip to chin; nose_long: root to base; nose_wide: between the wings; mouth_wide: between its
    corners; eye_size: width of the eyes over that of the face; eye_tilt: outer corners over inner ones;
    brow_tilt: outer ends of the brows over inner ones.
    """
    p = upright(np.asarray(landmarks, dtype=np.float64))
    corners = p[[48, 54]]
    lips = p[[51, 57, 62, 66]].mean(0)
    nose_to_left, nose_to_right = np.linalg.norm(p[30] - p[2]), np.linalg.norm(p[30] - p[14])
    eyes_to_nose, nose_to_mouth = p[30, 1], p[[48, 54, 62, 66], 1].mean() - p[30, 1]
    left, right = landmarks[LEFT_EYE].mean(0), landmarks[RIGHT_EYE].mean(0)
    return {
        "smile": float(np.linalg.norm(corners[1] - corners[0]) + 2 * (lips[1] - corners[:, 1].mean())),
        "mouth_open": float(p[66, 1] - p[62, 1]),
        "eye_open": float(np.mean([_aperture(p[36:42]), _aperture(p[42:48])])),
        "brow_raise": float(p[36:48, 1].mean() - p[17:27, 1].mean()),
        "yaw": float((nose_to_left - nose_to_right) / (nose_to_left + nose_to_right)),
        "pitch": float(nose_to_mouth / (eyes_to_nose + nose_to_mouth)),
        "roll": float(np.degrees(np.arctan2(*(right - left)[::-1]))),
        "face_width": float(np.linalg.norm(p[14] - p[2]) / p[8, 1]),
        "jaw_wide": float(np.linalg.norm(p[12] - p[4]) / np.linalg.norm(p[15] - p[1])),
        "chin_long": float(p[8, 1] - p[57, 1]),
        "nose_long": float(p[33, 1] - p[27, 1]),
        "nose_wide": float(np.linalg.norm(p[35] - p[31])),
        "mouth_wide": float(np.linalg.norm(corners[1] - corners[0])),
        "eye_size": float(np.linalg.norm(p[[39, 45]] - p[[36, 42]], axis=1).mean() / np.linalg.norm(p[15] - p[1])),
        "eye_tilt": float((p[[39, 42], 1] - p[[36, 45], 1]).mean()),
        "brow_tilt": float((p[[21, 22], 1] - p[[17, 26], 1]).mean()),
    }


def _aperture(eye: np.ndarray) -> float:
    """(6, 2) eye contour -> eye aspect ratio (Soukupova & Cech 2016): mean height over width."""
    return (np.linalg.norm(eye[1] - eye[5]) + np.linalg.norm(eye[2] - eye[4])) / (2 * np.linalg.norm(eye[0] - eye[3]))
