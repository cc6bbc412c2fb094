"""Read MobileStyleGAN out of its OpenVINO IR (version 10): graph in XML, constants in one binary.

The IR is what the `random-face` wheel carries.  Parameters that survived the export keep their
names (`m.layers.3.conv1.conv.modulation.weight`); demodulated weights and noise maps were folded
into constants with generated names and are found by walking the graph from a convolution to the
Add whose constant is the named bias.  The style gain constant of each convolution (one over the
square root of its fan-in) is folded into the affine layer here, so the network needs none.

Everything here is a pure function of bytes; nothing in the file is ever executed.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass

import numpy as np

from stylegan2 import w_statistics
from stylegan2.errors import CheckpointError

_DTYPES = {"f32": np.float32, "f16": np.float16, "i64": np.int64, "i32": np.int32}


@dataclass(frozen=True)
class Node:
    """One operation: what it is, where its inputs come from and who reads its result (node ids)."""

    id: str
    name: str
    op: str
    inputs: tuple[str, ...]
    readers: tuple[str, ...]
    constant: np.ndarray | None
    attributes: dict[str, str]


def parse(xml: bytes, binary: bytes) -> dict[str, Node]:
    """IR bytes -> nodes by id, in file order.  Raises CheckpointError on anything but a sound IR."""
    if b"<!DOCTYPE" in xml or b"<!ENTITY" in xml or b"\0" in xml:  # a zero byte: UTF-16, which would hide them
        raise CheckpointError("This OpenVINO file declares XML entities, which no exporter writes; refused.")
    try:
        root = ElementTree.fromstring(xml)
    except (ElementTree.ParseError, LookupError, ValueError) as error:  # the last two: an unknown encoding
        raise CheckpointError(f"This OpenVINO file is not readable XML ({error}).") from None
    if root.tag != "net" or root.find("layers") is None or root.find("edges") is None:
        raise CheckpointError("This XML file is not an OpenVINO network.")
    try:
        return _nodes(root, binary)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        raise CheckpointError("This OpenVINO file is damaged: a layer or an edge of its graph is incomplete.") from None


def _nodes(root: ElementTree.Element, binary: bytes) -> dict[str, Node]:
    inputs: dict[str, dict[int, str]] = {}
    readers: dict[str, list[str]] = {}
    for edge in root.find("edges"):
        source, target = edge.get("from-layer"), edge.get("to-layer")
        inputs.setdefault(target, {})[int(edge.get("to-port"))] = source
        readers.setdefault(source, []).append(target)
    return {
        layer.get("id"): Node(
            id=layer.get("id"),
            name=layer.get("name"),
            op=layer.get("type"),
            inputs=tuple(inputs.get(layer.get("id"), {})[port] for port in sorted(inputs.get(layer.get("id"), {}))),
            readers=tuple(readers.get(layer.get("id"), ())),
            constant=_constant(layer, binary) if layer.get("type") == "Const" else None,
            attributes=dict(layer.find("data").attrib) if layer.find("data") is not None else {},
        )
        for layer in root.find("layers")
    }


def _constant(layer: ElementTree.Element, binary: bytes) -> np.ndarray:
    data = layer.find("data")
    dtype = _DTYPES.get(data.get("element_type"))
    if dtype is None:
        raise CheckpointError(f"Constant {layer.get('name')} has the unsupported type {data.get('element_type')}.")
    shape = tuple(int(n) for n in data.get("shape").split(",") if n.strip())
    offset, size = int(data.get("offset")), int(data.get("size"))
    sound = offset >= 0 and offset + size <= len(binary) and min(shape, default=0) >= 0
    if not sound or size != math.prod(shape) * np.dtype(dtype).itemsize:
        raise CheckpointError("The .bin beside this OpenVINO .xml is truncated or belongs to another network.")
    return np.frombuffer(binary, dtype, count=size // np.dtype(dtype).itemsize, offset=offset).reshape(shape)


def convert(
    mapping_xml: bytes, mapping_bin: bytes, synthesis_xml: bytes, synthesis_bin: bytes
) -> dict[str, np.ndarray]:
    """The four files of the wheel -> state of `stylegan2.mobile.MobileStyleGAN`, float32.

    The IR does not carry w_avg; it is StyleGAN2-FFHQ's, from the shipped statistics of W.  Raises
    CheckpointError where a sound graph is not MobileStyleGAN's.
    """
    mapping, synthesis = parse(mapping_xml, mapping_bin), parse(synthesis_xml, synthesis_bin)
    try:
        state = {**mapping_state(mapping), **synthesis_state(synthesis)}
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, RecursionError):
        raise CheckpointError("This OpenVINO graph is not MobileStyleGAN's: a part of it is missing.") from None
    return {**state, "w_avg": w_statistics.load().mean.numpy()}


def mapping_state(nodes: dict[str, Node]) -> dict[str, np.ndarray]:
    """Mapping network graph -> `mapping.<i>.weight` (out, in) and `mapping.<i>.bias` (out,)."""
    state = {}
    for index, matmul in enumerate(node for node in nodes.values() if node.op == "MatMul"):
        weight = nodes[matmul.inputs[1]].constant
        bias = nodes[_reader(nodes, matmul, "Add").inputs[1]]  # Reshape(constant)
        state[f"mapping.{index}.weight"] = weight if matmul.attributes.get("transpose_b") == "true" else weight.T
        state[f"mapping.{index}.bias"] = _source_constant(nodes, bias).reshape(-1)
    return _float32(state)


def synthesis_state(nodes: dict[str, Node]) -> dict[str, np.ndarray]:
    """Synthesis graph -> state with the names of `MobileStyleGAN`."""
    state: dict[str, np.ndarray] = {}
    for node in nodes.values():
        if node.op == "Const" and node.name.startswith("m."):
            state[_short(node.name)] = node.constant
    for node in nodes.values():
        if node.op == "Convolution":
            _collect_convolution(nodes, node, state)
        elif node.op == "Const" and node.name.endswith(".modulation.bias"):
            gain = _style_gain(nodes, node)
            for name in (_short(node.name), _short(node.name).replace(".bias", ".weight")):
                state[name] = state[name] * np.float32(gain)
    for name, value in state.items():
        if name.endswith("bias"):
            state[name] = value.reshape(-1)
        elif name.endswith(".pointwise") or name == "layers.6.to_img.weight":
            state[name] = value.reshape(value.shape[:2])
        elif name.endswith(".depthwise"):
            state[name] = value.reshape(value.shape[0], 1, 3, 3)
    return _float32(_band_major(state))


def _band_major(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Reorder every convolution's outputs that feed a Haar transform.

    The published order is C low-band channels and then, channel by channel, three details; ours is
    low band, LH, HL, HH with C channels each, which the inverse transform can read contiguously.
    """
    last = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("layers."))
    feeds = {f"layers.{index}.conv2": f"layers.{index + 1}.up" for index in range(last - 1)}
    groups = [("conv1.weight", "conv1.bias", "layers.0.up.modulation.weight", "layers.0.up.modulation.bias")]
    groups += [
        (f"{a}.pointwise", f"{a}.bias", f"{b}.modulation.weight", f"{b}.modulation.bias") for a, b in feeds.items()
    ]
    groups += [(f"layers.{last - 1}.to_img.weight", f"layers.{last - 1}.to_img.bias")]
    for names in groups:
        channels = len(state[names[0]])
        details = np.arange(channels // 4, channels).reshape(-1, 3).T.reshape(-1)
        order = np.concatenate([np.arange(channels // 4), details])
        for name in names:
            state[name] = state[name][order]
    return state


def _collect_convolution(nodes: dict[str, Node], conv: Node, state: dict[str, np.ndarray]) -> None:
    """A dense convolution followed by Add(noise), Add(named bias): store its weight and noise."""
    weight = nodes[conv.inputs[1]]
    if weight.name.startswith("m."):
        return  # to_img: already stored under its own name
    add_noise = _reader(nodes, conv, "Add")
    add_bias = _reader(nodes, add_noise, "Add")
    bias = nodes[add_bias.inputs[1]]
    if not bias.name.endswith(".bias"):
        raise CheckpointError(f"This is not a MobileStyleGAN graph: no named bias after {conv.name}.")
    layer = _short(bias.name).removesuffix(".bias")
    state[f"{layer}.{'weight' if weight.constant.shape[-1] == 3 else 'pointwise'}"] = weight.constant
    state[f"{layer}.noise"] = nodes[add_noise.inputs[1]].constant


def _style_gain(nodes: dict[str, Node], bias: Node) -> float:
    """The scalar that multiplies this style after its affine layer (1 if there is none)."""
    reshape = _reader(nodes, _reader(nodes, bias, "Add"), "Reshape")
    multiply = _reader(nodes, reshape, "Multiply")
    factors = [nodes[i].constant for i in multiply.inputs if nodes[i].op == "Const"]
    return float(factors[0].reshape(-1)[0]) if factors and factors[0].size == 1 else 1.0


def _reader(nodes: dict[str, Node], node: Node, op: str) -> Node:
    """The operation of kind `op` that reads this node's result."""
    for reader in node.readers:
        if nodes[reader].op == op:
            return nodes[reader]
    raise CheckpointError(f"This is not a MobileStyleGAN graph: no {op} after {node.name}.")


def _source_constant(nodes: dict[str, Node], node: Node) -> np.ndarray:
    return node.constant if node.op == "Const" else _source_constant(nodes, nodes[node.inputs[0]])


def _short(name: str) -> str:
    return (
        name.removeprefix("m.")
        .replace("input.input", "input")
        .replace(".conv.modulation", ".modulation")
        .replace(".conv.weight_dw", ".depthwise")
        .replace(".to_img.conv.weight", ".to_img.weight")
    )


def _float32(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: np.array(value, dtype=np.float32, order="C") for name, value in sorted(state.items())}
