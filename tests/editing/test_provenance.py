"""What travels with a picture: source type and recipe yes, anything biometric no."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from editing import provenance
from editing.faces import photo as photos
from editing.types import Recipe
from stylegan2.errors import UsageError

RECIPE = Recipe.from_strengths({'odd "name" <&> é': 2.0, "age": -3})


def picture(seed=0):
    return photos.from_rgb(np.random.default_rng(seed).integers(0, 256, (24, 32, 3), dtype=np.uint8))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".avif"])
def test_a_picture_carries_its_source_type_and_its_recipe(tmp_path, suffix):
    path = provenance.save(picture(), tmp_path / f"face{suffix}", RECIPE)
    assert provenance.SOURCE_TYPE.encode() in path.read_bytes()
    assert provenance.load_recipe(path) == RECIPE
    assert provenance.load_recipe(tmp_path / "face.recipe.json") == RECIPE


def test_an_untouched_photo_gets_no_mark_and_an_untouched_marked_picture_keeps_one(tmp_path):
    untouched = Recipe.from_strengths({"smile": 0})
    plain = provenance.save(picture(), tmp_path / "plain.png", untouched, changed=False)
    assert not provenance.is_marked(photos.load(plain))
    marked = provenance.save(picture(), tmp_path / "marked.png", RECIPE)
    again = provenance.save(photos.load(marked), tmp_path / "again.png", untouched, changed=False)
    assert provenance.is_marked(photos.load(again))
    foreign = (
        b'<x Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"/>'
    )
    stranger = replace(picture(), xmp=foreign)
    assert provenance.is_marked(photos.load(provenance.save(stranger, tmp_path / "s.jpg", untouched, changed=False)))


def test_png_has_the_recipe_as_text_and_the_pixels_unchanged(tmp_path):
    path = provenance.save(picture(), tmp_path / "face.png", RECIPE)
    with Image.open(path) as image:
        assert json.loads(image.text["wplus:recipe"]) == json.loads(RECIPE.model_dump_json())
    assert np.array_equal(photos.load(path).rgb, picture().rgb)


def test_the_packet_is_well_formed_xml():
    from xml.etree import ElementTree

    root = ElementTree.fromstring(provenance.xmp(RECIPE).decode().split("?>", 1)[1].rsplit("<?xpacket", 1)[0])
    (description,) = root.iter("{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description")
    source = description.get("{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType")
    assert source.endswith("/compositeWithTrainedAlgorithmicMedia")
    assert Recipe.from_json(description.get("{urn:wplus:1.0/}recipe")) == RECIPE


@pytest.mark.parametrize("name", ["missing.json", "plain.png", "text.jpg", "folder"])
def test_what_is_no_recipe_is_a_usage_error(tmp_path, name):
    photos.save(picture(), tmp_path / "plain.png")
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError) as caught:
        provenance.load_recipe(tmp_path / name)
    assert "\n" not in str(caught.value)
