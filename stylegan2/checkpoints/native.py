"""The project's own files: safetensors with canonical names and a description in the metadata.

The description is one JSON object under `wplus`: `format` 'wplus', `version`, `family`, `config` (JSON),
`sha256` (the fingerprint of the float32 source, so that a copy rounded to fp16 still belongs to the
same inversions) and `stored_sha256` (the fingerprint of the tensors as they are in this file, checked
when it is read, as is `w_avg_sha256`).
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from stylegan2.checkpoints import layout
from stylegan2.checkpoints.values import shown
from stylegan2.discriminator import Discriminator, DiscriminatorConfig
from stylegan2.errors import CheckpointError
from stylegan2.networks import StyleGAN2, StyleGAN2Config

VERSION = 1
MOST = 1e9  # no tap of a filter, no rate and no clamp is larger


@dataclass(frozen=True)
class Provenance:
    """Which weights a network was loaded from: both fingerprints, and the format of the file."""

    sha256: str  # of the float32 source
    stored_sha256: str  # of the tensors as they were read
    format: str


def write(path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file so that `path` is either the whole new file or what it was before.

    The metadata becomes one JSON entry, since the library writes several in random order: equal
    contents give equal bytes.
    """
    path = Path(path)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    os.close(handle)
    try:
        description = {"wplus": json.dumps(dict(metadata), sort_keys=True)}
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
        save_file(tensors, temporary, description)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # after writing: temporary files are private
        os.replace(temporary, path)
    except SafetensorError as error:
        raise CheckpointError(f"{path} could not be written ({error}).") from None
    finally:
        Path(temporary).unlink(missing_ok=True)


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """A safetensors file -> (tensors as stored, the description under `wplus`, or else its plain metadata)."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            entries = file.metadata() or {}
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"is a damaged safetensors file ({str(error)[:120]}).") from None
    try:
        metadata = json.loads(entries["wplus"]) if "wplus" in entries else entries
    except (ValueError, RecursionError):
        metadata = None
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise CheckpointError("is damaged: its description is not understood.")
    return tensors, metadata


def average_sha256(state: Mapping[str, Tensor]) -> str:
    """Fingerprint of w_avg, which that of the weights leaves out."""
    return layout.tensors_sha256({f"{name} ": tensor for name, tensor in state.items() if name == "w_avg"})


def number_above(value: Any, least: float) -> bool:
    return type(value) in (int, float) and least < value < MOST


def config_from_json(kind: type, text: str) -> Any:
    """JSON -> configuration dataclass, every field known and of the right type."""
    try:
        values = json.loads(text)
        known = {field.name for field in fields(kind)}
        if not isinstance(values, dict) or set(values) - known:
            raise ValueError(
                f"unknown entries {sorted(set(values) - known)}" if isinstance(values, dict) else "no object"
            )
        config = kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})
        layout.check_resolution(config.resolution)
        integers = [getattr(config, name) for name in known - {"resolution", "lr_mul", "conv_clamp", "fir"}]
        if any(type(value) is not int or not 0 < value < 2**24 for value in integers):
            raise ValueError("sizes must be positive whole numbers")
        layout.check_mapping_layers(getattr(config, "mapping_layers", 0))
        taps, clamp = config.fir, 1 if config.conv_clamp is None else config.conv_clamp
        if not 1 <= len(taps) <= 64 or not all(number_above(tap, -MOST) for tap in taps) or sum(taps) == 0:
            raise ValueError("the filter is none")
        if not number_above(getattr(config, "lr_mul", 1), 0) or not number_above(clamp, 0):
            raise ValueError("learning rate or clamp out of range")
        return config
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise CheckpointError(f"describes its network in a way not understood ({str(error)[:120]}).") from None


def network(path: Path) -> tuple[nn.Module, Provenance]:
    """A file written by `save` -> the network (generator or discriminator) and its provenance."""
    stored, metadata = read(path)
    if metadata.get("format") != "wplus" or "family" not in metadata:
        raise CheckpointError("is a safetensors file, but not a generator saved by this project.")
    if metadata.get("version") != str(VERSION):
        raise CheckpointError(f"has version {shown(metadata.get('version'))}; this program reads version {VERSION}.")
    state = layout.tensors(stored, {name: name for name in stored})
    fingerprint = layout.tensors_sha256(state)
    recorded = (metadata.get("stored_sha256", fingerprint), metadata.get("w_avg_sha256", average_sha256(state)))
    if recorded != (fingerprint, average_sha256(state)):
        raise CheckpointError("is damaged: its tensors do not match the sha256 in its description.")
    provenance = Provenance(metadata.get("sha256", fingerprint), fingerprint, "wplus safetensors")
    family = metadata["family"]
    same = {name: name for name in state}
    if family.startswith("mobilestylegan"):
        from stylegan2.mobile import MobileStyleGAN  # only where it is needed

        return MobileStyleGAN.from_state(state).eval().requires_grad_(False), provenance
    if family.startswith("stylegan2-d-"):
        config = config_from_json(DiscriminatorConfig, metadata.get("config", "{}"))
        return layout.build_discriminator(state, config, same), provenance
    if family.startswith("stylegan2-"):
        config = config_from_json(StyleGAN2Config, metadata.get("config", "{}"))
        return layout.build_generator(state, config, same), provenance
    raise CheckpointError(f"belongs to the family {family[:40]!r}, which is not known.")


def fingerprint(network: Any) -> tuple[str, str]:
    """(sha256 of the float32 source, sha256 of the weights as they are now) of a network.

    The source's is the one recorded at loading as long as the weights are still those; weights that
    were trained on since are a source of their own.
    """
    now = layout.tensors_sha256(network.state())
    provenance = getattr(network, "provenance", None)
    return (provenance.sha256 if provenance is not None and provenance.stored_sha256 == now else now), now


def save(network: StyleGAN2 | Discriminator | Any, path: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write a network as a native file, floating-point tensors rounded to `dtype`; see `checkpoints.save`."""
    if dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise ValueError(f"a checkpoint is stored as float32, float16 or bfloat16, not {dtype}")
    state = {name: tensor.detach().to("cpu", dtype) for name, tensor in network.state().items()}
    overflow = [name for name, tensor in state.items() if not bool(torch.isfinite(tensor).all())]
    if overflow:
        raise CheckpointError(
            f"{path} was not written: {overflow[0]!r} does not fit {str(dtype).removeprefix('torch.')}."
        )
    config = getattr(network, "config", None)
    metadata = {
        "format": "wplus",
        "version": str(VERSION),
        "family": network.family,
        "config": json.dumps(asdict(config) if config is not None else {}),
        "sha256": fingerprint(network)[0],
        "stored_sha256": layout.tensors_sha256(state),
        "w_avg_sha256": average_sha256(state),
    }
    write(Path(path), state, metadata)
