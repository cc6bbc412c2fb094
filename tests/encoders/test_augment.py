"""Augmentations: repeatable, in range, every picture its own, and gentle: the face stays where it is."""

import pytest
import torch

from encoders import augment


def faces(count=16):
    rng = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 8, 8, generator=rng) * 2 - 1
    return torch.nn.functional.interpolate(coarse, size=(64, 64), mode="bilinear")


def scene(images, seed):
    return augment.scene(images, seed)[0]


@pytest.mark.parametrize("disturbed", [scene, augment.camera])
def test_a_seed_is_a_disturbance(disturbed):
    images = faces()
    a, b, c = disturbed(images, 1), disturbed(images, 1), disturbed(images, 2)
    assert torch.equal(a, b) and not torch.equal(a, c)
    assert a.shape == images.shape and a.min() >= -1 and a.max() <= 1


@pytest.mark.parametrize("disturbed", [scene, augment.camera])
def test_the_callers_random_numbers_are_left_alone(disturbed):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    disturbed(faces(4), 1)
    assert torch.equal(torch.rand(3), expected)


def test_a_camera_leaves_pictures_recognisable():
    images = faces()
    changes = torch.stack([(augment.camera(images, seed) - images).square().mean((1, 2, 3)) for seed in range(8)])
    assert (changes > 1e-5).float().mean() > 0.9, "hardly anything was disturbed"
    assert changes.std() > 1e-3, "every picture got the same"
    assert changes.median() < 0.05 < images.var()


def test_a_scene_says_which_pictures_it_changed():
    images, shares, changes = faces(), [], []
    for seed in range(8):
        pictures, changed = augment.scene(images, seed)
        difference = (pictures - images).square().mean((1, 2, 3))
        assert torch.equal(pictures[~changed], images[~changed])
        shares.append(changed.float().mean())
        changes.append(difference[changed])
    assert abs(torch.stack(shares).mean() - augment.SCENES) < 0.12
    assert (torch.cat(changes) > 1e-6).float().mean() > 0.9 and 1e-3 < torch.cat(changes).median() < 0.1
