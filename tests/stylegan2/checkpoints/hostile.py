"""Pickles and torch files written by hand, one instruction at a time: for the tests of what is hostile."""

import io
import pickle
import zipfile

PROTO2, PROTO4 = b"\x80\x02", b"\x80\x04"


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
