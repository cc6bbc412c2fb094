"""A pickle reader that cannot execute anything: Python's own interpreter, cut down to data.

The machine is Python's pure-Python interpreter of pickles with its instruction table cut down to what
moves data about.  The names that a file gives resolve to the stand-ins of `values`, and to nothing
else.

Sizes are bounded as well: a read never goes past the end of the file, instructions are counted, and
whatever is copied is taken from an allowance that grows with the file (`values.Budget`).
"""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Callable
from typing import Any

from stylegan2.checkpoints.values import (
    Budget,
    Damaged,
    PlainDict,
    Scalar,
    StandIn,
    allow_list,
    check_key,
    nested_reader,
)
from stylegan2.errors import CheckpointError

MAX_ARGUMENTS = 32
OBJECT_BYTES, ENTRY_BYTES = 256, 100  # what a small object takes, and an entry of a container, roughly


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
