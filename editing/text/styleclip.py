"""StyleCLIP (Patashnik et al., arXiv 2103.17249) on any bridge between sentences and codes: what to add to a W+ code.

    offset = optimised(bridge, ws, "a woman with red hair")                                  # section 4
    direction = globally(bridge, faces, "a person with red hair", "a person", beta=0.15)     # section 6, in W+
    ws + offset,   ws + 2.0 * direction

The third way, the latent mapper of section 5, is `editing.text.mapper`.  Both work in principal components of codes,
of which each counts by how much faces vary in it: along directions in which they hardly vary a bridge is easily
pleased, by codes that are no faces'.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from editing.heads.response import Whitening
from editing.text import bridge as bridges
from editing.text.bridge import Bridge
from editing.text.generators import lengthened
from stylegan2.errors import UsageError

STEPS, RATE = 60, 0.05
L2, IDENTITY = 0.02, 0.3  # weights of the squared length, in standard deviations, and of an identity distance
BETA = 0.15
TEMPLATES = ("{}", "a photo of {}", "a portrait of {}", "a close-up of {}")  # means of these are steadier than one
Distance = Callable[[Tensor], Tensor]


def optimised(
    bridge: Bridge, ws: Tensor, sentence: str, *, steps: int = STEPS, rate: float = RATE, l2: float = L2,
    identity: Distance | None = None, identity_weight: float = IDENTITY, whitening: Whitening | None = None,
    callback: Callable[[int, float], None] | None = None,
) -> Tensor:  # fmt: skip
    """ws (B, num_ws, w_dim) -> an offset of the same shape that brings it nearer to the sentence (equation 1).

    identity: ws -> how far each is from who it was (B,); rendering and `encoders.losses.identity` do for that.
    callback: the step and its loss; what it raises ends the optimisation.
    """
    whitening = _whitening(whitening, ws)
    wanted, start = described(bridge, sentence).detach(), ws.detach()
    u = torch.zeros(len(ws), 3, len(whitening.basis), device=ws.device, requires_grad=True)
    optimiser = torch.optim.Adam([u], lr=rate, eps=1e-5)  # what only rounding asks for is not answered
    for step in range(steps):
        changed = start + _offset(whitening, u, ws)
        loss = 1 - bridge.latent(changed) @ wanted + l2 * u.square().sum((1, 2))
        if identity is not None:
            loss = loss + identity_weight * identity(changed)
        optimiser.zero_grad(set_to_none=True)
        loss.sum().backward()
        optimiser.step()
        if callback:
            callback(step + 1, float(loss.detach().mean()))
    return _offset(whitening, u.detach(), ws)


def globally(
    bridge: Bridge, ws: Tensor, target: str, neutral: str = "a person", *, beta: float = BETA,
    whitening: Whitening | None = None,
) -> Tensor:  # fmt: skip
    """Faces ws (N, num_ws, w_dim) -> one direction for all (num_ws, w_dim), from the neutral sentence to the target.

    The difference of the two, pulled back to codes by the bridge's mean Jacobian over the faces: how much every
    component of the coarse, middle and fine rows speaks for it.  Those that do by less than `beta` of the most telling
    one stay out (the paper's threshold: more beta, less else that moves).  Length 1, in standard deviations.
    """
    if not 0 <= beta < 1:
        raise UsageError(f"beta is a share of the most telling component, from 0 to below 1, not {beta}.")
    whitening = _whitening(whitening, ws)
    apart = described(bridge, target) - described(bridge, neutral)
    if float(apart.norm()) < 1e-4:
        raise UsageError(f"{target!r} and {neutral!r} are the same for this bridge.")
    told = torch.zeros(3, len(whitening.basis), device=ws.device)
    for one in ws:
        u = torch.zeros_like(told, requires_grad=True)
        seen = bridge.latent(one[None].detach() + _offset(whitening, u[None], ws))
        told += torch.autograd.grad((seen @ (apart / apart.norm())).sum(), u)[0]
    told = torch.where(told.abs() >= beta * told.abs().max(), told, 0.0)
    return _offset(whitening, (told / told.norm())[None], ws)[0]


def described(bridge: Bridge, sentence: str, templates: Sequence[str] = TEMPLATES) -> Tensor:
    """A sentence's unit vector (D,): the mean of it in several frames, as in the paper."""
    found = bridge.text([template.format(sentence) for template in templates]).mean(0)
    return found / found.norm()


def _offset(whitening: Whitening, u: Tensor, ws: Tensor) -> Tensor:
    """Components (B, 3, C) -> (B, num_ws, w_dim)"""
    rows = lengthened(whitening, u)
    return rows[:, torch.arange(ws.shape[1], device=ws.device).clamp(max=rows.shape[1] - 1)].to(ws)


def _whitening(given: Whitening | None, ws: Tensor) -> Whitening:
    found = (given or bridges.load().whitening).to(ws.device)
    if ws.shape[2] != len(found.mean):
        raise UsageError(f"These codes have {ws.shape[2]} numbers a row, and the components are of {len(found.mean)}.")
    return found
