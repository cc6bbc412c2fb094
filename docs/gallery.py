"""Make the pictures of the documents from scratch:  python docs/gallery.py [demo] [drawing.safetensors] [names]

After `make demo` and `python -m hyperstyle.domain --style drawing --out drawing.safetensors`.

Only generated faces are shown, and NASA's public-domain portrait of Eileen Collins with smile and pose.
Writes docs/gallery/{faces,inversion,encoder,demo,catalogue,disentangled,regions,mixing,pictures,many,moved,maps,
instances,distilled,text}.webp and a sheet for every edit into docs/gallery/edits/, each below 300 KB.  With names of
makers (below) after the files, only what they make.
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
from editing.session import Editor
from editing.steps import Layer, apply_step, restyled
from editing.types import Inversion, Recipe, latent_step
from stylegan2 import checkpoints, engine, zoo
from stylegan2.allocator import tune_allocator

ROOT = Path(__file__).resolve().parent
GALLERY = ROOT / "gallery"
FACES = (19, 12, 33, 51)
SHOWN = (("", 0), ("smile", 2), ("smile", -2), ("age", 3), ("age", -2), ("blond", 2), ("yaw", 2), ("pitch", 2))
REGIONAL = (("blond", 3, "hair"), ("lipstick", 3, "lips"), ("light_eyes", 5, "eyes"), ("teeth", 2.5, "mouth"),
            ("background_light", 6, "background"))  # fmt: skip
SENTENCES = ("a big happy grin", "ten years younger", "ginger curls", "put glasses on", "older, gray, wrinkled",
             "looking to the left", "smoky eyes, red lips")  # fmt: skip
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
    (GALLERY / name).parent.mkdir(parents=True, exist_ok=True)
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


def edited(generator, catalogue, ws, name: str, strength: float, size: int, **more) -> np.ndarray:
    """A generated face after one edit of the catalogue, whatever it is made of; more: of the step's parameters."""
    step, face = latent_step(name, strength), Inversion(ws=ws, family=generator.family)
    step = step.model_copy(update={"parameters": step.parameters | more})
    layer = restyled(generator, Layer(None, apply_step(face, step, catalogue)), [step], catalogue)
    return engine.to_uint8(engine.area_resize(residual.render(generator, layer.inversion), size))[0]


def sheets(generator, catalogue, seeds=(5, 19, 12, 33), size=144) -> None:
    """A contact sheet for every edit: generated faces at both ends of its safe range, half-way, and as they are."""
    codes = [engine.broadcast(generator, engine.latents(generator, [seed], 0.7)) for seed in seeds]
    plain = [labelled(render(generator, ws, size=size), "as it is") for ws in codes]
    for name, direction in catalogue.items():
        low, high = direction.safe_range
        rows = []
        for ws, middle in zip(codes, plain, strict=True):
            below, above = (
                [labelled(edited(generator, catalogue, ws, name, amount, size), f"{amount:+.3g}") for amount in amounts]
                for amounts in ([low, low / 2] if low else [], [high / 2, high] if high else [])
            )
            rows.append([*below, middle, *above])
        write(rows, f"edits/{name}.webp", 80)


def overview(generator, catalogue, seeds=(5, 19)) -> None:
    """Every edit of the catalogue at the ends of its safe range, on two generated faces."""
    ws = [engine.broadcast(generator, engine.latents(generator, [seed], 0.7)) for seed in seeds]
    rows = []
    for name, direction in catalogue.items():
        row = []
        for face in ws:
            low, high = direction.safe_range
            tiles = [edited(generator, catalogue, face, name, amount, 96) for amount in (low, 0, high)]
            row += [labelled(tiles[0], name), *tiles[1:]]
        rows.append(row)
    third = (len(rows) + 2) // 3
    rows += [[np.zeros_like(tile) for tile in rows[0]]] * (3 * third - len(rows))
    write([sum(columns, []) for columns in zip(rows[:third], rows[third : 2 * third], rows[2 * third :], strict=True)],
          "catalogue.webp")  # fmt: skip


