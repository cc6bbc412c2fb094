"""Pickles that ask for code: one clear line, nothing executed.

Each attack writes a marker file if it ever runs; `refused` checks that none appeared.
"""

import builtins
import os
import pickle
import struct

import pytest
import torch

from tests.stylegan2.checkpoints.hostile import GLOBALS, PROTO2, PROTO4, legacy, zipped


class Call:
    """Pickles as the call of a function."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


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
