"""Sentences that somebody wrote who knew none of our word lists: what share is understood as it was meant?

    python -m bench.reading                        # the file of the tests
    python -m bench.reading mine.json --wrong      # and those that are not

A row has a text and the judges that it is about, with a sign each; understood is: all of them, and nothing else.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

from editing.text import fit, reading


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sentences", type=Path, nargs="?", default=Path("tests/editing/text/written.json"))
    parser.add_argument("--wrong", action="store_true")
    options = parser.parse_args()
    rows = json.loads(options.sentences.read_text(encoding="utf-8"))
    reader, seconds = reading.load(), []
    wrong = fit.understood(reader, rows)
    for row in rows:
        started = time.monotonic()
        reader.read(row["text"])
        seconds.append(time.monotonic() - started)
    kinds: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for row in rows:
        for kind in (row.get("kind", ""), "all"):
            kinds[kind][0] += 1
    for row, _ in wrong:
        for kind in (row.get("kind", ""), "all"):
            kinds[kind][1] += 1
    for kind, (count, missed) in kinds.items():
        print(f"{kind}: {count - missed} of {count} understood, {1 - missed / count:.1%}")
    print(f"seconds a sentence: median {np.median(seconds):.3f}, largest {max(seconds):.3f}")
    for row, read in wrong if options.wrong else ():
        print(f"{row['text']!r} wants {row['wants']}, read {read}")


if __name__ == "__main__":
    main()
