"""Read the constants of an ONNX file: protobuf's wire format and the few fields of onnx.proto that hold them.

A message is a row of fields, each a varint `number << 3 | kind` and a payload; kind 0 is a varint, 1 eight bytes,
2 a length and as many bytes, 5 four bytes.  Of a model only its float32 and int64 initializers are taken: the graph is
written down where a network is ported, and what differs from it does not fit.  Nothing in the file is executed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from stylegan2.errors import CheckpointError

GRAPH, INITIALIZER = 7, 5  # field numbers: ModelProto.graph, GraphProto.initializer
DIMS, DATA_TYPE, FLOATS, NAME, RAW, ELSEWHERE = 1, 2, 4, 8, 9, (13, 14)  # of TensorProto
DTYPES = {1: np.dtype("<f4"), 7: np.dtype("<i8")}  # TensorProto.DataType
MOST_BYTES = 1 << 28  # far more than a judge has


def constants(path: Path | str) -> dict[str, np.ndarray]:
    """The initializers of an ONNX file by name.  CheckpointError, one sentence, for anything else."""
    path = Path(path)
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError("too large")
        graphs = [value for number, value in fields(memoryview(path.read_bytes())) if number == GRAPH]
        tensors = [value for graph in graphs for number, value in fields(graph) if number == INITIALIZER]
        return dict(map(_tensor, tensors))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}).") from None
    except (ValueError, TypeError) as error:  # TypeError: a number where bytes belong, or the other way round
        raise CheckpointError(f"{path} is not a sound ONNX file ({str(error)[:80]}).") from None


def fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(number, payload) of every field of a message in turn; ValueError where it breaks off."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        kind = key & 7
        if kind == 0:
            value, position = _varint(message, position)
        elif kind in (1, 2, 5):
            length, position = _varint(message, position) if kind == 2 else (8 if kind == 1 else 4, position)
            value, position = message[position : position + length], position + length
            if position > len(message):
                raise ValueError("truncated")
        else:
            raise ValueError("a field of an unknown kind")
        yield key >> 3, value


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """Seven bits a byte, the lowest first -> (number, position after it)."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            raise ValueError("truncated")
        byte, position = message[position], position + 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("a number without an end")


def _numbers(value: int | memoryview) -> list[int]:
    """A repeated integer field: one number, or several packed."""
    if isinstance(value, int):
        return [value]
    numbers, position = [], 0
    while position < len(value):
        number, position = _varint(value, position)
        numbers.append(number)
    return numbers


def _tensor(message: memoryview) -> tuple[str, np.ndarray]:
    """TensorProto -> (name, array).  ValueError for other types, data in other files, a size that does not fit."""
    shape, dtype, name, data = [], None, "", b""
    for number, value in fields(message):
        if number == DIMS:
            shape += _numbers(value)
        elif number == DATA_TYPE:
            dtype = DTYPES.get(value)
        elif number == NAME:
            name = bytes(value).decode()
        elif number in (FLOATS, RAW):
            data += memoryview(value)
        elif number in ELSEWHERE:
            raise ValueError(f"{name[:40]!r} lies in another file")
    if dtype is None or math.prod(shape) * dtype.itemsize != len(data):
        raise ValueError(f"{name[:40]!r} is not of the type and size that are wanted")
    return name, np.frombuffer(data, dtype).reshape(shape)
