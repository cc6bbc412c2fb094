"""Losses against their formulas, and trainings: they learn, go on after a kill, and are no other run's."""

import csv
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from editing.translation import captioned, checkpoints, data, fit
from editing.translation.losses import Pool, adversarial, gradient_penalty, initialise, rate
from editing.translation.networks import PatchGAN, UnetGenerator
from editing.translation.networks.norms import own_statistics
from editing.translation.systems import SYSTEMS, Settings
from editing.translation.systems.gigagan import GigaGAN
from editing.translation.systems.gigagan_upsampler import GigaGANUpsampler
from editing.translation.systems.lostgans import LostGAN
from editing.translation.systems.spade import SpadePlain
from encoders import sentence
from stylegan2.errors import UsageError
from tests.editing.translation.test_captioned import painted, toy_encode
from tests.editing.translation.toywords import Fake


def test_adversarial_losses_are_their_formulas():
    logits = torch.tensor([[-1.0, 0.5, 3.0]])
    assert adversarial(logits, True, "lsgan") == pytest.approx(((logits - 1) ** 2).mean().item())
    assert adversarial(logits, False, "lsgan") == pytest.approx((logits**2).mean().item())
    assert adversarial(logits, True, "vanilla") == pytest.approx(F.softplus(-logits).mean().item())
    assert adversarial(logits, False, "vanilla") == pytest.approx(F.softplus(logits).mean().item())
    assert adversarial([logits, logits], True, "lsgan") == pytest.approx(2 * ((logits - 1) ** 2).mean().item())


def test_gradient_penalty_of_a_linear_critic():
    slope = torch.randn(3, 4, 4)
    x = torch.randn(5, 3, 4, 4)
    found = gradient_penalty(lambda y: (y * slope).sum((1, 2, 3)), x, -x, torch.rand(5))
    assert found.item() == pytest.approx((slope.norm().item() - 1) ** 2, rel=1e-5)


def test_the_pool_gives_new_ones_until_full_and_then_every_second_time_an_old_one():
    pool, rng = Pool(50), np.random.default_rng(0)
    numbers = [pool.swap(torch.full((1, 1, 1, 1), float(n)), rng).item() for n in range(1050)]
    assert numbers[:50] == list(range(50))
    old = [n for n, got in enumerate(numbers) if got != n]
    assert 400 < len(old) < 600 and len(pool.kept) == 50
    assert Pool(0).swap(torch.ones(2, 1, 1, 1), rng).sum() == 2


def test_initialisation_and_rate():
    network = initialise(UnetGenerator(3, 3, 64, 16), "normal", 0)
    weights = torch.cat([p.flatten() for n, p in network.named_parameters() if p.ndim == 4])
    assert weights.std().item() == pytest.approx(0.02, rel=0.01)
    scales = torch.cat([m.weight for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)])
    assert scales.mean().item() == pytest.approx(1, abs=0.01) and scales.std().item() == pytest.approx(0.02, rel=0.2)
    conv = initialise(torch.nn.Conv2d(8, 24, 5), "xavier", 0).weight
    assert conv.std().item() == pytest.approx(0.02 * (2 / (8 * 25 + 24 * 25)) ** 0.5, rel=0.05)
    again = initialise(UnetGenerator(3, 3, 64, 16), "normal", 0)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))
    assert [rate(seen, 100) for seen in (0, 50, 75, 100)] == [1, 1, 0.5, 0]


# ---- trainings


