"""Training what reads sentences: `python -m editing.text.fit reader out/`.

    python -m editing.text.fit reader out/ --count 60000      # sentences of `instructions`, embedded once

Prints what share is understood exactly of written sentences that were held back and of drawn ones, and as it was meant
of a file of sentences that no word list wrote.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from editing.heads import files
from editing.text import instructions
from editing.text.poles import load as load_poles
from editing.text.reading import DEPTH, FORMAT, Network, Reader
from encoders import sentence
from stylegan2.allocator import tune_allocator
from stylegan2.files import replacing

BATCH, STEPS, RATE, DECAY = 64, 10_000, 2e-3, 0.02
TUNED = 2e-4  # rate of the encoder's own layers
HELD, ALIKE = 2000, 2000
CHUNK = 64


def embedded(texts: Sequence[str]) -> list[Tensor]:
    """What the encoder's layers that stay make of every sentence, (L, 384) in float16; those of like length are done
    together."""
    encoder, order = sentence.load(), np.argsort([len(text) for text in texts], kind="stable")
    found: list[Tensor | None] = [None] * len(texts)
    for start in range(0, len(order), CHUNK):
        some = order[start : start + CHUNK]
        hidden, mask = encoder.tokens([texts[i] for i in some], DEPTH)
        for i, h, m in zip(some, hidden, mask, strict=True):
            found[i] = h[m].half()
    return found


def kept(texts: Sequence[str], file: Path) -> list[Tensor]:
    """The same, from a file where it was done already."""
    digest = hashlib.sha256("\n".join(texts).encode()).hexdigest()
    if file.exists():
        with safe_open(file, "pt") as stream:
            if (stream.metadata() or {}).get("sentences") == digest:
                return list(stream.get_tensor("words").split(stream.get_tensor("lengths").tolist()))
    found = embedded(texts)
    with replacing(file) as part:
        tensors = {"words": torch.cat(found), "lengths": torch.tensor([len(words) for words in found])}
        save_file(tensors, part, metadata={"sentences": digest})
    return found


def batch(hidden: Sequence[Tensor], some: np.ndarray) -> tuple[Tensor, Tensor]:
    chosen = [hidden[i] for i in some]
    mask = torch.arange(max(map(len, chosen))) < torch.tensor([len(h) for h in chosen])[:, None]
    return torch.nn.utils.rnn.pad_sequence(chosen, batch_first=True).float(), mask


def targets(requests: Sequence[instructions.Request], names: Sequence[str]) -> Tensor:
    """(N, P): 1 where a pole is asked for, else 0"""
    return torch.tensor([[float(name in request.wants) for name in names] for request in requests])


def reader(count: int, steps: int, file: Path, seed: int = 0, report: Callable[[str], None] = print) -> Reader:
    """file: where embedded sentences are kept."""
    torch.manual_seed(seed)
    names = list(load_poles())
    requests = [instructions.draw(np.random.default_rng((seed, i))) for i in range(count)]
    started = time.monotonic()
    hidden, wanted = kept([request.text for request in requests], file), targets(requests, names)
    report(f"{count} sentences embedded in {time.monotonic() - started:.0f} s")
    network, rng = Network(len(names)), np.random.default_rng(seed)
    for layer, published in zip(network.layers, sentence.load().layers[DEPTH:], strict=True):
        layer.load_state_dict(published.state_dict())
    order = HELD + np.argsort([len(words) for words in hidden[HELD:]], kind="stable")
    tuned = list(network.layers.parameters())
    new = [parameter for name, parameter in network.named_parameters() if not name.startswith("layers.")]
    optimiser = torch.optim.AdamW([{"params": new}, {"params": tuned}], lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, [RATE, TUNED], total_steps=steps, pct_start=0.1)
    for step in range(steps):
        some = order[rng.integers(max(len(order) - ALIKE, 1)) :][:ALIKE]  # of like length: less of a batch is padding
        some = rng.choice(some, BATCH)
        tokens, mask = batch(hidden, some)
        tokens = F.dropout(tokens, 0.1)
        there = mask & (torch.rand(mask.shape) > 0.06)  # now and then a word is not
        there[:, 0] = True
        logits = network(tokens, there)
        asked = wanted[some]
        missed = F.binary_cross_entropy_with_logits(logits, 0.98 * asked + 0.001, reduction="none").sum(1).mean()
        optimiser.zero_grad(set_to_none=True)
        missed.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 1000 == 999:
            report(f"{step + 1} missed {missed.item():.3f}")
    network.eval().requires_grad_(False)
    found = Reader(network, sentence.load(), names)
    written = instructions.natural(True)[:HELD]
    report(f"held-back sentences that were written understood exactly: {share(found, written):.3f}")
    with torch.no_grad():
        chances = torch.cat([network(*batch(hidden, np.arange(i, i + 100))).sigmoid() for i in range(0, HELD, 100)])
    exact = ((chances > 0.5) == (wanted[:HELD] > 0.5)).all(1).float().mean()
    report(f"drawn sentences (whose written ones are trained on, too) understood exactly: {exact:.3f}")
    return found


def share(found: Reader, requests: Sequence[instructions.Request]) -> float:
    """Of requests read as people's are: those of which no pole is missed and none is added."""
    return float(np.mean([found.read(request.text).wants.keys() == request.wants.keys() for request in requests]))


def understood(found: Reader, sentences: Sequence[dict]) -> list[tuple[dict, dict[str, int]]]:
    """Sentences with the signs of judges they are about -> those that are not understood so, with what was."""
    wrong = []
    for row in sentences:
        read = found.read(row["text"])
        signs = {judge: 1 if amount > 0 else -1 for judge, amount in read.judged.items()}
        if read.age is not None:  # whether it is more or less depends on the face
            signs["age"] = row["wants"].get("age", 1)
        right = all(signs.get(judge) == sign for judge, sign in row["wants"].items())
        extra = len(read.wants) + (read.age is not None) > len(row["wants"])
        if not right or extra or (not row["wants"] and signs):
            wrong.append((row, read.wants))
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["reader"])
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=60_000)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--sentences", type=Path, help="JSON: text, wants (judge -> sign) of each")
    options = parser.parse_args()
    tune_allocator()
    options.out.mkdir(parents=True, exist_ok=True)

    def report(line: str) -> None:
        print(line, flush=True)

    found = reader(options.count, options.steps, options.out / "sentences.safetensors", report=report)
    files.write(
        options.out / "reader.safetensors", {"format": FORMAT, "poles": list(found.names)}, {"reader": found.network}
    )
    if options.sentences:
        rows = json.loads(options.sentences.read_text())
        wrong = understood(found, rows)
        report(f"understood as their writer meant: {1 - len(wrong) / len(rows):.3f} of {len(rows)} sentences")
        for row, read in wrong:
            report(f"{row['text']!r} wants {row['wants']}, read {read}")


if __name__ == "__main__":
    main()
