"""What is kept of a photo's metadata: a short list of harmless EXIF tags, nothing else.

A list of what may stay is safer than a list of what must go: GPS positions, serial numbers, owner
names, unique image numbers, maker notes (which hide serials and previews) and embedded thumbnails
(which still show the unedited face) are dropped because nobody put them on the list.
"""

from __future__ import annotations

from PIL import ExifTags, Image

_BASE = ExifTags.Base
KEPT = frozenset(
    {
        _BASE.ImageDescription, _BASE.Make, _BASE.Model, _BASE.Software, _BASE.DateTime, _BASE.Artist,
        _BASE.Copyright, _BASE.XResolution, _BASE.YResolution, _BASE.ResolutionUnit,
    }
)  # fmt: skip
KEPT_CAMERA = frozenset(
    {
        _BASE.ExposureTime, _BASE.FNumber, _BASE.ExposureProgram, _BASE.ISOSpeedRatings, _BASE.ExifVersion,
        _BASE.DateTimeOriginal, _BASE.DateTimeDigitized, _BASE.OffsetTime, _BASE.OffsetTimeOriginal,
        _BASE.OffsetTimeDigitized, _BASE.SubsecTimeOriginal, _BASE.ShutterSpeedValue, _BASE.ApertureValue,
        _BASE.BrightnessValue, _BASE.ExposureBiasValue, _BASE.MaxApertureValue, _BASE.SubjectDistance,
        _BASE.MeteringMode, _BASE.LightSource, _BASE.Flash, _BASE.FocalLength, _BASE.ColorSpace,
        _BASE.ExposureMode, _BASE.WhiteBalance, _BASE.DigitalZoomRatio, _BASE.FocalLengthIn35mmFilm,
        _BASE.SceneCaptureType, _BASE.LensSpecification, _BASE.LensMake, _BASE.LensModel,
    }
)  # fmt: skip


def clean_exif(exif: Image.Exif) -> bytes:
    """The kept tags of `exif` as an EXIF block with orientation 1; empty bytes if nothing is left or it is damaged."""
    try:
        kept = Image.Exif()
        kept.update({tag: value for tag, value in exif.items() if tag in KEPT})
        camera = {tag: value for tag, value in exif.get_ifd(ExifTags.IFD.Exif).items() if tag in KEPT_CAMERA}
        if not kept and not camera:
            return b""
        if camera:  # an empty directory would be written, too
            kept.get_ifd(ExifTags.IFD.Exif).update(camera)
        kept[_BASE.Orientation] = 1
        return kept.tobytes()
    except Exception:  # damaged EXIF comes in every shape; the picture matters more than its metadata
        return b""


def main_texts(exif: bytes) -> dict[int, str]:
    """The texts in the main directory of a cleaned EXIF block: what a TIFF, whose own directory that is, can take.

    The camera's directory is left out: libtiff, through which Pillow writes, sets no tags of other directories.
    """
    block = Image.Exif()
    block.load(exif)
    return {tag: value for tag, value in block.items() if isinstance(value, str) and value.isascii()}


def orientation(exif: Image.Exif) -> int:
    """EXIF orientation 1..8; anything else counts as 1."""
    try:
        value = int(exif.get(_BASE.Orientation, 1))
    except (TypeError, ValueError):
        return 1
    return value if 1 <= value <= 8 else 1


def upright(samples, orientation: int):
    """samples (H, W, C) as stored -> as seen, for an EXIF orientation 1..8 (a view, no resampling)."""
    if orientation in (5, 6, 7, 8):
        samples = samples.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    return samples