def stripes(folder, count, colour, size=48, seed=0):
    """Pictures of one colour with a random brightness."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for index in range(count):
        level = rng.uniform(0.3, 1)
        Image.new("RGB", (size, size), tuple(int(level * c) for c in colour)).save(folder / f"{index:02d}.png")
    return folder


GANS = ("gan", "gan-cls", "gan-int", "gan-int-cls")


@pytest.fixture
def folders(tmp_path):
    return stripes(tmp_path / "a", 8, (200, 60, 60)), stripes(tmp_path / "b", 8, (60, 60, 200))


@pytest.fixture
def labelled(tmp_path):
    stripes(tmp_path / "faces", 6, (200, 60, 60))
    for index in range(6):
        Image.new("RGB", (48, 48), (60, 60, 200)).save(tmp_path / "faces" / f"x{index}.png")
    rows = [f"{index:02d}.png,1,0" for index in range(6)] + [f"x{index}.png,0,1" for index in range(6)]
    (tmp_path / "labels.csv").write_text("file,red,blue\n" + "\n".join(rows) + "\n")
    return data.labelled(tmp_path / "faces", tmp_path / "labels.csv")


@pytest.fixture(autouse=True)
def no_weights_are_needed(monkeypatch):
    monkeypatch.setattr(SpadePlain, "perceptual", 0.0)
    monkeypatch.setattr(LostGAN, "perceptual", 0.0)
    monkeypatch.setattr(captioned, "encode", toy_encode)
    monkeypatch.setattr(sentence, "load", Fake)
    monkeypatch.setattr(GigaGAN, "vision", 0.0)
    monkeypatch.setattr(GigaGANUpsampler, "perceptual", 0.0)


def label_maps(folder, count=8, size=48):
    """Maps of two classes, left and right."""
    folder.mkdir()
    for index in range(count):
        pixels = np.zeros((size, size), np.uint8)
        pixels[:, 10 + index :] = 1
        Image.fromarray(pixels).save(folder / f"{index:02d}.png")
    return folder


def layout_table(folder):
    """Two objects in every picture of a folder."""
    entries = [{"class": "sky", "box": [0, 0, 1, 0.4]}, {"class": "sea", "box": [0.2, 0.5, 0.6, 0.5]}]
    content = {"classes": ["sky", "sea"], "pictures": {path.name: entries for path in sorted(folder.glob("*.png"))}}
    (folder / "layouts.json").write_text(json.dumps(content))
    return folder / "layouts.json"


def source_of(name, folders, labelled):
    if SYSTEMS[name].data == "captions":
        return SYSTEMS[name].source(painted(folders[0].parent / "captioned"))
    if SYSTEMS[name].data == "pictures":
        return SYSTEMS[name].source(folders[0])
    if SYSTEMS[name].data == "layouts":
        return SYSTEMS[name].source(folders[0], labels=layout_table(folders[0]))
    if SYSTEMS[name].data == "maps":
        return SYSTEMS[name].source(label_maps(folders[0].parent / "maps"), folders[1])
    for folder in folders if SYSTEMS[name].data == "instances" else ():
        for path in sorted(folder.glob("[0-9]*.png")):
            Image.new("L", (24, 30), 255).crop((-9, -9, 39, 39)).save(path.with_name(f"{path.stem}.mask0.png"))
    return labelled if SYSTEMS[name].data == "labelled" else SYSTEMS[name].source(*folders)


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_system_trains_goes_on_and_draws(tmp_path, name, folders, labelled):
    source, out = source_of(name, folders, labelled), tmp_path / "run"
    sizes = {"bicyclegan": 128, "spade": 64, "spade-plain": 64, "lostgans": 64} | dict.fromkeys(GANS, 64)
    size = sizes.get(name, 32)
    settings = Settings(size, 24, 4 if name == "bicyclegan" else 2, 0.0, 4, 3)
    said = []
    stopped = fit.fit(name, source, out, settings, until=0.0, report=lambda *row: said.append(row))  # one step
    count = settings.batch
    assert said[0][0] == count and json.loads((out / "seen.json").read_text())["seen"] == count
    before = {k: n.state_dict() for k, n in stopped.networks.items()}
    stored = {k: checkpoints.load(fit.file_of(out, k)).state_dict() for k in before}
    for key, state in before.items():
        for tensor in state:
            if "num_batches" not in tensor:
                torch.testing.assert_close(stored[key][tensor], state[tensor], rtol=1e-3, atol=1e-3)
    system = fit.fit(name, source, out, settings, report=lambda *row: said.append(row))
    assert said[-1][0] == 24 and json.loads((out / "seen.json").read_text())["seen"] == 24
    rows = list(csv.reader((out / "losses.csv").read_text().splitlines()))
    assert rows[0][0] == "seen" and [row[0] for row in rows[1:]] == [str(count), "24"]
    with Image.open(out / "grid.jpg") as grid:
        assert grid.height == fit.SHOWN * size and grid.width % size == 0
    moved = [not torch.equal(p, before[k][n]) for k, net in system.networks.items() for n, p in net.named_parameters()]
    assert sum(moved) > 0.8 * len(moved)  # every network learns
    with pytest.raises(UsageError, match="other settings"):
        fit.fit(name, source, out, Settings(size, 30, count, 0.0, 4, 3))


def test_pix2pix_and_rbdn_learn_a_colour(tmp_path, folders):
    """Red goes in, blue should come out: after a few hundred steps it does."""
    source = data.paired(*folders)
    for name, images, rate_ in (("pix2pix", 500, 2e-3), ("rbdn", 800, 3e-3)):
        fit.fit(name, source, tmp_path / name, Settings(32, images, 4, rate_, 8, 0))
        network = checkpoints.load(fit.file_of(tmp_path / name, "G"))
        network = own_statistics(network) if name == "pix2pix" else network
        tensors = data.batch(source, 0, 8, 32, 5)
        with torch.no_grad():
            error = F.l1_loss(network(tensors["a"]), tensors["b"]).item()
        assert error < 0.35 * F.l1_loss(tensors["a"], tensors["b"]).item(), name


def test_statistics_settle_on_the_mean_of_many_batches(tmp_path, folders):
    source, settings = data.paired(*folders), Settings(32, 8, 2, 0.0, 4)
    system = fit.fit("rbdn", source, tmp_path / "run", settings)
    norm, seen = system.networks["G"].conv1.norm, []
    hook = norm.register_forward_hook(lambda module, inputs, _: seen.append(inputs[0].mean((0, 2, 3))))
    with torch.no_grad():
        for number in range(system.settled):
            system.networks["G"](data.batch(source, number, 2, 32, 0)["a"])
    hook.remove()
    stored = checkpoints.load(fit.file_of(tmp_path / "run", "G"))
    torch.testing.assert_close(stored.conv1.norm.running_mean, torch.stack(seen).mean(0), rtol=1e-2, atol=1e-3)


def test_looking_at_a_grid_does_not_change_the_training(tmp_path, folders):
    source = data.paired(*folders)
    system = fit.fit("pix2pix", source, tmp_path / "run", Settings(32, 4, 2, 0.0, 4))
    state, before = torch.random.get_rng_state(), {n: t.clone() for n, t in system.networks["G"].state_dict().items()}
    fit.grid(system, source, tmp_path / "grid.jpg")
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(t, before[n]) for n, t in system.networks["G"].state_dict().items())


def test_losses_that_are_no_numbers_stop_a_run(tmp_path, folders):
    with pytest.raises(UsageError, match="smaller --rate"):
        fit.fit("rbdn", data.paired(*folders), tmp_path / "run", Settings(32, 4000, 2, 1e18, 4))


def test_stargan_updates_its_generator_every_fifth_step(labelled):
    system = SYSTEMS["stargan"](Settings(32, 100, 2, 0.0, 4), 2)
    seen = []
    for number in range(10):
        tensors = data.batch(labelled, number, 2, 32, 0)
        seen.append("G_gan" in system.step(tensors, 1.0, np.random.default_rng(number)))
    assert [n for n, drawn in enumerate(seen) if drawn] == [4, 9]


def test_a_run_in_pieces_still_trains_stargans_generator(tmp_path, labelled):
    settings, out = Settings(32, 14, 2, 0.0, 4), tmp_path / "run"
    for _ in range(7):
        system = fit.fit("stargan", labelled, out, settings, until=0.0)
    first, weights = SYSTEMS["stargan"](settings, 2).networks["G"].state_dict(), system.networks["G"].state_dict()
    assert any(not torch.equal(weights[name], first[name].half().float()) for name in first if "weight" in name)
    rows = list(csv.reader((out / "losses.csv").read_text().splitlines()))
    assert len({len(row) for row in rows}) == 1 and [row[0] for row in rows[1:]] == [str(n) for n in range(2, 15, 2)]
    (out / "losses.csv").write_text((out / "losses.csv").read_text() + "400,1,1,1,1,1,1\n")  # a kill before the state
    fit.fit("stargan", labelled, out, settings, until=0.0)
    assert "400" not in (out / "losses.csv").read_text()


@pytest.mark.parametrize(
    "name,settings,words",
    [
        ("pix2pix", Settings(100), "a power of two from 32 pixels on, not 100"),
        ("bicyclegan", Settings(64), "from 128"),
        ("bicyclegan", Settings(128, batch=3), "even"),
        ("rbdn", Settings(100), "a multiple of 16"),
        ("cyclegan", Settings(16), "from 32"),
        ("stargan", Settings(66), "a multiple of 32"),
        ("spade", Settings(32), "from 64"),
        ("lostgans", Settings(100), "at 64, 128, 256 pixels, not 100"),
        ("gan-cls", Settings(32), "at 64 pixels, not 32"),
        ("gigagan", Settings(32, batch=1), "2 pictures or more"),
        ("gigagan-upsampler", Settings(512), "up to 256"),
    ],
)
def test_sizes_that_cannot_work_are_refused_and_leave_nothing(tmp_path, folders, labelled, name, settings, words):
    with pytest.raises(UsageError, match=words):
        fit.fit(name, source_of(name, folders, labelled), tmp_path / "run", settings)
    assert not (tmp_path / "run").exists()


def test_what_a_system_does_not_look_at_is_refused(folders):
    for name, b, labels in (("pix2pix", folders[1], folders[0]), ("cyclegan", folders[1], folders[0])):
        with pytest.raises(UsageError, match="leave --labels out"):
            SYSTEMS[name].source(folders[0], b, labels)
    with pytest.raises(UsageError, match="leave --b out"):
        SYSTEMS["stargan"].source(*folders)


def test_a_state_that_could_not_be_read_back_is_not_written(tmp_path, folders):
    source, settings, out = data.paired(*folders), Settings(32, 8, 2, 0.0, 4), tmp_path / "run"
    system = fit.fit("pix2pix", source, out, settings, until=0.0)
    before = fit.file_of(out, "G").read_bytes()
    next(m for m in system.networks["D"].modules() if isinstance(m, torch.nn.BatchNorm2d)).running_var.fill_(1e5)
    with pytest.raises(checkpoints.CheckpointError, match="float16"):
        fit.write(system, out, 4, source)
    assert fit.file_of(out, "G").read_bytes() == before
    with pytest.raises(UsageError, match="other settings or pictures"):
        fit.fit("pix2pix", data.paired(*(stripes(tmp_path / n, 5, (9, 9, 9)) for n in "xy")), out, settings)


def test_bicyclegan_reads_codes_back_without_teaching_the_encoder(folders):
    system = SYSTEMS["bicyclegan"](Settings(128, 100, 2, 0.0, 4))
    system.l1 = system.kl = 0.0
    encoder = system.networks["E"]
    with torch.no_grad():  # a variance that does not reach the generator: only the latent loss could move the encoder
        for name, parameter in system.networks["G"].named_parameters():
            if name.endswith("down.0.weight"):
                parameter[:, 3:] = 0
            elif ".down.1.weight" in name:
                parameter[:, -8:] = 0
    before = [p.clone() for p in encoder.parameters()]
    tensors = data.batch(data.paired(*folders), 0, 2, 128, 0)
    losses = system.step(tensors, 1.0, np.random.default_rng(0))
    assert losses["z_l1"] > 0
    assert all(torch.equal(a, b) for a, b in zip(before, encoder.parameters(), strict=True))
    with pytest.raises(ValueError, match="even"):
        system.step({k: t[:1] for k, t in tensors.items()}, 1.0, np.random.default_rng(0))


def test_discriminators_do_not_learn_from_the_generators_loss(folders):
    system = SYSTEMS["pix2pix"](Settings(32, 100, 2, 0.0, 4))
    tensors = data.batch(data.paired(*folders), 0, 2, 32, 0)
    system.step(tensors, 0.0, np.random.default_rng(0))
    assert all(p.grad is None or p.requires_grad is False for p in system.networks["D"].parameters())
    assert isinstance(system.networks["D"], PatchGAN)
