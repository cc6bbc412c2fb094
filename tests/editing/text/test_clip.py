"""CLIP as a bridge.  open_clip is not installed where this was written: a module of the same functions stands in."""

import sys
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from editing.text import clip
from stylegan2.errors import CheckpointError, UsageError

SIZE, WORDS = 32, 16


class FakeVisual(nn.Module):
    def __init__(self):
        super().__init__()
        self.image_size = (SIZE, SIZE)
        self.image_mean, self.image_std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
        self.conv = nn.Conv2d(3, 8, 8, 8)


class FakeCLIP(nn.Module):
    """What open_clip's CLIP offers: `visual`, `encode_image`, `encode_text`."""

    def __init__(self):
        super().__init__()
        self.visual, self.words = FakeVisual(), nn.Embedding(WORDS, 8)
        self.seen = None

    def encode_image(self, image, normalize=False):
        self.seen = image
        return self.visual.conv(image).mean((2, 3))

    def encode_text(self, text, normalize=False):
        return self.words(text).mean(1)


def tokenize(texts):
    return torch.tensor([[sum(map(ord, text)) % WORDS, len(text) % WORDS] for text in texts])


@pytest.fixture
def open_clip(monkeypatch):
    asked = []

    def create_model(name, pretrained=None):
        asked.append((name, pretrained))
        torch.manual_seed(7)
        return FakeCLIP()

    configs = {"ViT-B-32": {"text_cfg": {}}, "roberta": {"text_cfg": {"hf_model_name": "roberta-base"}}}
    module = SimpleNamespace(
        create_model=create_model, get_tokenizer=lambda name: tokenize, get_model_config=configs.get, asked=asked
    )
    monkeypatch.setitem(sys.modules, "open_clip", module)
    return module


class Render:
    """A generator as far as CLIP is concerned: an upscaled row."""

    w_avg = torch.zeros(3)

    def synthesis(self, ws):
        return ws.mean(1)[:, :, None, None].expand(-1, -1, 64, 64).contiguous()


@pytest.fixture
def state():
    torch.manual_seed(3)
    return FakeCLIP().state_dict()


@pytest.mark.parametrize("kind", ["safetensors", "pt", "training"])
def test_the_weights_come_from_the_users_file_alone(kind, state, open_clip, tmp_path):
    path = tmp_path / ("clip.safetensors" if kind == "safetensors" else "clip.pt")
    if kind == "safetensors":
        save_file(state, path)
    elif kind == "pt":
        torch.save(state, path)
    else:
        torch.save({"epoch": 3, "state_dict": {f"module.{name}": value for name, value in state.items()}}, path)
    bridge = clip.load(path, "ViT-B-32", Render())
    assert open_clip.asked == [("ViT-B-32", None)]  # nothing for it to fetch
    torch.testing.assert_close(bridge.model.state_dict(), state)
    assert not any(p.requires_grad for p in bridge.model.parameters()) and not bridge.model.training


def bridge_of(state):
    model = FakeCLIP()
    model.load_state_dict(state)
    return clip.ClipBridge(model, tokenize, Render())


def test_sentences_and_pictures_are_unit_vectors(state):
    bridge = bridge_of(state)
    text, image = bridge.text(["a face", "a hat!"]), bridge.image(torch.rand(3, 3, 64, 64) * 2 - 1)
    torch.testing.assert_close(text.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(image.norm(dim=1), torch.ones(3))
    expected = bridge.model.encode_text(tokenize(["a hat!"]))
    torch.testing.assert_close(text[1], expected[0] / expected.norm())


def test_pictures_are_shrunk_and_normalised_as_clip_does(state):
    bridge = bridge_of(state)
    picture = torch.full((1, 3, 64, 48), 0.5)  # 0.75 of white
    bridge.image(picture)
    seen = bridge.model.seen
    assert seen.shape == (1, 3, SIZE, SIZE)
    expected = torch.tensor([(0.75 - 0.5) / 0.2, (0.75 - 0.4) / 0.3, (0.75 - 0.3) / 0.4])
    torch.testing.assert_close(seen.mean((0, 2, 3)), expected, atol=1e-4, rtol=1e-4)


def test_codes_are_rendered_with_gradients(state):
    bridge, ws = bridge_of(state), (torch.rand(2, 4, 3) - 0.5).requires_grad_(True)
    torch.testing.assert_close(bridge.latent(ws), bridge.image(Render().synthesis(ws)), atol=1e-5, rtol=1e-4)
    (bridge.latent(ws) @ bridge.text(["a face"]).T).sum().backward()
    assert (ws.grad.abs().sum((1, 2)) > 0).all()


def test_without_the_package_it_says_so(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(UsageError, match=r"pip install 'wplus\[clip\]'"):
        clip.load(tmp_path / "clip.pt", "ViT-B-32", Render())


@pytest.mark.parametrize("name", ["hf-hub:laion/CLIP-ViT-B-32", "a/b", "ViT-X-99", "roberta"])
def test_models_that_would_be_fetched_are_refused(name, state, open_clip, tmp_path):
    save_file(state, tmp_path / "clip.safetensors")
    with pytest.raises(UsageError, match="ViT-B-32"):
        clip.load(tmp_path / "clip.safetensors", name, Render())
    assert not open_clip.asked


class Evil:
    def __reduce__(self):
        return print, ("executed",)


def test_bad_files_are_one_sentence(state, open_clip, tmp_path, capsys):
    first = next(iter(state))
    files = (
        state | {first: torch.zeros(2)},
        {name: value for name, value in state.items() if name != first},
        [1, 2],
        state | {first: Evil()},
    )
    for number, content in enumerate(files):
        path = tmp_path / f"{number}.pt"
        torch.save(content, path)
        with pytest.raises(CheckpointError, match=path.name) as caught:
            clip.load(path, "ViT-B-32", Render())
        assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError, match="does not exist"):
        clip.load(tmp_path / "none.pt", "ViT-B-32", Render())
    (tmp_path / "text.pt").write_text("no weights")
    with pytest.raises(CheckpointError, match="text.pt"):
        clip.load(tmp_path / "text.pt", "ViT-B-32", Render())
    assert "executed" not in capsys.readouterr().out
