"""Weights of small networks: what is saved is what is loaded, and anything else is refused in one line."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from stylegan2 import weights
from stylegan2.errors import CheckpointError


def make():
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))


@pytest.fixture
def network():
    torch.manual_seed(0)
    return make().eval()


def test_half_and_filled_are_inverse_but_for_the_rounding(network):
    saved = weights.half(network)
    again = weights.filled(make, saved)
    assert all(tensor.dtype == torch.float16 for tensor in saved.values())
    assert again[1].num_batches_tracked.dtype == torch.long and not again.training
    assert not any(parameter.requires_grad or parameter.is_meta for parameter in again.parameters())
    x = torch.randn(2, 4)
    assert torch.allclose(again(x), network(x), atol=5e-3)


def test_a_network_does_not_share_memory_with_what_it_was_filled_from(network):
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    filled = weights.filled(make, state)
    state["0.bias"].add_(1)
    assert torch.equal(filled[0].bias, network[0].bias)


def test_another_file_is_refused_in_one_line(network, tmp_path):
    good = weights.half(network)
    cases = {
        "0.bias is missing": {name: tensor for name, tensor in good.items() if name != "0.bias"},
        "0.bias has the shape": good | {"0.bias": torch.zeros(5)},
        "0.bias holds numbers that are not finite": good | {"0.bias": torch.full((3,), float("nan"))},
    }
    for message, state in cases.items():
        save_file(state, tmp_path / "a.safetensors")
        state = weights.read(tmp_path / "a.safetensors", "weights")
        refused = pytest.raises(CheckpointError, match=f"a.safetensors is not a toy: {message}")
        with refused as caught, weights.described(tmp_path / "a.safetensors", "a toy"):
            weights.filled(make, state)
        assert "\n" not in str(caught.value)


def test_a_file_that_is_none_is_refused(network, tmp_path):
    save_file(weights.half(network), tmp_path / "whole")
    cut = (tmp_path / "whole").read_bytes()[:-7]
    for name, content in {"text": b"hello, this is not a file of weights", "empty": b"", "cut": cut}.items():
        (tmp_path / name).write_bytes(content)
    for name in ("text", "empty", "cut", "nothing"):
        with pytest.raises(CheckpointError, match="cannot be read as a toy's weights"):
            weights.read(tmp_path / name, "a toy's weights")
