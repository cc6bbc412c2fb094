"""Drag points of a face to where they should be (DragGAN, Pan et al., arXiv 2305.10973).

    ws' = drag(generator, ws, [(0.40, 0.62, 0.38, 0.58)])        # from x, y to x, y, in parts of the crop

Each step asks what is around a handle p to come a little nearer to its target t (motion supervision), moves the code's
coarse rows down the slope, and looks for the handle again in the new activations (point tracking):

    loss = sum_i sum_q |F(q + d_i) - stop(F(q))|_1 + HOLD |(F - F_0)(1 - M)|_1       q: around p_i, d_i: towards t_i
    p_i <- argmin |F(p) - F_0(p_i^0)|_1   near p_i

F is the activation at an eighth of the picture's resolution.  Ours, not the paper's: steps of one length along the
slope in whitened W instead of Adam, which goes far in directions that hardly matter and ends with broken faces; rows
move mostly together; what is around a handle is known by a patch; M, what may move, is a disc around each pair.  The
result is the same for the same points and steps: a recipe keeps those, and no code.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from editing.heads.pictures import SIZE, PictureHead
from editing.types import Inversion, Step
from encoders.metric import stage
from stylegan2 import w_statistics
from stylegan2.engine import area_resize
from stylegan2.errors import Cancelled, UsageError
from stylegan2.generator import FeatureEdit, Features, Generator

ROWS = 6  # of the code that move: pose and shape; the others paint
STEPS, MOST = 40, 200
RATE = 0.12  # length of a step, in standard deviations of W
AROUND = 1.5  # radius of what is moved with a handle, in pixels of the activation
SEEN = 1.0  # radius of what a handle is known by
LOOK = 3  # how far from where it was a handle is looked for
STRIDE = 1.0
SLOW = 4.0  # pixels of the activation: nearer than this, steps get shorter
APART = 0.3  # of it, for what a row has over the others: rows that disagree draw no face
HOLD = 0.2  # weight of what should stay
REACH = 1.6  # radius of the disc that may move, in lengths of the way, around its middle
NEAR = 0.5  # pixels of the activation: a handle that is so near has arrived

Points = Sequence[tuple[float, float, float, float]]


def drag(generator: Generator, ws: Tensor, points: Points, steps: int = STEPS,
         callback: Callable[[int, int, str], bool | None] | None = None,
         features: Features | None = None) -> Tensor:  # fmt: skip
    """ws (1, num_ws, w_dim) -> ws of the same shape; points: (x, y) to (x, y) in parts of the crop, y down.

    features: of the face, if it was drawn from a map.

    callback(step, total, 'drag') may return False to stop (Cancelled).  UsageError for points that are none.
    """
    pairs = torch.tensor(checked(points), device=ws.device)
    statistics = w_statistics.load().to(ws.device)
    name, start = stage(generator), statistics.whiten(ws.detach())
    with torch.no_grad():
        first = generator.synthesis(ws, features=features, until=name).contiguous()
    size = first.shape[-1]
    handles, targets = pairs[:, :2] * size - 0.5, pairs[:, 2:] * size - 0.5
    known = sampled(first, handles[:, None] + disc(SEEN).to(ws))  # (N, K, C): what each handle looks like
    still = 1 - movable(handles, targets, size)
    shared = torch.zeros_like(start[:, :1], requires_grad=True)
    apart = torch.zeros_like(start[:, :ROWS], requires_grad=True)

    def code() -> Tensor:
        return statistics.unwhiten(torch.cat([start[:, :ROWS] + shared + apart, start[:, ROWS:]], 1))

    for step in range(steps):
        way = targets - handles
        left = way.norm(dim=1, keepdim=True)
        going = left[:, 0] > NEAR
        if not bool(going.any()):
            break
        now = generator.synthesis(code(), features=features, until=name)
        ahead = way / left.clamp_min(1e-6) * left.clamp_max(STRIDE)
        patch = handles[:, None] + disc(AROUND).to(ws)
        moved = sampled(now, patch + ahead[:, None]) - sampled(now.detach(), patch)
        loss = moved.abs().mean((1, 2))[going].sum() + HOLD * ((now - first) * still).abs().mean()
        slopes = torch.autograd.grad(loss, [shared, apart])
        with torch.no_grad():
            size_of = torch.cat([slope.flatten() for slope in slopes]).norm().clamp_min(1e-12)
            pace = RATE * min(1.0, float(left.max()) / SLOW)
            shared -= pace * slopes[0] / size_of
            apart -= APART * pace * slopes[1] / size_of
            handles = tracked(generator.synthesis(code(), features=features, until=name), handles, known)
        if callback is not None and callback(step + 1, steps, "drag") is False:
            raise Cancelled(f"Dragging cancelled after {step + 1} of {steps} steps.")
    return code().detach()


def checked(points: Points) -> list[tuple[float, float, float, float]]:
    """Points as four finite numbers in [0, 1] each.  UsageError in one sentence otherwise."""
    try:
        found = [tuple(map(float, point)) for point in points]
    except (TypeError, ValueError, OverflowError):
        found = []
    if not 0 < len(found) <= 16 or any(
        len(p) != 4 or not all(math.isfinite(v) and 0 <= v <= 1 for v in p) for p in found
    ):
        raise UsageError("Points to drag are 1 to 16 times four numbers: from x, y to x, y, in parts of the crop.")
    return found


def disc(radius: float) -> Tensor:
    """Offsets (N, 2) half a pixel apart within a radius."""
    axis = torch.arange(-2 * int(radius + 1), 2 * int(radius + 1) + 1) / 2
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).reshape(-1, 2)
    return grid[grid.norm(dim=1) <= radius]


def sampled(x: Tensor, at: Tensor) -> Tensor:
    """Activation x (1, C, S, S) at pixel positions (N, K, 2), x before y -> (N, K, C), bilinear."""
    place = (at + 0.5) * 2 / x.shape[-1] - 1
    found = F.grid_sample(x, place[None].to(x), mode="bilinear", padding_mode="border", align_corners=False)
    return found[0].permute(1, 2, 0)


def movable(handles: Tensor, targets: Tensor, size: int) -> Tensor:
    """(1, 1, S, S) float: 1 in a disc around every pair of points."""
    axis = torch.arange(size, device=handles.device, dtype=torch.float32)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)
    radius = REACH * (targets - handles).norm(dim=1) + size / 12
    away = (grid - ((handles + targets) / 2)[:, None, None]).norm(dim=-1)
    return (away <= radius[:, None, None]).any(0).float()[None, None]


def tracked(x: Tensor, handles: Tensor, known: Tensor) -> Tensor:
    """Where each handle is now: the place near its last around which the activation is most like `known` (N, K, C)."""
    near, seen = disc(LOOK).to(handles), disc(SEEN).to(handles)
    place = handles[:, None] + near  # (N, M, 2)
    around = (place[:, :, None] + seen).flatten(1, 2)
    unlike = (sampled(x, around).unflatten(1, (len(near), len(seen))) - known[:, None]).abs().mean((2, 3))
    return place[torch.arange(len(handles)), unlike.argmin(1)].clamp(0, x.shape[-1] - 1)


def step_of(points: Points, face: int = 0, steps: int = STEPS, strength: float = 1.0) -> Step:
    """The step of a recipe that drags these points of the unedited face."""
    parameters = {"points": [list(point) for point in checked(points)], "steps": steps, "strength": strength}
    return Step(op="drag", parameters=parameters, face=face)


def change(generator: Generator, inversion: Inversion, step: Step, callback=None) -> Tensor:
    """What a drag step adds to the code of an inversion, (1, num_ws, w_dim).  UsageError for wrong parameters."""
    steps = step.parameters.get("steps", STEPS)
    if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= MOST:
        raise UsageError(f"Dragging takes 1 to {MOST} steps, not {steps!r}.")
    found = drag(generator, inversion.ws, step.parameters.get("points"), steps, callback, shaping(inversion))
    return found - inversion.ws


class Drags:
    """Inversions after steps that need the generator: drags, parts painted or moved, heads that read the picture.

    What a step adds, or asks for, is worked out once and kept in `memo`.
    """

    def __init__(self, generator: Generator, memo: dict[str, Any] | None = None) -> None:
        self.generator, self.memo = generator, {} if memo is None else memo

    def __call__(self, inversion: Inversion, steps: Sequence[Step], callback=None) -> Inversion:
        """The steps one after the other, each from where the one before it left the face; strength scales the way."""
        for step in steps:
            key = key_of(inversion, step)
            if key not in self.memo:
                self.memo[key] = change(self.generator, inversion, step, callback)
            inversion = replace(inversion, ws=inversion.ws + step.strength * self.memo[key])
        return inversion

    def plan(self, inversion: Inversion, steps: Sequence[Step]) -> Any:
        """What steps that paint labels or move parts ask for together (`editing.spatial.Plan`)."""
        from editing import spatial

        key = hashed(inversion, [[step.op, step.parameters] for step in steps])
        if key not in self.memo:
            self.memo[key] = spatial.planned(self.generator, inversion, steps, self.labels(inversion))
        return self.memo[key]

    def labels(self, inversion: Inversion) -> Any:
        """The map of a face (`editing.spatial.map_of`), which every plan for it begins from."""
        from editing import spatial

        key = hashed(inversion, ["map"])
        if key not in self.memo:
            spatial.features(self.generator, inversion)
            self.memo[key] = spatial.map_of(self.generator, inversion)
        return self.memo[key]

    def placed(self, inversion: Inversion, plan: Any) -> Inversion:
        """The inversion, edited since or not, as the plan has it."""
        from editing import spatial

        return spatial.placed(self.generator, inversion, plan)

    def read(self, inversion: Inversion, head: PictureHead) -> Tensor:
        """What a head adds to the code of this face at strength 1, from the picture of its code and weight offsets."""
        key, seen = hashed(inversion, [head.name, head.sha256]), hashed(inversion, ["picture"])
        if seen not in self.memo:
            with torch.no_grad():
                drawn = self.generator.synthesis(inversion.ws, inversion.deltas, shaping(inversion))
                self.memo[seen] = area_resize(drawn, SIZE).clamp(-1, 1)
        if key not in self.memo:
            self.memo[key] = head.change(self.memo[seen], inversion.ws)
        return self.memo[key]


def shaping(inversion: Inversion) -> dict[str, FeatureEdit]:
    """The features that say what is where, of a face that was drawn from a map; not a photo's residual of few maps."""
    return {name: edit for name, edit in sorted((inversion.features or {}).items()) if edit.basis is None}


def key_of(inversion: Inversion, step: Step) -> str:
    """What decides what a drag step adds: the code it begins from, the points and the steps."""
    return hashed(inversion, [step.parameters.get("points"), step.parameters.get("steps", STEPS)])


def hashed(inversion: Inversion, facts: list) -> str:
    """Of facts, the code, its weight offsets, and the features that shape it (a residual of fine detail does not)."""
    digest = hashlib.sha256(json.dumps(facts).encode())
    offsets = [factor for _, delta in sorted((inversion.deltas or {}).items()) for factor in delta.factors]
    edits = [tensor for edit in shaping(inversion).values() for tensor in (edit.mask, edit.residual)]
    for tensor in (inversion.ws, *offsets, *edits):
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
