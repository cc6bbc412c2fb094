"""Presets stay within what was measured."""

import pytest

from editing.directions import catalogue
from ui.presets import PRESETS


@pytest.mark.parametrize("name", PRESETS)
def test_every_strength_is_within_its_safe_range(name):
    edits = catalogue.load()
    for edit, strength in PRESETS[name].items():
        low, high = edits[edit].safe_range
        assert low <= strength <= high and strength, (edit, strength)
