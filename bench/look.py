"""How near quick pictures come to what is saved, and how much sooner they are there.

    python -m bench.look photos/aligned --count 4

For aligned photos, inverted by `hyper`: every edit of the catalogue at both ends of its range and half way.  PSNR is
between the quick picture as it is sent and the crop of the edited photo, area-averaged to its size; times are medians
of this run.
"""

from __future__ import annotations

import argparse
import base64
import io
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from editing import session
from editing.faces import align
from editing.types import latent_step
from stylegan2.engine import area_resize
from ui import page
from ui.engine import Engine
from ui.look import draw, look
from ui.studio import Studio
from ui.views.edit import QUICK


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    error = np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def shown(rgb: np.ndarray) -> np.ndarray:
    """What the browser decodes of a quick picture."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(page.url(rgb, QUICK).partition(",")[2]))))


def timed(work, runs: int = 9) -> float:
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def compared(engine: Engine, photos: list[Path], only: list[str] | None) -> tuple[str, float]:
    """Every edit of every photo, both ways, and how long each way takes; the last edit and its strength."""
    editor = session.Editor(engine.generator, catalogue=engine.catalogue)
    named = {n: d for n, d in engine.catalogue.items() if d.safe_range and (not only or n in only)}
    figures, rows = [], []
    for path in photos:
        inversion = editor.set_photo(path, method="hyper", aligned=True)
        photo, first = editor.scene.photo, len(figures)
        begun = look(engine.quick, inversion, editor.targets[0].crop, whole=True)
        for name, direction in named.items():
            for strength in [end * part for end in direction.safe_range if end for part in (0.5, 1.0)]:
                steps = [latent_step(name, strength)]
                ours = draw(engine.quick, begun, steps, engine.catalogue, {}, {})
                edited = editor.edit({name: strength}).photo
                crop = session.to_tensor(align.crop(edited.rgb, inversion.quad, engine.generator.resolution))
                figures.append(psnr(shown(ours), session.to_rgb(area_resize(crop, len(ours)))))
                rows.append((figures[-1], f"{path.stem} {name}={strength:+g}"))
        print(f"{path.stem}: {photo.size[0]} pixels, median {np.median(figures[first:]):.1f} dB", flush=True)
    low, middle = np.percentile(figures, [5, 50])
    enough, worst = np.mean(np.array(figures) >= 30), "; ".join(f"{name} {f:.1f}" for f, name in sorted(rows)[:4])
    print(f"{len(figures)} pictures: median {middle:.1f} dB, 5% below {low:.1f}, {enough:.0%} at least 30 dB")
    print(f"worst: {worst}")
    quick_time = timed(lambda: draw(engine.quick, begun, steps, engine.catalogue, {}, {}))
    render_time = timed(lambda: editor.render({name: strength}))
    edit_time = timed(lambda: editor.edit({name: strength}), 3)
    print(f"a quick picture {quick_time:.3f} s, a render {render_time:.3f}, the edited photo {edit_time:.3f}, "
          f"with {torch.get_num_threads()} threads")  # fmt: skip
    return name, strength


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--count", type=int, default=4, help="photos")
    parser.add_argument("--only", nargs="*", help="names of edits; default: all")
    options = parser.parse_args()
    engine, photos = Engine(), sorted(options.photos.glob("*.jpg"))[: options.count]
    name, strength = engine.run(lambda: compared(engine, photos, options.only))  # as in the editor, on one thread
    studio = Studio(engine)
    studio.open(photos[-1].read_bytes(), photos[-1].name)
    for method in ("encoder", "hyper"):
        took = timed(lambda method=method: (studio.current.inversions.clear(), studio.invert(method).wait()), 3)
        first = timed(lambda: (studio.current.looks.clear(), studio.preview()), 3)
        print(f"{method}: inverted in {took:.2f} s, the first picture {first:.2f} s after that")
    studio.set({name: strength})
    print(f"the real picture, judged: {timed(studio.refine, 3):.2f} s")


if __name__ == "__main__":
    main()
