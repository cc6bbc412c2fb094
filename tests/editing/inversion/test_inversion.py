"""Inversion strategies: they find a known code, repeat themselves, can be cancelled and change no generator."""

from dataclasses import replace

import pytest
import torch

from editing.heads.registry import DRAWERS
from editing.inversion import STRATEGIES, Budget, hypering, latent, residual, tuning
from editing.inversion.budget import Progress, schedule
from editing.inversion.metrics import l2, ms_ssim, whitened_square
from editing.inversion.objective import Weights, objective
from stylegan2 import w_statistics
from stylegan2.checkpoints import tensors_sha256
from stylegan2.engine import area_resize, broadcast, to_float
from stylegan2.errors import Cancelled, UsageError, WplusError
from stylegan2.generator import Delta, seeded_z
from stylegan2.mobile import MobileStyleGAN, Modulation

PIXELS = Weights(pixel=1.0, perceptual=0.0, identity=0.0, scales=(32, 8))
SMALL = latent.Latent(prior=0.0, row_prior=0.0, weights=PIXELS)


@pytest.fixture
def tiny():
    """A random 32-pixel MobileStyleGAN whose pictures do depend on w."""
    torch.manual_seed(0)
    generator = MobileStyleGAN((32, 32, 16), w_dim=512)
    for name, parameter in generator.named_parameters():
        parameter.copy_(torch.randn_like(parameter) * (0.01 if "modulation" in name else 0.15))
    for module in generator.modules():
        if isinstance(module, Modulation):
            module.bias.fill_(1.0)
    generator.w_avg.copy_(w_statistics.load().mean)
    generator.input.normal_()
    return generator


@pytest.fixture
def target(tiny):
    with torch.no_grad():
        return tiny.synthesis(broadcast(tiny, w_statistics.load().unwhiten(seeded_z([3], 512)))).clone()


def test_latent_optimisation_comes_much_nearer_and_leaves_the_generator_alone(tiny, target):
    goal, before = objective(target, PIXELS), tensors_sha256(tiny.state())
    start = goal(tiny.synthesis(broadcast(tiny, tiny.w_avg[None])))
    ws = latent.optimise_latent(tiny, goal, SMALL, 60, Progress(None, 60, ""))
    assert ws.shape == (1, tiny.num_ws, 512) and not ws.requires_grad
    assert goal(tiny.synthesis(ws)) < 0.25 * start
    assert tensors_sha256(tiny.state()) == before
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in tiny.parameters())


def test_a_prior_keeps_the_code_nearer_to_the_dense_part_of_w(tiny, target):
    goal = objective(target, PIXELS)
    free, held = (
        latent.optimise_latent(tiny, goal, replace(SMALL, prior=p, row_prior=p), 25, Progress(None, 25, ""))
        for p in (0.0, 1.0)
    )
    assert whitened_square(held) < 0.5 * whitened_square(free)


def test_the_same_steps_give_the_same_code(tiny, target):
    goal = objective(target, PIXELS)
    first, second = (latent.optimise_latent(tiny, goal, SMALL, 8, Progress(None, 8, "")) for _ in range(2))
    assert torch.equal(first, second)


def test_rows_move_together_where_they_are_told_to(tiny, target):
    goal = objective(target, PIXELS)
    together = latent.optimise_latent(tiny, goal, replace(SMALL, together=True), 8, Progress(None, 8, ""))
    apart = latent.optimise_latent(tiny, goal, SMALL, 8, Progress(None, 8, ""))
    assert torch.allclose(together, together[:, :1].expand_as(together), atol=1e-5)
    assert not torch.allclose(apart, apart[:, :1].expand_as(apart), atol=1e-3)


