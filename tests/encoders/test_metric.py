"""The pull-back metric predicts how much a small step of the code changes the picture."""

import pytest
import torch
from safetensors.torch import save_file

from encoders import metric
from encoders.losses import identity, perceptual, picture
from stylegan2 import w_statistics
from stylegan2.engine import area_resize, broadcast, latents
from stylegan2.errors import CheckpointError
from stylegan2.generator import FeatureEdit
from tests.encoders import toys


@pytest.fixture(scope="module")
def person():
    network, random = identity.FaceDescriptor(), torch.Generator().manual_seed(2)
    for name, tensor in network.state_dict().items():
        if name.endswith("bias"):
            tensor.zero_()
        elif tensor.ndim > 1:
            tensor.copy_(torch.randn(tensor.shape, generator=random) * (2 / tensor[0].numel()) ** 0.5)
    network.fc.weight.div_(20)  # so that the descriptor weighs about what the other terms weigh
    return network


def image_loss(before, after, network, person):
    loss = 0.0
    small = [area_resize(image, 256) for image in (before, after)]
    for size in metric.PIXELS:
        x, y = (area_resize(image, size) for image in small)
        loss = loss + (x - y).square().mean()
    features = (perceptual.features(network, image) for image in small)
    x, y = (person(identity.extract_chips(image, picture.FACE_CHIP * 256)) for image in small)
    return loss + metric.PERCEPTUAL * perceptual.distance(*features).mean() + metric.IDENTITY * (x - y).square().sum()


def test_it_is_the_image_loss_of_a_small_step(person):
    generator, network, statistics = toys.generator(), toys.image_network(), w_statistics.load()
    way = generator.synthesis, metric.of_renders(network, person)
    draws = torch.stack([metric.pull_back(generator, *way, seed) for seed in range(80)])
    rows = metric.principal(draws, 80)
    assert rows.shape == (80, 6, 512)
    random, predicted, real = torch.Generator().manual_seed(0), [], []
    for seed in range(40):
        u = statistics.whiten(broadcast(generator, latents(generator, [seed], 0.7)))
        scale = 10.0 ** (-2.5 + seed % 4 * 0.3)
        step = scale * torch.randn(1, 6, 512, generator=random) * (torch.arange(6) == seed % 6).view(1, 6, 1)
        with torch.no_grad():
            before, after = (generator.synthesis(statistics.unwhiten(x)) for x in (u, u + step))
            real.append(image_loss(before, after, network, person))
        predicted.append(metric.distance(step, rows)[0])
    predicted, real = torch.stack(predicted), torch.stack(real)
    assert 0.6 < (predicted.sum() / real.sum()).item() < 1.6
    assert torch.corrcoef(torch.stack([predicted.log(), real.log()]))[0, 1] > 0.8


def test_the_principal_rows_keep_the_directions_that_matter():
    random = torch.Generator().manual_seed(0)
    strong = torch.randn(2, 3, 512, generator=random)
    draws = torch.randn(50, 2, generator=random) @ strong.flatten(1) * 10 + torch.randn(50, 1536, generator=random)
    draws = draws.view(50, 3, 512)
    everything, two = metric.principal(draws, 50), metric.principal(draws, 2)
    along, across = strong[:1], torch.randn(1, 3, 512, generator=random)
    basis = torch.linalg.qr(strong.flatten(1).T).Q
    across = (across.flatten() - basis @ (basis.T @ across.flatten())).view(1, 3, 512)
    assert torch.allclose(metric.distance(along, everything), metric.distance(along, draws) / 50, rtol=1e-4)
    assert metric.distance(along, two) > 0.95 * metric.distance(along, everything)
    assert metric.distance(across, two) < 0.5 * metric.distance(across, everything)
    products = two.flatten(1) @ two.flatten(1).T
    assert products[0, 1].abs() < 1e-3 * products[0, 0] and products[0, 0] > products[1, 1]


def previews(generator):
    return lambda ws: torch.nn.functional.interpolate(generator.synthesis(ws), scale_factor=4, mode="bilinear")


