"""CLIP as a bridge, for who has a model: pip install 'wplus[clip]' and a checkpoint that you have fetched yourself.

    bridge = load("ViT-B-32-laion2b.safetensors", "ViT-B-32", generator)
    bridge.image(pictures) @ bridge.text(["a face with a hat"]).T

CLIP (arXiv 2103.00020) sees pictures, so a code is rendered and shrunk first, with gradients: at 1024 pixels that is a
hundred times dearer than the project's own bridge, and knows hats.  Nothing is ever fetched: the model is built empty
and filled from the file, which is read without executing anything in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encoders.checkpoints import faults_of
from stylegan2 import checkpoints
from stylegan2.checkpoints import native
from stylegan2.checkpoints.sniff import sniff
from stylegan2.checkpoints.values import StoredTensor
from stylegan2.errors import CheckpointError, UsageError
from stylegan2.generator import Generator

MODEL = "ViT-B-32"
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of CLIP's pictures, in [0, 1]


class ClipBridge:
    """Sentences, codes and pictures through one CLIP model, frozen (see `editing.text.bridge.Bridge`)."""

    def __init__(self, model: nn.Module, tokenizer, generator: Generator) -> None:
        """model, tokenizer: open_clip's; generator: what renders codes."""
        self.model, self.tokenizer, self.generator = model.eval().requires_grad_(False), tokenizer, generator
        visual = getattr(model, "visual", None)
        size = getattr(visual, "image_size", None) or 224
        self.size = int(size[0] if isinstance(size, Sequence) else size)
        mean, std = (
            getattr(visual, f"image_{name}", None) or default for name, default in (("mean", MEAN), ("std", STD))
        )
        self.mean, self.std = (torch.tensor(numbers)[:, None, None] for numbers in (mean, std))

    def text(self, sentences: Sequence[str]) -> Tensor:
        """-> (N, D)"""
        with torch.no_grad():
            tokens = self.tokenizer(list(sentences)).to(next(self.model.parameters()).device)
            return F.normalize(self.model.encode_text(tokens).float(), dim=1)

    def latent(self, ws: Tensor) -> Tensor:
        """ws (B, num_ws, w_dim) in W+ -> (B, D): rendered one at a time, with gradients."""
        return torch.cat([self.image(self.generator.synthesis(one[None])) for one in ws])

    def image(self, pictures: Tensor) -> Tensor:
        """pictures (B, 3, H, W) RGB in [-1, 1] -> (B, D), with gradients"""
        weight = next(self.model.parameters())
        small = F.interpolate(pictures.float(), (self.size, self.size), mode="bicubic", antialias=True)
        seen = ((small.clamp(-1, 1) + 1) / 2 - self.mean.to(small)) / self.std.to(small)
        return F.normalize(self.model.encode_image(seen.to(weight)).float(), dim=1)


def load(path: Path | str, model: str, generator: Generator) -> ClipBridge:
    """path: a state dict as .safetensors or as torch saves it; model: open_clip's name of what it was trained as."""
    try:
        import open_clip
    except ImportError:
        raise UsageError("CLIP needs a package that is not installed: pip install 'wplus[clip]'") from None
    offline(open_clip, model)
    network = open_clip.create_model(model, pretrained=None)
    with faults_of(Path(path)):
        fill(network, state(path), model)
    return ClipBridge(network.float().to(generator.w_avg.device), open_clip.get_tokenizer(model), generator)


def offline(open_clip, model: str) -> None:
    """UsageError for models that open_clip does not know, or would fetch parts of."""
    config = None if ":" in model or "/" in model else open_clip.get_model_config(model)
    if config is None:
        raise UsageError(
            f"open_clip knows no model {model!r}: open_clip.list_models() names them, {MODEL} for instance."
        )
    text = config.get("text_cfg", {})
    if any(text.get(key) for key in ("hf_model_name", "hf_tokenizer_name")):
        raise UsageError(f"{model} would fetch its tokenizer from the network: choose another, {MODEL} for instance.")


def state(path: Path | str) -> dict[str, Tensor]:
    """Named tensors of a CLIP file, or of the training checkpoint around them.  CheckpointError otherwise."""
    path = Path(path)
    if path.is_file() and sniff(path) == "safetensors":
        with faults_of(path):
            found: Any = native.read(path)[0]
    else:
        found = checkpoints.read_container(path)
    if isinstance(found, Mapping) and isinstance(found.get("state_dict"), Mapping):
        found = found["state_dict"]
    if not isinstance(found, Mapping):
        raise CheckpointError(f"{path} holds no CLIP model: it is not a dictionary of tensors.")
    loaded = {str(name).removeprefix("module."): value for name, value in found.items()}
    return {name: value for name, value in loaded.items() if isinstance(value, Tensor | StoredTensor)}


def fill(network: nn.Module, found: Mapping[str, Any], model: str) -> None:
    """The tensors of a file into an empty model; every shape is compared first."""
    wanted = network.state_dict()
    for name, tensor in wanted.items():
        if name not in found:
            raise CheckpointError(f"is no {model}: {name} is missing.")
        if tuple(found[name].shape) != tuple(tensor.shape):
            shape = tuple(found[name].shape)
            raise CheckpointError(f"is no {model}: {name} has the shape {shape}, not {tuple(tensor.shape)}.")
    tensors = {name: found[name] for name in wanted}
    network.load_state_dict({n: t.load() if isinstance(t, StoredTensor) else t for n, t in tensors.items()})
