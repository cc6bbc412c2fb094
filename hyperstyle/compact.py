"""A compact hypernetwork for the default generator: a photo and its reconstruction -> gains of its convolutions.

HyperStyle (Alaluf et al., arXiv 2111.15666) in 7 M parameters instead of 333 M: the weight W of layer l becomes, eq. 5,

    W_l (1 + D_l)      D = H(x, y),   x the photo, y = G(w; D so far)

with one number for each output channel of a pointwise convolution and of to_img, (B, out, 1), where HyperStyle
has one for each pair of channels.  StyleGAN2 would demodulate such a gain away.  MobileStyleGAN's
demodulation is constant and folded into W, so that here a delta changes the gain, and nothing else than the gain.

H is an ImageNet backbone (`encoders.efficientnet`) on the photo, whose stem sees the difference x - y as well; and a
linear map of that difference at 16x16, since light and colours are nearly linear in it.  How much that
map says to which number depends on the face, hence the gate: v + (1 + gate(v)) * direct(x - y).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encoders.efficientnet import WIDTHS, EfficientNetLite0, normalised
from hyperstyle.refine import add
from stylegan2 import weights
from stylegan2.engine import area_resize
from stylegan2.errors import CheckpointError
from stylegan2.generator import Delta, Deltas, Generator

SIZE = 128  # pixels of the pictures it sees
LOW = 16  # side of the difference that passes by the backbone
TAPS = (10, 15)  # backbone blocks whose features are read: 8x8 and 4x4
POOLED = (16, 64)  # channels that they are reduced to: 1024 numbers each
KINDS = ("pointwise", "to_rgb")  # the tuned layers
AMOUNT = 0.1  # of a head's answer: one step of a new network is then no large change of the picture
SHIPPED = Path(__file__).with_name("data") / "hyper-compact.safetensors"


class CompactHyperNetwork(nn.Module):
    """Photo and reconstruction (B, 3, SIZE, SIZE), RGB in [-1, 1] -> gains (B, out) by name of the layer.

    layers: name -> output channels.  Aligned faces all sit in one place: `place` is added to what the stem sees.
    """

    def __init__(self, layers: Mapping[str, int], width: int = 448) -> None:
        super().__init__()
        self.layers = dict(layers)
        self.backbone = EfficientNetLite0().requires_grad_(True)
        self.backbone.head = nn.Identity()
        self.difference = nn.Conv2d(3, 32, 3, 2, padding=1, bias=False)
        self.place = nn.Parameter(torch.zeros(1, 32, SIZE // 2, SIZE // 2))
        self.lateral = nn.ModuleList(nn.Conv2d(WIDTHS[tap], few, 1) for tap, few in zip(TAPS, POOLED, strict=True))
        features = sum(few * (SIZE // 2 ** (i + 4)) ** 2 for i, few in enumerate(POOLED))
        self.linear = nn.Linear(features, width)
        self.direct = nn.Linear(3 * LOW * LOW, width, bias=False)
        self.gate = nn.Linear(width, width)
        self.heads = nn.ModuleDict({_key(name): nn.Linear(width, channels) for name, channels in layers.items()})
        for layer in (self.gate, *self.heads.values()):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.direct.weight)

    def forward(self, photo: Tensor, reconstruction: Tensor) -> dict[str, Tensor]:
        gap = photo - reconstruction
        x = F.relu6(self.backbone.stem(normalised(photo)) + self.difference(gap) + self.place)  # (B, 32, 64, 64)
        maps = self.backbone.maps(x, TAPS)  # (B, 112, 8, 8), (B, 320, 4, 4)
        few = [F.leaky_relu(layer(x), 0.2).flatten(1) for layer, x in zip(self.lateral, maps, strict=True)]
        v = F.leaky_relu(self.linear(torch.cat(few, 1)), 0.2)  # (B, width)
        v = v + (1 + self.gate(v)) * self.direct(area_resize(gap, LOW).flatten(1))
        return {name: AMOUNT * self.heads[_key(name)](v) for name in self.layers}


def start(image_net: EfficientNetLite0, generator: Generator) -> CompactHyperNetwork:
    """A new network for this generator: ImageNet's backbone, for the difference as well, and heads that say 0."""
    network = CompactHyperNetwork(tuned(generator))
    backbone = {name: tensor for name, tensor in image_net.state_dict().items() if not name.startswith("head.")}
    network.backbone.load_state_dict(backbone)
    network.difference.load_state_dict({"weight": backbone["stem.weight"]})
    return network


def tuned(generator: Generator) -> dict[str, int]:
    """The layers that get gains, and how many each: name -> output channels."""
    return {name: layer.shape[0] for name, layer in generator.layers.items() if layer.kind in KINDS}


def deltas(gains: Mapping[str, Tensor]) -> dict[str, Delta]:
    """Gains (B, out) by layer -> what `Generator.synthesis` takes."""
    return {name: Delta("mul", (gain[:, :, None],)) for name, gain in gains.items()}


@torch.no_grad()
def offsets(network: CompactHyperNetwork, image: Tensor, reconstruction: Tensor) -> dict[str, Delta]:
    """One pass.  image, reconstruction (B, 3, R, R), RGB in [-1, 1] -> Delta 'mul' (B, out, 1) of every tuned layer.

    `hyperstyle.refine.add` adds those of a further pass; `refine` does both.
    """
    return deltas(network(area_resize(image, SIZE), area_resize(reconstruction, SIZE).clamp(-1, 1)))


@torch.no_grad()
def refine(network: CompactHyperNetwork, generator: Generator, image: Tensor, ws: Tensor, passes: int = 1,
           callback: Callable[[], None] | None = None) -> dict[str, Delta]:  # fmt: skip
    """image (B, 3, R, R) and its code ws (B, num_ws, w_dim) -> offsets after so many passes; each begins with a render.

    CheckpointError for a generator that has not the layers that the network tunes.
    """
    if tuned(generator) != network.layers:
        raise CheckpointError(f"This compact hypernetwork was not trained for a {generator.family}.")
    total: Deltas = {}
    for _ in range(passes):
        if callback is not None:
            callback()
        more = offsets(network, image, generator.synthesis(ws, total))
        total = add(total, more) if total else more
    return dict(total)


def load(path: Path | str = SHIPPED) -> CompactHyperNetwork:
    """safetensors of `weights.half` -> network in eval mode, frozen.  CheckpointError if it is anything else."""
    return from_state(weights.read(path, "weights of a hypernetwork"), str(path))


def from_state(state: Mapping[str, Tensor], source: str = "This file") -> CompactHyperNetwork:
    """Named tensors (any float type) -> network in eval mode, frozen.  Every shape is compared first."""
    with weights.described(source, "a compact hypernetwork"):
        heads = {name.split(".")[1]: tensor for name, tensor in state.items() if name.startswith("heads.")}
        config = {key.replace("-", "."): len(tensor) for key, tensor in heads.items()}, len(state["linear.bias"])
        return weights.filled(lambda: CompactHyperNetwork(*config), state)


def _key(name: str) -> str:
    """A layer's name as a module's, which has no dots."""
    return name.replace(".", "-")
