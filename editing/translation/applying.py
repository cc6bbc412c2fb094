"""Using a published translation network on pictures: sizes, codes, labels, and files that say what made them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from editing import provenance
from editing.faces import align, detect, paste
from editing.faces import photo as photos
from editing.translation import checkpoints, composing, instances, maps
from editing.translation.degrade import LUMA, WAYS
from editing.translation.networks import (
    RBDN,
    AuraUpsampler,
    BicycleEncoder,
    BicycleGenerator,
    GigaGANGenerator,
    LostGANGenerator,
    ReedGenerator,
    ReedPortGenerator,
    SetGenerator,
    SPADEGenerator,
    StarGANGenerator,
    StyleEncoder,
    UnetGenerator,
)
from editing.translation.networks.gigagan.tiles import upscale
from editing.translation.networks.instagan import occupied, one_after_another
from editing.translation.networks.norms import own_statistics
from editing.translation.networks.spade import UPSAMPLINGS
from editing.types import Recipe
from stylegan2 import engine
from stylegan2.errors import NoFaceFound, PhotoError, UsageError, WplusError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
LEAST, LARGEST = 16, 4096  # pixels along a side
CROP, SMALLEST = 256, 32  # a face, for networks that take any size; below this a network's size is but a step
Calls = list[tuple[Tensor, ...]]  # what a network takes besides the picture, one a result


@dataclass(frozen=True)
class Job:
    """See the options of `python -m editing.translate apply`."""

    network: Path
    how: str = ""
    size: int | None = None
    samples: int = 4
    like: Path | None = None
    encoder: Path | None = None
    label: list[float] | None = None
    seed: int = 0
    device: str = "cpu"
    faces: bool = False
    evaluation: bool = False
    instances: Path | None = None
    upsampling: str = ""
    mask: list[Path] | None = None

    def __post_init__(self) -> None:
        if self.how and self.how not in WAYS:
            raise UsageError(f"There is no way {self.how!r} to degrade a picture; there are {', '.join(WAYS)}.")
        if (self.like is None) != (self.encoder is None):
            raise UsageError("--like needs --encoder, and the other way round.")
        if self.upsampling not in ("", *UPSAMPLINGS):
            raise UsageError(f"There is no upsampling {self.upsampling!r}; there are {', '.join(UPSAMPLINGS)}.")


def run(job: Job, img: Path, out: Path) -> Iterator[tuple[Path, Path | WplusError]]:
    """Every picture of a file or folder, translated: (its path, a written file or what was wrong with it)."""
    network = checkpoints.load_generator(job.network).to(job.device)
    if isinstance(network, GigaGANGenerator | ReedGenerator | ReedPortGenerator):
        raise UsageError(f"{job.network} draws from sentences and takes no pictures: python -m editing.text generate")
    of_sets = isinstance(network, SetGenerator)
    if job.mask and not of_sets:
        raise UsageError("--mask is for InstaGAN.")
    if job.faces and of_sets:
        raise UsageError("--faces is for networks that take a picture alone; InstaGAN takes masks, too.")
    if isinstance(network, LostGANGenerator):
        yield from composing.run(job, network, img, out)
        return
    if isinstance(network, AuraUpsampler):
        for option, value in {"--size": job.size, "--faces": job.faces, "--how": job.how}.items():
            if value:
                raise UsageError(f"{option} is not for up-samplers: they take pictures of any size as they are.")
    if job.evaluation and not isinstance(network, UnetGenerator):
        raise UsageError(f"--eval is for pix2pix's U-Net; {job.network} holds {checkpoints.named(network)}.")
    if not isinstance(network, SPADEGenerator) and channels(network) not in (1, 3):
        raise UsageError(f"{job.network} takes {channels(network)} channels; pictures have 3, or 1 in gray.")
    if isinstance(network, UnetGenerator) and not job.evaluation:
        own_statistics(network)
    calls = prepared(job, network)
    found = places(img, out)
    masks = masks_for(job, found, img) if of_sets else {}
    found = [(path, base) for path, base in found if not of_sets or path in masks]
    sources = {path.resolve() for path, _ in found} | maps.instance_files(job.instances)
    sources |= {mask.resolve() for files in masks.values() for mask in files}
    for path, base in found:
        try:
            if isinstance(network, SPADEGenerator):
                results = from_map(job, network, calls, path)
            elif isinstance(network, AuraUpsampler):
                results = [enlarged(job, network, photos.load(path))]
            elif of_sets:
                results = with_masks(job, network, path, masks[path])
            else:
                photo = photos.load(path)
                results = with_faces(job, network, calls, photo) if job.faces else whole(job, network, calls, photo)
            files = written(base, len(results), sources, of_sets)
        except WplusError as error:
            yield path, error
            continue
        for result, file in zip(results, files, strict=True):
            yield path, provenance.save(result, file, Recipe(), sidecar=False)


def places(img: Path, out: Path, suffixes: Collection[str] = SUFFIXES) -> list[tuple[Path, Path]]:
    """A picture, or all of a folder's -> (picture, what its results are called without their suffix).  UsageError if
    there are none."""
    paths = sorted(p for p in img.rglob("*") if p.suffix.lower() in suffixes) if img.is_dir() else [img]
    if not paths:
        raise UsageError(f"There are no {'pictures' if suffixes is SUFFIXES else 'such files'} in {img}.")
    out.mkdir(parents=True, exist_ok=True)
    folders = [out / (path.parent.relative_to(img) if img.is_dir() else "") for path in paths]
    found = [folder / path.stem for path, folder in zip(paths, folders, strict=True)]
    for _ in range(2):  # a.jpg and a.png, and then a.jpg.png
        alike = Counter(found)
        found = [
            folder / path.name if alike[base] > 1 else base
            for path, folder, base in zip(paths, folders, found, strict=True)
        ]
    return list(zip(paths, found, strict=True))


def written(base: Path, count: int, sources: Collection[Path], masks: bool = False) -> list[Path]:
    """Where that many results go; `masks`: all but the first are.  PhotoError if one of the sources, resolved paths,
    would be overwritten."""
    names = [f"{base.name}.mask{i - 1}.png" if masks else f"{base.name}.{i}.png" for i in range(count)]
    files = [base.with_name(f"{base.name}.png" if count == 1 or masks and not i else names[i]) for i in range(count)]
    for file in files:
        if file.resolve() in sources:
            raise PhotoError(f"{file} is one of the pictures that are translated: choose another --out.")
        file.parent.mkdir(parents=True, exist_ok=True)
    return files


def whole(job: Job, network: nn.Module, calls: Calls, photo: photos.Photo) -> list[photos.Photo]:
    """The whole picture, translated."""
    return [photos.from_rgb(result) for result in translated(job, network, calls, photo.rgb, photo.name)[1]]


def enlarged(job: Job, network: AuraUpsampler, photo: photos.Photo) -> photos.Photo:
    """The picture, as many times larger as the up-sampler makes it."""
    height, width = photo.rgb.shape[:2]
    if max(height, width) * network.scale > 2 * LARGEST:
        most = 2 * LARGEST // network.scale
        raise PhotoError(f"{photo.name} is {width}x{height} pixels; at most {most} along a side are made larger.")
    return photos.from_rgb(upscale(network, photo.rgb, job.seed))


def from_map(job: Job, network: SPADEGenerator, calls: Calls, path: Path) -> list[photos.Photo]:
    """What a label map becomes."""
    with maps.in_memory(path.name):
        planes = maps.prepared(network, job.network, path, job.instances, job.size).to(job.device)
    return [photos.from_rgb(result) for result in maps.drawn(network, planes, calls, path.name)]


def masks_for(job: Job, found: list[tuple[Path, Path]], img: Path) -> dict[Path, list[Path]]:
    """The pictures of `places` that are no masks of others -> their masks' files: given ones, or those beside them."""
    paths = [path for path, _ in found]
    if not img.is_dir():
        return {img: job.mask or instances.masks_of(paths)[0]}
    if job.mask:
        raise UsageError("--mask is for one picture; in a folder masks lie beside theirs, as NAME.mask0.png.")
    paths = instances.without_masks(paths, img)
    if not paths:
        raise UsageError(f"There are no pictures in {img}, but masks.")
    return dict(zip(paths, instances.masks_of(paths), strict=True))


