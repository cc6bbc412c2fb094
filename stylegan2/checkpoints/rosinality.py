"""The layout of the stylegan2-pytorch repository: `g_ema`, `g`, `d` and `latent_avg` in a torch file.

Against the canonical layout: convolution weights have a leading axis of one, `affine` is called
`modulation`, noise strengths are `noise.weight` (1,), noise maps sit under `noises`, mapping layer I
is `style.I+1`, and w_avg is `latent_avg` beside the state dict (or absent).  FIR kernels are stored
with the up-sampling gain.  e4e, pSp, ReStyle and HyperStyle decoders use the same names.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import log2
from typing import Any

from torch import Tensor

from stylegan2.checkpoints import layout
from stylegan2.checkpoints.values import StoredTensor
from stylegan2.discriminator import Discriminator, DiscriminatorConfig
from stylegan2.errors import CheckpointError
from stylegan2.networks import StyleGAN2, StyleGAN2Config, estimate_w_avg


def generator_names(resolution: int, mapping_layers: int = 8) -> dict[str, str]:
    """Canonical name -> name in this layout, for every tensor except w_avg."""
    names = {}
    for i in range(mapping_layers):
        names |= {f"mapping.fc{i}.{part}": f"style.{i + 1}.{part}" for part in ("weight", "bias")}
    names["synthesis.b4.const"] = "input.input"
    names |= conv_names("synthesis.b4.conv1", "conv1", 0) | rgb_names("synthesis.b4.to_rgb", "to_rgb1")
    for k in range(int(log2(resolution)) - 2):
        block = f"synthesis.b{8 * 2**k}"
        names |= conv_names(f"{block}.conv0", f"convs.{2 * k}", 2 * k + 1)
        names |= conv_names(f"{block}.conv1", f"convs.{2 * k + 1}", 2 * k + 2)
        names |= rgb_names(f"{block}.to_rgb", f"to_rgbs.{k}")
    return names


def conv_names(ours: str, theirs: str, noise: int) -> dict[str, str]:
    return {
        f"{ours}.weight": f"{theirs}.conv.weight",
        f"{ours}.affine.weight": f"{theirs}.conv.modulation.weight",
        f"{ours}.affine.bias": f"{theirs}.conv.modulation.bias",
        f"{ours}.bias": f"{theirs}.activate.bias",
        f"{ours}.noise_strength": f"{theirs}.noise.weight",
        f"{ours}.noise_const": f"noises.noise_{noise}",
    }


def rgb_names(ours: str, theirs: str) -> dict[str, str]:
    return {
        f"{ours}.weight": f"{theirs}.conv.weight",
        f"{ours}.affine.weight": f"{theirs}.conv.modulation.weight",
        f"{ours}.affine.bias": f"{theirs}.conv.modulation.bias",
        f"{ours}.bias": f"{theirs}.bias",
    }


def discriminator_names(resolution: int) -> dict[str, str]:
    """Canonical name -> name in this layout (whose convs.0 is from_rgb, convs.1 the largest block)."""
    names = {"from_rgb.weight": "convs.0.0.weight", "from_rgb.bias": "convs.0.1.bias"}
    for i in range(1, int(log2(resolution)) - 1):
        ours, theirs = f"b{resolution // 2 ** (i - 1)}", f"convs.{i}"
        names |= {
            f"{ours}.conv0.weight": f"{theirs}.conv1.0.weight",
            f"{ours}.conv0.bias": f"{theirs}.conv1.1.bias",
            f"{ours}.conv1.weight": f"{theirs}.conv2.1.weight",
            f"{ours}.conv1.bias": f"{theirs}.conv2.2.bias",
            f"{ours}.skip.weight": f"{theirs}.skip.1.weight",
        }
    ends = {"conv.weight": "final_conv.0.weight", "conv.bias": "final_conv.1.bias"}
    ends |= {f"fc.{part}": f"final_linear.0.{part}" for part in ("weight", "bias")}
    ends |= {f"out.{part}": f"final_linear.1.{part}" for part in ("weight", "bias")}
    return names | {f"b4.{ours}": theirs for ours, theirs in ends.items()}


def shape_of(state: Mapping[str, Any], name: str, axes: int) -> tuple[int, ...]:
    """Shape of one tensor of the file, which must have that many axes."""
    if name not in state:
        raise CheckpointError(f"lacks the tensor {name!r}.")
    value = state[name]
    if not isinstance(value, StoredTensor | Tensor):
        raise CheckpointError(f"holds something other than a tensor under {name!r}.")
    if len(value.shape) != axes:
        raise CheckpointError(f"holds {name!r} in the shape {tuple(value.shape)}; {axes} axes are needed.")
    return tuple(value.shape)


def generator_config(state: Mapping[str, Any]) -> StyleGAN2Config:
    """Configuration from the shapes of a state dict in this layout."""
    blocks = count(state, "to_rgbs.{}.conv.weight")
    resolution = layout.check_resolution(4 * 2**blocks)
    mapping_layers = layout.check_mapping_layers(count(state, "style.{}.weight", first=1))
    w_dim = shape_of(state, "conv1.conv.modulation.weight", 2)[1]
    z_dim = shape_of(state, "style.1.weight", 2)[1] if mapping_layers else w_dim
    widths = {4: shape_of(state, "conv1.conv.weight", 5)[1]}
    widths |= {8 * 2**k: shape_of(state, f"convs.{2 * k + 1}.conv.weight", 5)[1] for k in range(blocks)}
    base, most = layout.channel_rule(widths)
    fir = layout.fir_taps(layout.tensors(state, {"fir": "to_rgbs.0.upsample.kernel"})["fir"])
    return StyleGAN2Config(resolution, z_dim, w_dim, base, most, mapping_layers, fir=fir)


def discriminator_config(state: Mapping[str, Any]) -> DiscriminatorConfig:
    """Configuration from the shapes of a discriminator's state dict in this layout."""
    blocks = count(state, "convs.{}.conv1.0.weight", first=1)
    resolution = layout.check_resolution(4 * 2**blocks)
    widths = {
        resolution // 2 ** (i - 1): shape_of(state, f"convs.{i}.conv1.0.weight", 4)[1] for i in range(1, blocks + 1)
    }
    base, most = layout.channel_rule(widths | {4: shape_of(state, "final_conv.0.weight", 4)[0]})
    return DiscriminatorConfig(resolution, base, most)


