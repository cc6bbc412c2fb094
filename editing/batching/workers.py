"""Worker processes of this machine that share one copy of the weights.

On Linux a template process loads everything that the work needs, with one thread and nothing running, and every worker
is a fork of it: its memory is the template's until somebody writes to it, and nobody writes to weights.  A replacement
for a worker that was killed is one more fork, in milliseconds.  The process that was called is never forked itself: it
may have threads.  Elsewhere, and on a GPU, every worker is a process of its own with its own copy.

Work and answers go through a pipe for each worker.  Workers end when the pipe does, and when the process that was
called ends, however it ends.
"""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import connection, reduction, resource_tracker
from typing import Any

from editing.batching.work import Answer, Setup, Work, edit_photo, warm
from stylegan2.errors import WplusError

ENDED = "Worker processes end as soon as they start: is there enough memory?"
START = "spawn"  # how the template is started: as a fresh interpreter


@dataclass(frozen=True, eq=False)
class Process:
    """A worker: our end of its pipe, and its process id."""

    pipe: Any
    pid: int


class Processes:
    """A crew (see crew.py) of processes.  shared: fork them from a template; default: where that can be done."""

    def __init__(self, setup: Setup, count: int, shared: bool | None = None) -> None:
        self.setup, self.count = setup, count
        self.shared = sys.platform.startswith("linux") and setup.device == "cpu" if shared is None else shared
        self.context = multiprocessing.get_context(START)
        self.template: tuple[Any, Any] | None = None  # its process, and our end of its pipe
        self.crew: set[Process] = set()
        self.busy: set[Process] = set()

    def hire(self, count: int | None = None) -> list[Process]:
        """New workers.  WplusError if they cannot be started, with the reason."""
        count = self.count if count is None else count
        if self.shared:
            return [self._fork() for _ in range(count)]
        try:
            started = [self._start(lone_worker) for _ in range(count)]  # all load at the same time
            return [self._hired(pipe, _greeting(pipe) or process.pid) for process, pipe in started]
        except (EOFError, OSError):
            raise WplusError(ENDED) from None

    def give(self, worker: Process, work: Work) -> None:
        self.busy.add(worker)
        with suppress(BrokenPipeError, ConnectionResetError):  # it has ended: `wait` will tell
            worker.pipe.send(work)

    def wait(self) -> list[tuple[Process, Answer | None]]:
        """What busy workers say: an answer, or None from one that has ended."""
        workers = {worker.pipe: worker for worker in self.busy}
        return [self._heard(workers[pipe]) for pipe in connection.wait(list(workers))]

    def _heard(self, worker: Process) -> tuple[Process, Answer | None]:
        try:
            answer, last = worker.pipe.recv()
        except (EOFError, OSError):  # OSError: it ended in the middle of an answer
            answer, last = None, True
            worker.pipe.close()
            self.crew.discard(worker)
        if last:
            self.busy.discard(worker)
        return worker, answer

    def close(self) -> None:
        """End all workers and the template, whatever they are doing."""
        for worker in self.crew:
            with suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGTERM)
            worker.pipe.close()
        self.crew.clear()
        self.busy.clear()
        self._drop_template()

    def _drop_template(self) -> None:
        if self.template:
            process, pipe = self.template
            self.template = None
            pipe.close()
            process.kill()  # it holds nothing that could be lost
            process.join()

    def _hired(self, pipe: Any, pid: int) -> Process:
        worker = Process(pipe, pid)
        self.crew.add(worker)
        return worker

    def _fork(self) -> Process:
        """One more fork of the template, which is started first if it is not there, or was killed."""
        for _ in range(2):
            try:
                if self.template is None:
                    self.template = self._start(template)
                    _greeting(self.template[1])
                return self._hired(*self._from_template())
            except (EOFError, OSError):
                self._drop_template()
        raise WplusError(ENDED)

    def _from_template(self) -> tuple[Any, int]:
        """Our end of a new worker's pipe, and its process id.  EOFError, OSError if the template has ended."""
        process, control = self.template
        ours, theirs = self.context.Pipe()
        try:
            reduction.send_handle(control, theirs.fileno(), process.pid)
            return ours, control.recv()
        except (EOFError, OSError):
            ours.close()
            raise
        finally:
            theirs.close()

    def _start(self, target: Any) -> tuple[Any, Any]:
        """A new process, and our end of the pipe to it."""
        ours, theirs = self.context.Pipe()
        process = self.context.Process(target=target, args=(theirs, self.setup), daemon=True)
        with deaf_to_interrupts():
            process.start()
        theirs.close()
        return process, ours


@contextmanager
def deaf_to_interrupts():
    """Ctrl-C reaches every process of a terminal; those started inside never hear of it: the first one decides."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # process.start would, and unblock the signal again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _greeting(pipe: Any) -> None:
    """Wait until a process has loaded what it needs; raise what it could not do, EOFError if it ended."""
    trouble = pipe.recv()
    if trouble is not None:
        raise trouble


# ------------------------------------------------------------------------- what the other processes run


def template(control: Any, setup: Setup) -> None:
    """Load everything, then fork a worker for every pipe that comes; ends with the process that was called."""
    for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):
        os.environ[name] = ""  # autograd keeps a thread for every device that it sees, and refuses to work in a fork
    import torch

    torch.set_num_threads(1)  # a thread pool would not survive the fork
    editor = _loaded(control, setup)
    if editor is None:
        return
    give_back_memory()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the workers: none becomes a zombie
    gone = multiprocessing.parent_process().sentinel
    while gone not in connection.wait([control, gone]):
        try:
            handle = reduction.recv_handle(control)
        except (EOFError, OSError, RuntimeError):
            return
        pid = os.fork()
        if pid == 0:
            try:
                control.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                serve(connection.Connection(handle), editor, setup.threads)
            except Exception:
                traceback.print_exc()  # a bug of ours
            finally:
                os._exit(0)
        os.close(handle)
        with suppress(OSError):  # the one that was called is gone: seen above
            control.send(pid)


def give_back_memory() -> None:
    """Hand memory that was used while loading back to the system: every fork would begin with a gigabyte of it."""
    gc.collect()
    gc.freeze()  # objects of the template stay out of collections, which write to them
    with suppress(OSError, AttributeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)


def lone_worker(pipe: Any, setup: Setup) -> None:
    """A worker that shares nothing."""
    import torch

    torch.set_num_threads(setup.threads)
    editor = _loaded(pipe, setup)
    if editor is not None:
        serve(pipe, editor, setup.threads)


def _loaded(pipe: Any, setup: Setup) -> Any:
    """A warm editor; None if there can be none, and the pipe says why."""
    from stylegan2.allocator import tune_allocator

    tune_allocator()
    try:
        editor = setup.make()
        warm(editor, setup.options)
    except WplusError as error:
        pipe.send(error)
        return None
    try:
        pipe.send(None)
    except OSError:  # the one that was called is gone
        return None
    return editor


def serve(pipe: Any, editor: Any, threads: int) -> None:
    """Edit the photos that come through the pipe, until it ends."""
    import torch

    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError, OSError):
        while True:
            work = pipe.recv()
            for index, answer in enumerate(edit_photo(work, editor), start=1):
                pipe.send((answer, index == len(work.orders)))


def _end_with_parent() -> None:
    """A worker must not go on for minutes when the process that was called is gone."""
    multiprocessing.parent_process().join()
    os._exit(1)
