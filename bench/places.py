"""Heads that say where, on faces that nobody trained on: do parts lie where they should, and does the rest stay?

    python -m editing.directions.sampling held/ --count 600 --first-seed 2000000
    python -m bench.places spade held/ --count 200
    python -m bench.places spade photos/aligned
    python -m bench.places lostgans held/ --count 40
    python -m bench.places instagan held/ --count 60
    python -m bench.places group --count 8              # memory and order

spade: faces from maps of faces, in two styles; intersection over union of the parser's map of the result with the map
that was asked for, by class over all faces, and its mean over classes; perceptual distance (EfficientNet-Lite0's
features) between the two styles relative to that between random faces.  lostgans: parts moved by 4 to 8 percent of the
picture's width in eight directions; how much of the way the parsed part's centroid went, and that of the map that was
asked for, which ends at the picture's edge; IoU of the parsed part's box with the target's, and of the box that did not
move; IoU of other parts with themselves.  instagan: share of faces whose judge says that they crossed, and mean
|difference| outside the masks, in 255ths.
"""

from __future__ import annotations

import argparse
import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from editing import spatial
from editing.directions import sampling
from editing.heads import composing, repaint
from editing.heads.maps import SIDE
from editing.judges.parsing import parse
from editing.judges.parsing.labels import CLASSES, PALETTE, intersection_over_union
from editing.types import Inversion
from encoders.efficientnet import from_state
from encoders.losses import perceptual
from stylegan2 import checkpoints, engine, zoo
from stylegan2.allocator import tune_allocator

MOVED = ("eyes", "mouth", "hair")
OTHERS = ("brows", "eyes", "nose", "mouth", "hair", "ears", "neck", "clothes")
TILE = 256


def faces(folder: Path, count: int) -> Iterator[tuple[Tensor | None, np.ndarray]]:
    """(w or None, picture) of a folder of samples, or of aligned photos."""
    if any(folder.glob("*.npz")):
        table = sampling.load(folder)
        for w in table["w"][:count]:
            yield torch.from_numpy(w).float(), np.zeros(0)
        return
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp"))
    for path in paths[:count]:
        with Image.open(path) as image:
            yield None, np.asarray(image.convert("RGB"))


def tile(picture: np.ndarray) -> np.ndarray:
    how = Image.Resampling.BOX if picture.shape[0] > TILE else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(picture).resize((TILE, TILE), how))


def sheet(rows: list[list[np.ndarray]], path: Path | None) -> None:
    if path and rows:
        Image.fromarray(np.vstack([np.hstack([tile(one) for one in row]) for row in rows])).save(path, quality=90)


class Bench:
    def __init__(self) -> None:
        self.generator = checkpoints.load(zoo.path("mobilestylegan-ffhq-1024"))
        self.network = from_state(load_file(zoo.path("efficientnet-lite0")))

    def inversion(self, w: Tensor) -> Inversion:
        return Inversion(ws=engine.broadcast(self.generator, w[None]).clone(), family=self.generator.family)

    def drawn(self, inversion: Inversion) -> np.ndarray:
        return engine.to_uint8(spatial.render(self.generator, inversion))[0]

    @torch.no_grad()
    def features(self, picture: np.ndarray) -> list[Tensor]:
        return perceptual.features(self.network, engine.area_resize(engine.to_float(picture), TILE))

    def apart(self, a: np.ndarray, b: np.ndarray) -> float:
        return perceptual.distance(self.features(a), self.features(b)).item()


def own_classes(found: np.ndarray, truth: np.ndarray) -> float:
    """Mean intersection over union of the classes that a face's map has."""
    scores = intersection_over_union(found[None], truth[None], CLASSES)
    return float(np.mean([score for name, score in scores.items() if (truth == CLASSES.index(name)).any()]))


