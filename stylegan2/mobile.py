"""MobileStyleGAN (Belousov, arXiv 2104.04767): StyleGAN2 distilled to depthwise-separable convolutions.

The default generator.  It shares StyleGAN2-FFHQ's mapping network, so its W is StyleGAN2's W.  Each
block upsamples by an inverse Haar transform of its channels (eq. 2 of the paper), and then applies
two separable convolutions  y = lrelu(P (D * (s x)) + noise + b): style gain s, 3x3 depthwise D, 1x1
pointwise P.  Demodulation is constant and folded into P.  The last 1x1 predicts the Haar bands of
the picture.  W+ has 16 rows: the stem takes row 0, block l takes row 2l+1 (upsampling gain, conv1)
and row 2l+2 (conv2), to_img row 15 - StyleGAN2's order with its last three rows merged.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stylegan2.errors import CheckpointError
from stylegan2.generator import Delta, Deltas, Features, Layer, Low, Style, check_deltas, edit_stage
from stylegan2.ops import finish, inverse_haar

RESOLUTIONS = (4, 8, 16, 32, 64, 128, 256, 512)
STAGES = tuple(f"b{resolution}" for resolution in RESOLUTIONS)


class Modulation(nn.Module):
    """Affine map from one row of W+ to per-channel gains; equalised scale and fan-in already folded in."""

    def __init__(self, channels: int, w_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels, w_dim))
        self.bias = nn.Parameter(torch.ones(channels))

    def forward(self, w: Tensor) -> Tensor:
        return F.linear(w, self.weight, self.bias)[:, :, None, None]  # (B, C, 1, 1)


class Upsample(nn.Module):
    """Style gain, then inverse Haar: (B, C, H, W) -> (B, C/4, 2H, 2W)."""

    def __init__(self, channels: int, w_dim: int) -> None:
        super().__init__()
        self.modulation = Modulation(channels, w_dim)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        return inverse_haar(x, self.modulation(w).to(x.dtype))


class Stem(nn.Module):
    """The one dense convolution: constant 4x4 input, style gain, 3x3, noise, bias, lrelu."""

    def __init__(self, channels: int, w_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels, channels, 3, 3))
        self.modulation = Modulation(channels, w_dim)
        self.register_buffer("noise", torch.zeros(1, 1, 4, 4))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, w: Tensor, deltas: Deltas, name: str) -> Tensor:
        x = x * self.modulation(w).to(x.dtype)  # (B, C, 4, 4)
        x = _convolve(x, self.weight, deltas.get(name), padding=1)
        return finish(x, None, self.noise, self.bias, gain=1.0, inplace=True)


class SeparableConv(nn.Module):
    """Style gain, 3x3 depthwise, 1x1 pointwise, noise, bias, lrelu: (B, C, H, W) -> (B, C', H, W)."""

    def __init__(self, channels: int, out_channels: int, resolution: int, w_dim: int) -> None:
        super().__init__()
        self.depthwise = nn.Parameter(torch.zeros(channels, 1, 3, 3))
        self.pointwise = nn.Parameter(torch.zeros(out_channels, channels))
        self.modulation = Modulation(channels, w_dim)
        self.register_buffer("noise", torch.zeros(1, 1, resolution, resolution))
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Tensor, w: Tensor, deltas: Deltas, name: str) -> Tensor:
        style = self.modulation(w)
        delta = deltas.get(f"{name}.depthwise")
        if x.shape[0] == 1:  # one image: the gain rides on the kernel for free
            kernel = self.depthwise if delta is None else _offset(self.depthwise, delta, 1)[0]
            x = F.conv2d(x, (kernel * style.view(-1, 1, 1, 1)).to(x.dtype), padding=1, groups=x.shape[1])
        else:
            x = _convolve(x * style.to(x.dtype), self.depthwise, delta, padding=1, groups=x.shape[1])
        x = _convolve(x, self.pointwise[:, :, None, None], deltas.get(f"{name}.pointwise"), self.bias)
        return finish(x, None, self.noise, gain=1.0, inplace=True)


