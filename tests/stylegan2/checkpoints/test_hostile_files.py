"""Files that are hostile as archives, damaged, something else or of the wrong tensors: one clear line each."""

import io
import pickle
import random
import struct
import zipfile

import pytest
import torch

from stylegan2.checkpoints import load, load_discriminator, nvidia, read_container, rosinality
from stylegan2.checkpoints.values import PersistentObject
from stylegan2.errors import CheckpointError
from tests.stylegan2.checkpoints.hostile import PROTO2, zipped

# ---- archives


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
