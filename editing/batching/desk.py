"""The side of a batch that keeps the books: it reads photos, writes results, the journal and the report.

There is one desk, in the process that was called, however many workers there are.  A result is written in full
beside the journal, its line is synced to the disk, and only then one rename puts it in place: whoever is killed when,
a result is there whole and known, or not at all.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from editing.batching.planning import Job
from editing.batching.work import Answer, Order, Work, sentence
from editing.journal import Journal, run_key
from stylegan2.errors import PhotoError, UsageError, WplusError

STATE = ".wplus-batch"  # folder inside --out: the journal and the lock
REPORT = "report.json"


class Desk:
    """The books of one run.  settings, with a result's recipe, decide whether an earlier result still counts."""

    def __init__(
        self,
        jobs: Sequence[Job],
        state: Path,
        settings: Mapping[str, Any],
        progress: Callable[..., None] = lambda *_: None,
    ) -> None:
        self.jobs = {job.place.name: job for job in jobs}
        self.journal, self.state, self.progress = Journal(state / "journal.jsonl"), state, progress
        self.keys = {job.place.name: [run_key(result.recipe, settings) for result in job.results] for job in jobs}
        self.planned = sum(len(job.results) for job in jobs)
        self.entries: dict[tuple[str, int], dict] = {}

    def works(self, options: Mapping[str, Any], keep_inversions: bool) -> Iterator[Work]:
        """The work that is left to do, a photo at a time: what is done, or cannot be read, is noted and left out."""
        from editing.faces import photo as photos

        for name, job in self.jobs.items():
            numbers = range(len(job.results))
            try:
                content = photos.read(job.place.source)
            except PhotoError as error:
                for number in numbers:
                    self.note(name, number, "failed", error=sentence(error))
                continue
            digest = hashlib.sha256(content).hexdigest()
            orders = tuple(order for number in numbers if (order := self.order(job, number, digest)))
            if orders:
                yield Work(name, content, digest, orders, options, keep_inversions)

    def order(self, job: Job, number: int, photo_sha256: str) -> Order | None:
        """The order for one result; None, and a note, if it is there already or something strange is in its place."""
        result, name = job.results[number], job.place.name
        try:
            if self.journal.is_done(self.keys[name][number], name, photo_sha256, result.target):
                self.note(name, number, "skipped", output=str(result.target))
                return None
            self.journal.refuse_strange(result.target)
        except PhotoError as error:
            self.note(name, number, "failed", error=sentence(error))
            return None
        return Order(number, result.recipe, result.target.suffix.lower())

    def take(self, work: Work, answer: Answer) -> None:
        """Put one result in its place.  A photo's own failure is noted; a full disk ends the run (WplusError)."""
        if answer.error:
            self.note(work.name, answer.number, "failed", error=answer.error)
            return
        job = self.jobs[work.name]
        target = job.results[answer.number].target
        try:
            self.put(job, target, self.keys[work.name][answer.number], work.sha256, answer)
        except (WplusError, OSError) as error:
            if disk_full(error):
                raise WplusError(
                    f"The disk is full: stopped at {work.name}. Free some space and run it again."
                ) from error
            self.note(work.name, answer.number, "failed", error=sentence(error))
            return
        facts = dict(answer.facts) | {"seconds": answer.seconds}
        self.note(work.name, answer.number, "done", output=str(target), **facts)

    def put(self, job: Job, target: Path, key: str, photo_sha256: str, answer: Answer) -> None:
        from editing.faces.saving import write_atomically
        from editing.output import make_folder

        make_folder(target.parent)
        for face, content in answer.inversions.items():
            suffix = ".inversion" if face == 0 else f".face{face}.inversion"
            place = job.place.target.with_name(job.place.target.name + suffix)
            if not inverted(place, photo_sha256):  # by a version that kept no journal of them
                self.journal.refuse_strange(place)
            self.journal.add(key, job.place.name, photo_sha256, hashlib.sha256(content).hexdigest(), place.name)
            write_atomically(place, content, mode=0o600, scratch=self.state)
        finished = self.state / f"finished{target.suffix}"
        write_atomically(finished, answer.content)
        self.journal.add(key, job.place.name, photo_sha256, hashlib.sha256(answer.content).hexdigest(), target.name)
        os.replace(finished, target)

    def note(self, name: str, number: int, status: str, **facts: Any) -> None:
        strengths = dict(self.jobs[name].results[number].strengths)
        own = {"strengths": strengths} if strengths else {}
        self.entries[name, number] = {"photo": name, "status": status, **own, **facts}
        self.progress(len(self.entries), self.planned, name)

    def report(self, recipe, settings: Mapping[str, Any], seconds: float, **facts: Any) -> dict:
        """How every result fared, in the order of the photos.  It holds nothing about a face."""
        results = [
            self.entries[name, number]
            for name, job in self.jobs.items()
            for number in range(len(job.results))
            if (name, number) in self.entries
        ]
        often = Counter(entry["status"] for entry in results)
        plain = {name: value if isinstance(value, (int, float, type(None))) else str(value)
                 for name, value in settings.items()}  # fmt: skip
        return {
            "photos": len(self.jobs),
            "planned": self.planned,
            **{kind: often[kind] for kind in ("done", "skipped", "failed")},
            "not_reached": self.planned - len(results),
            "seconds": round(seconds, 2),
            **facts,
            "settings": plain,
            "recipe": json.loads(recipe.model_dump_json()),
            "results": results,
        }


def write_report(path: Path, report: dict, scratch: Path) -> None:
    from editing.faces.saving import write_atomically

    try:
        write_atomically(path, (json.dumps(report, indent=1) + "\n").encode(), scratch=scratch)
    except PhotoError as error:
        raise WplusError(str(error)) from error


def disk_full(error: BaseException | None) -> bool:
    """Whether a full disk (or quota) is anywhere among the causes of an error."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False


@contextmanager
def working_folder(out: Path) -> Iterator[Path]:
    """The state folder inside `out`, locked against a second batch at the same time.  Raises UsageError, WplusError."""
    import filelock

    from editing.faces.saving import reason
    from editing.output import make_folder

    state = out / STATE
    if (out / REPORT).exists() and not state.exists():
        raise UsageError(f"{out / REPORT} is not from a batch: move it, or choose another --out.")
    make_folder(state)
    try:
        with filelock.FileLock(state / "lock", timeout=0):
            for leftover in {*state.glob("*finished.*"), *state.glob("*.part")}:  # of a run that was killed
                leftover.unlink()
            yield state
    except filelock.Timeout:
        raise UsageError(f"Another batch is writing into {out} right now.") from None
    except OSError as error:
        raise WplusError(f"Cannot write into {out}: {reason(error)}.") from error


def inverted(place: Path, photo_sha256: str) -> bool:
    """Is the file an inversion of this photo?"""
    from editing.types import Inversion

    try:
        return Inversion.load(place).photo_sha256 == photo_sha256
    except WplusError:
        return False
