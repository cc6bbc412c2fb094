"""Writing a photo: whole or not at all, in its own mode and depth, with its profile and cleaned EXIF."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import struct
import tempfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, PngImagePlugin

from editing.faces import colour
from editing.faces.metadata import main_texts
from stylegan2.errors import PhotoError

if TYPE_CHECKING:
    from editing.faces.photo import Photo

_XMP_TAG = 700

# suffix -> (Pillow's format, modes it can hold without loss)
FORMATS = {
    ".png": ("PNG", ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "LA;16", "RGB;16", "RGBA;16")),
    ".tif": ("TIFF", ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F", "RGB;16", "RGBA;16")),
    ".jpg": ("JPEG", ("L", "RGB", "CMYK")),
    ".webp": ("WEBP", ("RGB", "RGBA")),
    ".avif": ("AVIF", ("RGB", "RGBA")),
    ".heic": ("HEIF", ("L", "RGB", "RGBA")),
}
FORMATS |= {".tiff": FORMATS[".tif"], ".jpeg": FORMATS[".jpg"], ".heif": FORMATS[".heic"]}


def save(
    photo: Photo,
    path: str | os.PathLike,
    *,
    text: dict[str, str] | None = None,
    xmp: bytes | None = None,
    quality: int = 95,
) -> Path:
    """Write the photo in the format of the path's suffix, whole or not at all; returns the path.

    text: PNG text chunks (other formats have no room for them); xmp: an XMP packet; quality 1..100 for JPEG, WebP
    (100 is lossless there), AVIF and HEIC.  What the format cannot hold is converted: CMYK to sRGB, 16 bits to 8,
    alpha laid on white.  Raises PhotoError.
    """
    path = Path(path)
    data = encode(photo, path.suffix.lower(), text=text, xmp=xmp, quality=quality)
    write_atomically(path, data)
    return path


def encode(photo: Photo, suffix: str, *, text=None, xmp: bytes | None = None, quality: int = 95) -> bytes:
    """The bytes of the photo's file in the format of a suffix ('.png'); arguments as in `save`."""
    if suffix not in FORMATS:
        raise PhotoError(f"Cannot write a picture as '{suffix}': use {', '.join(FORMATS)}.")
    form, modes = FORMATS[suffix]
    photo = fit(photo, modes)
    try:
        if photo.mode in ("LA;16", "RGB;16", "RGBA;16"):
            return _encode_deep_png(photo, text, xmp) if form == "PNG" else _encode_deep_tiff(photo, xmp)
        return _encode_shallow(photo, form, text, xmp, quality)
    except (OSError, ValueError, KeyError, struct.error, RuntimeError) as error:
        raise PhotoError(f"Cannot encode {photo.name} as {form}: {reason(error)}.") from None


def fit(photo: Photo, modes: tuple[str, ...]) -> Photo:
    """The photo in one of `modes`: itself if its mode is among them, else the nearest mode that is."""
    if photo.mode in modes:
        return photo
    if photo.mode in ("I", "F") and "I;16" in modes:
        scaled = np.clip(photo.samples / photo.white, 0, 1) * 65535
        return replace(photo, samples=np.rint(scaled).astype(np.uint16), mode="I;16", white=65535.0)
    if photo.mode == "LA;16" and "RGBA;16" in modes:
        shades = np.repeat(photo.samples[..., :1], 3, -1)
        if photo.space.profile:
            shades = np.rint(colour.to_srgb(photo.samples, photo.space) * 65535).astype(np.uint16)
        return replace(photo, samples=np.dstack([shades, photo.alpha]), mode="RGBA;16", icc=None)
    if photo.mode == "P" and photo.transparency is not None and "RGBA" in modes:
        alpha = np.full(256, 255, np.uint8)
        if isinstance(photo.transparency, int):
            alpha[photo.transparency] = 0
        else:
            alpha[: len(photo.transparency)] = np.frombuffer(photo.transparency, np.uint8)
        samples = np.dstack([photo.rgb, alpha[photo.samples[..., 0]]])
        return replace(photo, samples=samples, mode="RGBA", palette=None, transparency=None)
    family, channels = photo.space.family, photo.space.channels
    if family in ("palette", "cmyk"):
        return replace(photo, samples=photo.rgb, mode="RGB", icc=None, palette=None, transparency=None)
    eight = np.rint(np.clip(photo.samples.astype(np.float32) / photo.white, 0, 1) * 255).astype(np.uint8)
    shades, alpha = eight[..., :channels], eight[..., channels:]
    if alpha.size and not {"LA", "RGBA"} & set(modes):
        cover = alpha.astype(np.float32) / 255
        shades, alpha = np.rint(shades * cover + 255 * (1 - cover)).astype(np.uint8), alpha[..., :0]
    icc = photo.icc
    if family == "gray" and ("LA" if alpha.size else "L") not in modes:
        shades = colour.to_srgb8(shades, colour.Space("L", icc))
        icc = None
    samples = np.concatenate([shades, alpha], -1)
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[samples.shape[-1]]
    return replace(photo, samples=samples, mode=mode, icc=icc, white=255.0)


