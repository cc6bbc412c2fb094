"""Augmentations: repeatable, in range, every picture its own, and gentle: the face stays where it is."""

import torch

from encoders.augment import augment


def faces(count=16):
    rng = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 8, 8, generator=rng) * 2 - 1
    return torch.nn.functional.interpolate(coarse, size=(64, 64), mode="bilinear")


def test_a_seed_is_a_disturbance():
    images = faces()
    a, b, c = augment(images, 1), augment(images, 1), augment(images, 2)
    assert torch.equal(a, b) and not torch.equal(a, c)
    assert a.shape == images.shape and a.min() >= -1 and a.max() <= 1


def test_the_callers_random_numbers_are_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    augment(faces(4), 1)
    assert torch.equal(torch.rand(3), expected)


def test_pictures_are_disturbed_but_recognisable():
    images = faces()
    changes = torch.stack([(augment(images, seed) - images).square().mean((1, 2, 3)) for seed in range(8)])
    assert (changes > 1e-5).float().mean() > 0.9, "hardly anything was disturbed"
    assert changes.std() > 1e-3, "every picture got the same"
    assert changes.median() < 0.05 < images.var()
    centre = slice(24, 40)
    kept = torch.stack([(augment(images, s) - images)[..., centre, centre].square().mean((1, 2, 3)) for s in range(8)])
    assert kept.median() < 0.03
