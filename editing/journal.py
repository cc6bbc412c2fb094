"""What a batch remembers of its results, so that a run that was killed goes on where it stopped.

One process writes it, whoever does the work: see `editing.batching.desk`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from stylegan2.errors import PhotoError


class Journal:
    """One JSON line per result, appended and synced just before the rename that puts the result in place.

    A result counts as done when the file in its place has the sha256 of a line with its key (`run_key`), its photo's
    name and sha256.  A line that a kill cut short is ignored.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = list(_read_lines(path))
        self.made = {line["sha256"] for line in lines}
        self.done = {(line.get("key"), line["photo"], line["photo_sha256"], line["sha256"]) for line in lines}

    def is_done(self, key: str, photo: str, photo_sha256: str, target: Path) -> bool:
        return target.is_file() and (key, photo, photo_sha256, file_sha256(target)) in self.done

    def refuse_strange(self, target: Path) -> None:
        """PhotoError if a file lies at the target that no batch into this folder has made."""
        if target.exists() and (not target.is_file() or file_sha256(target) not in self.made):
            raise PhotoError(f"{target} exists and is not from this batch: move it, or choose another --out.")

    def add(self, key: str, photo: str, photo_sha256: str, sha256: str, output: str) -> None:
        """Remember a result, on the disk when this returns.  output: its file name, for people."""
        line = {"key": key, "photo": photo, "photo_sha256": photo_sha256, "sha256": sha256, "output": output}
        with open(self.path, "a", encoding="utf-8") as stream:
            stream.write("\n" + json.dumps(line) + "\n")  # its own line even after one that was cut short
            stream.flush()
            os.fsync(stream.fileno())
        self.done.add((key, photo, photo_sha256, sha256))
        self.made.add(sha256)


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


def run_key(recipe: Any, settings: Mapping[str, Any]) -> str:
    """A hash of everything that decides what a result looks like.  (Not the thread count: that only rounds.)"""
    facts = {"recipe": json.loads(recipe.model_dump_json()), "settings": {k: str(v) for k, v in settings.items()}}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    try:
        with open(path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        from editing.faces.saving import reason

        raise PhotoError(f"Cannot read {path}: {reason(error)}.") from error