class ToImage(nn.Module):
    """Style gain, 1x1 to twelve Haar bands, inverse Haar: (B, C, H, W) -> (B, 3, 2H, 2W)."""

    def __init__(self, channels: int, w_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(12, channels))
        self.modulation = Modulation(channels, w_dim)
        self.bias = nn.Parameter(torch.zeros(12))

    def forward(self, x: Tensor, w: Tensor, deltas: Deltas, name: str) -> Tensor:
        x = x * self.modulation(w).to(x.dtype)
        x = _convolve(x, self.weight[:, :, None, None], deltas.get(name), self.bias)
        return inverse_haar(x).to(w.dtype)


class Block(nn.Module):
    """Upsample and two separable convolutions; only the last block carries `to_img`."""

    def __init__(self, channels: int, out_channels: int, resolution: int, w_dim: int, last: bool) -> None:
        super().__init__()
        self.up = Upsample(channels, w_dim)
        self.conv1 = SeparableConv(channels // 4, out_channels, resolution, w_dim)
        self.conv2 = SeparableConv(out_channels, out_channels, resolution, w_dim)
        self.to_img = ToImage(out_channels, w_dim) if last else None

    def forward(self, x: Tensor, w1: Tensor, w2: Tensor, deltas: Deltas, name: str) -> Tensor:
        x = self.conv1(self.up(x, w1), w1, deltas, f"{name}.conv1")
        return self.conv2(x, w2, deltas, f"{name}.conv2")


def _offset(weight: Tensor, delta: Delta, batch: int) -> Tensor:
    """weight (*shape) -> (1 or B, *shape) with the delta in it; refuses a delta made for another batch."""
    weights = delta.apply(weight)
    if weights.shape[0] not in (1, batch):
        raise ValueError(f"a delta for {weights.shape[0]} images does not fit a batch of {batch}")
    return weights


def _convolve(
    x: Tensor, weight: Tensor, delta: Delta | None, bias: Tensor | None = None, padding: int = 0, groups: int = 1
) -> Tensor:
    """conv2d whose weight may carry a per-image delta (then: one group of filters per image).

    The weight is already demodulated and stays as the delta leaves it: here, unlike in StyleGAN2, a
    delta changes a filter's gain as well as its shape.
    """
    bias = None if bias is None else bias.to(x.dtype)
    if delta is None:
        return F.conv2d(x, weight.to(x.dtype), bias, padding=padding, groups=groups)
    stored = weight[:, :, 0, 0] if weight.shape[-1] == 1 else weight  # deltas have the stored shape
    weights = _offset(stored, delta, x.shape[0])  # (B or 1, out, in[, k, k])
    weights = weights.reshape(*weights.shape[:3], *weight.shape[2:]).to(x.dtype)
    if weights.shape[0] == 1:
        return F.conv2d(x, weights[0], bias, padding=padding, groups=groups)
    batch, channels, height, width = x.shape
    x = F.conv2d(
        x.reshape(1, batch * channels, height, width), weights.flatten(0, 1), padding=padding, groups=batch * groups
    )
    x = x.view(batch, -1, x.shape[-2], x.shape[-1])
    return x if bias is None else x + bias[:, None, None]


class MobileStyleGAN(nn.Module):
    """The Generator contract over `channels`: one number per stage, 4x4 first (512, ..., 128, 64).

    Two to eight stages; a stage that is upsampled has a multiple of four channels.  A new network is all
    zeros but for its mapping: weights come from `from_state`.
    """

    def __init__(self, channels: tuple[int, ...], w_dim: int = 512, mapping_layers: int = 8) -> None:
        super().__init__()
        if not 2 <= len(channels) <= len(RESOLUTIONS) or any(n % 4 for n in channels[:-1]):
            raise ValueError(f"channels must be 2 to 8 numbers, all but the last divisible by 4, not {channels}")
        self.z_dim = self.w_dim = w_dim
        self.channels = channels
        self.resolution = 2 ** (len(channels) + 2)
        self.num_ws = 2 * len(channels)
        self.family = f"mobilestylegan-{self.resolution}"
        self.mapping_layers = nn.ModuleList(nn.Linear(w_dim, w_dim) for _ in range(mapping_layers))
        self.register_buffer("w_avg", torch.zeros(w_dim))
        self.register_buffer("input", torch.zeros(1, channels[0], 4, 4))
        self.conv1 = Stem(channels[0], w_dim)
        last = len(channels) - 1
        self.blocks = nn.ModuleList(
            Block(channels[i - 1], channels[i], 2 ** (i + 2), w_dim, i == last) for i in range(1, last + 1)
        )
        self.layers: Mapping[str, Layer] = dict(_layers(self))
        self.low: Low | None = None
        self.eval().requires_grad_(False)

    @property
    def styles(self) -> Mapping[str, Style]:
        """Name -> Style of every modulation; `layers.N.up` scales the channels that an upsampling takes."""
        return {style.name: style for style in _styles(self)}

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> MobileStyleGAN:
        """State of `checkpoints.openvino_ir.convert` -> generator.  CheckpointError if it does not fit.

        Every shape is compared before anything is allocated, so no file can ask for more memory than it fills.
        """
        state = {_module_name(name): torch.as_tensor(value) for name, value in state.items()}
        try:
            blocks = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks."))
            channels = [state["input"].shape[1]] + [state[f"blocks.{i}.conv2.bias"].shape[0] for i in range(blocks)]
            mapping = sum(name.startswith("mapping_layers.") and name.endswith(".weight") for name in state)
            config = (tuple(channels), state["mapping_layers.0.weight"].shape[1], mapping)
            with torch.device("meta"):
                expected = cls(*config).state_dict()
            for name, tensor in expected.items():
                if state[name].shape != tensor.shape:
                    shapes = f"{tuple(state[name].shape)}, not {tuple(tensor.shape)}"
                    raise ValueError(f"{_state_name(name)} has the shape {shapes}")
                if not bool(torch.isfinite(state[name]).all()):
                    raise ValueError(f"{_state_name(name)} holds numbers that are not finite")
            model = cls(*config)
            model.load_state_dict({name: value.float() for name, value in state.items()})
        except (KeyError, ValueError, RuntimeError, IndexError) as error:
            missing = isinstance(error, KeyError)
            reason = f"{_state_name(error.args[0])} is missing" if missing else str(error).splitlines()[-1].strip()
            raise CheckpointError(f"These weights are not a MobileStyleGAN: {reason}") from None
        return model

    def state(self) -> dict[str, Tensor]:
        """The inverse of `from_state`: canonical names -> float32 tensors."""
        return {_state_name(name): value.detach() for name, value in self.state_dict().items()}

    def mapping(self, z: Tensor) -> Tensor:
        """z (B, z_dim) -> w (B, w_dim), not truncated (StyleGAN2 mapping: pixel norm, 8 x linear, lrelu, sqrt 2)."""
        x = z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt()
        for layer in self.mapping_layers:
            x = F.leaky_relu(layer(x), 0.2) * 2**0.5
        return x

    def synthesis(
        self, ws: Tensor, deltas: Deltas | None = None, features: Features | None = None, until: str | None = None
    ) -> Tensor:
        """ws (B, num_ws, w_dim) -> images (B, 3, R, R) RGB in about [-1, 1]; `until='b64'`: that stage's activation.

        The default network takes (B, 16, 512) and draws 1024 pixels.
        """
        if ws.ndim != 3 or ws.shape[1:] != (self.num_ws, self.w_dim):
            raise ValueError(f"ws must be (B, {self.num_ws}, {self.w_dim}), got {tuple(ws.shape)}")
        unknown = sorted({*(features or ()), *([until] if until else [])} - set(STAGES[: len(self.channels)]))
        if unknown:
            raise ValueError(f"no such stage(s) in this generator: {', '.join(unknown)}")
        for name, x in self.stages(ws, deltas, features):
            if name == until:
                return x
        return self._image(x, ws, check_deltas(deltas, self.layers))

    def stages(
        self, ws: Tensor, deltas: Deltas | None = None, features: Features | None = None
    ) -> Iterator[tuple[str, Tensor]]:
        """ws (B, num_ws, w_dim) -> every stage's name and activation (B, C, H, W), one after the other."""
        deltas = check_deltas(deltas, self.layers)
        x = self.input.expand(ws.shape[0], -1, -1, -1).contiguous(memory_format=torch.channels_last)
        x = edit_stage(self.conv1(x, ws[:, 0], deltas, "conv1"), "b4", features)
        yield "b4", x
        for index, stage in enumerate(STAGES[1 : len(self.channels)]):
            x = edit_stage(self._block(index, x, ws, deltas), stage, features)
            yield stage, x

    def split(self, ws: Tensor, stage: str, deltas: Deltas | None = None) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """ws (B, num_ws, w_dim) -> activation of the stage, and what draws images (B, 3, R, R) from one like it."""
        deltas = check_deltas(deltas, self.layers)

        def draw(x: Tensor) -> Tensor:
            for index in range(STAGES.index(stage), len(self.blocks)):
                x = self._block(index, x, ws, deltas)
            return self._image(x, ws, deltas)

        return self.synthesis(ws, deltas, until=stage), draw

    def _block(self, index: int, x: Tensor, ws: Tensor, deltas: Deltas) -> Tensor:
        if self.low and RESOLUTIONS[index + 1] >= self.low.resolution:
            x = x.to(self.low.dtype)
        return self.blocks[index](x, ws[:, 2 * index + 1], ws[:, 2 * index + 2], deltas, f"layers.{index}")

    def _image(self, x: Tensor, ws: Tensor, deltas: Deltas) -> Tensor:
        last = len(self.blocks) - 1
        return self.blocks[last].to_img(x, ws[:, -1], deltas, f"layers.{last}.to_img")  # (B, 3, R, R)


def _styles(model: MobileStyleGAN) -> Iterator[Style]:
    """Every modulation in network order."""
    modulations = [("conv1", 0, model.conv1)]
    for index, block in enumerate(model.blocks):
        parts = (("up", 1), ("conv1", 1), ("conv2", 2))
        modulations += [(f"layers.{index}.{part}", 2 * index + row, getattr(block, part)) for part, row in parts]
    modulations.append((f"layers.{index}.to_img", model.num_ws - 1, block.to_img))
    for name, row, module in modulations:
        yield Style(name, row, module.modulation.weight, module.modulation.bias)


def _layers(model: MobileStyleGAN) -> Iterator[tuple[str, Layer]]:
    """Every tunable convolution under its canonical name; `shape` is that of the stored weight."""
    yield "conv1", Layer("conv1", tuple(model.conv1.weight.shape), 0, "conv", 4)
    for index, block in enumerate(model.blocks):
        resolution = RESOLUTIONS[index + 1]
        for part, conv in (("conv1", block.conv1), ("conv2", block.conv2)):
            row = 2 * index + (1 if part == "conv1" else 2)
            for kind in ("depthwise", "pointwise"):
                name = f"layers.{index}.{part}.{kind}"
                yield name, Layer(name, tuple(getattr(conv, kind).shape), row, kind, resolution)
        if block.to_img is not None:
            name = f"layers.{index}.to_img"
            yield name, Layer(name, tuple(block.to_img.weight.shape), model.num_ws - 1, "to_rgb", resolution)


def _module_name(name: str) -> str:
    """Canonical name -> name in `state_dict`, where `layers` and `mapping` are taken by the contract."""
    return re.sub(r"^mapping\.", "mapping_layers.", re.sub(r"^layers\.", "blocks.", name))


def _state_name(name: str) -> str:
    """The inverse of `_module_name`."""
    return re.sub(r"^mapping_layers\.", "mapping.", re.sub(r"^blocks\.", "layers.", name))
