"""Files of translation networks: every size and norm is told from the tensors; old files, damaged and hostile ones."""

import pickle
import struct

import numpy as np
import pytest
import torch

from editing.translation import caffe, checkpoints
from editing.translation.networks import (
    RBDN,
    BicycleEncoder,
    BicycleGenerator,
    MultiScalePatchGAN,
    PatchGAN,
    PixelGAN,
    ResnetGenerator,
    StarGANDiscriminator,
    StarGANGenerator,
    UnetGenerator,
)
from stylegan2.errors import CheckpointError

NETWORKS = {
    "unet 32": lambda: UnetGenerator(1, 2, 32, 4),
    "unet 64, instance": lambda: UnetGenerator(3, 3, 64, 4, "instance"),
    "resnet": lambda: ResnetGenerator(3, 3, 6, 4),
    "resnet, batch": lambda: ResnetGenerator(1, 3, 2, 4, "batch"),
    "resnet, dropout": lambda: ResnetGenerator(3, 3, 2, 4, dropout=True),
    "resnet, batch, dropout": lambda: ResnetGenerator(3, 3, 2, 4, "batch", True),
    "patch 16": lambda: PatchGAN(6, 4, 1, "batch"),
    "patch 70": lambda: PatchGAN(3, 4),
    "pixel": lambda: PixelGAN(6, 4, "batch"),
    "pixel, instance": lambda: PixelGAN(6, 4),
    "three scales": lambda: MultiScalePatchGAN(3, 8, 2, "instance", 3),
    "bicycle": lambda: BicycleGenerator(1, 3, 5, 32, 4),
    "bicycle, batch": lambda: BicycleGenerator(3, 3, 8, 64, 4, "batch"),
    "encoder": lambda: BicycleEncoder(3, 5, 4, "instance", 3),
    "encoder, batch": lambda: BicycleEncoder(3, 8, 4, "batch", 4),
    "star": lambda: StarGANGenerator(7, 4, 3),
    "star's discriminator": lambda: StarGANDiscriminator(32, 3, 4, 4),
    "rbdn": lambda: RBDN(1, 2, 4, 2),
}


def inputs(network):
    side = 16 * 2 ** (len(network.conv) - 3) if isinstance(network, BicycleEncoder) else 64
    x = torch.randn(2, next(p for p in network.parameters() if p.ndim == 4).shape[1], side, side)
    if isinstance(network, StarGANGenerator):
        return (x[:, :3], torch.ones(2, network.domains))
    if isinstance(network, BicycleGenerator):
        return (x[:, : -network.nz], torch.randn(2, network.nz))
    return (x[..., :32, :32],) if isinstance(network, StarGANDiscriminator) else (x,)


def seeded(make):
    torch.manual_seed(0)
    network = make()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network.eval()


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_written_is_read_back_as_the_same_network(tmp_path, name):
    network = seeded(NETWORKS[name])
    path = tmp_path / "latest_net_G.pth"
    torch.save({f"module.{key}": tensor for key, tensor in network.state_dict().items()}, path)
    checkpoints.save(network, tmp_path / "own.safetensors")
    x = inputs(network)
    with torch.no_grad():
        expected = network(*x)
        for file in (path, tmp_path / "own.safetensors"):
            again = checkpoints.load(file)
            assert type(again) is type(network) and not any(p.requires_grad for p in again.parameters())
            torch.testing.assert_close(again(*x), expected)


def test_files_from_before_torch_0_4_are_read(tmp_path):
    network = seeded(lambda: ResnetGenerator(3, 3, 2, 4))
    state = dict(network.state_dict())
    state |= {f"model.2.{name}": torch.ones(4) for name in ("running_mean", "running_var")}
    torch.save(state, tmp_path / "G.pth", _use_new_zipfile_serialization=False)
    assert set(checkpoints.load(tmp_path / "G.pth").state_dict()) == set(network.state_dict())
    state = {k: v for k, v in seeded(NETWORKS["unet 32"]).state_dict().items() if not k.endswith("tracked")}
    torch.save(state, tmp_path / "G.pth")
    checkpoints.load(tmp_path / "G.pth")


CODED = {"model.model.0.weight": torch.zeros(4, 11, 4, 4), "model.model.3.weight": torch.zeros(8, 3, 4, 4)}


class Evil:
    def __reduce__(self):
        return (exec, ("open('pwned', 'w')",))


