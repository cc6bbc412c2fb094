"""Pickles and tensors that claim, nest or repeat without end: one clear line, soon, and no memory taken."""

import io
import pickle
import struct
import tracemalloc

import pytest
import torch

from stylegan2.checkpoints import read_container, values
from stylegan2.checkpoints.unpickle import read_pickle
from stylegan2.checkpoints.values import Budget, Damaged
from stylegan2.errors import CheckpointError
from tests.stylegan2.checkpoints.hostile import GLOBALS, PROTO2, PROTO4, legacy, zipped

CALLED = {"set": b"c__builtin__\nset\n", "encode": b"c_codecs\nencode\n", "Size": b"ctorch\nSize\n"}


@pytest.mark.parametrize(
    "code",
    [
        b"\x8e" + struct.pack("<Q", 1 << 62),  # BINBYTES8
        b"\x8d" + struct.pack("<Q", 1 << 62),  # BINUNICODE8
        b"B" + struct.pack("<I", 0xFFFFFFF0),  # BINBYTES
        b"X" + struct.pack("<I", 0xFFFFFFF0),  # BINUNICODE
        b"\x8b" + struct.pack("<i", 0x7FFFFFF0),  # LONG4
        b"\x8b" + struct.pack("<i", -5),
        b"\x95" + struct.pack("<Q", 1 << 62),  # FRAME
        b"I" + b"9" * 100_000 + b"\n",
    ],
)
def test_claims_of_huge_values(refused, code):
    refused(PROTO4 + code + b".", "damaged")
    refused(zipped(PROTO4 + code + b"."), "damaged")


def test_nothing_is_read_past_the_end():
    counts = []

    class Recording(io.BytesIO):
        def read(self, count=-1):
            counts.append(count)
            return super().read(count)

    data = PROTO4 + b"\x8e" + struct.pack("<Q", 1 << 33)
    with pytest.raises(CheckpointError, match="truncated"):
        read_pickle(Recording(data), len(data))
    assert min(counts) >= 0 and max(counts) <= 8


def test_memo_slots_far_out_cost_nothing(refused):
    refused(PROTO2 + b"}r" + struct.pack("<I", 0xFFFFFFFF) + b".", "no StyleGAN2 generator")


def test_deeply_nested_containers(refused):
    refused(PROTO2 + b")" + b"\x85" * 300_000 + b".", "no StyleGAN2 generator")
    refused(PROTO2 + b"}" + b")" + b"\x85" * 300_000 + b"K\x01s.", "damaged")  # as a dictionary key


ENDLESS = b"K\x00" + b"2\x86" * 40  # a pair of the same pair of the same pair ...: 2^40 zeros where it is printed


@pytest.mark.timeout(30)
def test_what_takes_for_ever_to_print_is_not_printed(refused):
    refused(PROTO2 + GLOBALS["dtype"] + b"(" + ENDLESS + b"tR.", "numpy scalar of type tuple")
    meta = b"}(X\x04\x00\x00\x00typeX\x05\x00\x00\x00classX\x05\x00\x00\x00state}X\x0a\x00\x00\x00class_name"
    refused(PROTO2 + GLOBALS["persistent"] + meta + ENDLESS + b"u\x85R.", "what it is called")
    pid = b"(X\x07\x00\x00\x00storage" + GLOBALS["FloatStorage"] + ENDLESS + b"X\x03\x00\x00\x00cpuK\x04tQ."
    refused(zipped(PROTO2 + pid), "unexpected way")
    refused(legacy(PROTO2 + pid), "unexpected way")
    keys = legacy(PROTO2 + b"N.").removesuffix(pickle.dumps([], 2)) + PROTO2 + b"]" + ENDLESS + b"a."
    refused(keys, "storages are missing")