def spade(bench: Bench, folder: Path, count: int, passes: int, path: Path | None) -> None:
    """Faces from maps, in two styles each."""
    wanted, found, distances, between, rows, before = [], ([], []), [], [], [], None
    for number, (w, picture) in enumerate(faces(folder, count)):
        picture = bench.drawn(bench.inversion(w)) if w is not None else picture
        labels = parse(picture)
        asked = spatial.nearest(labels)
        drawn = []
        for style in (0, 1):
            ws = composing.style(bench.generator, 50_000_000 + 2 * number + style)
            drawn.append(bench.drawn(composing.composed(bench.generator, asked, ws, passes)))
            found[style].append(parse(drawn[-1]))
        wanted.append(labels)
        distances.append(bench.apart(*drawn))
        if before is not None:
            between.append(bench.apart(before, picture))
        before = picture
        rows.append([picture, PALETTE[asked], *drawn, PALETTE[found[0][-1]]])
    truth = np.stack(wanted)
    for style in (0, 1):
        scores = intersection_over_union(np.stack(found[style]), truth, CLASSES)
        each = np.mean([own_classes(*pair) for pair in zip(found[style], wanted, strict=True)])
        print(f"style {style}: mean IoU {np.mean(list(scores.values())):.3f}, of a face's own classes {each:.3f}")
        print(*(f"{name} {score:.2f}" for name, score in scores.items()), flush=True)
    print(f"styles apart {np.mean(distances):.3f}, faces {np.mean(between):.3f}: "
          f"{np.mean(distances) / np.mean(between):.2f}; {len(wanted)} maps")  # fmt: skip
    sheet(rows[:8], path)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / max((a | b).sum(), 1))


def boxed(box: tuple[float, ...]) -> np.ndarray:
    """A box as pixels, four to a map's."""
    size = 4 * SIDE
    x0, y0, x1, y1 = (round(v * size) for v in (box[0], box[1], box[0] + box[2], box[1] + box[3]))
    inside = np.zeros((size, size), bool)
    inside[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)] = True
    return inside


def middle(inside: np.ndarray) -> np.ndarray:
    ys, xs = np.nonzero(inside)
    return np.array([xs.mean(), ys.mean()]) / inside.shape[0]


def lostgans(bench: Bench, folder: Path, count: int, path: Path | None) -> None:
    """Parts moved by their boxes."""
    rows, results = [], {part: [] for part in MOVED}
    for number, (w, _) in enumerate(faces(folder, count)):
        inversion = bench.inversion(w)
        picture = bench.drawn(inversion)
        labels = parse(picture)
        row = [picture]
        for part in MOVED:
            inside, rng = repaint.of(labels, part), np.random.default_rng((number, MOVED.index(part)))
            box = repaint.box_of(inside)
            if box is None:
                continue
            angle, length = rng.integers(8) * np.pi / 4, rng.uniform(0.04, 0.08)
            move = length * np.array([np.cos(angle), np.sin(angle)])
            step = spatial.moves_step({part: (*move, 1.0)})
            drawn = bench.drawn(
                spatial.placed(bench.generator, inversion, spatial.planned(bench.generator, inversion, [step]))
            )
            after = parse(drawn)
            now, to = repaint.of(after, part), repaint.shifted(box, *move)
            went = (middle(now) - middle(inside)) @ move / length**2 if now.any() else 0.0
            asked = spatial.followed(labels, [step])[0]
            could = (middle(repaint.of(asked, part)) - middle(inside)) @ move / length**2
            others = [overlap(repaint.of(after, o), repaint.of(asked, o)) for o in OTHERS
                      if o != part and repaint.of(labels, o).mean() > 0.001]  # fmt: skip
            target = boxed(to)
            reached = repaint.box_of(now)
            results[part].append([went, could, overlap(boxed(reached), target) if reached else 0.0,
                                  overlap(boxed(box), target), overlap(now, repaint.of(asked, part)), np.mean(others),
                                  min(others)])  # fmt: skip
            row += [drawn, PALETTE[after]]
        if len(row) == 1 + 2 * len(MOVED):
            rows.append(row)
    print("| part | of the way | its map | covers 70% | box IoU | unmoved | good | mask IoU | others | worst other |")
    print("|---" * 10 + "|")
    for part, values in results.items():
        v = np.array(values)
        good = (v[:, 2] >= v[:, 3] + 0.3) | (v[:, 2] >= 0.8)
        mean = [f"{number:.2f}" for number in v.mean(0)]
        cells = [part, *mean[:2], f"{np.mean(v[:, 0] >= 0.7):.0%}", *mean[2:4], f"{good.mean():.0%}", *mean[4:]]
        print("| " + " | ".join(cells) + " |", flush=True)
    sheet(rows[:8], path)


