"""What the compact hypernetwork's offsets are worth: passes 0 to 3 on aligned photos; prints a Markdown table.

    python -m bench.hyper photos/aligned

Codes are those of `--method encoder --steps 10`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from stylegan2.allocator import tune_allocator

tune_allocator()  # before anything large is allocated

import torch  # noqa: E402

from editing.batch import find_photos  # noqa: E402
from editing.inversion import Budget  # noqa: E402
from editing.inversion.metrics import reconstruction_metrics  # noqa: E402
from editing.session import Editor  # noqa: E402
from hyperstyle import compact  # noqa: E402

NAMES = ("l2", "ms_ssim", "id_distance")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="aligned crops")
    parser.add_argument("--passes", type=int, default=3)
    options = parser.parse_args()
    editor, network, rows = Editor(), compact.load(), []
    for path in sorted(find_photos(options.folder)):
        ws = editor.set_photo(path, method="encoder", budget=Budget(steps=10), aligned=True).ws
        row, crop = [], editor.targets[0].crop
        for passes in range(options.passes + 1):
            deltas = compact.refine(network, editor.generator, crop, ws, passes)
            with torch.inference_mode():
                found = reconstruction_metrics(crop, editor.generator.synthesis(ws, deltas))
            row.append([found.get(name, np.nan) for name in NAMES])
        rows.append(row)
    print("| passes | L2 | MS-SSIM | identity distance |\n|---|---|---|---|")
    for passes, (l2, ssim, distance) in enumerate(np.nanmean(rows, 0)):
        print(f"| {passes} | {l2:.4f} | {ssim:.3f} | {distance:.3f} |")


if __name__ == "__main__":
    main()