def test_tuning_adds_what_the_code_cannot_and_only_on_its_layers(tiny, target):
    settings = replace(tuning.TUNE, locality=0.0, row_prior=0.0, row_rate=0.0, rate=1.0)
    ws = broadcast(tiny, w_statistics.load().unwhiten(seeded_z([3], 512)))
    noise = torch.randn(1, *tiny.layers["layers.1.to_img"].shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        photo = tiny.synthesis(ws, {"layers.1.to_img": Delta("add", (0.5 * noise,))}).clone()
    goal, before = objective(photo, PIXELS), tensors_sha256(tiny.state())
    moved, deltas = tuning.tune_weights(tiny, ws, photo, goal, settings, 30, Progress(None, 30, ""))
    assert set(deltas) == {name for name, layer in tiny.layers.items() if settings.share(layer)}
    assert torch.allclose(moved, ws, atol=1e-5)
    assert goal(tiny.synthesis(moved, deltas)) < 0.5 * goal(tiny.synthesis(ws))
    assert tensors_sha256(tiny.state()) == before
    assert not any(factor.requires_grad for delta in deltas.values() for factor in delta.factors)


def test_offsets_are_kept_at_a_low_rank_where_that_saves_anything():
    draw = torch.Generator().manual_seed(0)
    exact = torch.randn(64, 3, generator=draw) @ torch.randn(3, 64, generator=draw)
    small = tuning.compressed(exact[None], 4)
    assert small.kind == "lowrank" and [factor.shape for factor in small.factors] == [(1, 64, 4), (1, 4, 64)]
    assert torch.allclose(small.apply(torch.zeros(64, 64))[0], exact, atol=1e-4)
    depthwise = torch.randn(1, 64, 1, 3, 3, generator=draw)
    assert torch.equal(tuning.compressed(depthwise, 4).factors[0], depthwise)


def test_fine_layers_may_move_more_than_coarse_ones(mobile):
    shares = {name: tuning.TUNE.share(layer) for name, layer in mobile.layers.items() if layer.kind == "pointwise"}
    order = [shares[f"layers.{index}.conv2.pointwise"] for index in range(7)]
    assert order == sorted(order) and order[0] < 0.1 < 1.0 == order[-1]


def test_cancelling_raises_between_steps_and_changes_nothing(tiny, target):
    goal, before, seen = objective(target, PIXELS), tensors_sha256(tiny.state()), []

    def stop_at_three(step, total, method):
        seen.append((step, total))
        return step < 3

    with pytest.raises(Cancelled, match="after 3 of 9 steps"):
        latent.optimise_latent(tiny, goal, SMALL, 9, Progress(stop_at_three, 9, "pivot"))
    assert seen == [(1, 9), (2, 9), (3, 9)]
    assert tensors_sha256(tiny.state()) == before


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"seconds": 0}, {"seconds": float("nan")}, {"steps": 5, "seconds": 5}])
def test_impossible_budgets_are_usage_errors(wrong):
    with pytest.raises(UsageError):
        Budget(**wrong)


def test_seconds_become_steps_and_more_seconds_more_steps(tiny, target, monkeypatch):
    goal = objective(target, PIXELS)
    monkeypatch.setattr(latent, "latent_step_seconds", lambda *_: 0.5)
    monkeypatch.setattr(tuning, "latent_step_seconds", lambda *_: 0.5)
    assert latent.plan(tiny, goal, SMALL, Budget(seconds=60)) == 120 - latent.OVERHEAD
    assert latent.plan(tiny, goal, SMALL, Budget(steps=7)) == 7
    assert latent.plan(tiny, goal, SMALL, Budget()) == SMALL.steps
    counts = tuning.plan(tiny, goal, tuning.TUNE, Budget(seconds=60))
    cost = sum(cost * steps for cost, steps in zip(tuning.COSTS, counts, strict=True))
    assert cost == pytest.approx(120 - tuning.OVERHEAD, abs=2)
    assert sum(tuning.plan(tiny, goal, tuning.TUNE, Budget(steps=50))) == 50
    assert tuning.plan(tiny, goal, tuning.TUNE, Budget(seconds=0.1)) == (1, 0, 1)
    assert tuning.plan(tiny, goal, replace(tuning.TUNE, steps=(5, 5, 5)), Budget(steps=1)) == (1, 1, 1)


def test_the_schedule_warms_up_stays_and_decays():
    rates = [schedule(step, 100) for step in range(100)]
    assert rates[0] < rates[3] < 1.0 == rates[30] and 0 < rates[-1] < 0.05
    assert all(0 < schedule(step, 1) <= 1 for step in range(1))


def test_moved_marks_the_change_and_its_surroundings_and_nothing_else():
    before = torch.zeros(1, 3, 256, 256)
    after = before.clone()
    after[:, :, 100:140, 100:140] = 0.5
    mask = tuning.moved(before, after, 0.05)
    assert mask.shape == (1, 1, 256, 256)
    assert mask[0, 0, 120, 120] > 0.99 and mask[0, 0, 20, 20] < 1e-3
    assert tuning.moved(before, before, 0.05).max() == 0


def test_metrics_of_a_picture_with_itself_and_with_noise():
    generator = torch.Generator().manual_seed(0)
    picture = torch.rand(1, 3, 512, 512, generator=generator) * 2 - 1
    assert l2(picture, picture) == 0 and ms_ssim(picture, picture) == pytest.approx(1.0)
    assert l2(picture, picture + 5) == pytest.approx(l2(picture, torch.ones_like(picture)))  # clamped
    assert ms_ssim(picture, -picture) < 0.2
    flat = torch.full((1, 3, 512, 512), 0.5)
    assert l2(flat, flat - 0.25) == pytest.approx(0.0625)