def with_masks(job: Job, network: SetGenerator, path: Path, files: list[Path]) -> list[photos.Photo]:
    """A picture with its instances translated, and their masks."""
    picture, masks = instances.scene(path, files)
    if not any(mask.any() for mask in masks):
        raise PhotoError(f"The masks of {path.name} are black: white says where an instance is.")
    call = instances.seen(masks, job.size, network.size).to(job.device)
    if not occupied(call).any():
        raise PhotoError(f"Nothing is left of the masks of {path.name} at --size {job.size}: they are too small.")
    return [photos.from_rgb(result) for result in translated(job, network, [(call,)], picture, path.name)[1]]


def with_faces(job: Job, network: nn.Module, calls: Calls, photo: photos.Photo) -> list[photos.Photo]:
    """The photo with every face translated where it is: each is cut out as FFHQ's are, and what the network changed
    between its input and its output goes back into the photo, whose own fine detail stays."""
    found, results = detect.find_faces(photo.rgb), [photo] * len(calls)
    if not found:
        raise NoFaceFound(f"No face found in {photo.name}: without --faces the whole picture is translated.")
    size = job.size or (network.size if network.size >= SMALLEST else CROP)
    for face in found:
        crop = align.crop(photo.rgb, face.quad, size)
        seen, drawn = translated(replace(job, size=None), network, calls, crop, photo.name)
        results = [
            paste.paste(result, face.quad, picture, seen, landmarks=face.landmarks).photo
            for result, picture in zip(results, drawn, strict=True)
        ]
    return results


