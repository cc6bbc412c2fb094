"""InstaGAN: figures of the reference code, sets whatever their order, passes, losses against formulas, training."""

import weakref

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from editing.translation import checkpoints, fit
from editing.translation.losses import adversarial
from editing.translation.networks import SetDiscriminator, SetGenerator
from editing.translation.networks.instagan import SpectralConv, one_after_another, united
from editing.translation.systems import SYSTEMS, Settings
from editing.translation.systems.instagan import context_loss
from stylegan2.errors import CheckpointError
from tests.editing.translation.toyscenes import BLUE


def seeded(make, seed=0):
    torch.manual_seed(seed)
    return make().eval().requires_grad_(False)


def blobs(count=4, size=32, empty=()):
    """A picture and masks (1, N, size, size) of -1 and 1, each smaller than the one before."""
    rng = torch.Generator().manual_seed(3)
    masks = -torch.ones(1, count, size, size)
    for index in set(range(count)) - set(empty):
        masks[0, index, 2 * index : size - 4 - index, index : size - 8 - index] = 1
    return torch.rand(1, 3, size, size, generator=rng) * 2 - 1, masks


def settled(network, x, calls=200):
    for _ in range(calls):
        network(x)
    return network


# ---- networks


@pytest.mark.parametrize(
    "name,kind,outputs",
    [
        ("instagan_g_set", SetGenerator, ["output"]),
        ("instagan_d_set", SetDiscriminator, ["output_first", "output_second"]),
    ],
)
def test_published_files_give_the_recorded_figures(golden, tmp_path, name, kind, outputs):
    figures = golden(name)
    torch.save(figures.state(), tmp_path / "latest_net.pth", _use_new_zipfile_serialization=False)
    network = checkpoints.load(tmp_path / "latest_net.pth")
    assert type(network) is kind and not network.training
    masks = torch.where(figures.inputs["seg_grid"] > 0, 1.0, -1.0).repeat_interleave(16, 2).repeat_interleave(16, 3)
    masks[:, 1] = -1
    x = torch.cat([figures.inputs["image"], masks], 1)
    for output in outputs:
        figures.check(output, network(x))  # the discriminator's norms move with every call


def test_as_many_tensors_and_numbers_as_published():
    with torch.device("meta"):
        states = [network.state_dict() for network in (SetGenerator(), SetDiscriminator())]
    counted = [(len(state), sum(tensor.numel() for tensor in state.values())) for state in states]
    assert counted == [(96, 26_815_108), (32, 9_754_434)]
    assert states[0]["encoder_seg.1.weight"].shape == (64, 1, 7, 7)


def test_instances_in_another_order_come_out_in_that_order():
    network, (picture, masks) = seeded(lambda: SetGenerator(3, 3, 2, 4)), blobs(5, empty=[2])
    order = torch.tensor([3, 2, 0, 4, 1])
    plain = network(torch.cat([picture, masks], 1))
    turned = network(torch.cat([picture, masks[:, order]], 1))
    torch.testing.assert_close(turned[:, :3], plain[:, :3])
    torch.testing.assert_close(turned[:, 3:], plain[:, 3:][:, order])
    assert not torch.allclose(plain[:, 3], plain[:, 4], atol=1e-2)  # instances differ
    assert torch.equal(plain[:, 5], masks[:, 2])  # what is empty is passed through, and adds nothing
    without = network(torch.cat([picture, masks[:, [0, 1, 3, 4]]], 1))
    torch.testing.assert_close(without[:, :3], plain[:, :3])
    fewer = network(torch.cat([picture, masks[:, :3]], 1))
    assert not torch.allclose(fewer[:, :3], plain[:, :3], atol=1e-2)  # the others do


def test_a_batch_is_its_pictures_one_by_one_and_an_empty_set_is_its_first():
    network, (picture, masks) = seeded(lambda: SetGenerator(3, 3, 1, 4)), blobs(2)
    x = torch.cat([picture, masks], 1)
    other = torch.cat([picture.flip(3), masks[:, :1], -torch.ones(1, 1, 32, 32)], 1)
    torch.testing.assert_close(network(torch.cat([x, other])), torch.cat([network(x), network(other)]))
    nothing = network(torch.cat([picture, -torch.ones(1, 2, 32, 32)], 1))
    assert (nothing[:, 3] > -1).any() and (nothing[:, 4] == -1).all()


