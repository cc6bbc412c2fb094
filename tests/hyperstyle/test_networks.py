"""HyperStyle's hypernetwork: parity with the reference, published names and counts, how offsets lie in memory."""

import copy

import pytest
import torch
from torch import nn

from hyperstyle import checkpoints, refine
from hyperstyle.networks import (
    ALL_LAYERS,
    RELEASED_LAYERS,
    HyperNetwork,
    HyperStyleConfig,
    RefinementBlock,
    SeparableKernel,
    SharedWeights,
    numbered_layers,
)
from stylegan2.engine import area_resize
from stylegan2.generator import Delta
from tests.hyperstyle.toys import TINY, drawn

LAYERS_WITHOUT_HEAD = (20, 21, 23, 24)


def tensors_of(network):
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


@pytest.fixture(scope="module")
def pair():
    return torch.rand(2, 6, 256, 256, generator=torch.Generator().manual_seed(3)) * 2 - 1


# ---- parity


def test_every_recorded_output_is_checked(golden):
    pictures = {"image_no_delta", "image", "image_256", "image_iter2"}
    recorded = {entry["name"] for entry in golden("hyperstyle_ffhq1024").figures["outputs"]}
    assert recorded == pictures | {"features"} | {f"delta_{i:02d}" for i in ALL_LAYERS}


@pytest.mark.parametrize(
    "layers,separable,entries,parameters",
    [
        (ALL_LAYERS, False, 429, 332_664_896),
        (RELEASED_LAYERS, False, 381, 327_007_808),
        (ALL_LAYERS, True, 493, 215_123_456),
        (RELEASED_LAYERS, True, 445, 209_466_368),
    ],
)
def test_published_counts(layers, separable, entries, parameters):
    with torch.device("meta"):
        network = HyperNetwork(HyperStyleConfig(layers, separable))
    assert len(network.state_dict()) == entries
    assert sum(p.numel() for p in network.parameters()) == parameters  # the hyper-head once


def test_published_names_and_shapes(golden):
    with torch.device("meta"):
        network = HyperNetwork()
    theirs = golden("hyperstyle_ffhq1024").shapes()
    ours = {f"hypernet.{name}": shape for name, shape in tensors_of(network).items()}
    assert ours == {name: shape for name, shape in theirs.items() if name.startswith("hypernet.")}


def test_published_names_of_separable_blocks():
    with torch.device("meta"):
        shapes = tensors_of(HyperNetwork(HyperStyleConfig(separable=True)))
    prefix = "refinement_blocks.14."
    block = {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}
    assert {name for name in block if name.startswith("convs.")} == {
        f"convs.{index}.{part}" for index in (0, 2, 4, 6) for part in ("weight", "bias")
    }
    parts = {"make_kernel_in": (4608, 512), "make_kernel_out": (2304, 512)}
    parts |= {"kernel_linear_in": (512, 512), "kernel_linear_out": (256, 256)}
    assert {name: block[f"output.0.{name}.weight"] for name in parts} == parts and len(block) == 16


def test_trunk_and_fine_layers_in_memory(golden):
    """What needs no hyper-head: a ninth of the parameters, so that every run of the tests has it."""
    fixture = golden("hyperstyle_ffhq1024")
    prefixes = ("conv1.", "bn1.", "relu.", "body.", *(f"refinement_blocks.{i}." for i in LAYERS_WITHOUT_HEAD))
    state = {}
    for prefix in prefixes:
        state |= fixture.state(f"hypernet.{prefix}")
    network = checkpoints.assemble(HyperStyleConfig(LAYERS_WITHOUT_HEAD), state, "hypernet.")
    pair = torch.cat([fixture.inputs["x"], fixture.inputs["y_hat"]], dim=1)
    with torch.no_grad():
        fixture.check("features", network.features(pair))
        deltas = network(pair)
    for i, layer in network.config.tuned.items():
        fixture.check(f"delta_{i:02d}", deltas[layer.name].factors[0].expand(-1, *layer.shape))