def _encode_shallow(photo: Photo, form: str, text, xmp: bytes | None, quality: int) -> bytes:
    samples = photo.samples[..., 0] if photo.samples.shape[-1] == 1 else photo.samples
    if photo.mode == "1":
        picture = Image.fromarray(samples).convert("1", dither=Image.Dither.NONE)
    elif photo.mode == "P":
        picture = Image.fromarray(samples, "P")
        picture.putpalette(photo.palette.tobytes())
    elif photo.mode == "CMYK":
        picture = Image.fromarray(samples, "CMYK")
    else:
        picture = Image.fromarray(np.ascontiguousarray(samples))
    options = {"icc_profile": photo.icc, "exif": photo.exif or None, "dpi": photo.dpi}
    options = {key: value for key, value in options.items() if value is not None}
    if form == "PNG":
        options |= {"pnginfo": _png_chunks(text, xmp), "compress_level": 4}
        if photo.transparency is not None:
            options["transparency"] = photo.transparency
    elif form == "TIFF":
        options["compression"] = "tiff_deflate"
        options["tiffinfo"] = main_texts(options.pop("exif", b"")) | ({_XMP_TAG: xmp} if xmp else {})
    else:
        options["quality"] = quality
        if xmp:
            options["xmp"] = xmp
        if form == "JPEG":
            options["subsampling"] = 0
        if form == "WEBP":
            options |= {"lossless": quality >= 100, "exact": True}
        if form == "HEIF":
            _open_heif()
    out = io.BytesIO()
    picture.save(out, form, **options)
    return out.getvalue()


def _open_heif() -> None:
    try:
        import pillow_heif
    except ImportError:
        raise PhotoError(
            "Cannot write HEIC here: the package pillow-heif is missing (pip install pillow-heif)."
        ) from None
    pillow_heif.register_heif_opener()


def _png_chunks(text: dict[str, str] | None, xmp: bytes | None) -> PngImagePlugin.PngInfo:
    chunks = PngImagePlugin.PngInfo()
    for key, value in (text or {}).items():
        (chunks.add_text if value.isascii() else chunks.add_itxt)(key, value)
    if xmp:
        chunks.add_itxt("XML:com.adobe.xmp", xmp.decode("utf-8"))
    return chunks


def _encode_deep_png(photo: Photo, text, xmp: bytes | None) -> bytes:
    """A 16-bit PNG; profile, resolution, EXIF and text chunks are set in right behind its header chunk."""
    import imagecodecs

    plain = bytes(imagecodecs.png_encode(photo.samples, level=3))
    chunks = [(b"iCCP", b"ICC profile\0\0" + zlib.compress(photo.icc))] if photo.icc else []
    if photo.dpi:
        chunks.append((b"pHYs", struct.pack(">IIB", *(round(dpi / 0.0254) for dpi in photo.dpi), 1)))
    if photo.exif:
        chunks.append((b"eXIf", photo.exif.removeprefix(b"Exif\0\0")))
    chunks += [chunk[:2] for chunk in _png_chunks(text, xmp).chunks]
    out = io.BytesIO()
    for name, body in chunks:
        PngImagePlugin.putchunk(out, name, body)
    header = 8 + 25  # signature, IHDR
    return plain[:header] + out.getvalue() + plain[header:]


def _encode_deep_tiff(photo: Photo, xmp: bytes | None) -> bytes:
    import tifffile

    colours = photo.space.channels
    tags = [(_XMP_TAG, 1, len(xmp), xmp, True)] if xmp else []
    tags += [(tag, 2, 0, value, True) for tag, value in main_texts(photo.exif).items()]
    out = io.BytesIO()
    tifffile.imwrite(
        out,
        photo.samples,
        photometric="rgb" if colours == 3 else "minisblack",
        planarconfig="contig",
        extrasamples=["unassalpha"] if photo.alpha is not None else None,
        compression="zlib",
        predictor=True,
        iccprofile=photo.icc,
        resolution=photo.dpi,
        resolutionunit="inch" if photo.dpi else None,
        metadata=None,
        software=False,
        extratags=tags,
    )
    return out.getvalue()


def write_atomically(
    path: str | os.PathLike, data: bytes, mode: int | None = None, scratch: Path | None = None
) -> None:
    """Write a file whole or not at all: a temporary file, then a rename.  Raises PhotoError.

    mode: permissions of the file, by default those of any new file.  scratch: a folder for the temporary file on the
    same file system, which the caller sweeps; by default it lies beside the file, and a kill would leave it there.
    """
    path = Path(path)
    temporary = None
    try:
        if path.is_dir():
            raise PhotoError(f"Cannot write {path}: it is a folder.")
        handle, temporary = tempfile.mkstemp(dir=scratch or path.parent, prefix=f".{path.name[:40]}.", suffix=".part")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask() if mode is None else mode)
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise PhotoError(f"Cannot write {path}: {reason(error)}.") from None
    finally:
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def _umask() -> int:
    current = os.umask(0o022)
    os.umask(current)
    return current


def reason(error: Exception) -> str:
    """The cause of an error in a few plain words."""
    known = {
        errno.ENOSPC: "the disk is full",
        errno.EDQUOT: "the disk quota is used up",
        errno.EACCES: "no permission",
        errno.EPERM: "no permission",
        errno.EROFS: "the folder is read-only",
        errno.ENOENT: "there is no such folder",
        errno.ENOTDIR: "its folder is not a folder",
        errno.ENAMETOOLONG: "the name is too long",
    }
    number = getattr(error, "errno", None)
    return known.get(number) or (os.strerror(number) if number else str(error).rstrip(".") or type(error).__name__)
