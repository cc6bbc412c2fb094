"""Fixtures of the face tests: the synthetic photos, a synthetic edit, and real photos where there are some."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from editing.faces import align
from editing.faces.photo import Photo
from tests.editing.faces.samples import PHOTOS, QUAD, SIZE


@pytest.fixture(params=PHOTOS)
def any_photo(request) -> Photo:
    return PHOTOS[request.param]


@pytest.fixture
def edit():
    """(edited, reconstruction) float32 (S, S, 3): a patch in the middle gets warmer and brighter."""
    reconstruction = align.crop(PHOTOS["RGB"].rgb, QUAD, SIZE).astype(np.float32) / 255
    axis = np.linspace(-1, 1, SIZE)
    bump = np.exp(-(axis[None] ** 2 + axis[:, None] ** 2) / 0.1)[..., None].astype(np.float32)
    return np.clip(reconstruction + bump * np.array([0.2, 0.1, -0.1], np.float32), 0, 1), reconstruction


@pytest.fixture(scope="session")
def real_photos() -> list[Path]:
    """Real photos, from $WPLUS_PHOTOS or shared/photos beside the checkout; skips where there are none."""
    folder = Path(os.environ.get("WPLUS_PHOTOS") or Path(__file__).resolve().parents[4] / "shared" / "photos")
    found = sorted(path for path in (folder / "wild").glob("*") if path.is_file())
    if not found:
        pytest.skip(f"no photos in {folder / 'wild'} (set WPLUS_PHOTOS to a folder that has a folder 'wild')")
    return found
