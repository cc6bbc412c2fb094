"""One thread that draws for everybody: quick pictures first, inversions in between.

Streamlit runs each user's script in a thread of its own.  PyTorch would start a pool of threads for each of them, and
several renders at once would take turns at the same cores; so all work on the generator goes through here.  Urgent
work (a preview) goes before slow work (an inversion), also in the middle of it: whoever works slowly calls
`breathe` between two steps.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import cached_property
from typing import Any, TypeVar

import torch

from editing.batching.work import warm
from editing.judges.judge import judge
from editing.session import Editor, load_catalogue, load_generator, to_rgb
from stylegan2 import quick
from stylegan2.allocator import tune_allocator
from stylegan2.errors import Cancelled, WplusError

T = TypeVar("T")
WAITING, RUNNING, DONE, FAILED, CANCELLED = "waiting", "running", "done", "failed", "cancelled"


class Job:
    """Slow work that somebody watches: state, step of total, and then `result` or `error`."""

    def __init__(self, engine: Engine, work: Callable[[Callable[..., bool]], Any]) -> None:
        self._engine, self._work = engine, work
        self._finished, self._stopped = threading.Event(), threading.Event()
        self.state, self.step, self.total, self.note = WAITING, 0, 0, ""
        self.result: Any = None
        self.error: Exception | None = None

    def cancel(self) -> None:
        """Stop before the next step; what waits never begins."""
        self._stopped.set()

    @property
    def over(self) -> bool:
        return self.state in (DONE, FAILED, CANCELLED)

    def wait(self, timeout: float | None = None) -> bool:
        """True once it is over."""
        return self._finished.wait(timeout)

    def progress(self, step: int, total: int, note: str = "") -> bool:
        """What the work calls between steps: lets urgent work in, and says False once it should stop."""
        self.step, self.total, self.note = step, total, note
        self._engine.breathe()
        return not self._stopped.is_set()

    def run(self) -> None:
        try:
            if self._stopped.is_set():
                raise Cancelled("Cancelled before it began.")
            self.state = RUNNING
            self.result = self._work(self.progress)
            self.state = CANCELLED if self._stopped.is_set() and self.result is None else DONE
        except Cancelled:
            self.state = CANCELLED
        except Exception as error:  # belongs to whoever asked, not to the thread that all share
            self.error, self.state = error, FAILED
        finally:
            self._finished.set()


class Engine:
    """The generator, the catalogue, and the thread that uses them.  Nothing is loaded before it is needed."""

    def __init__(self) -> None:
        tune_allocator()
        self._urgent: deque[tuple[Future, Callable[[], Any]]] = deque()
        self._soon: deque[tuple[Future, Callable[[], Any]]] = deque()
        self._slow: deque[Job] = deque()
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._serve, name="wplus-engine", daemon=True)
        self._thread.start()

    @cached_property
    def generator(self):
        return load_generator()

    @cached_property
    def catalogue(self):
        return load_catalogue()

    @cached_property
    def quick(self) -> quick.Quick:
        return quick.load(self.generator)

    def warm(self, progress: Callable[..., bool]) -> None:
        """Slow work that loads what an edit needs, by doing one; a little at a time, so that nobody waits for it."""
        for part in (lambda: self.generator, lambda: self.quick, lambda: self.catalogue, self._judge, self._invert):
            progress(0, 0)
            with suppress(WplusError):  # told when a photo is opened
                part()

    def _judge(self) -> None:
        with torch.inference_mode():
            mean = self.generator.synthesis(self.generator.w_avg.expand(1, self.generator.num_ws, -1))
        judge(to_rgb(mean))

    def _invert(self) -> None:
        warm(Editor(self.generator, catalogue=self.catalogue), {"method": "hyper", "detector": "auto"})

    def run(self, work: Callable[[], T], urgent: bool = True) -> T:
        """Work done on the engine's thread before anything slow goes on; its result or its error.

        urgent: False for what may wait until nobody waits for a picture.
        """
        if threading.current_thread() is self._thread:
            return work()
        future: Future = Future()
        with self._news:
            (self._urgent if urgent else self._soon).append((future, work))
            self._news.notify()
        return future.result()

    def start(self, work: Callable[[Callable[..., bool]], Any]) -> Job:
        """Slow work(progress), one after the other; progress(step, total) is False once it should stop."""
        job = Job(self, work)
        with self._news:
            self._slow.append(job)
            self._news.notify()
        return job

    def ahead(self, job: Job) -> int:
        """How many others a job still waits for."""
        with self._news:
            return (list(self._slow).index(job) if job in self._slow else 0) + 1 if job.state == WAITING else 0

    def breathe(self) -> None:
        """Do what is urgent now.  For the engine's own thread, between two steps of slow work."""
        while True:
            with self._news:
                waiting = self._urgent or self._soon
                if not waiting:
                    return
                future, work = waiting.popleft()
            self._answer(future, work)

    def _answer(self, future: Future, work: Callable[[], Any]) -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    def _serve(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._urgent or self._soon or self._slow)
                job = None if self._urgent or self._soon else self._slow.popleft()
            if job is None:
                self.breathe()
            else:
                job.run()
                job = None  # what it knew of somebody's photo is not kept until the next one comes
