"""A table of strengths, a photo a line:  photo,smile,age  --  a.jpg,2,  --  sub/b.png,-1,3

Spreadsheets write such files.  Every mistake in one is a sentence with its line number, before anything slow starts.
"""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath

from stylegan2 import console
from stylegan2.errors import UsageError

PHOTO = "photo"  # the column that names the photo


def read(path: Path, photos: Iterable[str], edits: Iterable[str],
         known: Callable[[str], bool] = lambda name: False) -> dict[str, dict[str, float]]:  # fmt: skip
    """The table: photo -> {edit: strength}, in its order; empty cells are left out.

    photos: names below the input folder, with '/'.  edits: names of edits and heads; known: of more.  Raises
    UsageError, with the line, for a name that does not exist, a photo that comes twice, a strength that is no number.
    """
    rows = list(lines(path))
    if not rows:
        raise UsageError(f"{path} is empty: its first line names the columns, for example photo,smile,age.")
    number, header = rows[0]
    columns = [cell.strip() for cell in header]
    check_header(path, number, columns, [*edits, *filter(known, columns)])
    there = {normal(name): name for name in photos}
    table: dict[str, dict[str, float]] = {}
    came: dict[str, int] = {}
    for number, cells in rows[1:]:
        where = f"Line {number} of {path}"
        if len(cells) != len(columns):
            raise UsageError(f"{where} has {len(cells)} cells, and the first line has {len(columns)}.")
        row = dict(zip(columns, (cell.strip() for cell in cells), strict=True))
        wanted = row.pop(PHOTO)
        name = there.get(normal(wanted))
        if name is None:
            raise UsageError(f"{where}: {console.unknown('photos', wanted, there) if wanted else 'it names no photo.'}")
        if name in came:
            raise UsageError(f"{where}: {wanted} has a line already, line {came[name]}.")
        came[name] = number
        table[name] = strengths(where, row)
    if not table:
        raise UsageError(f"{path} names no photo.")
    return table


def lines(path: Path) -> Iterable[tuple[int, list[str]]]:
    """(line number, cells) of every line that is not blank.  UsageError for what is no CSV in UTF-8."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        from editing.faces.saving import reason

        raise UsageError(f"Cannot read the table {path}: {reason(error)}.") from None
    except UnicodeDecodeError as error:
        number = error.object.count(b"\n", 0, error.start) + 1
        raise UsageError(f"Line {number} of {path} is not UTF-8 text: save the table as CSV in UTF-8.") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, cells
    except csv.Error as error:
        raise UsageError(f"Line {reader.line_num} of {path} cannot be read as CSV: {error}.") from None


def check_header(path: Path, number: int, columns: list[str], edits: list[str]) -> None:
    where = f"Line {number} of {path}"
    if PHOTO not in columns:
        raise UsageError(f"{where} has no column '{PHOTO}': it names the columns, with commas, as in photo,smile,age.")
    for index, name in enumerate(columns):
        if name in columns[:index]:
            raise UsageError(f"{where} has two columns '{name}'.")
        if name != PHOTO and name not in edits:
            raise UsageError(f"{where}: {console.unknown('edits', name, edits)}")


def strengths(where: str, row: Mapping[str, str]) -> dict[str, float]:
    """The cells of a line that are not empty, as numbers."""
    from editing.types import finite

    try:
        return {name: finite(cell, name) for name, cell in row.items() if cell}
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None


def normal(name: str) -> str:
    """One spelling of a name: './sub\\\\a.jpg' is 'sub/a.jpg', and an accent is one letter however it was typed."""
    return unicodedata.normalize("NFC", PurePosixPath(name.replace("\\", "/")).as_posix())
