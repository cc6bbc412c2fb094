"""Budgets, progress and the few things that every strategy does alike.

A strategy is `invert(generator, image, *, callback=None, seed=0, budget=Budget()) -> Inversion`.  A time
budget is turned into a step count by timing three steps, and that count is what is recorded: with it, the
same device, dtype and thread count, the result can be had again exactly.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median

import torch
from torch import Tensor

from editing.types import Inversion, generator_sha256
from stylegan2.errors import Cancelled, UsageError
from stylegan2.generator import Generator

Callback = Callable[[int, int, str], bool | None]


@dataclass(frozen=True)
class Budget:
    """How long a strategy may work: a number of steps, or seconds; with neither, its own default."""

    steps: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.steps is not None and self.seconds is not None:
            raise UsageError("Give a budget in steps or in seconds, not both.")
        if self.steps is not None and self.steps < 1:
            raise UsageError(f"A budget of {self.steps} steps is too small: give at least 1.")
        if self.seconds is not None and not (math.isfinite(self.seconds) and self.seconds > 0):
            raise UsageError(f"A budget of {self.seconds} seconds is not a positive time.")


class Progress:
    """Counts steps for the callback(step, total, what); a callback that returns False cancels (Cancelled)."""

    def __init__(self, callback: Callback | None, total: int, method: str) -> None:
        self.callback, self.total, self.method, self.step = callback, total, method, 0

    def __call__(self) -> None:
        self.step += 1
        if self.callback is not None and self.callback(self.step, self.total, self.method) is False:
            raise Cancelled(f"Inversion cancelled after {self.step} of {self.total} steps.")


def step_seconds(step: Callable[[], Tensor]) -> float:
    """Seconds that one forward and backward pass of `step` (-> loss) takes here: the quickest of three."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        step().backward()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times)


def render_seconds(generator: Generator, runs: int = 7) -> float:
    """Median seconds of one render, the unit in which this machine's seconds are to be read."""
    ws, times = generator.w_avg.expand(1, generator.num_ws, -1), []
    for _ in range(runs):
        start = time.perf_counter()
        with torch.inference_mode():
            generator.synthesis(ws).cpu()
        times.append(time.perf_counter() - start)
    return median(times)


def schedule(step: int, total: int, warm_up: float = 0.05, decay: float = 0.4) -> float:
    """Learning-rate factor in (0, 1]: linear warm-up, flat, cosine decay over the last `decay` of the steps."""
    progress = (step + 1) / total
    if progress < warm_up:
        return progress / warm_up
    if progress <= 1 - decay:
        return 1.0
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (progress - 1 + decay) / decay))


def finish(generator: Generator, inversion: Inversion, image: Tensor) -> Inversion:
    """Add what every inversion records: generator, device, dtype, threads, quality and distance from the prior."""
    from editing.inversion.metrics import reconstruction_metrics, whitened_square

    facts = replace(
        inversion,
        family=generator.family,
        generator_sha256=generator_sha256(generator),
        device=image.device.type,
        dtype=str(image.dtype).removeprefix("torch."),
        threads=torch.get_num_threads(),
    ).compact()
    with torch.inference_mode():
        rendered = generator.synthesis(facts.ws, facts.deltas, facts.features)
        metrics = reconstruction_metrics(image, rendered) | {"whitened_square": whitened_square(facts.ws)}
    return replace(facts, metrics=metrics)
