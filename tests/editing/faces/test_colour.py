"""Colours cross to sRGB and back without losing what sRGB cannot say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from editing.faces import colour
from tests.editing.faces.samples import PHOTOS, wide_gamut_profile

SPACES = {name: p for name, p in PHOTOS.items() if name not in ("P", "1", "F")}
SPACES["RGB vivid"] = replace(PHOTOS["RGB"], icc=wide_gamut_profile())  # many colours outside sRGB


@pytest.mark.parametrize("name", SPACES)
def test_the_same_colour_is_the_same_sample(name):
    samples = SPACES[name].samples.reshape(-1, SPACES[name].samples.shape[-1])[:4000]
    space = SPACES[name].space
    np.testing.assert_array_equal(colour.recolour(samples, colour.to_srgb(samples, space), space), samples)


def test_srgb_profile_needs_no_conversion():
    tagged = replace(PHOTOS["RGB"], icc=colour.srgb_profile())
    assert tagged.rgb is tagged.samples
    assert SPACES["RGB vivid"].space.profile is not None


def test_profile_of_another_mode_is_ignored():
    assert replace(PHOTOS["L"], icc=wide_gamut_profile()).space.profile is None
