"""Make the pictures of the README from scratch:  python docs/gallery.py [demo] [drawing.safetensors]

After `make demo` and `python -m hyperstyle.domain --style drawing --out drawing.safetensors`.

Only generated faces are shown, and NASA's public-domain portrait of Eileen Collins with smile and pose.
Writes docs/gallery/{faces,inversion,encoder,demo,catalogue,mixing}.webp, each below 300 KB.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from editing import directions, mixing
from editing.inversion import Budget, encoder, encoder_optimise, hyper, hyper_tune, residual, tune
from stylegan2 import checkpoints, engine, zoo
from stylegan2.allocator import tune_allocator

ROOT = Path(__file__).resolve().parent
GALLERY = ROOT / "gallery"
FACES = (19, 12, 33, 51)
SHOWN = (("", 0), ("smile", 2), ("smile", -2), ("age", 3), ("age", -2), ("glasses", 3), ("yaw", 2), ("pitch", 2))
EDITS = (("smile", 2), ("age", 2.5), ("age", -2), ("yaw", 2))


def render(generator, ws, size=256):
    with torch.inference_mode():
        return engine.to_uint8(engine.area_resize(generator.synthesis(ws), size))[0]


def labelled(picture: np.ndarray, text: str) -> np.ndarray:
    image = Image.fromarray(picture)
    if text:
        draw = ImageDraw.Draw(image)
        draw.rectangle((0, 0, 8 + 7 * len(text), 15), fill=(0, 0, 0))
        draw.text((4, 2), text, fill=(255, 255, 255))
    return np.asarray(image)


def write(rows: list[list[np.ndarray]], name: str, quality: int = 82) -> None:
    picture = Image.fromarray(np.vstack([np.hstack(row) for row in rows]))
    GALLERY.mkdir(exist_ok=True)
    while True:
        picture.save(GALLERY / name, quality=quality, method=6)
        if (GALLERY / name).stat().st_size <= 300_000:
            return
        quality -= 6


def faces(generator, catalogue) -> None:
    """Generated faces, a row each, with some edits at their strengths."""
    rows = []
    for seed in FACES:
        ws = engine.broadcast(generator, engine.latents(generator, [seed], 0.7))
        codes = [(directions.apply(ws, catalogue[n], s) if n else ws, f"{n} {s:+g}" if n else "") for n, s in SHOWN]
        rows.append([labelled(render(generator, code, size=200), text) for code, text in codes])
    write(rows, "faces.webp")


def inverted(generator, catalogue, seed: int = 3) -> None:
    """A generated face as if it were a photo: itself, its inversions by `hyper` and `tune`, and edits of both."""
    w, rows = engine.latents(generator, [seed], 0.9), []
    with torch.inference_mode():
        image = generator.synthesis(engine.broadcast(generator, w))
    for invert in (hyper, tune):
        found = invert(generator, image.clone())
        row = [labelled(engine.to_uint8(engine.area_resize(image, 256))[0], "the face")]
        for name, strength in ((None, 0), *EDITS):
            edited = replace(found, ws=directions.apply(found.ws, catalogue[name], strength)) if name else found
            picture = engine.to_uint8(engine.area_resize(residual.render(generator, edited), 256))[0]
            row.append(labelled(picture, f"{name} {strength:+g}" if name else invert.__name__))
        rows.append(row)
    write(rows, "inversion.webp")


def encoded(generator, seeds=(61, 62, 64, 65, 67, 70)) -> None:
    """Generated faces as if they were photos: themselves, the encoder's answer, corrected, optimised."""
    columns = []
    for seed in seeds:
        with torch.inference_mode():
            image = generator.synthesis(engine.broadcast(generator, engine.latents(generator, [seed], 0.9)))
        image = image.clone()
        found = (encoder(generator, image, budget=Budget(steps=1)), encoder(generator, image))
        codes = [inversion.ws for inversion in (*found, encoder_optimise(generator, image))]
        names = ("", "network alone", "encoder", "encoder+optimise")
        shown = [engine.to_uint8(engine.area_resize(image, 256))[0], *(render(generator, ws) for ws in codes)]
        columns.append(np.vstack([labelled(picture, name) for picture, name in zip(shown, names, strict=True)]))
    write([columns], "encoder.webp")


def sheet(generator, catalogue, seeds=(5, 19)) -> None:
    """Every direction of the catalogue at the ends of its safe range, on two generated faces."""
    ws = [engine.broadcast(generator, engine.latents(generator, [seed], 0.7)) for seed in seeds]
    plain = [render(generator, w, size=128) for w in ws]
    rows = []
    for name, direction in catalogue.items():
        row = []
        for w, middle in zip(ws, plain, strict=True):
            low, high = (render(generator, directions.apply(w, direction, s), size=128) for s in direction.safe_range)
            row += [labelled(low, f"{name} {direction.safe_range[0]:+g}"), middle,
                    labelled(high, f"{direction.safe_range[1]:+g}")]  # fmt: skip
        rows.append(row)
    half = (len(rows) + 1) // 2
    rows += [[np.zeros_like(t) for t in rows[0]]] * (2 * half - len(rows))
    write([left + right for left, right in zip(rows[:half], rows[half:], strict=True)], "catalogue.webp")


def mixes(generator, catalogue, drawing: Path, seeds=(19, 33)) -> None:
    """Two generated faces as if they were photos, by `hyper+tune`: between them, mixed, and drawn by a sister."""
    people = []
    for seed in seeds:
        with torch.inference_mode():
            image = generator.synthesis(engine.broadcast(generator, engine.latents(generator, [seed], 0.9)))
        people.append(hyper_tune(generator, image.clone()))

    def tile(inversion, text: str, drawer=generator) -> np.ndarray:
        return labelled(engine.to_uint8(engine.area_resize(residual.render(drawer, inversion), 256))[0], text)

    a, b = people
    amounts = (0, 0.25, 0.5, 0.75, 1)
    rows = [[tile(mixing.interpolate(generator, a, b, t), f"between {t:g}") for t in amounts]]
    sister = checkpoints.load(drawing)
    smiling = replace(a, ws=directions.apply(a.ws, catalogue["smile"], 2))
    shown = ((a, "drawing"), (smiling, "drawing, smile +2"))
    drawn = [tile(mixing.transferred(found, sister), text, sister) for found, text in shown]
    styles = [tile(mixing.style_mix(generator, one, other), "style 7") for one, other in ((a, b), (b, a))]
    rows.append([*styles, tile(smiling, "smile +2"), *drawn])
    write(rows, "mixing.webp")


def demo(folder: Path) -> None:
    """The portrait of `make demo`, before and after, whole photo."""
    before = Image.open(ROOT / "samples" / "astronaut.jpg").convert("RGB")
    after = Image.open(folder / "astronaut.edited.png").convert("RGB")
    write([[labelled(np.asarray(before), "photo"), labelled(np.asarray(after), "smile +2")]], "demo.webp", 90)


def main() -> None:
    tune_allocator()
    generator = checkpoints.load(zoo.path("mobilestylegan-ffhq-1024"))
    catalogue = directions.load()
    faces(generator, catalogue)
    sheet(generator, catalogue)
    inverted(generator, catalogue)
    encoded(generator)
    demo(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT.parent / "demo")
    mixes(generator, catalogue, Path(sys.argv[2] if len(sys.argv) > 2 else "drawing.safetensors"))


if __name__ == "__main__":
    main()
