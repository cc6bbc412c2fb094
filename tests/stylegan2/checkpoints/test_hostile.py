"""Files that are hostile, damaged or something else: one clear line, nothing executed, no memory taken.

Each attack writes a marker file if it ever runs; `refused` checks that none appeared.
"""

import builtins
import io
import os
import pickle
import random
import struct
import time
import tracemalloc
import zipfile

import pytest
import torch

from stylegan2.checkpoints import load, load_discriminator, nvidia, read_container, rosinality, unpickle
from stylegan2.checkpoints.unpickle import Budget, Damaged, PersistentObject, read_pickle
from stylegan2.errors import CheckpointError

PROTO2, PROTO4 = b"\x80\x02", b"\x80\x04"


@pytest.fixture
def refused(tmp_path):
    """refused(bytes or path, *words): loading raises one line that has the file's name and these words, quickly."""

    def check(content, *words, reader=load):
        path = content
        if isinstance(content, bytes):
            path = tmp_path / "file.weights"
            path.write_bytes(content)
        start = time.process_time()
        with pytest.raises(CheckpointError) as caught:
            reader(path)
        message = str(caught.value)
        assert message.startswith(str(path)) and "\n" not in message and len(message) < 400
        assert message.endswith((".", ")")) and caught.value.__cause__ is None
        for word in words:
            assert word in message
        assert time.process_time() - start < 3
        assert not (tmp_path / "marker").exists()
        return message

    return check


class Call:
    """Pickles as the call of a function."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def zipped(data_pkl, records=(), compression=zipfile.ZIP_STORED):
    """A torch zip archive around a data.pkl."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr("archive/data.pkl", data_pkl)
        for name, data in records:
            archive.writestr(f"archive/{name}", data)
    return buffer.getvalue()


def legacy(obj_pickle):
    """The stream torch wrote before 1.6, around the pickle of the object."""
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    head = [0x1950A86A20F9469CFC6C, 1001, system]
    return b"".join(pickle.dumps(part, 2) for part in head) + obj_pickle + pickle.dumps([], 2)


def bare(data):
    return data


def in_nvidia(data):
    """Inside the bytes of a storage of an NVIDIA pickle."""
    return pickle.dumps({"G_ema": Call(torch.storage._load_from_bytes, legacy(data))}, 4)


def directly_in_bytes(data):
    return pickle.dumps([Call(torch.storage._load_from_bytes, data)], 3)


WRAPPERS = [bare, zipped, legacy, in_nvidia]


# ---- execution


@pytest.mark.parametrize("wrap", WRAPPERS)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_system_call(refused, tmp_path, wrap, protocol):
    command = f"touch {tmp_path}/marker"
    refused(
        wrap(pickle.dumps({"g_ema": Call(os.system, command)}, protocol)), f"{os.system.__module__}.system", "refused"
    )


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_eval(refused, tmp_path, wrap):
    code = f"open({str(tmp_path / 'marker')!r}, 'w')"
    for function in (builtins.eval, builtins.exec):
        # Protocol 2 writes the Python-2 name of the module.
        refused(wrap(pickle.dumps([Call(function, code)], 2)), f"__builtin__.{function.__name__}")
        refused(wrap(pickle.dumps([Call(function, code)], 4)), f"builtins.{function.__name__}")


def test_hostile_pickle_as_nested_bytes(refused, tmp_path):
    attack = pickle.dumps(Call(os.system, f"touch {tmp_path}/marker"))
    refused(directly_in_bytes(attack), "system")
    refused(directly_in_bytes(legacy(directly_in_bytes(attack))), "torch.storage._load_from_bytes")
    refused(directly_in_bytes(zipped(attack)), "refused")
    refused(zipped(directly_in_bytes(attack)), "torch.storage._load_from_bytes")


