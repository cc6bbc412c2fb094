"""The project's own files: exact round trips, fingerprints that survive rounding, atomic writing."""

import hashlib
import json
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file

from stylegan2.checkpoints import load, load_discriminator, native, save, source_sha256, tensors_sha256
from stylegan2.discriminator import Discriminator, DiscriminatorConfig
from stylegan2.errors import CheckpointError
from stylegan2.networks import StyleGAN2, StyleGAN2Config


@pytest.fixture
def g():
    torch.manual_seed(0)
    config = StyleGAN2Config(16, 6, 8, 128, 8, 2, lr_mul=0.1, conv_clamp=200.0, fir=(1.0, 2.0, 1.0, 0.0))
    net = StyleGAN2(config).eval().requires_grad_(False)
    net.w_avg.fill_(0.25)
    return net


def test_round_trip_is_exact(g, tmp_path):
    save(g, tmp_path / "g.safetensors")
    again = load(tmp_path / "g.safetensors")
    assert again.config == g.config and again.family == "stylegan2-16"
    assert {name: t.dtype for name, t in again.state().items()} == dict.fromkeys(g.state(), torch.float32)
    assert all(torch.equal(t, g.state()[name]) for name, t in again.state().items())
    z = torch.ones(1, 6)
    assert torch.equal(again(z, psi=0.5), g(z, psi=0.5))
    assert again.provenance.sha256 == again.provenance.stored_sha256 == source_sha256(g)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_rounded_copy_still_matches(g, tmp_path, dtype):
    save(g, tmp_path / "full")
    save(load(tmp_path / "full"), tmp_path / "half", dtype=dtype)
    half = load(tmp_path / "half")
    assert (tmp_path / "half").stat().st_size < 0.7 * (tmp_path / "full").stat().st_size
    assert source_sha256(half) == source_sha256(g) != tensors_sha256(half.state())
    assert half.provenance.stored_sha256 == tensors_sha256(half.state())
    save(half, tmp_path / "copy", dtype=dtype)
    assert source_sha256(load(tmp_path / "copy")) == source_sha256(g)


def test_weights_trained_on_are_a_new_source(g, tmp_path):
    save(g, tmp_path / "half", dtype=torch.float16)
    tuned = load(tmp_path / "half")
    tuned.synthesis.b8.conv0.weight.data[0, 0, 0, 0] += 1
    assert source_sha256(tuned) != source_sha256(g)
    save(tuned, tmp_path / "tuned")
    assert load(tmp_path / "tuned").provenance.sha256 == source_sha256(tuned)


def test_fingerprint_sees_values_names_and_shapes_but_not_w_avg():
    state = {"a": torch.arange(6.0), "w_avg": torch.zeros(2)}
    same = {"w_avg": torch.ones(2), "a": torch.arange(6.0, dtype=torch.float64)}
    assert tensors_sha256(state) == tensors_sha256(same) == tensors_sha256({"a": torch.arange(6.0).half()})
    others = [{"b": torch.arange(6.0)}, {"a": torch.arange(6.0).reshape(2, 3)}, {"a": torch.arange(6.0) + 1e-6}]
    assert len({tensors_sha256(s) for s in [state, *others]}) == 4
    # Fixed for ever: inversions on disk hold such numbers.
    assert tensors_sha256(state) == hashlib.sha256(b"a [6]\n" + struct.pack("<6f", *range(6))).hexdigest()


def test_discriminator(g, tmp_path):
    torch.manual_seed(1)
    d = Discriminator(DiscriminatorConfig(16, 64, 6, conv_clamp=3.0, group_size=2))
    save(d, tmp_path / "d")
    save(g, tmp_path / "g")
    again, images = load_discriminator(tmp_path / "d"), torch.randn(4, 3, 16, 16)
    assert again.config == d.config and torch.equal(again(images), d(images))
    with pytest.raises(CheckpointError, match="holds no generator"):
        load(tmp_path / "d")
    with pytest.raises(CheckpointError, match="holds no discriminator"):
        load_discriminator(tmp_path / "g")


def test_mobilestylegan_goes_through_the_same_door(tmp_path):
    from stylegan2.mobile import MobileStyleGAN

    torch.manual_seed(0)
    net = MobileStyleGAN((16, 16, 16), w_dim=8, mapping_layers=2).eval()
    save(net, tmp_path / "mobile", dtype=torch.float16)
    again = load(tmp_path / "mobile")
    assert type(again) is MobileStyleGAN and again.family == net.family
    assert source_sha256(again) == source_sha256(net)
    ws = torch.ones(1, net.num_ws, 8)
    torch.testing.assert_close(again.synthesis(ws), net.synthesis(ws), atol=0.05, rtol=0.05)


