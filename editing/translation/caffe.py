"""Read a .caffemodel of RBDN: protobuf's wire format and the few fields of caffe.proto that hold weights.

A model is a row of layers, each with a name and blobs: [weight, bias] of a convolution, [scale, shift] of a batch norm,
into which the authors' files have its mean and variance folded already (arXiv 1612.03268's repository).  Nothing in the
file is executed; only the float32 blobs of named layers are taken.
"""

from __future__ import annotations

from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stylegan2.checkpoints.onnx import fields
from stylegan2.errors import CheckpointError

LAYER, NAME, BLOBS = 100, 1, 7  # field numbers: NetParameter.layer, LayerParameter.name and .blobs
SHAPE, DATA, LEGACY = 7, 5, (1, 2, 3, 4)  # of BlobProto: shape, data, and num, channels, height, width
DIMS = 1  # of BlobShape
MOST_BYTES, LONGEST, AXES = 1 << 28, 200, 8  # of a file, of a name, of a blob


def layers(path: Path | str) -> dict[str, list[np.ndarray]]:
    """Layer name -> its blobs, of a .caffemodel.  CheckpointError, one sentence, for anything else."""
    path = Path(path)
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError("too large")
        found: dict[str, list[np.ndarray]] = {}
        for number, layer in fields(memoryview(path.read_bytes())):
            if number == LAYER:
                parts = list(fields(layer))
                named = [value for field, value in parts if field == NAME and not isinstance(value, int)]
                name = b"".join(bytes(value) for value in named)[:LONGEST].decode()
                blobs = [_blob(value) for field, value in parts if field == BLOBS]
                if blobs:
                    found[name] = blobs
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}).") from None
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{path} is not a sound Caffe model ({str(error)[:80]}).") from None
    if not found:
        raise CheckpointError(f"{path} holds no Caffe layers with weights.")
    return found


def _blob(message: memoryview) -> np.ndarray:
    sizes, legacy, data = [], {}, []
    for number, value in fields(message):
        if number == SHAPE:
            for field, dims in fields(value):
                if field == DIMS:
                    sizes += [dims] if isinstance(dims, int) else _varints(dims[: 10 * AXES])
            if len(sizes) > AXES:
                raise ValueError("a blob of too many axes")
        elif number == DATA:
            if isinstance(value, int):
                raise ValueError("a blob of numbers that are no floats")
            data.append(bytes(value))
        elif number in LEGACY and isinstance(value, int):
            legacy[number] = value
    numbers = np.frombuffer(b"".join(data), "<f4")
    shape = sizes or [legacy.get(number, 1) for number in LEGACY]
    if prod(shape) != len(numbers):
        raise ValueError(f"a blob of {len(numbers)} numbers that says it is {tuple(shape)}")
    return numbers.reshape(shape)


def _varints(packed: memoryview) -> list[int]:
    found, value, shift = [], 0, 0
    for byte in packed:
        if shift > 63:
            raise ValueError("a number that is too long")
        value |= (byte & 127) << shift
        shift += 7
        if not byte & 128:
            found.append(value)
            value = shift = 0
    return found


def rbdn(path: Path | str) -> dict[str, Tensor]:
    """The tensors of `networks.RBDN` of a published model; its affine norms become batch norms of mean 0, variance 1.

    Caffe's 3x3 filters need no turning: convolution and 'deconvolution' are PyTorch's, with blobs in the same order.
    """
    path, state = Path(path), {}
    blobs = layers(path)

    def flat(array: np.ndarray) -> Tensor:
        return torch.from_numpy(array.reshape(-1).copy())

    try:
        for name in blobs:
            if not name.startswith(("conv", "deconv")):
                continue
            weight, bias = blobs[name]
            if name == "deconv1":
                state |= {"deconv1.weight": torch.from_numpy(weight.copy()), "deconv1.bias": flat(bias)}
                continue
            scale, shift = blobs[
                ("debn" if name.startswith("de") else "bn") + name.removeprefix("de").removeprefix("conv")
            ]
            state |= {f"{name}.conv.weight": torch.from_numpy(weight.copy()), f"{name}.conv.bias": flat(bias)}
            state |= {f"{name}.norm.weight": flat(scale), f"{name}.norm.bias": flat(shift)}
            state[f"{name}.norm.running_mean"] = torch.zeros(scale.size)
            state[f"{name}.norm.running_var"] = torch.ones(scale.size) - 1e-5  # eps is added to it
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{path} is not a model of RBDN ({str(error)[:80]}).") from None
    return state
