"""What can be made of two inversions, and of one inversion and another generator of its family.

`interpolate` goes from one person to the other, in the code, the weight offsets and the residual:

    w = (1 - t) w_a + t w_b      D = (1 - t) D_a + t D_b      F = (1 - t) F_a(w) + t F_b(w)

with F(w) the residual as it applies at w (`residual.gated`).  Detail of a photo fades where another face is drawn, so
the middle is smoother than both ends.  `style_mix` takes the coarse rows of one code and the fine ones of another
(StyleGAN, Karras et al., arXiv 1812.04948, section 3.1): below row 3 lies the pose, below 7 the shape, from there on
mostly colours and light.  `transferred` lets a generator of another domain draw an inversion (HyperStyle, Alaluf et
al., arXiv 2111.15666, section 5): the code stays, and of the offsets those of the fine layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from editing.inversion import residual
from editing.types import Inversion, finite, generator_sha256
from stylegan2.errors import InversionError, UsageError
from stylegan2.generator import Delta, Deltas, FeatureEdit, Generator, Layer

COLOURS = 7  # first row of the 64-pixel layers
FINE = 128  # resolution from which offsets are kept for another domain


def interpolate(generator: Generator, a: Inversion, b: Inversion, amount: float) -> Inversion:
    """Between two people: `amount` 0 is a, 1 is b, and both draw exactly their own pictures.

    The result has a's place in a's photo, no metrics, and a residual at its own code: it can be edited further.
    Raises UsageError for an amount outside of [0, 1], InversionError if one does not fit the generator.
    """
    if not 0 <= finite(amount, "the mix") <= 1:
        raise UsageError(f"The amount of a mix lies between 0 and 1, not at {amount:g}.")
    for inversion in (a, b):
        check(generator, inversion)
    if amount in (0, 1):
        end = b if amount else a
        return mixed(a, "interpolate", ws=end.ws, deltas=end.deltas, features=end.features)
    ws = torch.lerp(a.ws, b.ws.to(a.ws), amount)
    deltas = between(a.deltas or {}, b.deltas or {}, amount, generator.layers)
    features = {}
    for inversion, share in ((a, 1 - amount), (b, amount)):
        for stage, edit in (residual.gated(generator, inversion.features, ws) or {}).items():
            features.setdefault(stage, []).append((edit, share))
    merged = {stage: total(edits, ws) for stage, edits in features.items()}
    return mixed(a, "interpolate", ws=ws, deltas=deltas or None, features=merged or None)


def style_mix(generator: Generator, content: Inversion, style: Inversion, first_row: int = COLOURS) -> Inversion:
    """Rows below `first_row` and their weight offsets from content, the others from style.

    content's residual stays as it was made, and fades where the picture is another one now; style's is left out.
    Raises UsageError if nothing of one of the two would be left, InversionError if one does not fit the generator.
    """
    if not 0 < first_row < generator.num_ws:
        raise UsageError(
            f"The first row of the style lies between 1 and {generator.num_ws - 1} here, not at {first_row}."
        )
    for inversion in (content, style):
        check(generator, inversion)
    ws = torch.cat([content.ws[:, :first_row], style.ws[:, first_row:].to(content.ws)], dim=1)
    coarse, fine = content.deltas or {}, style.deltas or {}
    deltas = {name: delta for name, delta in coarse.items() if generator.layers[name].row < first_row}
    deltas |= {name: delta for name, delta in fine.items() if generator.layers[name].row >= first_row}
    return mixed(content, "style mix", ws=ws, deltas=deltas or None, features=content.features)


def transferred(inversion: Inversion, generator: Generator, keep_features: bool = False) -> Inversion:
    """The inversion for a sister of its generator (same family, other weights); for its own it stays as it is.

    Codes keep their meaning where a generator was only fine-tuned.  Offsets were made for weights that are others now.
    Published is to keep those of the convolutions from 128 pixels on, layers 14, 15, 17, 18 ... of StyleGAN2
    (`hyperstyle.refine.transferable`).  Here they are told by resolution, so that it holds for every family, and the
    last layer, which makes colours of features, is none of them there or here.  The residual holds the photo's own
    detail and would draw it over the new domain: it is dropped unless `keep_features`.
    Raises InversionError for another family.
    """
    sha256 = generator_sha256(generator)
    inversion.require(generator.family, sha256, transfer=True)
    if sha256 and inversion.generator_sha256 == sha256:
        return inversion
    check(generator, inversion, transfer=True)
    layers = generator.layers
    fine = {name for name, layer in layers.items() if layer.resolution >= FINE and layer.kind != "to_rgb"}
    deltas = {name: delta for name, delta in (inversion.deltas or {}).items() if name in fine}
    features = inversion.features if keep_features else None
    return replace(inversion, deltas=deltas or None, features=features, generator_sha256=sha256, metrics={})


# ---------------------------------------------------------------------------------------------- parts


def mixed(first: Inversion, method: str, **parts) -> Inversion:
    """An inversion of these parts, at the place of `first` in its photo; what was measured before holds no longer."""
    return replace(first, method=method, steps=0, metrics={}, **parts)


def check(generator: Generator, inversion: Inversion, transfer: bool = False) -> None:
    """InversionError if this generator cannot draw the inversion: another family or sister, other shapes or layers."""
    inversion.require(generator.family, generator_sha256(generator), transfer)
    unknown = set(inversion.deltas or ()) - set(generator.layers)
    if inversion.ws.shape != (1, generator.num_ws, generator.w_dim) or unknown:
        raise InversionError(
            "This inversion's code or weight offsets do not fit the generator: invert the photo again."
        )


def between(a: Deltas, b: Deltas, amount: float, layers: Mapping[str, Layer]) -> dict[str, Delta]:
    """(1 - amount) a + amount b, layer by layer; one that only one of them has is scaled."""
    parts = {}
    for deltas, share in ((a, 1 - amount), (b, amount)):
        for name, delta in deltas.items():
            parts.setdefault(name, []).append(delta.to(torch.float32).scaled(share))
    return {name: pair[0] if len(pair) == 1 else added(*pair, layers[name]) for name, pair in parts.items()}


def added(a: Delta, b: Delta, layer: Layer) -> Delta:
    """The sum of two offsets of one layer.  InversionError if only one of them is relative to the weight."""
    if a.kind == b.kind == "lowrank":
        (u, v), (other_u, other_v) = a.factors, b.factors
        return Delta("lowrank", (torch.cat([u, other_u], dim=2), torch.cat([v, other_v], dim=1)))
    if a.kind == b.kind:
        return Delta(a.kind, (a.factors[0] + b.factors[0],))
    if "mul" in (a.kind, b.kind):
        raise InversionError(
            f"One inversion multiplies the weights of {layer.name} and the other adds to them: "
            "invert both photos by one method."
        )
    nothing = torch.zeros(layer.shape, device=a.factors[0].device)
    return Delta("add", (a.apply(nothing) + b.apply(nothing),))


def total(edits: Sequence[tuple[FeatureEdit, float]], ws: Tensor) -> FeatureEdit:
    """Feature edits of one stage and the share of each -> their sum as one edit, made for ws (1, num_ws, w_dim).

    Shares and masks go into the maps.  Where every edit has a basis, so has the sum, with all their maps.
    """
    shared = [(edit.mask.to(ws) * share, edit) for edit, share in edits]
    drawn = [by * edit.rgb.to(ws) for by, edit in shared if edit.rgb is not None]
    if all(edit.basis is not None for _, edit in shared):
        maps = torch.cat([by * edit.residual.to(ws) for by, edit in shared], dim=1)
        basis = torch.cat([edit.basis.to(ws) for _, edit in shared], dim=2)
    else:
        maps, basis = sum(by * whole(edit).to(ws) for by, edit in shared), None
    return FeatureEdit(maps, torch.ones_like(shared[0][0]), ws, rgb=sum(drawn) if drawn else None, basis=basis)


def whole(edit: FeatureEdit) -> Tensor:
    """The residual (1, C, h, w) of a feature edit, with or without a basis; no mask in it."""
    if edit.basis is None:
        return edit.residual
    return torch.einsum("bcr,brhw->bchw", edit.basis.float(), edit.residual.float())
