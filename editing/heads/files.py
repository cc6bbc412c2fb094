"""Files of the heads that know places: float16 networks in one safetensors file, with what they were made for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from stylegan2 import weights
from stylegan2.errors import UsageError, WplusError
from stylegan2.files import replacing


def write(path: Path, facts: Mapping[str, Any], networks: Mapping[str, nn.Module], **more: Tensor) -> None:
    """Networks under their names, further tensors as they are, and the facts that `checked` compares."""
    parts = {part: weights.half(network) for part, network in networks.items()}
    tensors = {f"{part}.{name}": tensor for part, state in parts.items() for name, tensor in state.items()}
    with replacing(path) as part:
        save_file(tensors | more, part, metadata={"heads": json.dumps(facts)})


def checked(path: Path, what: str, facts: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a file with these facts.  UsageError if they are others, WplusError if it cannot be read."""
    try:
        with safe_open(path, "pt") as file:
            found = json.loads((file.metadata() or {}).get("heads", "{}"))
    except (OSError, SafetensorError) as error:
        raise WplusError(f"{path} cannot be read: {error}") from None
    except (TypeError, ValueError) as error:
        raise UsageError(f"{path} holds no heads: {error}") from None
    for name, value in facts.items():
        if not isinstance(found, Mapping) or found.get(name) != value:
            raise UsageError(f"{path} holds no {what} that fits this package: its {name} is another.")
    return weights.read(path, what)


def facts(path: Path) -> Mapping[str, Any]:
    """What `write` was told, of a file that `checked` has read."""
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["heads"])


def sha256(path: Path) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
