"""Translation networks: pairs from the generator, training, and use.

python -m editing.translate pairs sketches/ --kind degraded --how sketch --size 128 --count 2000
python -m editing.translate fit pix2pix --a sketches/ --out runs/sketch --size 128
python -m editing.translate apply --network runs/sketch/latest_net_G.safetensors --img drawing.png --out out/
python -m editing.translate apply --network horse2zebra.pth --img photos/ --out out/
python -m editing.translate apply --network sheep2giraffe.pth --img herd.jpg --mask one.png --mask other.png --out out/
python -m editing.translate apply --head cyclegan:dark2blond --img photo.jpg --out out/
python -m editing.translate apply --head pix2pix:sketch --img drawing.png --out out/
python -m editing.translate parse --img photo.jpg --out map.png
python -m editing.translate apply --head spade:map --img map.png --out out/
python -m editing.translate apply --network aura.safetensors --img photo.jpg --out out/       # four times larger
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from stylegan2 import console
from stylegan2.allocator import tune_allocator
from stylegan2.errors import UsageError, WplusError

app = console.app("Translation networks: RBDN, pix2pix, CycleGAN, BicycleGAN, StarGAN, InstaGAN, SPADE, LostGANs.")

EACH = {"varied": 4, "captioned": 5, "ranged": 2}
Values = Annotated[
    list[str] | None,
    typer.Option("--set", help="An edit of the catalogue: smile=2, of ranged pairs smile=-2:2.8; repeatable."),
]
Labels = Annotated[list[str] | None, typer.Option("--label", help="NAME=JUDGE<NUMBER, young=age<32; repeatable.")]


@app.command()
def pairs(
    folder: Annotated[Path, typer.Argument(help="Where the shards go; a killed run goes on there.")],
    kind: Annotated[str, typer.Option(help="degraded, edited, ranged, judged, labelled, varied, parsed or captioned.")],
    count: Annotated[int, typer.Option(min=1, help="Seeds, one a pair.")] = 1000,
    size: Annotated[int, typer.Option(help="Pixels along a side.")] = 256,
    psi: Annotated[float, typer.Option(min=0, max=1, help="Truncation.")] = 0.7,
    how: Annotated[str, typer.Option(help="gray, noise, low, half, relit or sketch.")] = "",
    edits: Values = None,
    judge: Annotated[str, typer.Option(help="Of judged sets: age, hair_light, ...")] = "",
    low: Annotated[float, typer.Option(help="Faces of A are judged below this.")] = 0.0,
    high: Annotated[float, typer.Option(help="Faces of B are judged above this.")] = 0.0,
    label: Labels = None,
    each: Annotated[
        int | None,
        typer.Option(
            min=1, help="Pictures of B for one of A, of varied (4) and ranged pairs (2); captions a face (5)."
        ),
    ] = None,
    first_seed: Annotated[int, typer.Option(min=0, help="Seeds count from here.")] = 20_000_000,
    disentangle: Annotated[bool, typer.Option("--disentangle", help="Of ranged pairs: move little else.")] = False,
) -> None:
    """Draw pairs, unpaired sets or labelled faces into a folder of shards."""
    tune_allocator()
    from editing.translation import factory
    from stylegan2 import checkpoints, zoo

    strengths = {
        name: bounds(text) if kind == "ranged" else number(text, "--set") for name, text in map(named, edits or [])
    }
    order = factory.Order(
        kind, size, psi, how, strengths or None, judge, low, high, dict(map(named, label or [])) or None,
        (each or EACH[kind]) if kind in EACH else 1, disentangle,
    )  # fmt: skip
    generator = checkpoints.load(zoo.path("mobilestylegan-ffhq-1024"))
    for path in factory.write(generator, folder, order, count, first_seed):
        print(path, flush=True)


@app.command()
def fit(
    system: Annotated[str, typer.Argument(help="rbdn, pix2pix, cyclegan, stargan, instagan, spade, gan-cls, ...")],
    a: Annotated[Path, typer.Option("--a", help="Pictures to translate (spade: label maps), or a folder of pairs.")],
    out: Annotated[Path, typer.Option(help="The run's folder; a killed run goes on there.")],
    b: Annotated[
        Path | None, typer.Option("--b", help="What they become; the same names where pairs are needed.")
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="A table of 0 and 1, for stargan; of layouts (.json), for lostgans; of captions (.csv, .jsonl), for "
            "gan-cls; instances, for spade."
        ),
    ] = None,
    size: Annotated[int, typer.Option(help="Pixels along a side.")] = 256,
    images: Annotated[
        int, typer.Option(min=0, help="To see in all; the rate falls over the second half. 0: the system's own number.")
    ] = 0,
    batch: Annotated[int, typer.Option(min=0, help="Pictures a step; 0: the system's own.")] = 0,
    rate: Annotated[float, typer.Option(min=0, help="Of learning; 0: the system's own.")] = 0.0,
    width: Annotated[int, typer.Option(min=4, help="Channels of the first layer.")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="Seed of weights and batches.")] = 0,
    minutes: Annotated[float | None, typer.Option(min=0, help="Stop after so long; the next run goes on.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps.")] = "cpu",
) -> None:
    """Train a published system as in its paper, on two folders or on pairs of the factory."""
    tune_allocator()
    from editing.invert import check_device
    from editing.translation import fit as fitting
    from editing.translation.systems import SYSTEMS, Settings

    if system not in SYSTEMS:
        raise UsageError(console.unknown("systems", system, SYSTEMS))
    source = SYSTEMS[system].source(a, b, labels)
    settings = Settings(size, images, batch, rate, width, seed)

    def report(seen: int, losses: dict[str, float]) -> None:
        print(seen, *(f"{name} {value:.4f}" for name, value in losses.items()), flush=True)

    until = None if minutes is None else 60 * minutes
    fitting.fit(system, source, out, settings, until=until, device=check_device(device), report=report)
    print(out)


@app.command()
def apply(
    img: Annotated[Path, typer.Option(help="A picture, or a folder of them; SPADE: a label map, LostGANs: a layout.")],
    network: Annotated[
        Path | None, typer.Option(help="A generator's file: published (.pth, .ckpt, .caffemodel) or of `fit`.")
    ] = None,
    head: Annotated[
        list[str] | None, typer.Option(help="A head on the latents instead, perhaps NAME=STRENGTH; repeatable.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the results; files keep their names.")] = Path("out"),
    how: Annotated[str, typer.Option(help="First make a sketch (gray, ...) of the picture.")] = "",
    size: Annotated[int | None, typer.Option(min=16, help="Pixels along a side that the network sees.")] = None,
    faces: Annotated[bool, typer.Option("--faces", help="Every face in its photo, and back into it.")] = False,
    samples: Annotated[int, typer.Option(min=1, help="Results a picture, of BicycleGAN, SPADE and LostGANs.")] = 4,
    steps: Annotated[int | None, typer.Option(min=1, help="Of a head that draws a face; 1: its answer alone.")] = None,
    like: Annotated[
        Path | None, typer.Option(help="A picture whose style is taken, with the encoder of BicycleGAN or SPADE.")
    ] = None,
    encoder: Annotated[Path | None, typer.Option(help="That encoder's file.")] = None,
    label: Annotated[list[float] | None, typer.Option(help="StarGAN's target, a number a domain; repeatable.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of random codes.")] = 0,
    instances: Annotated[
        Path | None, typer.Option(help="Instance map of a label map, or a folder of them: SPADE's edges.")
    ] = None,
    upsampling: Annotated[
        str, typer.Option(help="SPADE whose file does not say it: normal, or more (made for 512 pixels).")
    ] = "",
    mask: Annotated[
        list[Path] | None, typer.Option(help="InstaGAN's: an instance, white; repeatable. Else NAME.mask0.png, ...")
    ] = None,
    evaluation: Annotated[bool, typer.Option("--eval", help="pix2pix: stored statistics, no dropout.")] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps.")] = "cpu",
) -> None:
    """Translate pictures with a trained network, a photo's face with heads on its inversion, or draw a face from what
    a picture still shows."""
    if (network is None) == (not head):
        raise UsageError("Give a network's file with --network, or the names of heads with --head.")
    if head:
        others = {"--size": size, "--faces": faces, "--encoder": encoder, "--label": label, "--eval": evaluation,
                  "--instances": instances, "--upsampling": upsampling, "--mask": mask}  # fmt: skip
        for option, value in others.items():
            if value:
                raise UsageError(f"{option} is for networks, not for heads.")
        from editing.heads import applying as on_latents

        return on_latents.apply(on_latents.Order(head, img, out, device, how, samples, seed, steps, like))
    if steps:
        raise UsageError("--steps is for heads that draw a face.")
    tune_allocator()
    from editing.invert import check_device
    from editing.translation import applying

    job = applying.Job(network, how, size, samples, like, encoder, label, seed, check_device(device), faces, evaluation,
                       instances=instances, upsampling=upsampling, mask=mask)  # fmt: skip
    failed = 0
    for _, result in applying.run(job, img, out):
        if isinstance(result, WplusError):
            console.fail(str(result), 1)
            failed += 1
        else:
            print(result, flush=True)
    if failed:
        raise typer.Exit(1)


@app.command()
def parse(
    img: Annotated[Path, typer.Option(help="A photo.")],
    out: Annotated[Path, typer.Option(help="The map, a PNG; its layout goes beside it as JSON.")] = Path("map.png"),
    face: Annotated[int, typer.Option(min=0, help="Which face.")] = 0,
    aligned: Annotated[bool, typer.Option("--aligned", help="The picture is an aligned crop already.")] = False,
) -> None:
    """Write the map of a face's parts, to be painted in, and its layout, to be moved in."""
    tune_allocator()
    from editing import session, spatial
    from editing.faces import photo as photos
    from editing.judges import parsing

    if out.suffix.lower() != ".png":
        raise UsageError(f"A map is a PNG: --out map.png, not {out}.")
    if img.resolve() in (out.resolve(), out.with_suffix(".json").resolve()):
        raise UsageError("--out is the photo itself, which is never overwritten.")
    target = session.find(photos.load(img), parsing.network.SIZE * 4, face, aligned=aligned)
    labels = parsing.parse(session.to_rgb(target.crop))
    out.parent.mkdir(parents=True, exist_ok=True)
    spatial.write_map(labels, out)
    spatial.write_layout(labels, out.with_suffix(".json"))
    print(out, out.with_suffix(".json"), sep="\n")


def named(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise UsageError(f"{text!r} is not NAME=VALUE.")
    return name, value


def bounds(text: str) -> tuple[float, float]:
    """'-2:2.8' -> (-2.0, 2.8)"""
    low, colon, high = text.partition(":")
    found = number(low, "--set"), number(high, "--set") if colon else 0.0
    if not colon or not found[0] < found[1]:
        raise UsageError(f"--set: {text!r} is no range: smile=-2:2.8")
    return found


def number(text: str, option: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"{option}: {text!r} is no number.") from None


def main(args: Sequence[str] | None = None, prog: str = "python -m editing.translate") -> None:
    console.run(app, prog, args)


if __name__ == "__main__":
    main()
