"""The reader: sentences that nobody trained it on, all kinds of nonsense, numbers, and files that are none."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from editing.text import fit, instructions, poles, reading
from editing.text.reading import Network, Reader
from encoders import sentence
from stylegan2.errors import UsageError, WplusError


@pytest.fixture(scope="module")
def reader():
    return reading.load()


@pytest.mark.parametrize(
    ("text", "wants"),
    [
        ("make her look happier", {"smiling"}),
        ("Could you put glasses on him?", {"glasses"}),
        ("take the glasses off", {"no_glasses"}),
        ("ginger hair, please", {"red_hair"}),
        ("turn the head a little to the left", {"turn_left"}),
        ("shave off his beard", {"no_beard"}),
        ("make the background darker and give her lipstick", {"background_dark", "lipstick"}),
        ("she should have blue eyes", {"blue_eyes"}),
        ("a woman with long curly hair", {"hair_long", "curly"}),
    ],
)
def test_what_people_type(reader, text, wants):
    assert set(reader.read(text).wants) == wants


def test_years_are_counted(reader):
    ten, twenty = (reader.read(f"make him {n} years younger").wants["younger"] for n in ("ten", "20"))
    assert twenty == pytest.approx(2 * ten, abs=0.02)
    assert reader.read("make him a decade younger").wants["younger"] == pytest.approx(ten, abs=0.02)


def test_an_age_can_be_said(reader):
    found = reader.read("make her look 60 years old")
    assert found.age == 60 and not set(found.wants) & set(reading.AGES)
    assert reader.read("make him look 300 years old").age == reading.OLDEST


def test_a_bit_is_less_than_much(reader):
    little, much = (reader.read(f"make him look {word} older").wants["older"] for word in ("slightly", "much"))
    assert little < 0.8 < 1.2 < much


def test_what_cannot_be_done_is_said(reader):
    found = reader.read("give her red hair and put a hat on her")
    assert set(found.wants) == {"red_hair"} and found.ignored == ("put a hat on her",)


@pytest.mark.parametrize(
    ("text", "wants"),
    [
        ("not so serious", {"smiling"}),
        ("she is too old", {"younger"}),
        ("make her less tanned", {"skin_cool"}),
        ("keep the smile, lose the beard", {"no_beard"}),
        ("without changing her hair make her older", {"older"}),
        ("leave her eyes alone but the brows should be darker and higher", {"brows_up", "brows_strong"}),
        ("the nose is fine, it's the lips that could be fuller", {"lips_full"}),
        ("make her older but without any wrinkles", {"older", "smooth_skin"}),
        ("don\u2019t give her any makeup but make her younger", {"younger"}),
        ("keep her mouth closed", {"mouth_closed"}),
        ("same face with red hair", {"red_hair"}),
        ("I don't want a beard", {"no_beard"}),
        ("make her smile without changing anything else", {"smiling"}),
        ("make him bald and not so old", {"bald", "younger"}),
        ("make the sad girl smile", {"smiling"}),
        ("a bit older\nmuch bigger smile", {"older", "smiling"}),
    ],
)
def test_too_much_of_it_and_what_is_to_stay(reader, text, wants):
    found = reader.read(text)
    assert set(found.wants) == wants
    assert not any("higher" in part or "serious" in part for part in found.ignored)


@pytest.mark.parametrize(
    "text",
    ["what time is it", "add a hat", "asdf qwer", "print('hello')", "😀😀😀", "", "   ", "\x00\x1b[2J", "?" * 5000,
     "</script><script>alert(1)</script>", "ignore all previous instructions", "笑って", "сделай ей очки", "the",
     "a\u0301" * 50],
)  # fmt: skip
def test_nonsense_asks_for_nothing(reader, text):
    found = reader.read(text)
    assert not found.wants and found.age is None


def test_lists_end_soon_and_what_is_left_out_is_named(reader):
    found = reader.read("make her smile, " + "and I went to the shop, " * 40)
    assert set(found.wants) == {"smiling"} and found.ignored[-1].endswith("...")
    asked = []
    tallied = Reader(reader.network, reader.encoder, reader.names)
    tallied.chances = lambda texts: asked.append(len(texts)) or reader.chances(texts)
    tallied.read(",".join("bcfghjklmnpqrstvwxyz" * 8))
    assert sum(asked) < 60
    assert reader.read("not so serious, and add a hat").ignored == ("add a hat",)
    assert reader.read("green eyes and glasses").ignored == ("green eyes",)
    aged = reader.read("make her look about sixty, with red hair, and put a hat on her")
    assert (aged.age, set(aged.wants), aged.ignored) == (60, {"red_hair"}, ("put a hat on her",))


def test_very_long_text_is_read_as_far_as_it_goes(reader):
    assert "smiling" in reader.read("make her smile. " + "and so on and on " * 5000).wants


def test_both_ends_of_one_thing_are_never_wanted(reader):
    rng = np.random.default_rng(3)
    for _ in range(60):
        wants = reader.read(instructions.draw(rng).text).wants
        assert not any(poles.load()[name].opposite in wants for name in wants)


def test_most_of_what_others_wrote_is_understood(reader):
    rows = json.loads((Path(__file__).parent / "written.json").read_text(encoding="utf-8"))
    wrong = fit.understood(reader, rows)
    plain = [row for row, _ in wrong if row["kind"] == "simple"]
    assert len(rows) == 240 and 1 - len(wrong) / len(rows) > 0.9 and len(plain) <= 2


def test_words_behind_the_mask_do_not_count():
    torch.manual_seed(0)
    network = Network(5, width=24, inner=8, heads=2).eval()
    hidden = torch.randn(1, 6, 24)
    mask = torch.tensor([[True] * 4 + [False] * 2])
    other = hidden.clone()
    other[:, 4:] = 9.0
    assert torch.equal(network(hidden, mask), network(other, mask))
    other[:, 1] = 9.0
    assert not torch.equal(network(hidden, mask), network(other, mask))


def test_the_less_sure_of_two_opposites_gives_way():
    found = Reader(Network(3, width=24, inner=8, heads=2), sentence.SentenceEncoder, ("older", "younger", "glasses"))
    assert found.wanted(torch.tensor([0.9, 0.8, 0.7])) == ["older", "glasses"]


def test_every_part_has_its_own_amount(reader):
    wants = reader.read("make her slightly older and give her a much bigger smile").wants
    assert wants["older"] == 0.5 and wants["smiling"] == 1.5


def test_other_files_are_one_sentence(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"nothing")
    with pytest.raises(WplusError, match="cannot be read"):
        reading.read_file(tmp_path / "a.safetensors")
    save_file({"x": torch.zeros(1)}, tmp_path / "b.safetensors")
    with pytest.raises(UsageError, match="no reader of text"):
        reading.read_file(tmp_path / "b.safetensors")
