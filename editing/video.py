"""Videos of edits and morphs: frames to an MP4 that says, as pictures do, that a model made it, and how.

The mark is the XMP packet of `provenance`, in the place that the XMP specification (part 3, ISO base media files) gives
it: a top-level box of type `uuid`.  It is read by walking over the boxes; nothing of a stranger's file is decoded.
Encoding is ffmpeg's, which the extra `video` brings.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from editing import provenance
from editing.faces.saving import write_atomically
from editing.types import Recipe
from stylegan2 import console
from stylegan2.errors import UsageError, WplusError

FPS = 24
XMP_BOX = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")


def available() -> None:
    """UsageError if the encoder is not installed."""
    try:
        import imageio_ffmpeg  # noqa: F401
    except ImportError:
        raise UsageError("Videos need ffmpeg: pip install 'wplus[video]'.") from None


def save(frames: Iterable[np.ndarray], path: str | os.PathLike, recipe: Recipe, fps: int = FPS) -> Path:
    """Frames (H, W, 3) uint8 RGB, all of one size with even sides -> an H.264 MP4 with mark and recipe, and a sidecar.

    Write into a staged folder (`output.staged`): a file that ffmpeg did not finish is no video.  Raises UsageError
    without the encoder or without frames, WplusError if it fails.
    """
    available()
    import imageio.v2 as imageio

    path, count = Path(path), 0
    try:
        options = {"codec": "libx264", "quality": 8, "macro_block_size": 2}
        with imageio.get_writer(path, format="FFMPEG", fps=fps, **options) as writer:
            for frame in frames:
                writer.append_data(np.ascontiguousarray(frame))
                count += 1
    except OSError as error:
        raise WplusError(f"{path.name} could not be written as a video: {str(error).splitlines()[0]}.") from None
    if not count:
        raise UsageError("A video needs frames.")
    packet = provenance.xmp(recipe)
    with open(path, "ab") as file:
        file.write(struct.pack(">I4s16s", 24 + len(packet), b"uuid", XMP_BOX) + packet)
    write_atomically(provenance.sidecar_path(path), (recipe.to_json() + "\n").encode())
    return path


def counted(frames: Iterable[np.ndarray], count: int) -> Iterator[np.ndarray]:
    """The frames, with a progress bar on a terminal."""
    with console.step_bar("frames") as bar:
        for index, frame in enumerate(frames):
            bar(index + 1, count)
            yield frame


def xmp(path: str | os.PathLike) -> bytes:
    """The XMP packet of an MP4, b"" where there is none, or where the file is no MP4."""
    with open(path, "rb") as file:
        end = file.seek(0, os.SEEK_END)
        at = 0
        while at + 8 <= end:
            file.seek(at)
            size, kind = struct.unpack(">I4s", file.read(8))
            header = 8
            if size == 1 and at + 16 <= end:  # a 64-bit size follows
                (size,), header = struct.unpack(">Q", file.read(8)), 16
            size = end - at if size == 0 else size
            if size < header or at + size > end:
                break
            if kind == b"uuid" and file.read(16) == XMP_BOX:
                return file.read(min(size - header - 16, provenance.MAX_RECIPE_BYTES))
            at += size
    return b""
