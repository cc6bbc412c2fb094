"""Paste-back: only the edit reaches the photo, and outside the mask no sample changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from editing.faces import align, detect, paste, photo
from editing.faces.flow import flow, resize, warp
from tests.editing.faces.samples import PHOTOS, QUAD, SIZE, scene


def count_outside(result, before) -> int:
    """Samples that differ where the mask is 0."""
    differs = result.photo.samples != before.samples
    return int(differs[result.full_mask() == 0].sum())


def test_nothing_changes_outside_the_mask_in_any_mode(any_photo, edit):
    before = any_photo.samples.copy()
    result = paste.paste(any_photo, QUAD, *edit)
    assert count_outside(result, any_photo) == 0
    np.testing.assert_array_equal(any_photo.samples, before)  # the input is left alone
    assert result.photo.mode == any_photo.mode
    assert result.photo.samples.dtype == any_photo.samples.dtype
    assert result.photo.icc == any_photo.icc
    assert (result.photo.samples != before).any()
    if any_photo.alpha is not None:
        np.testing.assert_array_equal(result.photo.alpha, any_photo.alpha)
    corners = align.to_crop(np.argwhere(result.full_mask() > 0)[:, ::-1], QUAD, SIZE)
    assert corners.min() > 0 and corners.max() < SIZE - 1  # the mask ends inside the quad


def test_an_edit_of_the_whole_crop_ends_before_its_border(edit):
    result = paste.paste(PHOTOS["RGB"], QUAD, edit[1] * 0.7, edit[1])
    mask = result.full_mask()
    points = align.to_crop(np.argwhere(mask > 0)[:, ::-1], QUAD, SIZE)
    assert points.min() > 0 and points.max() < SIZE - 1
    near_border = np.minimum(points, SIZE - 1 - points).min(-1) < 2
    assert mask[mask > 0][near_border].max(initial=0) < 10  # softly, not with a step
    assert result.mask.max() == 255


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_nothing_changes_outside_the_mask_in_the_file(any_photo, edit, suffix, tmp_path):
    before = photo.load(photo.save(any_photo, tmp_path / f"a{suffix}"))
    result = paste.paste(before, QUAD, *edit)
    after = photo.load(photo.save(result.photo, tmp_path / f"b{suffix}"))
    assert (after.mode, after.icc) == (before.mode, before.icc)
    assert (after.samples != before.samples)[result.full_mask() == 0].sum() == 0


def test_strength_0_gives_the_very_same_photo(any_photo, edit):
    assert paste.paste(any_photo, QUAD, edit[1], edit[1]).photo is any_photo


def test_where_the_edit_leaves_a_half_alone_the_photo_keeps_it(edit):
    edited, reconstruction = (picture.copy() for picture in edit)
    edited[:, : SIZE // 2] = reconstruction[:, : SIZE // 2]
    before = PHOTOS["RGB"]
    result = paste.paste(before, QUAD, edited, reconstruction)
    y, x = np.nonzero((result.photo.samples != before.samples).any(-1))
    assert align.to_crop(np.stack([x, y], -1), QUAD, SIZE)[:, 0].min() > SIZE * 0.4


@pytest.mark.parametrize("name", [n for n in PHOTOS if n not in ("P", "1")])
def test_the_change_has_the_right_colour(name, edit):
    """In the middle of the face, where the mask is 1, the photo's colours move as the crop's did."""
    before = PHOTOS[name]
    after = paste.paste(before, QUAD, *edit).photo
    crops = [align.crop(p.rgb, QUAD, SIZE).astype(float) / 255 for p in (before, after)]
    middle = (slice(50, 78), slice(50, 78))
    change = (crops[1] - crops[0])[middle].mean((0, 1))
    wanted = (edit[0] - edit[1])[middle].mean((0, 1))
    if before.samples.shape[-1] < 3:
        wanted = np.repeat(wanted @ [0.299, 0.587, 0.114], 3)
    np.testing.assert_allclose(change, wanted, atol=0.012)


def test_palette_and_bitmap_move_towards_the_edit(edit):
    lighter = np.clip(edit[1] + (edit[0] - edit[1]).max(-1, keepdims=True) * 2, 0, 1)
    for name in ("P", "1"):
        before = PHOTOS[name]
        after = paste.paste(before, QUAD, lighter, edit[1]).photo
        middle = (slice(95, 135), slice(95, 135))
        assert after.rgb[middle].mean() > before.rgb[middle].mean() + 15


def _large(factor: int) -> tuple[photo.Photo, np.ndarray]:
    fine = np.stack([ndimage.zoom(scene()[..., c], factor, order=1) for c in range(3)], -1)
    fine += np.random.default_rng(5).normal(0, 0.05, fine.shape)  # grain finer than the crop can hold
    return photo.from_rgb(np.rint(np.clip(fine, 0, 1) * 255).astype(np.uint8)), QUAD * factor


def test_fine_detail_of_large_faces_survives():
    """A face 5 times the crop: the change arrives, and the grain stays the photo's own."""
    large, quad = _large(4)
    reconstruction = align.crop(large.rgb, quad, SIZE).astype(np.float32) / 255
    after = paste.paste(large, quad, reconstruction * 0.8, reconstruction).photo
    middle = (slice(400, 520), slice(400, 520))
    old, new = (p.rgb[middle].astype(float) for p in (large, after))
    assert new.mean() == pytest.approx(old.mean() * 0.8, rel=0.04)

    def grain(picture):
        return picture - ndimage.gaussian_filter(picture, (3, 3, 0))

    assert np.corrcoef(grain(old).ravel(), grain(new).ravel())[0, 1] > 0.9
    assert grain(new).std() > 0.9 * grain(old).std()


