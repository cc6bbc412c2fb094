"""Workers on the computers of a Ray cluster, or of a Ray that lives and ends with this run.

Every worker is an actor with one CPU and one thread.  It reads the weights from the cache of the computer it is on;
photos and results travel as bytes, so the computers need wplus and its weights, and no common folder.
"""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

from editing.batching.work import Answer, Setup, Work, edit_photo, warm
from stylegan2.errors import UsageError, WplusError

LOCAL = "local"


class Actor:
    """What Ray runs elsewhere: a worker that is asked for one answer after the other."""

    def __init__(self, setup: Setup) -> None:
        self.setup, self.editor = setup, None
        self.answers: Iterator[Answer] = iter(())

    def ready(self) -> str:
        """Load everything; '' or the sentence why it cannot be done."""
        import torch

        from stylegan2.allocator import tune_allocator

        tune_allocator()
        torch.set_num_threads(self.setup.threads)
        try:
            self.editor = self.setup.make()
            warm(self.editor, self.setup.options)
        except WplusError as error:
            return str(error)
        return ""

    def begin(self, work: Work) -> Answer:
        self.answers = edit_photo(work, self.editor)
        return next(self.answers)

    def more(self) -> Answer:
        return next(self.answers)


class Cluster:
    """A crew (see crew.py) of Ray actors.  address: 'local', 'auto', 'host:port' or 'ray://host:port'."""

    def __init__(self, address: str, setup: Setup, count: int | None = None) -> None:
        self.address, self.setup, self.count = address, replace(setup, threads=1), count
        self.ray: Any = None  # connected when there is work
        self.actor: Any = None
        self.waiting: dict[Any, tuple[Any, int]] = {}  # an answer to come -> its worker, and how many come after it
        self.crew: set[Any] = set()

    def hire(self, count: int | None = None) -> list[Any]:
        """New workers; by default `count` of the whole crew, or one a CPU of the cluster.

        UsageError if there is no such cluster, WplusError if they cannot be started there, with the reason.
        """
        if self.ray is None:
            self._connect()
        workers = [self.actor.remote(self.setup) for _ in range(self.count if count is None else count)]
        self.crew.update(workers)
        try:
            troubles = self.ray.get([worker.ready.remote() for worker in workers])
        except self.ray.exceptions.RayError as error:
            raise WplusError(f"A Ray worker could not start: {first_line(error)}") from None
        for trouble in filter(None, troubles):
            raise WplusError(f"A Ray worker could not start: {trouble}")
        return workers

    def _connect(self) -> None:
        self.ray = connect(self.address, self.count)
        resources = self.ray.cluster_resources()
        self.count = self.count or max(1, int(resources.get("CPU", 1)))
        gpus = 0 if self.setup.device == "cpu" else int(resources.get("GPU", 0))
        share = 1 / math.ceil(self.count / gpus) if gpus else 0  # as many on every GPU
        self.actor = self.ray.remote(Actor).options(num_cpus=1, num_gpus=share)

    def give(self, worker: Any, work: Work) -> None:
        self.waiting[worker.begin.remote(work)] = worker, len(work.orders) - 1

    def wait(self) -> list[tuple[Any, Answer | None]]:
        """What busy workers say: an answer, or None from one that has ended."""
        (found, *_), _ = self.ray.wait(list(self.waiting), num_returns=1)
        worker, after = self.waiting.pop(found)
        try:
            answer = self.ray.get(found)
        except self.ray.exceptions.RayTaskError as error:
            raise WplusError(f"A Ray worker failed: {first_line(error)}") from error
        except self.ray.exceptions.RayError:  # it was killed, or its computer is gone
            self.crew.discard(worker)
            return [(worker, None)]
        if after:
            self.waiting[worker.more.remote()] = worker, after - 1
        return [(worker, answer)]

    def close(self) -> None:
        """End all workers, and the Ray that was started for this run."""
        for worker in self.crew:
            with suppress(Exception):
                self.ray.kill(worker)
        self.crew.clear()
        if self.ray is not None:
            self.ray.shutdown()


def connect(address: str, count: int | None = None) -> Any:
    """Ray, connected; 'local' starts one that only this machine can reach.  UsageError if it cannot be done."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if address == LOCAL:  # else Ray takes the machine's own address instead of 127.0.0.1, and listens to all networks
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError:
        raise UsageError("--ray needs the package ray: pip install 'wplus[ray]'.") from None
    probe(address)
    quiet = {"logging_level": "ERROR", "log_to_driver": False}
    alone = {"address": LOCAL, "num_cpus": count, "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    try:
        ray.init(**quiet, **(alone if address == LOCAL else {"address": address}))
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise UsageError(f"There is no Ray cluster at '{address}': {first_line(error)}") from None
    return ray


def probe(address: str) -> None:
    """UsageError if nobody listens at host:port or ray://host:port: Ray itself would try for a quarter of an hour."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon:
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError) as error:
        raise UsageError(f"There is no Ray cluster at '{address}': {first_line(error)}") from None


def first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".") + "."