@pytest.mark.parametrize(
    "change,words",
    [
        ({"format": "other"}, "not a generator saved by this project"),
        ({"version": "9"}, "version '9'"),
        ({"family": "dalle-3"}, "family 'dalle-3'"),
        ({"config": "{"}, "not understood"),
        ({"config": "[]"}, "not understood"),
        ({"config": '{"secret": 1}'}, "unknown entries"),
        ({"config": '{"resolution": 8192}'}, "powers of two"),
        ({"config": '{"resolution": 48}'}, "power of two"),
        ({"config": '{"resolution": 16, "mapping_layers": 1e9}'}, "whole numbers"),
        ({"config": '{"resolution": 16, "fir": []}'}, "filter"),
        ({"config": '{"resolution": 16, "fir": "abc"}'}, "not understood"),
        ({"config": '{"resolution": 16, "mapping_layers": 20000}'}, "20000 layers; at most 64"),
        ({"config": "[" * 100_000}, "not understood"),
        ({"config": f'{{"resolution": {2**13_000}}}'}, "powers of two"),
        ({"config": f'{{"resolution": 16, "lr_mul": {10**400}}}'}, "not understood"),
        ({"config": '{"resolution": 16, "lr_mul": "0.01"}'}, "not understood"),
        ({"config": '{"resolution": 16, "lr_mul": NaN}'}, "not understood"),
        ({"config": '{"resolution": 16, "lr_mul": true}'}, "not understood"),
        ({"config": f'{{"resolution": 16, "fir": [1, {10**400}]}}'}, "not understood"),
        ({"config": '{"resolution": 16, "fir": ["1", "3"]}'}, "not understood"),
        ({"config": '{"resolution": 16, "conv_clamp": "256"}'}, "not understood"),
        ({"config": '{"resolution": 16, "conv_clamp": 0}'}, "not understood"),
        ({"version": "9" * 5000}, "version '999"),
        ({"config": '{"resolution": 16}'}, r"shape \(8,\); \(512,\) is needed"),
        ({"stored_sha256": "0" * 64}, "do not match the sha256"),
    ],
)
def test_wrong_descriptions(g, tmp_path, change, words):
    save(g, tmp_path / "g")
    tensors, metadata = native.read(tmp_path / "g")
    native.write(tmp_path / "changed", tensors, metadata | change)
    with pytest.raises(CheckpointError, match=words) as caught:
        load(tmp_path / "changed")
    assert str(caught.value).startswith(str(tmp_path / "changed")) and "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("text", ["{", "[]", '{"family": 3}', "[" * 100_000])
def test_descriptions_that_are_no_description(tmp_path, text):
    save_file({"a": torch.ones(1)}, tmp_path / "g", {"wplus": text})
    with pytest.raises(CheckpointError, match="its description is not understood"):
        load(tmp_path / "g")


def test_equal_networks_give_equal_bytes(g, tmp_path):
    for name in "abcdef":
        save(g, tmp_path / name)
    assert len({(tmp_path / name).read_bytes() for name in "abcdef"}) == 1


def test_a_flipped_bit_is_noticed(g, tmp_path):
    save(g, tmp_path / "g")
    data = (tmp_path / "g").read_bytes()
    for place in (-5, -2000, len(data) // 2):  # the last tensor is w_avg
        damaged = bytearray(data)
        damaged[place] ^= 1
        (tmp_path / "g").write_bytes(damaged)
        with pytest.raises(CheckpointError, match="do not match the sha256"):
            load(tmp_path / "g")


def test_metadata_says_what_it_is(g, tmp_path):
    save(g, tmp_path / "g", dtype=torch.float16)
    _, metadata = native.read(tmp_path / "g")
    assert metadata["format"] == "wplus" and metadata["family"] == "stylegan2-16"
    assert json.loads(metadata["config"])["channel_base"] == 128
    assert {t.dtype for t in load_file(tmp_path / "g").values()} == {torch.float16}


def test_writing_is_atomic(g, tmp_path, monkeypatch):
    path = tmp_path / "g"
    save(g, path)
    assert path.stat().st_mode & 0o777 == 0o644
    before = path.read_bytes()
    with path.open("rb") as reader:  # somebody who is reading the old file goes on reading the old file
        save(g, path, dtype=torch.float16)
        assert reader.read() == before
    save(g, path)
    g.w_avg.fill_(1)

    def full_disk(tensors, target, metadata):
        with open(target, "wb") as file:
            file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(native, "save_file", full_disk)
    with pytest.raises(OSError, match="No space"):
        save(g, path)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["g"]


def test_numbers_too_large_for_half_are_not_written(g, tmp_path):
    g.synthesis.b4.const.data.fill_(1e6)
    with pytest.raises(CheckpointError, match="b4.const.*does not fit float16"):
        save(g, tmp_path / "g", dtype=torch.float16)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="int8"):
        save(g, tmp_path / "g", dtype=torch.int8)


def test_average_is_estimated_where_a_file_has_none(tiny_rosinality, tmp_path):
    torch.save({"g_ema": tiny_rosinality}, tmp_path / "g")
    net = load(tmp_path / "g")
    w = net.mapping(torch.randn(4000, 8, generator=torch.Generator().manual_seed(3)))
    torch.testing.assert_close(net.w_avg, w.mean(0), atol=0.05, rtol=0.1)
    assert torch.equal(net.w_avg, load(tmp_path / "g").w_avg)
