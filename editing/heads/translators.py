"""CycleGAN's, StarGAN's and InstaGAN's idea on the latents: a face's view goes in, amounts of actions come out.

    head = load(path)["cyclegan:young2old"]
    ws = head(inversion.ws, strength=1.0)

Ours, not the papers' networks: translators are perceptrons on the view of a code (see `response`), and pictures are
drawn by the frozen generator.  Weight offsets and features of an inversion stay as they are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from editing.heads.actions import Actions, moved
from editing.heads.response import COMPONENTS, Whitening
from stylegan2.errors import UsageError, WplusError
from stylegan2.files import replacing

WIDTH = 256
FORMAT = "wplus-heads-1"
PAINTED = "paint:"  # before a region: see `Head.paints`
KINDS = ("cyclegan", "stargan", "instagan")


class Translator(nn.Module):
    """x (B, 3 * COMPONENTS) and a condition (B, C) -> amounts (B, K), never beyond the limits that moves were learned
    between."""

    def __init__(self, actions: int, condition: int = 0, width: int = WIDTH) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(3 * COMPONENTS + condition, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(),
            nn.Linear(width, actions),
        )  # fmt: skip
        nn.init.zeros_(self.net[-1].weight)
        nn.init.zeros_(self.net[-1].bias)
        self.register_buffer("limits", torch.ones(actions, 2))

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        out = torch.tanh(self.net(x if condition is None else torch.cat([x, condition], 1)))
        return torch.where(out > 0, out * self.limits[:, 1], -out * self.limits[:, 0])


class StarTranslator(nn.Module):
    """x, labels that the face is believed to have and labels that are wanted (B, L), 0 to 1 -> amounts; none where both
    are the same."""

    def __init__(self, actions: int, labels: int, width: int = WIDTH) -> None:
        super().__init__()
        self.inner = Translator(actions, labels, width)
        self.read = nn.Linear(3 * COMPONENTS, labels)

    def forward(self, x: Tensor, before: Tensor, after: Tensor) -> Tensor:
        low, high = self.inner.limits.T
        return (self.inner(x, after) - self.inner(x, before)).clamp(low, high)

    def labels(self, x: Tensor, groups: Sequence[Sequence[int]] = ()) -> Tensor:
        """Probabilities (B, L), of faces whose labels nobody knows; groups: columns of which one holds at a time."""
        logits = self.read(x)
        found = torch.sigmoid(logits)
        for columns in groups:
            found = found.index_copy(1, torch.tensor(columns), logits[:, columns].softmax(1))
        return found


def with_label(labels: Tensor, column: Tensor, value: Tensor, groups: Sequence[Sequence[int]]) -> Tensor:
    """Labels (B, L) with one of each row set, column (B,) to value (B,); if to 1, others of its group give way."""
    found, rows = labels.clone(), torch.arange(len(labels))
    for columns in map(torch.tensor, groups):
        inside = (column[:, None] == columns).any(1) & (value == 1)
        found[inside[:, None] & (torch.arange(labels.shape[1])[:, None] == columns).any(1)] = 0
    found[rows, column] = value.to(found)
    return found


@dataclass(frozen=True)
class Family:
    """Heads of one file: one view, one list of actions.  kind: 'cyclegan', a translator each way ('young2old'),
    'instagan', the same with the region of every way's instance, or 'stargan', one translator ('all') for labels;
    groups: labels of which one holds at a time."""

    kind: str
    whitening: Whitening
    actions: Actions
    translators: Mapping[str, Translator | StarTranslator]
    labels: Sequence[str] = ()
    groups: Sequence[Sequence[str]] = ()
    sha256: str = ""
    regions: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """'cyclegan:young2old'; 'stargan:+glasses' and 'stargan:-glasses', '+' alone for labels of a group."""
        if self.kind != "stargan":
            return [f"{self.kind}:{way}" for way in self.translators]
        grouped = {name for group in self.groups for name in group}
        return [f"stargan:{sign}{name}" for name in self.labels for sign in ("+" if name in grouped else "+-")]

    @property
    def columns(self) -> list[list[int]]:
        """Groups as columns of labels."""
        return [[self.labels.index(name) for name in group] for group in self.groups]


@dataclass(frozen=True)
class Head:
    """One way to translate a face."""

    name: str
    family: Family

    @property
    def sha256(self) -> str:
        """Of its file."""
        return self.family.sha256

    @property
    def region(self) -> str | None:
        """Where its instance is: outside that, nothing is to change.  None: it is for the whole face."""
        found = self.family.regions.get(self.name.partition(":")[2])
        return found.removeprefix(PAINTED) if found else None

    @property
    def paints(self) -> str | None:
        """The part whose shape alone it changes: what that uncovers is painted from the face itself, see
        `editing.spatial`."""
        found = self.family.regions.get(self.name.partition(":")[2], "")
        return found.removeprefix(PAINTED).partition("~")[0] if found.startswith(PAINTED) else None

    @torch.no_grad()
    def amounts(self, ws: Tensor) -> Tensor:
        """ws (B, num_ws, w_dim) -> amounts of the family's actions (B, K).  UsageError for codes of another shape."""
        family, way = self.family, self.name.partition(":")[2]
        rows, wide = family.actions.vectors.shape[1:]
        if ws.shape[1] < rows or ws.shape[2] != wide:
            found = f"{ws.shape[1]} of {ws.shape[2]}"
            raise UsageError(
                f"{self.name} moves codes of {rows} rows or more of {wide} numbers, as FFHQ's, not {found}."
            )
        x = family.whitening.view(ws.float().cpu())
        if family.kind != "stargan":
            return family.translators[way](x)
        star = family.translators["all"]
        before = star.labels(x, family.columns)
        column = torch.full((len(x),), family.labels.index(way[1:]))
        value = torch.full((len(x),), float(way[0] == "+"))
        return star(x, before, with_label(before, column, value, family.columns))

    def __call__(self, ws: Tensor, strength: float = 1.0) -> Tensor:
        """ws -> a new ws.  strength: times what the translator asks for; 0 is the identity."""
        return moved(ws, strength * self.amounts(ws).to(ws), self.family.actions.vectors)