def test_what_the_reconstruction_does_not_know_moves_with_the_face():
    """A mole that only the photo has, on content that the edit moves: it moves too, and leaves no ghost."""
    size, step = 256, 9
    y, x = np.mgrid[:size, :size].astype(np.float32)
    face = np.stack([0.5 + 0.25 * np.sin(x / 9 + c) * np.cos(y / 11) for c in range(3)], -1).astype(np.float32)
    bump = np.exp(-((x - 128) ** 2 + (y - 128) ** 2) / (2 * 45**2)).astype(np.float32)
    edited = warp(face, np.stack([-step * bump, 0 * bump], -1))  # the middle moves to the right
    mole = np.exp(-((x - 120) ** 2 + (y - 128) ** 2) / (2 * 2.5**2))[..., None]
    picture = photo.from_rgb(np.rint(face * (1 - 0.8 * mole) * 255).astype(np.uint8))
    quad = np.array([[-0.5, -0.5], [-0.5, size - 0.5], [size - 0.5, size - 0.5], [size - 0.5, -0.5]])
    after = paste.paste(picture, quad, edited, face).photo.rgb.astype(float) / 255
    dark = np.clip((edited - after).mean(-1)[100:156, 90:170], 0, 1) ** 2
    where = (dark * x[100:156, 90:170]).sum() / dark.sum()
    assert where == pytest.approx(120 + step, abs=1.5)
    assert np.abs(after - edited)[126:131, 116:121].mean() < 0.06  # where the mole was


def test_flow_finds_a_known_motion():
    target = scene(128, 128).astype(np.float32)
    y, x = np.mgrid[:128, :128].astype(np.float32)
    true = np.stack([3 * np.sin(y / 30), 2 * np.cos(x / 25)], -1).astype(np.float32)
    smooth = ndimage.gaussian_filter(target, (1.5, 1.5, 0))
    found = flow(smooth, warp(smooth, true))
    error = np.hypot(*(found - true)[16:-16, 16:-16].transpose(2, 0, 1))
    assert np.median(error) < 0.35
    assert not flow(smooth, smooth).any()


def test_region_and_flags(edit):
    region = np.zeros((SIZE, SIZE), np.float32)
    assert paste.paste(PHOTOS["RGB"], QUAD, *edit, region=region).mask.max() == 0
    for flags in ({"match_colour": False}, {"detail": False}, {"feather": 0.5}):
        result = paste.paste(PHOTOS["RGB"], QUAD, *edit, **flags)
        assert count_outside(result, PHOTOS["RGB"]) == 0 and result.mask.max() > 200
    with pytest.raises(ValueError, match=r"\(S, S, 3\)"):
        paste.paste(PHOTOS["RGB"], QUAD, edit[0][:50], edit[1])


@pytest.mark.parametrize("offset", [(-100, -80), (150, 100), (-1000, 0)])
def test_faces_that_leave_the_photo(offset, edit):
    """Partly outside is pasted as far as it goes; wholly outside changes nothing."""
    result = paste.paste(PHOTOS["RGB"], QUAD + offset, *edit)
    assert count_outside(result, PHOTOS["RGB"]) == 0