def channels(network: nn.Module) -> int:
    """Channels of the pictures that a generator takes."""
    found = next(parameter for parameter in network.parameters() if parameter.ndim == 4).shape[1]
    extra = {BicycleGenerator: "nz", StarGANGenerator: "domains"}.get(type(network))
    return found - getattr(network, extra) if extra else found


def as_input(picture: np.ndarray, wanted: int) -> Tensor:
    """(H, W, 3) uint8 -> (1, 3 or 1, H, W) in [-1, 1]; one channel: luma, as the published data loader makes it."""
    x = engine.to_float(picture)
    return x if wanted == 3 else (x * torch.from_numpy(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)


def prepared(job: Job, network: nn.Module) -> Calls:
    """What a network takes besides the picture, one tuple a result."""
    if isinstance(network, StarGANGenerator):
        if job.label is None or len(job.label) != network.domains:
            raise UsageError(f"This StarGAN has {network.domains} domains: give --label as often, 0 or 1 each.")
        return [(torch.tensor([job.label], device=job.device),)]
    if job.label is not None:
        raise UsageError("--label is for StarGAN.")
    maps_only(job, network)
    if isinstance(network, BicycleGenerator) or (isinstance(network, SPADEGenerator) and network.nz):
        if job.encoder is not None:
            return [(style(job, network),)]
        random = np.random.default_rng(job.seed).standard_normal((job.samples, 1, network.nz), np.float32)
        return [(torch.from_numpy(z).to(job.device),) for z in random]
    if job.encoder is not None:
        raise UsageError("--like and --encoder are for BicycleGAN, and for SPADE with codes.")
    return [()]


def maps_only(job: Job, network: nn.Module) -> None:
    """Options of SPADE, and what it has no use for; sets how often it doubles the size."""
    if not isinstance(network, SPADEGenerator):
        for option, value in {"--instances": job.instances, "--upsampling": job.upsampling}.items():
            if value:
                raise UsageError(f"{option} is for SPADE.")
        return
    for option, value in {"--how": job.how, "--faces": job.faces}.items():
        if value:
            raise UsageError(f"{option} is for networks that take pictures; SPADE takes label maps.")
    if job.instances and maps.meaning(job.network, network.labels)[1] is False:
        raise UsageError(f"{job.network} has no channel for the edges of instances: leave --instances out.")
    if job.upsampling and network.upsampling != job.upsampling:
        if "most" in (job.upsampling, network.upsampling):
            raise UsageError(f"{job.network} is a network of the kind {network.upsampling!r}, as its tensors say.")
        network.upsampling = job.upsampling


def style(job: Job, network: BicycleGenerator | SPADEGenerator) -> Tensor:
    """The mean code (1, nz) of the picture whose style is taken."""
    encoder = checkpoints.load(job.encoder)
    kind, title = (StyleEncoder, "SPADE") if isinstance(network, SPADEGenerator) else (BicycleEncoder, "BicycleGAN")
    if not isinstance(encoder, kind):
        raise UsageError(f"{job.encoder} holds {checkpoints.named(encoder)}, not {title}'s encoder.")
    side = 16 * 2 ** len([name for name, _ in encoder.named_modules() if name.endswith("shortcut")])
    height, width = network.drawn if isinstance(network, SPADEGenerator) else (side, side)
    picture = Image.fromarray(photos.load(job.like).rgb).resize((width, height), Image.Resampling.BICUBIC)
    with torch.no_grad():
        code = encoder.to(job.device)(as_input(np.asarray(picture), channels(encoder)).to(job.device))[0]
    if code.shape[1] != network.nz:
        raise UsageError(f"The encoder's codes have {code.shape[1]} numbers, the generator's {network.nz}.")
    return code


@torch.no_grad()
def translated(
    job: Job, network: nn.Module, calls: Calls, picture: np.ndarray, name: str
) -> tuple[np.ndarray, list[np.ndarray]]:
    """A picture (H, W, 3) uint8 -> what the network sees of it, and its results, of the same size."""
    if job.size:
        picture = np.asarray(Image.fromarray(picture).resize((job.size, job.size), Image.Resampling.LANCZOS))
    height, width = picture.shape[:2]
    if min(height, width) < LEAST:
        raise PhotoError(f"{name} is {width}x{height} pixels: that is too small.")
    picture = WAYS[job.how](picture, np.random.default_rng(job.seed)) if job.how else picture
    if max(height, width) > LARGEST:
        raise PhotoError(f"{name} is {width}x{height} pixels; at most {LARGEST} fit: --size 1024 makes it smaller.")
    exact = isinstance(network, UnetGenerator | BicycleGenerator)
    if exact and (height % network.size or width % network.size):
        wanted = f"sides that are multiples of {network.size}"
        raise PhotoError(f"{name} is {width}x{height} pixels; this network needs {wanted}: --size {network.size}.")
    x = as_input(picture, channels(network)).to(job.device)
    step = network.size
    x = F.pad(x, (0, -width % step, 0, -height % step), mode="replicate")  # the others take any size, rounded up
    draw = partial(one_after_another, network) if isinstance(network, SetGenerator) else network
    published = isinstance(network, RBDN) and job.network.suffix == ".caffemodel"
    results = []
    for call in calls:
        torch.manual_seed(job.seed)  # dropout of a picture, whatever was drawn before it
        try:
            # published RBDNs see BGR of 0 to 255
            y = network((x.flip(1) + 1) * 127.5).flip(1) / 127.5 - 1 if published else draw(x, *call)
        except RuntimeError as error:
            if "allocate" in str(error) or "out of memory" in str(error):
                raise PhotoError(f"{name} needs more memory than there is: --size 1024 makes it smaller.") from None
            raise
        for part in (y,) if isinstance(y, Tensor) else (y[0], *y[1].split(1, 1)):
            if part.shape[1] not in (1, 3):
                raise UsageError(f"{job.network} gives {part.shape[1]} channels, which are no picture.")
            results.append(engine.to_uint8(part.expand(-1, 3, -1, -1)[..., :height, :width])[0])
    return picture, results
