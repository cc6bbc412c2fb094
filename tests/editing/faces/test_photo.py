"""Photos keep what they hold, lose what gives a person away, and bad files make one sentence."""

from __future__ import annotations

import errno
import io
import os
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from editing.faces import photo as photos
from editing.faces import saving
from editing.faces.metadata import clean_exif
from stylegan2.errors import PhotoError
from tests.editing.faces.samples import PHOTOS, disguised_eps

LOSSLESS = [
    (n, suffix) for suffix in (".png", ".tif") for n, p in PHOTOS.items() if p.mode in saving.FORMATS[suffix][1]
]


@pytest.mark.parametrize("name, suffix", LOSSLESS)
def test_lossless_formats_give_the_samples_back(name, suffix, tmp_path):
    before = PHOTOS[name]
    back = photos.load(photos.save(before, tmp_path / f"a{suffix}"))
    assert back.mode == before.mode
    assert back.icc == before.icc
    np.testing.assert_array_equal(back.rgb, before.rgb)
    np.testing.assert_array_equal(back.samples, before.samples)


@pytest.mark.parametrize("suffix", saving.FORMATS)
def test_every_mode_can_be_written_in_every_format(any_photo, suffix, tmp_path):
    back = photos.load(photos.save(any_photo, tmp_path / f"a{suffix}"))
    assert back.size == any_photo.size
    if any_photo.alpha is None and any_photo.mode not in ("P", "1"):  # noise does not survive lossy coding
        assert np.abs(back.rgb.astype(float) - any_photo.rgb).mean() < 9


def test_webp_at_full_quality_is_lossless(tmp_path):
    samples = np.random.default_rng(0).integers(0, 256, (20, 30, 4)).astype(np.uint8)
    saved = photos.save(photos.Photo(samples, "RGBA"), tmp_path / "a.webp", quality=100)
    np.testing.assert_array_equal(photos.load(saved).samples, samples)


@pytest.mark.parametrize("turn", range(1, 9))
def test_orientation_is_applied_to_sixteen_bits(turn, tmp_path):
    import tifffile

    seen = np.zeros((40, 60, 3), np.uint16)
    seen[:20, :30] = [60_000, 500, 500]
    stored = np.dstack([_stored(seen[..., channel], turn) for channel in range(3)])
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", extratags=[(274, "H", 1, turn, True)])
    loaded = photos.load(tmp_path / "a.tif")
    assert loaded.size == (60, 40) and loaded.mode == "RGB;16"
    np.testing.assert_array_equal(loaded.samples, seen)


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF", "HEIF"])
def test_orientation_is_applied(form, turn, tmp_path):
    seen = np.zeros((40, 60, 3), np.uint8)
    seen[:20, :30] = [250, 10, 10]  # red corner top left, as it should be seen
    stored = _stored(seen, turn)
    exif = Image.Exif()
    exif[274] = turn
    if form == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    Image.fromarray(stored).save(tmp_path / "a", form, exif=exif.tobytes(), quality=100)
    loaded = photos.load(tmp_path / "a")
    assert loaded.size == (60, 40)
    np.testing.assert_allclose(loaded.rgb[10, 15], [250, 10, 10], atol=12)
    np.testing.assert_allclose(loaded.rgb[30, 45], 0, atol=12)
    again = photos.load(photos.save(loaded, tmp_path / "b.jpg"))
    assert again.size == (60, 40)
    assert Image.open(tmp_path / "b.jpg").getexif().get(274, 1) == 1


def _stored(seen, turn):
    """What a camera stores so that orientation `turn` shows `seen` (Pillow's own operations, as a second witness)."""
    picture = Image.fromarray(seen)
    inverse = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Image.Transpose values that undo the orientation
    return np.asarray(picture if turn == 1 else picture.transpose(Image.Transpose(inverse[turn])))


def test_what_gives_a_person_away_is_stripped(tmp_path):
    exif = Image.Exif()
    exif[271], exif[0xC62F], exif[0x8298] = "Maker", "serial-0", "me"
    camera = exif.get_ifd(0x8769)
    camera |= {
        0x9003: "2020:01:01 00:00:00",
        0xA431: "serial-1",
        0xA435: "serial-2",
        0x927C: b"serial-3",
        0xA420: "id-4",
    }
    exif.get_ifd(0x8825)[2] = (48.0, 8.0, 15.0)
    exif.get_ifd(0x8825)[29] = "2020:01:02"
    source, out = tmp_path / "a.jpg", tmp_path / "b.jpg"
    Image.new("RGB", (50, 40)).save(source, exif=exif, xmp=b"<x>serial-5</x>", comment=b"serial-6")
    assert b"2020:01:02" in source.read_bytes() and b"serial-1" in source.read_bytes()
    photos.save(photos.load(source), out)
    data = out.read_bytes()
    assert b"serial" not in data and b"id-4" not in data and b"2020:01:02" not in data
    kept = Image.open(out).getexif()
    assert kept[271] == "Maker" and kept[0x8298] == "me"
    assert kept.get_ifd(0x8769)[0x9003] == "2020:01:01 00:00:00"
    assert not kept.get_ifd(0x8825) and not kept.get_ifd(0x8769).get(0x927C)


