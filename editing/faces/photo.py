"""Reading and writing photos without losing anything that is not edited.

A `Photo` holds the samples as the file stores them (mode, bit depth, profile), turned upright.
`photo.rgb` is what the networks see: 8-bit sRGB.  Saving (saving.py) is atomic, and drops what
gives a person away (metadata.py).  Depths that Pillow reduces to 8 bits (16-bit RGB in PNG and TIFF) go through
imagecodecs and tifffile.  HEIC and AVIF are read and written at 8 bits; of animations and
multi-page files only the first picture is read.  Whatever a file is named, it is one of READ_FORMATS or not a picture.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import struct
import threading
import warnings
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from editing.faces import colour
from editing.faces.metadata import clean_exif, orientation, upright
from editing.faces.saving import encode, reason, save, write_atomically
from stylegan2.errors import PhotoError

__all__ = [
    "MAX_PIXELS", "READ_FORMATS", "Photo", "decode", "encode", "from_rgb", "load", "open_picture", "read", "save",
    "write_atomically",
]  # fmt: skip

MAX_PIXELS = 200_000_000
# What Pillow may take a file for; JPEG has MPO, too.  Others decode before their size is known (ICO, ICNS), or run
# another program (EPS).
READ_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "AVIF", "HEIF", "BMP", "GIF")
_BITS_TAG, _TILE_TAGS = 258, (322, 323)
_PLAIN_CODECS = {1, 5, 8, 32773, 32946, 34925, 50000}  # of TIFF: those that give no more than they are asked for
_pillow_lock = threading.Lock()  # Pillow's own pixel limit, Python's warning filters and loggers are global


@dataclass(frozen=True, eq=False)
class Photo:
    """A picture as its file stores it, upright.

    samples  (H, W, C) uint8, uint16, int32 or float32; C counts colour channels plus alpha.  Mode '1' is 0 / 255.
    mode     Pillow's name ('L', 'LA', 'RGB', 'RGBA', 'CMYK', 'P', '1', 'I;16', 'I', 'F') or, for depths that Pillow
             has no name for, 'LA;16', 'RGB;16', 'RGBA;16'
    icc      the embedded profile, kept on saving
    white    the sample value of white: 255, 65535, or what a float or int32 file implies
    palette  (N, 3) uint8 for mode 'P'; `transparency` is its transparent index or alpha table
    exif     cleaned EXIF block;  text: PNG text chunks;  xmp: XMP packet (both are read, and never kept on saving)
    """

    samples: np.ndarray
    mode: str
    icc: bytes | None = None
    white: float = 255.0
    palette: np.ndarray | None = None
    transparency: int | bytes | None = None
    exif: bytes = b""
    dpi: tuple[float, float] | None = None
    text: dict[str, str] = field(default_factory=dict)
    xmp: bytes | None = None
    path: Path | None = None
    sha256: str = ""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.samples.shape[1], self.samples.shape[0]

    @property
    def name(self) -> str:
        return self.path.name if self.path else "the picture"

    @property
    def space(self) -> colour.Space:
        return colour.Space(self.mode, self.icc, self.white, self.palette)

    @cached_property
    def rgb(self) -> np.ndarray:
        """sRGB (H, W, 3) uint8; alpha is left out.  May be the samples themselves: do not write into it."""
        return colour.to_srgb8(self.samples, self.space)

    @property
    def alpha(self) -> np.ndarray | None:
        """(H, W) alpha in the samples' own depth, or None."""
        return self.samples[..., -1] if self.samples.shape[-1] > self.space.channels else None


def from_rgb(rgb: np.ndarray, path: Path | None = None) -> Photo:
    """A photo of sRGB samples (H, W, 3) uint8, for pictures that come from no file."""
    return Photo(np.ascontiguousarray(rgb), "RGB", path=path, sha256=hashlib.sha256(rgb.tobytes()).hexdigest())


def load(path: str | os.PathLike, max_pixels: int = MAX_PIXELS) -> Photo:
    """The photo in a file.  Raises PhotoError with one sentence for anything that cannot be read."""
    path = Path(path)
    return decode(read(path), path, max_pixels)