@pytest.mark.parametrize(
    "content,words",
    [
        ({}, "not a dictionary of tensors"),
        ([1, 2], "not a dictionary"),
        ({"layer": torch.zeros(1)}, "no translation network that is known"),
        ({"model.model.0.weight": torch.zeros(4, 3, 4, 4)}, "lacks the tensor"),
        ({"net.0.weight": torch.zeros(4, 3, 1)}, "4 axes are needed"),
        ({"model.0.weight": torch.zeros(4, 3, 4, 4)}, "levels; 1 to 8"),
        (
            {"model.model.0.weight": torch.zeros(4, 11, 4, 4), "model.model.3.weight": torch.zeros(8, 3, 4, 4)},
            "at the input",
        ),
        ({"main.0.weight": "text"}, "something other than a tensor"),
    ],
)
def test_what_does_not_fit_is_one_sentence(tmp_path, content, words):
    path = tmp_path / "G.pth"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=words) as caught:
        checkpoints.load(path)
    assert str(caught.value).count(str(path)) == 1 and "\n" not in str(caught.value)


def test_a_hostile_file_does_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "G.pth").write_bytes(pickle.dumps({"model.model.0.weight": Evil()}))
    with pytest.raises(CheckpointError, match="exec"):
        checkpoints.load("G.pth")
    assert not (tmp_path / "pwned").exists()


def test_a_changed_tensor_and_a_discriminator_are_refused(tmp_path):
    state = seeded(NETWORKS["star"]).state_dict()
    state["main.18.weight"] = state["main.18.weight"] * float("nan")
    torch.save(state, tmp_path / "G.ckpt")
    with pytest.raises(CheckpointError, match="main.*"):
        checkpoints.load(tmp_path / "G.ckpt")
    torch.save(seeded(NETWORKS["patch 70"]).state_dict(), tmp_path / "D.pth")
    with pytest.raises(CheckpointError, match="PatchGAN, which draws nothing"):
        checkpoints.load_generator(tmp_path / "D.pth")


# ---- Caffe


def varint(value):
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def message(number, payload):
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def blob(array, legacy=False):
    data = message(5, np.ascontiguousarray(array, "<f4").tobytes())
    if legacy:
        sizes = (1,) * (4 - array.ndim) + array.shape
        return b"".join(varint(n << 3) + varint(size) for n, size in zip((1, 2, 3, 4), sizes, strict=True)) + data
    return message(7, message(1, b"".join(varint(size) for size in array.shape))) + data


def caffemodel(network, legacy=False):
    """The authors' layout: norms are an affine, their statistics already in it."""
    state, layers = {name: tensor.numpy() for name, tensor in network.state_dict().items()}, b""

    def layer(name, *arrays):
        blobs = b"".join(message(7, blob(array, legacy)) for array in arrays)
        return message(100, message(1, name.encode()) + message(2, b"Convolution") + blobs)

    for name, _ in network.named_children():
        if name == "deconv1":
            layers += layer(name, state["deconv1.weight"], state["deconv1.bias"])
            continue
        scale = state[f"{name}.norm.weight"] / np.sqrt(state[f"{name}.norm.running_var"] + 1e-5)
        shift = state[f"{name}.norm.bias"] - scale * state[f"{name}.norm.running_mean"]
        norm = ("debn" if name.startswith("de") else "bn") + name.removeprefix("de").removeprefix("conv")
        layers += layer(name, state[f"{name}.conv.weight"], state[f"{name}.conv.bias"]) + layer(norm, scale, shift)
    return message(1, b"RBDN") + layers


@pytest.mark.parametrize("legacy", [False, True])
def test_a_caffe_model_of_rbdn_gives_the_same_pictures(tmp_path, legacy):
    network = seeded(lambda: RBDN(3, 3, 4, 3))
    (tmp_path / "rbdn.caffemodel").write_bytes(caffemodel(network, legacy))
    again = checkpoints.load(tmp_path / "rbdn.caffemodel")
    x = torch.randn(1, 3, 32, 48)
    with torch.no_grad():
        torch.testing.assert_close(again(x), network(x), rtol=1e-4, atol=1e-5)


def test_a_damaged_caffe_model_is_one_sentence(tmp_path):
    path = tmp_path / "rbdn.caffemodel"
    whole = caffemodel(seeded(lambda: RBDN(3, 3, 4, 2)))
    huge = message(100, varint(1 << 3) + varint(1 << 30) + message(7, blob(np.zeros(1))))  # a name that is a number
    axes = message(100, message(1, b"conv1") + message(7, message(7, message(1, b"\x01" * 5000))))
    long = message(100, message(1, b"conv1") + message(7, message(7, message(1, b"\xff" * 60))))
    for content in (
        huge,
        axes,
        long,
        whole[:-7],
        b"\x00" * 40,
        b"",
        message(100, message(1, b"conv1") + message(7, struct.pack("<I", 7))),
    ):
        path.write_bytes(content)
        with pytest.raises(CheckpointError) as caught:
            checkpoints.load(path)
        assert str(caught.value).count(str(path)) == 1 and "\n" not in str(caught.value)
    with pytest.raises(CheckpointError, match="cannot be read"):
        caffe.layers(tmp_path / "missing.caffemodel")
