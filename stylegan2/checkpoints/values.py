"""What pickles may hold here: plain data, made by inert stand-ins for the names on an allow-list.

A pickle is a program for a small stack machine (run by `unpickle`); two of its instructions call
whatever the file names.  A name never resolves to the real function or class of that name: it resolves
to an inert stand-in from the table below, which checks its arguments and returns plain data (dicts,
sets, `StoredTensor`, `PersistentObject`).  Nothing of torch, numpy or any other module is reachable
from a file, hence neither by calling, nor by setting attributes, nor by pickles nested in pickles.

Sizes are bounded as well: memory for one tensor cannot exceed the bytes that are there for it, and
whatever is copied or expanded is taken from an allowance that grows with the file (`Budget`).  A few
instructions nest a tuple so that printing or hashing it takes for ever: only texts and numbers are
quoted (`shown`).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch

MAX_OPERATIONS = 5_000_000
MAX_EXPANDED = 1 << 20  # a small storage may be repeated up to that many numbers by strides of zero
MAX_AXES = 16
MEMORY, MEMORY_A_BYTE = 64 << 20, 4  # bytes for what any file makes, and for each byte it has

DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "UntypedStorage": torch.uint8,
}


class Damaged(Exception):
    """The pickle is malformed; `read_pickle` turns this into a CheckpointError."""


@dataclass
class Budget:
    """Instructions and bytes of memory left, shared by a pickle, all that is nested in it, and its tensors."""

    operations: int = MAX_OPERATIONS
    memory: int = MEMORY

    @classmethod
    def for_file(cls, size: int) -> Budget:
        """What a file of `size` bytes may take."""
        return cls(memory=MEMORY + MEMORY_A_BYTE * size)

    def spend(self, count: int) -> None:
        """Before `count` bytes are set aside.  Damaged if they are more than is left."""
        self.memory -= count
        if self.memory < 0:
            raise Damaged("its contents would take far more memory than the file has bytes")


# ---- what a sentence may quote of a file


def printable(text: str) -> str:
    """A text of a file for a terminal: what could write elsewhere than on its line becomes '?'."""
    return "".join(c if c.isprintable() else "?" for c in text)


def shown(value: Any, most: int = 40) -> str:
    """A value of a file in a sentence: a text quoted and cut, a number; of anything else only its type."""
    if type(value) is str:
        return repr(value[:most])
    if value is None or type(value) in (bool, float) or (type(value) is int and value.bit_length() <= 64):
        return str(value)
    return type(value).__name__


# ---- what a file can hold


class PlainDict(dict):
    """Stands for OrderedDict, EasyDict and argparse.Namespace; attributes a file sets on it become items or nothing."""


@dataclass(frozen=True)
class Storage:
    """The raw numbers behind tensors; `read` fetches their bytes when they are needed."""

    dtype: torch.dtype
    count: int
    read: Callable[[], bytes]
    budget: Budget | None = field(default=None, compare=False, repr=False)  # for the tensors made of it


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of the file, not read yet: a strided view into a storage, checked to lie inside it."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def load(self) -> torch.Tensor:
        """The tensor, contiguous, with memory of its own."""
        if prod(self.shape) > max(self.storage.count, MAX_EXPANDED):
            raise Damaged("a tensor claims far more numbers than its storage has")
        if self.storage.budget is not None:
            self.storage.budget.spend(prod(self.shape) * self.storage.dtype.itemsize)
        data = self.storage.read()
        if len(data) != self.storage.count * self.storage.dtype.itemsize:
            raise Damaged("a storage is shorter than it says")
        if not data:
            return torch.empty(self.shape, dtype=self.storage.dtype)
        flat = torch.frombuffer(bytearray(data), dtype=self.storage.dtype)
        return flat.as_strided(self.shape, self.stride, self.offset).clone(memory_format=torch.contiguous_format)


@dataclass(frozen=True)
class PersistentObject:
    """A pickled network of NVIDIA's: its class name and its attributes, never its code."""

    class_name: str
    state: dict[str, Any]


@dataclass
class Scalar:
    """Element type of a numpy scalar."""

    code: str


# ---- stand-ins for the names on the allow-list


@dataclass(frozen=True)
class StandIn:
    """An inert replacement for one global name: `call` gets the arguments the file passes."""

    name: str
    call: Callable[..., Any] | None = None
    storage_dtype: torch.dtype | None = None
    __hash__ = object.__hash__


def whole(value: Any, what: str) -> int:
    if type(value) is not int or not 0 <= value < 2**48:
        raise Damaged(f"{what} is not a sensible number")
    return value