@pytest.mark.slow
def test_everything_from_a_file_of_full_size(golden, tmp_path):
    """1.5 GB written, read and run: features, every delta, the pictures, and those of a second pass."""
    fixture, path = golden("hyperstyle_ffhq1024"), tmp_path / "hyperstyle_ffhq.pt"
    state = {name: tensor.detach() for name, tensor in fixture.state().items()}  # copies: tensors of one storage
    opts = {"layers_to_tune": ",".join(map(str, ALL_LAYERS)), "output_size": 1024, "device": "cuda:0"}
    torch.save({"state_dict": state, "latent_avg": torch.zeros(18, 512), "opts": opts, "global_step": 1}, path)
    del state
    loaded = checkpoints.load(path)
    assert loaded.hypernet.config == HyperStyleConfig() and loaded.has_decoder
    decoder, inputs = checkpoints.load_decoder(loaded), fixture.inputs
    path.unlink()
    pair = torch.cat([inputs["x"], inputs["y_hat"]], dim=1)
    with torch.no_grad():
        fixture.check("features", loaded.hypernet.features(pair))
        deltas = loaded.hypernet(pair)
        assert list(deltas) == [layer.name for layer in loaded.hypernet.config.tuned.values()]
        for i, layer in loaded.hypernet.config.tuned.items():
            fixture.check(f"delta_{i:02d}", deltas[layer.name].factors[0].expand(-1, *layer.shape))
        fixture.check("image_no_delta", decoder.synthesis(inputs["codes"]))
        image = decoder.synthesis(inputs["codes"], deltas)
        fixture.check("image", image)
        small = area_resize(image, 256)
        fixture.check("image_256", small)
        total = refine.add(deltas, loaded.hypernet(torch.cat([inputs["x"], small], dim=1)))
        fixture.check("image_iter2", decoder.synthesis(inputs["codes"], total))


# ---- layers


def test_published_numbers_of_layers():
    names = {i: layer.name for i, layer in HyperStyleConfig().tuned.items()}
    assert names[0] == "b4.conv1" and names[2] == "b8.conv0" and names[12] == "b64.conv1"
    assert (names[14], names[15], names[24]) == ("b128.conv0", "b128.conv1", "b1024.conv1")
    assert len(numbered_layers(HyperStyleConfig().generator)) == 26
    assert HyperStyleConfig().shared == (0, 2, 3, 5, 6, 8, 9, 11, 12)
    assert HyperStyleConfig(layers=RELEASED_LAYERS).shared == (5, 6, 8, 9, 11, 12)
    assert [layer.shape[:2] for layer in HyperStyleConfig(layers=(14, 24)).tuned.values()] == [(256, 512), (32, 32)]
    assert TINY.shared == (0, 2, 5)


@pytest.mark.parametrize(
    "values,words",
    [
        ({"layers": (0, 1)}, "layer 1 of 1024 pixels cannot be tuned"),  # to_rgb
        ({"layers": (0, 26)}, "layer 26"),
        ({"layers": (0, 20), "resolution": 256}, "layer 20 of 256 pixels cannot be tuned"),
        ({"layers": ("0",)}, "layer '0'"),
        ({"layers": ()}, "one or more numbers"),
        ({"layers": (2, 0)}, "ascending"),
        ({"layers": (0, 0)}, "each once"),
        ({"layers": [0, 2]}, "a tuple"),
        ({"separable": 1}, "true or false"),
        ({"width": 0}, "width must be"),
        ({"channel_max": True}, "channel_max must be"),
        ({"channel_base": 1 << 40}, "channel_base must be"),
        ({"resolution": 1000}, "power of two"),
    ],
)
def test_wrong_configurations(values, words):
    with pytest.raises(ValueError, match=words):
        HyperStyleConfig(**values)


# ---- offsets


def test_rows_of_the_hyper_head_are_output_channels():
    head, codes = drawn(SharedWeights(6, 3)), torch.randn(2, 6, generator=torch.Generator().manual_seed(0))
    kernels = head(codes)
    assert kernels.shape == (2, 3, 3, 3, 3)
    for b in range(2):
        for out in range(3):
            row = codes[b] @ head.w2[:, out * 6 : out * 6 + 6] + head.b2[out * 6 : out * 6 + 6]
            values = row @ head.w1 + head.b1
            torch.testing.assert_close(kernels[b, out], values.reshape(3, 3, 3))  # (in, 3, 3)


def test_plain_blocks_give_an_offset_for_each_pair_of_channels():
    block = RefinementBlock(32, inputs=5, outputs=3)
    nn.init.zeros_(block.output[1].weight)
    block.output[1].bias.data = torch.arange(15.0)
    offsets = block(torch.randn(2, 32, 16, 16))
    assert offsets.shape == (2, 3, 5, 1, 1)
    assert torch.equal(offsets[1, :, :, 0, 0], torch.arange(15.0).reshape(3, 5))