def decode(data: bytes, path: Path, max_pixels: int = MAX_PIXELS) -> Photo:
    """The photo in a file's bytes; `path` names it.  PhotoError as `load`."""
    if not data:
        raise PhotoError(f"{path.name} is empty.")
    with _pillow_quiet():
        try:
            picture = open_picture(io.BytesIO(data))
        except (UnidentifiedImageError, Image.DecompressionBombError):
            raise PhotoError(f"{path.name} is not a picture, or of a kind that cannot be read.") from None
        except Exception:  # Pillow's plugins raise whatever their parsers meet
            raise PhotoError(f"{path.name} is damaged: its header cannot be read.") from None
        width, height = picture.size
        if width * height > max_pixels:
            raise PhotoError(
                f"{path.name} is too large: {width} x {height} is {width * height / 1e6:.0f} megapixels, "
                f"the limit is {max_pixels / 1e6:.0f}; make it smaller first."
            )
        Image.MAX_IMAGE_PIXELS = max_pixels  # for whatever else a plugin finds the size of while it decodes
        try:
            return replace(_decode(picture, data, max_pixels), path=path, sha256=hashlib.sha256(data).hexdigest())
        except MemoryError:
            raise PhotoError(f"{path.name} needs more memory than there is: make it smaller first.") from None
        except Exception:
            raise PhotoError(f"{path.name} is damaged or cut short: it cannot be decoded.") from None


def read(path: Path) -> bytes:
    """A picture file's bytes, unread.  PhotoError in one sentence."""
    try:
        if path.is_dir():
            raise PhotoError(f"{path} is a folder, not a picture.")
        if path.exists() and not path.is_file():
            raise PhotoError(f"{path} is not a regular file.")
        return path.read_bytes()
    except FileNotFoundError:
        raise PhotoError(f"No such file: {path}.") from None
    except PermissionError:
        raise PhotoError(f"No permission to read {path}.") from None
    except (OSError, ValueError) as error:
        raise PhotoError(f"Cannot read {path}: {reason(error)}.") from None


@contextlib.contextmanager
def _pillow_quiet():
    """Pillow and tifffile without their warnings, and no pixel limit of Pillow's own while a header is read: none of
    READ_FORMATS decodes there, and only who knows a picture's size can say that it is too large."""
    logs = [logging.getLogger(name) for name in ("PIL", "tifffile")]
    with _pillow_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        levels = [log.level for log in logs]
        try:
            for log in logs:
                log.setLevel(logging.CRITICAL + 1)
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit
            for log, level in zip(logs, levels, strict=True):
                log.setLevel(level)


def open_picture(source: str | os.PathLike | io.BytesIO) -> Image.Image:
    """A picture of READ_FORMATS whose header has been read, and nothing else.  Raises whatever Pillow's plugins do."""
    formats = list(READ_FORMATS)
    try:
        import pillow_heif

        pillow_heif.register_heif_opener()
    except ImportError:  # HEIC is optional where no wheel exists
        formats.remove("HEIF")
    return Image.open(source, formats=formats)


def _decode(picture: Image.Image, data: bytes, max_pixels: int) -> Photo:
    if picture.format == "TIFF":
        _check_tile(*(int(picture.tag_v2.get(tag, 0)) for tag in _TILE_TAGS), max_pixels)
    deep = _decode_deep(picture, data, max_pixels)
    if deep is None:
        picture.load()
    turn = orientation(picture.getexif())
    exif = clean_exif(picture.getexif())
    info = picture.info
    xmp = info.get("xmp")
    facts = {
        "icc": info.get("icc_profile") or None,
        "exif": exif,
        "dpi": _dpi(info.get("dpi")),
        "text": {key: str(value) for key, value in getattr(picture, "text", {}).items()},
        "xmp": xmp.encode() if isinstance(xmp, str) else xmp,
    }
    photo = replace(_shallow(picture), **facts) if deep is None else Photo(*deep, white=65535.0, **facts)
    return replace(photo, samples=np.ascontiguousarray(upright(photo.samples, turn)))