def forms(generator, catalogue, seeds=(5, 33), size=128) -> None:
    """Edits that have a disentangled form at the ends of their range: plain, disentangled, the face, the same again."""
    rows = []
    for name, direction in catalogue.items():
        if direction.clean is None:
            continue
        row = []
        for seed in seeds:
            ws = engine.broadcast(generator, engine.latents(generator, [seed], 0.7))
            tiles = [labelled(render(generator, ws, size=size), name)]
            for end in direction.safe_range:
                plain, clean = (edited(generator, catalogue, ws, name, end, size, **how) if end else tiles[0]
                                for how in ({}, {"disentangle": True}))  # fmt: skip
                pair = [labelled(plain, f"{end:+.3g}"), labelled(clean, "disentangled")] if end else [plain, plain]
                tiles = [*tiles, *reversed(pair)] if end > 0 else [*pair, *tiles]
            row += tiles
        rows.append(row)
    write(rows, "disentangled.webp")


def regional(generator, catalogue, seed: int = 3) -> None:
    """A generated face as if it were a photo, by `hyper`: edits in one region each, and the same edits everywhere."""
    with torch.inference_mode():
        image = generator.synthesis(engine.broadcast(generator, engine.latents(generator, [seed], 0.9)))
    editor = Editor(generator, catalogue=catalogue)
    editor.set_inversion(hyper(generator, image.clone()))
    rows: list[list[np.ndarray]] = [[], []]
    for name, strength, region in REGIONAL:
        for row, where in zip(rows, (region, None), strict=True):
            step = latent_step(name, strength).model_copy(update={"region": where})
            picture = engine.to_uint8(engine.area_resize(editor.render(Recipe(steps=(step,))), 224))[0]
            row.append(labelled(picture, f"{name} {strength:+g}" + (f" @{where}" if where else "")))
    write(rows, "regions.webp")


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


def pictures(generator, seeds=(5, 19, 12, 33), size=176) -> None:
    """Generated faces, what was left of them, and what heads made of that, as `translate apply` does it."""
    from editing.heads.drawing import kept
    from editing.inversion import STRATEGIES
    from editing.session import synthesise, to_rgb, to_tensor
    from editing.translation.degrade import WAYS

    def small(picture):
        return np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.BOX))

    def few(picture, pixels=24):
        less = Image.fromarray(picture).resize((pixels, pixels), Image.Resampling.BOX)
        return np.asarray(less.resize(picture.shape[:2], Image.Resampling.BILINEAR))

    def answered(name: str, given: np.ndarray, seed: int = 0) -> np.ndarray:
        found = STRATEGIES[name](generator, to_tensor(given), seed=seed)
        return small(kept(name.split(":")[1], given, to_rgb(synthesise(generator, found))))

    shown, many = [], []
    for seed in seeds:
        face, random = next(engine.faces(generator, [seed]))[2], np.random.default_rng(seed)
        row = [labelled(small(face), "the face")]
        for way in ("gray", "low", "half", "sketch"):
            given = few(face) if way == "low" else WAYS[way](face, random)
            row += [labelled(small(given), "24 pixels" if way == "low" else way), answered(f"pix2pix:{way}", given)]
        shown.append(row)
        row = [labelled(small(given), "sketch")]
        many.append(row + [answered("bicyclegan:sketch", given, number) for number in range(1, 9)])
    write(shown, "pictures.webp")
    write(many, "many.webp")


MOVES = (({"mouth": (0.0, 0.05)}, "mouth down 5%"), ({"eyes": (0.0, 0.03)}, "eyes down 3%"),
         ({"eyes": (0.0, 0.0, 1.3)}, "eyes x 1.3"), ({"nose": (0.0, 0.0, 0.8)}, "nose x 0.8"),
         ({"hair": (0.0, -0.06)}, "hair up 6%"))  # fmt: skip