@pytest.mark.parametrize(
    "name",
    [
        "os.popen", "subprocess.Popen", "builtins.getattr", "builtins.__import__", "builtins.open", "types.CodeType",
        "operator.attrgetter", "functools.partial", "importlib.import_module", "runpy.run_path", "pickle.loads",
        "torch.load", "torch.hub.load", "torch.serialization.load", "torch.jit.load", "numpy.load",
        "numpy.core.multiarray._reconstruct", "copyreg._reconstructor", "collections.defaultdict",
        "torch._utils._rebuild_device_tensor_from_numpy",
        "torch.storage._StorageBase", "argparse.FileType", "shutil.rmtree", "builtins.bytearray", "builtins.dict",
    ],
)  # fmt: skip
def test_any_other_name_is_refused_and_named(refused, name):
    module, attribute = name.rsplit(".", 1)
    opcode = f"c{module}\n{attribute}\n".encode()
    refused(PROTO2 + opcode + b")R.", name)
    refused(zipped(PROTO2 + opcode + b"."), name)
    stacked = b"".join(b"\x8c" + bytes([len(part)]) + part.encode() for part in (module, attribute))
    refused(PROTO4 + stacked + b"\x93.", name)


def test_names_cannot_write_on_the_terminal(refused):
    name = "a\n\x1b[2J\u202e" + "x" * 500
    stacked = b"".join(b"X" + struct.pack("<I", len(part.encode())) + part.encode() for part in (name, name))
    assert refused(PROTO4 + stacked + b"\x93.", "asks to load a??[2J?xxx").isprintable()
    refused(pickle.dumps({name: 1, "y" * 500: 2}), "entries are a??[2J?xxx")


def test_dotted_names_do_not_climb(refused):
    name = b"OrderedDict.fromkeys.__globals__"
    refused(
        PROTO4 + b"\x8c\x0bcollections\x8c" + bytes([len(name)]) + name + b"\x93.", "collections.OrderedDict.fromkeys"
    )


GLOBALS = {
    "OrderedDict": b"ccollections\nOrderedDict\n",
    "Namespace": b"cargparse\nNamespace\n",
    "rebuild": b"ctorch._utils\n_rebuild_tensor_v2\n",
    "parameter": b"ctorch._utils\n_rebuild_parameter\n",
    "FloatStorage": b"ctorch\nFloatStorage\n",
    "float32": b"ctorch\nfloat32\n",
    "persistent": b"ctorch_utils.persistence\n_reconstruct_persistent_obj\n",
    "bytes": b"ctorch.storage\n_load_from_bytes\n",
    "dtype": b"cnumpy\ndtype\n",
}
CALLED = {"set": b"c__builtin__\nset\n", "encode": b"c_codecs\nencode\n", "Size": b"ctorch\nSize\n"}
STATE = b"}X\x04\x00\x00\x00evilK\x01s"  # {'evil': 1}


@pytest.mark.parametrize("name", GLOBALS)
def test_allowed_names_cannot_be_changed(refused, name):
    """BUILD on the function or class itself would set attributes on it, for the whole process."""
    refused(PROTO2 + GLOBALS[name] + STATE + b"b.", "sets attributes")
    refused(PROTO2 + GLOBALS[name] + b"N" + STATE + b"\x86b.", "sets attributes")
    from collections import OrderedDict

    assert not hasattr(OrderedDict, "evil") and not hasattr(torch._utils._rebuild_tensor_v2, "evil")


def test_objects_of_allowed_names_cannot_be_driven(refused):
    empty = GLOBALS["OrderedDict"] + b")R"
    refused(PROTO2 + empty + b")R.", "not a function")  # calling a dict
    refused(PROTO2 + GLOBALS["FloatStorage"] + b")R.", "not a function")
    refused(PROTO2 + GLOBALS["float32"] + b")\x81.", "not a function")
    refused(PROTO2 + b"K\x01" + b")R.", "not a function")
    refused(PROTO2 + GLOBALS["rebuild"] + b"K\x01K\x02K\x03\x87R.", "damaged")
    refused(PROTO2 + GLOBALS["rebuild"] + b"K\x01R.", "damaged")  # arguments that are no tuple
    refused(PROTO2 + b"]" + STATE + b"b.", "sets attributes")  # attributes for a list
    refused(PROTO2 + b"K\x05K\x01a.", "damaged")  # append to a number
    refused(PROTO2 + empty + b"K\x01a.", "damaged")  # append to a dict
    refused(PROTO2 + b"]K\x01K\x02s.", "damaged")  # items for a list
    refused(PROTO2 + b"}]K\x01s.", "damaged")  # a list as key
    refused(PROTO2 + GLOBALS["dtype"] + b"X\x01\x00\x00\x00O\x85R.", "numpy scalar")
    refused(PROTO2 + GLOBALS["persistent"] + b"}\x85R.", "damaged")
    refused(PROTO2 + b"K\x01Q.", "damaged")  # a persistent id where none belongs
    refused(zipped(PROTO2 + b"X\x02\x00\x00\x00abQ."), "damaged")
    refused(zipped(PROTO2 + b"(X\x07\x00\x00\x00storage" + GLOBALS["rebuild"] + b"K\x00K\x00K\x04tQ."), "damaged")


