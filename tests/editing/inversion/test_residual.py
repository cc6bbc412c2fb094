"""Feature residuals: they draw what is missing, step aside where an edit moves the picture, and survive the disk."""

import pytest
import torch

from editing.inversion import residual
from editing.inversion.budget import Progress
from editing.inversion.objective import Weights, objective
from editing.types import Inversion
from stylegan2 import w_statistics
from stylegan2.checkpoints import tensors_sha256
from stylegan2.engine import broadcast
from stylegan2.generator import Delta, FeatureEdit, edit_stage, seeded_z

PIXELS = Weights(pixel=1.0, perceptual=0.0, identity=0.0, scales=(256, 64))


@pytest.fixture
def face(mobile):
    return broadcast(mobile, mobile.w_avg[None])


def edit_at(generator, ws, maps=4):
    """A feature edit with `maps` maps of random numbers at the stage that `residual` uses."""
    name = residual.stage(generator, 8)
    channels, size = generator.synthesis(ws, until=name).shape[1:3]
    draw = torch.Generator().manual_seed(0)
    basis, residual_maps = (torch.randn(1, *shape, generator=draw) for shape in ((channels, maps), (maps, size, size)))
    return {name: FeatureEdit(residual_maps, torch.ones(1, 1, size, size), ws, basis=basis)}


def test_a_basis_of_maps_means_their_product():
    x, maps, basis = torch.randn(1, 6, 4, 4), torch.randn(1, 2, 4, 4), torch.randn(1, 6, 2)
    mask, ws = torch.rand(1, 1, 4, 4), torch.zeros(1, 1, 1)
    dense = FeatureEdit((basis @ maps.flatten(2)).view(1, 6, 4, 4), mask, ws)
    factored = FeatureEdit(maps, mask, ws, basis=basis)
    assert torch.allclose(edit_stage(x, "b4", {"b4": dense}), edit_stage(x, "b4", {"b4": factored}), atol=1e-5)
    assert edit_stage(x, "b8", {"b4": factored}) is x


def test_factors_are_the_best_of_their_rank():
    matrix = torch.randn(20, 50, generator=torch.Generator().manual_seed(0))
    basis, maps = residual.factors(matrix, 5)
    assert basis.shape == (20, 5) and maps.shape == (5, 50)
    values = torch.linalg.svdvals(matrix)
    assert (matrix - basis @ maps).square().sum() == pytest.approx(float(values[5:].square().sum()), rel=1e-3)


@pytest.mark.weights
def test_the_gate_is_open_at_the_code_it_was_made_for_and_shuts_where_an_edit_moves_the_picture(mobile, face):
    from editing.directions import apply, catalogue

    assert torch.equal(residual.gate(mobile, face, face), torch.ones(1, 1, 64, 64))
    smiling = residual.gate(mobile, face, apply(face, catalogue.load()["smile"], 3.0))
    mouth, background = smiling[0, 0, 44:47, 29:35], smiling[0, 0, 2:6, 2:6]
    assert mouth.max() < 0.1 and background.min() > 0.3
    assert smiling.min() >= 0 and smiling.max() <= 1


@pytest.mark.weights
def test_rendering_keeps_the_residual_at_its_own_code_and_dims_it_under_an_edit(mobile, face):
    features = edit_at(mobile, face)
    still = Inversion(ws=face, family=mobile.family, features=features)
    assert torch.equal(residual.render(mobile, still), mobile.synthesis(face, None, features))
    elsewhere = broadcast(mobile, mobile.mapping(seeded_z([1], 512)))
    moved = Inversion(ws=elsewhere, family=mobile.family, features=features)
    plain = mobile.synthesis(elsewhere)
    gated, ungated = residual.render(mobile, moved), mobile.synthesis(elsewhere, None, features)
    assert (gated - plain).abs().mean() < 0.5 * (ungated - plain).abs().mean()
    assert residual.gated(mobile, None, face) is None


@pytest.mark.weights
def test_a_residual_draws_what_code_and_weights_lack_and_leaves_the_generator_alone(mobile, face):
    before = tensors_sha256(mobile.state())
    with torch.no_grad():
        rendered = mobile.synthesis(face)
    photo = rendered.clone()
    photo[:, :, 100:228, 100:228] += 0.4
    goal = objective(photo, PIXELS)
    features = residual.fit(mobile, face, None, photo, 2, Progress(None, 2, ""))
    (edit,) = features.values()
    assert edit.residual.shape == (1, residual.RANK, 128, 128) and edit.basis.shape == (1, 256, residual.RANK)
    assert not edit.residual.requires_grad and edit.residual.isfinite().all()
    assert goal(mobile.synthesis(face, None, features)) < 0.1 * goal(rendered)
    assert tensors_sha256(mobile.state()) == before
    assert residual.fit(mobile, face, None, photo, 0, Progress(None, 0, "")) == {}


@pytest.mark.weights
def test_an_inversion_with_a_residual_renders_the_same_pixels_from_its_file_and_stays_small(mobile, face, tmp_path):
    rows, columns = 0.01 * torch.randn(1, 512, 32), torch.randn(1, 32, 512)
    deltas = {f"layers.{i}.conv2.pointwise": Delta("lowrank", (rows, columns)) for i in range(4)}
    made = Inversion(
        ws=face, family=mobile.family, deltas=deltas, features=edit_at(mobile, face, maps=residual.RANK)
    ).compact()
    path = made.save(tmp_path / "a.inversion")
    assert path.stat().st_size < 5e6
    w = w_statistics.load().unwhiten(seeded_z([2], 512))
    for ws in (face, broadcast(mobile, w)):
        first, second = (
            residual.render(mobile, Inversion(ws=ws, family="", deltas=x.deltas, features=x.features))
            for x in (made, Inversion.load(path))
        )
        assert torch.equal(first, second)
