"""Layouts that LostGANs learn from: own tables, COCO, maps; batches, and what is no layout."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from editing.judges.parsing import CLASSES
from editing.translation import layouts
from editing.translation.systems import SYSTEMS
from stylegan2.errors import UsageError


def toys(folder, count=12, size=64):
    """A red and a blue square on gray, now the one on the left, now the other."""
    folder.mkdir(parents=True)
    rng, pictures = np.random.default_rng(0), {}
    for index in range(count):
        pixels, entries, swapped = np.full((size, size, 3), 128, np.uint8), [], rng.random() < 0.5
        for name, colour in (("red", (220, 40, 40)), ("blue", (40, 40, 220))):
            x = rng.uniform(0, 0.1) + (0 if (name == "red") != swapped else 0.5)
            y = rng.uniform(0, 0.6)
            left, top, right, bottom = (int(v * size) for v in (x, y, x + 0.4, y + 0.4))
            pixels[top:bottom, left:right] = colour
            entries.append({"class": name, "box": [x, y, 0.4, 0.4]})
        Image.fromarray(pixels).save(folder / f"{index}.png")
        pictures[f"{index}.png"] = entries
    (folder / "layouts.json").write_text(json.dumps({"classes": ["red", "blue"], "pictures": pictures}))
    return layouts.opened(folder, folder / "layouts.json")


def test_own_layouts_are_batches_with_their_boxes_where_the_objects_are(tmp_path):
    source = toys(tmp_path / "toys")
    assert len(source) == len(source.a) == len(source.b) == 12 and list(source.names) == ["red", "blue"]
    batch = source.batch(3, 8, 64, 1)
    assert batch["b"].shape == (8, 3, 64, 64) and batch["boxes"].shape == (8, 2, 4)
    assert all(torch.equal(tensor, source.batch(3, 8, 64, 1)[name]) for name, tensor in batch.items())
    mirrored = 0
    for picture, labels, boxes in zip(batch["b"], batch["labels"], batch["boxes"], strict=True):
        mirrored += not any(tuple(boxes[0].tolist()) == pytest.approx(objects[0][1]) for objects in source.a)
        for label, (x, y, width, height) in zip(labels.tolist(), boxes, strict=True):
            colour = picture[:, int((y + height / 2) * 64), int((x + width / 2) * 64)]
            assert colour[0 if label == 1 else 2] > 0.6 and colour[2 if label == 1 else 0] < -0.6
    assert 0 < mirrored < 8


def test_layouts_are_padded_and_painted():
    labels, boxes = layouts.padded([[(3, (0, 0, 0.5, 0.5))], [(1, (0, 0, 1, 1)), (2, (0.5, 0.5, 0.5, 0.5))], []])
    assert labels.tolist() == [[3, 0], [1, 2], [0, 0]] and boxes[0, 1].tolist() == pytest.approx(layouts.PADDING)
    drawn = layouts.painted(labels, boxes, 8)
    assert drawn[2].max() == -1 and drawn[0, :, 5, 5].max() == -1 and drawn[0, :, 1, 1].max() > 0
    assert not torch.equal(drawn[1, :, 1, 1], drawn[1, :, 6, 6])


def coco(folder, annotations):
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        Image.new("RGB", (200, 100)).save(folder / name)
    content = {
        "images": [{"id": 10 + i, "file_name": f"{n}.jpg", "width": 200, "height": 100} for i, n in enumerate("abc")],
        "categories": [{"id": 90, "name": "sky"}, {"id": 3, "name": "dog"}],
        "annotations": [{"image_id": i, "category_id": c, "bbox": box} for i, c, box in annotations],
    }
    (folder / "instances.json").write_text(json.dumps(content))
    return layouts.opened(folder, folder / "instances.json")


def test_cocos_pixels_become_fractions_and_its_filters_are_the_published_ones(tmp_path):
    large, small = [20, 10, 100, 50], [0, 0, 19, 20]  # 1.9 % of the picture
    rows = [(10, 90, large), (10, 3, [0, 0, 20, 20]), (10, 3, [150, 0, 60, 100]), (10, 3, small)]
    rows += [(11, 3, large)] * 2 + [(12, 3, large)] * 9  # too few, too many
    source = coco(tmp_path, rows)
    assert source.names == ["dog", "sky"] and [path.name for path in source.b.paths] == ["a.jpg"]
    assert [label for label, _ in source.a[0]] == [2, 1, 1]
    assert source.a[0][0][1] == pytest.approx((0.1, 0.1, 0.5, 0.5))
    assert source.a[0][2][1] == pytest.approx((0.75, 0, 0.25, 1))  # cut off at the edge
    with pytest.raises(UsageError, match="no picture with objects"):
        coco(tmp_path, rows[4:])


def shards(folder, maps, kind="parsed"):
    """As the factory writes them."""
    folder.mkdir(parents=True)
    (folder / "facts.json").write_text(json.dumps({"kind": kind}))
    np.save(folder / "0.a.npy", np.stack(maps))
    np.save(folder / "0.b.npy", np.zeros((len(maps), *maps[0].shape, 3), np.uint8))
    (folder / "0.seeds").write_text(f"{len(maps)}\n")
    return folder


def test_objects_of_parsed_faces_are_the_connected_parts(tmp_path):
    face = np.zeros((100, 100), np.uint8)
    face[20:90, 10:70] = CLASSES.index("skin")
    face[30:35, 20:30] = face[30:35, 45:55] = CLASSES.index("eyes")
    face[0, 0] = CLASSES.index("hair")  # a speck
    face[90, 90] = 255
    face[60:62, 20:24] = face[62:64, 24:28] = CLASSES.index("mouth")  # touch at a corner
    source = layouts.opened(shards(tmp_path / "faces", [face]))
    assert source.names == CLASSES[1:]
    assert [CLASSES[label] for label, _ in source.a[0]] == ["skin", "eyes", "eyes", "mouth"]
    boxes = [box for _, box in source.a[0]]
    assert boxes[0] == pytest.approx((0.1, 0.2, 0.6, 0.7)) and boxes[3] == pytest.approx((0.2, 0.6, 0.08, 0.04))
    assert {boxes[1][0], boxes[2][0]} == {0.2, 0.45}
    assert source.batch(0, 1, 64, 0)["labels"].shape == (1, 4)
    many = np.zeros((100, 100), np.uint8)
    many[::8, :] = many[:, ::8] = CLASSES.index("neck")
    many = np.where(many, CLASSES.index("neck"), CLASSES.index("hair")).astype(np.uint8)
    assert len(layouts.parts(many, len(CLASSES))) == layouts.MOST
    with pytest.raises(UsageError, match="edited pairs, not parsed"):
        layouts.opened(shards(tmp_path / "pairs", [face], "edited"))
    with pytest.raises(UsageError, match="leave --labels out"):
        layouts.opened(tmp_path / "faces", tmp_path / "layouts.json")


def one(box=(0, 0, 1, 1), named="sky", classes=("sky",), picture="a.jpg"):
    return {"classes": list(classes), "pictures": {picture: [{"class": named, "box": list(box)}]}}


def table_of_coco(**changes):
    """COCO's table of one picture with three objects."""
    picture = {"id": 1, "file_name": "a.jpg", "width": 20, "height": 20} | changes
    annotations = [{"image_id": 1, "category_id": 3, "bbox": [0, 0, 10.0, 10]}] * 3
    return {"annotations": annotations, "categories": [{"id": 3, "name": "sky"}], "images": [picture]}


