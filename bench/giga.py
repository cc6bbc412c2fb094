"""The GigaGAN head on the latents: do sentences hold, are faces various, what comes from which sentence, and a sheet.

    python -m editing.directions.sampling held/ --count 600 --first-seed 2000000
    python -m bench.giga accuracy held/ --out giga.json          # and again with --without-adapter, --psi 0.7
    python -m bench.giga ways --out ways.json
    python -m bench.giga mixing --seeds 8
    python -m bench.giga sheet docs/gallery/text-faces.webp

accuracy, ways: the sentences, seeds and measures of `bench.generation`, whose table they go into; here with residuals.
mixing: faces of a first sentence, of a second, and with the coarse rows and the adapter of the first and the fine rows
of the second, all of one seed; judged at 1024 pixels.  By judge, in standard deviations of the population: how far the
second face lies from the first, how far the mixed one does, and what share of the way that is (the slope of the second
on the first, over all pairs and seeds).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from bench import generation
from editing.directions import sampling
from editing.inversion import residual
from editing.judges import population
from editing.judges.judge import NAMES, judge
from editing.text import bridge, giga, pairing
from editing.text.pairing import Claims
from editing.types import Inversion
from stylegan2 import checkpoints, engine, zoo
from stylegan2.allocator import tune_allocator
from stylegan2.files import replacing
from stylegan2.generator import Generator

FINE = ("hair_light", "hair_red", "hair_warm", "skin_light", "skin_red", "skin_warm", "lip_red", "lip_light",
        "exposure", "warmth", "contrast", "colourful", "background_light")  # fmt: skip
COARSE = ("yaw", "pitch", "face_width", "jaw_wide", "nose_long", "nose_wide", "eye_size", "mouth_open", "smile", "age",
          "male", "glasses", "hair_long", "fringe")  # fmt: skip
PAIRS = (
    ("a smiling young woman looking to the left", "a man with gray hair, pale skin and cool light"),
    ("an elderly man with glasses", "a woman with red hair, red lips and warm light"),
    ("a boy with a fringe, looking up", "a dark-skinned woman with black hair and dark lips"),
    ("a serious woman with a narrow face", "a man with blond hair, a tan and a bright exposure"),
    ("a bearded man turned to the right, mouth open", "a lady with golden hair, rosy cheeks and vivid colours"),
    ("a girl with long hair", "an old man with dark hair, a red face and dim light"),
)
ROWS = (
    "an elderly man with a beard and gray hair",
    "a young woman with curly red hair and a big smile",
    "a serious woman in glasses with short dark hair",
    "a little girl with blond hair, laughing",
    "he is dark-skinned, clean-shaven and looks to the left",
)
WAY = ("a serious young woman with dark hair", "a laughing elderly woman with gray hair")
MIXED = (
    ("a smiling young woman with long hair", "an elderly man with glasses"),
    ("red hair, red lips, warm light", "black hair, pale skin, cool light", "blond hair and a tan"),
)
SIDE, SEEDS = 160, range(1, 7)


def picture(generator: Generator, inversion: Inversion) -> np.ndarray:
    return engine.to_uint8(residual.render(generator, inversion))[0]


Draw = Callable[[str, int], Inversion]


def accuracy(
    draw: Draw, generator: Generator, claims: Claims, number: int, faces: int, codes: int, spreads: int
) -> dict:
    """A row of `bench.generation`'s table, of its sentences and seeds of this number."""
    places = generation.chosen(claims, codes, number)
    drawn = [draw(claims.texts[i], generation.FIRST_SEED + 1000 * number + n) for n, i in enumerate(places)]
    embedding = torch.from_numpy(np.asarray(claims.embedding)).float()
    ws, pool = torch.cat([one.ws for one in drawn]), embedding[np.flatnonzero(~claims.swapped)]
    rows = np.array([generation.row(picture(generator, one)) for one in drawn[:faces]])
    found = {
        "codes": len(ws),
        "r": generation.r_precision(bridge.load(), ws, embedding[places], pool, number).tolist(),
        "share": generation.held(rows, claims.mentions[places[:faces]]).tolist(),
        "lost": int(np.isnan(rows[:, 0]).sum()),
    }
    if spreads:
        spread = generation.Spread()
        for n in range(spreads):
            one = draw(generation.VARIOUS, generation.FIRST_SEED + n)
            spread.add(generation.small(picture(generator, one)))
        found["spread"] = spread.mean()
    return found


def ways(head: giga.Giga, generator: Generator, seeds: range) -> list[dict]:
    """Eight steps between the sentences of `bench.generation`'s WAYS, of every seed."""
    unsure, found, known = generation.noise(generator), [], population.load()
    for name, first, second in generation.WAYS:
        place = NAMES.index(name)
        for seed in seeds:
            steps = np.linspace(0, 1, generation.STEPS)
            drawn = [picture(generator, head.draw(generator, first, seed, to=second, t=float(t))) for t in steps]
            values = np.array([generation.row(one)[place] for one in drawn])
            found.append({
                "judge": name, "from": first, "to": second, "seed": seed,
                "values": [round(float(v), 3) for v in values],
                "went": round(float(values[-1] - values[0]) / known[name][1], 2),
                "monotone": generation.monotone(values, float(unsure[place])),
            })  # fmt: skip
            print(json.dumps(found[-1]), flush=True)
    return found


def scores(generator: Generator, inversion: Inversion) -> np.ndarray:
    """(J,) in standard deviations, nan where no face is found"""
    found, known = judge(picture(generator, inversion)), population.load()
    if found is None:
        return np.full(len(NAMES), np.nan)
    return np.array([(found.values[name] - known[name][0]) / known[name][1] for name in NAMES])


