"""e4e and HyperStyle's W-encoder: parity with the reference, progressive stages, the penalty on offsets."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from encoders.checkpoints import encode, from_container, load
from encoders.e4e import Encoder4Editing, EncoderConfig, GradualStyleBlock, WEncoder, delta_penalty
from encoders.irse import IRSE50, Bottleneck, SqueezeExcite
from stylegan2.checkpoints import pixel2style

TINY = EncoderConfig(num_ws=9, width=16, w_dim=8)


def shapes(network, prefix):
    return {f"{prefix}{name}": tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def outputs(fixture):
    return {entry["name"] for entry in fixture.figures["outputs"]}


@pytest.fixture(scope="module")
def reference(golden):
    """Golden, e4e's published container with every tensor of it (1.2 GB), and the encoder read from that."""
    fixture = golden("e4e_ffhq1024")
    opts = {"encoder_type": "Encoder4Editing", "stylegan_size": 1024, "start_from_latent_avg": True}
    container = {"state_dict": fixture.state(), "latent_avg": fixture.extra["latent_avg"], "opts": opts}
    return fixture, container, from_container(container, "e4e_ffhq_encode.pt")


@pytest.fixture(scope="module")
def codes(reference):
    fixture, _, loaded = reference
    with torch.no_grad():
        return loaded.encoder(fixture.inputs["image"])


# ---- parity


def test_every_recorded_output_is_checked(golden):
    rows = {f"codes_style_{row:02d}" for row in range(18)}
    assert outputs(golden("e4e_ffhq1024")) == rows | {"codes", "codes_stage_Delta5Training", "image", "image_256"}
    assert outputs(golden("hyperstyle_w_encoder")) == {"codes"}


def test_e4e_has_the_published_tensors(reference):
    fixture, container, loaded = reference
    assert loaded.kind == "e4e" and loaded.has_decoder and loaded.encoder.config == EncoderConfig()
    theirs = {name: shape for name, shape in fixture.shapes().items() if name.startswith("encoder.")}
    assert shapes(loaded.encoder, "encoder.") == theirs and len(theirs) == 621
    assert torch.equal(loaded.latent_avg, container["latent_avg"])
    assert all(not p.requires_grad and p.dtype == torch.float32 for p in loaded.encoder.parameters())
    assert not any(module.training for module in loaded.encoder.modules())


def test_e4e_codes(reference, codes):
    fixture, _, _ = reference
    fixture.check("codes", codes)
    for row in range(18):
        fixture.check(f"codes_style_{row:02d}", codes[:, row])


def test_e4e_codes_of_an_earlier_stage(reference, codes):
    fixture, _, loaded = reference
    with torch.no_grad():
        early = loaded.encoder(fixture.inputs["image"], stage=5)
    fixture.check("codes_stage_Delta5Training", early)
    torch.testing.assert_close(early[:, :6], codes[:, :6])
    assert torch.equal(early[:, 6:], early[:, :1].expand(-1, 12, -1))


def test_e4e_picture_through_its_decoder(reference, codes):
    fixture, container, loaded = reference
    decoder = pixel2style.generator(container)
    with torch.no_grad():
        image = decoder.synthesis(codes + loaded.latent_avg)
    fixture.check("image", image)
    fixture.check("image_256", F.adaptive_avg_pool2d(image, 256))


def test_w_encoder_from_a_file(golden, tmp_path):
    """At full size and through the disk: `encode` on the recorded image is the recorded codes plus latent_avg."""
    fixture, path = golden("hyperstyle_w_encoder"), tmp_path / "faces_w_encoder.pt"
    average = torch.linspace(-1, 1, 512).unsqueeze(0)
    torch.save({"state_dict": fixture.state(), "latent_avg": average, "opts": {"output_size": 1024}}, path)
    loaded = load(path, kind="w")
    assert shapes(loaded.encoder, "encoder.") == fixture.shapes()
    with torch.no_grad():
        codes = loaded.encoder(fixture.inputs["image"])
    fixture.check("codes", codes)
    assert torch.equal(codes, codes[:, :1].expand(-1, 18, -1))
    torch.testing.assert_close(encode(loaded, fixture.inputs["image"]), codes + average)


@pytest.mark.slow
def test_e4e_from_a_file_of_full_size(reference, codes, tmp_path):
    fixture, container, _ = reference
    torch.save(container, tmp_path / "e4e.pt")
    ws = encode(load(tmp_path / "e4e.pt", kind="e4e", num_ws=18), fixture.inputs["image"])
    torch.testing.assert_close(ws, codes + container["latent_avg"])


# ---- parts


def test_squeeze_excite_scales_channels():
    torch.manual_seed(0)
    layer, x = SqueezeExcite(32), torch.randn(2, 32, 5, 5)
    nn.init.zeros_(layer.fc2.weight)
    torch.testing.assert_close(layer(x), x / 2)  # sigmoid(0), the same for each channel


def test_identity_shortcut_of_a_strided_block_takes_every_second_pixel():
    block, x = Bottleneck(16, 16, 2).eval(), torch.arange(64.0).reshape(1, 1, 8, 8).repeat(1, 16, 1, 1)
    nn.init.zeros_(block.res_layer[4].weight)  # the branch gives zeros
    assert torch.equal(block(x), x[:, :, ::2, ::2])


