"""Edits within a region: nothing outside changes, words and masks are checked first, no sample of the photo is lost."""

import numpy as np
import pytest
import torch

from editing import regions, session
from editing.faces import photo as photos
from editing.inversion.residual import render
from editing.judges.parsing import CLASSES
from editing.steps import apply_step
from editing.types import Inversion, Recipe, Step, latent_step
from stylegan2.errors import UsageError
from tests.encoders import toys


@pytest.fixture
def generator():
    return toys.generator()


def disc(size, radius=0.25):
    y, x = np.mgrid[:size, :size] / size - 0.5
    return (np.hypot(x, y) < radius).astype(np.float32)


class Direction:
    name, rows, safe_range, styles = "shift", (0, 6), None, None

    def __init__(self, width):
        self.vector = torch.randn(width, generator=torch.Generator().manual_seed(1))


def editor_of(generator, photo_side=96):
    """An editor with a face in a photo that is twice as wide as the crop."""
    editor = session.Editor(generator, catalogue={"shift": Direction(generator.w_dim)})
    rows = np.random.default_rng(0).integers(60, 190, (photo_side, 2 * photo_side, 3), dtype=np.uint8)
    photo = photos.from_rgb(rows)
    quad = np.array([(8, 8), (8, 72), (72, 72), (72, 8)], np.float64) - 0.5
    inversion = Inversion(torch.randn(1, generator.num_ws, generator.w_dim), generator.family, quad=quad)
    editor.set_inversion(inversion, photo)
    return editor


def limited(region, strength=2.0):
    return Recipe(steps=(latent_step("shift", strength).model_copy(update={"region": region}),))


def test_words_are_classes_and_groups_of_them():
    assert regions.classes("hair") == ("hair",)
    assert regions.classes("lips + mouth") == ("upper_lip", "lower_lip", "mouth")
    assert set(regions.classes("person")) == set(CLASSES) - {"background"}
    with pytest.raises(UsageError, match="hair"):
        regions.classes("hairs")


def test_unknown_regions_and_masks_that_were_not_given_are_refused_before_anything_is_drawn(generator):
    editor = editor_of(generator)
    with pytest.raises(UsageError, match="regions"):
        editor.edit(limited("hairs"))
    with pytest.raises(UsageError, match="--mask"):
        editor.edit(limited("mask:0000"))


def test_outside_a_mask_of_ones_own_the_crop_does_not_change_at_all(generator):
    editor, own = editor_of(generator), disc(generator.resolution)
    editor.masks[regions.named(own)] = own
    before = editor.reconstruction().clone()
    after, whole = editor.render(limited(regions.named(own))), editor.render(limited(None))
    change = (after - before).abs().amax(1)[0].numpy()
    assert (change[own == 0] == 0).all() and change[own == 1].mean() > 0.02
    assert (whole - before).abs().amax(1)[0].numpy()[own == 0].mean() > 0.02
    assert editor.render(limited(regions.named(own), 0.0)) is editor.reconstruction()


def test_activations_are_mixed_too_so_that_the_inside_follows_what_surrounds_it(generator):
    editor, own = editor_of(generator), disc(generator.resolution)
    base = editor.inversion()
    edited = apply_step(base, latent_step("shift", 2.0), editor.catalogue)
    everywhere = regions.mixed(generator, base, edited, np.ones_like(own))
    assert torch.allclose(everywhere, render(generator, edited), atol=1e-5)
    inside = regions.mixed(generator, base, edited, own)
    assert not torch.allclose(inside, render(generator, edited), atol=1e-3)


def test_in_the_photo_every_sample_outside_the_mask_stays(generator):
    editor = editor_of(generator)
    height, width = editor.scene.photo.rgb.shape[:2]
    own = np.zeros((height, width), np.float32)
    own[20:50, 20:50] = 1
    editor.masks[regions.named(own)] = own
    edit = editor.edit(limited(regions.named(own)), feather=0.01)
    changed = (edit.photo.rgb != editor.scene.photo.rgb).any(-1)
    assert changed[own == 1].mean() > 0.5 and not changed[own == 0].any()


def test_steps_without_a_region_reach_inside_those_with_one(generator):
    editor, own = editor_of(generator), disc(generator.resolution)
    name = regions.named(own)
    editor.masks[name] = own
    both = editor.render(Recipe(steps=(latent_step("shift", 1.0), *limited(name, 1.0).steps)))
    outside = editor.render(limited(None, 1.0))
    assert torch.equal(both[0, :, own == 0], outside[0, :, own == 0])
    assert not torch.allclose(both[0, :, own == 1], outside[0, :, own == 1], atol=1e-3)


def test_a_mask_is_square_or_as_large_as_the_photo():
    with pytest.raises(UsageError, match="as large as the photo"):
        regions.over_crop(np.zeros((40, 60), np.float32), (50, 50), np.zeros((4, 2)), 32)
    assert regions.over_crop(np.ones((40, 40), np.float32), None, None, 64).shape == (64, 64)


@pytest.mark.parametrize("size", [64, 256])
def test_a_region_is_where_the_parser_sees_it_before_or_after(monkeypatch, size):
    def seen(picture):
        found = np.zeros((256, 256, len(CLASSES)), np.float32)
        found[..., CLASSES.index("background")] = 1
        rows = slice(100, 140) if picture.mean() > 100 else slice(60, 110)
        found[rows, 60:200] = np.eye(len(CLASSES))[CLASSES.index("hair")]
        return found

    monkeypatch.setattr(regions, "probabilities", seen)
    dark, light = (np.full((size, size, 3), level, np.uint8) for level in (10, 200))
    mask = regions.mask("hair", dark, light, {})
    step = 256 // size
    assert mask.shape == (size, size) and mask.dtype == np.float32
    assert mask[70 // step, 130 // step] == 1 and mask[130 // step, 130 // step] == 1
    assert mask[40 // step, 130 // step] == 0 and mask[160 // step, 130 // step] == 0


def test_a_step_keeps_its_region_in_a_recipe():
    step = Step(parameters={"name": "smile", "strength": 1.0}, region="mouth")
    assert Recipe.from_json(Recipe(steps=(step,)).to_json()).steps[0].region == "mouth"