def instagan(bench: Bench, folder: Path, count: int, path: Path | None) -> None:
    """Instances of faces that the judge has on the one side, translated to the other."""
    from editing.heads import domains, registry
    from editing.judges.judge import judge
    from editing.session import Editor
    from editing.types import Recipe, latent_step

    table, editor, rows = sampling.load(folder), Editor(bench.generator), []
    for (a, b), (pair, regions) in domains.INSTANCES.items():
        region = regions[0].partition("+")[0].partition("~")[0]
        for here, sign, way in ((pair.a, 1, f"{a}2{b}"), (pair.b, -1, f"{b}2{a}")):
            places = np.flatnonzero(here.holds(table["scores"]))[:count]
            crossed, outside, area, row = [], [], [], []
            registry.find(f"instagan:{way}")
            for place in places:
                inversion = bench.inversion(torch.from_numpy(table["w"][place]).float())
                editor.set_inversion(inversion)
                drawing = editor._drawn(editor.recipe(Recipe(steps=(latent_step(f"instagan:{way}", 1.0),))), 0)
                before, after = (engine.to_uint8(x)[0] for x in (editor.reconstruction(), drawing.crop))
                scores = judge(after)
                value = scores.values[pair.judge] if scores else np.nan
                crossed.append(sign * (value - pair.threshold) > 0)
                off = np.abs(before.astype(int) - after.astype(int)).mean(2)
                own = np.max([0 * off, *drawing.inside], 0) > 0
                for edit in (drawing.stack[0].inversion.features or {}).values():
                    own |= np.kron(
                        edit.mask[0, 0].numpy() > 0, np.ones([off.shape[0] // edit.mask.shape[-1]] * 2, bool)
                    )
                masks = np.isin(np.stack([parse(before), parse(after)]), repaint.indices((region,))).any(0)
                large = np.kron(masks, np.ones((4, 4), bool))
                outside.append([off[~large].mean(), off[~own].mean()])
                area.append([np.mean(parse(p) == CLASSES.index(region)) for p in (before, after)])
                row += [before, after]
            share, areas = np.mean(crossed), " -> ".join(f"{value:.1%}" for value in np.mean(area, 0))
            parsed, own = np.mean(outside, 0)
            print(f"instagan:{way}: {share:.0%} of {len(places)} crossed; {region} {areas} of the picture; outside the "
                  f"parser's masks {parsed:.2f}/255, outside the head's own {own:.2f}/255", flush=True)  # fmt: skip
            rows.append(row[:8])
    sheet(rows, path)


def group(bench: Bench, count: int, path: Path | None) -> None:
    """Peak memory for two and for all of a photo's generated faces, and the same pixels in any order."""
    from editing import instances
    from editing.faces import detect
    from editing.faces import photo as photos
    from editing.session import Editor

    side, canvas = 480, np.full((960, 1920, 3), 128, np.uint8)
    for number in range(min(count, 8)):
        face = next(engine.faces(bench.generator, [number + 10]))[2]
        small = np.asarray(Image.fromarray(face).resize((side, side), Image.Resampling.LANCZOS))
        row, column = divmod(number, 4)
        canvas[row * side : (row + 1) * side, column * side : (column + 1) * side] = small
    editor, picture = Editor(bench.generator), photos.from_rgb(canvas)
    found = len(detect.find_faces(picture.rgb))
    results = []
    for chosen in ([0, 1], list(range(found)), list(range(found))[::-1]):
        result, _ = instances.translated(
            editor, picture, {"instagan:bare2glasses": 1.0}, faces=chosen, method="encoder"
        )
        results.append(result.samples)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{len(chosen)} of {found} faces: peak so far {peak:.0f} MB", flush=True)
    same = bool((results[1] == results[2]).all())
    print(
        f"the same pixels in either order: {same}; {(results[1] != canvas).any(-1).mean():.1%} of the samples changed"
    )
    if path:
        Image.fromarray(np.vstack([canvas, results[1]])).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("head", choices=("spade", "lostgans", "instagan", "group"))
    parser.add_argument("faces", type=Path, nargs="?", help="a folder of samples or of aligned photos; group: none")
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--passes", type=int, default=composing.PASSES)
    parser.add_argument("--sheet", type=Path, help="write a contact sheet here")
    options = parser.parse_args()
    tune_allocator()
    bench = Bench()
    if options.head == "spade":
        spade(bench, options.faces, options.count, options.passes, options.sheet)
    elif options.head == "lostgans":
        lostgans(bench, options.faces, options.count, options.sheet)
    elif options.head == "instagan":
        instagan(bench, options.faces, options.count, options.sheet)
    else:
        group(bench, options.count, options.sheet)


if __name__ == "__main__":
    main()
