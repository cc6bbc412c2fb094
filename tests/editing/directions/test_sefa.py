"""SeFa: the directions that move styles most, in order, on the rows that were asked for."""

import pytest
import torch

from editing.directions import sefa
from stylegan2 import w_statistics
from tests.encoders import toys


@pytest.fixture(scope="module")
def generator():
    generator, random = toys.generator(5), torch.Generator().manual_seed(1)
    for style in generator.styles.values():
        style.weight.copy_(torch.randn(style.weight.shape, generator=random) * torch.rand((), generator=random))
    return generator


def test_no_other_direction_of_unit_length_moves_the_styles_more(generator):
    a = sefa.sensitivity(generator, (2, 6))
    assert torch.allclose(a.norm(dim=1), torch.ones(len(a)), atol=1e-5)
    found = sefa.directions(generator, (2, 6), 5)
    moved = [(a @ (d.vector / d.vector.norm())).norm() for d in found]
    assert all(one >= other for one, other in zip(moved, moved[1:], strict=False))
    others = torch.randn(200, 512, generator=torch.Generator().manual_seed(2))
    assert (a @ (others / others.norm(dim=1, keepdim=True)).T).norm(dim=0).max() < moved[0]
    assert abs(float(found[0].vector @ found[1].vector)) < 1e-3
    assert [d.name for d in found[:2]] == ["sefa-2-6-0", "sefa-2-6-1"] and found[0].rows == (2, 6)


def test_rows_choose_the_layers(generator):
    channels = sum(len(s.weight) for s in generator.styles.values() if 2 <= s.row < 4)
    assert sefa.sensitivity(generator, (2, 4)).shape == (channels, 512)


def test_a_unit_is_a_deviation_of_w_and_the_sign_is_fixed(generator):
    statistics = w_statistics.load()
    assert sefa.deviation(statistics.components[7]) == pytest.approx(float(statistics.stdev[7]), rel=1e-4)
    (found,) = sefa.directions(generator, (0, 2), 1)
    assert float(found.vector.norm()) == pytest.approx(sefa.deviation(found.vector / found.vector.norm()), rel=1e-3)
    assert found.vector[found.vector.abs().argmax()] > 0
