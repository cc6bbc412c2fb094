"""Files that are whole or not there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """A hidden name beside `path`, with its suffix, to write under; what was written takes the place of `path`.

    If the body fails or is interrupted, `path` is what it was and nothing stays beside it.  Not for private data:
    the file is readable by everybody.
    """
    path = Path(path)
    part = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield part
        os.chmod(part, 0o644)  # safetensors writes files that only their owner can read
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
