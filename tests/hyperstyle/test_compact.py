"""The compact hypernetwork: what a new one says, what offsets do, several passes, and what its loader refuses."""

import pytest
import torch
from safetensors.torch import save_file

from hyperstyle import compact
from hyperstyle.refine import add
from stylegan2 import w_statistics, weights
from stylegan2.engine import area_resize
from stylegan2.errors import CheckpointError
from stylegan2.generator import Delta
from tests.encoders import toys


@pytest.fixture(scope="module")
def generator():
    return toys.generator(4)


@pytest.fixture
def network(generator):
    """One with drawn heads and a drawn linear map: a new one says 0 to everything."""
    network, rng = compact.start(toys.image_network(), generator), torch.Generator().manual_seed(2)
    with torch.no_grad():
        for layer in (network.direct, network.gate, *network.heads.values()):
            layer.weight.copy_(torch.randn(layer.weight.shape, generator=rng) * 0.05)
    return network.eval()


def pictures(seed, count=2, size=128):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def codes(generator, count=2):
    rng = torch.Generator().manual_seed(5)
    return w_statistics.load().unwhiten(torch.randn(count, generator.num_ws, 512, generator=rng))


def test_a_new_network_changes_nothing(generator):
    network = compact.start(toys.image_network(), generator)
    offsets = compact.offsets(network, pictures(3), pictures(4))
    ws = codes(generator)
    assert torch.equal(generator.synthesis(ws, offsets), generator.synthesis(ws))


def test_every_pointwise_layer_and_to_img_gets_a_gain_for_each_output_channel(generator, network):
    offsets = compact.offsets(network, pictures(3), pictures(4))
    kinds = {layer.kind for name, layer in generator.layers.items() if name not in offsets}
    assert kinds == {"conv", "depthwise"} and "layers.2.to_img" in offsets
    for name, delta in offsets.items():
        assert delta.kind == "mul" and delta.factors[0].shape == (2, generator.layers[name].shape[0], 1)
        assert delta.factors[0].abs().max() > 0
    changed = generator.synthesis(codes(generator), offsets)
    assert (changed - generator.synthesis(codes(generator))).abs().mean() > 1e-4


def test_it_is_small_enough():
    with torch.device("meta"):
        network = compact.CompactHyperNetwork({f"layer.{i}": 512 for i in range(10)})
    assert sum(p.numel() for p in network.parameters()) < 7.5e6


def test_a_picture_gets_the_same_alone_and_in_a_batch_and_at_any_size(network):
    photo, shown = pictures(3, 3), pictures(4, 3)
    large = [torch.nn.functional.interpolate(x, scale_factor=2, mode="nearest") for x in (photo, shown)]
    together = compact.offsets(network, photo, shown)
    for other in (compact.offsets(network, *large), compact.offsets(network, photo[1:2], shown[1:2])):
        for name, delta in other.items():
            theirs, ours = delta.factors[0], together[name].factors[0]
            assert torch.allclose(theirs if len(theirs) == 3 else theirs[0], ours if len(theirs) == 3 else ours[1],
                                  atol=1e-5)  # fmt: skip


def test_it_looks_at_the_reconstruction(network):
    one, other = (compact.offsets(network, pictures(3), pictures(seed)) for seed in (4, 6))
    assert all((delta.factors[0] - other[name].factors[0]).abs().mean() > 1e-4 for name, delta in one.items())


def test_passes_add_up_and_each_sees_what_the_last_one_left(generator, network):
    ws, image, calls = codes(generator, 1), pictures(3, 1), []
    offsets = compact.refine(network, generator, image, ws, 2, lambda: calls.append(1))
    first = compact.offsets(network, image, generator.synthesis(ws))
    second = compact.offsets(network, image, generator.synthesis(ws, first))
    expected = add(first, second)
    assert len(calls) == 2
    assert all(torch.allclose(offsets[n].factors[0], expected[n].factors[0], atol=1e-6) for n in expected)
    assert any(not torch.allclose(first[n].factors[0], second[n].factors[0], atol=1e-5) for n in first)
    assert compact.refine(network, generator, image, ws, 0) == {}


def test_a_generator_with_other_layers_is_refused(network):
    other = toys.generator(3)
    with pytest.raises(CheckpointError, match="not trained for a mobilestylegan-32"):
        compact.refine(network, other, pictures(3, 1), codes(other, 1))


def test_what_is_saved_can_be_loaded_and_says_the_same(network, tmp_path):
    save_file(weights.half(network), tmp_path / "network.safetensors")
    loaded = compact.load(tmp_path / "network.safetensors")
    assert loaded.layers == network.layers
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())
    ours, theirs = (compact.offsets(n, pictures(3), pictures(4)) for n in (network, loaded))
    for name, delta in ours.items():
        difference = (delta.factors[0] - theirs[name].factors[0]).abs().mean()
        assert difference < 0.01 * delta.factors[0].std()


def test_another_file_is_refused(network, tmp_path):
    for state in ({"input": torch.zeros(1, 512, 4, 4)}, weights.half(network) | {"place": torch.zeros(3)}):
        save_file(state, tmp_path / "a")
        with pytest.raises(CheckpointError, match="not a compact hypernetwork: "):
            compact.load(tmp_path / "a")


@pytest.mark.weights
def test_the_shipped_network_comes_nearer_to_a_face_in_another_light():
    from stylegan2 import checkpoints, engine, zoo

    generator, network = checkpoints.load(zoo.path("mobilestylegan-ffhq-1024")), compact.load()
    assert network.layers == compact.tuned(generator)
    ws = engine.broadcast(generator, engine.latents(generator, [3])).contiguous()
    with torch.no_grad():
        drawn = generator.synthesis(ws).clamp(-1, 1)
        goal = ((drawn + 1) / 2) ** 1.4 * 1.6 - 1
        changed = generator.synthesis(ws, compact.offsets(network, goal, drawn))
    before, after = ((area_resize(x, 256) - area_resize(goal, 256)).square().mean() for x in (drawn, changed))
    assert after < 0.8 * before


def test_no_gain_is_no_change_and_a_gain_scales_the_filters_answer(generator):
    name = "layers.1.conv1.pointwise"
    weight = torch.rand(generator.layers[name].shape)
    delta = compact.deltas({name: torch.full((1, weight.shape[0]), 0.5)})[name]
    assert isinstance(delta, Delta) and torch.allclose(delta.apply(weight)[0], 1.5 * weight)
