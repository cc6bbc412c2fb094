"""Faces by text:  python -m editing.text edit --img photo.jpg "make her ten years younger and give her red hair"

python -m editing.text edit --img photo.jpg "a man with a beard" --from "a man"
python -m editing.text read "give him a beard and a hat"
python -m editing.text generate "an old man with a gray beard" --n 8 --seed 1 --out faces/

English, and Korean from a small lexicon.  A sentence that asks for nothing known changes nothing and says so.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from editing import invert as inverting
from stylegan2 import console
from stylegan2.errors import UsageError

app = console.app("Edit a face by what you type, or make one from a sentence.")

Sentences = Annotated[list[str], typer.Argument(help="What to change, or how the face is to be.")]


@app.command()
def edit(
    sentences: Sentences,
    img: Annotated[Path | None, typer.Option("--img", help="The photo.")] = None,
    inversion: Annotated[Path | None, typer.Option(help="An inversion made before; add --img to paste back.")] = None,
    before: Annotated[
        str, typer.Option("--from", help="How the face is now; the sentence then says how it is to be.")
    ] = "",
    strength: Annotated[float, typer.Option(help="Times what the sentence asks for; 0 is the photo.")] = 1.0,
    region: Annotated[str | None, typer.Option(help="Only there: hair, mouth, skin, ... or mask.")] = None,
    mask: Annotated[Path | None, typer.Option(help="A picture, white where --region mask edits.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the results, or the file name of the picture.")] = Path("out"),
    crop: Annotated[bool, typer.Option("--crop", help="Write the edited crop, not the whole photo.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Invert again even if --out has an inversion.")] = False,
    transfer: Annotated[bool, typer.Option("--transfer", help="Draw an inversion of a sister generator.")] = False,
    generator: Annotated[Path | None, typer.Option(help="Another generator, a checkpoint file.")] = None,
    method: Annotated[str | None, typer.Option(help="Inversion method (default: tune).")] = None,
    steps: inverting.Steps = None,
    budget: inverting.Seconds = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the inversion.")] = None,
    device: inverting.Device = "cpu",
    face: Annotated[int, typer.Option(min=0, help="Which face.")] = 0,
    detector: inverting.Detector = "auto",
    aligned: inverting.Aligned = False,
    as_json: inverting.AsJson = False,
) -> None:
    """Change a face as sentences say and put it back into its photo."""
    from editing import edit as editing
    from editing import plans, regions
    from editing.text import edits

    own = regions.read(mask) if mask else None
    made = []
    for sentence in sentences:
        words, place = edits.split_region(sentence) if region is None else (sentence, region)
        if place == "mask" and own is None:
            raise UsageError("The region 'mask' needs the mask: give its picture with --mask.")
        place = regions.named(own) if place == "mask" else place
        step, notes = edits.told(words, strength, face, place, before)
        made.append(step)
        print("\n".join(notes), file=sys.stderr)
    plan = plans.make_plan(None, None, None, None, face, mask=regions.named(own) if mask else None, more=made)
    editing.carry_out(plan, img, inversion, out, own=own, crop=crop, generator=generator, device=device,
                      as_json=as_json, method=method, steps=steps, budget=budget, seed=seed, detector=detector,
                      aligned=aligned, fresh=fresh, transfer=transfer)  # fmt: skip


@app.command()
def generate(
    sentences: Sentences,
    n: Annotated[int, typer.Option("--n", min=1, max=1000, help="Faces of every sentence.")] = 4,
    seed: Annotated[int, typer.Option(min=0, max=2**31, help="Of the first face; the others follow.")] = 0,
    fine: Annotated[str, typer.Option(help="Another sentence for the fine rows: colours, skin, light.")] = "",
    to: Annotated[str, typer.Option(help="Another sentence to go to, in --n steps, with one seed.")] = "",
    psi: Annotated[float, typer.Option(min=0, max=1.5, help="Truncation: less is more alike.")] = 1.0,
    head: Annotated[str, typer.Option(help="giga or gan-cls.")] = "giga",
    network: Annotated[Path | None, typer.Option(help="A published network's file instead: GAN-CLS, GigaGAN.")] = None,
    embeddings: Annotated[Path | None, typer.Option(help="Of the sentences (.npy), for --network of 1,024.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the faces.")] = Path("out"),
    device: inverting.Device = "cpu",
) -> None:
    """Draw faces that sentences describe, at 1024 pixels, each with an inversion to go on editing from."""
    from editing.text import drawing

    order = drawing.Order(tuple(sentences), n, seed, psi, fine, to, head, network, embeddings, out, device)
    for path in drawing.run(order):
        print(path, flush=True)


@app.command()
def optimise(
    sentence: Annotated[str, typer.Argument(help="How the face is to be.")],
    inversion: Annotated[Path, typer.Option(help="An inversion made before.")],
    out: Annotated[Path, typer.Option(help="The new inversion's file.")],
    steps: Annotated[int, typer.Option(min=1, max=2000)] = 60,
    weights: Annotated[Path | None, typer.Option("--clip", help="CLIP's weights, for those who have them.")] = None,
    model: Annotated[str, typer.Option(help="What open_clip calls the model of --clip.")] = "ViT-B-32",
    device: inverting.Device = "cpu",
) -> None:
    """StyleCLIP's first way: search a code nearer to the sentence, by the bridge that ships or by CLIP."""
    from editing.session import load_generator
    from editing.text import directing
    from editing.types import Inversion

    if out.exists() and inversion.exists() and out.samefile(inversion):
        raise UsageError("--out is the inversion itself, which is never overwritten.")
    place = inverting.check_device(device)
    found, generator = Inversion.load(inversion).to(place), load_generator(place)
    bridge = directing.bridge_of(generator, weights, model)
    with console.step_bar("optimise") as bar:
        made = directing.optimise(
            generator, bridge, found, sentence, steps, lambda step, _: bar("optimise", step, steps)
        )
    made.save(out)
    print(out)


@app.command()
def read(sentences: Sentences, as_json: inverting.AsJson = False) -> None:
    """Say what sentences are taken for, and change nothing; exit code 1 if one of them asks for nothing known."""
    from editing.text import edits, reading

    failed = False
    for sentence in sentences:
        found = reading.load().read(sentence)
        known = bool(found.wants) or found.age is not None
        failed |= not known
        if as_json:
            facts = {"text": sentence, "wants": dict(found.wants), "age": found.age, "ignored": list(found.ignored)}
            print(json.dumps(facts, ensure_ascii=False))
        else:
            step = edits.step_of(sentence) if known else None
            print("\n".join(edits.notes(step, found.ignored)) if step else edits.refused(sentence))
    if failed:
        raise typer.Exit(1)


def main(args: Sequence[str] | None = None, prog: str = "python -m editing.text") -> None:
    console.run(app, prog, args)


if __name__ == "__main__":
    main()
