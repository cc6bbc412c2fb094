"""A tab that is loaded anew finds its work again, by a name in its address that nobody can guess.

    tabs = Tabs(is_open)
    name = tabs.begin(Work(studio), session)    # goes into the address: ?tab=name
    work = tabs.back(name, other)                # the page was loaded again: the same work, now of that session
    tabs.used(name, session)                     # False: it is another session's by now, or was dropped

Streamlit begins with an empty session whenever a page is loaded.  Work belongs to one session at a time: while its tab
is open, the same address in another tab begins with nothing.  What nobody came back for within an hour of its tab's
end is emptied, and of more than MOST such tabs the oldest at once, but not while one is at work.
"""

from __future__ import annotations

import gc
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from ui.engine import Job
from ui.studio import LIFETIME, Studio

MOST = 16  # closed tabs
CLOSING = 1.0  # seconds that a page which is loaded anew may take to close


@dataclass(eq=False)
class Work:
    """All that a tab holds of its user: the studio, running work, files that were made, pictures for the page.

    shared: the edits that the address has, as the page wrote them.
    """

    studio: Studio
    jobs: dict[str, Job] = field(default_factory=dict)
    files: dict[str, Any] = field(default_factory=dict)
    pictures: dict[tuple, str] = field(default_factory=dict)
    thumbs: dict[tuple, str] = field(default_factory=dict)
    result: tuple | None = None  # the real edit, with the stamp of what it is of
    given: Any = None  # a picture for which there are offers
    shared: tuple = ()
    opening: tuple[bytes, str] | None = None  # a file that is being looked at

    def forget(self) -> None:
        """Every trace of a user's photos."""
        for job in list(self.jobs.values()):
            job.cancel()
        for held in (self.jobs, self.files, self.pictures, self.thumbs):
            held.clear()
        self.studio.forget()
        self.result, self.given, self.shared, self.opening = None, None, (), None


@dataclass(eq=False)
class _Tab:
    work: Work
    session: str
    seen: float  # when it was last open


class Tabs:
    """is_open: whether the session of a tab is still there."""

    def __init__(self, is_open: Callable[[str], bool]) -> None:
        self._is_open, self._lock = is_open, threading.Lock()
        self._tabs: dict[str, _Tab] = {}

    def begin(self, work: Work, session: str) -> str:
        """Keep a tab's work under a new name."""
        name = secrets.token_urlsafe(16)
        with self._lock:
            self._tabs[name] = _Tab(work, session, time.monotonic())
        return name

    def back(self, name: str, session: str) -> Work | None:
        """The work of a tab that was loaded anew; None if there is none of that name, or its tab is still open."""
        until = time.monotonic() + CLOSING
        while True:
            with self._lock:
                tab = self._tabs.get(name)
                if tab is None:
                    return None
                if tab.session == session or not self._is_open(tab.session):
                    tab.session, tab.seen = session, time.monotonic()
                    return tab.work
            if time.monotonic() > until:
                return None
            time.sleep(0.05)

    def used(self, name: str, session: str) -> bool:
        """Whether the work of this name is this session's: a page that was away may find that it is not any more."""
        with self._lock:
            tab = self._tabs.get(name)
            if tab is None or tab.session != session:
                return False
            tab.seen = time.monotonic()
            return True

    def sweep(self) -> None:
        """Empty and drop what nobody came back for."""
        with self._lock:
            now, closed = time.monotonic(), []
            for name, tab in self._tabs.items():
                if self._is_open(tab.session):
                    tab.seen = now
                elif all(job.over for job in list(tab.work.jobs.values())):
                    closed.append((tab.seen, name))
            for place, (seen, name) in enumerate(sorted(closed)):
                if place < len(closed) - MOST or seen < now - LIFETIME:
                    self._tabs.pop(name).work.forget()

    def tidy(self) -> None:
        """Sweep, and free what Streamlit's sessions and runs have left: they hold themselves in circles."""
        self.sweep()
        gc.collect()

    def sweeping(self, seconds: float = 30.0) -> None:
        """For a thread of its own: tidy up for ever, also while nobody is there."""
        while True:
            time.sleep(seconds)
            with suppress(Exception):  # a server that ends: the next time will do
                self.tidy()
