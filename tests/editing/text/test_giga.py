"""The GigaGAN head on the latents: nothing at first, one face a sentence and seed, mixing, interpolation, its file."""

import pytest
import torch

from editing.inversion import residual
from editing.text import giga
from editing.types import Inversion
from stylegan2 import engine
from stylegan2.errors import CheckpointError, UsageError, WplusError

TEXTS = ["a smiling woman with red hair", "an elderly man with glasses"]


def network(moved=True):
    """Untrained; at rest unless moved."""
    torch.manual_seed(0)
    made = giga.Network().eval().requires_grad_(False)
    made.stage.basis.copy_(torch.linalg.qr(torch.randn(512, giga.PARTS))[0].T)
    if moved:
        made.mapping.out.weight.copy_(0.3 * torch.randn_like(made.mapping.out.weight))
        made.adapter.gate.fill_(0.3)
    return made


@pytest.fixture
def head(mobile, weights):
    weights("all-minilm-l6-v2")
    return giga.Giga(network(), mobile.family)


def test_a_new_head_draws_what_the_seed_would(mobile, head):
    still = giga.Giga(network(moved=False), mobile.family)
    ws, features = still.ws_and_features(mobile, TEXTS, [1, 2])
    torch.testing.assert_close(ws, engine.broadcast(mobile, engine.latents(mobile, [1, 2], giga.BASE)))
    assert not features[giga.DOOR].residual.any()
    ws, features = head.ws_and_features(mobile, TEXTS, [1, 2])
    assert (ws - ws[:, :1]).abs().max() > 0.1 and features[giga.DOOR].residual.abs().max() > 0.1  # rows of their own


def test_a_face_depends_on_sentence_and_seed_alone(mobile, head):
    ws, features = head.ws_and_features(mobile, [*TEXTS, TEXTS[0]], [5, 5, 6], psi=0.7)
    for i, (text, seed) in enumerate(zip([*TEXTS, TEXTS[0]], [5, 5, 6], strict=True)):
        alone = head.draw(mobile, text, seed, psi=0.7)
        assert torch.equal(alone.ws, ws[i : i + 1])
        for part in ("residual", "mask", "base_ws", "basis"):
            assert torch.equal(getattr(alone.features[giga.DOOR], part), getattr(features[giga.DOOR], part)[i : i + 1])
    assert not torch.equal(ws[0], ws[1]) and not torch.equal(ws[0], ws[2])


def test_truncation_goes_to_the_middle_of_the_sentence(mobile, head):
    whole, half, none = (torch.cat([head.ws(mobile, TEXTS[0], seed, psi) for seed in (1, 2)]) for psi in (1, 0.5, 0))
    torch.testing.assert_close(half, (whole + none) / 2)
    assert torch.equal(none[0], none[1])
    other = head.ws(mobile, TEXTS[1], 1, 0.0)
    assert (other - none[:1]).abs().max() > 0.1  # not the middle of all faces


def test_fine_rows_of_another_sentence(mobile, head):
    mixed = head.draw(mobile, TEXTS[0], 3, fine=TEXTS[1])
    coarse, fine = (head.draw(mobile, text, 3) for text in TEXTS)
    assert torch.equal(mixed.ws[:, : giga.FINE], coarse.ws[:, : giga.FINE])
    assert torch.equal(mixed.ws[:, giga.FINE :], fine.ws[:, giga.FINE :])
    torch.testing.assert_close(mixed.features[giga.DOOR].residual, coarse.features[giga.DOOR].residual)


def test_a_way_between_two_sentences(mobile, head):
    a, b = (head.draw(mobile, text, 3) for text in TEXTS)
    ends = [head.draw(mobile, TEXTS[0], 3, to=TEXTS[1], t=t) for t in (0.0, 1.0)]
    for end, wanted in zip(ends, (a, b), strict=True):
        assert torch.equal(end.ws, wanted.ws)
        assert torch.equal(end.features[giga.DOOR].residual, wanted.features[giga.DOOR].residual)
    half = head.draw(mobile, TEXTS[0], 3, to=TEXTS[1], t=0.5)
    torch.testing.assert_close(half.ws, (a.ws + b.ws) / 2)


def test_it_goes_on_as_any_inversion_does(mobile, head, tmp_path):
    drawn = head.draw(mobile, TEXTS[0], 4)
    drawn.save(tmp_path / "face.inversion")
    again = Inversion.load(tmp_path / "face.inversion").require(mobile.family)
    with torch.inference_mode():
        plain = mobile.synthesis(drawn.ws, until="b32")
        seen = mobile.synthesis(drawn.ws, features=drawn.features, until="b32")
    assert (seen - plain).abs().max() > 0.01
    torch.testing.assert_close(residual.render(mobile, again), mobile.synthesis(drawn.ws, features=drawn.features))


def test_what_the_adapter_cannot_know(mobile, head):
    assert head.draw(mobile, TEXTS[0], 4, adapter=False).features is None
    assert giga.Giga(head.network, "stylegan2-1024").draw(mobile, TEXTS[0], 4).features is None  # other features
    for text in ("", "  \n"):
        with pytest.raises(UsageError, match="sentence"):
            head.draw(mobile, text, 4)


def test_other_generators_are_refused():
    from tests.editing.fakes import FakeGenerator

    with pytest.raises(UsageError, match="16 rows"):
        giga.Giga(network(), "x").face(FakeGenerator(), "a face", 0)


def test_a_file_gives_back_what_went_into_it(tmp_path):
    made, path = network(), tmp_path / "giga.safetensors"
    giga.save(made, "mobilestylegan-1024", path)
    found = giga.read(path)
    assert found.family == "mobilestylegan-1024" and path.stat().st_size < 6e6
    for name, tensor in found.network.state_dict().items():
        torch.testing.assert_close(tensor, made.state_dict()[name], rtol=2e-3, atol=2e-3)


def test_wrong_files_are_one_sentence(tmp_path):
    from safetensors.torch import load_file, save_file

    path = tmp_path / "giga.safetensors"
    path.write_bytes(b"nothing")
    with pytest.raises(WplusError, match="cannot be read"):
        giga.read(path)
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(UsageError, match="no text head"):
        giga.read(path)
    giga.save(network(), "mobilestylegan-1024", path)
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        facts = file.metadata()
    tensors = load_file(path)
    for broken in (
        {k: v for k, v in tensors.items() if "gate" not in k},
        tensors | {"giga.adapter.gate": torch.zeros(3)},
        tensors | {"giga.adapter.gate": torch.full((giga.PARTS, 1, 1), torch.nan)},
    ):
        save_file(broken, path, metadata=facts)
        with pytest.raises(CheckpointError, match="gate"):
            giga.read(path)


def test_what_ships_draws_what_sentences_say(mobile, weights):
    weights("all-minilm-l6-v2")
    from editing.text import bridge

    texts = ["a smiling woman", "an elderly man with glasses", "a little girl", "a dark-skinned man with short hair",
             "a woman with blond hair, looking to the left"]  # fmt: skip
    ws = torch.cat([giga.load().ws(mobile, text, seed) for text in texts for seed in (1, 2)])
    found = bridge.load().score(ws, texts).argmax(1)
    assert (found == torch.arange(len(texts)).repeat_interleave(2)).float().mean() >= 0.8
