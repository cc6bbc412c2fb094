"""Files of translation networks, published and our own; read without executing anything.

    network = load("horse2zebra.pth")        # which network it is, and how large, is told from its tensors
    network = load("rbdn_relighting.caffemodel")

Published files are bare state dicts (`latest_net_G.pth`, `200000-G.ckpt`); ours are safetensors with the same names.
Files from before torch 0.4 hold running statistics under instance norms and no counters under batch norms: the first
are dropped, the second not needed.  Whatever is wrong with a file is a CheckpointError of one sentence.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from editing.translation import caffe, torch7
from editing.translation.networks import (
    RBDN,
    AuraUpsampler,
    BicycleEncoder,
    BicycleGenerator,
    GigaGANDiscriminator,
    GigaGANGenerator,
    LostGANDiscriminator,
    LostGANGenerator,
    MultiScalePatchGAN,
    PatchGAN,
    PixelGAN,
    ReedDiscriminator,
    ReedGenerator,
    ReedPortDiscriminator,
    ReedPortGenerator,
    ResnetGenerator,
    SetDiscriminator,
    SetGenerator,
    SPADEDiscriminator,
    SPADEGenerator,
    StarGANDiscriminator,
    StarGANGenerator,
    StyleEncoder,
    UnetGenerator,
    VisionHeads,
    spade,
)
from editing.translation.networks.gigagan.upsampler import HEAD
from editing.translation.networks.lostgans_critic import FINAL
from encoders.checkpoints import faults_of, fitting
from stylegan2 import checkpoints
from stylegan2.checkpoints import layout, native, rosinality
from stylegan2.checkpoints.sniff import sniff
from stylegan2.errors import CheckpointError

State = Mapping[str, Any]
LARGEST = 1024  # channels of a first layer, parts of a chain: more is no network of this kind
GENERATORS = (
    UnetGenerator,
    ResnetGenerator,
    BicycleGenerator,
    StarGANGenerator,
    RBDN,
    SPADEGenerator,
    SetGenerator,
    LostGANGenerator,
    ReedGenerator,
    ReedPortGenerator,
    GigaGANGenerator,
    AuraUpsampler,
)


def load(path: Path | str) -> nn.Module:
    """Read a network: float32, on the CPU, eval mode, frozen."""
    path = Path(path)
    if path.suffix == ".caffemodel":
        state: State = caffe.rbdn(path)
    elif path.suffix == ".t7":
        state = torch7.reed(path)
    elif path.is_file() and sniff(path) == "safetensors":
        with faults_of(path):
            state = native.read(path)[0]
    else:
        state = checkpoints.read_container(path)
    with faults_of(path):
        return from_state(state)


def load_generator(path: Path | str) -> nn.Module:
    """`load`, where something that draws is needed."""
    network = load(path)
    if not isinstance(network, GENERATORS):
        raise CheckpointError(f"{path} holds {named(network)}, which draws nothing: a generator is needed.")
    return network


def finite(network: nn.Module, path: Path | str, dtype: torch.dtype) -> None:
    """CheckpointError if a tensor of the network is no number, or none in `dtype`: what is written can be read."""
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor.to(dtype)).all()):
            raise CheckpointError(f"{path} was not written: {name!r} does not fit {str(dtype)[6:]}.")


def save(network: nn.Module, path: Path | str, dtype: torch.dtype = torch.float32) -> None:
    """Write a network's tensors under their published names as safetensors, atomically."""
    finite(network, path, dtype)
    state = {name: tensor.detach().to("cpu").contiguous() for name, tensor in network.state_dict().items()}
    state = {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    native.write(Path(path), state, {"format": "wplus", "family": f"translation-{named(network)}"})


def named(network: nn.Module) -> str:
    return type(network).__name__


def from_state(state: Any) -> nn.Module:
    """A state dict, of tensors or `StoredTensor`s that are read here -> its network, frozen."""
    if not isinstance(state, Mapping) or not state or not all(isinstance(name, str) for name in state):
        raise CheckpointError("holds no network of this kind: it is not a dictionary of tensors.")
    state = rosinality.without_module_prefix(state)
    for sign, describe in SIGNS.items():
        if sign in state:
            make = describe(state)
            with torch.device("meta"):
                network = make()
            known = network.state_dict()
            state = completed(state, known)
            dropped = {
                n for n in state if n not in known and re.search(r"\.(running_(mean|var)|num_batches_tracked)$", n)
            }
            kept = {name: value for name, value in state.items() if name not in dropped}
            shapes = {name: tuple(tensor.shape) for name, tensor in known.items()}
            network.load_state_dict(fitting(shapes, kept, named(network)), strict=True, assign=True)
            return network.eval().requires_grad_(False)
    raise CheckpointError(f"holds no translation network that is known (its tensors begin with {min(state)[:60]!r}).")


def completed(state: State, known: Mapping[str, Tensor]) -> State:
    """Files from before torch 1.1 hold what spectral norm made of a weight instead of its second vector.

    known: the network's tensors; where it has no such vector, the file stays as it is.
    """
    stems = [name.removesuffix("_orig") for name in state if name.endswith(".weight_orig")]
    wanted = [stem for stem in stems if f"{stem}_v" in known and f"{stem}_v" not in state]
    old = [stem for stem in wanted if stem in state and f"{stem}_u" in state]
    found = {}
    for stem in old:
        names = (f"{stem}_orig", f"{stem}_u", stem)
        weight_orig, weight_u, weight = layout.tensors(state, {name: name for name in names}).values()
        try:
            found[f"{stem}_v"] = spade.second_vector(weight_orig, weight_u, weight)
        except (ValueError, RuntimeError, IndexError):
            raise CheckpointError(f"is damaged: {stem!r} is no multiple of {names[0]!r}.") from None
    return {name: value for name, value in state.items() if name not in old} | found if found else state


# ---- which network, and how large


def shape(state: State, name: str, axes: int = 4) -> tuple[int, ...]:
    found = rosinality.shape_of(state, name, axes)
    if not all(0 < size <= 2 * LARGEST * 8 for size in found):
        raise CheckpointError(f"holds {name!r} in the shape {found}, which no network of this kind has.")
    return found


def many(state: State, pattern: str) -> int:
    """How many numbers the pattern's group has among the names."""
    found = {match[1] for name in state if (match := re.fullmatch(pattern, name))}
    if len(found) > LARGEST:
        raise CheckpointError("has more layers than any network of this kind.")
    return len(found)


def _unet(state: State) -> Callable[[], nn.Module]:
    width, inputs = shape(state, "model.model.0.weight")[:2]
    outputs = shape(state, "model.model.3.weight")[1]
    deepest = max((name.count(".model.3") for name in state if name.startswith("model.model.1.")), default=0)
    norm = "batch" if "model.model.1.model.2.weight" in state else "instance"
    if inputs > 4 and norm == "instance":
        raise CheckpointError("holds BicycleGAN's generator with its code at the input alone, which is not supported.")
    # the innermost up convolution is `.model.3` as well, one step below the last level
    return lambda: UnetGenerator(inputs, outputs, 2 ** _bounded(deepest + 1, 5, 12), width, norm)


def _bounded(value: int, least: int, most: int) -> int:
    if not least <= value <= most:
        raise CheckpointError(f"describes a network of {value} levels; {least} to {most} are known.")
    return value


def _resnet(state: State) -> Callable[[], nn.Module]:
    width, inputs = shape(state, "model.1.weight")[:2]
    blocks = many(state, r"model\.(\d+)\.conv_block\.1\.weight")
    outputs = shape(state, f"model.{17 + blocks}.weight")[0]
    norm = "batch" if "model.2.weight" in state else "instance"
    dropout = "model.10.conv_block.1.weight" in state and "model.10.conv_block.5.weight" not in state
    return lambda: ResnetGenerator(inputs, outputs, blocks, width, norm, dropout)


def _bicycle(state: State) -> Callable[[], nn.Module]:
    width, inputs = shape(state, "model.down.0.weight")[:2]
    nz = shape(state, "model.submodule.down.1.weight")[1] - width
    outputs = shape(state, "model.up.1.weight")[1]
    levels = 1 + max(name.count("submodule") for name in state)
    size = 2 ** _bounded(levels, 5, 12)
    norm = "batch" if "model.submodule.down.2.weight" in state else "instance"
    return lambda: BicycleGenerator(inputs - nz, outputs, nz, size, width, norm)


def _bicycle_encoder(state: State) -> Callable[[], nn.Module]:
    width, inputs = shape(state, "conv.0.weight")[:2]
    nz, blocks = shape(state, "fc.0.weight", 2)[0], many(state, r"conv\.(\d+)\.shortcut\.1\.weight")
    norm = "batch" if "conv.1.conv.0.weight" in state else "instance"
    return lambda: BicycleEncoder(inputs, nz, width, norm, blocks)


def _patch(state: State, prefix: str = "model") -> tuple[int, int, int, str]:
    width, inputs = shape(state, f"{prefix}.0.weight")[:2]
    found = (re.fullmatch(rf"{prefix}\.(\d+)\.bias", name) for name in state)
    last = max((int(match[1]) for match in found if match and len(match[1]) < 5), default=0)
    norm = "batch" if f"{prefix}.3.weight" in state else "instance"
    return inputs, width, _bounded((last - 2) // 3, 1, 8), norm


def _multi(state: State) -> Callable[[], nn.Module]:
    inputs, width, layers, norm = _patch(state, "model_0")
    scales = many(state, r"model_(\d+)\.0\.weight")
    return lambda: MultiScalePatchGAN(inputs, width, layers, norm, scales)


def _plain_patch(state: State) -> Callable[[], nn.Module]:
    inputs, width, layers, norm = _patch(state)
    if norm == "batch" and "model.2.bias" in state:  # BicycleGAN's convolutions have a bias everywhere
        return lambda: MultiScalePatchGAN(inputs, width, layers, norm, 1)
    return lambda: PatchGAN(inputs, width, layers, norm)


def _pixel(state: State) -> Callable[[], nn.Module]:
    width, inputs = shape(state, "net.0.weight")[:2]
    return lambda: PixelGAN(inputs, width, "batch" if "net.3.weight" in state else "instance")


def _star(state: State) -> Callable[[], nn.Module]:
    width, channels, size, _ = shape(state, "main.0.weight")
    if size == 7:
        blocks = many(state, r"main\.(\d+)\.main\.0\.weight")
        return lambda: StarGANGenerator(channels - 3, width, blocks)
    domains, _, side, _ = shape(state, "conv2.weight")
    layers = _bounded(many(state, r"main\.(\d+)\.weight"), 1, 10)
    return lambda: StarGANDiscriminator(side * 2**layers, domains, width, layers)


def _rbdn(state: State) -> Callable[[], nn.Module]:
    width, inputs = shape(state, "conv1.conv.weight")[:2]
    outputs = shape(state, "deconv1.weight")[1]
    branches = _bounded(many(state, r"convB(\d+)_1\.conv\.weight"), 1, 8)
    return lambda: RBDN(inputs, outputs, width, branches)


def _spade(state: State) -> Callable[[], nn.Module]:
    labels = shape(state, "head_0.norm_0.mlp_shared.0.weight")[1]
    most = "up_4.conv_0.weight_orig" in state
    width = shape(state, "conv_img.weight")[1] * (2 if most else 1)
    upsampling = "most" if most else spade.upsampling_of(labels)
    if len(getattr(state.get("fc.weight"), "shape", ())) != 2:
        return lambda: SPADEGenerator(labels, width, upsampling)
    cells, nz = rosinality.shape_of(state, "fc.weight", 2)
    start = spade.start_of(cells // (16 * width))
    if start is None or cells % (16 * width) or max(start) > LARGEST or not 0 < nz <= 16 * LARGEST:
        raise CheckpointError(f"holds 'fc.weight' in the shape {(cells, nz)}, which no network of this kind has.")
    return lambda: SPADEGenerator(labels, width, upsampling, nz, start)


def _spade_discriminator(state: State) -> Callable[[], nn.Module]:
    width, inputs = shape(state, "discriminator_0.model0.0.weight")[:2]
    layers = _bounded(many(state, r"discriminator_0\.model(\d+)\.0\.0\.weight_orig") + 1, 2, 8)
    scales = many(state, r"discriminator_(\d+)\.model0\.0\.weight")
    return lambda: SPADEDiscriminator(inputs, width, layers, scales)


def _style_encoder(state: State) -> Callable[[], nn.Module]:
    width, nz = shape(state, "layer1.0.weight_orig")[0], shape(state, "fc_mu.weight", 2)[0]
    return lambda: StyleEncoder(width, nz)


def _set(state: State) -> Callable[[], nn.Module]:
    width, inputs = shape(state, "encoder_img.1.weight")[:2]
    outputs = shape(state, "decoder_img.7.weight")[0]
    if inputs != outputs:
        raise CheckpointError(f"holds InstaGAN's generator from {inputs} channels to {outputs}, not to as many.")
    blocks = many(state, r"encoder_img\.(\d+)\.conv_block\.1\.weight")
    return lambda: SetGenerator(inputs, outputs, blocks, width)


def _set_discriminator(state: State) -> Callable[[], nn.Module]:
    width, inputs = shape(state, "feature_img.0.module.weight_bar")[:2]
    return lambda: SetDiscriminator(inputs, width)


def _lostgans(state: State) -> Callable[[], nn.Module]:
    blocks = _bounded(many(state, r"res(\d+)\.conv1\.weight_orig"), 3, 7)
    first = shape(state, "res1.conv1.weight_orig")[1]
    channels = (first, *(shape(state, f"res{i}.conv1.weight_orig")[0] for i in range(1, blocks + 1)))
    classes, embedding = shape(state, "label_embedding.weight", 2)
    z_dim, refine = shape(state, "fc.weight_orig", 2)[1], "alpha1" in state
    mask_classes = shape(state, "alpha1", 3)[1] if refine else classes
    if mask_classes < classes:
        raise CheckpointError(f"holds masks of {mask_classes} classes for objects of {classes}.")
    return lambda: LostGANGenerator(classes, channels, refine, mask_classes, z_dim, embedding)


def _lostgans_discriminator(state: State) -> Callable[[], nn.Module]:
    classes, width = shape(state, "obD.l_y.weight_orig", 2)[0], shape(state, "obD.block1.conv1.weight_orig")[0]
    size = next((size for size, name in FINAL.items() if f"{name}.weight_orig" in state), None)
    if size is None:
        raise CheckpointError("holds LostGANs' discriminator of a size that is not known.")
    return lambda: LostGANDiscriminator(classes, size, width)


def _reed(state: State) -> Callable[[], nn.Module]:
    port = "netG.0.weight" in state
    first, reduced = ("netG.0.weight", "projection.0.weight") if port else ("draw.0.weight", "text.0.weight")
    (inputs, outputs), (nt, text_dim) = shape(state, first)[:2], shape(state, reduced, 2)
    if inputs <= nt or outputs < 8:
        raise CheckpointError(f"holds {first!r} from {inputs} to {outputs} channels, for a text of {nt} numbers.")
    width, nz = outputs // 8, inputs - nt
    if port:
        return lambda: ReedPortGenerator(width, text_dim, nt, nz)
    large = many(state, r"draw\.(\d+)\.branch\.0\.weight") == 4
    return lambda: ReedGenerator(width, text_dim, nt, nz, large)


def _reed_discriminator(state: State) -> Callable[[], nn.Module]:
    if "netD_1.0.weight" in state:
        width, (nt, text_dim) = shape(state, "netD_1.0.weight")[0], shape(state, "projector.projection.0.weight", 2)
        return lambda: ReedPortDiscriminator(width, text_dim, nt)
    width, (nt, text_dim) = shape(state, "look.0.weight")[0], shape(state, "text.0.weight", 2)
    return lambda: ReedDiscriminator(width, text_dim, nt, plain="text.1.weight" not in state)


def _tower(state: State) -> dict[str, int]:
    width, features = shape(state, "text.enter.weight", 2)
    return {"features": features, "width": width, "text_depth": many(state, r"text\.layers\.(\d+)\.to_qkv\.weight")}


def _gigagan(state: State) -> Callable[[], nn.Module]:
    tower, levels = _tower(state), _bounded(many(state, r"levels\.(\d+)\.to_rgb\.weight"), 1, 10)
    w_dim, joined = shape(state, "mapping.0.weight", 2)
    if joined <= tower["width"]:
        raise CheckpointError("holds a mapping network without room for noise.")
    banks = [shape(state, f"levels.{k}.convs.0.weight", 5) for k in range(levels)]
    return lambda: GigaGANGenerator(
        **tower,
        z_dim=joined - tower["width"],
        w_dim=w_dim,
        channels=[bank[1] for bank in banks],
        kernels=[bank[0] for bank in banks],
        blocks=[many(state, rf"levels\.{k}\.convs\.(\d+)\.weight") for k in range(levels)],
        attention=[many(state, rf"levels\.{k}\.attention\.(\d+)\.itself\.to_v\.weight") for k in range(levels)],
        mapping_depth=many(state, r"mapping\.(\d+)\.weight"),
    )


def _gigagan_discriminator(state: State) -> Callable[[], nn.Module]:
    levels = _bounded(many(state, r"from_rgb\.(\d+)\.weight"), 1, 10)
    return lambda: GigaGANDiscriminator(
        **_tower(state),
        channels=[shape(state, f"from_rgb.{k}.weight")[0] for k in range(levels)],
        blocks=[many(state, rf"blocks\.{k}\.convs\.(\d+)\.weight") for k in range(levels)],
        attention=[many(state, rf"blocks\.{k}\.attention\.(\d+)\.itself\.to_v\.weight") for k in range(levels)],
        head=shape(state, "heads.0.layers.0.weight", 5)[1],
    )


def _vision_heads(state: State) -> Callable[[], nn.Module]:
    depths = _bounded(many(state, r"projection(\d+)"), 1, 16)
    shapes = [shape(state, f"projection{i}", 2) for i in range(depths)]
    width = shape(state, "heads.0.layers.0.affine.weight", 2)[1]
    return lambda: VisionHeads([channels for _, channels in shapes], width, shapes[0][0])


def _aura(state: State) -> Callable[[], nn.Module]:
    width, (w_dim, z_dim) = shape(state, "final_to_rgb.weight")[1], shape(state, "style_network.net.0.weight", 2)
    steps = _bounded(many(state, r"ups\.(\d+)\.1\.0\.conv\.weight"), 1, 8)
    ups = [shape(state, f"ups.{k}.1.0.conv.weight")[1] for k in reversed(range(steps))]
    downs = [shape(state, f"downs.{k}.1.1.weight")[0] for k in range(many(state, r"downs\.(\d+)\.1\.1\.weight"))]
    if not len(downs) <= steps or any(channels % width for channels in ups + downs):
        raise CheckpointError("holds an up-sampler whose channels are no multiples of its last ones.")
    depths = [many(state, rf"ups\.{k}\.1\.1\.layers\.(\d+)\.0\.to_out\.weight") for k in range(steps)]
    heads = shape(state, "mid_attn.layers.0.0.to_qkv.weight")[0] // (3 * HEAD)
    return lambda: AuraUpsampler(
        width,
        [channels // width for channels in ups],
        [channels // width for channels in downs],
        depths[::-1],
        blocks=many(state, r"ups\.0\.0\.(\d+)\.block1\.proj\.weights"),
        kernels=shape(state, "mid_block1.block1.proj.weights", 5)[0],
        heads=heads,
        z_dim=z_dim,
        w_dim=w_dim,
        depth=many(state, r"style_network\.net\.(\d+)\.weight"),
        middle=many(state, r"mid_attn\.layers\.(\d+)\.0\.to_out\.weight"),
    )


SIGNS: Mapping[str, Callable[[State], Callable[[], nn.Module]]] = {  # in turn: the first name that a file has
    "model.model.0.weight": _unet,
    "model.down.0.weight": _bicycle,
    "fcVar.0.weight": _bicycle_encoder,
    "model_0.0.weight": _multi,
    "model.0.weight": _plain_patch,
    "model.1.weight": _resnet,
    "net.0.weight": _pixel,
    "main.0.weight": _star,
    "conv1.conv.weight": _rbdn,
    "head_0.norm_0.mlp_gamma.weight": _spade,
    "discriminator_0.model0.0.weight": _spade_discriminator,
    "fc_mu.weight": _style_encoder,
    "encoder_img.1.weight": _set,
    "feature_img.0.module.weight_bar": _set_discriminator,
    "mask_regress.fc.weight_orig": _lostgans,
    "obD.l_y.weight_orig": _lostgans_discriminator,
    "constant": _gigagan,
    "from_rgb.0.weight": _gigagan_discriminator,
    "projection0": _vision_heads,
    "style_to_conv_modulations.weight": _aura,
    "draw.0.weight": _reed,
    "netG.0.weight": _reed,
    "look.0.weight": _reed_discriminator,
    "netD_1.0.weight": _reed_discriminator,
}
