"""torch.save files as plain data with tensors that are read only when asked for.

Two layouts: since torch 1.6 a zip archive (`data.pkl` plus one uncompressed record a storage), before
that a stream of pickles followed by the raw storages.  Both are read here with the restricted
pickle reader of `unpickle` instead of torch.load: no name in a file reaches a real function, and a
file of many networks costs memory only for the one that is wanted.
"""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stylegan2.checkpoints.unpickle import read_pickle
from stylegan2.checkpoints.values import Budget, StandIn, Storage
from stylegan2.errors import CheckpointError

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_START = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # that number as a pickle of its own
MAX_DATA_PKL = 64 << 20
MAX_RECORDS = 100_000
MAX_KEY = 100
LOCAL_HEAD = 30  # bytes in front of a record, before its name and extras
BROKEN_ZIP = (  # what zipfile raises on damaged archives (RuntimeError: encrypted, or an unknown feature)
    zipfile.BadZipFile,
    OSError,
    EOFError,
    LookupError,
    ValueError,
    OverflowError,
    RuntimeError,
    MemoryError,
    struct.error,
)


def storage_of(pid: Any, entries: tuple[int, ...]) -> tuple[StandIn, str, int]:
    """A persistent id ('storage', type, key, location, count[, view]) -> (type, key, count)."""
    ok = type(pid) is tuple and len(pid) in entries and pid[0] == "storage" and isinstance(pid[1], StandIn)
    ok = ok and type(pid[2]) is str and len(pid[2]) <= MAX_KEY
    if not ok or pid[1].storage_dtype is None or (len(pid) == 6 and pid[5] is not None):
        raise CheckpointError("is damaged (a storage is described in an unexpected way).")
    if type(pid[4]) is not int or not 0 <= pid[4] < 2**40:
        raise CheckpointError("is damaged (a storage claims an impossible size).")
    return pid[1], pid[2], pid[4]


# ---- zip archives


def table_of_contents(path: Path) -> tuple[dict[str, zipfile.ZipInfo], str]:
    """The records of a torch zip archive by name, and its top folder, after the checks against zip bombs.

    torch never compresses, so no record may be compressed, and all of them together cannot be larger
    than the file (which also rules out records that share bytes).
    """
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
    except BROKEN_ZIP:
        raise CheckpointError("is damaged: a zip archive without a readable table of contents (truncated?).") from None
    if len(records) > MAX_RECORDS or len({record.filename for record in records}) != len(records):
        raise CheckpointError("is refused: a zip archive with too many or repeated records.")
    if any(record.compress_type != zipfile.ZIP_STORED or record.flag_bits & 1 for record in records):
        raise CheckpointError("is refused: it holds compressed records, which torch never writes (a zip bomb?).")
    if sum(record.file_size for record in records) > path.stat().st_size:
        raise CheckpointError("is refused: its records claim more bytes than the file has (a zip bomb?).")
    tops = [record for record in records if record.filename.count("/") == 1 and record.filename.endswith("/data.pkl")]
    if len(tops) != 1:
        raise CheckpointError("is a zip archive, but not one written by torch.save.")
    top = tops[0].filename.removesuffix("data.pkl")
    if tops[0].file_size > MAX_DATA_PKL:
        raise CheckpointError("is refused: its table of tensors is far too large.")
    if any(record.filename.startswith(f"{top}code/") for record in records):
        raise CheckpointError("is a TorchScript archive, which holds code; a checkpoint of tensors is needed.")
    return {record.filename: record for record in records}, top


def read_record(path: Path, record: zipfile.ZipInfo) -> bytes:
    """The bytes of an uncompressed record, from its place: the table of contents is not read again for each."""
    try:
        with path.open("rb") as file:
            file.seek(record.header_offset)
            head = file.read(LOCAL_HEAD)
            file.seek(sum(struct.unpack("<HH", head[-4:])), os.SEEK_CUR)
            data = file.read(record.file_size)
    except BROKEN_ZIP:
        head = data = b""
    whole = head.startswith(b"PK\x03\x04") and len(data) == record.file_size
    if not whole or zlib.crc32(data) != record.CRC:
        raise CheckpointError(f"is damaged (record {record.filename[:MAX_KEY]} cannot be read).")
    return data


def read_zip(path: Path) -> Any:
    """A torch zip file -> the object it holds, tensors as `StoredTensor`."""
    records, top = table_of_contents(path)
    budget = Budget.for_file(path.stat().st_size)
    if f"{top}byteorder" in records and read_record(path, records[f"{top}byteorder"]) != b"little":
        raise CheckpointError("was written on a big-endian machine, which is not supported.")

    def persistent(pid: Any) -> Storage:
        kind, key, count = storage_of(pid, (5,))
        record = records.get(f"{top}data/{key}")
        if record is None or record.file_size != count * kind.storage_dtype.itemsize:
            raise CheckpointError(f"is damaged (storage {key[:40]} is missing or of the wrong size).")
        return Storage(kind.storage_dtype, count, lambda: read_record(path, record), budget)

    data = read_record(path, records[f"{top}data.pkl"])
    return read_pickle(io.BytesIO(data), len(data), persistent, budget=budget)


# ---- the layout before torch 1.6


def read_legacy_stream(
    file: io.BufferedIOBase, size: int, fetch: Callable[[int, int], bytes], budget: Budget | None = None
) -> Any:
    """A stream positioned at the start, `size` bytes long -> its object.  fetch(offset, length) reads later."""
    budget = budget or Budget.for_file(size)
    where: dict[str, tuple[int, int]] = {}
    kinds: dict[str, tuple[int, int]] = {}

    def persistent(pid: Any) -> Storage:
        kind, key, count = storage_of(pid, (5, 6))
        if kinds.setdefault(key, (count, kind.storage_dtype.itemsize)) != (count, kind.storage_dtype.itemsize):
            raise CheckpointError("is damaged (one storage is described twice, differently).")
        return Storage(kind.storage_dtype, count, lambda: fetch(*where[key]), budget)

    def part(resolve: Callable[[Any], Any] | None = None) -> Any:
        return read_pickle(file, size, resolve, budget=budget)

    magic, version, system = part(), part(), part()
    if magic != LEGACY_MAGIC or version != 1001 or not isinstance(system, dict) or not system.get("little_endian"):
        raise CheckpointError("is not a torch file this reader knows (unexpected head).")
    result, keys = part(persistent), part()
    if type(keys) is not list or any(type(key) is not str for key in keys) or set(kinds) - set(keys):
        raise CheckpointError("is damaged (storages are missing).")
    for key in keys:
        head = file.read(8)
        if len(head) < 8 or key not in kinds:
            raise CheckpointError("is damaged (truncated, or a storage nobody uses).")
        count, width = kinds[key]
        if struct.unpack("<q", head)[0] != count or count * width > size - file.tell():
            raise CheckpointError("is damaged (truncated, or a storage of the wrong size).")
        where[key] = (file.tell(), count * width)
        file.seek(count * width, os.SEEK_CUR)
    return result


def read_legacy(path: Path) -> Any:
    """A torch file in the old layout -> the object it holds, tensors as `StoredTensor`."""

    def fetch(offset: int, length: int) -> bytes:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(length)

    with path.open("rb") as file:
        return read_legacy_stream(file, path.stat().st_size, fetch)


def read_legacy_bytes(data: bytes, budget: Budget) -> Any:
    """The same from bytes nested in another pickle."""
    return read_legacy_stream(io.BytesIO(data), len(data), lambda at, length: data[at : at + length], budget)
