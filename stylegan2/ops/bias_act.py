"""Bias, activation, gain and clamp in one operator (the non-linearity of every StyleGAN2 layer).

    y = clamp(gain * act(x + b))

The default gains keep the variance of a unit-variance input (He initialisation): sqrt(2) for the
rectifiers and swish, 1 for the rest.  Written with differentiable PyTorch functions only, so that
first and second derivatives exist (path-length regularisation and R1, arXiv 1912.04958 sec. 3.2,
differentiate twice).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Activation:
    """An activation function f(x, alpha) with the alpha and the gain that hold unless a call says otherwise."""

    function: Callable[[Tensor, float], Tensor]
    gain: float = 1.0
    alpha: float = 0.0


ACTIVATIONS = MappingProxyType(
    {
        "linear": Activation(lambda x, alpha: x),
        "relu": Activation(lambda x, alpha: F.relu(x), gain=sqrt(2)),
        "lrelu": Activation(lambda x, alpha: F.leaky_relu(x, alpha), gain=sqrt(2), alpha=0.2),
        "tanh": Activation(lambda x, alpha: torch.tanh(x)),
        "sigmoid": Activation(lambda x, alpha: torch.sigmoid(x)),
        "elu": Activation(lambda x, alpha: F.elu(x)),
        "selu": Activation(lambda x, alpha: F.selu(x)),
        "softplus": Activation(lambda x, alpha: F.softplus(x)),
        "swish": Activation(lambda x, alpha: x * torch.sigmoid(x), gain=sqrt(2)),
    }
)


def bias_act(
    x: Tensor,
    b: Tensor | None = None,
    dim: int = 1,
    act: str = "linear",
    alpha: float | None = None,
    gain: float | None = None,
    clamp: float | None = None,
) -> Tensor:
    """x (any shape), b (x.shape[dim],) -> clamp(gain * act(x + b)), same shape and dtype as x.

    dim: the axis the bias runs along (may be negative).  act: a key of ACTIVATIONS.  alpha: slope of
    lrelu.  gain: None takes the activation's own.  clamp: None or a bound c >= 0, result in [-c, c].
    """
    alpha, gain = settings(x, b, dim, act, alpha, gain, clamp)
    if b is not None:
        shape = [1] * x.ndim
        shape[dim] = -1
        x = x + b.to(x.dtype).reshape(shape)
    x = ACTIVATIONS[act].function(x, alpha)
    if gain != 1:
        x = x * gain
    return x if clamp is None else x.clamp(-clamp, clamp)


def settings(
    x: Tensor, b: Tensor | None, dim: int, act: str, alpha: float | None, gain: float | None, clamp: float | None
) -> tuple[float, float]:
    """alpha and gain as they hold for this call.  ValueError if the arguments do not fit each other."""
    if act not in ACTIVATIONS:
        raise ValueError(f"unknown activation {act!r}; there are {', '.join(ACTIVATIONS)}")
    if clamp is not None and clamp < 0:
        raise ValueError(f"clamp must not be negative, got {clamp}")
    if b is not None and (b.ndim != 1 or b.shape[0] != x.shape[dim]):
        raise ValueError(f"bias of shape {tuple(b.shape)} does not fit axis {dim} of {tuple(x.shape)}")
    spec = ACTIVATIONS[act]
    return spec.alpha if alpha is None else alpha, spec.gain if gain is None else gain