@pytest.mark.parametrize("camera", [{}, {0x829A: 0.01, 0xA431: "serial-1"}])
@pytest.mark.parametrize("packet", [None, b"<x:xmpmeta>edited</x:xmpmeta>"])
@pytest.mark.parametrize("mode", ["RGB", "P", "RGB;16"])
@pytest.mark.parametrize("form", ["JPEG", "TIFF"])
def test_a_tiff_has_the_texts_of_the_photos_exif(form, mode, packet, camera, capfd):
    exif = Image.Exif()
    exif.update({271: "Canon", 0x13B: "an artist", 0x8298: "me", 0xC62F: "serial-0"})
    if camera:
        exif.get_ifd(0x8769).update(camera)
        exif.get_ifd(0x8825)[29] = "2020:01:02"
    stream = io.BytesIO()
    Image.new("RGB", (50, 40)).save(stream, form, exif=exif.tobytes(), dpi=(72, 72))
    photo = photos.decode(stream.getvalue(), Path("a"))
    data = photos.encode(replace(PHOTOS[mode], exif=photo.exif, dpi=photo.dpi), ".tif", xmp=packet)
    back = photos.decode(data, Path("b.tif"))
    np.testing.assert_array_equal(back.samples, PHOTOS[mode].samples)
    assert (back.mode, back.xmp, back.dpi) == (mode, packet, (72, 72))
    kept = Image.open(io.BytesIO(data)).getexif()
    assert (kept[271], kept[0x13B], kept[0x8298]) == ("Canon", "an artist", "me")
    assert not {0x8769, 0x8825} & set(kept) and b"serial" not in data and b"2020:01:02" not in data
    assert capfd.readouterr().err == ""  # libtiff speaks there


def test_no_empty_directory_is_made_for_a_camera_that_said_nothing():
    exif = Image.Exif()
    exif[271] = "Canon"
    back = Image.Exif()
    back.load(clean_exif(exif))
    assert dict(back) == {271: "Canon", 274: 1}


@pytest.mark.parametrize("mode", ["RGB", "RGB;16"])
def test_text_and_xmp_travel_in_png(mode, tmp_path):
    white = 65535 if mode.endswith("16") else 255
    dtype = np.uint16 if white > 255 else np.uint8
    photo = photos.Photo(np.full((5, 6, 3), white, dtype), mode, white=float(white))
    text = {"recipe": '{"smile": 2}', "note": "größer"}
    back = photos.load(photos.save(photo, tmp_path / "a.png", text=text, xmp=b"<x:xmpmeta/>"))
    assert text.items() <= back.text.items()
    assert back.xmp == b"<x:xmpmeta/>"
    np.testing.assert_array_equal(back.samples, photo.samples)


@pytest.mark.parametrize("suffix", [".jpg", ".tif", ".webp", ".avif", ".heic"])
def test_xmp_travels_in_the_other_formats(suffix, tmp_path):
    photo = photos.from_rgb(np.full((16, 16, 3), 99, np.uint8))
    photos.save(photo, tmp_path / f"a{suffix}", xmp=b"<x:xmpmeta>edited</x:xmpmeta>")
    assert b"<x:xmpmeta>edited</x:xmpmeta>" in (tmp_path / f"a{suffix}").read_bytes()


def test_sha256_is_the_files(tmp_path):
    import hashlib

    path = photos.save(photos.from_rgb(np.zeros((2, 2, 3), np.uint8)), tmp_path / "a.png")
    assert photos.load(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


# ---------------------------------------------------------------------------------------------- bad input


def _png_header(width: int, height: int) -> bytes:
    body = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + body
    data = b"IDAT" + zlib.compress(bytes(1000))
    return b"".join(
        [b"\x89PNG\r\n\x1a\n", struct.pack(">I", 13), chunk, struct.pack(">I", zlib.crc32(chunk))]
        + [struct.pack(">I", len(data) - 4), data, struct.pack(">I", zlib.crc32(data))]
    )


def _jpeg() -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 200, 3)).astype(np.uint8)).save(out, "JPEG")
    return out.getvalue()


