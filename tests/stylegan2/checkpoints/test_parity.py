"""Checkpoints in published layouts, written to disk, loaded and compared with what the reference code drew."""

import argparse
import pickletools

import pytest
import torch

from stylegan2.checkpoints import load, load_discriminator, rosinality, source_sha256
from stylegan2.checkpoints.nvidia import generator_names
from stylegan2.generator import Generator
from stylegan2.networks import StyleGAN2, StyleGAN2Config, mix_styles, truncate_rows


def prepared(inputs):
    coarse = inputs["coarse"].repeat_interleave(8, 2).repeat_interleave(8, 3)
    return (inputs["image"] + coarse) * inputs["gain"]


def count(network):
    """Numbers in a network or state dict, constant filters aside."""
    state = network if isinstance(network, dict) else network.state()
    return sum(tensor.numel() for name, tensor in state.items() if not name.endswith("kernel"))


@torch.no_grad()
def check_rosinality(golden, g):
    x = golden.inputs
    golden.check("w", g.mapping(x["z"]))
    golden.check("latents_trunc0.7", g.ws(x["z"], psi=0.7))
    golden.check("image_trunc0.7", g(x["z"], psi=0.7))
    golden.check("image_notrunc", g(x["z"]))
    golden.check("image_wplus", g.synthesis(x["wplus"]))
    golden.check("image_mixed", g.synthesis(mix_styles(g.ws(x["z"][:1]), g.ws(x["z2"]), 4)))


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_rosinality_generator(golden, tmp_path, zipped):
    fixture = golden("rosinality_stylegan2_g64")
    state, path = fixture.state(), tmp_path / "some.bin"
    content = {"g_ema": state, "g": {"unused": torch.zeros(3)}, "latent_avg": fixture.extra["latent_avg"]}
    content |= {"args": argparse.Namespace(size=64, lr=0.002, path="data"), "ada_aug_p": 0.5}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    g = load(path)
    assert isinstance(g, Generator) and g.family == "stylegan2-64" and g.num_ws == 10
    assert count(g) - 512 == count(state)  # every number of the file is used, and w_avg came on top
    assert not any(p.requires_grad for p in g.parameters())
    check_rosinality(fixture, g)


def test_rosinality_discriminator(golden, tmp_path):
    fixture, path = golden("rosinality_stylegan2_d64"), tmp_path / "d.pt"
    torch.save({"d": fixture.state()}, path)
    d, images = load_discriminator(path), prepared(fixture.inputs)
    assert count(d) == count(fixture.state())
    with torch.no_grad():
        fixture.check("logits", d(images))
        fixture.check("features_before_stddev", d.features(images[:1]))


G_KWARGS = {"z_dim": 512, "c_dim": 0, "w_dim": 512, "img_resolution": 64, "img_channels": 3}
SYNTHESIS = {"channel_base": 32768, "channel_max": 512, "num_fp16_res": 4, "conv_clamp": 256}
NESTED = G_KWARGS | {"mapping_kwargs": {"num_layers": 8}, "synthesis_kwargs": SYNTHESIS}
FLAT = G_KWARGS | {"mapping_kwargs": {"num_layers": 8}} | SYNTHESIS
CLAMPED = {"synthesis.b4.conv1": {"conv_clamp": 256}}


@pytest.mark.parametrize("kwargs,protocol", [(NESTED, 3), (FLAT, 4)], ids=["ada-protocol-3", "stylegan3-protocol-4"])
def test_nvidia_generator(golden, nvidia_pickle, tmp_path, kwargs, protocol):
    fixture = golden("nv_stylegan2_ada_g64")
    state = fixture.state()
    state["synthesis.b8.conv0.weight"] = state["synthesis.b8.conv0.weight"].to(memory_format=torch.channels_last)
    path = nvidia_pickle(tmp_path / "network", {"G_ema": (state, "Generator", CLAMPED, kwargs)}, protocol)
    names = {argument for _, argument, _ in pickletools.genops(path.read_bytes()) if isinstance(argument, str)}
    text = " ".join(names)
    for name in ("_reconstruct_persistent_obj", "_rebuild_parameter", "_load_from_bytes", "EasyDict", "scalar"):
        assert name in text  # the file has the structure it is meant to have
    g = load(path)
    assert g.config == StyleGAN2Config(resolution=64, conv_clamp=256.0)
    check_nvidia(fixture, g)