def test_instructions_that_weights_do_not_need(refused):
    refused(PROTO2 + b"(S'true'\nios\nsystem\n.", "os.system")  # INST
    refused(PROTO2 + b"(icollections\nOrderedDict\n.", "INST")
    refused(PROTO2 + b"(" + GLOBALS["OrderedDict"] + b"o.", "OBJ")
    refused(PROTO2 + b"\x82\x01.", "EXT1")
    refused(PROTO4 + GLOBALS["OrderedDict"] + b")}\x92.", "NEWOBJ_EX")
    refused(PROTO2 + b"Pwhatever\n.", "PERSID")
    refused(b"\x80\x05\x97.", "NEXT_BUFFER")
    refused(b"\x80\x05\x96" + struct.pack("<Q", 1 << 60) + b".", "BYTEARRAY8")


def test_the_source_inside_an_nvidia_pickle_is_ignored(nvidia_pickle, refused, tmp_path):
    path = nvidia_pickle(tmp_path / "file", {"G_ema": ({"synthesis.b4.x": torch.ones(1)}, "Generator", {}, {})})
    refused(path, "not StyleGAN2")


# ---- sizes


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
    monkeypatch.setattr(unpickle, "MEMORY", 1 << 20)
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


def test_the_table_of_contents_is_read_once(tmp_path, monkeypatch):
    opened = []

    class Counted(zipfile.ZipFile):
        def __init__(self, *arguments, **options):
            opened.append(arguments)
            super().__init__(*arguments, **options)

    torch.save([torch.full((1,), float(n)) for n in range(300)], tmp_path / "file")
    monkeypatch.setattr(zipfile, "ZipFile", Counted)
    found = read_container(tmp_path / "file")
    assert [stored.load().item() for stored in found] == list(range(300)) and len(opened) == 1


def test_a_record_that_changed_is_noticed(tmp_path):
    torch.save(torch.full((100,), 7.0), tmp_path / "file")
    data = (tmp_path / "file").read_bytes()
    numbers = data.index(struct.pack("<f", 7) * 100)
    for place in (numbers + 50, data.rindex(b"PK\x03\x04", 0, numbers)):
        (tmp_path / "damaged").write_bytes(data[:place] + b"?" + data[place + 1 :])
        with pytest.raises(CheckpointError, match="record .*data/0 cannot be read"):
            read_container(tmp_path / "damaged").load()


def test_zip_bombs(refused):
    bomb = zipped(b"\x80\x02}.", [("data/0", bytes(50_000_000))], zipfile.ZIP_DEFLATED)
    assert len(bomb) < 100_000
    refused(bomb, "compressed records")
    good = zipped(b"\x80\x02}.", [("data/0", bytes(100))])
    entry = good.rindex(b"PK\x01\x02")
    size = struct.pack("<II", 1 << 31, 1 << 31)
    refused(good[: entry + 20] + size + good[entry + 28 :], "zip bomb")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:  # many names for the same bytes
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
        archive.writestr("archive/data/0", bytes(10_000))
        info = archive.infolist()[1]
        for i in range(1, 100):
            alias = zipfile.ZipInfo(f"archive/data/{i}")
            alias.header_offset, alias.CRC = info.header_offset, info.CRC
            alias.file_size = alias.compress_size = 10_000
            archive.filelist.append(alias)
    refused(buffer.getvalue(), "zip bomb")