BAD = {
    "empty.jpg": (b"", "is empty"),
    "text.jpg": (b"dear diary", "is not a picture"),
    "cut.jpg": (_jpeg()[:3000], "cut short"),
    "header.jpg": (_jpeg()[:10], "not a picture|damaged"),
    "bomb.png": (_png_header(60_000, 60_000), "too large: 60000 x 60000 is 3600 megapixels, the limit is 200"),
    "cut.png": (_png_header(100, 100), "cut short"),
    "zeros.heic": (b"\0\0\0\x18ftypheic" + bytes(500), "damaged|not a picture"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_make_one_sentence(name, tmp_path):
    content, sentence = BAD[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PhotoError, match=sentence) as caught:
        photos.load(tmp_path / name)
    message = str(caught.value)
    assert name in message and message.endswith(".") and "\n" not in message


def test_truncated_deep_png(tmp_path):
    samples = np.random.default_rng(0).integers(0, 65536, (50, 50, 3)).astype(np.uint16)
    data = photos.encode(photos.Photo(samples, "RGB;16", white=65535.0), ".png")
    (tmp_path / "a.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(PhotoError, match="cut short"):
        photos.load(tmp_path / "a.png")


def test_places_that_hold_no_picture(tmp_path, monkeypatch):
    with pytest.raises(PhotoError, match="No such file"):
        photos.load(tmp_path / "none.jpg")
    with pytest.raises(PhotoError, match="is a folder"):
        photos.load(tmp_path)
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(PhotoError, match="not a regular file"):
        photos.load(tmp_path / "pipe.jpg")
    (tmp_path / "a.jpg").write_bytes(_jpeg())
    monkeypatch.setattr("pathlib.Path.read_bytes", _raise(PermissionError(errno.EACCES, "no")))
    with pytest.raises(PhotoError, match="No permission"):
        photos.load(tmp_path / "a.jpg")


@pytest.mark.parametrize("form", [*photos.READ_FORMATS, "MPO"])
def test_every_format_that_is_read(form):
    if form == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    first, second = (Image.new("RGB", (40, 30), colour) for colour in ("red", "blue"))
    options = {"save_all": True, "append_images": [second]} if form == "MPO" else {}
    stream = io.BytesIO()
    first.save(stream, form, **options)
    photo = photos.decode(stream.getvalue(), Path("a"))
    assert photo.size == (40, 30)
    np.testing.assert_allclose(photo.rgb[10, 10], [255, 0, 0], atol=5)


def test_every_suffix_that_a_batch_looks_for_is_of_a_format_that_is_read():
    from editing.batching.planning import READABLE

    known = Image.registered_extensions()
    assert {known[suffix] for suffix in READABLE if suffix in known} <= set(photos.READ_FORMATS)


def test_a_photo_runs_no_program(tmp_path, monkeypatch):
    picture, mark = disguised_eps(tmp_path, monkeypatch)
    with pytest.raises(PhotoError, match=r"holiday\.jpg is not a picture"):
        photos.load(picture)
    assert not mark.exists()


@pytest.mark.parametrize("form", ["ICO", "ICNS", "PPM", "TGA"])
def test_other_formats_are_no_pictures(form, tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png", form)
    with pytest.raises(PhotoError, match="not a picture"):
        photos.load(tmp_path / "a.png")


def _tiff(body: bytes, codec: int = 8, more: dict[int, int] | None = None, less: tuple = ()) -> bytes:
    """A TIFF of 64 x 64 RGB pixels of 16 bits in one strip, and what `more` says besides."""
    at = {256: 64, 257: 64, 259: codec, 262: 2, 273: 0, 277: 3, 278: 64, 279: len(body), 284: 1} | (more or {})
    at = {tag: value for tag, value in at.items() if tag not in less}
    bits = 8 + 2 + 12 * (len(at) + 1) + 4
    at |= {tag: bits + 6 for tag in (273, 324) if tag in at}  # where the strip is, or the tile
    entries = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in at.items()]
    entries = sorted([*entries, struct.pack("<HHII", 258, 3, 3, bits)], key=lambda entry: entry[1::-1])
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(entries) + struct.pack("<I3H", 0, *[16] * 3) + body


STRIP = zlib.compress(bytes(64 * 64 * 6))


@pytest.mark.parametrize("data", [_tiff(STRIP, more={32997: 50}), _tiff(_jpeg(), codec=7)], ids=["depth", "jpeg"])
def test_a_deep_tiff_is_no_larger_than_pillow_has_seen(data, caplog):
    with pytest.raises(PhotoError, match=r"a\.tif is damaged or cut short"):
        photos.decode(data, Path("a.tif"))
    assert not caplog.records


def test_tiles_are_no_larger_than_a_picture_may_be():
    body = zlib.compress(bytes(256 * 256 * 6))
    data = _tiff(body, more={322: 256, 323: 256, 324: 0, 325: len(body)}, less=(273, 278, 279))
    assert photos.decode(data, Path("a.tif"), max_pixels=256 * 256).samples.shape == (64, 64, 3)
    with pytest.raises(PhotoError, match="is damaged"):
        photos.decode(data, Path("a.tif"), max_pixels=256 * 256 - 1)


DEEP = [{}, {"tile": (16, 32)}, {"byteorder": ">"}, {"compression": "zlib", "predictor": True, "rowsperstrip": 7}]
DEEP += [{"compression": codec} for codec in ("lzw", "packbits", "lzma", "zstd")]


@pytest.mark.parametrize("planes", ["contig", "separate"])
@pytest.mark.parametrize("options", DEEP, ids=str)
def test_deep_tiffs_of_others(planes, options):
    import tifffile

    samples = np.random.default_rng(0).integers(0, 65536, (50, 40, 3)).astype(np.uint16)
    stream = io.BytesIO()
    stored = samples if planes == "contig" else samples.transpose(2, 0, 1)
    tifffile.imwrite(stream, stored, photometric="rgb", planarconfig=planes, **options)
    assert tifffile.TiffFile(io.BytesIO(stream.getvalue())).pages[0].planarconfig == (1 if planes == "contig" else 2)
    back = photos.decode(stream.getvalue(), Path("a.tif"))
    assert back.mode == "RGB;16"
    np.testing.assert_array_equal(back.samples, samples)


def test_one_pixel_is_a_photo(tmp_path):
    Image.new("RGB", (1, 1), (1, 2, 3)).save(tmp_path / "a.png")
    assert photos.load(tmp_path / "a.png").rgb.tolist() == [[[1, 2, 3]]]


def test_max_pixels_is_checked_before_decoding_and_leaves_pillow_alone(tmp_path):
    limit = Image.MAX_IMAGE_PIXELS
    Image.new("RGB", (30, 30)).save(tmp_path / "a.png")
    with pytest.raises(PhotoError, match="too large"):
        photos.load(tmp_path / "a.png", max_pixels=899)
    assert photos.load(tmp_path / "a.png", max_pixels=900).size == (30, 30)
    assert limit == Image.MAX_IMAGE_PIXELS


def test_pillow_has_the_limit_while_it_decodes(tmp_path, monkeypatch):
    limits, decode = [], photos._decode
    monkeypatch.setattr(photos, "_decode", lambda *given: limits.append(Image.MAX_IMAGE_PIXELS) or decode(*given))
    photos.load(photos.save(PHOTOS["L"], tmp_path / "a.png"), max_pixels=100_000)
    assert limits == [100_000]


def _raise(error):
    def fail(*_args, **_options):
        raise error

    return fail


@pytest.mark.parametrize(
    "number, sentence", [(errno.ENOSPC, "the disk is full"), (errno.EROFS, "the folder is read-only")]
)
def test_a_failed_write_leaves_the_old_file_and_nothing_else(number, sentence, tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", _raise(OSError(number, "x")))
    with pytest.raises(PhotoError, match=sentence):
        photos.save(photos.from_rgb(np.zeros((4, 4, 3), np.uint8)), path)
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["a.png"]


def test_places_that_cannot_be_written(tmp_path):
    photo = photos.from_rgb(np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(PhotoError, match="no such folder"):
        photos.save(photo, tmp_path / "none" / "a.png")
    with pytest.raises(PhotoError, match="it is a folder"):
        photos.save(photo, (tmp_path / "b.png").mkdir() or tmp_path / "b.png")
    with pytest.raises(PhotoError, match="Cannot write a picture as '.xyz'"):
        photos.save(photo, tmp_path / "a.xyz")


def test_broken_profile_is_ignored(tmp_path):
    plain = photos.from_rgb(np.random.default_rng(0).integers(0, 256, (9, 9, 3)).astype(np.uint8))
    np.testing.assert_array_equal(replace(plain, icc=b"not a profile").rgb, plain.rgb)
