"""LostGANs' head: masks in their boxes, shapes that are kept or drawn by seed, and layouts that are none."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from editing.heads import layouts, repaint
from editing.heads.layouts import OBJECTS
from editing.judges.parsing.labels import CLASSES
from stylegan2.errors import CheckpointError, UsageError
from tests.editing.heads.test_repaint import drawn

LAYOUT = {"hair": (0.2, 0.1, 0.6, 0.5), "face": (0.27, 0.22, 0.46, 0.68), "left_eyes": (0.35, 0.45, 0.1, 0.04),
          "right_eyes": (0.56, 0.45, 0.1, 0.04), "mouth": (0.42, 0.7, 0.17, 0.07), "nose": (0.46, 0.5, 0.1, 0.15),
          "neck": (0.35, 0.8, 0.3, 0.2), "clothes": (0.1, 0.88, 0.8, 0.12)}  # fmt: skip


@pytest.fixture
def face():
    return drawn(
        hair=(24, 10, 104, 80), skin=(36, 30, 92, 112), eyes=[(44, 56, 56, 62), (72, 56, 84, 62)],
        upper_lip=(54, 90, 74, 94), mouth=(56, 94, 72, 96), lower_lip=(54, 96, 74, 102),
    )  # fmt: skip


def test_masks_cut_from_a_map_and_laid_into_their_boxes_are_the_map(face):
    boxes, there = layouts.tensors_of([layouts.boxes_of(face)])
    assert {name for name, t in zip(OBJECTS, there[0], strict=True) if t} == {
        "hair", "face", "left_eyes", "right_eyes", "mouth"}  # fmt: skip
    masks = layouts.cut(torch.from_numpy(face[None].astype(np.int64)), boxes, there)
    again = layouts.laid(40 * masks - 20, boxes, there).argmax(1)[0].numpy()
    assert (again == face).mean() > 0.99
    moved = boxes.clone()
    moved[0, OBJECTS.index("mouth"), :2] += torch.tensor([0.1, 0.05])
    found = repaint.box_of(repaint.of(layouts.laid(40 * masks - 20, moved, there).argmax(1)[0].numpy(), "mouth"))
    assert np.allclose(found, np.add(repaint.box_of(repaint.of(face, "mouth")), (0.1, 0.05, 0, 0)), atol=0.02)


def test_nothing_is_drawn_outside_of_boxes_or_of_objects_that_are_not_there():
    boxes, there = layouts.tensors_of([{"mouth": (0.25, 0.25, 0.5, 0.5)}])
    masks = torch.full((1, len(OBJECTS), layouts.SHADES, layouts.GRID, layouts.GRID), 9.0)
    logits = layouts.laid(masks, boxes, there, 64)
    lips = logits[0, CLASSES.index("upper_lip")]
    assert (lips[16:48, 16:48] == 9).all() and lips.max() == 9
    lips[16:48, 16:48] = -20
    assert (lips == -20).all() and (logits[0, CLASSES.index("hair")] < -19).all()


def test_a_layout_becomes_a_map_whose_parts_fill_their_boxes():
    head = layouts.shipped()
    labels = head.map_of(LAYOUT, seed=3)
    for name, box in LAYOUT.items():
        if name in ("neck", "clothes"):
            continue
        found = repaint.box_of(repaint.of(labels, name))
        assert found is not None and np.abs(np.subtract(found, box)).max() < 0.09, (name, found, box)
    assert np.array_equal(labels, head.map_of(LAYOUT, seed=3))
    assert not np.array_equal(labels, head.map_of(LAYOUT, seed=4))
    assert repaint.of(head.map_of({"mouth": LAYOUT["mouth"]}), "face").mean() > 0.1  # what a face cannot lack


def test_the_shapes_of_another_map_are_kept(face):
    head, layout = layouts.shipped(), layouts.boxes_of(face)
    like, mean = head.map_of(layout, like=face), head.map_of(layout)
    assert (like == face).mean() >= (mean == face).mean() - 0.01
    assert not np.array_equal(like, mean)


@pytest.mark.parametrize("layout,words", [
    ({}, "names objects"), (["hair"], "names objects"), ({"moth": (0, 0, 1, 1)}, "mouth"),
    ({"hair": (0, 0, 1)}, "four numbers"), ({"hair": (3, 0, 1, 1)}, "does not lie in the picture"),
    ({"hair": "abcd"}, "four numbers"),
])  # fmt: skip
def test_layouts_that_are_none(layout, words):
    with pytest.raises(UsageError, match=words):
        layouts.shipped().map_of(layout)


def test_files_that_are_no_head(tmp_path):
    tensors = load_file(layouts.FILE)
    facts = {"format": layouts.FORMAT, "objects": list(OBJECTS)}
    path = tmp_path / "x.safetensors"
    for change in ("usual", "regressor.label", "shape.out.bias"):
        save_file({n: t for n, t in tensors.items() if n != change}, path, metadata={"heads": json.dumps(facts)})
        with pytest.raises(CheckpointError):
            layouts.load(path)
    for wrong in ({}, {"format": layouts.FORMAT, "objects": ["hair"]}):
        save_file(tensors, path, metadata={"heads": json.dumps(wrong)})
        with pytest.raises(UsageError):
            layouts.load(path)
    layouts.save(layouts.shipped(), path)
    again = layouts.load(path)
    assert np.array_equal(again.map_of(LAYOUT, seed=1), layouts.shipped().map_of(LAYOUT, seed=1))