@torch.no_grad()
def check_nvidia(fixture, g):
    x = fixture.inputs
    ws = g.ws(x["z"])
    fixture.check("ws", ws)
    fixture.check("ws_trunc0.7", truncate_rows(ws, g.w_avg, 0.7))
    fixture.check("ws_trunc0.5_cutoff4", g.ws(x["z"], psi=0.5, cutoff=4))
    fixture.check("image_const", g.synthesis(ws))
    fixture.check("image_none", g.synthesis(ws, noise_mode="none"))
    fixture.check("image_trunc0.7_const", g(x["z"], psi=0.7))
    fixture.check("image_ws_const", g.synthesis(x["ws"]))


def test_nvidia_discriminator(golden, nvidia_pickle, tmp_path):
    fixture = golden("nv_stylegan2_ada_d64")
    kwargs = {"c_dim": 0, "img_resolution": 64, "img_channels": 3, "epilogue_kwargs": {"mbstd_group_size": 4}}
    network = (fixture.state(), "Discriminator", {}, kwargs | SYNTHESIS)
    d = load_discriminator(nvidia_pickle(tmp_path / "network", {"D": network}))
    images = prepared(fixture.inputs)
    with torch.no_grad():
        fixture.check("logits", d(images))
        fixture.check("features_b8", d.features(images[:1]))


def test_one_generator_in_two_layouts_is_the_same(golden, nvidia_pickle, tmp_path):
    fixture = golden("rosinality_stylegan2_g64")
    theirs = fixture.state()
    torch.save({"g_ema": theirs, "latent_avg": fixture.extra["latent_avg"]}, tmp_path / "a")
    a = load(tmp_path / "a")
    state = {name: a.state()[ours] for ours, name in generator_names(64).items()}
    state |= {f"synthesis.b{r}.resample_filter": theirs["to_rgbs.0.upsample.kernel"] / 4 for r in (8, 16, 32, 64)}
    b = load(nvidia_pickle(tmp_path / "b", {"G_ema": (state, "Generator", {}, NESTED)}))
    assert source_sha256(a) == source_sha256(b)
    check_rosinality(fixture, b)


def container(fixture, **extra):
    """All names of the fixture; tensors outside the decoder have the right shape but repeat a single number."""
    state = fixture.state("decoder.")
    for name, shape in fixture.shapes().items():
        state.setdefault(name, torch.zeros(()).expand(shape))
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == fixture.shapes()
    return {"state_dict": state, "opts": {"stylegan_size": 1024, "device": "cuda", "lr": 1e-4}} | extra


def test_e4e_container(golden, tmp_path):
    fixture, path = golden("e4e_ffhq1024"), tmp_path / "e4e.pt"
    average = fixture.extra["latent_avg"]
    torch.save(container(fixture, latent_avg=average), path)
    g = load(path)
    assert isinstance(g, StyleGAN2) and g.config == StyleGAN2Config()
    torch.testing.assert_close(g.w_avg, average.mean(dim=0))
    source = fixture.state("decoder.")
    names = rosinality.generator_names(1024)
    assert set(g.state()) == set(names) | {"w_avg"}
    for ours, theirs in names.items():
        assert torch.equal(g.state()[ours].flatten(), source[f"decoder.{theirs}"].flatten()), ours
    repeated = average[:1].repeat(18, 1)
    assert torch.equal(rosinality.generator(source_without(source, "decoder."), repeated).w_avg, average[0])


def source_without(state, prefix):
    return {name.removeprefix(prefix): tensor for name, tensor in state.items()}


def test_hyperstyle_decoder_at_1024(golden, tmp_path):
    fixture, path = golden("hyperstyle_ffhq1024"), tmp_path / "hyperstyle.pt"
    torch.save(container(fixture, latent_avg=torch.zeros(18, 512), global_step=1, best_val_loss=0.5), path)
    g = load(path)
    with torch.no_grad():
        fixture.check("image_no_delta", g.synthesis(fixture.inputs["codes"]))