def _decode_deep(picture: Image.Image, data: bytes, max_pixels: int) -> tuple[np.ndarray, str] | None:
    """16-bit samples with more than one channel and their mode, or None where Pillow itself loses nothing."""
    if picture.format == "PNG":
        depth, kind = struct.unpack_from(">BB", data, 24)
        if depth != 16 or kind == 0:
            return None
        import imagecodecs

        samples = imagecodecs.png_decode(data)
    elif picture.format == "TIFF":
        bits = picture.tag_v2.get(_BITS_TAG, (1,))
        if set(bits) != {16} or len(bits) < 2 or picture.mode not in ("RGB", "RGBA", "RGBX", "LA", "RGBa"):
            return None
        import tifffile

        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = file.pages[0]
            _check_page(page, picture.tag_v2[256], picture.tag_v2[257])  # `picture.size` is turned already
            _check_tile(page.tilewidth, page.tilelength, max_pixels)
            samples = page.asarray()
            if page.planarconfig == 2:
                samples = np.moveaxis(samples, 0, -1)
    else:
        return None
    mode = {2: "LA;16", 3: "RGB;16", 4: "RGBA;16"}[samples.shape[-1]]
    return np.ascontiguousarray(samples.astype(np.uint16, copy=False)), mode


def _check_page(page, width: int, height: int) -> None:
    """ValueError if tifffile would decode another page than the (width, height) that Pillow has seen and `decode`
    allows: tags that Pillow does not know may say so, and pictures within its strips."""
    channels = page.samplesperpixel
    shape = (channels, height, width) if page.planarconfig == 2 else (height, width, channels)
    if page.imagedepth != 1 or page.shape != shape or channels not in (2, 3, 4) or page.dtype != np.uint16:
        raise ValueError("not the page that Pillow has seen")
    if page.compression not in _PLAIN_CODECS:
        raise ValueError("a strip might hold a picture of any size")


def _check_tile(width: int, height: int, max_pixels: int) -> None:
    """ValueError if tiles of a TIFF, which are decoded whole, are larger than a picture may be; 0 x 0: it has none."""
    if width * height > max_pixels:
        raise ValueError("tiles are too large")


def _shallow(picture: Image.Image) -> Photo:
    """The samples of a picture that Pillow decodes without loss; rare modes become RGB or RGBA first."""
    if picture.mode.startswith("I;16"):
        return Photo(np.array(picture).astype(np.uint16)[..., None], "I;16", white=65535.0)
    if picture.mode == "LAB":
        to_rgb = ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
        picture = ImageCms.applyTransform(picture, to_rgb)
    elif picture.mode == "P" and picture.palette.mode != "RGB" or picture.mode in ("RGBa", "PA", "La"):
        picture = picture.convert("LA" if picture.mode == "La" else "RGBA")
    elif picture.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I", "F"):
        picture = picture.convert("RGB")
    samples = np.array(picture)
    samples = samples[..., None] if samples.ndim == 2 else samples
    if picture.mode == "1":
        return Photo(samples.astype(np.uint8) * 255, "1")
    if picture.mode == "P":
        table = np.frombuffer(bytes(picture.palette.palette), np.uint8).reshape(-1, 3)
        full = np.zeros((256, 3), np.uint8)
        full[: len(table)] = table[:256]
        return Photo(samples, "P", palette=full, transparency=picture.info.get("transparency"))
    if picture.mode in ("I", "F"):
        samples = np.nan_to_num(samples) if picture.mode == "F" else samples
        peak = float(samples.max())
        white = next((limit for limit in (1.0, 255.0, 65535.0) if peak <= limit), peak)
        return Photo(samples, picture.mode, white=white if picture.mode == "F" else max(white, 255.0))
    return Photo(samples, picture.mode)


def _dpi(value) -> tuple[float, float] | None:
    try:
        x, y = (float(v) for v in value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (x, y) if 0 < x < 1e5 and 0 < y < 1e5 else None
