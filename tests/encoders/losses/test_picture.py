"""The picture losses of training: nothing for the same, and each sees what it is for."""

import pytest
import torch

from encoders.losses import picture
from encoders.losses.identity import FaceDescriptor
from tests.encoders import toys


@pytest.fixture(scope="module")
def network():
    return toys.image_network()


def faces(count=2, size=128):
    rng = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 16, 16, generator=rng) * 1.6 - 0.8
    return torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")


def test_the_same_picture_costs_nothing(network):
    person = FaceDescriptor()
    torch.nn.init.normal_(person.fc.weight)
    losses = picture.compare(faces(), faces(), network, person)
    assert set(losses) == {"pixel", "structure", "perceptual", "identity"}
    assert all(loss.item() == pytest.approx(0, abs=1e-5) for loss in losses.values())
    assert "identity" not in picture.compare(faces(), faces(), network, None)


def test_light_is_seen_by_pixels_at_every_size_and_detail_at_one(network):
    images = faces()
    light = picture.compare(images + 0.1, images, network, None)["pixel"].item()
    assert light == pytest.approx(3 * 0.01, rel=0.01)
    detail = torch.ones(128).cumsum(0).remainder(2).mul(0.2).sub(0.1)  # +-0.1 from column to column
    checks = picture.compare(images + detail, images, network, None)
    assert checks["pixel"].item() == pytest.approx(0.01, rel=0.05)
    assert checks["structure"] > 3 * picture.compare(images + 0.1, images, network, None)["structure"]


def test_sizes_may_differ(network):
    small = picture.compare(faces(2, 256), faces(), network, None)
    assert small["pixel"] < 1e-2
