"""LostGANs: the published layout and figures, parts against plain loops, layouts from files, training, drawing."""

import math

import numpy as np
import pytest
import torch

from editing.translation import checkpoints, fit, layouts
from editing.translation.networks import LostGANDiscriminator, LostGANGenerator
from editing.translation.networks.lostgans import ISLANorm, inside, placed, refined, widths
from editing.translation.networks.lostgans_critic import roi_align
from editing.translation.systems import SYSTEMS, Settings
from editing.translation.systems.lostgans import fooled, hinge
from stylegan2.errors import CheckpointError, UsageError
from tests.editing.translation.test_layouts import toys


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