def endless():
    value = 0
    for _ in range(40):
        value = (value, value)
    return value


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "value,words", [(endless(), "tuple"), (10**5000, "int"), ("z" * 500, "'zzz")], ids=["nested", "number", "text"]
)
def test_odd_arguments_of_an_nvidia_network_are_not_printed_whole(nvidia_pickle, refused, tmp_path, value, words):
    tensors = {"synthesis.b4.const": torch.ones(1), "synthesis.b4.conv1.weight": torch.ones(1)}
    good = {"z_dim": 8, "c_dim": 0, "w_dim": 8, "img_resolution": 8, "img_channels": 3}
    odd = [{name: value} for name in ("z_dim", "architecture", "activation", "num_fp16_res", "channel_max")]
    odd += [{"mapping_kwargs": {name: value}} for name in ("num_layers", "lr_multiplier")]
    for change in odd:
        path = nvidia_pickle(tmp_path / "file", {"G_ema": (tensors, "Generator", {}, good | change)})
        refused(path, *([] if "num_fp16_res" in change else [words]))
    clamp = {"synthesis.b4.conv1": {"conv_clamp": value}}
    refused(nvidia_pickle(tmp_path / "file", {"G_ema": (tensors, "Generator", clamp, good)}), "conv_clamp", words)


def test_dictionaries_and_memo_take_no_numbers_that_hash_alike(refused):
    alike = pickle.dumps(3 * (2**61 - 1), 2)[2:-1]
    refused(PROTO2 + b"}" + alike + b"K\x01s.", "not a plain value")
    refused(PROTO2 + CALLED["set"] + b"]" + alike + b"a\x85R.", "not a plain value")
    refused(PROTO2 + b"}p%d\n." % (2**61 - 1), "impossible number")
    refused(zipped(pickle.dumps({2**59: 1}, 2)), "its entries are 5764")


def repeated(function, arguments, count):
    """A list of the results of calling a function `count` times with the same arguments."""
    return PROTO2 + function + b"q\x000" + arguments + b"q\x010](" + b"h\x00h\x01R" * count + b"e."


NUMBERS = b"(" + b"".join(b"M" + struct.pack("<H", n) for n in range(10_000)) + b"t"
LONG_TEXT = b"X" + struct.pack("<I", 60_000) + b"x" * 60_000
PAIRS = b"](" + b"".join(b"M" + struct.pack("<H", n) + b"N\x86" for n in range(10_000)) + b"e"
PID = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04t"


FOUR_NUMBERS = legacy(PROTO2 + PID + b"Q.").removesuffix(pickle.dumps([], 2)) + pickle.dumps(["0"], 2)
FOUR_NUMBERS += struct.pack("<q", 4) + bytes(16)
NESTED = b"B" + struct.pack("<I", 60_000) + FOUR_NUMBERS.ljust(60_000)
ATTRIBUTES = b"}(" + b"".join(b"M" + struct.pack("<H", n) + b"N" for n in range(10_000)) + b"uq\x000"


@pytest.mark.parametrize(
    "data",
    [
        repeated(GLOBALS["OrderedDict"], PAIRS + b"\x85", 10),
        repeated(GLOBALS["OrderedDict"], b")", 20_000),
        repeated(CALLED["set"], NUMBERS + b"\x85", 10),
        repeated(CALLED["encode"], LONG_TEXT + b"X\x06\x00\x00\x00latin1\x86", 100),
        repeated(GLOBALS["bytes"], NESTED + b"\x85", 100),
        PROTO2 + ATTRIBUTES + b"](" + (GLOBALS["Namespace"] + b")Rh\x00b") * 10 + b"e.",
        PROTO4 + b"](" + b"\x8f" * 20_000 + b"e.",
        PROTO4 + b"](" + b"(K\x01\x91" * 20_000 + b"e.",
        zipped(PROTO2 + PID + b"q\x000](" + b"h\x00Q" * 20_000 + b"e.", [("data/0", bytes(16))]),
    ],
    ids=["dict", "empty dicts", "set", "encode", "nested bytes", "attributes", "empty sets", "frozen sets", "storages"],
)
def test_small_pickles_do_not_become_large(refused, monkeypatch, data):
    monkeypatch.setattr(values, "MEMORY", 1 << 20)
    refused(data, "far more memory")


