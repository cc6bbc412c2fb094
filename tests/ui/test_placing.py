"""What the views that paint and move parts begin from, on drawn maps."""

import numpy as np
import pytest

from editing import spatial
from editing.types import Recipe, latent_step
from stylegan2.errors import UsageError
from tests.editing.heads.test_repaint import drawn
from ui import placing

FACE = drawn(hair=(24, 10, 104, 80), skin=(36, 30, 92, 112), eyes=[(44, 56, 56, 62), (72, 56, 84, 62)],
             nose=(60, 60, 68, 76))  # fmt: skip
PAINT = spatial.paint_step(np.full((128, 128), 8, np.uint8))
BOXES = spatial.boxes_step({"nose": (0.5, 0.5, 0.0625, 0.125)})


def off(step):
    return step.model_copy(update={"parameters": {**step.parameters, "strength": 0}})


def test_a_view_replaces_its_own_last_step_only():
    assert placing.split([], "paint") == ([], None)
    assert placing.split([latent_step("smile", 1.0), PAINT], "paint") == ([], PAINT)
    assert placing.split([PAINT, BOXES], "paint") == ([PAINT, BOXES], None)
    assert placing.split([PAINT, BOXES], "boxes") == ([PAINT], BOXES)
    assert placing.split([PAINT, off(BOXES)], "paint") == ([], PAINT)
    both = spatial.moves_step({"eyes": (0.0, 0.1)})  # a part that the view does not show
    assert placing.split([both], "boxes") == ([both], None)


def test_parts_and_where_a_step_moves_them():
    found = placing.parts(FACE, BOXES)
    assert list(found) == ["hair", "left_eyes", "right_eyes", "nose"]
    assert found["nose"].box == (0.5, 0.5, 0.0625, 0.125) and found["nose"].home[0] == 60 / 128
    assert found["left_eyes"].box == found["left_eyes"].home
    moved = placing.parts(FACE, spatial.moves_step({"nose": (0.1, 0.0, 2.0)}))["nose"]
    assert moved.box[2] == pytest.approx(2 * moved.home[2]) and moved.box[0] > moved.home[0]
    speck = FACE.copy()
    speck[100, 100] = 11
    assert list(placing.parts(speck, None)) == list(found)


def test_moves_make_one_step_and_none_when_all_is_back():
    known = placing.parts(FACE, BOXES)
    step = placing.moved(known, {"left_eyes": [0.3, 0.4, 0.1, 0.05], "ears": [0, 0, 1, 1]}, 2)
    assert step.face == 2 and list(step.parameters["boxes"]) == ["left_eyes", "nose"]
    assert placing.moved(known, {"nose": None}, 0) is None
    assert placing.moved(known, {"nose": [v + 0.001 for v in known["nose"].home]}, 0) is None
    with pytest.raises(UsageError, match="does not lie"):
        placing.moved(known, {"nose": [9, 9, 1, 1]}, 0)


def test_steps_of_other_faces_and_other_kinds_stay_where_they_are():
    smile, other = latent_step("smile", 1.0), BOXES.model_copy(update={"face": 1})
    recipe = Recipe(steps=(BOXES, smile, other))
    new = spatial.boxes_step({"nose": (0.4, 0.4, 0.1, 0.1)})
    assert placing.replaced(recipe, BOXES, new).steps == (new, smile, other)
    assert placing.replaced(recipe, BOXES, None).steps == (smile, other)
    assert placing.replaced(recipe, None, PAINT).steps == (*recipe.steps, PAINT)
    assert placing.replaced(recipe, None, None) == recipe


def test_what_a_step_paints():
    assert (placing.painted(None) == spatial.NOTHING).all() and (placing.painted(PAINT) == 8).all()
