"""Tabs that are loaded anew: the work comes back, to one session at a time, and not for ever."""

import gc
import time
import tomllib
import weakref
from pathlib import Path
from types import SimpleNamespace

import pytest

from ui import tabs
from ui.tabs import Tabs, Work


class Studio:
    forgotten = False

    def forget(self):
        self.forgotten = True


@pytest.fixture
def opened():
    return set()


@pytest.fixture
def kept(opened, monkeypatch):
    monkeypatch.setattr(tabs, "CLOSING", 0.1)
    return Tabs(opened.__contains__)


@pytest.fixture
def later(monkeypatch):
    """An hour from now."""
    now = time.monotonic
    return lambda hours=1.0: monkeypatch.setattr(tabs.time, "monotonic", lambda: now() + hours * tabs.LIFETIME + 1)


def test_work_comes_back_after_its_tab_was_closed(kept, opened):
    opened.add("first")
    work = Work(Studio())
    name = kept.begin(work, "first")
    opened.clear()
    opened.add("second")
    assert kept.back(name, "second") is work
    opened.add("third")
    assert kept.back(name, "third") is None  # the second one has it, and is open


def test_an_open_tab_keeps_its_work_to_itself(kept, opened):
    opened.add("mine")
    name = kept.begin(Work(Studio()), "mine")
    assert kept.back(name, "theirs") is None
    assert kept.back("guessed", "theirs") is None and len(name) > 20
    assert name != kept.begin(Work(Studio()), "mine")


def test_a_page_may_take_a_moment_to_close(opened, monkeypatch):
    looks = iter([True, True, True])
    kept, work = Tabs(lambda session: next(looks, False)), Work(Studio())
    assert kept.back(kept.begin(work, "old"), "new") is work


def test_who_was_away_is_told_that_another_tab_has_the_work(kept):
    name = kept.begin(Work(Studio()), "old")
    assert kept.used(name, "old")
    assert kept.back(name, "new")
    assert not kept.used(name, "old") and kept.used(name, "new") and not kept.used("dropped", "new")


def test_what_nobody_came_back_for_is_emptied(kept, opened, later):
    works = {name: Work(Studio()) for name in ("closed", "at work", "open")}
    names = {session: kept.begin(work, session) for session, work in works.items()}
    opened.add("open")
    works["closed"].pictures["face"] = "data:..."
    works["at work"].jobs["batch"] = SimpleNamespace(over=False, cancel=None)
    later()
    kept.sweep()
    assert works["closed"].studio.forgotten and not works["closed"].pictures
    assert kept.back(names["closed"], "new") is None
    assert not works["at work"].studio.forgotten and not works["open"].studio.forgotten


def test_the_hour_begins_when_the_tab_was_closed(kept, opened, later):
    opened.add("idle")
    name = kept.begin(Work(Studio()), "idle")
    later(1.0)
    kept.sweep()  # open, though nobody touched it for an hour
    opened.clear()
    later(1.5)
    kept.sweep()
    assert kept.back(name, "new")


def test_of_many_closed_tabs_the_oldest_are_emptied(kept, opened):
    opened.update(f"open {i}" for i in range(tabs.MOST))
    there = [kept.begin(Work(Studio()), f"open {i}") for i in range(tabs.MOST)]
    closed = [kept.begin(Work(Studio()), "closed") for _ in range(tabs.MOST + 1)]
    kept.sweep()
    assert all(kept.used(name, f"open {i}") for i, name in enumerate(there))
    assert kept.back(closed[0], "new") is None and all(kept.back(name, "new") for name in closed[1:])


def test_forgetting_stops_what_runs_and_leaves_nothing():
    stopped = []
    work = Work(Studio(), {"drag": SimpleNamespace(cancel=lambda: stopped.append(True))}, {"photo": b""},
                {"a": "b"}, {"c": "d"}, (0, "edit"), "photo", ("smile:1",))  # fmt: skip
    work.forget()
    assert stopped and work.studio.forgotten
    assert not any((work.jobs, work.files, work.pictures, work.thumbs, work.result, work.given, work.shared))


def test_what_a_session_left_in_a_circle_is_freed_here_and_not_after_every_run(kept):
    class Session: ...

    session = Session()
    session.itself, seen = session, weakref.ref(session)
    gc.disable()
    try:
        del session
        assert seen() is not None
        kept.tidy()
        assert seen() is None
    finally:
        gc.enable()
    settings = tomllib.loads((Path(tabs.__file__).parent / ".streamlit" / "config.toml").read_text())
    assert settings["runner"]["postScriptGC"] is False
