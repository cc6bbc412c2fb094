"""Weights of the small networks that ship with the project: fp16 safetensors, compared before they are believed.

    state = weights.read(path, "a preview's weights")
    with weights.described(path, "a preview of this generator"):
        network = weights.filled(lambda: Tail(256, 16, 512), state)

Large and published networks have `stylegan2.checkpoints`.  Whatever is wrong is a CheckpointError of one sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from stylegan2.errors import CheckpointError

Network = TypeVar("Network", bound=nn.Module)


def read(path: Path | str, what: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file."""
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as {what}: {error}") from None


@contextmanager
def described(source: Path | str, title: str) -> Iterator[None]:
    """What does not fit inside becomes `SOURCE is not TITLE: REASON.`"""
    try:
        yield
    except (KeyError, ValueError, IndexError, TypeError, ArithmeticError) as error:
        reason = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(f"{source} is not {title}: {reason}.") from None


def filled(make: Callable[[], Network], state: Mapping[str, Tensor]) -> Network:
    """make() with the tensors of `state`, of any float type: in float32, eval mode, frozen.  More tensors are ignored.

    Every shape is compared before anything is allocated, so no file can ask for more memory than it fills.
    KeyError or ValueError if it does not fit.
    """
    with torch.device("meta"):
        network = make()
    for name, tensor in network.state_dict().items():
        if state[name].shape != tensor.shape:
            raise ValueError(f"{name} has the shape {tuple(state[name].shape)}, not {tuple(tensor.shape)}")
        if not bool(torch.isfinite(state[name]).all()):
            raise ValueError(f"{name} holds numbers that are not finite")
    tensors = {name: state[name].to(tensor.dtype, copy=True) for name, tensor in network.state_dict().items()}
    network.load_state_dict(tensors, assign=True)
    return network.eval().requires_grad_(False)


def half(network: nn.Module) -> dict[str, Tensor]:
    """What is saved: every tensor in fp16, on the CPU."""
    return {name: tensor.detach().half().contiguous().cpu() for name, tensor in network.state_dict().items()}
