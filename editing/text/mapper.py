"""From what a sentence asks for to a change of W+: StyleCLIP's latent mapper (arXiv 2103.17249, sect. 5), no CLIP.

    mapper = load()
    ws = mapper(inversion.ws, {"younger": 0.8, "red_hair": 1.0})

A perceptron on the view of a code (see `editing.heads.response`) answers with amounts of actions: edits of the
catalogue and partial regressions, so that whatever is asked the code stays where faces are.  It was taught what the
judges would say: what is named moves by what was asked, everything else stays, who somebody is above all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

from editing.heads import files
from editing.heads.actions import Actions, moved
from editing.heads.response import Whitening
from editing.judges import population
from editing.judges.judge import NAMES
from editing.text import poles as known
from stylegan2 import console, weights
from stylegan2.errors import UsageError

FILE = Path(__file__).with_name("data") / "mapper.safetensors"
WIDTH = 384
FARTHEST = 2.6  # standard deviations that one judge can be asked to move
FACTS = {"format": "wplus-text-1", "judges": list(NAMES)}


def perceptron(inputs: int, outputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, outputs)
    )


class Network(nn.Module):
    """x (B, 3 * COMPONENTS), the change of every judge (B, J) in standard deviations and which are named (B, J)
    -> amounts (B, K), between the limits; exactly none where nothing is named."""

    def __init__(self, seen: int, actions: int, judges: int = len(NAMES), width: int = WIDTH) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(seen + 2 * judges, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, actions),
        )
        nn.init.zeros_(self.net[-1].weight)
        nn.init.zeros_(self.net[-1].bias)
        self.register_buffer("limits", torch.ones(actions, 2))

    def forward(self, x: Tensor, change: Tensor, named: Tensor) -> Tensor:
        nothing = torch.zeros_like(change)
        out = self.net(torch.cat([x, change, named], 1)) - self.net(torch.cat([x, nothing, nothing], 1))
        out = torch.tanh(out)
        return torch.where(out > 0, out * self.limits[:, 1], -out * self.limits[:, 0])


class Guess(nn.Module):
    """x (B, 3 * COMPONENTS) -> what the judges would say (B, J), in standard deviations: for what is to become so."""

    def __init__(self, seen: int, judges: int = len(NAMES), width: int = 256) -> None:
        super().__init__()
        self.skip = nn.Linear(seen, judges)
        self.net = perceptron(seen, judges, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.skip(x) + self.net(x)


@dataclass(frozen=True)
class Mapper:
    """All that an edit by text needs beside the generator."""

    whitening: Whitening
    actions: Actions
    network: Network
    guess: Guess
    sha256: str = ""

    @torch.no_grad()
    def amounts(self, ws: Tensor, wants: Mapping[str, float], age: float | None = None) -> Tensor:
        """ws (1, num_ws, w_dim), poles and how much of each -> amounts of the actions (1, K).  age: years that the face
        is to look.  UsageError for codes of another shape and for poles that there are not."""
        rows, wide = self.actions.vectors.shape[1:]
        if ws.shape[1] < rows or ws.shape[2] != wide:
            raise UsageError(f"Text edits codes of {rows} rows or more of {wide} numbers, as FFHQ's, not this one.")
        x = self.whitening.view(ws.float().cpu())
        return self.network(x, *wish(self.guess(x), wants, age))

    def __call__(
        self, ws: Tensor, wants: Mapping[str, float], strength: float = 1.0, age: float | None = None
    ) -> Tensor:
        """ws -> a new ws.  strength: times what the mapper asks for; 0 is the identity."""
        return moved(ws, strength * self.amounts(ws, wants, age).to(ws), self.actions.vectors)


def wish(now: Tensor, wants: Mapping[str, float], age: float | None = None) -> tuple[Tensor, Tensor]:
    """What the judges say now (B, J), in deviations -> the change of each, and which are named, both (B, J)."""
    change, named = torch.zeros_like(now), torch.zeros_like(now)
    for name, amount in wants.items():
        pole = checked(name)
        for judge, deviations in pole.wants.items():
            change[:, NAMES.index(judge)] += amount * deviations
            named[:, NAMES.index(judge)] = 1
        for judge, value in pole.level.items():
            change[:, NAMES.index(judge)] = amount * (standard(judge, value) - now[:, NAMES.index(judge)])
            named[:, NAMES.index(judge)] = 1
    if age is not None:
        change[:, NAMES.index("age")] = standard("age", age) - now[:, NAMES.index("age")]
        named[:, NAMES.index("age")] = 1
    return change.clamp(-FARTHEST, FARTHEST), named


def checked(name: str) -> known.Pole:
    """The pole of this name.  UsageError if there is none."""
    if name not in known.load():
        raise UsageError(console.unknown("things to ask for", name, known.load()))
    return known.load()[name]


def standard(judge: str, value: float) -> float:
    mean, deviation = population.load()[judge]
    return (value - mean) / deviation


def along(names: Sequence[str]) -> frozenset[str]:
    """Judges that may come along with these poles."""
    poles = [known.load()[name] for name in names]
    named = {judge for pole in poles for judge in pole.judges}
    return frozenset().union(*(pole.along for pole in poles)) - named


def save(mapper: Mapper, path: Path) -> None:
    facts = FACTS | {"actions": list(mapper.actions.names)}
    networks = {"whitening": mapper.whitening, "network": mapper.network, "guess": mapper.guess}
    files.write(path, facts, networks, vectors=mapper.actions.vectors.half(), limits=mapper.actions.limits)


def read(path: Path) -> Mapper:
    """UsageError or CheckpointError if it is not a mapper's file."""
    tensors = files.checked(path, "mapper of text", FACTS)
    names = files.facts(path)["actions"]
    with weights.described(path, "a mapper of text"):
        parts: dict[str, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            part, _, rest = name.partition(".")
            parts.setdefault(part, {})[rest] = tensor
        components, wide = parts["whitening"]["basis"].shape
        seen, actions = 3 * components, Actions(names, tensors["vectors"].float(), tensors["limits"].float())
        if actions.vectors.shape[0] != len(names) or actions.limits.shape != (len(names), 2):
            raise ValueError("its actions do not fit their names")
        return Mapper(
            weights.filled(lambda: Whitening(wide, components), parts["whitening"]),
            actions,
            weights.filled(lambda: Network(seen, len(names)), parts["network"]),
            weights.filled(lambda: Guess(seen), parts["guess"]),
            files.sha256(path),
        )


@lru_cache(maxsize=1)
def load() -> Mapper:
    """The mapper that ships."""
    return read(FILE)
