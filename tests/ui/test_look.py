"""Quick pictures against the real ones."""

import numpy as np
import pytest

from bench.look import psnr
from editing import session
from editing.faces import align
from editing.types import Recipe, latent_step
from stylegan2.engine import area_resize


@pytest.mark.parametrize("edit", [("smile", 1.5), ("golden_hair", 3.0)])
def test_a_quick_picture_is_close_to_what_is_saved(studio, inverted, edit):
    inverted(studio)
    studio.set(dict([edit]))
    quick = studio.preview()
    crop = align.crop(studio.refine().edit.photo.rgb, studio.inversion.quad, 1024)
    real = session.to_rgb(area_resize(session.to_tensor(crop), 512))
    unedited = studio.preview(Recipe())
    assert psnr(quick, real) > 28 and psnr(quick, real) > psnr(unedited, real) + 3


def test_nothing_is_loaded_or_changed_by_looking(studio, inverted):
    inverted(studio)
    first = studio.preview(Recipe(steps=(latent_step("smile", 2.0),)))
    studio.preview(Recipe(steps=(latent_step("age", 2.0),)))
    assert np.array_equal(first, studio.preview(Recipe(steps=(latent_step("smile", 2.0),))))


def test_an_edit_of_a_region_stays_there(studio, inverted):
    inverted(studio)
    studio.set({"blond": 3.0}, "hair")
    changed = np.abs(studio.preview().astype(int) - studio.preview(Recipe()))
    parsed = studio.current.looks[0].parsed[0]
    from editing.judges.parsing import CLASSES

    skin = np.kron(parsed[..., CLASSES.index("nose")] > 0.9, np.ones((2, 2), bool))
    hair = np.kron(parsed[..., CLASSES.index("hair")] > 0.95, np.ones((2, 2), bool))
    assert changed[hair].mean() > 5 and changed[skin].mean() < 1
