"""LostGANs: the published layout and figures, parts against plain loops, layouts from files, training, drawing."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from editing.judges.parsing import CLASSES
from editing.translation import checkpoints, composing, fit, layouts
from editing.translation.networks import LostGANDiscriminator, LostGANGenerator
from editing.translation.networks.lostgans import ISLANorm, inside, placed, refined, widths
from editing.translation.networks.lostgans_critic import roi_align
from editing.translation.systems import SYSTEMS, Settings
from editing.translation.systems.lostgans import fooled, hinge
from stylegan2.errors import CheckpointError, UsageError


def seeded(make):
    """Statistics of norms that are not 0 and 1; spectral norms that know their weights."""
    torch.manual_seed(0)
    network = make()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
        elif hasattr(module, "weight_orig"):
            weight = module.weight_orig.detach().flatten(1)
            for _ in range(10):
                module.weight_v.copy_(torch.nn.functional.normalize(weight.T @ module.weight_u, dim=0))
                module.weight_u.copy_(torch.nn.functional.normalize(weight @ module.weight_v, dim=0))
    return network.eval()


def published(path, network):
    torch.save({f"module.{name}": tensor for name, tensor in network.state_dict().items()}, path)
    return path


SMALL = {
    "v2, 128": lambda: LostGANGenerator(7, widths(128, 4)),
    "v2, 256": lambda: LostGANGenerator(7, widths(256, 4)),
    "v1, 64": lambda: LostGANGenerator(7, widths(64, 4), refine=False, embedding=128),
    "v1, 128": lambda: LostGANGenerator(7, widths(128, 4), refine=False),
    "more mask classes, other noise": lambda: LostGANGenerator(7, widths(128, 4), True, 9, 20, 30),
}
BOXES = torch.tensor([[0.05, 0.1, 0.4, 0.5], [0.3, 0.2, 0.6, 0.7], [0.0, 0.0, 1.0, 1.0], [0.6, 0.6, 0.25, 0.3]])
LABELS = torch.tensor([1, 5, 2, 6])


def inputs(network, count=2):
    z = torch.randn(count, 4, network.z_dim)
    return z, BOXES.expand(count, -1, -1), torch.randn(count, network.z_dim), LABELS.expand(count, -1)


# ---- published files


def test_a_published_file_gives_the_recorded_figures(golden, tmp_path):
    figures = golden("lostgans_g128")
    path, given = tmp_path / "G_coco.pth", figures.inputs
    state = {f"module.{name}": tensor for name, tensor in figures.state().items()}
    torch.save(state, path, _use_new_zipfile_serialization=False)
    network = checkpoints.load_generator(path)
    assert type(network) is LostGANGenerator and (network.classes, network.size, network.refine) == (184, 128, True)
    boxes = given["bbox"].clone()
    for corners, suffix in ((True, "_align_corners"), (False, "")):
        assert network.mask_regress.align_corners is True or not corners  # how the published networks were trained
        network.mask_regress.align_corners = corners
        with torch.no_grad():
            masks = network.mask_regress(network.latents(given["z"], given["y"]), boxes, network.map)
            figures.check(f"bmask{suffix}", masks)
            figures.check(f"output{suffix}", network(given["z"], boxes, given["z_im"], given["y"]))
    assert torch.equal(boxes, given["bbox"])


@pytest.mark.parametrize(
    "make,entries,parameters",
    [
        (lambda: LostGANGenerator(184, widths(128), refine=False), 219, 36_296_036),
        (lambda: LostGANGenerator(), 267, 40_471_888),
        (lambda: LostGANGenerator(184, widths(256)), 288, 46_154_960),
        (lambda: LostGANDiscriminator(184, 64), 83, 23_308_994),
        (lambda: LostGANDiscriminator(184, 128), 115, 57_881_538),
        (lambda: LostGANDiscriminator(184, 256), 123, 66_665_154),
    ],
)
def test_networks_have_the_published_sizes(make, entries, parameters):
    with torch.device("meta"):
        network = make()
    assert (len(network.state_dict()), sum(p.numel() for p in network.parameters())) == (entries, parameters)


@pytest.mark.parametrize("name", SMALL)
def test_what_is_written_is_read_back_as_the_same_generator(tmp_path, name):
    network = seeded(SMALL[name])
    checkpoints.save(network, tmp_path / "own.safetensors")
    given = inputs(network)
    with torch.no_grad():
        expected = network(*given)
        assert expected.shape == (2, 3, network.size, network.size) and expected.abs().max() <= 1
        for file in (published(tmp_path / "G.pth", network), tmp_path / "own.safetensors"):
            again = checkpoints.load_generator(file)
            assert (again.refine, again.classes, again.z_dim) == (network.refine, 7, network.z_dim)
            torch.testing.assert_close(again(*given), expected)


@pytest.mark.parametrize("size", [64, 128, 256])
def test_discriminators_are_read_back_and_draw_nothing(tmp_path, size):
    network = seeded(lambda: LostGANDiscriminator(7, size, 4))
    path, x = published(tmp_path / "D.pth", network), torch.randn(2, 3, size, size)
    given = (x, BOXES.expand(2, -1, -1), LABELS.expand(2, -1))
    with torch.no_grad():
        for found, expected in zip(checkpoints.load(path)(*given), network(*given), strict=True):
            torch.testing.assert_close(found, expected)
    with pytest.raises(CheckpointError, match="LostGANDiscriminator, which draws nothing"):
        checkpoints.load_generator(path)


def without(name):
    return lambda state: state.pop(name)


def put(name, tensor):
    return lambda state: state.update({name: tensor})


@pytest.mark.parametrize(
    "change,words",
    [
        (without("alpha2"), "lacks the tensor 'alpha2'"),
        (without("alpha1"), "too many"),  # v1 by its first sign, with v2's masks
        (without("res2.b1.bias_proj.weight_v"), "lacks the tensor"),
        (without("label_embedding.weight"), "lacks the tensor 'label_embedding.weight'"),
        (put("extra.weight", torch.zeros(1)), "'extra.weight' too many"),
        (put("res3.conv1.weight_orig", torch.zeros(17, 32, 3, 3)), "shape"),
        (put("alpha1", torch.zeros(1, 3, 1)), "masks of 3 classes for objects of 7"),
        (put("label_embedding.weight", torch.zeros(1).expand(1 << 40, 180)), "no network of this kind"),
        (put("fc.weight_orig", torch.zeros(4)), "2 axes are needed"),
        (put("final.2.weight_orig", torch.full((3, 4, 3, 3), math.nan)), "final.2.weight_orig"),
        (lambda state: [state.update({f"res{i}.conv1.weight_orig": torch.zeros(1)}) for i in range(9)], "levels"),
    ],
)
def test_a_file_that_does_not_fit_is_one_sentence_and_never_half_loaded(tmp_path, change, words):
    state, path = dict(seeded(SMALL["v2, 128"]).state_dict()), tmp_path / "G.pth"
    change(state)
    torch.save({f"module.{name}": tensor for name, tensor in state.items()}, path)
    with pytest.raises(CheckpointError, match=words) as caught:
        checkpoints.load(path)
    assert str(caught.value).count(str(path)) == 1 and "\n" not in str(caught.value)


# ---- parts against plain loops


def test_masks_are_put_into_their_boxes():
    masks = placed(torch.ones(3, 16, 16), torch.tensor([[0.25, 0.5, 0.5, 0.25], [0, 0, 1, 1], layouts.PADDING]), 65)
    rows, columns = torch.nonzero(masks[0] > 0.99).T  # outside it fades over one of its own pixels
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (32, 48, 16, 48)
    assert masks[0, 32:49, 16:49].min() == 1 and masks[1].min() == 1 and masks[2].max() == 0
    half = torch.zeros(1, 16, 16)
    half[:, :, 8:] = 1  # the right half of the object
    right = placed(half, torch.tensor([[0.25, 0.5, 0.5, 0.25]]), 65)[0]
    assert right[40, 16:31].max() == 0 and right[40, 34:49].min() > 0.9
    within = inside(torch.tensor([[[0.25, 0.5, 0.5, 0.25], layouts.PADDING]]), 65)[0]
    assert torch.equal(within[0], (masks[0] > 0.99).float()) and within[1].max() == 0


def test_isla_norm_is_its_formula():
    norm = seeded(lambda: ISLANorm(5, 6))
    x, latents, masks = torch.randn(1, 5, 4, 4), torch.randn(1, 3, 6), torch.rand(1, 3, 4, 4)
    masks[:, :, 0, 0] = 0  # where no object is, nothing is changed but the norm
    with torch.no_grad():
        found = norm(x, latents, masks)
        plain = (x - norm.batch_norm2d.running_mean.view(-1, 1, 1)) / (
            norm.batch_norm2d.running_var.view(-1, 1, 1) + 1e-5
        ).sqrt()
        gamma, beta = norm.weight_proj(latents[0]), norm.bias_proj(latents[0])
    for i in range(4):
        for j in range(4):
            m = masks[0, :, i, j]
            scale = sum(m[o] * gamma[o] for o in range(3)) / (m.sum() + 1e-6) + 1
            shift = sum(m[o] * beta[o] for o in range(3)) / (m.sum() + 1e-6)
            torch.testing.assert_close(found[0, :, i, j], plain[0, :, i, j] * scale + shift, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found[0, :, 0, 0], plain[0, :, 0, 0])


def test_masks_are_refined_by_what_features_show_of_the_objects_class():
    masks, within = torch.full((1, 2, 4, 4), 0.25), torch.ones(1, 2, 4, 4)
    within[0, 0, :, :2] = 0  # outside of the first box
    logits, alpha = torch.zeros(1, 3, 4, 4), torch.tensor([0.0, math.log(3), -100.0]).view(1, 3, 1)
    logits[0, 1] = math.log(9)
    found = refined(masks, within, logits, torch.tensor([[1, 2]]), alpha)
    assert found[0, 0, 0, 3].item() == pytest.approx(0.25 * 0.25 + 0.75 * 0.9)
    assert found[0, 0, 0, 0].item() == pytest.approx(0.25 * 0.25)
    assert torch.allclose(found[0, 1], masks[0, 1])  # a class that takes no share


def test_padding_objects_change_nothing():
    network = seeded(SMALL["v2, 128"])
    z, boxes, z_image, labels = inputs(network, 1)
    more = torch.cat([boxes, torch.tensor(layouts.PADDING).expand(1, 3, 4)], 1)
    with torch.no_grad():
        found = network(
            torch.cat([z, torch.randn(1, 3, 128)], 1), more, z_image, torch.cat([labels, labels[:, :3] * 0], 1)
        )
        torch.testing.assert_close(found, network(z, boxes, z_image, labels), atol=1e-5, rtol=1e-4)  # fmt: skip


def naive_roi_align(x, box, scale, cells):
    """One box, one point after the other, as torchvision documents it for aligned=False, sampling_ratio=-1."""
    channels, height, width = x.shape
    left, top, right, bottom = (float(v) * scale for v in box)
    sides = max(right - left, 1.0), max(bottom - top, 1.0)
    points = [math.ceil(side / cells) for side in sides]
    found = torch.zeros(channels, cells, cells)
    for i in range(cells):
        for j in range(cells):
            for k in range(points[1]):
                for m in range(points[0]):
                    y = top + i * sides[1] / cells + (k + 0.5) * sides[1] / cells / points[1]
                    u = left + j * sides[0] / cells + (m + 0.5) * sides[0] / cells / points[0]
                    if not (-1 <= y <= height and -1 <= u <= width):
                        continue
                    y, u = min(max(y, 0.0), height - 1), min(max(u, 0.0), width - 1)
                    y0, x0 = int(y), int(u)
                    y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
                    fy, fx = y - y0, u - x0
                    upper = (1 - fx) * x[:, y0, x0] + fx * x[:, y0, x1]
                    lower = (1 - fx) * x[:, y1, x0] + fx * x[:, y1, x1]
                    found[:, i, j] += (1 - fy) * upper + fy * lower
    return found / (points[0] * points[1])


def test_roi_align_is_the_plain_loop():
    x = torch.randn(2, 3, 20, 24, dtype=torch.float64)
    boxes = torch.tensor(
        [[3.0, 5.0, 41.0, 33.0], [0, 0, 96, 80], [60, 70, 96, 80], [10.3, 7.9, 11.0, 8.1], [-9, -20, 120, 95],
         [-70, -70, -40, -40]]
    ).double().repeat(2, 1, 1)  # fmt: skip
    found = roi_align(x, boxes, 0.25, 4)
    assert found.shape == (2, 6, 3, 4, 4) and found[:, 5].abs().max() == 0
    for picture in range(2):
        for box in range(6):
            expected = naive_roi_align(x[picture].float(), boxes[picture, box], 0.25, 4)
            torch.testing.assert_close(found[picture, box].float(), expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("size", [64, 128, 256])
def test_objects_are_scored_large_ones_first_whatever_else_is_there(size):
    network = seeded(lambda: LostGANDiscriminator(7, size, 4))
    x = torch.randn(2, 3, size, size)
    boxes = torch.tensor([[[0.1, 0.1, 0.3, 0.4], [0.2, 0.2, 0.7, 0.3], [-0.6, -0.6, 0.5, 0.5]],
                          [[0.0, 0.0, 0.5, 0.5], [0.3, 0.3, 0.2, 0.1], [0.1, 0.3, 0.4, 0.2]]])  # fmt: skip
    labels = torch.tensor([[1, 2, 0], [3, 4, 5]])
    order = [(0, 1), (1, 0), (0, 0), (1, 1), (1, 2)]  # half the picture is large already
    before = boxes.clone()
    with torch.no_grad():
        pictures, objects = network(x, boxes, labels)
        assert pictures.shape == (2, 1) and objects.shape == (5, 1) and torch.equal(boxes, before)
        for place, (b, o) in enumerate(order):
            alone = network(x[b : b + 1], boxes[b : b + 1, o : o + 1], labels[b : b + 1, o : o + 1])
            torch.testing.assert_close(alone[1][0], objects[place], atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(alone[0][0], pictures[b], atol=1e-4, rtol=1e-4)
        others = network(x, boxes, (labels + 1) % 7 * (labels > 0))[1]
        assert not torch.allclose(others, objects)  # a score is that of its class
        assert network(x, boxes, labels * 0)[1].shape == (0, 1)


# ---- layouts


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


# ---- training


@pytest.fixture
def blind(monkeypatch):
    """Without the perceptual term, which needs fetched weights."""
    monkeypatch.setattr(SYSTEMS["lostgans"], "perceptual", 0.0)


def test_losses_are_their_formulas():
    logits = torch.tensor([[-2.0], [0.5], [3.0]])
    assert hinge(logits, True).item() == pytest.approx((3 + 0.5 + 0) / 3)
    assert hinge(logits, False).item() == pytest.approx((0 + 1.5 + 4) / 3)
    assert fooled(logits).item() == pytest.approx(-0.5)
    assert hinge(logits[:0], True) == hinge(logits[:0], False) == fooled(logits[:0]) == 0


def test_weights_of_losses_order_and_optimiser_are_the_published_ones(tmp_path, blind):
    system = SYSTEMS["lostgans"](Settings(64, 100, 2, 0.0, 4), 2)
    told, rates = [], []
    system.descend = lambda names, loss, rate: (told.append((names, loss.item())), rates.append(rate))
    found = system.step(toys(tmp_path / "toys").batch(0, 2, 64, 0), 0.5, np.random.default_rng(0))
    assert [name for name, _ in told] == ["D", "G"] and rates == [1.0, 1.0]  # no schedule
    assert told[0][1] == pytest.approx(0.1 * found["D_image"] + found["D_object"], rel=1e-5)
    assert told[1][1] == pytest.approx(0.1 * found["G_image"] + found["G_object"] + found["G_l1"], rel=1e-5)
    group = system.adams["G"].param_groups[0]
    assert (group["lr"], group["betas"]) == (1e-4, (0.0, 0.999)) and SYSTEMS["lostgans"].batch == 128


@pytest.mark.weights
def test_the_perceptual_term_counts_and_teaches(tmp_path, weights):
    weights("efficientnet-lite0")
    system = SYSTEMS["lostgans"](Settings(64, 100, 2, 0.0, 4), 2)
    batch, told = toys(tmp_path / "toys").batch(0, 2, 64, 0), []
    system.descend = lambda names, loss, rate: told.append(loss.item())
    found = system.step(batch, 1.0, np.random.default_rng(0))
    rest = 0.1 * found["G_image"] + found["G_object"] + found["G_l1"]
    assert found["G_perceptual"] > 0.1 and told[1] == pytest.approx(rest + found["G_perceptual"], rel=1e-5)
    real = batch["b"]
    other = (real + 0.3 * torch.randn_like(real)).requires_grad_()
    assert system.looks(real, real).item() == pytest.approx(0, abs=1e-6)
    system.looks(other, real).backward()
    assert other.grad.abs().max() > 0


def test_weights_begin_orthogonal_and_biases_at_0():
    networks = SYSTEMS["lostgans"](Settings(128, 100, 2, 0.0, 4), 2).networks
    for layer in (networks["G"].res3.conv1, networks["G"].res2.conv_mask[0], networks["D"].obD.block_obj4.conv2):
        weight = getattr(layer, "weight_orig", layer.weight).detach().flatten(1)
        square = weight @ weight.T if weight.shape[0] <= weight.shape[1] else weight.T @ weight
        torch.testing.assert_close(square, torch.eye(len(square)), atol=1e-4, rtol=0)
        assert layer.bias.abs().max() == 0
    assert isinstance(networks["G"].alpha4, torch.nn.Parameter) and networks["G"].refine


def test_every_part_of_v2_moves_and_statistics_are_kept(tmp_path, blind):
    system = SYSTEMS["lostgans"](Settings(128, 100, 2, 1e-3, 4), 2)
    before = {key: {n: t.clone() for n, t in net.state_dict().items()} for key, net in system.networks.items()}
    source = toys(tmp_path / "toys")
    for number in range(2):
        losses = system.step(source.batch(number, 2, 128, 0), 1.0, np.random.default_rng(number))
    assert all(np.isfinite(value) for value in losses.values()) and "G_perceptual" not in losses
    still = [
        f"{key}.{name}"
        for key, network in system.networks.items()
        for name, tensor in network.state_dict().items()
        if torch.equal(tensor, before[key][name]) and tensor.numel() > 1
    ]
    assert not still, still


def test_it_learns_what_a_class_looks_like_and_where(tmp_path, blind):
    """A square is red or blue as its class says, and where its box is."""
    source, out = toys(tmp_path / "toys"), tmp_path / "run"
    said = []
    settings = Settings(64, 200, 2, 3e-3, 4, 1)
    fit.fit("lostgans", source, out, settings, report=lambda seen, losses: said.append(losses["G_l1"]))
    assert said[-1] < 0.75 * said[0]
    network = checkpoints.load_generator(fit.file_of(out, "G"))
    boxes = torch.tensor([[[0.05, 0.3, 0.4, 0.4], [0.55, 0.3, 0.4, 0.4]]])
    with torch.no_grad():
        for labels in ([[1, 2]], [[2, 1]]):
            drawn = network(torch.zeros(1, 2, 128), boxes, torch.zeros(1, 128), torch.tensor(labels))[0]
            sides = drawn[:, 24:40, 10:22].mean((1, 2)), drawn[:, 24:40, 42:54].mean((1, 2))
            red, blue = sides if labels == [[1, 2]] else sides[::-1]
            assert red[0] - red[2] > 0.5 and blue[2] - blue[0] > 0.5


@pytest.mark.parametrize("size", [32, 100, 512])
def test_sizes_are_the_published_ones(size):
    with pytest.raises(UsageError, match="64, 128, 256 pixels, not"):
        SYSTEMS["lostgans"].check("lostgans", Settings(size))


@pytest.mark.parametrize("size,embedding", [(64, 128), (128, 180), (256, 180)])
def test_classes_are_embedded_in_as_many_numbers_as_published(size, embedding):
    network = SYSTEMS["lostgans"](Settings(size, 100, 2, 0.0, 4), 2).networks["G"]
    assert network.label_embedding.weight.shape == (3, embedding)


def test_batches_of_one_are_refused_where_a_norm_would_see_one_pixel(tmp_path, blind):
    source, out = toys(tmp_path / "toys"), tmp_path / "run"
    with pytest.raises(UsageError, match="at 128 pixels takes batches of 2"):
        fit.fit("lostgans", source, out, Settings(128, 2, 1, 0.0, 4))
    assert not out.exists()
    fit.fit("lostgans", source, out, Settings(64, 1, 1, 0.0, 4))


# ---- drawing


def written(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.fixture
def network(tmp_path):
    return published(tmp_path / "G.pth", seeded(SMALL["v1, 64"]))


LAYOUT = {"boxes": [{"class": 1, "box": [0, 0, 0.5, 0.5]}, {"class": 6, "box": [0.4, 0.4, 0.6, 0.6]}]}
NAMES = ["skin", "brows", "eyes", "nose", "hair", "neck"]


def test_a_layout_is_drawn_as_often_as_asked_and_marked(tmp_path, run, network):
    layout, out = written(tmp_path / "in" / "face.json", LAYOUT), tmp_path / "out"
    common = ("apply", "--network", network, "--out", out)
    code, lines, error = run(*common, "--img", layout, "--samples", 2)
    assert code == 0 and lines == [str(out / "face.0.png"), str(out / "face.1.png")], error
    first, second = (np.asarray(Image.open(line)) for line in lines)
    assert first.shape == (64, 64, 3) and not np.array_equal(first, second)
    with Image.open(lines[0]) as result:
        assert "rainedAlgorithmicMedia" in str(result.info)
    code, lines, _ = run(*common, "--img", layout, "--samples", 1)
    assert lines == [str(out / "face.png")] and np.array_equal(np.asarray(Image.open(lines[0])), first)
    run(*common, "--img", layout, "--samples", 1, "--seed", 7)
    assert not np.array_equal(np.asarray(Image.open(lines[0])), first)
    written(tmp_path / "in" / "sub" / "bad.json", "{"), written(tmp_path / "in" / "sub" / "good.json", LAYOUT)
    code, lines, error = run(*common, "--img", tmp_path / "in", "--samples", 1)
    assert code == 1 and error.count("\n") == 1 and "bad.json" in error
    assert lines == [str(out / "face.png"), str(out / "sub" / "good.png")]


def test_classes_have_the_names_of_the_run_or_of_the_layout(tmp_path, run, network):
    named = {"boxes": [{"class": NAMES[entry["class"] - 1], "box": entry["box"]} for entry in LAYOUT["boxes"]]}
    found = []
    for content in (LAYOUT, named | {"classes": NAMES}, named):
        if content is named:
            written(network.parent / "settings.json", {"system": "lostgans", "domains": NAMES})
        layout = written(tmp_path / "face.json", content)
        code, lines, error = run("apply", "--network", network, "--img", layout, "--samples", 1, "--out", tmp_path)
        assert code == 0, error
        found.append(np.asarray(Image.open(lines[0])))
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[1], found[2])


def test_names_of_another_run_or_of_too_few_classes_are_not_believed(tmp_path):
    def known(content):
        written(tmp_path / "settings.json", content)
        return composing.names_beside(tmp_path / "G.pth", 7)

    assert known({"system": "lostgans", "domains": NAMES}) == {name: n for n, name in enumerate(NAMES, 1)}
    for content in (
        {"system": "spade", "domains": NAMES},
        {"system": "lostgans", "domains": NAMES[:5]},
        {"system": "lostgans", "domains": [*NAMES, "more"]},
        {"system": "lostgans", "domains": [*NAMES[:5], 6]},
        {"system": "lostgans", "domains": 6},
        {"system": "lostgans"},
        "[" * 100_000,
        [],
    ):
        assert known(content) == {}


def test_noise_is_cut_off_and_an_object_more_leaves_the_others_theirs():
    z = composing.noise(9, 4000, 3, 1)
    assert 1.9 < z.abs().max() < 2 and z.std().item() == pytest.approx(0.88, abs=0.01)  # of a normal one cut at 2
    assert torch.equal(z[:4], composing.noise(4, 4000, 3, 1)) and not torch.equal(z[0], z[1])
    assert not torch.equal(z, composing.noise(9, 4000, 3, 2))


@pytest.mark.parametrize(
    "content,words",
    [
        ({}, "boxes are a list"),
        ({"boxes": []}, "no boxes"),
        ("no json", "a JSON object"),
        ('{"boxes": "' + "x" * (1 << 20) + '"}', "too large"),
        ({"boxes": [{"class": 0, "box": [0, 0, 1, 1]}]}, "no class 0: they are numbered from 1 to 6"),
        ({"boxes": [{"class": 7, "box": [0, 0, 1, 1]}]}, "no class 7"),
        ({"boxes": [{"class": "hair", "box": [0, 0, 1, 1]}]}, "no name for 'hair': give numbers from 1 to 6"),
        ({"classes": ["a", "b"], "boxes": []}, "names of this network's 6 classes"),
        ({"classes": NAMES, "boxes": [{"class": "hiar", "box": [0, 0, 1, 1]}]}, "did you mean hair"),
        ({"boxes": [{"class": 1, "box": [0.5, 0.5, 0.6, 0.2]}]}, "not inside the picture"),
        ({"boxes": LAYOUT["boxes"] * 16}, "32 objects; at most 31"),
        ({"boxes": [{"class": 1, "box": [0, 0, 10**400, 1]}]}, "four numbers"),
        ({"boxes": [{"class": 1, "box": [0.5, 0.5, 0.001, 0.01]}]}, "too small"),
    ],
)
def test_a_layout_that_does_not_fit_is_one_line(tmp_path, run, network, content, words):
    layout, out = written(tmp_path / "face.json", content), tmp_path / "out"
    code, lines, error = run("apply", "--network", network, "--img", layout, "--out", out)
    assert (code, lines, error.count("\n")) == (1, [], 1) and words in error and "face.json" in error


def test_options_of_other_networks_are_refused(tmp_path, run, network):
    layout = written(tmp_path / "face.json", LAYOUT)
    for extra in (("--faces",), ("--how", "gray"), ("--size", 64), ("--label", 1), ("--eval",)):
        code, _, error = run("apply", "--network", network, "--img", layout, *extra)
        assert code == 2 and error.count("\n") == 1 and "LostGANs takes layouts" in error
    code, _, error = run("apply", "--network", network, "--img", tmp_path / "none.json")
    assert code == 1 and "cannot be read" in error
    (tmp_path / "empty").mkdir()
    code, _, error = run("apply", "--network", network, "--img", tmp_path / "empty")
    assert code == 2 and "no layouts (.json)" in error
    Image.new("RGB", (64, 64)).save(tmp_path / "photo.png")
    code, _, error = run("apply", "--network", network, "--img", tmp_path / "photo.png")
    assert code == 1 and "no layout" in error
