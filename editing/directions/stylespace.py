"""Edits of single style channels: StyleSpace (Wu, Lischinski and Shechtman, arXiv 2011.12799).

A style s = A w + b holds a gain for every channel that a convolution reads; all s together are StyleSpace.  Most
changes of it are no code in W+, and they reach one place of the face where a code reaches many.  Adding d to a gain is
multiplying what the convolution does with that channel by 1 + d / s: a `mul` Delta on its input channels, in StyleGAN2
before the demodulation, as a change of the style is.  So s + d is drawn exactly, and no generator is touched.

    direction = of_channels(generator, [("layers.4.conv1", 12, 1.0)], "lips")     # d = one sigma of s
    picture = generator.synthesis(ws, deltas(generator, ws, direction.styles, 5.0))

Channels are found by a judge (`ranked_by_scores`, section 4.2) or by where the picture changes (`ranked_by_region`,
section 4.1).  MobileStyleGAN's up-sampling gains (`layers.N.up`) have no convolution behind them and stay as they are.

Of the default generator's 3,808 channels, with 5 sigmas either way on ten faces: layers.1.conv2:199 makes hair light or
dark (97% of the squared change in the hair, identity distance .07), layers.2.conv2:407 makes brows thick or thin (81%,
.26), layers.2.conv2:77 opens and closes eyes (88%, .17), layers.1.conv1:22 parts the fringe (95%, .06).  No single one
was found for glasses, nor for red lips.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from editing.directions.catalogue import MERGED, Direction
from editing.inversion import residual
from editing.types import Inversion
from encoders.metric import stage
from stylegan2 import console, engine, w_statistics
from stylegan2.errors import InversionError, UsageError
from stylegan2.generator import Delta, Generator

SMALL = 1e-5  # a gain nearer to 0 than this counts as this far from it: what is added to it comes out smaller, not NaN
Channel = tuple[str, int, float]  # style, index, change for a strength of 1 in standard deviations of the gain
Styles = Mapping[str, Tensor]  # style -> (C,), what is added to its gains


def layer_of(generator: Generator, style: str) -> str | None:
    """The convolution whose input channels a style scales; None where there is none."""
    return next((name for name in (style, f"{style}.depthwise") if name in generator.layers), None)


def editable(generator: Generator) -> list[str]:
    """The styles that can be changed, in network order."""
    return [name for name in generator.styles if layer_of(generator, name)]


def deltas(generator: Generator, ws: Tensor, change: Styles, strength: float = 1.0) -> dict[str, Delta]:
    """ws (B, num_ws, w_dim), change style -> (C,) -> weight offsets (one an image) that draw s + strength * change.

    Differentiable in ws and in the change.  UsageError for a style that is not there, or of another width.
    """
    found, styles = {}, generator.styles
    for name, amount in change.items():
        layer = layer_of(generator, name) if name in styles else None
        if layer is None:
            raise UsageError(console.unknown("styles of this generator", name, editable(generator)))
        style = styles[name]
        if amount.shape != style.bias.shape:
            raise UsageError(f"The style {name} has {len(style.bias)} channels here, not {tuple(amount.shape)}.")
        gains = ws[:, style.row] @ style.weight.T + style.bias  # (B, C)
        sign = torch.where(gains < 0, -1.0, 1.0)
        factor = strength * amount.to(gains) / (sign * gains.abs().clamp(min=SMALL))
        shape = [len(factor)] + [1] * len(generator.layers[layer].shape)  # (B, out, in, ...)
        shape[1 if generator.layers[layer].kind == "depthwise" else 2] = -1  # there the channel is the output's axis
        found[layer] = Delta("mul", (factor.view(shape),))
    return found


def added(generator: Generator, inversion: Inversion, change: Styles) -> Inversion:
    """The inversion with these changes of its styles as weight offsets, after its own ones.

    Its residual fades where they change the activations below it, as it does where a code does.
    Exact where its own multiply, too; InversionError where they add to the weights that a style scales.
    """
    merged = dict(inversion.deltas or {})
    for layer, delta in deltas(generator, inversion.ws, change).items():
        own = merged.get(layer)
        if own is not None and own.kind != "mul":
            raise InversionError(
                f"This inversion adds to the weights of {layer}, which the edit multiplies: "
                "invert the photo again without weight offsets."
            )
        merged[layer] = delta if own is None else _product(own, delta)
    features = inversion.features
    if features and merged:
        by = residual.gate(generator, inversion.ws, inversion.ws, inversion.deltas, merged)
        own = stage(generator)
        features = {name: residual.dimmed(edit, by) if name == own else edit for name, edit in features.items()}
    return replace(inversion, deltas=merged or None, features=features)


def _product(a: Delta, b: Delta) -> Delta:
    """(1 + a)(1 + b) = 1 + (a + b + ab)."""
    first, second = (delta.factors[0].to(b.factors[0]) for delta in (a, b))
    return Delta("mul", (first + second + first * second,))


def total(changes: Iterable[tuple[Styles, float]]) -> dict[str, Tensor]:
    """The sum of changes, each times its strength.  UsageError where two of one style have other widths."""
    result: dict[str, Tensor] = {}
    for change, strength in changes:
        for name, amount in change.items():
            before = result.get(name, torch.zeros_like(amount))
            if before.shape != amount.shape:
                raise UsageError(f"Two edits change the style {name}, and they are made for different generators.")
            result[name] = before + strength * amount
    return result


# ------------------------------------------------------------------------------------------- directions


def deviations(generator: Generator, style: str) -> Tensor:
    """(C,): the standard deviation of every gain over W."""
    statistics = w_statistics.load()
    spread = statistics.components.T * statistics.stdev  # (512, components)
    return (generator.styles[style].weight.detach().cpu().float() @ spread).norm(dim=1)


def of_channels(generator: Generator, channels: Sequence[Channel], name: str, description: str = "") -> Direction:
    """One direction that changes these channels; its vector is zeros.  UsageError for a channel that is not there."""
    styles: dict[str, Tensor] = {}
    for style, index, sigmas in channels:
        if style not in editable(generator):
            raise UsageError(console.unknown("styles of this generator", style, editable(generator)))
        spread = deviations(generator, style)
        if not 0 <= index < len(spread):
            raise UsageError(f"The style {style} has the channels 0 to {len(spread) - 1}, not {index}.")
        styles.setdefault(style, torch.zeros_like(spread))[index] += sigmas * spread[index]
    rows = [generator.styles[style].row for style in styles]
    source = "StyleSpace: " + ", ".join(f"{style}:{index}:{sigmas:g}" for style, index, sigmas in channels)
    span = (min(rows), min(max(rows) + 1, MERGED))
    zeros = torch.zeros(generator.w_dim)
    return Direction(name, zeros, span, "StyleSpace", source, description, styles=styles)


def parsed(text: str) -> Channel:
    """'LAYER:INDEX' or 'LAYER:INDEX:SIGMAS' -> channel.  UsageError otherwise."""
    style, *numbers = text.rsplit(":") if text.count(":") in (1, 2) else [""]
    try:
        index, sigmas = int(numbers[0]), float(numbers[1]) if len(numbers) == 2 else 1.0
        if not style or not abs(sigmas) < 100:
            raise ValueError
    except (ValueError, IndexError):
        raise UsageError(f"A channel is LAYER:INDEX or LAYER:INDEX:SIGMAS, not '{text[:60]}'.") from None
    return style, index, sigmas


# ---------------------------------------------------------------------------------------------- finding


def by_judge(generator: Generator, folder: Path, judge: str) -> list[tuple[float, Channel]]:
    """`ranked_by_scores` of the samples in a folder.  UsageError for an unknown judge, or no samples."""
    from editing.directions import sampling

    if not any(folder.glob("*.npz")):
        raise UsageError(f"There are no samples in {folder}: python -m editing.directions.sampling makes them.")
    table = sampling.load(folder)
    if judge not in sampling.JUDGES:
        raise UsageError(console.unknown("judges", judge, sampling.JUDGES))
    if table["scores"].shape[1] != len(sampling.JUDGES):
        raise UsageError(f"The samples in {folder} were judged by another version: make them again.")
    scores = torch.from_numpy(table["scores"][:, sampling.JUDGES.index(judge)])
    measured = scores.isfinite()
    return ranked_by_scores(generator, torch.from_numpy(table["w"])[measured], scores[measured])


def ranked_by_scores(
    generator: Generator, w: Tensor, scores: Tensor, share: float = 0.05
) -> list[tuple[float, Channel]]:
    """w (N, w_dim) with scores (N,) of one judge -> (theta, channel), the most telling first (section 4.2).

    The positive group are the `share` of faces with the highest scores.  delta = (s - mean) / deviation of a face, over
    all; theta = |mean of delta| / deviation of delta, both in the positive group.  A channel's sign raises the score.
    """
    chosen = scores.argsort(descending=True)[: max(2, round(share * len(scores)))]
    result = []
    for name in editable(generator):
        style = generator.styles[name]
        gains = w @ style.weight.detach().to(w).T + style.bias.detach().to(w)
        delta = ((gains - gains.mean(0)) / gains.std(0).clamp(min=1e-8))[chosen]
        mean, theta = delta.mean(0), delta.mean(0).abs() / delta.std(0).clamp(min=1e-8)
        pairs = zip(theta.tolist(), mean.tolist(), strict=True)
        result += [(t, (name, i, 1.0 if m > 0 else -1.0)) for i, (t, m) in enumerate(pairs)]
    return sorted(result, key=lambda pair: -pair[0])


def by_region(generator: Generator, region: str, faces: int = 4) -> list[tuple[float, float, Channel]]:
    """`ranked_by_region` on generated faces, whose labels are read out of the default generator's own activations.

    UsageError for a region that `editing.regions` lacks.
    """
    from editing import regions
    from editing.judges.parsing import CLASSES, reader

    wanted = torch.tensor([CLASSES.index(name) for name in regions.classes(region)])
    ws = engine.broadcast(generator, engine.latents(generator, range(faces)))
    known, size = reader.load(), (generator.resolution,) * 2
    labels = [torch.from_numpy(reader.labels(known, generator, code)).long() for code in ws.split(1)]
    masks = [F.interpolate(torch.isin(found, wanted)[None].float(), size=size)[0, 0] for found in labels]
    return ranked_by_region(generator, ws, torch.stack(masks))


def ranked_by_region(generator: Generator, ws: Tensor, inside: Tensor, probes: int = 8, seed: int = 0
                     ) -> list[tuple[float, float, Channel]]:  # fmt: skip
    """ws (B, num_ws, w_dim), masks (B, R, R) in [0, 1] -> (share, change, channel), the most local first (section 4.1).

    change: what a sigma of the channel does to the picture inside, root of the mean square in the picture's units;
    share: how much of its squared change lies inside.  The paper's mean |dI/ds| takes a pass a channel; random signs v
    on the pixels give all channels at once, E (v . dI/ds)^2 = |dI/ds|^2.  Faint channels (change below a tenth of the
    strongest) are left out: they are local only by chance.
    """
    random, names = torch.Generator().manual_seed(seed), editable(generator)
    change = {name: torch.zeros_like(generator.styles[name].bias).requires_grad_() for name in names}
    energy = [torch.zeros(sum(map(len, change.values()))) for _ in range(2)]
    for row, mask in zip(ws, inside, strict=True):
        image = generator.synthesis(row[None], deltas(generator, row[None], change))
        for _ in range(probes):
            signs = torch.randint(0, 2, image.shape[1:], generator=random).to(image) * 2 - 1
            for part, where in enumerate((mask, 1 - mask)):
                value = (image[0] * signs * where.sqrt()).sum()
                gradients = torch.autograd.grad(value, list(change.values()), retain_graph=True)
                energy[part] += torch.cat([g.cpu() for g in gradients]) ** 2 / (probes * len(ws))
    spread = torch.cat([deviations(generator, name) for name in names])
    within, without = (part * spread**2 for part in energy)
    size = (within / (3 * inside.sum((1, 2)).mean().clamp(min=1).cpu())).sqrt()
    channels = [(name, i, 1.0) for name in names for i in range(len(change[name]))]
    table = zip((within / (within + without).clamp(min=1e-20)).tolist(), size.tolist(), channels, strict=True)
    loud = 0.1 * float(size.max())
    return sorted((entry for entry in table if entry[1] >= loud), key=lambda entry: -entry[0])
