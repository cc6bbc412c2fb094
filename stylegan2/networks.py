"""StyleGAN2: mapping network and skip-connection synthesis network (arXiv 1912.04958, config F).

    z --mapping (normalise, 8 fully connected layers)--> w --broadcast, truncate, mix--> ws
    ws --synthesis (constant 4x4, then two modulated convolutions a resolution)--> image

The layers are in `layers`.  Every output resolution adds to a skip RGB image (section 4.1, figure
7b).  Images are float, about [-1, 1], not clamped, NCHW, RGB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import log2, sqrt
from types import MappingProxyType

import torch
from torch import Tensor, nn

from stylegan2.generator import Deltas, FeatureEdit, Features, Layer, Low, Style, check_deltas, edit_stage, truncate
from stylegan2.layers import Block, Dense, Rng, split_rng
from stylegan2.ops import resample_padding, setup_fir, upfirdn2d

NOISE_MODES = ("const", "none", "random")


@dataclass(frozen=True)
class StyleGAN2Config:
    """Shape of a StyleGAN2; the defaults are config F at 1024 pixels (30 million parameters).

    Channels at resolution r are min(channel_base / r, channel_max).  A 'channel multiplier' of 2 is a
    base of 32768, of 1 a base of 16384.  conv_clamp bounds every convolution's output (used by
    networks trained in fp16).  fir: the taps of the resampling filter.
    """

    resolution: int = 1024
    z_dim: int = 512
    w_dim: int = 512
    channel_base: int = 32768
    channel_max: int = 512
    mapping_layers: int = 8
    lr_mul: float = 0.01
    conv_clamp: float | None = None
    fir: tuple[float, ...] = (1.0, 3.0, 3.0, 1.0)

    def __post_init__(self) -> None:
        if self.resolution < 8 or self.resolution & (self.resolution - 1):
            raise ValueError(f"resolution must be a power of two from 8 on, got {self.resolution}")

    @property
    def resolutions(self) -> tuple[int, ...]:
        return tuple(2**k for k in range(2, int(log2(self.resolution)) + 1))

    @property
    def num_ws(self) -> int:
        return 2 * int(log2(self.resolution)) - 2

    @property
    def family(self) -> str:
        return f"stylegan2-{self.resolution}"

    def channels(self, resolution: int) -> int:
        return min(self.channel_base // resolution, self.channel_max)


# ---- latents


def broadcast(w: Tensor, num_ws: int) -> Tensor:
    """w (B, w_dim) -> ws (B, num_ws, w_dim): the same w for every row."""
    return w.unsqueeze(1).expand(-1, num_ws, -1)


def truncate_rows(ws: Tensor, w_avg: Tensor, psi: float, cutoff: int | None = None) -> Tensor:
    """Truncation of the first `cutoff` rows of ws (B, num_ws, w_dim) only; None truncates all of them."""
    if psi == 1:
        return ws
    if cutoff is None:
        return truncate(ws, w_avg, psi)
    return torch.cat([truncate(ws[:, :cutoff], w_avg, psi), ws[:, cutoff:]], dim=1)


def mix_styles(coarse: Tensor, fine: Tensor, crossover: int) -> Tensor:
    """Style mixing (StyleGAN, arXiv 1812.04948 sec. 3.1): rows < crossover of `coarse`, the rest of `fine`."""
    return torch.cat([coarse[:, :crossover], fine[:, crossover:]], dim=1)


class MappingNetwork(nn.Module):
    """z (B, z_dim) -> w (B, w_dim), not truncated."""

    def __init__(self, config: StyleGAN2Config) -> None:
        super().__init__()
        widths = [config.z_dim] + [config.w_dim] * config.mapping_layers
        for i in range(config.mapping_layers):
            self.add_module(f"fc{i}", Dense(widths[i], widths[i + 1], "lrelu", config.lr_mul))

    def forward(self, z: Tensor) -> Tensor:
        w = z * torch.rsqrt(z.square().mean(dim=1, keepdim=True) + 1e-8)
        for layer in self.children():
            w = layer(w)
        return w


# ---- networks


class SynthesisNetwork(nn.Module):
    """ws (B, num_ws, w_dim) -> images (B, 3, R, R).  Row of block 2^k: conv0 2k-5, conv1 2k-4, to_rgb 2k-3."""

    def __init__(self, config: StyleGAN2Config) -> None:
        super().__init__()
        self.config = config
        for resolution in config.resolutions:
            self.add_module(f"b{resolution}", Block(resolution, config))
        self.register_buffer("fir", setup_fir(config.fir), persistent=False)
        self.low: Low | None = None

    @property
    def layers(self) -> Mapping[str, Layer]:
        """Name -> Layer of every convolution that takes a delta; see `describe_layers`."""
        return MappingProxyType(describe_layers(self))

    def stages(
        self,
        ws: Tensor,
        deltas: Deltas | None = None,
        features: Features | None = None,
        noise_mode: str = "const",
        rng: Rng | None = None,
    ) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Yield (stage, x (B, C, r, r), skip image (B, 3, r, r)) for 'b4', 'b8', ... in turn.

        A feature edit changes x before this stage's to_rgb reads it, so the picture follows; its `rgb`
        part is added to the skip image after that.
        """
        config = self.config
        if ws.ndim != 3 or ws.shape[1:] != (config.num_ws, config.w_dim):
            raise ValueError(f"ws must be (B, {config.num_ws}, {config.w_dim}), got {tuple(ws.shape)}")
        deltas = check_deltas(deltas, self.layers) if deltas else {}
        unknown = sorted(set(features or ()) - {f"b{r}" for r in config.resolutions})
        if unknown:
            raise ValueError(f"no such stage(s) in this generator: {', '.join(unknown)}")
        if noise_mode not in NOISE_MODES:
            raise ValueError(f"noise_mode must be one of {', '.join(NOISE_MODES)}, got {noise_mode!r}")
        if noise_mode == "random":
            if rng is None:
                raise ValueError("noise_mode='random' needs rng: a torch.Generator, or one for each image")
            rng = split_rng(rng, ws.shape[0])
        x = rgb = None
        for resolution in config.resolutions:
            stage = f"b{resolution}"
            x = edit_stage(self._activation(resolution, x, ws, deltas, noise_mode, rng), stage, features)
            rgb = edit_skip(self._skip(resolution, x, rgb, ws, deltas), features.get(stage) if features else None)
            yield stage, x, rgb

    def split(self, ws: Tensor, stage: str, deltas: Deltas | None = None) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """ws (B, num_ws, w_dim) -> activation of the stage, and what draws images (B, 3, R, R) from one like it."""
        before, resolution = None, int(stage[1:])

        def draw(x: Tensor) -> Tensor:
            rgb = self._skip(resolution, x, before, ws, deltas or {})
            for later in (r for r in self.config.resolutions if r > resolution):
                x = self._activation(later, x, ws, deltas or {}, "const", None)
                rgb = self._skip(later, x, rgb, ws, deltas or {})
            return rgb

        for name, x, rgb in self.stages(ws, deltas):
            if name == stage:
                return x, draw
            before = rgb
        raise ValueError(f"no such stage in this generator: {stage}")

    def _activation(
        self, resolution: int, x: Tensor | None, ws: Tensor, deltas: Deltas, noise_mode: str, rng: Rng | None
    ) -> Tensor:
        """The convolutions of one block: x (B, C, r/2, r/2), None for the first -> (B, C', r, r)."""
        stage, block, row = f"b{resolution}", getattr(self, f"b{resolution}"), 2 * int(log2(resolution)) - 4
        x = block.const.expand(ws.shape[0], -1, -1, -1) if resolution == 4 else x  # (B, C, 4, 4)
        if self.low and resolution >= self.low.resolution:
            x = x.to(self.low.dtype)
        if resolution > 4:
            delta = deltas.get(f"{stage}.conv0")
            x = block.conv0(x, ws[:, row - 1], self.fir, delta, noise_mode, rng)
        return block.conv1(x, ws[:, row], self.fir, deltas.get(f"{stage}.conv1"), noise_mode, rng)

    def _skip(self, resolution: int, x: Tensor, rgb: Tensor | None, ws: Tensor, deltas: Deltas) -> Tensor:
        """The skip image (B, 3, r, r): that of the block before, up-sampled, and what this one adds."""
        stage, block, row = f"b{resolution}", getattr(self, f"b{resolution}"), 2 * int(log2(resolution)) - 3
        y = block.to_rgb(x, ws[:, row], deltas.get(f"{stage}.to_rgb"))
        if self.low:
            y = y.to(ws.dtype)  # the skip image stays in full precision
        if rgb is None:
            return y
        return y + upfirdn2d(rgb, self.fir, up=2, padding=resample_padding(self.fir, up=2), gain=4)

    def forward(
        self,
        ws: Tensor,
        deltas: Deltas | None = None,
        features: Features | None = None,
        until: str | None = None,
        *,
        noise_mode: str = "const",
        rng: Rng | None = None,
    ) -> Tensor:
        """Images (B, 3, R, R); with until='b64' that stage's activation x (B, C, 64, 64) and nothing beyond it.

        noise_mode: 'const' the stored maps, 'none', 'random' (from `rng`: one torch.Generator an image,
        or one for the batch, which then seeds one an image).  For the skip image too, see `stages`.
        """
        if until is not None and until not in {f"b{r}" for r in self.config.resolutions}:
            raise ValueError(f"no such stage in this generator: {until}")
        image = None
        for stage, x, rgb in self.stages(ws, deltas, features, noise_mode, rng):
            if stage == until:
                return x
            image = rgb
        return image


