"""The adversary of e4e's training: it tells codes that the mapping network drew from codes an encoder gave.

Tov et al., arXiv 2102.02766, where it keeps every row near W: W has no formula, so a small network D
learns it, with the non-saturating logistic loss and the R1 penalty,

    L_D = -E log D(w) - E log(1 - D(E(x)_i)) + gamma/2 E ||grad_w D(w)||^2      L_E = -E log D(E(x)_i)

where D(w) = sigmoid(logit), w comes from the mapping network and E(x)_i is any row of the encoder's
ws.  D sees absolute codes (the average w added).  It is trained on a history of the encoder's codes
rather than on the latest only (`Pool`; Shrivastava et al., arXiv 1612.07828, section 2.3).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LatentDiscriminator(nn.Module):
    """Codes (..., w_dim) in W -> logits (..., 1), positive where the code looks drawn; plain linear layers."""

    def __init__(self, w_dim: int = 512, layers: int = 4) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for _ in range(layers - 1):
            parts += [nn.Linear(w_dim, w_dim), nn.LeakyReLU(0.2)]
        self.mlp = nn.Sequential(*parts, nn.Linear(w_dim, 1))

    def forward(self, w: Tensor) -> Tensor:
        return self.mlp(w)


# ---- losses


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """-E log D(real) - E log(1 - D(fake)) of logits of any shapes; the R1 penalty comes on top."""
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


def encoder_loss(fake_logits: Tensor) -> Tensor:
    """-E log D(fake): what the encoder minimises, over the rows that its progressive stage has unlocked."""
    return F.softplus(-fake_logits).mean()


def r1_penalty(discriminator: nn.Module, real: Tensor) -> Tensor:
    """E ||grad_w D(w)||^2 at real codes (..., w_dim), mean over codes; to be weighted with gamma / 2.

    Differentiable with respect to the discriminator; `real` gets no gradient.
    """
    with torch.enable_grad():
        real = real.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(discriminator(real).sum(), real, create_graph=True)
    return gradient.square().sum(dim=-1).mean()


# ---- history


class Pool:
    """At most `capacity` past codes; half of what is asked of it, once full, comes from the past.

    Every draw is from its own seeded generator, so a run can be repeated, and continued from `state`.
    """

    def __init__(self, capacity: int = 50, seed: int = 0) -> None:
        if capacity < 0:
            raise ValueError(f"a pool holds 0 codes or more, not {capacity}")
        self.capacity = capacity
        self.codes: list[Tensor] = []
        self.rng = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return len(self.codes)

    def query(self, codes: Tensor) -> Tensor:
        """New codes (B, w_dim), or ws (B, n, w_dim) of which one row an image is drawn -> codes (B, w_dim), detached.

        While the pool fills up, and half the time after that, a new code is handed back; otherwise it
        takes the place of a stored one, which is handed back instead.
        """
        if codes.ndim not in (2, 3):
            raise ValueError(f"codes must be (B, w_dim) or (B, n, w_dim), got {tuple(codes.shape)}")
        codes = codes.detach()
        if codes.ndim == 3:
            codes = torch.stack([ws[self._draw(codes.shape[1])] for ws in codes])  # (B, w_dim)
        return torch.stack([self._exchange(code) for code in codes])

    def _exchange(self, code: Tensor) -> Tensor:
        if len(self.codes) < self.capacity:
            self.codes.append(code.clone())
        elif self.capacity and self._draw(2):
            place = self._draw(self.capacity)
            old, self.codes[place] = self.codes[place], code.clone()
            return old.to(code)
        return code

    def _draw(self, count: int) -> int:
        return int(torch.randint(count, (), generator=self.rng))

    def state(self) -> dict[str, Any]:
        """A copy of all that the next answers depend on: tensors on the CPU and a number."""
        codes = torch.stack(self.codes).cpu() if self.codes else torch.empty(0)  # (N, w_dim)
        return {"capacity": self.capacity, "codes": codes, "rng": self.rng.get_state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`, for a pool of the same capacity."""
        if state["capacity"] != self.capacity or len(state["codes"]) > self.capacity:
            raise ValueError(f"the state of a pool of {state['capacity']} codes does not fit one of {self.capacity}")
        self.codes = [code.clone() for code in state["codes"]]
        self.rng.set_state(state["rng"])
