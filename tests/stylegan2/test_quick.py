"""Half-size pictures without the last block: shapes, weights, and how near they come to renders."""

import pytest
import torch
from safetensors.torch import save_file

from stylegan2 import quick, weights
from stylegan2.engine import area_resize, broadcast, latents
from stylegan2.errors import CheckpointError
from stylegan2.mobile import MobileStyleGAN


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    generator = MobileStyleGAN((16, 16, 16, 8))
    for parameter in generator.parameters():
        parameter.data += 0.04 * torch.randn_like(parameter)
    return generator


def test_a_picture_has_half_the_side_whether_drawn_alone_or_together(small):
    model = quick.Quick(small, quick.start(small))
    with torch.no_grad():
        for gain in (model.readout.gain, model.readout.bands_gain):
            gain.weight.normal_(0, 0.01)
        model.readout.linear.normal_(0, 0.1)
        ws = torch.randn(2, small.num_ws, 512)
        both = model(ws)
        assert both.shape == (2, 3, small.resolution // 2, small.resolution // 2)
        alone = torch.cat([model(ws[:1]), model(ws[1:])])
    assert both.std() > 0
    torch.testing.assert_close(both, alone, rtol=1e-4, atol=1e-5)


def test_what_is_saved_is_loaded(small, tmp_path):
    readout = quick.start(small)
    save_file(weights.half(readout), tmp_path / "q.safetensors")
    loaded = quick.load(small, tmp_path / "q.safetensors")
    ws = torch.randn(1, small.num_ws, 512)
    with torch.no_grad():
        torch.testing.assert_close(loaded(ws), quick.Quick(small, readout)(ws), rtol=1e-2, atol=1e-3)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_other_weights_are_refused(small, tmp_path):
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="read-out"):
        quick.load(small, tmp_path / "bad.safetensors")
    state = weights.half(quick.start(small)) | {"linear": torch.zeros(12, 5)}
    with pytest.raises(CheckpointError, match="linear"):
        quick.from_state(small, state)


def test_the_shipped_read_out_is_close_to_renders(mobile):
    model = quick.load(mobile)
    errors = []
    with torch.inference_mode():
        for seed in (900, 901, 902):
            ws = broadcast(mobile, latents(mobile, [seed], 0.7))
            render = area_resize(mobile.synthesis(ws), 512).clamp(-1, 1)
            errors.append(torch.mean((model(ws).clamp(-1, 1) - render) ** 2))
    assert 10 * torch.log10(4 / torch.stack(errors)).min() > 29