def test_a_small_pickle_does_not_become_gigabytes(refused):
    tracemalloc.start()
    refused(repeated(CALLED["encode"], LONG_TEXT + b"X\x06\x00\x00\x00latin1\x86", 8000), "far more memory")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 << 20


def test_sizes_and_arguments_are_few(refused):
    for items in (NUMBERS, LONG_TEXT):
        refused(repeated(CALLED["Size"], items + b"\x85", 10), "a size is built from")
    refused(PROTO2 + b"ctorch\ndevice\n" + NUMBERS + b"R.", "a tuple of a few")
    size = repeated(CALLED["Size"], b"K\x01K\x02\x86\x85", 2)
    assert read_pickle(io.BytesIO(size), len(size)) == [(1, 2), (1, 2)]


def test_an_honest_file_may_be_read_whole_more_than_once():
    budget = Budget.for_file(1 << 30)
    for _ in range(4):
        budget.spend(1 << 30)


def test_instructions_are_counted():
    data = PROTO2 + b"K\x010" * 1000 + b"N."
    assert read_pickle(io.BytesIO(data), len(data)) is None
    with pytest.raises(CheckpointError, match="far more instructions"):
        read_pickle(io.BytesIO(data), len(data), budget=Budget(1000))


def tensor_pickle(shape, stride, offset=0, count=4, dtype=b"FloatStorage"):
    """data.pkl of {'g_ema': {'x': tensor}} over a storage '0' of `count` numbers."""
    pid = b"(X\x07\x00\x00\x00storagectorch\n" + dtype + b"\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"
    pid += pickle.dumps(count, 2)[2:-1] + b"tQ"
    parts = [pickle.dumps(part, 2)[2:-1] for part in (offset, shape, stride)]
    tensor = GLOBALS["rebuild"] + b"(" + pid + b"".join(parts) + b"\x89}tR"
    return PROTO2 + b"}X\x01\x00\x00\x00x" + tensor + b"s."


@pytest.mark.parametrize(
    "arguments,words",
    [
        (((5,), (1,)), "does not fit its storage"),
        (((2, 2), (2, 2)), "does not fit its storage"),
        (((4,), (1,), 1), "does not fit its storage"),
        (((1 << 47, 1 << 47), (1, 1)), "does not fit its storage"),
        (((-1,), (1,)), "sensible number"),
        (((4,), (-1,), 3), "sensible number"),
        (((4,), (1,), -1), "sensible number"),
        (((1 << 60,), (0,)), "sensible number"),
        (((2.0,), (1,)), "sensible number"),
        (((4,), (1, 1)), "do not match"),
        (((1,) * 40, (1,) * 40), "do not match"),
        (((1 << 47, 1 << 47, 0), (1, 1, 1)), "not sensible"),
        (((4,), (1,), 0, 1 << 38), "wrong size"),
        (((4,), (1,), 0, 1 << 50), "impossible size"),
        (((4,), (1,), 0, 4, b"DoubleStorage"), "wrong size"),
    ],
)
def test_tensors_that_reach_outside_their_storage(refused, arguments, words):
    refused(zipped(tensor_pickle(*arguments), [("data/0", bytes(16))]), words)


def test_a_small_storage_cannot_become_a_large_tensor(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(zipped(tensor_pickle((1 << 20, 1 << 20), (0, 0)), [("data/0", bytes(16))]))
    with pytest.raises(Exception, match="far more numbers than its storage"):
        read_container(path)["x"].load()
    path.write_bytes(zipped(tensor_pickle((2, 2), (1, 2)), [("data/0", struct.pack("<4f", 1, 2, 3, 4))]))
    assert read_container(path)["x"].load().tolist() == [[1, 3], [2, 4]]


def test_many_small_tensors_do_not_become_large(tmp_path):
    torch.save([torch.zeros(1).expand(1 << 20) for _ in range(400)], tmp_path / "file")
    loaded = []
    with pytest.raises(Damaged, match="far more memory"):
        for stored in read_container(tmp_path / "file"):
            loaded.append(stored.load())
    assert len(loaded) <= 17  # 64 MiB, and four times the file
