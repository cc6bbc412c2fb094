"""Samples: a code is its seed's alone, shards are made once, and a folder keeps to one recipe."""

import numpy as np
import pytest
import torch

from encoders import samples
from stylegan2 import w_statistics
from stylegan2.errors import UsageError
from tests.encoders import toys


@pytest.fixture(scope="module")
def generator():
    return toys.generator()


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(samples, "SHARD", 4)


def test_a_code_does_not_depend_on_its_neighbours(generator):
    together = samples.codes(generator, range(100, 110))
    assert torch.allclose(together[3:5], samples.codes(generator, range(103, 105)), atol=1e-5)
    assert (together[0] - together[1]).abs().mean() > 1e-3


def test_the_recipe_mixes_and_disturbs_as_often_as_it_says(generator):
    apart = (
        samples.codes(generator, range(300), samples.Recipe(noisy=0.0)).diff(dim=1).abs().amax((1, 2)) > 1e-6
    ).float()
    assert apart.mean().item() == pytest.approx(0.4, abs=0.08)
    plain = samples.codes(generator, range(300), samples.Recipe(mixed=0.0, noisy=1.0, noise=0.25))
    u = w_statistics.load().whiten(plain)
    assert (u - u.mean(1, keepdim=True)).std().item() == pytest.approx(0.25 * (5 / 6) ** 0.5, rel=0.05)


def test_truncation_draws_codes_towards_the_mean(generator):
    near, far = (samples.codes(generator, range(50), samples.Recipe((p, p), 0.0, 0.0)) for p in (0.5, 1.0))
    assert torch.allclose(near - generator.w_avg, 0.5 * (far - generator.w_avg), atol=1e-5)


def test_shards_hold_what_the_codes_render_to_and_are_made_once(generator, tmp_path, monkeypatch):
    samples.write(generator, tmp_path, 6, 40, samples.Recipe(size=32))
    shards, first, recipe = samples.read(tmp_path)
    assert first == [40, 44] and [len(shard) for shard in shards] == [4, 4] and recipe == samples.Recipe(size=32)
    expected = samples.render(generator, samples.codes(generator, range(44, 48), recipe), 32)
    assert np.array_equal(shards[1], expected) and expected.std() > 5
    monkeypatch.setattr(samples, "render", lambda *_: pytest.fail("a shard that is there was rendered again"))
    samples.write(generator, tmp_path, 8, 40, samples.Recipe(size=32))


def test_a_killed_run_leaves_no_half_shard(generator, tmp_path, monkeypatch):
    monkeypatch.setattr(np, "save", lambda path, _: (path.write_bytes(b"half"), 1 / 0))
    with pytest.raises(ZeroDivisionError):
        samples.write(generator, tmp_path, 4, 0, samples.Recipe(size=32))
    assert samples.read(tmp_path)[0] == []


def test_another_recipe_needs_another_folder(generator, tmp_path):
    samples.write(generator, tmp_path, 4, 0, samples.Recipe(size=32))
    with pytest.raises(UsageError, match="another recipe"):
        samples.write(generator, tmp_path, 4, 0, samples.Recipe(psi=(0.7, 0.7), size=32))
    with pytest.raises(UsageError, match="no samples"):
        samples.read(tmp_path / "nowhere")