def count(state: Mapping[str, Any], pattern: str, first: int = 0) -> int:
    """How many consecutively numbered names the state has."""
    number = first
    while pattern.format(number) in state:
        number += 1
    return number - first


def generator(state: Mapping[str, Any], latent_avg: Any = None) -> StyleGAN2:
    """State dict in this layout (tensors or `StoredTensor`s), and latent_avg if there is one -> generator.

    latent_avg may be (w_dim,), (1, w_dim) or one row a style (num_ws, w_dim), as e4e stores it: the
    rows are averaged.  Without it the mean of w over 10,000 seeded samples is taken.
    """
    if not isinstance(state, Mapping):
        raise CheckpointError("holds something other than a state dict for the generator.")
    state = without_module_prefix(state)
    config = generator_config(state)
    names = generator_names(config.resolution, config.mapping_layers)
    ours = layout.tensors(state, names)
    missing_average = latent_avg is None
    if missing_average:
        ours["w_avg"] = ours["synthesis.b4.const"].new_zeros(config.w_dim)
    else:
        average = layout.tensors({"latent_avg": latent_avg}, {"w_avg": "latent_avg"})["w_avg"]
        if average.ndim == 2 and average.shape[1] == config.w_dim and len(average):
            average = average[0] if bool((average == average[0]).all()) else average.mean(dim=0)
        ours["w_avg"] = average
    net = layout.build_generator(ours, config, names | {"w_avg": "latent_avg"})
    if missing_average:
        net.w_avg.copy_(estimate_w_avg(net.mapping, config.z_dim))
    return net


def discriminator(state: Mapping[str, Any]) -> Discriminator:
    """State dict of a discriminator in this layout -> discriminator."""
    if not isinstance(state, Mapping):
        raise CheckpointError("holds something other than a state dict for the discriminator.")
    state = without_module_prefix(state)
    config = discriminator_config(state)
    names = discriminator_names(config.resolution)
    return layout.build_discriminator(layout.tensors(state, names), config, names)


def without_module_prefix(state: Mapping[str, Any]) -> dict[str, Any]:
    """Strip the `module.` that data-parallel training leaves in front of every name."""
    return {str(name).removeprefix("module."): value for name, value in state.items()}
