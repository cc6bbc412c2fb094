"""Read a .t7 of Torch7 (Lua): its binary serialisation, and the networks of Reed et al. (arXiv 1605.05396) in it.

An object is a type, int32, and what belongs to it: nil, number (double), string (int32 length, bytes), boolean, table
(pairs of objects) or an instance of a Torch class (version and name of the class, then a tensor's numbers or a table).
Tables and instances have an index; once read, it stands for them.  Little-endian, as on every machine that Torch7 ran
on.  Nothing in the file is executed: functions are passed over, no class is looked up, and no length is believed beyond
the end of the file.

A published file holds a whole network without names: its layers are told apart by their order, `reed`.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from editing.translation.networks import ReedDiscriminator, ReedGenerator
from editing.translation.networks.reed import Residual
from stylegan2.checkpoints.values import Damaged, Storage, StoredTensor, rebuild_tensor
from stylegan2.errors import CheckpointError

NIL, NUMBER, STRING, TABLE, TORCH, BOOLEAN, FUNCTION, OLD_CLOSURE, CLOSURE = range(9)
MOST_OBJECTS, DEEPEST, MOST_LAYERS, MOST_AXES, LARGEST = 1_000_000, 200, 1000, 16, 16384
NUMBERS = {
    "Float": torch.float32, "Double": torch.float64, "Half": torch.float16, "Long": torch.int64, "Int": torch.int32,
    "Short": torch.int16, "Char": torch.int8, "Byte": torch.uint8, "Cuda": torch.float32,
    "CudaDouble": torch.float64, "CudaHalf": torch.float16, "CudaLong": torch.int64, "CudaInt": torch.int32,
    "CudaShort": torch.int16, "CudaChar": torch.int8, "CudaByte": torch.uint8,
}  # fmt: skip
STORAGES = {f"torch.{name}Storage": dtype for name, dtype in NUMBERS.items()}
TENSORS = {f"torch.{name}Tensor" for name in NUMBERS}

Table = dict[str | float | bool, Any]


@dataclass(eq=False)
class Instance:
    """Of a class, by its name: 'nn.Linear'.  fields: what it was written as, a table for every layer."""

    kind: str
    version: int
    fields: Any = None


class Reader:
    """One object after the other out of a file's bytes."""

    def __init__(self, data: memoryview) -> None:
        self.data, self.place, self.objects, self.known = data, 0, 0, {}

    def take(self, count: int) -> memoryview:
        if not 0 <= count <= len(self.data) - self.place:
            raise Damaged(f"at byte {self.place} it claims {count} bytes")
        self.place += count
        return self.data[self.place - count : self.place]

    def whole(self, code: str = "i") -> int:
        return struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}")))[0]

    def text(self) -> str:
        return bytes(self.take(self.whole())).decode("utf-8", "replace")

    def read(self, depth: int = 0) -> Any:
        """The next object: None, float, str, bool, Table, Instance, Storage or StoredTensor; None for functions and
        for tensors without numbers."""
        self.objects += 1
        if depth > DEEPEST or self.objects > MOST_OBJECTS:
            raise Damaged("it holds more objects, or deeper ones, than any network")
        kind = self.whole()
        if kind == NIL:
            return None
        if kind == NUMBER:
            return self.whole("d")
        if kind == STRING:
            return self.text()
        if kind == BOOLEAN:
            return self.whole() == 1
        if kind == FUNCTION:
            return self.function(depth)
        if kind not in (TABLE, TORCH, OLD_CLOSURE, CLOSURE):
            raise Damaged(f"at byte {self.place - 4} there is an object of the unknown type {kind}")
        index = self.whole()
        if index not in self.known:
            self.known[index] = None  # of what refers to itself before it is there
            if kind == TABLE:
                self.table(index, depth)
            elif kind == TORCH:
                self.instance(index, depth)
            else:
                self.function(depth)
        return self.known[index]

    def function(self, depth: int) -> None:
        """Its code and what it refers to, both passed over."""
        self.take(self.whole())
        self.read(depth + 1)

    def table(self, index: int, depth: int) -> None:
        found = self.known[index] = {}
        for _ in range(self.whole()):
            key, value = self.read(depth + 1), self.read(depth + 1)
            if isinstance(key, str | float | bool):
                found[key] = value

    def instance(self, index: int, depth: int) -> None:
        name, version = self.text(), 0
        if name.startswith("V "):
            version, name = int(name[2:]) if name[2:].isdecimal() else 0, self.text()
        if name in STORAGES:
            self.known[index] = self.storage(STORAGES[name])
        elif name in TENSORS:
            self.known[index] = self.tensor(depth)
        else:
            self.known[index] = found = Instance(name, version)
            found.fields = self.read(depth + 1)

    def storage(self, dtype: torch.dtype) -> Storage:
        count = self.whole("q")
        data = self.take(count * dtype.itemsize)
        return Storage(dtype, count, lambda: data)

    def tensor(self, depth: int) -> StoredTensor | None:
        axes = self.whole()
        if not 0 <= axes <= MOST_AXES:
            raise Damaged(f"at byte {self.place - 4} there is a tensor of {axes} axes")
        shape = struct.unpack(f"<{axes}q", self.take(8 * axes))
        stride = struct.unpack(f"<{axes}q", self.take(8 * axes))
        offset, storage = self.whole("q") - 1, self.read(depth + 1)
        if not axes or storage is None:
            return None
        return narrowed(rebuild_tensor(storage, offset, shape, stride))