def test_other_zip_archives(refused):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("holiday.txt", "sun")
    refused(buffer.getvalue(), "not one written by torch.save")
    refused(zipped(b"\x80\x02}.", [("code/__torch__.py", "import os")]), "TorchScript")
    refused(zipped(b"\x80\x02}.", [("byteorder", "big")]), "big-endian")
    with pytest.warns(UserWarning, match="Duplicate"):
        twice = zipped(b"\x80\x02}.", [("data/0", b"a"), ("data/0", b"b")])
    refused(twice, "repeated records")


def test_safetensors_heads(refused):
    refused(struct.pack("<Q", 1 << 60) + b"{}", "absurd size")
    refused(struct.pack("<Q", 2) + b"{}", "not a generator saved by this project")
    refused(struct.pack("<Q", 4) + b"{{{{", "damaged safetensors")
    head = b'{"x":{"dtype":"F32","shape":[4000000000,4000000000],"data_offsets":[0,4]}}'
    refused(struct.pack("<Q", len(head)) + head + bytes(4), "damaged safetensors")


# ---- not weights at all, or not whole


@pytest.mark.parametrize(
    "content,words",
    [
        (b"", "is empty"),
        (b"hello, this is a readme\n", "text file"),
        (b"\n\n <!doctype HTML><html>404</html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "PNG picture"),
        (b"\xff\xd8\xff\xe0" + bytes(50), "JPEG picture"),
        (b"\x1f\x8b\x08" + bytes(50), "gzip"),
        (b"\x89HDF\r\n\x1a\n" + bytes(50), "HDF5"),
        (bytes(257) + b"ustar" + bytes(250), "tar archive"),
        (b"<?xml version='1.0'?><net/>", "OpenVINO"),
        (bytes(range(200, 256)) * 20, "no format known"),
        (b"\x80", "no format known"),
        (b"\x80\x04", "damaged"),
        (b"PK\x03\x04", "damaged"),
        (pickle.dumps([1, 2]), "its content is a list"),
        (pickle.dumps({"a": 1, "b": 2}), "its entries are a, b"),
        (pickle.dumps({}), "empty dictionary"),
        (pickle.dumps({"g_ema": 3}), "other than a state dict"),
        (pickle.dumps({"state_dict": {"encoder.x": 3}}), "no 'decoder'"),
        (pickle.dumps({"state_dict": 3}), "other than a state dict"),
        (pickle.dumps({"G_ema": 3}), "no pickled network"),
    ],
)
def test_other_content(refused, content, words):
    refused(content, words)


def test_no_file_and_directory(tmp_path, refused):
    refused(tmp_path / "absent.pt", "does not exist")
    refused(tmp_path, "is not a file")
    refused(b"\x80\x02}.", "no StyleGAN2 discriminator", reader=load_discriminator)


def test_tensorflow_pickles_need_conversion(refused):
    network = b"cdnnlib.tflib.network\nNetwork\n)\x81"
    refused(PROTO2 + network * 3 + b"\x87.", "TensorFlow-era", "convert it")


@pytest.fixture
def good_files(tiny_rosinality, tmp_path):
    """The same tiny generator in three formats."""
    from stylegan2.checkpoints import save

    content = {"g_ema": tiny_rosinality, "latent_avg": torch.ones(8)}
    torch.save(content, tmp_path / "zip")
    torch.save(content, tmp_path / "legacy", _use_new_zipfile_serialization=False)
    save(load(tmp_path / "zip"), tmp_path / "native")
    return [tmp_path / name for name in ("zip", "legacy", "native")]


def test_truncated_anywhere(good_files, refused):
    for path in good_files:
        data = path.read_bytes()
        for keep in (1, 5, 9, 40, 300, len(data) // 3, len(data) // 2, len(data) - 100, len(data) - 1):
            refused(data[:keep])


def test_the_name_does_not_matter(good_files, tmp_path):
    pictures = []
    for path, name in zip(good_files, ("a.safetensors", "b.jpg", "c.pkl"), strict=True):
        path.rename(tmp_path / name)
        pictures.append(load(tmp_path / name).synthesis(torch.ones(1, 6, 8)))
    assert torch.equal(pictures[0], pictures[1]) and torch.equal(pictures[0], pictures[2])


def test_random_damage_is_noticed_or_harmless(good_files, tmp_path):
    """Bytes changed at random, mostly where the structure is: a CheckpointError or a loaded generator, nothing else."""
    rng, outcomes = random.Random(0), {True: 0, False: 0}
    for path in good_files:
        data = path.read_bytes()
        for _ in range(60):
            damaged = bytearray(data)
            reach = rng.choice([200, 4000, len(data)])
            for _ in range(rng.choice([1, 3, 20])):
                damaged[rng.randrange(reach)] = rng.randrange(256)
            (tmp_path / "damaged").write_bytes(damaged)
            try:
                load(tmp_path / "damaged")
                outcomes[True] += 1
            except CheckpointError as error:
                assert "\n" not in str(error)
                outcomes[False] += 1
    assert outcomes[False] > 60


# ---- sound files with the wrong tensors


def without(state, name):
    return {key: value for key, value in state.items() if key != name}


def test_networks_with_more_layers_than_any_are_refused(tiny_rosinality):
    layers = {f"style.{n}.weight": torch.ones(8, 8) for n in range(1, 66)}
    with pytest.raises(CheckpointError, match="mapping network of 65 layers; at most 64"):
        rosinality.generator(tiny_rosinality | layers)
    with pytest.raises(CheckpointError, match="a network of int pixels"):  # 2^15002: too many digits to print
        rosinality.generator(tiny_rosinality | {f"to_rgbs.{n}.conv.weight": 0 for n in range(15_000)})


def test_a_tree_of_modules_is_of_a_sensible_size():
    leaf = PersistentObject("Layer", {})
    wide = {str(n): leaf for n in range(1500)}
    many = PersistentObject("Generator", {"_modules": {"a": PersistentObject("Layer", {"_modules": wide}), **wide}})
    with pytest.raises(CheckpointError, match="sub-modules of 'a' are no dictionary of a sensible size"):
        nvidia.state_dict(many)
    shared = PersistentObject("Layer", {"_parameters": {str(n): 0 for n in range(15_000)}})
    with pytest.raises(CheckpointError, match="tensors of 'a' are no dictionary of a sensible size"):
        nvidia.state_dict(PersistentObject("Generator", {"_modules": {"a": shared, "b": shared}}))
    for key in ("x" * 301, 7):
        with pytest.raises(CheckpointError, match="in no sensible way"):
            nvidia.state_dict(PersistentObject("Generator", {"_modules": {key: leaf}}))


def test_wrong_tensors_are_named(tiny_rosinality, refused):
    state, name = tiny_rosinality, "convs.1.conv.weight"

    def saved(changed):
        buffer = io.BytesIO()
        torch.save({"g_ema": changed}, buffer)
        return buffer.getvalue()

    refused(saved(without(state, "to_rgbs.1.bias")), "'to_rgbs.1.bias'", "lacks")
    refused(saved(without(without(state, "noises.noise_0"), "noises.noise_3")), "'noises.noise_0'")
    refused(saved(without(state, name)), name)
    refused(saved(state | {name: state[name][..., :2]}), name, "(1, 8, 8, 3, 2)", "(8, 8, 3, 3)")
    refused(saved(state | {name: state[name][0]}), name, "5 axes")
    refused(saved(state | {name: 7}), name, "other than a tensor")
    refused(saved(state | {name: "x"}), name, "other than a tensor")
    refused(saved(state | {name: state[name].int()}), name, "int32")
    refused(saved(state | {name: state[name] * float("nan")}), name, "not finite")
    refused(
        saved(state | {"convs.0.activate.bias": torch.full((8,), torch.inf)}), "convs.0.activate.bias", "not finite"
    )
    refused(saved(state | {"to_rgbs.0.upsample.kernel": torch.ones(4)}), "odd shape")
    refused(saved(state | {"to_rgbs.0.upsample.kernel": torch.eye(4)}), "not separable")
    buffer = io.BytesIO()
    torch.save({"g_ema": state, "latent_avg": torch.ones(7)}, buffer)
    refused(buffer.getvalue(), "latent_avg", "(7,)")