def test_the_discriminators_score_knows_no_order():
    network, (picture, masks) = seeded(lambda: SetDiscriminator(3, 4)), blobs(4, empty=[1])
    settled(network, torch.cat([picture, masks], 1))
    plain = network(torch.cat([picture, masks], 1))
    torch.testing.assert_close(network(torch.cat([picture, masks[:, [3, 1, 2, 0]]], 1)), plain, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(network(torch.cat([picture, masks[:, :3]], 1)), plain, atol=1e-3)


def test_spectral_norms_find_the_largest_singular_value_in_evaluation_and_learn_no_vectors():
    torch.manual_seed(0)
    layer = SpectralConv(3, 8, 2).eval()
    x = torch.randn(1, 3, 8, 8)
    first = layer(x)
    kept = layer.module
    assert not torch.equal(layer(x), first)
    settled(layer, x)
    sigma = torch.linalg.svdvals(kept.weight_bar.flatten(1))[0]
    torch.testing.assert_close(layer(x), F.conv2d(x, kept.weight_bar / sigma, kept.bias, 2, 1), rtol=1e-3, atol=1e-4)
    network = SetDiscriminator(3, 4).requires_grad_(False).requires_grad_(True)
    learnt = {name.rsplit(".")[-1] for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert learnt == {"weight_bar", "bias"}


@pytest.mark.parametrize("make", [lambda: SetGenerator(1, 1, 2, 4), lambda: SetDiscriminator(1, 4)])
def test_what_is_written_is_read_back(tmp_path, make):
    network, (picture, masks) = seeded(make), blobs()
    x = torch.cat([picture[:, : network.inputs], masks], 1)
    torch.save({f"module.{k}": v for k, v in network.state_dict().items()}, tmp_path / "net.pth")
    checkpoints.save(network, tmp_path / "net.safetensors")
    again = [checkpoints.load(tmp_path / name) for name in ("net.pth", "net.safetensors")]
    expected = network(x)
    for other in again:
        assert type(other) is type(network) and not any(p.requires_grad for p in other.parameters())
        torch.testing.assert_close(other(x), expected)


def test_damaged_files_are_one_sentence(tmp_path):
    whole = seeded(lambda: SetGenerator(3, 3, 1, 4)).state_dict()
    judge = seeded(lambda: SetDiscriminator(3, 4)).state_dict()
    for content, words in (
        ({k: v for k, v in whole.items() if k != "decoder_seg.7.bias"}, "lacks"),
        ({k: v for k, v in whole.items() if k != "decoder_img.7.weight"}, "decoder_img.7.weight"),
        (whole | {"encoder_seg.1.weight": torch.zeros(4, 2, 7, 7)}, "encoder_seg.1.weight"),
        (seeded(lambda: SetGenerator(3, 1, 1, 4)).state_dict(), "from 3 channels to 1, not to as many"),
        (whole | {"encoder_img.1.weight": torch.zeros(4)}, "axes"),
        (whole | {f"encoder_img.{n}.conv_block.1.weight": torch.zeros(1) for n in range(10, 1100)}, "more layers"),
        (judge | {"feature_img.0.module.weight_bar": torch.zeros(1).expand(10**6, 3, 4, 4)}, "shape"),
        ({k: v for k, v in judge.items() if k != "classifier.0.module.weight_u"}, "weight_u"),
    ):
        torch.save(content, tmp_path / "net.pth")
        with pytest.raises(CheckpointError, match=words) as caught:
            checkpoints.load(tmp_path / "net.pth")
        assert "\n" not in str(caught.value)
    torch.save(judge, tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match="draws nothing"):
        checkpoints.load_generator(tmp_path / "net.pth")


def test_instances_go_two_at_a_time_the_largest_first_each_on_the_picture_before():
    network, (picture, masks) = seeded(lambda: SetGenerator(3, 3, 1, 4)), blobs(6, empty=[1])
    order, seen = [4, 0, 5, 3, 1, 2], []  # the order they are given in
    network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    drawn, after = one_after_another(network, picture, masks[:, order])
    assert [x.shape[1] for x in seen] == [5, 5, 4 + 1]
    expected, x, found = list(seen), picture, -torch.ones_like(masks)
    for number, chosen in enumerate(([0, 2], [3, 4], [5, 1])):
        torch.testing.assert_close(expected[number], torch.cat([x, masks[:, chosen]], 1))
        y = network(torch.cat([x, masks[:, chosen]], 1))
        x, found[:, chosen] = y[:, :3], y[:, 3:]
    torch.testing.assert_close(drawn, x)
    torch.testing.assert_close(after, found[:, order])
    seen.clear()
    one_after_another(network, picture, torch.cat([masks[:, :1], -torch.ones(1, 5, 32, 32)], 1))
    assert len(seen) == 1  # passes without anything are left out


# ---- training


def test_the_context_loss_is_what_changes_outside_all_masks():
    picture, masks = blobs(2)
    drawn = -torch.ones_like(masks)
    drawn[0, 0, 28:, 28:] = 1
    inside = united(torch.cat([masks, drawn], 1)).expand(-1, 3, -1, -1) > 0
    noise = torch.randn(1, 3, 32, 32)
    assert context_loss(picture, picture + noise * inside, masks, drawn) == 0
    assert context_loss(picture, picture, masks, drawn) == 0
    one = torch.zeros(1, 3, 32, 32)
    one[0, 1, 0, 31] = 0.5  # a pixel of no mask
    assert context_loss(picture, picture + one, masks, drawn).item() == pytest.approx(0.5 / (3 * 32 * 32), rel=1e-3)
    half = torch.zeros(1, 1, 32, 32)  # a mask of 0 is half there
    assert context_loss(one, one + 1, half, -torch.ones_like(half)).item() == pytest.approx(0.5)


def whole_batch(most=4):
    pairs = [blobs(most) for _ in range(2)]
    return {
        "a": pairs[0][0],
        "a_masks": pairs[0][1],
        "b": pairs[1][0].flip(2),
        "b_masks": pairs[1][1].flip(2),
    }


def system_of(most=4, width=4, batch=1, rate=0.0):
    kind = type("Small", (SYSTEMS["instagan"],), {"blocks": 1, "most": most})
    return kind(Settings(32, 100, batch, rate, width))


def test_losses_are_their_formulas():
    system, batch, totals = system_of(most=2), whole_batch(2), {}
    before = {name: {k: v.clone() for k, v in n.state_dict().items()} for name, n in system.networks.items()}
    system.descend = lambda names, loss, rate: totals.setdefault(names, loss.item())  # and nothing moves
    found = system.step(batch, 1.0, np.random.default_rng(0))
    for name, network in system.networks.items():
        network.load_state_dict(before[name])
    to_b, to_a, judge_b, judge_a = (system.networks[n] for n in ("G_A", "G_B", "D_A", "D_B"))
    a, b = (torch.cat([batch[n], batch[f"{n}_masks"]], 1) for n in "ab")
    with torch.no_grad():
        fake_b, fake_a = to_b(a), to_a(b)
        expected = {
            "G_gan": adversarial(judge_b(fake_b), True, "lsgan") + adversarial(judge_a(fake_a), True, "lsgan"),
            "cycle": (to_a(fake_b) - a).abs().mean() + (to_b(fake_a) - b).abs().mean(),
            "identity": (to_a(a) - a).abs().mean() + (to_b(b) - b).abs().mean(),
            "context": sum(
                ((1 - united(torch.cat([x[:, 3:], y[:, 3:]], 1))) * (x - y)[:, :3].abs()).mean()
                for x, y in ((a, fake_b), (b, fake_a))
            ),
            "D_A": ((judge_b(b) - 1).square().mean() + judge_b(fake_b).square().mean()) / 2,
            "D_B": ((judge_a(a) - 1).square().mean() + judge_a(fake_a).square().mean()) / 2,
        }
    assert found == pytest.approx({name: value.item() for name, value in expected.items()}, rel=1e-4)
    weighted = found["G_gan"] + 10 * (found["cycle"] + found["identity"] + found["context"])
    assert totals == pytest.approx({"G_A+G_B": weighted, "D_A+D_B": found["D_A"] + found["D_B"]}, rel=1e-4)


def test_more_instances_keep_no_more_of_the_graph_and_go_on_from_the_picture_before():
    system, batch, live, seen, judged = system_of(most=6), whole_batch(6), weakref.WeakSet(), [], []
    inputs, outputs, learning, real = [], [], [], system.descend

    class Kept:
        def __init__(self, tensor):
            self.tensor = tensor
            live.add(self)

    def descend(names, loss, rate):
        seen.append((names, sum(kept.tensor.numel() for kept in live)))
        taught = any(p.requires_grad for name in ("D_A", "D_B") for p in system.networks[name].parameters())
        assert taught == names.startswith("D")
        real(names, loss, rate)

    def hook(network, x, y):
        inputs.append(x[0].detach())
        outputs.append(y.detach())
        learning.append(x[0].requires_grad)

    system.descend = descend
    system.networks["G_A"].register_forward_hook(hook)
    system.networks["D_A"].register_forward_pre_hook(lambda _, x: judged.append(x[0].detach()))
    with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.tensor):
        system.step(batch, 1.0, np.random.default_rng(0))
    sizes = [size for names, size in seen if names == "G_A+G_B"]
    assert len(sizes) == 3 and max(sizes) < 1.05 * min(sizes)  # the rest: what the judge makes of earlier masks
    starts = inputs[::3]  # a pass: there, then as `back` of the other way, once on its fake and once on its input
    assert len(starts) == 3 and torch.equal(starts[0][:, :3], batch["a"])
    for number in (1, 2):
        before = outputs[3 * (number - 1)]
        assert torch.equal(starts[number][:, :3], before[:, :3])
        assert torch.equal(starts[number][:, 3:], batch["a_masks"][:, 2 * number : 2 * number + 2])
    assert learning == [False, True, False] * 3
    views = judged[::3]  # of the generator's loss, in every pass
    for number, view in enumerate(views):
        translated = [outputs[3 * k][:, 3:] for k in range(number + 1)]
        assert torch.equal(view[:, 3 : 5 + 2 * number], torch.cat(translated, 1))
        assert view.shape == (1, 9, 32, 32) and (view[:, 5 + 2 * number :] == -1).all()


def test_passes_without_instances_are_left_out():
    system, batch, moved = system_of(), whole_batch(), []
    batch["a_masks"][:, 1:] = -1
    batch["b_masks"][:] = -1
    real = system.descend
    system.descend = lambda names, loss, rate: (moved.append(names), real(names, loss, rate))
    found = system.step(batch, 1.0, np.random.default_rng(0))
    assert moved == ["G_A+G_B", "D_A+D_B"] and "D_B" not in found and set(found) < set(system.losses)
    batch["a_masks"][:] = -1
    assert system.step(batch, 1.0, np.random.default_rng(0)) == {}


def test_pictures_of_a_batch_go_their_own_ways():
    both, alone = whole_batch(), whole_batch()
    for key in both:
        both[key] = torch.cat([both[key], both[key].flip(3)])
    both["a_masks"][1, 2:] = -1  # nothing left of the second in the second pass
    found = []
    for batch in (both, {k: v[:1] for k, v in both.items()}):
        system, inputs = system_of(batch=len(batch["a"])), []
        system.descend = lambda names, loss, rate: None
        system.networks["G_A"].register_forward_pre_hook(lambda _, x, kept=inputs: kept.append(x[0].detach()))
        system.step(batch, 1.0, np.random.default_rng(0))
        found.append(inputs)
    assert len(found[0]) == len(found[1]) == 6 and len(alone["a"]) == 1
    assert [len(x) for x in found[0]] == [2, 2, 2, 1, 2, 2]
    for pair in (0, 3):
        torch.testing.assert_close(found[0][pair][:1], found[1][pair])


def distances(network, source):
    """On pictures of a, inside their masks to blue, before and after; outside between the two; between masks."""
    batch, blue, found = source.batch(0, 4, 32, 9), torch.tensor(BLUE).view(3, 1) / 127.5 - 1, []
    for picture, masks in zip(batch["a"].split(1), batch["a_masks"].split(1), strict=True):
        with torch.no_grad():
            drawn, shapes = one_after_another(network, picture, masks)
        inside = united(masks)[0, 0] > 0.5
        colours = [(x[0][:, inside] - blue).abs().mean().item() for x in (picture, drawn)]
        found.append([*colours, (drawn - picture)[0][:, ~inside].abs().mean(), (shapes - masks).abs().mean()])
    return np.mean(found, 0)


def test_red_squares_become_blue_and_the_rest_stays(tmp_path, folders, monkeypatch):
    monkeypatch.setattr(SYSTEMS["instagan"], "blocks", 1)
    source, out = SYSTEMS["instagan"].source(*folders), tmp_path / "run"
    fit.fit("instagan", source, out, Settings(32, 60, 1, 2e-3, 8, 0))
    red, became, rest, shape = distances(checkpoints.load_generator(fit.file_of(out, "G_A")), source)
    assert became < 0.45 * red and rest < 0.15 and shape < 0.3
    assert all(fit.file_of(out, name).exists() for name in ("G_A", "G_B", "D_A", "D_B"))
    assert isinstance(checkpoints.load(fit.file_of(out, "D_A")), SetDiscriminator)


def test_the_discriminators_teach_blue_alone(folders):
    """Without the other losses, which show a generator its own domain: gray, as it begins, is 0.7 away."""
    source, system = SYSTEMS["instagan"].source(*folders), system_of(most=2, width=8, rate=2e-3)
    system.cycle = 0.0
    for number in range(45):
        system.step(source.batch(number, 1, 32, 0), 1.0, np.random.default_rng(number))
    assert distances(system.networks["G_A"], source)[1] < 0.5
