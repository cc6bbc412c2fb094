"""Heads that read pictures: files, names, answers, what they add to a face, in recipes and as methods of inversion."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from editing import steps
from editing.dragging import Drags
from editing.heads import pictures, registry
from editing.heads.pictures import PLAIN, Family, PictureHead, StyleReader, load, noise, save, start
from editing.types import Inversion, latent_step
from encoders import compact
from stylegan2 import engine
from stylegan2.errors import UsageError, WplusError
from stylegan2.generator import Delta

WAYS = {"rbdn": (PLAIN, "relit", "half"), "bicyclegan": ("sketch", "gray")}


def family(kind, moved=True):
    """Untrained; `moved`: every way answers something of its own."""
    torch.manual_seed(2)
    drawer = start(len(WAYS[kind]), 4 if kind == "bicyclegan" else 0)
    if moved:
        drawer.named.data += 0.3 * torch.randn_like(drawer.named)
        drawer.out.weight.data += 0.05 * torch.randn_like(drawer.out.weight)
    return Family(kind, WAYS[kind], drawer.eval().requires_grad_(False), StyleReader(4) if drawer.z else None)


@pytest.fixture(scope="module")
def picture():
    smooth = torch.nn.functional.interpolate(
        torch.rand(1, 3, 8, 8, generator=torch.manual_seed(0)), 128, mode="bicubic"
    )
    return (2 * smooth - 1).clamp(-1, 1)


def test_how_wide_codes_are_drawn_stands_in_the_file(tmp_path, picture):
    """So that a recipe, which names the file by its hash, means the same picture for good."""
    made = replace(family("bicyclegan"), wider=2.0)
    save(made, tmp_path / "bicyclegan.safetensors")
    head = load(tmp_path / "bicyclegan.safetensors")["bicyclegan:sketch"]
    assert head.family.wider == 2.0
    plain, middle = PictureHead(head.name, replace(head.family, wider=1.0)), torch.zeros(1, 4)
    z = noise([3], 4)
    torch.testing.assert_close(head(picture, seeds=[3]), head(picture, z=2 * z))
    torch.testing.assert_close(plain(picture, seeds=[3]), head(picture, z=z))
    assert not torch.allclose(head(picture, z=middle), head(picture, z=2 * z))


@pytest.fixture
def shipped(registered):
    for kind in WAYS:
        save(family(kind), registered / f"{kind}.safetensors")
    return registered


def test_a_file_gives_back_what_went_into_it(tmp_path, picture):
    for kind in WAYS:
        made, path = family(kind), tmp_path / f"{kind}.safetensors"
        save(made, path)
        assert path.stat().st_size < 6 << 20  # the encoder itself is not saved again
        heads = load(path)
        assert list(heads) == made.names and PLAIN not in "".join(heads)
        for name, head in heads.items():
            expected = PictureHead(name, made)(picture)
            torch.testing.assert_close(head(picture), expected, rtol=0.05, atol=0.05)  # float16


def test_a_new_one_answers_as_the_encoder_does(picture):
    head = PictureHead("rbdn:relit", family("rbdn", moved=False))
    torch.testing.assert_close(head(picture), compact.encode(compact.load(), picture), rtol=1e-3, atol=1e-3)


def test_pictures_of_any_size_and_several_at_once(shipped, picture):
    head = registry.drawers()["rbdn:half"]
    large = torch.nn.functional.interpolate(picture, 512, mode="nearest")
    both = head(torch.cat([picture, -picture]))
    torch.testing.assert_close(head(large), head(picture), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(both[:1], head(picture), rtol=1e-3, atol=1e-3)


def test_seeds_are_results_whatever_is_drawn_beside_them(shipped, picture):
    head = registry.drawers()["bicyclegan:sketch"]
    three = head(picture, seeds=[5, 6, 7])
    torch.testing.assert_close(three[1:2], head(picture, seeds=[6]), rtol=1e-3, atol=1e-3)
    assert (three[0] - three[1]).abs().max() > 0.01
    torch.testing.assert_close(registry.find("bicyclegan:sketch:6")(picture), three[1:2], rtol=1e-3, atol=1e-3)
    assert head(picture, seeds=[-1]).shape == three[:1].shape
    only = registry.drawers()["rbdn:relit"]
    assert torch.equal(only(picture), only(picture, seeds=[3]))
    with pytest.raises(UsageError, match="one result"):
        only.style(three[:1])


def test_what_is_added_to_a_face_is_what_lacks(picture):
    ws = torch.zeros(1, 18, 512)
    still = PictureHead("rbdn:relit", family("rbdn", moved=False)).change(picture, ws)
    assert still.shape == ws.shape and still.abs().max() < 1e-4  # as the encoder reads it, nothing lacks
    moved = PictureHead("rbdn:relit", family("rbdn")).change(picture, ws)
    assert moved.abs().max() > 0.01 and torch.equal(moved[:, 15], moved[:, 17])


def test_the_faces_own_style_is_taken_off(picture):
    made = family("bicyclegan")
    ws = torch.randn(1, 16, 512, generator=torch.manual_seed(1))
    one, two = (PictureHead(f"bicyclegan:gray:{seed}", made, seed).change(picture, ws) for seed in (1, 2))
    assert (one - two).abs().max() > 0.01
    given = engine.to_float(pictures.WAYS["gray"](engine.to_uint8(picture)[0], np.random.default_rng(0)))
    head = PictureHead("bicyclegan:gray:1", made, 1)
    torch.testing.assert_close(one, head(given) - head(given, z=head.style(ws)))


def test_names(shipped):
    assert list(registry.heads()) == [
        "rbdn:relit", *(f"bicyclegan:{way}:{seed}" for way in WAYS["bicyclegan"] for seed in (1, 2, 3, 4))
    ]  # fmt: skip
    assert registry.find("bicyclegan:gray:77").seed == 77 and registry.known("bicyclegan:gray:77")
    for name in ("bicyclegan:gray:x", "bicyclegan:gray:-1", "bicyclegan:gray:07", "rbdn:relit:1", "rbdn:relut"):
        assert not registry.known(name)
    with pytest.raises(UsageError, match="--method pix2pix:sketch"):
        registry.find("pix2pix:sketch")


def test_the_methods_are_those_that_ship():
    from editing.inversion import STRATEGIES

    assert sorted(registry.drawers()) == sorted(registry.DRAWERS)
    assert set(registry.DRAWERS) <= set(STRATEGIES)


class Painter:
    """A generator that draws one picture, and counts."""

    def __init__(self, picture):
        self.picture, self.count = picture, 0

    def synthesis(self, ws, deltas=None, features=None):
        self.count += 1
        return self.picture


def test_a_step_of_a_recipe_reads_the_face_once(shipped, picture):
    inversion = Inversion(
        torch.randn(1, 16, 512, generator=torch.manual_seed(3)), "mobile", deltas={"x": Delta("add", (torch.zeros(1),))}
    )
    generator, memo = Painter(picture), {}
    some = [latent_step("rbdn:relit", 0.5), latent_step("bicyclegan:gray:2", 1.0)]
    (layer,) = steps.layers(inversion, some, {}, Drags(generator, memo))
    expected = inversion.ws + 0.5 * registry.find("rbdn:relit").change(picture, inversion.ws)
    expected = expected + registry.find("bicyclegan:gray:2").change(picture, inversion.ws)
    torch.testing.assert_close(layer.inversion.ws, expected)
    assert layer.inversion.deltas == inversion.deltas and generator.count == 1
    weaker = [latent_step("rbdn:relit", 0.25).model_copy(update={"region": "hair"}), some[1]]
    everywhere, hair = steps.layers(inversion, weaker, {}, Drags(generator, memo))
    assert generator.count == 1 and (hair.inversion.ws - everywhere.inversion.ws).abs().max() > 0
    with pytest.raises(UsageError, match="the whole editor"):
        steps.layers(inversion, some, {})
    offsets = {"conv": Delta("add", (torch.ones(1, 2),))}
    steps.layers(replace(inversion, deltas=offsets), some, {}, Drags(generator, memo))
    assert generator.count == 2  # another picture of the same code


def test_files_that_hold_none(tmp_path, shipped):
    file = shipped / "rbdn.safetensors"
    state, facts = load_file(file), {"format": pictures.FORMAT, "kind": "rbdn", "ways": ["gray"], "encoder": "x"}
    for change, words in (
        ({"format": "other"}, "no heads"), ({"ways": ["gray", "nothing"]}, "no heads"), ({}, "version of the encoder"),
        ({"encoder": pictures.encoder_sha256()}, "way has the shape"),
    ):  # fmt: skip
        save_file(state, tmp_path / "x", metadata={"heads": json.dumps(facts | change)})
        with pytest.raises(WplusError, match=words):
            load(tmp_path / "x")
    (tmp_path / "x").write_bytes(b"nothing")
    with pytest.raises(WplusError, match="cannot be read"):
        load(tmp_path / "x")
