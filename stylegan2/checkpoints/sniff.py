"""What kind of file is this?  Answered from its first bytes, never from its name."""

from __future__ import annotations

import codecs
import re
import struct
from pathlib import Path
from typing import Literal

from stylegan2.checkpoints.torchfile import LEGACY_START
from stylegan2.errors import CheckpointError

Format = Literal["safetensors", "torch-zip", "torch-legacy", "pickle"]

TEXT_PICKLE = re.compile(rb"\A[(\]}ldc](.*\n)*?.*[ci][A-Za-z_][\w.]*\n[A-Za-z_][\w.]*\n")
OTHERS = {
    b"\x1f\x8b": "a gzip archive: unpack it first",
    b"\x89HDF": "an HDF5 file, which is not a format of these networks",
    b"\xff\xd8\xff": "a JPEG picture, not weights",
    b"\x89PNG": "a PNG picture, not weights",
    b"ustar": "a tar archive: unpack it first",
    b"<?xml": "an XML file; an OpenVINO network is converted by `python -m stylegan2.zoo fetch`",
    b"<net": "an OpenVINO network; it is converted by `python -m stylegan2.zoo fetch`",
    b"version https://git-lfs": "a Git LFS pointer, not the weights themselves: download the real file",
    b"<!DOCTYPE html": "a web page, not weights: the download went wrong",
    b"<html": "a web page, not weights: the download went wrong",
}


def sniff(path: Path) -> Format:
    """The format of a file, or CheckpointError with the end of a sentence about what it is instead."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(1024)
        file.seek(max(0, size - 1))
        tail = file.read(1)
    if not size:
        raise CheckpointError("is empty.")
    if head.startswith(b"PK\x03\x04"):
        return "torch-zip"
    if head.startswith(LEGACY_START):
        return "torch-legacy"
    for start, what in OTHERS.items():
        if head.lstrip().lower().startswith(start.lower()) or (start == b"ustar" and head[257:262] == start):
            raise CheckpointError(f"is {what}.")
    if len(head) > 8 and head[8:9] == b"{":
        length = struct.unpack("<Q", head[:8])[0]
        if length > size - 8:
            raise CheckpointError("is a safetensors file that is truncated, or whose head claims an absurd size.")
        return "safetensors"
    if head[:1] == b"\x80" and head[1:2] in {b"\x02", b"\x03", b"\x04", b"\x05"}:
        return "pickle"
    if is_text(head):
        if TEXT_PICKLE.search(head) and tail == b".":
            return "pickle"  # of protocol 0, so that its refusal can say what it asks for
        raise CheckpointError("is a text file, not weights.")
    raise CheckpointError("is in no format known here (safetensors, torch .pt, NVIDIA .pkl).")


def is_text(head: bytes) -> bool:
    """Printable UTF-8, which may break off in the middle of a character."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return all(c.isprintable() or c in "\r\n\t\f" for c in text)