def test_levels_of_the_pyramid():
    torch.manual_seed(0)
    body = IRSE50(16).eval()
    assert len(body.body) == 24
    with torch.no_grad():
        sizes = [tuple(x.shape) for x in body.pyramid(torch.zeros(1, 3, 256, 256))]
    assert sizes == [(1, 32, 64, 64), (1, 64, 32, 32), (1, 128, 16, 16)]
    for wrong in (torch.zeros(1, 3, 128, 128), torch.zeros(1, 4, 256, 256), torch.zeros(3, 256, 256)):
        with pytest.raises(ValueError, match=r"takes \(B, 3, 256, 256\)"):
            body.pyramid(wrong)


@pytest.mark.parametrize("size,count", [(16, 4), (32, 5), (64, 6)])
def test_heads_reach_one_pixel(size, count):
    head = GradualStyleBlock(6, 4, size)
    assert [layer.stride for layer in head.convs[::2]] == [(2, 2)] * count
    assert {layer.negative_slope for layer in head.convs[1::2]} == {0.01}
    assert head(torch.ones(2, 6, size, size)).shape == (2, 4)


def test_images_of_a_batch_do_not_see_each_other():
    torch.manual_seed(0)
    images = torch.rand(2, 3, 256, 256) * 2 - 1
    for network in (Encoder4Editing(TINY).eval(), WEncoder(TINY).eval()):
        with torch.no_grad():
            both, alone = network(images), network(images[1:])
        assert both.shape == (2, 9, 8)
        torch.testing.assert_close(both[1:], alone, atol=1e-5, rtol=1e-4)
        assert (both[0] - both[1]).abs().max() > 1e-3


@pytest.mark.parametrize(
    "values", [{"num_ws": 0}, {"num_ws": 65}, {"w_dim": 0}, {"w_dim": 5000}, {"width": 63}, {"width": 0}]
)
def test_shapes_out_of_range(values):
    with pytest.raises(ValueError, match="out of range|multiple of 16"):
        EncoderConfig(**values)


# ---- progressive stages


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    return Encoder4Editing(TINY).eval()


@pytest.fixture(scope="module")
def image():
    return torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_stages_unlock_one_row_after_another(tiny, image):
    with torch.no_grad():
        full = tiny(image)
        assert len({tuple(row.tolist()) for row in full[0]}) == 9  # every row has an offset of its own
        for stage in range(9):
            codes = tiny(image, stage)
            torch.testing.assert_close(codes[:, : stage + 1], full[:, : stage + 1])
            assert torch.equal(codes[:, stage + 1 :], codes[:, :1].expand(-1, 8 - stage, -1))
        assert torch.equal(codes, full)


def test_heads_beyond_the_stage_are_left_alone(tiny, image):
    network = tiny
    try:
        network(image, stage=4).square().sum().backward()
        trained = {name for name, p in network.named_parameters() if p.grad is not None and p.grad.any()}
        heads = {int(name.split(".")[1]) for name in trained if name.startswith("styles.")}
        assert heads == {0, 1, 2, 3, 4}
        assert "latlayer1.weight" in trained and "latlayer2.weight" not in trained
    finally:
        network.zero_grad(set_to_none=True)


@pytest.mark.parametrize("stage", [-1, 9, 18])
def test_no_such_stage(tiny, image, stage):
    with pytest.raises(ValueError, match="progressive stage of 9 rows is 0 to 8"):
        tiny(image, stage)
    with pytest.raises(ValueError, match="progressive stage"):
        delta_penalty(torch.zeros(1, 9, 8), stage)


def test_delta_penalty():
    codes = torch.ones(2, 4, 3)
    codes[0, 1] += torch.tensor([3.0, 0.0, 4.0])  # 5
    codes[0, 3] += torch.tensor([0.0, 2.0, 0.0])  # 2
    codes[1, 2] -= torch.tensor([2.0, 1.0, 2.0])  # 3
    assert delta_penalty(codes).item() == pytest.approx((5 + 2 + 3) / 2)  # norms, not squares; mean over images
    assert [delta_penalty(codes, stage).item() for stage in range(4)] == pytest.approx([0, 2.5, 4, 5])
    assert delta_penalty(codes + torch.randn(2, 1, 3)).item() == pytest.approx(5, abs=1e-5)  # whatever w_0 is


def test_delta_penalty_has_a_gradient_where_offsets_are_zero():
    codes = torch.zeros(1, 4, 3, requires_grad=True)
    delta_penalty(codes).backward()
    assert torch.equal(codes.grad, torch.zeros(1, 4, 3))


def test_delta_penalty_pulls_offsets_towards_the_first_row(tiny, image):
    with torch.no_grad():
        codes = tiny(image)
    codes.requires_grad_(True)
    (gradient,) = torch.autograd.grad(delta_penalty(codes), codes)
    assert delta_penalty(codes - 0.01 * gradient) < delta_penalty(codes)
