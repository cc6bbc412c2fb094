"""Weight files: one entry point to read any known format, one to write the project's own.

    generator = load("ffhq.pkl")            # or .pt of rosinality, e4e, HyperStyle; or own safetensors
    save(generator, "ffhq.safetensors", dtype=torch.float16)

The format is taken from the content, not from the name.  No file can execute anything: pickles are
read by `unpickle`, which knows data only.  Whatever is wrong with a file is a CheckpointError of one
sentence that begins with the file's name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from stylegan2.checkpoints import native, nvidia, pixel2style, rosinality, torchfile, unpickle, values
from stylegan2.checkpoints.layout import tensors_sha256
from stylegan2.checkpoints.native import Provenance
from stylegan2.checkpoints.sniff import sniff
from stylegan2.checkpoints.values import PersistentObject
from stylegan2.discriminator import Discriminator
from stylegan2.errors import CheckpointError
from stylegan2.generator import Generator

__all__ = ["Provenance", "load", "load_discriminator", "read_container", "save", "source_sha256", "tensors_sha256"]


def load(path: str | Path) -> Generator:
    """Read a generator from a file of any known format: float32, on the CPU, frozen.

    Its `provenance` holds the fingerprint that inversions are tied to (see `source_sha256`).
    """
    return _load(path, _generator, wanted="generator")


def load_discriminator(path: str | Path) -> Discriminator:
    """Read the discriminator of a training checkpoint (`d` or `D`) or of a native file, ready for training."""
    return _load(path, _discriminator, wanted="discriminator")


def save(network: Generator | Discriminator, path: str | Path, dtype: torch.dtype = torch.float32) -> None:
    """Write a network to `path` as safetensors, atomically; `dtype` float16 halves the file.

    The fingerprint of the float32 source stays in the metadata, so a rounded copy still matches.
    """
    native.save(network, Path(path), dtype)


def source_sha256(network: Any) -> str:
    """Fingerprint of the float32 source weights of a network, what an inversion records."""
    return native.fingerprint(network)[0]


def read_container(path: str | Path) -> Any:
    """A torch or NVIDIA file as plain data: dicts, lists, numbers, `values.StoredTensor`s (read with `.load()`).

    For what is not a generator: encoders, hypernetworks, optimiser states, options.
    """
    return _guarded(path, _container)


# ---- behind the entry points


def _guarded(path: str | Path, read: Callable[[Path], Any]) -> Any:
    """Run `read` with every fault of the file turned into one sentence that begins with its name."""
    path = Path(path)
    if not path.exists():
        raise CheckpointError(f"{path} does not exist.")
    if not path.is_file():
        raise CheckpointError(f"{path} is not a file.")
    try:
        return read(path)
    except CheckpointError as error:
        text = values.printable(str(error))  # it may quote names from the file
        raise CheckpointError(f"{path} {text}" if text[:1].islower() else f"{path}: {text}") from None
    except values.Damaged as error:
        raise CheckpointError(f"{path} is damaged ({error}).") from None
    except (OSError, MemoryError) as error:
        raise CheckpointError(f"{path} cannot be read ({error or 'not enough memory'}).") from None


def _load(path: str | Path, pick: Callable[[Any], Any], wanted: str) -> Any:
    def read(path: Path) -> Any:
        kind = sniff(path)
        if kind == "safetensors":
            network, provenance = native.network(path)
        else:
            network = pick(_container(path))
            fingerprint = tensors_sha256(network.state())
            provenance = Provenance(fingerprint, fingerprint, kind)
        if isinstance(network, Discriminator) != (wanted == "discriminator"):
            raise CheckpointError(f"holds no {wanted}.")
        network.provenance = provenance
        return network

    return _guarded(path, read)


def _container(path: Path) -> Any:
    kind = sniff(path)
    if kind == "torch-zip":
        return torchfile.read_zip(path)
    if kind == "torch-legacy":
        return torchfile.read_legacy(path)
    if kind == "pickle":
        with path.open("rb") as file:
            return unpickle.read_pickle(file, path.stat().st_size, load_bytes=torchfile.read_legacy_bytes)
    raise CheckpointError("is a safetensors file, not a pickled container.")


def _generator(content: Any) -> Generator:
    if isinstance(content, PersistentObject):
        return nvidia.generator(content)
    if isinstance(content, Mapping):
        if "G_ema" in content:
            return nvidia.generator(content["G_ema"])
        if "g_ema" in content:
            return rosinality.generator(content["g_ema"], content.get("latent_avg"))
        if "state_dict" in content:
            return pixel2style.generator(content)
        if "g" in content:
            return rosinality.generator(content["g"], content.get("latent_avg"))
        if "conv1.conv.weight" in content or "module.conv1.conv.weight" in content:
            return rosinality.generator(content)
    raise CheckpointError(f"holds no StyleGAN2 generator ({_describe(content)}).")


def _discriminator(content: Any) -> Discriminator:
    if isinstance(content, PersistentObject):
        return nvidia.discriminator(content)
    if isinstance(content, Mapping):
        if isinstance(content.get("D"), PersistentObject):
            return nvidia.discriminator(content["D"])
        if "d" in content:
            return rosinality.discriminator(content["d"])
        if "final_conv.0.weight" in content or "module.final_conv.0.weight" in content:
            return rosinality.discriminator(content)
    raise CheckpointError(f"holds no StyleGAN2 discriminator ({_describe(content)}).")


def _describe(content: Any) -> str:
    """What a file holds instead, in a few words."""
    if not isinstance(content, Mapping):
        return f"its content is a {type(content).__name__}"
    keys = [str(key)[:40] for key in content]
    return (
        f"its entries are {', '.join(keys[:6])}{', ...' if len(keys) > 6 else ''}"
        if keys
        else "it is an empty dictionary"
    )