@pytest.mark.weights
def test_every_strategy_inverts_a_generated_face_and_records_how(mobile, generated):
    image = to_float(generated(5))
    before = tensors_sha256(mobile.state())
    for name in [name for name in STRATEGIES if name not in DRAWERS] + ["pix2pix:gray", "bicyclegan:sketch"]:
        found = STRATEGIES[name](mobile, image, budget=Budget(steps=5))
        method, steps = ("hyper+tune" if name == "auto" else name), (1 if name.endswith(":sketch") else 5)
        assert (found.method, found.steps, found.family) == (method, steps, "mobilestylegan-1024")
        assert found.generator_sha256 == mobile.provenance.sha256 and found.threads > 0
        assert found.metrics["l2"] < 0.35 and 0 < found.metrics["ms_ssim"] < 1
        assert bool(found.features) == (name in ("hyper", "hyper+tune", "tune", "auto")) and not found.deltas
        in_w = bool((found.ws - found.ws[:, :1]).abs().max() < 1e-4)
        assert in_w == (name == "pivot")
        assert 0 < found.metrics["whitened_square"] <= 2
    assert tensors_sha256(mobile.state()) == before


@pytest.mark.weights
def test_locality_targets_keep_the_photo_where_an_edit_changes_nothing(mobile):
    ws = broadcast(mobile, mobile.w_avg[None])
    with torch.no_grad():
        rendered = mobile.synthesis(ws)
    photo = (rendered + 0.2).clamp(-1, 1)
    moves = tuning.locality(mobile, ws, photo, replace(tuning.TUNE, edits=(("smile", 2.0),)))
    ((move, goal),) = moves
    assert move.shape == ws.shape and move.abs().max() > 0
    at256 = [area_resize(picture, 256)[0] for picture in (photo, rendered, mobile.synthesis(ws + move))]
    target = goal.pyramid[0][0]

    def nearer(place, first, second):
        distances = [(target[place] - at256[index][place]).abs().mean() for index in (first, second)]
        return distances[0] < 0.6 * distances[1]

    corner, mouth = (slice(None), slice(0, 12), slice(0, 12)), (slice(None), slice(172, 188), slice(116, 140))
    assert nearer(corner, 0, 1)  # background: the photo's own brightness
    assert nearer(mouth, 2, 1) and nearer(mouth, 2, 0)  # the mouth: what the untuned generator renders there


def test_the_residual_is_fitted_to_pixels_alone():
    """With the identity loss it drew patterns on the skin that the identity network likes and people do not."""
    assert residual.SEEN.identity == residual.SEEN.perceptual == 0


def test_auto_takes_what_the_seconds_allow(monkeypatch):
    monkeypatch.setattr(hypering, "render_seconds", lambda *_: 0.2)
    asked = {}
    for name in ("encoder", "hyper", "hyper_tune"):
        monkeypatch.setattr(hypering, name, lambda *_, budget, name=name, **__: asked.update({name: budget}))
    for seconds in (2.5, 2.7, 15):
        hypering.auto(None, None, budget=Budget(seconds=seconds))
    hypering.auto(None, None, budget=Budget(steps=9))
    assert asked == {"encoder": Budget(), "hyper": Budget(), "hyper_tune": Budget(steps=9)}
    hypering.auto(None, None, budget=Budget(seconds=15))
    assert asked["hyper_tune"] == Budget(seconds=15)
    hypering.auto(None, None)
    assert asked["hyper_tune"] == Budget()


@pytest.mark.weights
@pytest.mark.parametrize("method", ["hyper", "hyper+tune", "tune", "auto"])
def test_cancelling_half_way_leaves_the_generator_as_it_was(mobile, generated, method):
    before = tensors_sha256(mobile.state())
    for share in (0.2, 0.9):  # on previews, and in the residual
        with pytest.raises(Cancelled):
            STRATEGIES[method](
                mobile,
                to_float(generated(5)),
                budget=Budget(steps=5),
                callback=lambda step, total, _: step < share * total,  # noqa: B023
            )
    assert tensors_sha256(mobile.state()) == before


@pytest.mark.parametrize("method", ["hyper", "hyper+tune"])
def test_a_generator_without_an_encoder_is_told_so(tiny, target, method):
    with pytest.raises(WplusError, match="use another method"):
        STRATEGIES[method](tiny, target)
