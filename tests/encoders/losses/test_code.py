"""The pull-back metric predicts how much a small step of the code changes the picture."""

import torch

from encoders.losses import code, perceptual
from stylegan2 import w_statistics
from stylegan2.engine import area_resize, broadcast, latents
from tests.encoders import toys


def image_loss(before, after, network):
    loss = 0.0
    for size, weight in code.PIXELS:
        x, y = (area_resize(area_resize(image, 256), size) for image in (before, after))
        loss = loss + weight * (x - y).square().mean()
    features = (perceptual.features(network, area_resize(image, 256)) for image in (before, after))
    return loss + code.PERCEPTUAL * perceptual.distance(*features).mean()


def test_it_is_the_image_loss_of_a_small_step():
    generator, network, statistics = toys.generator(), toys.image_network(), w_statistics.load()
    metric = code.pull_back(generator, network, 120, seed=5)
    assert metric.shape == (120, 6, 512)
    random, predicted, real = torch.Generator().manual_seed(0), [], []
    for seed in range(40):
        u = statistics.whiten(broadcast(generator, latents(generator, [seed], 0.7)))
        scale = 10.0 ** (-2.5 + seed % 4 * 0.3)
        step = scale * torch.randn(1, 6, 512, generator=random) * (torch.arange(6) == seed % 6).view(1, 6, 1)
        with torch.no_grad():
            before, after = (generator.synthesis(statistics.unwhiten(x)) for x in (u, u + step))
            real.append(image_loss(before, after, network))
        predicted.append(code.distance(step, metric)[0])
    predicted, real = torch.stack(predicted), torch.stack(real)
    assert 0.6 < (predicted.sum() / real.sum()).item() < 1.6
    assert torch.corrcoef(torch.stack([predicted.log(), real.log()]))[0, 1] > 0.9


def test_a_draw_is_its_seeds_and_no_step_costs_nothing():
    generator, network = toys.generator(), toys.image_network()
    both = code.pull_back(generator, network, 2, seed=3)
    assert torch.allclose(both[1:], code.pull_back(generator, network, 1, seed=4), atol=1e-6)
    assert code.distance(torch.zeros(2, 6, 512), both).tolist() == [0, 0]