def mixing(head: giga.Giga, generator: Generator, seeds: range) -> None:
    rows = []
    for first, second in PAIRS:
        for seed in seeds:
            ways = [head.draw(generator, first, seed), head.draw(generator, second, seed),
                    head.draw(generator, first, seed, fine=second)]  # fmt: skip
            rows.append([scores(generator, way) for way in ways])
    a, b, mixed = np.array(rows).transpose(1, 0, 2)
    whole, part = b - a, mixed - a
    print(f"{len(rows)} faces; {np.isnan(mixed[:, 0]).sum()} of the mixed ones have no face that is found")
    print("| judge | second - first | mixed - first | share of the way |")
    print("|---|---|---|---|")
    for title, names in (("fine", FINE), ("coarse", COARSE)):
        columns = [NAMES.index(name) for name in names]
        for name, j in zip(names, columns, strict=True):
            print(line(f"{title}: {name}", whole[:, [j]], part[:, [j]]))
        print(line(f"**{title}, all**", whole[:, columns], part[:, columns]), flush=True)


def line(title: str, whole: np.ndarray, part: np.ndarray) -> str:
    known = np.isfinite(whole) & np.isfinite(part)
    whole, part = whole[known], part[known]
    share = (whole * part).sum() / (whole**2).sum()
    return f"| {title} | {np.abs(whole).mean():.2f} | {np.abs(part).mean():.2f} | {share:.0%} |"


def tile(generator: Generator, inversion: Inversion, text: str = "") -> np.ndarray:
    image = Image.fromarray(picture(generator, inversion)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    if text:
        draw = ImageDraw.Draw(image)
        draw.rectangle((0, 0, 8 + 6 * len(text), 13), fill=(0, 0, 0))
        draw.text((4, 1), text, fill=(255, 255, 255))
    return np.asarray(image)


def caption(text: str, columns: int) -> np.ndarray:
    image = Image.new("RGB", (SIDE * columns, 18), (20, 20, 20))
    ImageDraw.Draw(image).text((6, 3), text, fill=(235, 235, 235))
    return np.asarray(image)


def sheet(head: giga.Giga, generator: Generator, path: Path) -> None:
    """Sentences by seeds, a way between two sentences, and a block of mixed prompts."""
    columns, rows = len(SEEDS), []
    for text in ROWS:
        rows.append(caption(text, columns))
        rows.append(np.hstack([tile(generator, head.draw(generator, text, seed)) for seed in SEEDS]))
    rows.append(caption(f"{WAY[0]}  ->  {WAY[1]}", columns))
    ways = np.linspace(0, 1, columns)
    rows.append(np.hstack([tile(generator, head.draw(generator, WAY[0], 3, to=WAY[1], t=t)) for t in ways]))
    for text in MIXED[0]:
        rows.append(caption(f"{text}: alone, with colours of " + " | ".join(MIXED[1]), columns))
        drawn = [head.draw(generator, text, 4)] + [head.draw(generator, text, 4, fine=fine) for fine in MIXED[1]]
        row = np.hstack([tile(generator, one) for one in drawn])
        rows.append(np.pad(row, ((0, 0), (0, SIDE * columns - row.shape[1]), (0, 0)), constant_values=20))
    whole, quality = Image.fromarray(np.vstack(rows)), 84
    while True:
        whole.save(path, quality=quality, method=6)
        if path.stat().st_size < 300_000:
            return
        quality -= 5


def written(path: Path, found: object) -> None:
    with replacing(path) as part:
        part.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("accuracy", "ways", "mixing", "sheet"))
    parser.add_argument("place", type=Path, nargs="?", help="accuracy: held-back faces; sheet: the picture's file")
    parser.add_argument("--head", type=Path, default=giga.FILE)
    parser.add_argument("--out", type=Path, help="JSON; goes on where it was stopped")
    parser.add_argument("--captions", type=Path, help="sentences of the held-back faces, kept here")
    parser.add_argument("--seeds", type=int, default=2, help="of every pair of sentences")
    parser.add_argument("--numbers", type=int, nargs="*", default=(0, 1, 2), help="sets of sentences")
    parser.add_argument("--faces", type=int, default=generation.JUDGED)
    parser.add_argument("--codes", type=int, default=generation.SCORED)
    parser.add_argument("--spread", type=int, default=generation.SPREAD, help="with set 0")
    parser.add_argument("--psi", type=float, default=1.0)
    parser.add_argument("--without-adapter", action="store_true")
    options = parser.parse_args()
    tune_allocator()
    generator, head = checkpoints.load(zoo.path("mobilestylegan-ffhq-1024")), giga.read(options.head)
    if options.what == "mixing":
        mixing(head, generator, range(options.seeds))
    elif options.what == "sheet":
        sheet(head, generator, options.place)
    elif options.what == "ways":
        found = ways(head, generator, range(1, 1 + options.seeds))
        written(options.out, found)
        print(f"monotone: {np.mean([way['monotone'] for way in found]):.0%} of {len(found)}")
    else:
        draw = partial(head.draw, generator, psi=options.psi, adapter=not options.without_adapter)
        kind = "giga" + " without adapter" * options.without_adapter + f" psi {options.psi:g}" * (options.psi != 1)
        found = json.loads(options.out.read_text()) if options.out.exists() else {}
        captions = options.captions or options.out.with_suffix(".npz")
        claims = pairing.kept(captions, sampling.load(options.place)["scores"], 4, seed=2, swaps=0.0)
        for number in options.numbers:
            if f"{kind}-{number}" not in found:
                found[f"{kind}-{number}"] = accuracy(draw, generator, claims, number, options.faces, options.codes,
                                                     0 if number else options.spread)  # fmt: skip
                written(options.out, found)
        print(generation.table(found))


if __name__ == "__main__":
    main()
