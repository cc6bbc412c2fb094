"""A pickle reader that cannot execute anything: pickles as plain data, with an allow-list of names.

A pickle is a program for a small stack machine; two of its instructions call whatever the file
names.  Here the machine is Python's own pure-Python interpreter with its instruction table cut down
to data, and a name never resolves to the real function or class of that name: it resolves to an
inert stand-in from the table below, which checks its arguments and returns plain data (dicts,
sets, `StoredTensor`, `PersistentObject`).  Nothing of torch, numpy or any other module is reachable
from a file, hence neither by calling, nor by setting attributes, nor by pickles nested in pickles.

Sizes are bounded as well: a read never goes past the end of the file, instructions are counted,
memory for one tensor cannot exceed the bytes that are there for it, and whatever is copied or
expanded is taken from an allowance that grows with the file (`Budget`).  A few instructions nest a
tuple so that printing or hashing it takes for ever: only texts and numbers are quoted (`shown`).
"""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch

from stylegan2.errors import CheckpointError

MAX_OPERATIONS = 5_000_000
MAX_EXPANDED = 1 << 20  # a small storage may be repeated up to that many numbers by strides of zero
MAX_AXES, MAX_ARGUMENTS = 16, 32
MEMORY, MEMORY_A_BYTE = 64 << 20, 4  # bytes for what any file makes, and for each byte it has
OBJECT_BYTES, ENTRY_BYTES = 256, 100  # what a small object takes, and an entry of a container, roughly

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
    """Stand-in for loading a storage from bytes: the bytes are read by the same restricted machine."""

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


# ---- the machine


def check_key(key: Any) -> Any:
    """Keys are plain values: hashing deep structures could exhaust the interpreter's stack.

    Whole numbers are such as hash to themselves, since a dictionary of others that hash alike takes for ever.
    """
    if type(key) not in (str, int, float, bool, bytes, type(None)) or (type(key) is int and key.bit_length() > 60):
        raise Damaged("a dictionary key or set member is not a plain value")
    return key


def copied_bytes(value: Any) -> int:
    """What a copy of a text or container takes, its entries not copied."""
    if isinstance(value, str | bytes):
        return len(value)
    return ENTRY_BYTES * len(value) if isinstance(value, list | tuple | dict) else 0


class BoundedReader:
    """The file as the machine sees it: a request past the end fails before memory is set aside for it."""

    def __init__(self, file: io.BufferedIOBase, size: int) -> None:
        self.file, self.end = file, size

    def read(self, count: int) -> bytes:
        if count < 0 or count > self.end - self.file.tell():
            raise EOFError
        return self.file.read(count)

    def readline(self) -> bytes:
        return self.file.readline(1 << 16)