def save(family: Family, path: Path) -> None:
    """As safetensors, float16."""
    tensors = {f"whitening.{key}": value.half() for key, value in family.whitening.state_dict().items()}
    for way, translator in family.translators.items():
        tensors |= {f"translators.{way}.{key}": value.half() for key, value in translator.state_dict().items()}
    tensors |= {"actions.vectors": family.actions.vectors.half(), "actions.limits": family.actions.limits}
    facts = {
        "format": FORMAT, "kind": family.kind, "actions": list(family.actions.names), "ways": list(family.translators),
        "labels": list(family.labels), "groups": [list(group) for group in family.groups],
        "regions": dict(family.regions),
    }  # fmt: skip
    with replacing(path) as part:
        save_file({k: v.contiguous() for k, v in tensors.items()}, part, metadata={"heads": json.dumps(facts)})


def load(path: Path) -> dict[str, Head]:
    """Heads by name.  UsageError if the file holds none."""
    try:
        with safe_open(path, "pt") as file:
            facts = json.loads((file.metadata() or {}).get("heads", "{}"))
        if facts.get("format") != FORMAT or facts.get("kind") not in KINDS:
            raise UsageError(f"{path} holds no heads.")
        tensors = {key: value.float() for key, value in load_file(path).items()}
        actions = Actions(facts["actions"], tensors["actions.vectors"], tensors["actions.limits"])
        whitening = Whitening(*reversed(tensors["whitening.basis"].shape))
        whitening.load_state_dict(under(tensors, "whitening."))
        labels, translators = facts["labels"], {}
        for way in facts["ways"]:
            stored = under(tensors, f"translators.{way}.")
            star = facts["kind"] == "stargan"
            if star and "reader.weight" in stored:
                raise UsageError(f"{path} was written by an earlier version, for labels of 0 and 1: train it again.")
            width = len(stored["inner.net.0.weight" if star else "net.0.weight"])
            made = StarTranslator(len(actions), len(labels), width) if star else Translator(len(actions), width=width)
            made.load_state_dict(stored)
            translators[way] = made.eval().requires_grad_(False)
    except (OSError, SafetensorError) as error:
        raise WplusError(f"{path} cannot be read: {error}") from None
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"{path} holds no heads: {error}") from None
    sha256 = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    family = Family(
        facts["kind"], whitening, actions, translators, labels, facts["groups"], sha256, facts.get("regions", {})
    )
    return {name: Head(name, family) for name in family.names}


def under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