def edit_skip(rgb: Tensor, edit: FeatureEdit | None) -> Tensor:
    """The `rgb` part of a feature edit on the skip image (B, 3, r, r)."""
    return rgb if edit is None or edit.rgb is None else rgb + edit.mask.to(rgb) * edit.rgb.to(rgb)


def describe_layers(synthesis: SynthesisNetwork) -> dict[str, Layer]:
    """Tunable convolutions in network order: b4.conv1, b4.to_rgb, b8.conv0, b8.conv1, b8.to_rgb, ...

    This is also HyperStyle's numbering (0 is b4.conv1, 1 is b4.to_rgb, 2 is b8.conv0, ...).
    """
    layers = {}
    for resolution in synthesis.config.resolutions:
        row = 2 * int(log2(resolution)) - 4
        block = getattr(synthesis, f"b{resolution}")
        for part, offset in (("conv0", -1), ("conv1", 0), ("to_rgb", 1)):
            if hasattr(block, part):
                name, shape = f"b{resolution}.{part}", tuple(getattr(block, part).weight.shape)
                layers[name] = Layer(name, shape, row + offset, "to_rgb" if part == "to_rgb" else "conv", resolution)
    return layers


def describe_styles(synthesis: SynthesisNetwork) -> dict[str, Style]:
    """The affine maps of the layers, in `describe_layers`' order."""
    styles = {}
    for name, layer in synthesis.layers.items():
        affine = synthesis.get_submodule(name).affine
        weight, bias = affine.weight * (affine.lr_mul / sqrt(affine.weight.shape[1])), affine.bias * affine.lr_mul
        styles[name] = Style(name, layer.row, weight, bias)
    return styles


