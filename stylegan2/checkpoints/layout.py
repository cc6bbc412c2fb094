"""What the renames of all formats share: canonical names, and a strict fit of tensors to them.

The canonical names are those of `StyleGAN2.state_dict()` and `Discriminator.state_dict()`; shapes carry
no leading ones.  A format module supplies a table canonical name -> its own name; renaming is then a
pure function dict -> dict, and a misfit is reported with the name the *file* uses.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from stylegan2.checkpoints.values import Damaged, StoredTensor, shown
from stylegan2.discriminator import Discriminator, DiscriminatorConfig
from stylegan2.errors import CheckpointError
from stylegan2.networks import StyleGAN2, StyleGAN2Config

MAX_MAPPING_LAYERS = 64


def shapes(kind: type[nn.Module], config: Any) -> dict[str, tuple[int, ...]]:
    """Canonical name -> shape of every tensor of a network, without allocating it."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in kind(config).state_dict().items()}


def tensors(state: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Tensor]:
    """Read the tensors of a file that `names` (canonical -> the file's) asks for: canonical -> float32."""
    result = {}
    for name, theirs in names.items():
        if theirs not in state:
            raise CheckpointError(f"lacks the tensor {theirs!r}.")
        value = state[theirs]
        if not isinstance(value, StoredTensor | Tensor):
            raise CheckpointError(f"holds something other than a tensor under {theirs!r}.")
        try:
            value = value.load() if isinstance(value, StoredTensor) else value.detach()
        except Damaged as error:
            raise CheckpointError(f"is damaged at {theirs!r} ({error}).") from None
        if not value.is_floating_point():
            raise CheckpointError(
                f"holds {theirs!r} as {str(value.dtype).removeprefix('torch.')}, not as real numbers."
            )
        result[name] = value.float()
    return result


def conform(state: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]], names: Mapping[str, str]) -> dict:
    """Check every tensor against its canonical shape (axes of length 1 aside) and give it that shape."""
    result = {}
    for name, shape in expected.items():
        theirs = names.get(name, name)
        if name not in state:
            raise CheckpointError(f"lacks the tensor {theirs!r}.")
        tensor = state[name]
        if [n for n in tensor.shape if n != 1] != [n for n in shape if n != 1]:
            raise CheckpointError(f"holds {theirs!r} in the shape {tuple(tensor.shape)}; {shape} is needed.")
        if not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"holds numbers that are not finite in {theirs!r}.")
        result[name] = tensor.reshape(shape).contiguous()
    return result


def build_generator(state: Mapping[str, Tensor], config: StyleGAN2Config, names: Mapping[str, str]) -> StyleGAN2:
    return StyleGAN2.from_state(conform(state, shapes(StyleGAN2, config), names), config)


def build_discriminator(
    state: Mapping[str, Tensor], config: DiscriminatorConfig, names: Mapping[str, str]
) -> Discriminator:
    return Discriminator.from_state(conform(state, shapes(Discriminator, config), names), config)


def check_resolution(resolution: Any) -> int:
    if type(resolution) is not int or not 8 <= resolution <= 4096 or resolution & (resolution - 1):
        raise CheckpointError(
            f"describes a network of {shown(resolution)} pixels; powers of two from 8 to 4096 are known."
        )
    return resolution


def check_mapping_layers(count: int) -> int:
    """Before a network of so many layers is built."""
    if count > MAX_MAPPING_LAYERS:
        raise CheckpointError(
            f"describes a mapping network of {shown(count)} layers; at most {MAX_MAPPING_LAYERS} are known."
        )
    return count


def channel_rule(widths: Mapping[int, int]) -> tuple[int, int]:
    """Channels at each resolution -> (channel_base, channel_max) such that min(base / r, max) gives them."""
    most, top = max(widths.values()), max(widths)
    narrow = [r for r, n in widths.items() if n < most]
    base = widths[min(narrow)] * min(narrow) if narrow else most * top
    if any(min(base // r, most) != n for r, n in widths.items()):
        raise CheckpointError(f"has unusual channel counts {dict(widths)}, which are not supported.")
    return base, most


def fir_taps(kernel: Tensor) -> tuple[float, ...]:
    """A separable 2-D filter (k, k) of any gain -> its 1-D taps; exactly (1, 3, 3, 1) where it is that one."""
    if kernel.ndim != 2 or kernel.shape[0] != kernel.shape[1] or not 1 <= len(kernel) <= 64:
        raise CheckpointError(f"has a resampling filter of the odd shape {tuple(kernel.shape)}.")
    taps = kernel.sum(dim=0) / kernel.sum()
    if not torch.allclose(torch.outer(taps, taps), kernel / kernel.sum(), atol=1e-5):
        raise CheckpointError("uses a resampling filter that is not separable, which is not supported.")
    usual = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    if taps.shape == usual.shape and torch.allclose(taps, usual, atol=1e-5):
        return (1.0, 3.0, 3.0, 1.0)
    return tuple(float(tap) for tap in taps)


def tensors_sha256(state: Mapping[str, Tensor]) -> str:
    """Fingerprint of what a generator draws: sha256 over names, shapes and float32 little-endian bytes.

    Names in sorted order.  `w_avg` is left out: it only aims the truncation trick, some formats do not
    store it, and the same generator is then recognised whatever file it came from.
    """
    digest = hashlib.sha256()
    for name in sorted(set(state) - {"w_avg"}):
        tensor = state[name].detach().to("cpu", torch.float32).contiguous()
        digest.update(f"{name} {list(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().astype("<f4", copy=False).tobytes())
    return digest.hexdigest()
