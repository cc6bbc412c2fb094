"""Files of encoders: e4e's, HyperStyle's W-encoder, and the project's own; read without executing anything.

    loaded = load("e4e_ffhq_encode.pt")            # the encoder, and the average w its codes are relative to
    ws = encode(loaded, images)                    # absolute W+
    generator = load_decoder(loaded)               # published files have their StyleGAN2 inside

A published file is the container of pSp (`stylegan2.checkpoints.pixel2style`): `state_dict` with
`encoder.*` and `decoder.*`, `latent_avg` and `opts`.  Which encoder it holds is told from the names of
its tensors: `styles.N` is a head a row (e4e), a single `linear` is a W-encoder (arXiv 2111.15666,
section 3).  Whatever is wrong with a file is a CheckpointError of one sentence.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from math import log2
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from encoders.e4e import Encoder4Editing, EncoderConfig, WEncoder
from encoders.irse import INPUT_SIZE
from stylegan2 import checkpoints
from stylegan2.checkpoints import layout, native, pixel2style, rosinality
from stylegan2.checkpoints.sniff import sniff
from stylegan2.checkpoints.values import Damaged, StoredTensor, printable
from stylegan2.errors import CheckpointError
from stylegan2.generator import Generator

Kind = Literal["e4e", "w"]
Encoder = Encoder4Editing | WEncoder

NETWORKS: Mapping[str, type[Encoder4Editing] | type[WEncoder]] = {"e4e": Encoder4Editing, "w": WEncoder}
TITLES = {"e4e": "an e4e encoder (a head for each row)", "w": "a W-encoder (one code for all rows)"}
VERSION = "1"


@dataclass(frozen=True, eq=False)
class LoadedEncoder:
    """An encoder with what its file says about it.

    encoder: float32, on the CPU, eval mode, frozen.  latent_avg: (num_ws, w_dim), to be added to its
    codes; zeros where the file says that codes are absolute, None where it says nothing.
    """

    encoder: Encoder
    latent_avg: Tensor | None
    kind: Kind
    path: Path
    has_decoder: bool = False


def load(path: str | Path, *, kind: Kind | None = None, num_ws: int | None = None) -> LoadedEncoder:
    """Read an encoder from a published file or from one written by `save`.

    kind: the one that is needed, any by default.  num_ws: rows of ws that are needed; a W-encoder's is
    otherwise taken from latent_avg, decoder or options of the file, and is 18 where none of them tells.
    """
    path = Path(path)
    with faults_of(path):
        is_native = path.is_file() and sniff(path) == "safetensors"
    container = None if is_native else checkpoints.read_container(path)
    with faults_of(path):
        loaded = _native(path) if is_native else from_container(container, path, num_ws)
        if kind is not None and loaded.kind != kind:
            raise CheckpointError(f"holds {TITLES[loaded.kind]}, where {TITLES[kind]} is needed.")
        if num_ws is not None and loaded.encoder.config.num_ws != num_ws:
            raise CheckpointError(f"holds an encoder for {loaded.encoder.config.num_ws} rows, not {num_ws}.")
    return loaded


def load_decoder(loaded: LoadedEncoder) -> Generator:
    """The generator that a published file has beside its encoder."""
    if not loaded.has_decoder:
        raise CheckpointError(f"{loaded.path} holds an encoder without a decoder: load a generator of your own.")
    return checkpoints.load(loaded.path)


@torch.no_grad()
def encode(loaded: LoadedEncoder, images: Tensor, w_avg: Tensor | None = None) -> Tensor:
    """Images (B, 3, S, S), RGB in [-1, 1], area-resized to 256 -> ws (B, num_ws, w_dim), absolute, in W+ or W.

    w_avg: the generator's (w_dim,), used only where the file stores no average of its own.
    """
    if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] != images.shape[3]:
        raise ValueError(f"images must be (B, 3, S, S), got {tuple(images.shape)}")
    average = w_avg if loaded.latent_avg is None else loaded.latent_avg
    if average is None:
        raise CheckpointError(f"{loaded.path} stores no average w, without which its codes mean nothing: give w_avg.")
    parameter = next(loaded.encoder.parameters())
    images = F.interpolate(images.to(parameter), size=(INPUT_SIZE, INPUT_SIZE), mode="area")  # (B, 3, 256, 256)
    codes = loaded.encoder(images)  # (B, num_ws, w_dim)
    return codes + average.to(codes)


def save(
    encoder: Encoder, path: str | Path, latent_avg: Tensor | None = None, dtype: torch.dtype = torch.float32
) -> None:
    """Write an encoder and the average (num_ws, w_dim) its codes are relative to as safetensors, atomically."""
    config = encoder.config
    if latent_avg is not None and tuple(latent_avg.shape) != (config.num_ws, config.w_dim):
        raise ValueError(f"latent_avg must be ({config.num_ws}, {config.w_dim}), got {tuple(latent_avg.shape)}")
    source = {name: tensor for name, tensor in encoder.state_dict().items() if not is_counter(name)}
    if latent_avg is not None:
        source["latent_avg"] = latent_avg
    write_own(Path(path), source, f"encoder-{encoder.kind}", config, dtype)


# ---- behind the entry points, and those of `hyperstyle.checkpoints`


@contextmanager
def faults_of(path: Path) -> Iterator[None]:
    """Every fault of the file as one sentence that begins with its name."""
    try:
        yield
    except CheckpointError as error:
        text = printable(str(error))  # it may quote names from the file
        raise CheckpointError(f"{path} {text}") from None
    except Damaged as error:
        raise CheckpointError(f"{path} is damaged ({error}).") from None
    except (OSError, MemoryError) as error:
        raise CheckpointError(f"{path} cannot be read ({error or 'not enough memory'}).") from None


def from_container(container: Any, path: Path, num_ws: int | None = None) -> LoadedEncoder:
    """The content of a published file (tensors, or `StoredTensor`s that are read here) -> its encoder."""
    if not isinstance(container, Mapping) or "state_dict" not in container:
        raise CheckpointError("holds no encoder: it has no 'state_dict'.")
    state = pixel2style.part(container, "encoder")
    kind = kind_of(state, container.get("opts"))
    named = {f"encoder.{name}": value for name, value in state.items()}  # as in the file, for its sentences
    head = "encoder.styles.0.linear.weight" if kind == "e4e" else "encoder.linear.weight"
    rows = head_rows(state) if kind == "e4e" else num_ws or repeated_rows(container)
    width = rosinality.shape_of(named, "encoder.input_layer.0.weight", 4)[0]
    try:
        config = EncoderConfig(rows, width, rosinality.shape_of(named, head, 2)[0])
    except ValueError as error:
        raise CheckpointError(f"describes an encoder that is not supported ({error}).") from None
    encoder = assemble(kind, config, named, "encoder.")
    has_decoder = any(name.startswith("decoder.") for name in rosinality.without_module_prefix(container["state_dict"]))
    return LoadedEncoder(encoder, average_of(container, rows, config.w_dim), kind, path, has_decoder)


def kind_of(state: Mapping[str, Any], opts: Any) -> Kind:
    """'e4e' or 'w' from the names of an encoder's tensors.

    pSp's encoder has the names of e4e's although its rows are not offsets: only the options tell.
    """
    if isinstance(opts, Mapping) and opts.get("encoder_type") == "GradualStyleEncoder":
        raise CheckpointError("holds an encoder of pSp, which is not supported; e4e and W-encoders are.")
    if any(name.startswith("styles.") for name in state):
        return "e4e"
    if "linear.weight" in state:
        return "w"
    raise CheckpointError(f"holds an encoder of a kind not known (with {min(state)[:60]!r}, without a head).")


def head_rows(state: Mapping[str, Any]) -> int:
    """Rows of an e4e encoder: one more than the highest number of a head."""
    found = [re.match(r"styles\.(\d{1,4})\.", name) for name in state]
    return 1 + max((int(match[1]) for match in found if match), default=0)


def repeated_rows(container: Mapping[str, Any]) -> int:
    """Rows a W-encoder repeats its code for: as many as latent_avg has, or as the decoder or the options ask for."""
    average, opts = container.get("latent_avg"), container.get("opts")
    if isinstance(average, StoredTensor | Tensor) and len(average.shape) == 2 and average.shape[0] > 1:
        return average.shape[0]
    state = rosinality.without_module_prefix(container["state_dict"])
    blocks = rosinality.count(state, "decoder.to_rgbs.{}.conv.weight")  # one a resolution from 8 on
    if blocks:
        return 2 * blocks + 2
    for key in ("output_size", "stylegan_size"):
        if isinstance(opts, Mapping) and type(opts.get(key)) is int:
            return 2 * int(log2(layout.check_resolution(opts[key]))) - 2
    return EncoderConfig().num_ws


def average_of(container: Mapping[str, Any], num_ws: int, w_dim: int) -> Tensor | None:
    """latent_avg as (num_ws, w_dim): stored as one row or as all of them.  See `LoadedEncoder` for zeros and None."""
    opts = container.get("opts")
    if isinstance(opts, Mapping) and opts.get("start_from_latent_avg") is False:
        return torch.zeros(num_ws, w_dim)
    if container.get("latent_avg") is None:
        return None
    average = layout.tensors(container, {"latent_avg": "latent_avg"})["latent_avg"]
    shape = tuple(average.shape)
    if shape not in {(w_dim,), (1, w_dim), (num_ws, w_dim)}:
        raise CheckpointError(f"holds 'latent_avg' in the shape {shape}; {(num_ws, w_dim)} or one row of it is needed.")
    if not bool(torch.isfinite(average).all()):
        raise CheckpointError("holds numbers that are not finite in 'latent_avg'.")
    return average.expand(num_ws, -1).contiguous()


def assemble(kind: Kind, config: EncoderConfig, state: Mapping[str, Any], prefix: str = "") -> Encoder:
    """A frozen network that takes over the tensors of `state`, whose names have the prefix."""
    tensors = fitting(layout.shapes(NETWORKS[kind], config), state, TITLES[kind], prefix)
    with torch.device("meta"):
        network = NETWORKS[kind](config)
    network.load_state_dict(tensors, strict=True, assign=True)
    return network.eval().requires_grad_(False)


def fitting(
    expected: Mapping[str, tuple[int, ...]], state: Mapping[str, Any], title: str, prefix: str = ""
) -> dict[str, Tensor]:
    """The tensors of `state`, whose names have the prefix, for those of a network: all of them, and no other.

    Only the counters of batch norm may be missing; they have no part in inference.
    """
    names = {name: f"{prefix}{name}" for name in expected}
    unexpected = sorted(set(state) - set(names.values()))
    if unexpected:
        raise CheckpointError(
            f"does not fit {title}: it has {unexpected[0][:80]!r}"
            + (f" and {len(unexpected) - 1} more tensors too many." if len(unexpected) > 1 else " too many.")
        )
    needed = {name: shape for name, shape in expected.items() if not is_counter(name)}
    tensors = layout.conform(layout.tensors(state, {name: names[name] for name in needed}), needed, names)
    return tensors | {name: torch.zeros((), dtype=torch.long) for name in expected if is_counter(name)}


def is_counter(name: str) -> bool:
    return name.endswith(".num_batches_tracked")


# ---- own files


def write_own(path: Path, source: Mapping[str, Tensor], family: str, config: Any, dtype: torch.dtype) -> None:
    """Write the tensors of a network, rounded to `dtype`, with its configuration (a dataclass) and fingerprints."""
    if dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise ValueError(f"a checkpoint is stored as float32, float16 or bfloat16, not {dtype}")
    state = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in source.items()}
    overflow = [name for name, tensor in state.items() if not bool(torch.isfinite(tensor).all())]
    if overflow:
        raise CheckpointError(f"{path} was not written: {overflow[0]!r} does not fit {str(dtype)[6:]}.")
    metadata = {
        "format": "wplus",
        "version": VERSION,
        "family": family,
        "config": json.dumps(asdict(config)),
        "sha256": layout.tensors_sha256(source),
        "stored_sha256": layout.tensors_sha256(state),
    }
    native.write(path, state, metadata)


def read_own(path: Path, what: str, kinds: Iterable[str]) -> tuple[str, dict[str, Tensor], str]:
    """A file of `write_own` -> (kind, tensors in float32, its configuration as JSON).

    what: 'an encoder' for the families 'encoder-KIND', and so on.
    """
    stored, metadata = native.read(path)
    if metadata.get("format") != "wplus" or "family" not in metadata:
        raise CheckpointError(f"is a safetensors file, but not {what} saved by this project.")
    family, version, noun = metadata["family"], metadata.get("version", ""), what.split()[-1]
    if not family.startswith(f"{noun}-"):
        raise CheckpointError(f"belongs to the family {family[:40]!r}: that is no {noun}.")
    kind = family.removeprefix(f"{noun}-")
    if kind not in kinds or version != VERSION:
        raise CheckpointError(f"holds the {noun} {kind[:40]!r} in version {version[:20]!r}, which is not known.")
    state = layout.tensors(stored, {name: name for name in stored})
    if metadata.get("stored_sha256") != layout.tensors_sha256(state):
        raise CheckpointError("is damaged: its tensors do not match the sha256 in its description.")
    return kind, state, metadata.get("config", "")


def _native(path: Path) -> LoadedEncoder:
    kind, state, description = read_own(path, "an encoder", NETWORKS)
    config = _config_from_json(description)
    average = average_of({"latent_avg": state.pop("latent_avg", None)}, config.num_ws, config.w_dim)
    return LoadedEncoder(assemble(kind, config, state), average, kind, path)


def _config_from_json(text: str) -> EncoderConfig:
    try:
        values = json.loads(text)
        if not isinstance(values, dict) or any(type(value) is not int for value in values.values()):
            raise ValueError("whole numbers are needed")
        return EncoderConfig(**values)
    except (ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(f"describes its network in a way not understood ({str(error)[:120]}).") from None
