"""Files of HyperStyle: the published ones and the project's own; read without executing anything.

    loaded = load("hyperstyle_ffhq.pt")            # the hypernetwork, and the average w beside it
    generator = load_decoder(loaded)               # published files have their StyleGAN2 inside
    ws, deltas = refine.invert(loaded, encoders.checkpoints.load("faces_w_encoder.pt"), generator, images)

A published file (arXiv 2111.15666) is the container of pSp (`stylegan2.checkpoints.pixel2style`): `state_dict` with
`hypernet.*` and `decoder.*`, `latent_avg` and `opts`; the W-encoder is a file of its own.  Which layers are tuned,
and whether blocks are separable, is told from the names of the tensors.  Options that list other layers than there
are blocks mean a file that lost some, or gained them: it is refused.

The hyper-head is in a file up to ten times, on its own and under each block that reads it, nearly always as one
storage.  It is one in the network: the one on its own is read, of the others only the shapes are looked at.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from encoders.checkpoints import average_of, faults_of, fitting, is_counter, read_own, repeated_rows, write_own
from hyperstyle.networks import HyperNetwork, HyperStyleConfig
from stylegan2 import checkpoints
from stylegan2.checkpoints import layout, pixel2style, rosinality
from stylegan2.checkpoints.sniff import sniff
from stylegan2.checkpoints.values import shown
from stylegan2.errors import CheckpointError
from stylegan2.generator import Generator

KIND = "hyperstyle"
HEAD = "shared_weight_hypernet."


@dataclass(frozen=True, eq=False)
class LoadedHyperStyle:
    """A hypernetwork with what its file says about it.

    hypernet: float32, on the CPU, eval mode, frozen.  latent_avg: (num_ws, w_dim), what codes of the W-encoder are
    relative to; None where the file has none.
    """

    hypernet: HyperNetwork
    latent_avg: Tensor | None
    path: Path
    has_decoder: bool = False


def load(path: str | Path) -> LoadedHyperStyle:
    """Read a hypernetwork from a published file or from one written by `save`."""
    path = Path(path)
    with faults_of(path):
        is_native = path.is_file() and sniff(path) == "safetensors"
    container = None if is_native else checkpoints.read_container(path)
    with faults_of(path):
        return _native(path) if is_native else from_container(container, path)


def load_decoder(loaded: LoadedHyperStyle) -> Generator:
    """The generator that a published file has beside its hypernetwork: the one its offsets are for."""
    if not loaded.has_decoder:
        raise CheckpointError(f"{loaded.path} holds a hypernetwork without a decoder: load a generator of your own.")
    return checkpoints.load(loaded.path)


def save(
    hypernet: HyperNetwork, path: str | Path, latent_avg: Tensor | None = None, dtype: torch.dtype = torch.float32
) -> None:
    """Write a hypernetwork, its hyper-head once, and the average (num_ws, w_dim) as safetensors, atomically."""
    config, state = hypernet.config, hypernet.state_dict()
    num_ws = config.generator.num_ws
    if latent_avg is not None and (latent_avg.ndim != 2 or len(latent_avg) != num_ws):
        raise ValueError(f"latent_avg must be ({num_ws}, w_dim), got {tuple(latent_avg.shape)}")
    source = {name: state[name] for name in state if name not in config.copies and not is_counter(name)}
    if latent_avg is not None:
        source["latent_avg"] = latent_avg
    write_own(Path(path), source, f"hypernetwork-{KIND}", config, dtype)


# ---- behind the entry points


def from_container(container: Any, path: Path) -> LoadedHyperStyle:
    """The content of a published file (tensors, or `StoredTensor`s that are read here) -> its hypernetwork."""
    if not isinstance(container, Mapping) or "state_dict" not in container:
        raise CheckpointError("holds no hypernetwork: it has no 'state_dict'.")
    state = pixel2style.part(container, "hypernet")
    named = {f"hypernet.{name}": value for name, value in state.items()}  # as in the file, for its sentences
    has_decoder = any(name.startswith("decoder.") for name in rosinality.without_module_prefix(container["state_dict"]))
    resolution, base, most = generator_shape(container, has_decoder)
    try:
        config = HyperStyleConfig(
            layers=layers_of(state, container.get("opts")),
            separable=any(".make_kernel_" in name for name in state),
            resolution=resolution,
            channel_base=base,
            channel_max=most,
            width=rosinality.shape_of(named, "hypernet.conv1.weight", 4)[0],
        )
    except ValueError as error:
        raise CheckpointError(f"describes a hypernetwork that is not supported ({error}).") from None
    hypernet = assemble(config, named, "hypernet.")
    return LoadedHyperStyle(hypernet, stored_average(container.get("latent_avg"), config), path, has_decoder)


def generator_shape(container: Mapping[str, Any], has_decoder: bool) -> tuple[int, int, int]:
    """(resolution, channel_base, channel_max) of the generator that is tuned.

    Taken from the decoder; without one the resolution is that of latent_avg's rows or of the options.
    """
    if has_decoder:
        decoder = rosinality.generator_config(pixel2style.part(container, "decoder"))
        return decoder.resolution, decoder.channel_base, decoder.channel_max
    exponent = repeated_rows(container) // 2 + 1  # 18 rows: 1024 = 2^10
    resolution = layout.check_resolution(2 ** min(exponent, 64))
    return resolution, HyperStyleConfig.channel_base, HyperStyleConfig.channel_max


def layers_of(state: Mapping[str, Any], opts: Any) -> tuple[int, ...]:
    """The numbers of the layers that have a block; `layers_to_tune` of the options must list the same, if it is there.

    It is a string of numbers with commas, or a list of them.
    """
    found = [re.match(r"refinement_blocks\.(\d{1,3})\.", name) for name in state]
    layers = {int(match[1]) for match in found if match}
    if not layers:
        raise CheckpointError("holds a hypernetwork without refinement blocks.")
    listed = opts.get("layers_to_tune") if isinstance(opts, Mapping) else None
    if listed:
        try:
            listed = {int(number) for number in (listed.split(",") if isinstance(listed, str) else listed)}
        except (ValueError, TypeError, OverflowError):
            raise CheckpointError(f"has options that list its layers as {shown(listed, 60)}: not numbers.") from None
        if listed - layers:
            raise CheckpointError(f"has options that list layers for which it has no block: {_text(listed - layers)}.")
        if layers - listed:
            raise CheckpointError(f"has blocks for layers that its options do not list: {_text(layers - listed)}.")
    return tuple(sorted(layers))


def _text(numbers: set[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))[:80]


def stored_average(value: Any, config: HyperStyleConfig) -> Tensor | None:
    """latent_avg as (num_ws, w_dim); the hypernetwork does not say how wide a code is."""
    shape = getattr(value, "shape", None) or (0,)
    return average_of({"latent_avg": value}, config.generator.num_ws, shape[-1])


def assemble(config: HyperStyleConfig, state: Mapping[str, Any], prefix: str = "") -> HyperNetwork:
    """A frozen network that takes over the tensors of `state`, whose names have the prefix; the hyper-head once."""
    state = without_copies(config, state, prefix)
    with torch.device("meta"):
        network = HyperNetwork(config)
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    expected = {name: shape for name, shape in shapes.items() if name not in config.copies}
    variant = "separable" if config.separable else "plain"
    tensors = fitting(expected, state, f"a hypernetwork with {variant} blocks for {len(config.layers)} layers", prefix)
    tensors |= {copy: tensors[original] for copy, original in config.copies.items()}
    network.load_state_dict(tensors, strict=True, assign=True)
    return network.eval().requires_grad_(False)


def without_copies(config: HyperStyleConfig, state: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The state with its hyper-head under its own name only; without one, where no block reads it."""
    state = dict(state)
    for copy, original in config.copies.items():
        if f"{prefix}{copy}" in state:
            value = state.pop(f"{prefix}{copy}")
            kept = state.setdefault(f"{prefix}{original}", value)
            if getattr(value, "shape", None) != getattr(kept, "shape", None):
                raise CheckpointError(f"holds {prefix + copy!r} in another shape than {prefix + original!r}.")
    if not config.shared:
        state = {name: value for name, value in state.items() if not name.startswith(prefix + HEAD)}
    return state


def _native(path: Path) -> LoadedHyperStyle:
    _, state, description = read_own(path, "a hypernetwork", (KIND,))
    config = _config_from_json(description)
    average = stored_average(state.pop("latent_avg", None), config)
    return LoadedHyperStyle(assemble(config, state), average, path)


def _config_from_json(text: str) -> HyperStyleConfig:
    try:
        values = json.loads(text)
        return HyperStyleConfig(**values | {"layers": tuple(values["layers"])})
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise CheckpointError(f"describes its network in a way not understood ({str(error)[:120]}).") from None