class Machine(pickle._Unpickler):
    """The interpreter.  `persistent` resolves persistent ids (torch's way to point at a storage)."""

    def __init__(
        self,
        reader: BoundedReader,
        persistent: Callable[[Any], Any] | None,
        load_bytes: Callable[[bytes, Budget], Any] | None,
        budget: Budget,
    ) -> None:
        super().__init__(reader, encoding="latin1")
        self.budget = budget
        self.dispatch = CountedTable(budget)
        self.allowed = allow_list()
        self.persistent = persistent
        if load_bytes is not None:
            name = "torch.storage._load_from_bytes"
            self.allowed["torch.storage", "_load_from_bytes"] = StandIn(name, nested_reader(load_bytes, budget))

    def find_class(self, module: str, name: str) -> StandIn:
        found = self.allowed.get((module, name))
        if found is not None:
            return found
        if module.startswith(("dnnlib.tflib", "tfutil")):
            raise CheckpointError(
                "is a TensorFlow-era StyleGAN pickle; convert it to PyTorch first, with the legacy converter of "
                "stylegan2-ada-pytorch or stylegan3."
            )
        raise CheckpointError(
            f"asks to load {module[:80]}.{name[:80]}, which is not weight data: refused, as such a file can run code."
        )

    def persistent_load(self, pid: Any) -> Any:
        if self.persistent is None:
            raise Damaged("a persistent id where none belongs")
        self.budget.spend(OBJECT_BYTES)
        return self.persistent(pid)

    def call(self, function: Any, arguments: Any) -> Any:
        if type(function) is not StandIn or function.call is None:
            raise CheckpointError("calls something that is not a function of a weight file: refused.")
        if type(arguments) is not tuple or len(arguments) > MAX_ARGUMENTS:
            raise Damaged("arguments are not a tuple of a few")
        self.budget.spend(OBJECT_BYTES + sum(map(copied_bytes, arguments)))
        return function.call(*arguments)

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = self.call(self.stack[-1], arguments)

    def load_newobj(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = self.call(self.stack[-1], arguments)

    def load_inst(self) -> None:
        """An instruction of the oldest pickles: looked at only to say what was asked for."""
        self.find_class(*(self.readline()[:-1].decode("ascii", "replace") for _ in range(2)))
        raise CheckpointError("uses the pickle instruction INST, which no weight file needs: refused.")

    def load_build(self) -> None:
        """Attributes for an object: items of a Namespace or EasyDict; bookkeeping elsewhere, and left out."""
        state = self.stack.pop()
        target = self.stack[-1]
        if type(target) is PlainDict:
            if not isinstance(state, dict):
                raise Damaged("attributes are not a dict")
            self.budget.spend(copied_bytes(state))
            target.update({key: value for key, value in state.items() if key != "_metadata"})
        elif type(target) is Scalar:
            if not (type(state) is tuple and len(state) > 1 and state[1] in ("<", "=", "|")):
                raise Damaged("numpy numbers are not little-endian")
        else:
            raise CheckpointError("sets attributes on something that has none: refused.")

    def load_put(self) -> None:
        """The memo is a dictionary too: see `check_key`."""
        index = int(self.readline()[:-1])
        if not 0 <= index < 2**32:
            raise Damaged("a value is remembered under an impossible number")
        self.memo[index] = self.stack[-1]

    def load_empty_set(self) -> None:
        self.budget.spend(OBJECT_BYTES)  # sets are the largest objects that one instruction makes
        self.append(set())

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.fill(self.stack[-1], [key, value])

    def load_setitems(self) -> None:
        items = self.pop_mark()
        self.fill(self.stack[-1], items)

    def fill(self, target: Any, items: list[Any]) -> None:
        if type(target) not in (dict, PlainDict) or len(items) % 2:
            raise Damaged("items are set on something that is not a dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[check_key(key)] = value

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append({})
        self.fill(self.stack[-1], items)

    def load_append(self) -> None:
        value = self.stack.pop()
        self.extend(self.stack[-1], [value])

    def load_appends(self) -> None:
        values = self.pop_mark()
        self.extend(self.stack[-1], values)

    def extend(self, target: Any, values: list[Any]) -> None:
        if type(target) is not list:
            raise Damaged("values are appended to something that is not a list")
        target.extend(values)

    def load_additems(self) -> None:
        items = self.pop_mark()
        if type(self.stack[-1]) is not set:
            raise Damaged("members are added to something that is not a set")
        self.stack[-1].update(check_key(item) for item in items)

    def load_frozenset(self) -> None:
        items = self.pop_mark()
        self.budget.spend(OBJECT_BYTES)
        self.append(frozenset(check_key(item) for item in items))


# Instructions that only move data about; everything else a pickle can say is refused.
INHERITED = (
    "PROTO FRAME STOP MARK POP POP_MARK DUP NONE NEWFALSE NEWTRUE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT "
    "BINFLOAT STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 UNICODE BINUNICODE SHORT_BINUNICODE "
    "BINUNICODE8 EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST LIST EMPTY_DICT GET BINGET LONG_BINGET "
    "BINPUT LONG_BINPUT MEMOIZE GLOBAL STACK_GLOBAL BINPERSID"
)
OWN = "REDUCE NEWOBJ INST BUILD PUT EMPTY_SET SETITEM SETITEMS DICT APPEND APPENDS ADDITEMS FROZENSET"
REFUSED = "OBJ NEWOBJ_EX EXT1 EXT2 EXT4 PERSID BYTEARRAY8 NEXT_BUFFER READONLY_BUFFER"


def refuse(name: str) -> Callable[[Machine], None]:
    def instruction(machine: Machine) -> None:
        raise CheckpointError(f"uses the pickle instruction {name}, which no weight file needs: refused.")

    return instruction


def instruction_table() -> dict[int, Callable[[Machine], None]]:
    """Opcode -> function, from the three lists above."""
    table = {
        getattr(pickle, name)[0]: pickle._Unpickler.dispatch[getattr(pickle, name)[0]] for name in INHERITED.split()
    }
    table |= {getattr(pickle, name)[0]: getattr(Machine, f"load_{name.lower()}") for name in OWN.split()}
    return table | {getattr(pickle, name)[0]: refuse(name) for name in REFUSED.split()}


class CountedTable(dict):
    """Instruction table that runs out: the loop of the interpreter looks every instruction up here once."""

    def __init__(self, budget: Budget) -> None:
        super().__init__(instruction_table())
        self.budget = budget

    def __getitem__(self, code: int) -> Callable[[Machine], None]:
        self.budget.operations -= 1
        if self.budget.operations < 0:
            raise CheckpointError("is a pickle with far more instructions than weights need: refused.")
        return super().__getitem__(code)


MALFORMED = (
    Damaged,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    ValueError,
    AttributeError,
    struct.error,
    pickle.UnpicklingError,
    OverflowError,
    MemoryError,
    RecursionError,
    AssertionError,
)


def read_pickle(
    file: io.BufferedIOBase,
    size: int,
    persistent: Callable[[Any], Any] | None = None,
    load_bytes: Callable[[bytes, Budget], Any] | None = None,
    budget: Budget | None = None,
) -> Any:
    """One pickle from `file` (positioned at it, `size` bytes long in all) as plain data.

    persistent resolves torch's pointers to storages; load_bytes reads storages that are pickled in
    place (NVIDIA's files); budget is what it may take, by its size if none is given.  Raises
    CheckpointError with the end of a sentence ('asks to load os.system, ...'): `checkpoints.load` puts
    the file's name in front of it.
    """
    try:
        return Machine(BoundedReader(file, size), persistent, load_bytes, budget or Budget.for_file(size)).load()
    except CheckpointError:
        raise
    except MALFORMED as error:
        detail = str(error) if isinstance(error, Damaged) else "truncated or malformed pickle"
        raise CheckpointError(f"is damaged ({detail}).") from None