class StyleGAN2(nn.Module):
    """A StyleGAN2 generator behind the `Generator` protocol; random weights until a state is loaded."""

    def __init__(self, config: StyleGAN2Config | None = None) -> None:
        super().__init__()
        self.config = config or StyleGAN2Config()
        self.mapping = MappingNetwork(self.config)
        self.synthesis = SynthesisNetwork(self.config)
        self.register_buffer("w_avg", torch.zeros(self.config.w_dim))

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor], config: StyleGAN2Config) -> StyleGAN2:
        """A frozen generator in eval mode that takes over the tensors of `state` (names of `state_dict`)."""
        with torch.device("meta"):
            net = cls(config)
        net.load_state_dict(dict(state), strict=True, assign=True)
        net.synthesis.fir = setup_fir(config.fir)
        return net.eval().requires_grad_(False)

    family = property(lambda self: self.config.family)
    z_dim = property(lambda self: self.config.z_dim)
    w_dim = property(lambda self: self.config.w_dim)
    num_ws = property(lambda self: self.config.num_ws)
    resolution = property(lambda self: self.config.resolution)
    layers = property(lambda self: self.synthesis.layers)
    styles = property(lambda self: describe_styles(self.synthesis))

    def split(self, ws: Tensor, stage: str, deltas: Deltas | None = None) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        return self.synthesis.split(ws, stage, deltas)

    def stages(self, ws: Tensor, deltas: Deltas | None = None) -> Iterator[tuple[str, Tensor]]:
        return ((name, x) for name, x, _ in self.synthesis.stages(ws, deltas))

    def state(self) -> dict[str, Tensor]:
        """The inverse of `from_state`."""
        return {name: tensor.detach() for name, tensor in self.state_dict().items()}

    def ws(self, z: Tensor, psi: float = 1.0, cutoff: int | None = None) -> Tensor:
        """z (B, z_dim) -> ws (B, num_ws, w_dim), truncated with psi in the first `cutoff` rows (all by default)."""
        return truncate_rows(broadcast(self.mapping(z), self.num_ws), self.w_avg, psi, cutoff)

    def forward(self, z: Tensor, psi: float = 1.0, cutoff: int | None = None, **synthesis) -> Tensor:
        """z (B, z_dim) -> images (B, 3, R, R); further arguments go to `synthesis`."""
        return self.synthesis(self.ws(z, psi, cutoff), **synthesis)


def estimate_w_avg(mapping: nn.Module, z_dim: int, samples: int = 10_000, seed: int = 0) -> Tensor:
    """Mean w (w_dim,) over seeded samples, for checkpoints that do not store it."""
    with torch.no_grad():
        z = torch.randn(samples, z_dim, generator=torch.Generator().manual_seed(seed))
        return mapping(z).mean(dim=0)
