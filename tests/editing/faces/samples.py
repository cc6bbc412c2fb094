"""Synthetic photos in every mode and depth, so that a clean clone tests without photos."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path

import numpy as np
from PIL import EpsImagePlugin, Image, ImageCms

from editing.faces.photo import Photo, from_rgb

QUAD = np.array([[40.0, 30.0], [28.0, 190.0], [188.0, 202.0], [200.0, 42.0]])  # a square, slightly turned
SIZE = 128


def scene(height: int = 240, width: int = 260, seed: int = 0) -> np.ndarray:
    """A picture with shading, edges and grain, (H, W, 3) float in [0, 1]."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    waves = [0.5 + 0.3 * np.sin(x / 17 + c) * np.cos(y / (13 + 3 * c)) for c in range(3)]
    picture = np.stack(waves, -1) + np.random.default_rng(seed).normal(0, 0.03, (height, width, 3))
    picture[60:120, 90:150] += [0.2, -0.1, 0.1]
    return np.clip(picture, 0, 1)


def wide_gamut_profile() -> bytes:
    """An RGB profile with primaries wider than sRGB and gamma 1.8, from its facts."""
    import imagecodecs

    primaries = (0.7347, 0.2653, 1.0, 0.1596, 0.8404, 1.0, 0.0366, 0.0001, 1.0)
    return imagecodecs.cms_profile("rgb", whitepoint=(0.3457, 0.3585, 1.0), primaries=primaries, gamma=1.8)


def gray_profile() -> bytes:
    import imagecodecs

    return imagecodecs.cms_profile("gray", whitepoint=(0.3457, 0.3585, 1.0), gamma=1.8)


def cmyk_profile() -> bytes:
    """A small CMYK profile with tables both ways (ICC.1:2001-04, lut8Type), for ink that mixes by plain formulas."""
    lab_profile = ImageCms.createProfile("LAB")
    srgb = ImageCms.createProfile("sRGB")

    def grid(n, channels):
        return np.stack(np.meshgrid(*[np.linspace(0, 1, n)] * channels, indexing="ij"), -1).reshape(-1, channels)

    inks = grid(9, 4)
    rgb = np.rint((1 - inks[:, :3]) * (1 - inks[:, 3:]) * 255).astype(np.uint8)
    to_lab = ImageCms.buildTransform(srgb, lab_profile, "RGB", "LAB")
    lab = np.asarray(ImageCms.applyTransform(Image.fromarray(rgb[None]), to_lab))[0].copy()
    lab[:, 1:] = lab[:, 1:].view(np.int8).astype(np.int16) + 128  # Pillow stores a, b signed; lut8 counts from 0
    wanted = grid(17, 3) * 255
    coded = wanted.copy()
    coded[:, 1:] -= 128
    stored = np.rint(coded).astype(np.int16)
    stored[:, 0] = np.rint(wanted[:, 0])
    image = Image.fromarray(stored.astype(np.uint8)[None], "LAB")
    back = ImageCms.buildTransform(lab_profile, srgb, "LAB", "RGB")
    seen = np.asarray(ImageCms.applyTransform(image, back))[0] / 255
    black = 0.5 * (1 - seen.max(1, keepdims=True))
    separated = np.concatenate([1 - seen / np.maximum(1 - black, 1e-6), black], 1)

    def lut8(entries, n, inputs, outputs):
        ramp = bytes(range(256))
        matrix = struct.pack(">9i", *(65536 if i % 4 == 0 else 0 for i in range(9)))
        head = b"mft1\0\0\0\0" + struct.pack(">BBBB", inputs, outputs, n, 0) + matrix
        return head + ramp * inputs + np.rint(entries).astype(np.uint8).tobytes() + ramp * outputs

    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", 5) + b"inks\0" + bytes(78),
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061),
        b"A2B0": lut8(lab, 9, 4, 3),
        b"B2A0": lut8(separated * 255, 17, 3, 4),
    }
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        data += bytes(-len(data) % 4)
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data
    header = struct.pack(">I4sI4s4s4s", start + len(body), b"test", 0x02400000, b"prtr", b"CMYK", b"Lab ")
    header += struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return header + bytes(128 - len(header)) + table + body


def disguised_eps(folder: Path, monkeypatch) -> tuple[Path, Path]:
    """A PostScript program named as a photo, and a file that a stand-in for Ghostscript makes when anybody runs it."""
    picture, mark, gs = folder / "holiday.jpg", folder / "mark", folder / "gs"
    picture.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nshowpage\n%%EOF\n")
    gs.write_text(f"#!/bin/sh\n: > {mark}\n")
    gs.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # Pillow looks once
    with contextlib.suppress(OSError):
        Image.open(picture).load()
    mark.unlink()  # so it is there where Pillow chooses
    return picture, mark


def photos() -> dict[str, Photo]:
    """The scene in every mode and depth that a Photo knows, with and without profiles."""
    rgb = scene()
    gray = rgb.mean(-1, keepdims=True)
    alpha = np.random.default_rng(1).random((*rgb.shape[:2], 1))
    ink = np.concatenate([1 - rgb, gray * 0.3], -1)
    muted = 0.35 + 0.3 * rgb  # in a wide space: colours that sRGB can show, before and after the edit
    rng = np.random.default_rng(2)

    def eight(values):
        return np.rint(values * 255).astype(np.uint8)

    def sixteen(values):
        return np.rint(values * 65535).astype(np.uint16)

    palette = rng.integers(0, 256, (256, 3)).astype(np.uint8)
    return {
        "RGB": from_rgb(eight(rgb)),
        "RGB wide": Photo(eight(muted), "RGB", icc=wide_gamut_profile()),
        "RGBA": Photo(eight(np.dstack([rgb, alpha])), "RGBA"),
        "L": Photo(eight(gray), "L"),
        "L profile": Photo(eight(gray), "L", icc=gray_profile()),
        "LA": Photo(eight(np.dstack([gray, alpha])), "LA"),
        "CMYK": Photo(eight(ink), "CMYK"),
        "CMYK profile": Photo(eight(ink), "CMYK", icc=cmyk_profile()),
        "P": Photo(rng.integers(0, 256, gray.shape).astype(np.uint8), "P", palette=palette),
        "1": Photo((gray > 0.5).astype(np.uint8) * 255, "1"),
        "I;16": Photo(sixteen(gray), "I;16", white=65535.0),
        "LA;16": Photo(sixteen(np.dstack([gray, alpha])), "LA;16", white=65535.0),
        "RGB;16": Photo(sixteen(rgb), "RGB;16", white=65535.0),
        "RGB;16 wide": Photo(sixteen(muted), "RGB;16", icc=wide_gamut_profile(), white=65535.0),
        "RGBA;16": Photo(sixteen(np.dstack([rgb, alpha])), "RGBA;16", white=65535.0),
        "I": Photo(sixteen(gray).astype(np.int32), "I", white=65535.0),
        "F": Photo(gray.astype(np.float32), "F", white=1.0),
    }


PHOTOS = photos()
