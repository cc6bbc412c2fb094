"""The catalogue's measurements as a page:  python -m editing.directions.table > docs/catalogue.md

Everything in it is read from the shipped catalogue, where `editing.directions.calibrate` and
`editing.directions.disentangle` have put it.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

from editing.directions.catalogue import Catalogue, Direction, load

WORST = 3  # leaks that are named
HEAD = """# The catalogue, measured

Every edit on 64 generated faces (seeds 0-63, psi 0.7) and 16 real photos inverted by `hyper`, at both ends of its
safe range. **Moves**: what its judge says there on average, in standard deviations of the population (generated
faces, psi 0.8). **Right**: the share of the faces that it moves the way it says. **Drift**: median dlib distance of
the edited face from the unedited one, the larger of both ends; 0.45 is another person, except where age and pose
change a face by nature (0.6). A range that begins or ends at 0 has another end that did not keep them. Ends were
moved, and edits that fail were left out, by these same faces: figures close to a limit are a little kind, and other
faces will pass it somewhat more often. **Leak**: what the other judges move on average for one standard deviation
of its own; **clean**: that with `--disentangle`, where there is such a form, and the share of its own movement that
it keeps; then what leaks most. On 64 faces that neither figures nor search have seen, these forms leak 54% less than
their edits (`bench.leakage`). [Both forms at the ends of their ranges](gallery/disentangled.webp).

```sh
python -m editing.directions.calibrate work/ --photos aligned/                   # then with --collect alone
python -m editing.directions.disentangle work/ --photos aligned/ --leakiest 10   # then with --collect alone
python -m editing.directions.table                                               # this page
```

| edit | what it does | judge | range | moves | right | drift | leak | clean | leaks most |
|---|---|---|---|---|---|---|---|---|---|
"""


def row(direction: Direction) -> str:
    worst = sorted(direction.leakage.items(), key=lambda item: -np.nan_to_num(item[1]))[:WORST]
    low, high = direction.safe_range
    is_open = [bool(end) for end in direction.safe_range]
    ends = [f"{end:+.1f}" for end, shown in zip(direction.ends, is_open, strict=True) if shown]
    right = [f"{share:.0%}" for share, shown in zip(direction.right, is_open, strict=True) if shown]
    figures = direction.clean_figures
    clean = f"{figures['leak']:.2f} ({figures['kept']:.0%})" if figures else ""
    cells = [
        f"[{direction.name}](gallery/edits/{direction.name}.webp)", direction.description, direction.judge,
        f"{low:+g} to {high:+g}", " to ".join(ends), ", ".join(right), f"{direction.drift:.3f}",
        f"{direction.leaks:.2f}", clean, ", ".join(f"{name} {amount:.1f}" for name, amount in worst),
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def cosines(catalogue: Catalogue) -> torch.Tensor:
    """(N, N): of what every two edits do to the rows of a code."""
    moves = []
    for direction in catalogue.values():
        rows = torch.zeros(16, 512)
        rows[slice(*direction.rows)] = direction.vector
        moves.append(rows.flatten() / rows.norm().clamp(min=1e-12))  # single channels move no code
    stacked = torch.stack(moves)
    return stacked @ stacked.T


def page(catalogue: Catalogue) -> str:
    lines, group = [], None
    for direction in sorted(catalogue.values(), key=lambda d: (d.group, d.name)):
        if direction.group != group:
            group = direction.group
            lines.append(f"| **{group}** |" + " |" * 9)
        lines.append(row(direction))
    alike = cosines(catalogue) - torch.eye(len(catalogue))
    names, at = list(catalogue), int(alike.abs().argmax())
    pair = names[at // len(names)], names[at % len(names)]
    closest = f"The two most alike are {pair[0]} and {pair[1]} (cosine {alike.flatten()[at]:.2f})."
    return HEAD + "\n".join(lines) + f"\n\n{len(catalogue)} edits. {closest}\n"


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    print(page(load()), end="")


if __name__ == "__main__":
    main()