def narrowed(tensor: StoredTensor) -> StoredTensor:
    """With a storage no larger than it needs: `getParameters` puts all numbers of a network into one."""
    if 0 in tensor.shape:
        return tensor
    count = 1 + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride, strict=True))
    source, size = tensor.storage, tensor.storage.dtype.itemsize
    start = tensor.offset * size
    part = Storage(source.dtype, count, lambda: source.read()[start : start + count * size])
    return StoredTensor(part, 0, tensor.shape, tensor.stride)


def load(path: Path | str) -> Any:
    """The object of a .t7 file, see `Reader.read`.  CheckpointError, one sentence, for anything else."""
    path = Path(path)
    try:
        with open(path, "rb") as file:
            if not path.stat().st_size:
                raise CheckpointError(f"{path} is empty.")
            return Reader(memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))).read()
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({getattr(error, 'strerror', None) or error}).") from None
    except Damaged as error:
        raise CheckpointError(f"{path} is no sound Torch7 file: {error}.") from None


# ---- networks by the order of their layers

CONTAINERS = ("Sequential", "ParallelTable", "ConcatTable")
KINDS = {
    nn.Linear: "Linear", nn.Conv2d: "SpatialConvolution", nn.ConvTranspose2d: "SpatialFullConvolution",
    nn.BatchNorm2d: "SpatialBatchNormalization", nn.BatchNorm1d: "BatchNormalization", nn.LeakyReLU: "LeakyReLU",
    nn.ReLU: "ReLU", nn.Tanh: "Tanh",
}  # fmt: skip

Chain = list[tuple[str, Any]]


def reed(path: Path | str) -> dict[str, Any]:
    """A published network -> the tensors of `networks.ReedGenerator` or `ReedDiscriminator`, by their names."""
    root = load(path)
    try:
        layers = [(kind, layer) for kind, layer in flattened(root)]
        network = described(layers)
        expected = order_of(network)
        for place, ((found, _), (kind, _)) in enumerate(zip(layers, expected, strict=False)):
            if found != kind:
                raise ValueError(f"its layer {place + 1} is {found[:40]!r}, not {kind!r}")
        if len(layers) != len(expected):
            raise ValueError(f"it has {len(layers)} layers, not {len(expected)}")
        return {key: value for (_, layer), (_, name) in zip(layers, expected, strict=True)
                for key, value in tensors_of(layer, name, network)}  # fmt: skip
    except (ValueError, Damaged) as error:
        raise CheckpointError(f"{path} holds no network of Reed et al.: {error}.") from None


