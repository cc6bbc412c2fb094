"""What tests of batches by several processes have in common: photos to do, traps among them, what became of them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from editing.batching import desk
from editing.batching.work import Order, Work
from editing.faces import photo as photos
from editing.types import Recipe
from tests.editing import fakes, toybatch
from tests.editing.test_batch import files

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks and /proc")


def pictures(folder: Path) -> dict[str, bytes]:
    return {name: content for name, (content, _) in files(folder).items() if name != desk.REPORT}


def trap(monkeypatch, tmp_path, photo: Path, times: int) -> None:
    """Have a photo kill its worker that often."""
    from editing import session

    folder = tmp_path / "deadly"
    folder.mkdir()
    crop = session.find(photos.load(photo), fakes.RESOLUTION, aligned=True).crop
    (folder / toybatch.red(crop)).write_text("x" * times)
    monkeypatch.setenv("TOY_DEADLY", str(folder))


class threads:
    """That many CPU threads for PyTorch, inside."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __enter__(self):
        import torch

        self.before = torch.get_num_threads()
        torch.set_num_threads(self.count)

    def __exit__(self, *_):
        import torch

        torch.set_num_threads(self.before)


def works(album: Path):
    recipe = Recipe.from_strengths({"smile": 1})
    options = {"method": "tune", "seed": 0, "aligned": True}
    for path in sorted(album.iterdir()):
        yield Work(path.name, path.read_bytes(), "", (Order(0, recipe, ".png"),), options)


def through(crew_of, photos_to_do):
    from editing.batching import crew

    try:
        for work, answer in crew.together(photos_to_do, crew_of):
            yield work.name, answer
    finally:
        crew_of.close()
