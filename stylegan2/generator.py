"""The Generator contract: what every decoder of the StyleGAN2 family offers to the layers above.

Latent spaces: Z (B, z_dim) standard normal; W (B, w_dim) after the mapping network; W+ (B, num_ws,
w_dim), one w per style row, called `ws` everywhere.  Images are float in [-1, 1] (not clamped),
NCHW, RGB.  A loaded generator is never mutated: weight offsets travel as arguments (`Delta`), and
so do edits of intermediate activations (`FeatureEdit`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor


@dataclass(frozen=True)
class Layer:
    """One tunable convolution: its weight's shape, and the row of `ws` that drives its style."""

    name: str
    shape: tuple[int, ...]
    row: int
    kind: Literal["conv", "depthwise", "pointwise", "to_rgb"]
    resolution: int


@dataclass(frozen=True)
class Style:
    """An affine map from one row of `ws` to the gains of a layer's input channels: s = weight @ w + bias.

    weight (C, w_dim), bias (C,), as they act: equalised scales are in them.  All s together are StyleSpace (Wu et al.,
    arXiv 2011.12799).
    """

    name: str
    row: int
    weight: Tensor
    bias: Tensor


@dataclass(frozen=True)
class Delta:
    """An offset of one convolution's weight W, one per image of the batch (B may be 1 for all).

    add:     W + D              factors (D,)     D (B, *W.shape)
    mul:     W * (1 + D)        factors (D,)     D (B, *W.shape) or broadcastable, e.g. (B, out, in, 1, 1)
             (HyperStyle, arXiv 2111.15666 eq. 5)
    lowrank: W + reshape(U V)   factors (U, V)   U (B, out, r), V (B, r, in*kh*kw)

    StyleGAN2 demodulates after the delta, so a delta's gain is normalised away; MobileStyleGAN's
    demodulation is constant and folded into W, so there a delta changes the gain as well.
    """

    kind: Literal["add", "mul", "lowrank"]
    factors: tuple[Tensor, ...]

    def __post_init__(self) -> None:
        expected = 2 if self.kind == "lowrank" else 1
        if self.kind not in ("add", "mul", "lowrank") or len(self.factors) != expected:
            raise ValueError(f"a Delta of kind {self.kind!r} takes {expected} factor(s), got {len(self.factors)}")

    def apply(self, weight: Tensor) -> Tensor:
        """weight (*shape) -> offset weights (B, *shape)."""
        if self.kind == "add":
            return weight.unsqueeze(0) + self.factors[0].to(weight)
        if self.kind == "mul":
            return weight.unsqueeze(0) * (1 + self.factors[0].to(weight))
        u, v = (factor.to(weight) for factor in self.factors)
        return weight.unsqueeze(0) + (u @ v).reshape(-1, *weight.shape)

    def to(self, *args, **kwargs) -> Delta:
        return Delta(self.kind, tuple(f.to(*args, **kwargs) for f in self.factors))

    def scaled(self, amount: float) -> Delta:
        """The delta times `amount` (0 = the untouched weight, 1 = this delta)."""
        first, *rest = self.factors
        return Delta(self.kind, (first * amount, *rest))


@dataclass(frozen=True)
class FeatureEdit:
    """A spatial edit of one stage's activation x: x + mask * residual.

    residual (B, C, H, W) in the stage's own units; mask (B, 1, H, W) in [0, 1]; base_ws (B, num_ws,
    w_dim) is the code it was computed for.  It is a residual and not an absolute activation, so a
    later latent edit still moves the picture underneath.  `rgb` (B, 3, H, W) does the same to the
    skip image of StyleGAN2 stages and stays None elsewhere.  With a `basis` (B, C, r), residual holds
    r maps (B, r, H, W) and the residual is basis @ maps: a few maps say nearly as much as all C.
    """

    residual: Tensor
    mask: Tensor
    base_ws: Tensor
    rgb: Tensor | None = None
    basis: Tensor | None = None


Deltas = Mapping[str, Delta]
Features = Mapping[str, FeatureEdit]


def edit_stage(x: Tensor, stage: str, features: Features | None) -> Tensor:
    """Apply the feature edit of `stage`, if there is one, to its activation x (B, C, H, W)."""
    edit = features.get(stage) if features else None
    if edit is None:
        return x
    residual = edit.mask.to(x) * edit.residual.to(x)
    return x + (residual if edit.basis is None else torch.einsum("bcr,brhw->bchw", edit.basis.to(x), residual))


def check_deltas(deltas: Deltas | None, layers: Mapping[str, Layer]) -> Deltas:
    """Refuse deltas for layers that this generator does not have (ValueError names them)."""
    unknown = sorted(set(deltas or ()) - set(layers))
    if unknown:
        raise ValueError(f"no such layer(s) in this generator: {', '.join(unknown)}")
    return deltas or {}


@dataclass(frozen=True)
class Low:
    """16-bit numbers from this resolution on, where most of the time goes; see `Runner`."""

    dtype: torch.dtype
    resolution: int


def truncate(w: Tensor, w_avg: Tensor, psi: float) -> Tensor:
    """Truncation trick in W (StyleGAN, arXiv 1812.04948, app. B): w_avg + psi (w - w_avg)."""
    return w_avg + psi * (w - w_avg)


def seeded_z(seeds, z_dim: int, device: torch.device | str = "cpu") -> Tensor:
    """seeds (N ints) -> z (N, z_dim): every seed its own generator, so batch and order never matter."""
    rows = [torch.randn(z_dim, generator=torch.Generator().manual_seed(int(seed))) for seed in seeds]
    return torch.stack(rows).to(device)


@runtime_checkable
class Generator(Protocol):
    """What `StyleGAN2` and `MobileStyleGAN` have in common; nothing above uses more than this."""

    family: str  # inversions of one family share W and row count: 'mobilestylegan-1024', 'stylegan2-1024', ...
    z_dim: int
    w_dim: int
    num_ws: int
    resolution: int
    w_avg: Tensor  # (w_dim,)
    layers: Mapping[str, Layer]
    styles: Mapping[str, Style]

    def mapping(self, z: Tensor) -> Tensor:
        """z (B, z_dim) -> w (B, w_dim), not truncated."""

    def synthesis(
        self, ws: Tensor, deltas: Deltas | None = None, features: Features | None = None, until: str | None = None
    ) -> Tensor:
        """ws (B, num_ws, w_dim) -> images (B, 3, R, R); or, with `until='b128'`, that stage's activation."""

    def stages(self, ws: Tensor, deltas: Deltas | None = None) -> Iterator[tuple[str, Tensor]]:
        """ws (B, num_ws, w_dim) -> every stage's name and activation (B, C, H, W), one after the other."""

    def split(self, ws: Tensor, stage: str, deltas: Deltas | None = None) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """-> that stage's activation x, computed once, and what draws the image from one like it.

        draw(x + mask * residual) is synthesis with a FeatureEdit there, without its first part.
        """
