"""The mapper that ships: what is asked for moves, nothing asked is nothing moved, and bad files are one sentence."""

import pytest
import torch
from safetensors.torch import save_file

from editing.judges.judge import NAMES
from editing.text import mapper as mapping
from editing.text.mapper import Network, wish
from stylegan2 import engine
from stylegan2.errors import UsageError, WplusError


@pytest.fixture(scope="module")
def mapper():
    return mapping.load()


@pytest.fixture(scope="module")
def ws(mobile):
    return engine.broadcast(mobile, engine.latents(mobile, [5], 0.7))


def test_nothing_wanted_is_nothing_moved(mapper, ws):
    assert torch.equal(mapper(ws, {}), ws)
    assert torch.equal(mapper(ws, {"smiling": 1.0}, strength=0), ws)


def test_strength_is_a_factor(mapper, ws):
    one, half = (mapper(ws, {"older": 1.0}, s) - ws for s in (1.0, 0.5))
    assert one.norm() > 1 and torch.allclose(half, one / 2, atol=1e-5)


def test_opposites_go_apart(mapper, ws):
    for a, b in (("older", "younger"), ("smiling", "serious"), ("blond", "dark_hair"), ("turn_left", "turn_right")):
        there, back = (mapper(ws, {name: 1.0}) - ws for name in (a, b))
        assert torch.cosine_similarity(there.flatten(), back.flatten(), dim=0) < -0.3, a


def test_more_is_asked_for_more(mapper, ws):
    little, much = (mapper.amounts(ws, {"smiling": amount}).abs().sum() for amount in (0.4, 1.6))
    assert much > 1.5 * little


def test_codes_of_more_rows_and_of_other_generators(mapper, ws):
    assert mapper(torch.cat([ws, ws[:, -2:]], 1), {"older": 1.0}).shape == (1, ws.shape[1] + 2, 512)
    with pytest.raises(UsageError, match="16 rows or more of 512"):
        mapper(torch.zeros(1, 4, 64), {"older": 1.0})


def test_an_age_is_a_distance_from_the_age_now():
    now = torch.zeros(2, len(NAMES))
    now[1, NAMES.index("age")] = 1.0
    change, named = wish(now, {}, age=31.5435 + 2 * 13.5855)
    assert change[:, NAMES.index("age")].tolist() == pytest.approx([2.0, 1.0], abs=0.05)
    assert named.sum().item() == 2


def test_a_level_is_a_distance_too_and_amounts_add():
    now = torch.zeros(1, len(NAMES))
    change, named = wish(now, {"brown_hair": 1.0, "makeup": 1.0, "lipstick": 1.0})
    light = NAMES.index("hair_light")
    assert change[0, light] == pytest.approx(mapping.standard("hair_light", 27), abs=1e-5) and named[0, light] == 1
    assert change[0, NAMES.index("lip_red")] == pytest.approx(0.8 + 1.3)
    assert wish(now, {"elderly": 9.0})[0].max() == mapping.FARTHEST


def test_what_there_is_not_is_a_sentence():
    with pytest.raises(UsageError, match="smiling"):
        wish(torch.zeros(1, len(NAMES)), {"smilling": 1.0})


def test_amounts_stay_between_the_limits():
    torch.manual_seed(0)
    network = Network(12, 4)
    torch.nn.init.normal_(network.net[-1].weight, std=5)
    network.limits.copy_(torch.tensor([[-1.0, 2.0]] * 4))
    out = network(torch.randn(50, 12), torch.randn(50, len(NAMES)), torch.ones(50, len(NAMES)))
    assert out.min() >= -1 and out.max() <= 2 and out.max() > 1.5


def test_saved_and_read_again(mapper, ws, tmp_path):
    mapping.save(mapper, tmp_path / "m.safetensors")
    again = mapping.read(tmp_path / "m.safetensors")
    assert torch.equal(again(ws, {"older": 1.0}), mapper(ws, {"older": 1.0}))


def test_other_files_are_one_sentence(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"nothing")
    with pytest.raises(WplusError, match="cannot be read"):
        mapping.read(tmp_path / "a.safetensors")
    save_file({"x": torch.zeros(1)}, tmp_path / "b.safetensors")
    with pytest.raises(UsageError, match="no mapper of text"):
        mapping.read(tmp_path / "b.safetensors")
