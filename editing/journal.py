"""What a batch remembers of its results, so that a run that was killed goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from stylegan2.errors import PhotoError

if TYPE_CHECKING:
    from editing.batch import Job


class Journal:
    """One JSON line per result, appended and synced just before the rename that puts the result in place.

    A result counts as done when its line has this run's key, the photo's sha256 is still the same and the
    file in place has the sha256 of the line.  A line that a kill cut short is ignored.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self.path, self.key = folder, folder / "journal.jsonl", key
        lines = list(_read_lines(self.path))
        self.made = {line["sha256"] for line in lines}
        self.done = {line["photo"]: line for line in lines if line.get("key") == key}

    def is_done(self, job: Job, photo_sha256: str) -> bool:
        line = self.done.get(job.name)
        if line is None or line["photo_sha256"] != photo_sha256 or not job.target.is_file():
            return False
        return file_sha256(job.target) == line["sha256"]

    def refuse_strange(self, job: Job) -> None:
        """PhotoError if a file lies at the target that no batch into this folder has made."""
        if job.target.exists() and (not job.target.is_file() or file_sha256(job.target) not in self.made):
            raise PhotoError(f"{job.target} exists and is not from this batch: move it, or choose another --out.")

    def add(self, job: Job, photo_sha256: str, finished: Path) -> None:
        line = {"key": self.key, "photo": job.name, "photo_sha256": photo_sha256, "sha256": file_sha256(finished)}
        with open(self.path, "a", encoding="utf-8") as stream:
            stream.write("\n" + json.dumps(line) + "\n")  # its own line even after one that was cut short
            stream.flush()
            os.fsync(stream.fileno())
        self.done[job.name] = line
        self.made.add(line["sha256"])


def _read_lines(path: Path) -> Iterable[dict]:
    try:
        texts = path.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return
    for text in texts:
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and {"photo", "photo_sha256", "sha256"} <= set(line):
            yield line


def run_key(recipe, settings: dict) -> str:
    """A hash of everything that decides what a result looks like."""
    facts = {"recipe": json.loads(recipe.model_dump_json()), "settings": {k: str(v) for k, v in settings.items()}}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    try:
        with open(path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        from editing.faces.saving import reason

        raise PhotoError(f"Cannot read {path}: {reason(error)}.") from error
