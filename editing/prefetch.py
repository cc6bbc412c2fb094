"""Reading ahead: while one photo is worked on, a thread opens the next one and finds its faces."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item, Result = TypeVar("Item"), TypeVar("Result")


def prefetch(
    function: Callable[[Item], Result], items: Iterable[Item], ahead: int = 1
) -> Iterator[Callable[[], Result]]:
    """For every item in order a call that waits for function(item) and returns it, or raises what it raised.

    Up to `ahead` items are worked on, one after the other, before they are asked for.  Closing the iterator drops
    those that have not begun.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as pool:
        waiting: deque = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > ahead:
                    yield waiting.popleft().result
            while waiting:
                yield waiting.popleft().result
        except GeneratorExit:
            pool.shutdown(cancel_futures=True)
            raise