def test_separable_kernels_tap_by_tap():
    """The two linear layers one after the other on every tap's outer product."""
    block, code = drawn(SeparableKernel(6, inputs=4, outputs=3)), torch.randn(2, 6, 1, 1)
    kernels = block(code)
    assert kernels.shape == (2, 3, 4, 3, 3)
    v = block.make_kernel_in(code[:, :, 0, 0]).reshape(2, 3, 3, 4)
    u = block.make_kernel_out(code[:, :, 0, 0]).reshape(2, 3, 3, 3)
    for y in range(3):
        for x in range(3):
            product = u[:, y, x, :, None] * v[:, y, x, None, :]  # (B, O, I)
            mixed = block.kernel_linear_out(block.kernel_linear_in(product).mT).mT
            torch.testing.assert_close(kernels[..., y, x], mixed)


@pytest.mark.parametrize("separable", [False, True])
def test_strides_of_the_blocks(separable):
    with torch.device("meta"):
        blocks = HyperNetwork(HyperStyleConfig(separable=separable)).refinement_blocks
    strides = {number: [conv.stride[0] for conv in block.convs[::2]] for number, block in blocks.items()}
    assert strides["5"] == [1, 2, 2, 2, 2]
    assert strides["14"] == ([2, 2, 2, 2] if separable else [2, 2, 2])


@pytest.mark.parametrize("separable", [False, True])
def test_deltas_by_name(pair, generator, separable):
    network = drawn(HyperNetwork(HyperStyleConfig(TINY.layers, separable, 32, 128, 8, 4)))
    with torch.no_grad():
        deltas = network(pair)
        alone = network(pair[1:])
    assert list(deltas) == ["b4.conv1", "b8.conv0", "b16.conv0", "b32.conv0", "b32.conv1"] == list(network.layers)
    taps = (3, 3) if separable else (1, 1)
    expected = [(2, 8, 8, 3, 3)] * 3 + [(2, 4, 8, *taps), (2, 4, 4, *taps)]
    assert [tuple(delta.factors[0].shape) for delta in deltas.values()] == expected
    for name, delta in deltas.items():
        assert delta.kind == "mul" and generator.layers[name] == network.layers[name]
        torch.testing.assert_close(delta.factors[0][1:], alone[name].factors[0], atol=1e-4, rtol=1e-3)
        assert (delta.factors[0][0] - delta.factors[0][1]).abs().max() > 1e-3  # of the image, not constant


def test_a_new_hyper_head_begins_near_the_untouched_generator():
    """At the published width, for codes as large as normalised ones are."""
    torch.manual_seed(0)
    with torch.no_grad():
        offsets = SharedWeights(512, 4)(torch.randn(8, 512))
    assert 0.01 < offsets.std() < 0.1


def test_deltas_on_the_generator_are_weights_multiplied_by_one_plus_delta(generator, hypernet, pair):
    """Also where an offset stands for all taps; the learning rate that equalises the weights commutes with it."""
    ws = torch.randn(2, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        deltas = hypernet(pair)
        both = generator.synthesis(ws, deltas)
        full = {n: Delta("mul", (d.factors[0].expand(-1, *generator.layers[n].shape),)) for n, d in deltas.items()}
        torch.testing.assert_close(generator.synthesis(ws, full), both)
        assert (both - generator.synthesis(ws)).abs().max() > 0.01
        for b in range(2):
            changed = copy.deepcopy(generator)
            for name, delta in deltas.items():
                changed.get_parameter(f"synthesis.{name}.weight").mul_(1 + delta.factors[0][b])
            torch.testing.assert_close(changed.synthesis(ws[b : b + 1]), both[b : b + 1], atol=1e-4, rtol=1e-4)


def test_the_hyper_head_is_one(hypernet):
    for network in (hypernet, copy.deepcopy(hypernet), copy.deepcopy(hypernet).double()):
        state = network.state_dict()
        assert len(network.config.copies) == 12
        for name, original in network.config.copies.items():
            assert state[name].data_ptr() == state[original].data_ptr()
    assert not HyperNetwork(HyperStyleConfig((8, 9), False, 32, 128, 8, 4)).config.copies


def test_what_it_takes(hypernet):
    for wrong in ((1, 3, 256, 256), (1, 6, 128, 128), (6, 256, 256)):
        with pytest.raises(ValueError, match=r"takes \(B, 6, 256, 256\)"):
            hypernet(torch.zeros(wrong))
