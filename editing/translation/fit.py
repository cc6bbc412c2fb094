"""Training a published system: batches by number, losses into a CSV, a picture grid, weights to go on from.

A run is a folder: `settings.json`, `losses.csv`, `grid.jpg`, and every network as `latest_net_NAME.safetensors` under
its published tensor names, float16, with the pictures seen so far in `seen.json`.  The optimiser is not kept: its
moments warm up again after a restart.
"""

from __future__ import annotations

import csv
import itertools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from editing.translation import checkpoints
from editing.translation.data import Source
from editing.translation.systems import SYSTEMS, Settings, System
from stylegan2 import engine
from stylegan2.errors import UsageError
from stylegan2.files import replacing

SHOWN = 6  # rows of a grid
LOGGED = 50  # steps that a line of the CSV is the mean of


def fit(
    name: str,
    source: Source,
    out: Path,
    settings: Settings,
    *,
    save: float = 120.0,
    until: float | None = None,
    device: str = "cpu",
    report: Callable[[int, dict[str, float]], None] = lambda seen, losses: None,
) -> System:
    """Train until `settings.images` were seen (0: the system's own number) or `until` seconds went by; goes on where
    the folder says.

    save: seconds between two states on disk.  report(seen, losses): every LOGGED steps.
    """
    system, seen = opened(name, source, out, settings, device)
    system.begin(source, out)
    count, images = settings.batch or system.batch, settings.images or system.images
    started = saved = time.monotonic()
    gathered: list[dict[str, float]] = []
    while seen < images:
        number = seen // count
        rng = np.random.default_rng((settings.seed, 1, number))
        tensors = drawn(source, number, count, settings, device)
        gathered.append(system.step(tensors, system.schedule(seen, images), rng))
        if not all(np.isfinite(value) for value in gathered[-1].values()):
            raise UsageError(f"The losses of {name} are no numbers any more: try a smaller --rate and another --out.")
        seen += count
        over = until is not None and time.monotonic() - started > until
        last = over or seen >= images
        if len(gathered) == LOGGED or last:
            found = {key: [row[key] for row in gathered if key in row] for key in system.losses}
            losses = {key: float(np.mean(values)) for key, values in found.items() if values}
            log(out / "losses.csv", seen, [losses.get(key, np.nan) for key in system.losses], system.losses)
            report(seen, losses)
            gathered = []
        if seen >= images:
            system.finished(batches(source, count, settings, device))
        if last or time.monotonic() - saved > save:
            write(system, out, seen, source)
            saved = time.monotonic()
        if over:
            break
    return system


def drawn(source: Source, number: int, count: int, settings: Settings, device: str) -> dict[str, Tensor]:
    return {key: t.to(device) for key, t in source.batch(number, count, settings.size, settings.seed).items()}


def batches(source: Source, count: int, settings: Settings, device: str) -> Iterator[dict[str, Tensor]]:
    """All batches from number 0 on, without end."""
    for number in itertools.count():
        yield drawn(source, number, count, settings, device)


def opened(name: str, source: Source, out: Path, settings: Settings, device: str) -> tuple[System, int]:
    """The system as the folder has it, or a new one; and pictures seen.  UsageError if the folder is another run's."""
    if name not in SYSTEMS:
        raise UsageError(f"There is no system {name!r}; there are {', '.join(SYSTEMS)}.")
    SYSTEMS[name].check(name, settings)
    facts = {"system": name, "domains": list(source.names), "pictures": [len(source.a), len(source.b or ())]}
    facts |= asdict(settings)
    note, state = out / "settings.json", out / "seen.json"
    if note.exists() and state.exists() and read(note) != facts:
        raise UsageError(f"{out} holds a run with other settings or pictures: choose another folder.")
    system, seen = SYSTEMS[name](settings, len(source.names)), 0
    out.mkdir(parents=True, exist_ok=True)
    with replacing(note) as part:
        part.write_text(json.dumps(facts, indent=1) + "\n")
    if state.exists():
        seen = int(read(state)["seen"])
        system.steps = seen // (settings.batch or system.batch)
        for key, network in system.networks.items():
            filled(network, file_of(out, key))
    shortened(out / "losses.csv", seen)
    for network in system.networks.values():
        network.to(device).train()
    return system, seen


def read(path: Path) -> dict:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None


def shortened(path: Path, seen: int) -> None:
    """The table of losses without what a killed run wrote after its last state."""
    if path.exists():
        head, *rows = path.read_text().splitlines()
        kept = [row for row in rows if row.split(",")[0].isdigit() and int(row.split(",")[0]) <= seen]
        with replacing(path) as part:
            part.write_text("\n".join([head, *kept]) + "\n")


def file_of(out: Path, name: str) -> Path:
    return out / f"latest_net_{name}.safetensors"


def filled(network: nn.Module, path: Path) -> None:
    stored = checkpoints.load(path)
    if type(stored) is not type(network):
        raise UsageError(f"{path} is not the network of this run.")
    network.load_state_dict(stored.state_dict())


def write(system: System, out: Path, seen: int, source: Source) -> None:
    """Networks, the grid, and last of all how much was seen: a kill in between repeats a little."""
    for name, network in system.networks.items():
        checkpoints.finite(network, file_of(out, name), torch.float16)  # all of them, before the first is replaced
    for name, network in system.networks.items():
        checkpoints.save(network, file_of(out, name), torch.float16)
    grid(system, source, out / "grid.jpg")
    with replacing(out / "seen.json") as part:
        part.write_text(json.dumps({"seen": seen}) + "\n")


def log(path: Path, seen: int, losses: Sequence[float], names: Sequence[str]) -> None:
    """One more line of the table; nothing where a loss was not computed."""
    new = not path.exists()
    with open(path, "a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(["seen", *names])
        writer.writerow([seen, *("" if np.isnan(value) else f"{value:.5f}" for value in losses)])


@torch.no_grad()
def grid(system: System, source: Source, path: Path) -> None:
    """The first pictures of the source, uncropped in number 0's order: a row each, columns as `System.rows`."""
    size, device = system.settings.size, next(iter(system.networks.values())).parameters().__next__().device
    modes = {name: network.training for name, network in system.networks.items()}
    for network in system.networks.values():
        network.eval()
    tensors = {key: t.to(device) for key, t in source.batch(0, SHOWN, size, system.settings.seed).items()}
    with torch.random.fork_rng():  # the training's dropout goes on as if nobody had looked
        torch.manual_seed(0)
        columns = [engine.to_uint8(images) for images in system.rows(tensors)]
    for name, network in system.networks.items():
        network.train(modes[name])
    sheet = np.concatenate([np.concatenate(list(column), 0) for column in columns], 1)
    with replacing(path) as part:
        Image.fromarray(sheet).save(part, quality=90)
