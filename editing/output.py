"""Output folders in which nothing is ever half-written: work in a hidden folder, move when all is done."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from editing.faces.saving import reason
from stylegan2.errors import WplusError


@contextmanager
def staged(folder: str | os.PathLike) -> Iterator[Path]:
    """Yield a scratch folder; when the body ends well, move its files into `folder`, replacing older ones.

    When the body fails or is interrupted, nothing of it stays, and a folder made for it is removed again.
    Raises WplusError if the folder cannot be made or written, or the disk is full.
    """
    folder = Path(folder)
    made = make_folder(folder)
    scratch = None
    try:
        scratch = Path(tempfile.mkdtemp(prefix=".wplus-", dir=folder))
        yield scratch
        files = sorted(scratch.rglob("*"))
        targets = {file: folder / file.relative_to(scratch) for file in files}
        for file, target in targets.items():  # all of them or none
            if target.exists() and target.is_dir() != file.is_dir():
                raise WplusError(f"Cannot write {target}: a {'folder' if target.is_dir() else 'file'} is in its place.")
        for file, target in targets.items():
            if file.is_dir():
                target.mkdir(exist_ok=True)
            else:
                os.replace(file, target)
    except OSError as error:
        raise WplusError(f"Cannot write into {folder}: {reason(error)}.") from error
    finally:
        if scratch:
            shutil.rmtree(scratch, ignore_errors=True)
        for empty in made:
            with suppress(OSError):
                empty.rmdir()  # only if nothing came into it


def make_folder(folder: Path) -> list[Path]:
    """Make `folder` and its parents; the folders that were made, innermost first.  Raises WplusError."""
    try:
        missing = [place for place in (folder, *folder.parents) if not place.exists()]
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise WplusError(f"Cannot write into {folder}: it is a file, not a folder.") from None
    except OSError as error:
        raise WplusError(f"Cannot make the folder {folder}: {reason(error)}.") from error
    return missing
