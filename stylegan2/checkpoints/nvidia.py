"""NVIDIA's pickles: StyleGAN2-ADA (PyTorch) and the StyleGAN2 networks of the StyleGAN3 repository.

Such a file holds whole network objects: for each sub-module its class name, the source text of its
class, and its attributes.  `values` keeps name and attributes and drops the source; here the
tensors are collected by walking the modules, and the configuration is recovered from the recorded
constructor arguments, which ADA nests (`synthesis_kwargs`) and StyleGAN3 passes flat.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import log2
from typing import Any

from stylegan2.checkpoints import layout
from stylegan2.checkpoints.values import PersistentObject, shown
from stylegan2.discriminator import Discriminator, DiscriminatorConfig
from stylegan2.errors import CheckpointError
from stylegan2.networks import StyleGAN2, StyleGAN2Config

MAX_MODULES, MAX_TENSORS, MAX_NAME = 2000, 20_000, 300
G_ARGUMENTS = ("z_dim", "c_dim", "w_dim", "img_resolution", "img_channels", "mapping_kwargs", "synthesis_kwargs")
D_ARGUMENTS = ("c_dim", "img_resolution", "img_channels", "architecture", "channel_base", "channel_max", "num_fp16_res")
D_ARGUMENTS += ("conv_clamp", "cmap_dim", "block_kwargs", "mapping_kwargs", "epilogue_kwargs")


def below(name: str, key: Any) -> str:
    """The dotted name of what a module has under a key."""
    if type(key) is not str or len(name) + len(key) > MAX_NAME:
        raise CheckpointError(f"is damaged (its network names a part in no sensible way, in {name!r}).")
    return f"{name}.{key}" if name else key


def modules(root: PersistentObject) -> dict[str, PersistentObject]:
    """Every sub-module by its dotted name; '' is the root."""
    found: dict[str, PersistentObject] = {}
    waiting = [("", root, 0)]
    while waiting:
        name, module, depth = waiting.pop()
        if not isinstance(module, PersistentObject) or depth > 16:
            raise CheckpointError(f"is damaged (its network is no sensible tree of modules, at {name!r}).")
        found[name] = module
        children = module.state.get("_modules") or {}
        if not isinstance(children, dict) or len(found) + len(waiting) + len(children) > MAX_MODULES:
            raise CheckpointError(f"is damaged (the sub-modules of {name!r} are no dictionary of a sensible size).")
        waiting += [(below(name, key), child, depth + 1) for key, child in children.items() if child is not None]
    return found


def state_dict(root: PersistentObject) -> dict[str, Any]:
    """Names as torch's state_dict would give them -> `StoredTensor`s."""
    state: dict[str, Any] = {}
    for name, module in modules(root).items():
        for group in ("_parameters", "_buffers"):
            values = module.state.get(group) or {}
            if not isinstance(values, dict) or len(state) + len(values) > MAX_TENSORS:
                raise CheckpointError(f"is damaged (the tensors of {name!r} are no dictionary of a sensible size).")
            state |= {below(name, key): value for key, value in values.items() if value is not None}
    return state


def arguments(module: PersistentObject, positional: tuple[str, ...]) -> dict[str, Any]:
    """Constructor arguments by name, those of nested `synthesis_kwargs` and `block_kwargs` laid flat."""
    args, kwargs = module.state.get("_init_args", ()), module.state.get("_init_kwargs", {})
    if not isinstance(args, tuple | list) or not isinstance(kwargs, dict) or len(args) > len(positional):
        raise CheckpointError("is damaged (its network does not record how it was built).")
    found = dict(zip(positional, args, strict=False)) | kwargs
    for nested in ("synthesis_kwargs", "block_kwargs"):
        inner = found.pop(nested, None)
        found |= inner if isinstance(inner, dict) else {}
    return found


def integer(found: Mapping[str, Any], name: str, default: int | None = None) -> int:
    value = found.get(name, default)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is not int or not 0 <= value < 2**24:
        raise CheckpointError(f"is damaged (its network was built with {name} = {shown(value)}).")
    return value


def clamp_of(parts: Mapping[str, PersistentObject], name: str) -> float | None:
    """The bound on a layer's output, as the layer itself records it."""
    value = parts[name].state.get("conv_clamp") if name in parts else None
    if value is not None and (type(value) not in (int, float) or not 0 < value <= 1e9):
        raise CheckpointError(f"is damaged (conv_clamp = {shown(value)}).")
    return None if value is None else float(value)