def test_boxes_that_stand_out_by_rounding_are_cut_off():
    assert layouts.checked([0.25, 0.5, 0.5, 0.1]) == (0.25, 0.5, 0.5, 0.1)
    assert layouts.checked([-0.0005, 0, 0.5, 1.0005]) == pytest.approx((0, 0, 0.4995, 1), abs=1e-9)
    assert layouts.checked([0.2, 0.2, 0.011, 0.011]) == (0.2, 0.2, 0.011, 0.011)


@pytest.mark.parametrize(
    "content,words",
    [
        (None, "cannot be read"),
        ("{", "no layout: that is a JSON object"),
        ("[" * 100_000, "no layout"),
        ([], "no layout"),
        ({}, '"classes", a list of names'),
        ({"classes": ["sky"]}, '"pictures"'),
        (one(classes=("sky", "sky")), "named twice"),
        (one(named="skye"), "a.jpg: There are no classes called 'skye': did you mean sky"),
        (one(named=2), "no class 2: they are numbered from 1 to 1"),
        (one(named=True), "no class True"),
        (one((0.5, 0, 0.6, 1)), "not inside the picture"),
        (one((0.5, 0, 0, 1)), "no area"),
        (one((0, 0, 1)), "four numbers"),
        (one((0, 0, 1, "x")), "four numbers"),
        (one((0, 0, 1, math.nan)), "four numbers"),
        (one(picture="none.jpg"), "'none.jpg', which is not in"),
        ({"classes": ["sky"], "pictures": {"a.jpg": [{}]}}, "every object is"),
        ({"classes": ["sky"], "pictures": {"a.jpg": {}}}, "boxes are a list"),
        ({"classes": ["sky"], "pictures": {"a.jpg": one()["pictures"]["a.jpg"] * 32}}, "32 objects; at most 31"),
        ({"classes": ["sky"], "pictures": {"a.jpg": []}}, "no picture with objects"),
        ({"annotations": []}, "no table of layouts: KeyError 'categories'"),
        ({"annotations": [{}], "categories": [], "images": []}, "KeyError 'image_id'"),
        ({"annotations": [], "categories": 5, "images": []}, "TypeError"),
        (one((0, 0, 10**400, 1)), "four numbers"),
        (one((0.2, 0.2, 0.009, 0.009)), "less than 0.01% of the picture"),
        (one((1.0004, 0, 0.0005, 1)), "less than 0.01% of the picture"),
        ({"annotations": [], "categories": [{"id": math.inf, "name": "sky"}], "images": []}, "OverflowError"),
        (table_of_coco(width=10**400), "OverflowError"),
        (table_of_coco(file_name=5), "file_name is '5', which is no name"),
    ],
)
def test_a_table_that_does_not_fit_is_one_sentence(tmp_path, content, words):
    Image.new("RGB", (20, 20)).save(tmp_path / "a.jpg")
    table = tmp_path / "layouts.json"
    if content is not None:
        table.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(UsageError, match=words) as caught:
        layouts.opened(tmp_path, table)
    assert "\n" not in str(caught.value)


def test_folders_without_a_table_and_with_a_second_one_are_refused(tmp_path):
    Image.new("RGB", (20, 20)).save(tmp_path / "a.jpg")
    with pytest.raises(UsageError, match="--labels layouts.json"):
        SYSTEMS["lostgans"].source(tmp_path)
    with pytest.raises(UsageError, match="leave --b out"):
        SYSTEMS["lostgans"].source(tmp_path, tmp_path)