def flattened(root: Any) -> Iterator[tuple[str, Instance]]:
    """Layers in order, containers opened: (class without its package, layer).  ValueError for what is none."""
    waiting, seen = [root], 0
    while waiting:
        layer, seen = waiting.pop(), seen + 1
        if seen > MOST_LAYERS:
            raise ValueError("it has more layers than any of them")
        if not isinstance(layer, Instance) or not isinstance(layer.fields, dict):
            raise ValueError("it has something else in the place of a layer")
        kind = layer.kind.rpartition(".")[2]  # nn or cudnn
        if kind not in CONTAINERS:
            yield kind, layer
            continue
        modules = layer.fields.get("modules")
        if not isinstance(modules, dict):
            raise ValueError(f"its {kind} has no layers")
        if len(modules) > MOST_LAYERS:
            raise ValueError("it has more layers than any of them")
        waiting += [modules.get(float(place)) for place in range(len(modules), 0, -1)]


def described(layers: Chain) -> ReedGenerator | ReedDiscriminator:
    """The network, without memory, that these layers should be."""
    kinds = [kind for kind, _ in layers]
    nt, text_dim = shape(layers, "Linear", 2)
    with torch.device("meta"):
        if "Sigmoid" in kinds:
            width = shape(layers, "SpatialConvolution", 4)[0]
            return ReedDiscriminator(width, text_dim, nt, plain="BatchNormalization" not in kinds)
        inputs, outputs, *_ = shape(layers, "SpatialFullConvolution", 4)
        if inputs <= nt:
            raise ValueError("it takes no noise")
        return ReedGenerator(max(outputs // 8, 1), text_dim, nt, inputs - nt, kinds.count("CAddTable") == 4)


def shape(layers: Chain, kind: str, axes: int) -> tuple[int, ...]:
    """Of the weight of the first layer of that kind."""
    weight = next((layer.fields.get("weight") for found, layer in layers if found == kind), None)
    if not isinstance(weight, StoredTensor) or len(weight.shape) != axes:
        raise ValueError(f"it has no {kind} with a weight of {axes} axes")
    if not all(0 < n <= LARGEST for n in weight.shape):
        raise ValueError(f"its {kind} has a weight of the shape {weight.shape}")
    return weight.shape


def order_of(network: ReedGenerator | ReedDiscriminator) -> list[tuple[str, str]]:
    """(class in Torch7, name of ours or '') of all layers, in the order that Torch7's network has them."""

    def chain(module: nn.Module, name: str) -> list[tuple[str, str]]:
        if isinstance(module, Residual):
            return [("Identity", ""), *chain(module.branch, f"{name}.branch"), ("CAddTable", "")]
        if isinstance(module, nn.Sequential):
            return [layer for i, part in enumerate(module) for layer in chain(part, f"{name}.{i}")]
        return [(KINDS[type(module)], name)]

    text = chain(network.text, "text")
    if isinstance(network, ReedGenerator):
        return [("Identity", ""), *text, ("JoinTable", ""), *chain(network.draw, "draw")]
    tiled = [*text, ("Replicate", ""), ("Replicate", ""), ("JoinTable", "")]
    return [*chain(network.look, "look"), *tiled, *chain(network.judge, "judge"), ("Sigmoid", ""), ("View", "")]


def tensors_of(layer: Instance, name: str, network: nn.Module) -> Iterator[tuple[str, Any]]:
    """The tensors of one layer by the names they have in ours."""
    if not name:
        return
    module, fields = network.get_submodule(name), layer.fields
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        steps = [fields.get(key, usual) for key, usual in (("dW", 1), ("dH", 1), ("padW", 0), ("padH", 0))]
        if steps != [*module.stride, *module.padding]:
            raise ValueError(f"{name!r} has other steps and margins: {steps}")
    wanted = module.state_dict().keys() - {"num_batches_tracked"}
    for key in wanted:
        value = fields.get(key)
        if key == "running_var" and value is None and isinstance(fields.get("running_std"), StoredTensor):
            value = fields["running_std"].load().pow(-2) - module.eps  # of files from before 2016, 1 / deviation
        if not isinstance(value, StoredTensor | torch.Tensor):
            raise ValueError(f"its {layer.kind[:40]!r} has no {key!r}")
        yield f"{name}.{key}", value
