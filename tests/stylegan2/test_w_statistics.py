"""Statistics of W: exact algebra of whitening, PCA of a distribution that is known, and the shipped numbers."""

import pytest
import torch

from stylegan2 import w_statistics


@pytest.fixture(scope="module")
def shipped():
    return w_statistics.load()


def test_whiten_and_unwhiten_are_inverse(shipped):
    u = torch.randn(2, 3, 512, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(shipped.whiten(shipped.unwhiten(u)), u, atol=2e-3, rtol=0)
    assert shipped.whiten(shipped.mean).abs().max() == 0
    step = shipped.unwhiten(torch.eye(512)[4]) - shipped.mean
    torch.testing.assert_close(step, shipped.stdev[4] * shipped.components[4], atol=1e-6, rtol=0)


def test_shipped_components_are_an_orthonormal_basis_by_falling_spread(shipped):
    assert shipped.mean.shape == shipped.stdev.shape == (512,) and shipped.components.shape == (512, 512)
    torch.testing.assert_close(shipped.components @ shipped.components.T, torch.eye(512), atol=1e-5, rtol=0)
    assert (shipped.stdev.diff() <= 0).all() and shipped.stdev[-1] > 0
    largest = shipped.components.abs().argmax(1)
    assert (shipped.components[torch.arange(512), largest] > 0).all()


def known(z):
    """z (B, 3) -> w = spreads z in a turned basis, plus a mean."""
    return z * torch.tensor([0.5, 4.0, 2.0]) @ BASIS + torch.tensor([1.0, -2.0, 3.0])


BASIS = torch.tensor([[0.6, 0.8, 0.0], [-0.8, 0.6, 0.0], [0.0, 0.0, -1.0]])


@pytest.mark.parametrize("samples", [40_000, 7_000, 500])
def test_compute_finds_a_known_distribution(samples):
    """Also where the last batch is not full."""
    found = w_statistics.compute(known, samples, z_dim=3)
    noise = 5 / samples**0.5
    torch.testing.assert_close(found.stdev, torch.tensor([4.0, 2.0, 0.5]), atol=0, rtol=noise)
    torch.testing.assert_close(found.mean, torch.tensor([1.0, -2.0, 3.0]), atol=4 * noise, rtol=0)
    expected = torch.tensor([[0.8, -0.6, 0.0], [0.0, 0.0, 1.0], [0.6, 0.8, 0.0]])  # largest entry positive
    torch.testing.assert_close(found.components, expected, atol=4 * noise, rtol=0)


def test_compute_is_the_same_every_time():
    a, b = (w_statistics.compute(known, 5_000, z_dim=3) for _ in range(2))
    assert torch.equal(a.mean, b.mean) and torch.equal(a.components, b.components) and torch.equal(a.stdev, b.stdev)


@pytest.mark.weights
def test_shipped_statistics_are_those_of_the_real_mapping(mobile, shipped):
    samples = 20_000
    found = w_statistics.compute(mobile.mapping, samples)
    spread = (shipped.components.square() * shipped.stdev[:, None].square()).sum(0).sqrt()  # of each entry of w
    assert ((found.mean - shipped.mean) / spread * samples**0.5).abs().max() < 5  # standard errors
    cosines = (found.components[:6] * shipped.components[:6]).sum(1)
    assert cosines.abs().min() > 0.95  # the second and third are nearly as long as each other, and mix
    torch.testing.assert_close(found.stdev[:40], shipped.stdev[:40], atol=0, rtol=0.05)
    u = shipped.whiten(mobile.mapping(torch.randn(500, 512, generator=torch.Generator().manual_seed(10**6))))
    assert u.square().mean().item() == pytest.approx(1, abs=0.03)
    assert torch.equal(mobile.w_avg, shipped.mean)