def places(generator, catalogue, seeds=(5, 19, 12, 33), size=176) -> None:
    """Parts that are moved and painted, faces from maps, and instances that are translated."""
    from editing import spatial
    from editing.heads import composing, domains
    from editing.judges.parsing.labels import PALETTE
    from editing.session import synthesise, to_rgb

    editor = Editor(generator, catalogue=catalogue)

    def small(picture):
        how = Image.Resampling.BOX if picture.shape[0] > size else Image.Resampling.NEAREST
        return np.asarray(Image.fromarray(picture).resize((size, size), how))

    def start(seed):
        ws = engine.broadcast(generator, engine.latents(generator, [seed], 0.7)).clone()
        editor.set_inversion(Inversion(ws=ws, family=generator.family))
        return small(to_rgb(editor.reconstruction()))

    moved, drawn, translated = [], [], []
    for seed in seeds:
        row = [start(seed)]
        for move, text in MOVES:
            recipe = Recipe(steps=(spatial.moves_step(move),))
            row.append(labelled(small(to_rgb(editor.render(recipe))), text))
        moved.append(row)
        wanted = spatial.map_of(generator, editor.inversion())
        row = [small(PALETTE[wanted])]
        for number in range(1, 6):
            found = composing.composed(generator, wanted, composing.style(generator, 100 * seed + number))
            row.append(small(to_rgb(synthesise(generator, found))))
        drawn.append(row)
        row = [small(to_rgb(editor.reconstruction()))]
        for a, b in domains.INSTANCES:
            for name in (f"{a}2{b}", f"{b}2{a}"):
                recipe = Recipe(steps=(latent_step(f"instagan:{name}", 1.0),))
                row.append(labelled(small(to_rgb(editor.render(recipe))), name))
        translated.append(row)
    write(moved, "moved.webp")
    write(drawn, "maps.webp")
    write(translated, "instances.webp")


def said(generator, catalogue, seeds=(5, 19, 12, 33), size=208) -> None:
    """Faces, and what sentences make of them."""
    from editing.text import edits

    def drawn(ws, sentence: str) -> np.ndarray:
        inversion = Inversion(ws=ws, family=generator.family)
        changed = apply_step(inversion, edits.step_of(sentence), catalogue) if sentence else inversion
        return labelled(render(generator, changed.ws, size), sentence)

    codes = [engine.broadcast(generator, engine.latents(generator, [seed], 0.7)) for seed in seeds]
    write([[drawn(ws, sentence) for sentence in ("", *SENTENCES)] for ws in codes], "text.webp")


def distil(generator, seeds=(61, 19, 12, 33), size=160) -> None:
    """Faces, and what the distilled edits make of their pictures at the ends of what they have seen."""
    from editing.heads import distilled

    network = distilled.load()
    ends = [(name, end) for name, both in zip(network.edits, network.ends, strict=True) for end in both if end]
    rows = []
    for _, _, picture in engine.faces(generator, seeds):
        face = engine.to_float(picture)
        row = [labelled(engine.to_uint8(engine.area_resize(face, size))[0], "the face")]
        for name, end in ends:
            edited = engine.area_resize(network.edit(face, {name: end}), size)
            row.append(labelled(engine.to_uint8(edited)[0], f"{name} {end:+g}"))
        rows.append(row)
    write(rows, "distilled.webp")


def demo(folder: Path) -> None:
    """The portrait of `make demo`, before and after, whole photo."""
    before = Image.open(ROOT / "samples" / "astronaut.jpg").convert("RGB")
    after = Image.open(folder / "astronaut.edited.png").convert("RGB")
    write([[labelled(np.asarray(before), "photo"), labelled(np.asarray(after), "smile +2")]], "demo.webp", 90)


def main() -> None:
    """python docs/gallery.py [DEMO [DRAWING [NAME ...]]]"""
    tune_allocator()
    generator, catalogue = checkpoints.load(zoo.path("mobilestylegan-ffhq-1024")), directions.load()
    folder, drawing, *only = [*sys.argv[1:], *(ROOT.parent / "demo", "drawing.safetensors")[len(sys.argv) - 1 :]]
    makers = {
        "faces": lambda: faces(generator, catalogue),
        "catalogue": lambda: overview(generator, catalogue),
        "edits": lambda: sheets(generator, catalogue),
        "forms": lambda: forms(generator, catalogue),
        "regions": lambda: regional(generator, catalogue),
        "inversion": lambda: inverted(generator, catalogue),
        "encoder": lambda: encoded(generator),
        "pictures": lambda: pictures(generator),
        "places": lambda: places(generator, catalogue),
        "distilled": lambda: distil(generator),
        "text": lambda: said(generator, catalogue),
        "demo": lambda: demo(Path(folder)),
        "mixing": lambda: mixes(generator, catalogue, Path(drawing)),
    }
    for name in only or makers:
        makers[name]()


if __name__ == "__main__":
    main()
