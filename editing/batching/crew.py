"""Who does the work: this process alone, or a crew of workers, each with one photo at a time.

A crew is an object with `hire`, `give`, `wait` and `close`; workers.py and cluster.py have one each.  A worker that
ends in the middle of a photo is replaced, and what is left of the photo is given out again; after the second time it is
the photo's fault.
"""

from __future__ import annotations

import itertools
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from editing.batching.work import Answer, Work, edit_photo, prepare
from editing.prefetch import prefetch

Worker = Any
LIVES = 2  # workers that one photo may cost


class Crew(Protocol):
    """Workers.

    `hire` starts that many, by default as many as the crew is to have.  `wait` returns (worker, answer) for at least
    one of those that have work; no answer: that worker has ended.
    """

    def hire(self, count: int | None = None) -> list[Worker]: ...

    def give(self, worker: Worker, work: Work) -> None: ...

    def wait(self) -> list[tuple[Worker, Answer | None]]: ...

    def close(self) -> None: ...


def alone(works: Iterable[Work], editor) -> Iterator[tuple[Work, Answer]]:
    """Do the works here, in order; while one is done, a thread opens the next photo and finds its faces."""
    ahead, works = itertools.tee(works)
    calls = prefetch(lambda work: prepare(work, editor.generator.resolution), ahead)
    try:
        for work, ready in zip(works, calls, strict=True):
            yield from ((work, answer) for answer in edit_photo(work, editor, ready))
    finally:
        calls.close()


def together(works: Iterable[Work], crew: Crew) -> Iterator[tuple[Work, Answer]]:
    """Have the crew do the works; answers come as they are ready.  Nobody is hired for no work."""
    works = iter(works)
    again = deque(itertools.islice(works, 1))
    ended: Counter = Counter()
    busy: dict[Worker, Work] = {}

    def occupy(workers: Callable[[], Iterable[Worker]]) -> None:
        """Give the next photo, if there is one, to a worker; only then is one asked for."""
        work = again.popleft() if again else next(works, None)
        for worker in workers() if work is not None else ():
            busy[worker] = work
            crew.give(worker, work)

    for worker in crew.hire() if again else ():
        occupy(lambda worker=worker: [worker])
    while busy:
        for worker, answer in crew.wait():
            work = busy.pop(worker)
            if answer is None:
                ended[work.name] += 1
                lost = ended[work.name] >= LIVES
                if not lost:
                    again.append(work)
                occupy(lambda: crew.hire(1))
                for order in work.orders if lost else ():
                    yield work, Answer(order.number, error=f"{work.name} ended its worker {LIVES} times: too large?")
                continue
            left = work.after(answer)
            if left.orders:
                busy[worker] = left
            else:
                occupy(lambda worker=worker: [worker])  # before this answer is written: nobody waits for the disk
            yield work, answer