def test_that_of_previews_is_their_pixels():
    generator, statistics = toys.generator(), w_statistics.load()
    draw = previews(generator)
    draws = torch.stack([metric.pull_back(generator, draw, metric.of_previews, seed) for seed in range(200)])
    random, predicted, real = torch.Generator().manual_seed(0), 0.0, 0.0
    for seed in range(20):
        u = statistics.whiten(broadcast(generator, latents(generator, [seed], 0.7)))
        step = 1e-3 * torch.randn(1, 6, 512, generator=random)
        before, after = (draw(statistics.unwhiten(x)) for x in (u, u + step))
        change = [area_resize(after - before, size).square().mean().item() for size in metric.PREVIEW_PIXELS]
        predicted += metric.distance(step, draws).item() / len(draws)
        real += sum(change)
    assert 0.6 < predicted / real < 1.6


@pytest.mark.weights
def test_that_of_places_is_the_pixels_change_when_every_place_changes_at_random(mobile):
    random, name = torch.Generator().manual_seed(0), metric.stage(mobile)
    shipped, found = metric.fitting_places(mobile, 256), metric.of_places(mobile, 2)
    assert found.shape == (256, 256) and (found.norm(dim=1).diff() < 1e-5).all()
    mask, real, predicted = torch.ones(1, 1, 128, 128), 0.0, 0.0
    for seed in range(6):
        ws = broadcast(mobile, latents(mobile, [seed], 0.7))
        step = 1e-2 * torch.randn(1, 256, 128, 128, generator=random)
        with torch.no_grad():
            before, after = (mobile.synthesis(ws, None, {name: FeatureEdit(x, mask, ws)}) for x in (0 * step, step))
        real += sum(area_resize(after - before, size).square().mean().item() for size in metric.PLACES_PIXELS)
        predicted += (shipped @ step[0].flatten(1)).square().sum(0).mean().item()
    assert 0.6 < predicted / real < 1.6
    overlap = (torch.linalg.qr(found[:8].T).Q.T @ torch.linalg.qr(shipped[:16].T).Q).square().sum() / 8
    assert overlap > 0.7  # two faces already show most of the directions that matter


def test_a_draw_is_its_seed_and_a_killed_computation_goes_on(tmp_path, monkeypatch):
    generator = toys.generator()
    monkeypatch.setattr(metric, "SAVE_EVERY", 2)
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    way = previews(generator), metric.of_previews
    ways = {"renders": way, "previews": way}
    metric.compute(generator, ways, 5, whole)
    drawn = []

    def killed(*arguments, pull_back=metric.pull_back):
        drawn.append(arguments[-1] - metric.FIRST_SEED)
        if len(drawn) == 4:
            raise KeyboardInterrupt
        return pull_back(*arguments)

    monkeypatch.setattr(metric, "pull_back", killed)
    with pytest.raises(KeyboardInterrupt):
        metric.compute(generator, ways, 5, parts)
    metric.compute(generator, ways, 5, parts)
    assert drawn == [0, 1, 2, 3, 2, 3, 4, 0, 1, 2, 3, 4]
    first, second = metric.load(whole), metric.load(parts)
    assert all(torch.equal(first[name], second[name]) and first[name].shape == (5, 6, 512) for name in ways)
    assert torch.equal(first["places"], second["places"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parts.safetensors", "whole.safetensors"]


def test_the_shipped_one_fits_the_default_generator_and_no_other(tmp_path):
    for name, rank in metric.RANKS.items():
        rows = metric.load()[name]
        assert rows.shape == ((rank, 256) if name == "places" else (rank, 16, 512))
        assert (rows.flatten(1).norm(dim=1).diff() < 1e-3).all() and rows[0].norm() > 10 * rows[-1].norm()
        if name == "places":
            assert metric.fitting_places(toys.generator(), 256) is not None
            assert metric.fitting_places(toys.generator(), 64) is None
        else:
            assert metric.fitting(toys.generator(), name) is None
    for name, content in {"text": b"no", "empty": b""}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CheckpointError, match="cannot be read as a metric"):
            metric.load(tmp_path / name)
    save_file({name: torch.full((1, 2, 3), float("nan")) for name in metric.RANKS}, tmp_path / "nan")
    with pytest.raises(CheckpointError, match="is not a metric"):
        metric.load(tmp_path / "nan")