def test_a_tiny_photo():
    tiny = photo.from_rgb((scene(64, 64) * 255).astype(np.uint8))
    quad = np.array([[10.0, 10], [10, 50], [50, 50], [50, 10]])
    reconstruction = align.crop(tiny.rgb, quad, SIZE)
    result = paste.paste(tiny, quad, reconstruction // 2, reconstruction)
    assert count_outside(result, tiny) == 0
    assert result.photo.rgb[25:35, 25:35].mean() == pytest.approx(tiny.rgb[25:35, 25:35].mean() / 2, rel=0.1)


@pytest.mark.parametrize("name", ["RGB", "CMYK profile"])
def test_bands_leave_no_trace(name, edit, monkeypatch):
    """Small bands give what one large band gives."""
    whole = paste.paste(PHOTOS[name], QUAD, *edit).photo.samples
    monkeypatch.setattr(paste, "_BAND", 1 << 12)
    banded = paste.paste(PHOTOS[name], QUAD, *edit).photo.samples
    assert np.abs(whole.astype(int) - banded).max() <= 1


@pytest.mark.weights
def test_real_photos_in_every_mode(real_photos):
    """0 changed samples outside the mask, on every real photo, as it is and in other modes and depths."""
    _needs("dlib-landmarks-68")
    for path in real_photos:
        loaded = photo.load(path)
        faces = detect.find_faces(loaded.rgb, "hog")
        quad = faces[0].quad if faces else np.array([[20.0, 20], [20, 220], [220, 220], [220, 20]])
        reconstruction = align.crop(loaded.rgb, quad, 256).astype(np.float32) / 255
        edited = np.clip(warp(reconstruction, _twirl(256)) * [1.1, 1.0, 0.9], 0, 1).astype(np.float32)
        variants = [loaded, photo.from_rgb(loaded.rgb)]
        variants.append(replace(variants[1], samples=loaded.rgb.astype(np.uint16) * 257, mode="RGB;16", white=65535.0))
        variants.append(replace(variants[1], samples=loaded.rgb[..., :1], mode="L"))
        for before in variants:
            result = paste.paste(before, quad, edited, reconstruction)
            assert count_outside(result, before) == 0, f"{path.name} as {before.mode}"
            assert (result.photo.samples != before.samples).any()


def _twirl(size: int) -> np.ndarray:
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    u, v = np.meshgrid(axis, axis)
    strength = 8 * np.exp(-(u**2 + v**2) / 0.15)
    return np.stack([strength * v, -strength * u], -1)


def _needs(name: str) -> None:
    from stylegan2.errors import WeightsMissing

    try:
        detect.weights(name)
    except WeightsMissing as missing:
        pytest.skip(str(missing))


def test_resize_keeps_size():
    maps = np.ones((8, 8, 2), np.float32)
    assert resize(maps, 8) is maps and resize(maps, 4).shape == (4, 4, 2)


def test_an_outline_says_what_a_paste_does_at_a_small_size():
    random = np.random.default_rng(0)
    picture = ndimage.gaussian_filter(random.random((96, 96, 3)), (2, 2, 0)).astype(np.float32)
    picture = (picture - picture.min()) / (picture.max() - picture.min())
    quad = np.array([(0, 0), (0, 96), (96, 96), (96, 0)], float)
    still = paste.outline(picture, picture, picture, quad)
    assert still.mask.max() == 0 and np.abs(still.flow).max() < 1e-3
    moved = np.roll(picture, 3, 1)
    known = paste.outline(picture, moved, picture, quad)
    middle = known.flow[15:33, 15:33]
    assert known.flow.shape == (48, 48, 2) and known.broad.shape == (48, 48, 3)
    assert middle[..., 0].mean() == pytest.approx(-1.5, abs=0.2) and abs(middle[..., 1].mean()) < 0.15
    assert known.mask[15:33, 15:33].min() > 0.9 and known.mask[:1].max() < 1e-3
    assert paste.outline(picture, moved, picture, quad, whole=True).mask[:, 24].min() >= 0
    region = np.zeros((96, 96), np.float32)
    region[:, :40] = 1
    assert paste.outline(picture, moved, picture, quad, region=region).mask[:, 24:].max() == 0