def check(root: Any, what: str, positional: tuple[str, ...], architecture: str) -> dict[str, Any]:
    """Refuse networks that are not plain StyleGAN2 and return the constructor arguments."""
    if not isinstance(root, PersistentObject):
        raise CheckpointError(f"holds no pickled network for the {what}.")
    if root.class_name != what:
        raise CheckpointError(f"holds a network of class {root.class_name!r} where a {what} is needed.")
    found = arguments(root, positional)
    if integer(found, "c_dim", 0):
        raise CheckpointError("is a class-conditional network, which is not supported.")
    if integer(found, "img_channels", 3) != 3:
        raise CheckpointError("does not draw RGB pictures, which is not supported.")
    if found.get("architecture", architecture) != architecture:
        raise CheckpointError(
            f"has the architecture {shown(found['architecture'], 20)}; {architecture!r} is supported."
        )
    if found.get("activation", "lrelu") != "lrelu":
        raise CheckpointError(f"uses the activation {shown(found['activation'], 20)}; 'lrelu' is supported.")
    return found


def generator_names(resolution: int, mapping_layers: int = 8) -> dict[str, str]:
    """Canonical name -> name in this layout, for every tensor."""
    config = StyleGAN2Config(resolution=resolution, mapping_layers=mapping_layers)
    names = {name: name.replace("to_rgb", "torgb") for name in layout.shapes(StyleGAN2, config)}
    return names | {"w_avg": "mapping.w_avg"}


def discriminator_names(resolution: int) -> dict[str, str]:
    """Canonical name -> name in this layout, for every tensor."""
    names = layout.shapes(Discriminator, DiscriminatorConfig(resolution=resolution))
    return {name: name.replace("from_rgb", f"b{resolution}.fromrgb") for name in names}


def generator(root: Any) -> StyleGAN2:
    """The pickled `G_ema` -> generator."""
    found = check(root, "Generator", G_ARGUMENTS, "skip")
    parts = modules(root)
    state = state_dict(root)
    if "synthesis.b4.const" not in state:
        raise CheckpointError("holds a network that is not StyleGAN2 (an alias-free StyleGAN3, perhaps).")
    mapping = found.get("mapping_kwargs") or {}
    if not isinstance(mapping, dict):
        raise CheckpointError("is damaged (mapping_kwargs is no dictionary).")
    resolution = layout.check_resolution(integer(found, "img_resolution"))
    config = StyleGAN2Config(
        resolution=resolution,
        z_dim=integer(found, "z_dim"),
        w_dim=integer(found, "w_dim"),
        channel_base=integer(found, "channel_base", 32768),
        channel_max=integer(found, "channel_max", 512),
        mapping_layers=layout.check_mapping_layers(integer(mapping, "num_layers", 8)),
        lr_mul=learning_rate(mapping),
        conv_clamp=clamp_of(parts, "synthesis.b4.conv1"),
        fir=layout.fir_taps(layout.tensors(state, {"fir": f"synthesis.b{resolution}.resample_filter"})["fir"]),
    )
    check_widths(state, config, "synthesis.b{}.conv1.weight")
    names = generator_names(resolution, config.mapping_layers)
    return layout.build_generator(layout.tensors(state, names), config, names)


def learning_rate(mapping: Mapping[str, Any]) -> float:
    value = mapping.get("lr_multiplier", 0.01)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise CheckpointError(f"is damaged (its mapping network has lr_multiplier {shown(value)}).")
    return float(value)


def check_widths(state: Mapping[str, Any], config: StyleGAN2Config | DiscriminatorConfig, pattern: str) -> None:
    """Before anything is allocated for a configuration: do the file's tensors have its widths?"""
    for r in (2**k for k in range(3, int(log2(config.resolution)) + 1)):
        name = pattern.format(r)
        if name not in state:
            raise CheckpointError(f"lacks the tensor {name!r}.")
        shape = getattr(state[name], "shape", ())
        if len(shape) != 4 or shape[1] != config.channels(r):
            raise CheckpointError(
                f"holds {name!r} in the shape {tuple(shape)}; {config.channels(r)} input channels are needed."
            )


def discriminator(root: Any) -> Discriminator:
    """The pickled `D` -> discriminator."""
    found = check(root, "Discriminator", D_ARGUMENTS, "resnet")
    epilogue = found.get("epilogue_kwargs") or {}
    if not isinstance(epilogue, dict) or integer(epilogue, "mbstd_num_channels", 1) != 1:
        raise CheckpointError("has an unusual minibatch standard deviation layer, which is not supported.")
    group = epilogue.get("mbstd_group_size", 4)
    resolution = layout.check_resolution(integer(found, "img_resolution"))
    state = state_dict(root)
    config = DiscriminatorConfig(
        resolution=resolution,
        channel_base=integer(found, "channel_base", 32768),
        channel_max=integer(found, "channel_max", 512),
        conv_clamp=clamp_of(modules(root), f"b{resolution}.conv0"),
        group_size=2**20 if group is None else max(1, integer(epilogue, "mbstd_group_size", 4)),
        fir=layout.fir_taps(layout.tensors(state, {"fir": f"b{resolution}.conv1.resample_filter"})["fir"]),
    )
    check_widths(state, config, "b{}.conv0.weight")
    names = discriminator_names(resolution)
    return layout.build_discriminator(layout.tensors(state, names), config, names)
