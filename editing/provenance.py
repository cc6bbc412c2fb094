"""Every picture this program writes says so: IPTC digital source type in XMP, and the recipe with it.

The recipe (what was done, by which weights) travels inside the picture and in a sidecar; inversions
and identity descriptors never do.  The source type is `compositeWithTrainedAlgorithmicMedia`: a photo
of which a part was made by a trained model (IPTC Photo Metadata Standard, Digital Source Type).
"""

from __future__ import annotations

import os
from html import escape, unescape
from pathlib import Path

from editing.faces import photo as photos
from editing.faces.saving import reason, write_atomically
from editing.types import SOFTWARE, Recipe
from stylegan2.errors import PhotoError, UsageError

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
TEXT_KEY = "wplus:recipe"
MAX_RECIPE_BYTES = 4 << 20

JPEG_PACKET = 65_000  # bytes of XMP that a JPEG can hold
_PACKET = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
    xmlns:wplus="urn:wplus:1.0/"
    xmp:CreatorTool="{software}"
    Iptc4xmpExt:DigitalSourceType="{source_type}"
    wplus:recipe="{recipe}"/>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>"""


def xmp(recipe: Recipe | None) -> bytes:
    """The XMP packet (UTF-8): source type, program, and the recipe, if it goes in, as JSON in one attribute."""
    text = "" if recipe is None else escape(recipe.model_dump_json(), quote=True)
    return _PACKET.format(software=escape(SOFTWARE), source_type=SOURCE_TYPE, recipe=text).encode()


def save(
    photo: photos.Photo, path: str | os.PathLike, recipe: Recipe, sidecar: bool = True, changed: bool = True
) -> Path:
    """Write a picture that this program made: the recipe in its metadata, and beside it as JSON.

    changed: False for a picture that a recipe left untouched: a photo stays a photo and gets no source type, a
    picture that came with the mark of a trained model, ours or anybody's, keeps a mark.
    """
    path = Path(path)
    write_atomically(path, encode(photo, path.suffix.lower(), recipe, changed))
    if sidecar:
        write_atomically(sidecar_path(path), (recipe.to_json() + "\n").encode())
    return path


def encode(photo: photos.Photo, suffix: str, recipe: Recipe, changed: bool = True) -> bytes:
    """The bytes of the picture that `save` writes, in the format of a suffix ('.png')."""
    packet = xmp(recipe) if changed or is_marked(photo) else None
    if packet and suffix in (".jpg", ".jpeg") and len(packet) > JPEG_PACKET:
        packet = xmp(None)  # the mark stays; the recipe is beside the picture
    return photos.encode(photo, suffix, text={TEXT_KEY: recipe.model_dump_json()}, xmp=packet)


def is_marked(photo: photos.Photo) -> bool:
    """Does the picture's XMP say that a trained model made it, or a part of it?"""
    return b"trainedalgorithmicmedia" in (photo.xmp or b"").lower()


def sidecar_path(picture: Path) -> Path:
    """face.png -> face.recipe.json"""
    return picture.with_name(f"{picture.stem}.recipe.json")


def recipe_text(photo: photos.Photo) -> str | None:
    """The recipe JSON inside a picture, or None if there is none.

    The XMP packet is searched as text, so no XML written by a stranger is ever parsed or expanded.
    """
    return photo.text[TEXT_KEY] if TEXT_KEY in photo.text else recipe_in(photo.xmp or b"")


def recipe_in(packet: bytes) -> str | None:
    """The recipe JSON inside an XMP packet, or None."""
    _, found, rest = packet.decode("utf-8", "replace").partition('wplus:recipe="')
    return unescape(rest.partition('"')[0]) or None if found else None


def load_recipe(path: str | os.PathLike) -> Recipe:
    """Read a recipe file, or that inside a picture or video of this program.  UsageError in one sentence."""
    path = Path(path)
    try:
        with open(path, "rb") as stream:
            head = stream.read(MAX_RECIPE_BYTES)
    except OSError as error:
        raise UsageError(f"Cannot read the recipe {path}: {reason(error)}.") from None
    if head.lstrip().startswith((b"{", b"[")) or path.suffix.lower() == ".json":
        return Recipe.from_json(head)
    if head[4:8] == b"ftyp" and path.suffix.lower() == ".mp4":
        from editing import video

        embedded = recipe_in(video.xmp(path))
    else:
        try:
            embedded = recipe_text(photos.load(path))
        except PhotoError:
            embedded = None
    if embedded is None:
        raise UsageError(f"{path.name} is neither a recipe nor a picture with a recipe inside.")
    return Recipe.from_json(embedded)
