"""The container of pSp, e4e, ReStyle and HyperStyle: one state dict with prefixes, and latent_avg.

`state_dict` holds `decoder.*` (names as in `rosinality`) beside `encoder.*` or `hypernet.*`;
`latent_avg` is the average w, mostly one row a style; `opts` holds plain training options.  Here the
decoder is read; encoders and hypernetworks take their own prefix with `part`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stylegan2.checkpoints import rosinality
from stylegan2.errors import CheckpointError
from stylegan2.networks import StyleGAN2


def part(container: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The sub-dictionary of `state_dict` under 'decoder', 'encoder' or 'hypernet', the prefix removed."""
    state = container.get("state_dict")
    if not isinstance(state, Mapping):
        raise CheckpointError("holds something other than a state dict under 'state_dict'.")
    state = rosinality.without_module_prefix(state)
    found = {name.removeprefix(f"{prefix}."): value for name, value in state.items() if name.startswith(f"{prefix}.")}
    if not found:
        raise CheckpointError(f"has no {prefix!r} in its state dict.")
    return found


def generator(container: Mapping[str, Any]) -> StyleGAN2:
    """The container -> its decoder."""
    return rosinality.generator(part(container, "decoder"), container.get("latent_avg"))
