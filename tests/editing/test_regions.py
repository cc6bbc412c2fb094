"""Edits within a region: nothing outside changes, words and masks are checked first, no sample of the photo is lost."""

import numpy as np
import pytest
import torch

from editing import regions, session
from editing.faces import photo as photos
from editing.inversion.residual import render
from editing.judges.parsing import CLASSES
from editing.steps import apply_step, layers
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


def test_a_region_within_another_gets_the_edits_of_both_and_is_drawn_last():
    base = Inversion(torch.zeros(1, 16, 4), "toy")
    wanted = ((1.0, "lips"), (2.0, "face"), (4.0, None), (8.0, "upper_lip + lower_lip"), (16.0, "hair"))
    steps = [latent_step("shift", s).model_copy(update={"region": r}) for s, r in wanted]
    found = layers(base, steps, {"shift": Direction(4)})
    amounts = [(layer.region, float(layer.inversion.ws[0, 0, 0] / Direction(4).vector[0])) for layer in found]
    assert amounts == [
        (None, pytest.approx(4)), ("face", pytest.approx(6)), ("lips", pytest.approx(15)), ("hair", pytest.approx(20)),
    ]  # fmt: skip


def test_what_covers_what():
    assert regions.covers(None, "hair") and regions.covers("face", "lips") and regions.covers("lips", "lower_lip")
    assert not regions.covers("lips", "face") and not regions.covers("hair", None)
    assert not regions.covers("face", "mask:00") and not regions.covers("mask:00", "face")
    assert regions.covers("mask:00", "mask:00")


@pytest.mark.parametrize("quad_side", [64, 23])
def test_in_the_photo_nothing_changes_where_a_region_is_zero_however_large_the_face_is(generator, quad_side):
    from editing.faces import align, paste

    size, photo = 128, photos.from_rgb(np.random.default_rng(1).integers(60, 190, (80, 90, 3), dtype=np.uint8))
    quad = np.array([(8, 8), (8, 8 + quad_side), (8 + quad_side, 8 + quad_side), (8 + quad_side, 8)], np.float64) - 0.3
    before = align.crop(photo.rgb, quad, size)
    region = disc(size, 0.3)
    after = np.where(region[..., None] > 0, 255 - before, before)
    pasted = paste.paste(photo, quad, after, before, region=region, feather=0.01).photo
    y, x = np.mgrid[:80, :90]
    at = np.floor(align.to_crop(np.stack([x.ravel(), y.ravel()], 1).astype(float), quad, size) + 0.5).astype(int)
    inside = ((at >= 0) & (at < size)).all(1)
    known = np.zeros(len(at), bool)
    known[inside] = region[at[inside, 1], at[inside, 0]] > 0
    changed = (pasted.rgb != photo.rgb).any(-1).ravel()
    assert changed[known].mean() > 0.5 and not changed[~known].any()


def test_a_transparent_mask_is_no_mask(tmp_path):
    from PIL import Image

    rgba = np.full((8, 8, 4), 255, np.uint8)
    rgba[:4, :, 3] = 0
    Image.fromarray(rgba).save(tmp_path / "m.png")
    assert (regions.read(tmp_path / "m.png") == [[0.0]] * 4 + [[1.0]] * 4).all()


def test_masks_of_two_shapes_have_two_names():
    assert regions.named(np.zeros((4, 6), np.float32)) != regions.named(np.zeros((6, 4), np.float32))


def test_a_mask_is_square_or_as_large_as_the_photo():
    with pytest.raises(UsageError, match="as large as the photo"):
        regions.over_crop(np.zeros((40, 60), np.float32), (50, 50), np.zeros((4, 2)), 32)
    assert regions.over_crop(np.ones((40, 40), np.float32), None, None, 64).shape == (64, 64)


@pytest.mark.parametrize("size", [64, 256])
def test_a_region_is_where_the_parser_sees_it_before_or_after(size):
    def seen(rows):
        found = np.zeros((256, 256, len(CLASSES)), np.float32)
        found[..., CLASSES.index("background")] = 1
        found[rows, 60:200] = np.eye(len(CLASSES))[CLASSES.index("hair")]
        return found

    mask = regions.mask("hair", seen(slice(60, 110)), seen(slice(100, 140)), size)
    step = 256 // size
    assert mask.shape == (size, size) and mask.dtype == np.float32
    assert mask[70 // step, 130 // step] == 1 and mask[130 // step, 130 // step] == 1
    assert mask[40 // step, 130 // step] == 0 and mask[160 // step, 130 // step] == 0


def test_a_step_keeps_its_region_in_a_recipe():
    step = Step(parameters={"name": "smile", "strength": 1.0}, region="mouth")
    assert Recipe.from_json(Recipe(steps=(step,)).to_json()).steps[0].region == "mouth"


def test_a_region_may_be_grown():
    seen = np.zeros((256, 256, len(CLASSES)), np.float32)
    seen[..., CLASSES.index("skin")] = 1
    seen[100:140, 100:140] = np.eye(len(CLASSES))[CLASSES.index("hair")]
    plain, wide = (regions.mask(region, seen, seen, 256) for region in ("hair", "hair~8"))
    assert plain[120, 120] == wide[120, 120] == 1 and plain[120, 95] == 0 and wide[120, 95] == 1
    assert wide[120, 80] == 0 and (wide >= plain - 1e-6).all()
    assert regions.classes("hair+brows~3") == regions.classes("hair+brows")
    assert regions.covers("hair~3", "hair") and not regions.covers("hair", "hair~3") and regions.covers(None, "hair~3")
    for wrong in ("hair~", "hair~x", "hair~300", "hair~-1"):
        with pytest.raises(UsageError, match="hair~3"):
            regions.check(wrong, {})
