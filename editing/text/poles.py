"""What can be said of a face, as data: `words/poles.toml`, and what it means in the judges' units.

    poles = load()
    poles["red_hair"].wants                      # {"hair_red": 1.8}, in standard deviations of the population
    poles["red_hair"].holds(scores.values)       # is that how this face would be described?

A pole is one end of something that judges measure: glasses and no glasses are two.  Sentences that ask for it and
sentences that describe it are made from its words; see `captions` and `instructions`.

    python -m editing.text.poles faces/       # counts again how often each holds, which captions go by
"""

from __future__ import annotations

import argparse
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from editing.directions import sampling
from editing.judges.judge import NAMES
from stylegan2.files import replacing

WORDS = Path(__file__).with_name("words")


@dataclass(frozen=True)
class Pole:
    """wants: judge -> standard deviations that it moves when this is asked for; level: judge -> what it is to become
    instead, in the judge's own units; along: judges that may come along, since they measure nearly the same.
    seen: judge -> (from, to), where a face is described so; state, has: words for that; asked: words for asking, by
    slot ('are', 'have', 'do', 'change': see `instructions`); part: names of the part that it is about ('noun'), how
    that is to be ('adj') and what is to be done to it ('verb'); korean: regular expressions; opposite: the other end's
    name, '' if there is none; share: of generated faces, how many it holds of."""

    name: str
    wants: Mapping[str, float]
    level: Mapping[str, float] = field(default_factory=dict)
    along: frozenset[str] = frozenset()
    seen: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    state: tuple[str, ...] = ()
    has: tuple[str, ...] = ()
    asked: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    part: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    korean: tuple[str, ...] = ()
    opposite: str = ""
    share: float = 0.0

    @property
    def judges(self) -> tuple[str, ...]:
        """Those that it names."""
        return (*self.wants, *self.level)

    def holds(self, values: Mapping[str, float]) -> bool:
        """Is a face with these scores described so?  Never, where a judge had nothing to measure."""
        return bool(self.seen) and all(low <= values[judge] <= high for judge, (low, high) in self.seen.items())


@cache
def load() -> Mapping[str, Pole]:
    """All poles, in the file's order."""
    table = tomllib.loads((WORDS / "poles.toml").read_text(encoding="utf-8"))
    asked = json.loads((WORDS / "english.json").read_text(encoding="utf-8"))
    parts = tomllib.loads((WORDS / "parts.toml").read_text(encoding="utf-8"))
    shares = json.loads((WORDS / "shares.json").read_text(encoding="utf-8"))
    groups = {name: frozenset(judges) for name, judges in table.pop("groups").items()}
    return {
        name: Pole(
            name,
            facts.get("wants", {}),
            facts.get("level", {}),
            frozenset().union(*(groups.get(word, {word}) for word in facts["along"]))
            - {*facts.get("wants", {}), *facts.get("level", {})},
            {judge: tuple(map(float, ends)) for judge, ends in facts.get("seen", {}).items()},
            tuple(facts.get("is", ())),
            tuple(facts.get("has", ())),
            {slot: tuple(phrases) for slot, phrases in asked.get(name, {}).items()},
            {slot: tuple(words) for slot, words in parts.get(name, {}).items()},
            tuple(facts.get("ko", ())),
            facts.get("not", ""),
            shares.get(name, 0.0),
        )
        for name, facts in table.items()
    }


def apart(a: str, b: str) -> bool:
    """Do two poles pull one judge both ways?"""
    first, second = load()[a].wants, load()[b].wants
    return any(first[judge] * second[judge] < 0 for judge in first.keys() & second.keys())


def main() -> None:
    """Count how many of a folder's judged faces every pole holds of."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("faces", type=Path, help="a folder of editing.directions.sampling")
    scores = sampling.load(parser.parse_args().faces)["scores"]
    faces = [dict(zip(NAMES, map(float, row), strict=True)) for row in scores]
    shares = {name: round(sum(map(pole.holds, faces)) / len(faces), 4) for name, pole in load().items() if pole.seen}
    with replacing(WORDS / "shares.json") as part:
        part.write_text(json.dumps(shares, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