def rebuild_tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> StoredTensor:
    if not isinstance(storage, Storage) or type(shape) is not tuple or type(stride) is not tuple:
        raise Damaged("a tensor is not made of storage, offset, shape and stride")
    if len(shape) != len(stride) or len(shape) > MAX_AXES:
        raise Damaged("a tensor's shape and stride do not match")
    shape = tuple(whole(n, "a tensor's shape") for n in shape)
    stride = tuple(whole(n, "a tensor's stride") for n in stride)
    offset = whole(offset, "a tensor's offset")
    if 0 in shape and prod(n or 1 for n in shape) >= 2**48:
        raise Damaged("a tensor of no numbers has a shape that is not sensible")
    numel, last = 1, offset
    for n, step in zip(shape, stride, strict=True):
        numel, last = numel * n, last + (n - 1) * step
    if numel and last >= storage.count:
        raise Damaged(f"a tensor of shape {shape} does not fit its storage of {storage.count} numbers")
    return StoredTensor(storage, offset, shape, stride)


def rebuild_parameter(data: Any, *_: Any) -> StoredTensor:
    if not isinstance(data, StoredTensor):
        raise Damaged("a parameter is not a tensor")
    return data


def check_key(key: Any) -> Any:
    """Keys are plain values: hashing deep structures could exhaust the interpreter's stack.

    Whole numbers are such as hash to themselves, since a dictionary of others that hash alike takes for ever.
    """
    if type(key) not in (str, int, float, bool, bytes, type(None)) or (type(key) is int and key.bit_length() > 60):
        raise Damaged("a dictionary key or set member is not a plain value")
    return key


def plain_dict(*items: Any) -> PlainDict:
    if not items:
        return PlainDict()
    if len(items) != 1 or type(items[0]) is not list:
        raise Damaged("a dict is built from something other than a list of pairs")
    return PlainDict((check_key(key), value) for key, value in items[0])


def plain_set(items: Any = ()) -> set:
    if type(items) not in (list, tuple):
        raise Damaged("a set is built from something other than a list")
    return {check_key(item) for item in items}


def encode(text: Any, encoding: Any = None) -> bytes:
    if type(text) is not str or encoding != "latin1":
        raise Damaged("bytes are encoded in an unexpected way")
    return text.encode("latin1")


def torch_size(items: Any = ()) -> tuple:
    if type(items) not in (list, tuple) or len(items) > MAX_AXES:
        raise Damaged("a size is built from something other than a few numbers")
    return tuple(items)


def numpy_dtype(code: Any, *_: Any) -> Scalar:
    if type(code) is not str or code not in ("f8", "f4", "i8", "i4", "b1"):
        raise Damaged(f"a numpy scalar of type {shown(code, 20)} is not supported")
    return Scalar(code)


def numpy_scalar(dtype: Any, data: Any) -> float | int | bool:
    if not isinstance(dtype, Scalar) or type(data) is not bytes:
        raise Damaged("a numpy scalar is not made of a type and bytes")
    return struct.unpack({"f8": "<d", "f4": "<f", "i8": "<q", "i4": "<i", "b1": "<?"}[dtype.code], data)[0]


def persistent_object(meta: Any) -> PersistentObject:
    if not isinstance(meta, dict) or meta.get("type") != "class" or not isinstance(meta.get("state"), dict):
        raise Damaged("a pickled network is not of the expected form")
    if type(meta.get("class_name")) is not str:
        raise Damaged("a pickled network does not say what it is called")
    return PersistentObject(meta["class_name"][:80], meta["state"])


def nested_reader(load_bytes: Callable[[bytes, Budget], Any], budget: Budget) -> Callable[[Any], Storage]:
    """Stand-in for loading a storage from bytes: the bytes are read by the same restricted unpickle."""

    def nested_storage(data: Any) -> Storage:
        storage = load_bytes(data, budget) if type(data) is bytes else None
        if not isinstance(storage, Storage):
            raise Damaged("nested bytes hold something other than one storage")
        return storage

    return nested_storage


def allow_list() -> dict[tuple[str, str], StandIn]:
    """(module, name) -> stand-in, for every name a weight file has a use for."""
    calls: dict[str, Callable[..., Any]] = {
        "collections.OrderedDict": plain_dict,
        "dnnlib.util.EasyDict": plain_dict,
        "argparse.Namespace": plain_dict,
        "builtins.set": plain_set,
        "__builtin__.set": plain_set,
        "_codecs.encode": encode,
        "numpy.dtype": numpy_dtype,
        "numpy.core.multiarray.scalar": numpy_scalar,
        "numpy._core.multiarray.scalar": numpy_scalar,
        "torch.Size": torch_size,
        "torch.device": lambda *_: "cpu",
        "torch._utils._rebuild_tensor_v2": rebuild_tensor,
        "torch._utils._rebuild_tensor": rebuild_tensor,
        "torch._utils._rebuild_parameter": rebuild_parameter,
        "torch_utils.persistence._reconstruct_persistent_obj": persistent_object,
    }
    table = {tuple(name.rsplit(".", 1)): StandIn(name, call) for name, call in calls.items()}
    for name, dtype in DTYPES.items():
        table["torch", name] = table["torch.storage", name] = StandIn(f"torch.{name}", storage_dtype=dtype)
    for name in ("float64", "float32", "float16", "bfloat16", "int64", "uint8", "bool"):
        table["torch", name] = StandIn(f"torch.{name}")
    return table
