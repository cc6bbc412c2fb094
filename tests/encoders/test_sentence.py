"""The sentence encoder: its words and numbers are the published model's, and bad files are one sentence."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from encoders import sentence
from stylegan2 import zoo
from stylegan2.errors import CheckpointError, WeightsMissing

FIGURES = json.loads((Path(__file__).parents[1] / "golden" / "minilm_l6.json").read_text())


@pytest.fixture(scope="module")
def encoder():
    return sentence.load()


def test_pieces_are_the_published_tokenizers(encoder):
    for text, wanted in zip(FIGURES["sentences"], FIGURES["ids"], strict=True):
        assert sentence.numbers(text, encoder.vocabulary) == wanted, text


def test_numbers_are_the_published_models(encoder):
    found = encoder(FIGURES["sentences"])[:, :16]
    assert (found - torch.tensor(FIGURES["embedding"])).abs().max() < 2e-5


def test_a_sentence_means_the_same_in_any_company(encoder):
    text = "a man with a beard"
    among = encoder(["x", text, "a much longer sentence, which needs far more room than the others do, and then some"])
    assert torch.allclose(encoder([text])[0], among[1], atol=1e-5)
    assert torch.allclose(among.norm(dim=1), torch.ones(3))


def test_meaning_counts_and_not_letters(encoder):
    red, ginger, dog = encoder(["she has red hair", "her locks are ginger", "he has a red car"])
    assert red @ ginger > red @ dog + 0.1


def test_words_typed_in_brackets_are_not_the_models_own(encoder):
    typed = sentence.numbers("[MASK] [SEP]", encoder.vocabulary)
    assert typed.count(encoder.vocabulary["[SEP]"]) == 1 and encoder.vocabulary["[MASK]"] not in typed


@pytest.mark.parametrize("text", ["", " \n\t", "\u200b\ufeff", "😀😀", "a" * 5000, "word " * 4000, "\x00\ud7ff"])
def test_anything_that_can_be_typed_has_a_finite_meaning(encoder, text):
    found = encoder([text])
    assert found.shape == (1, 384) and bool(found.isfinite().all())
    assert len(sentence.numbers(text, encoder.vocabulary)) <= sentence.LONGEST


def test_no_sentences_are_no_rows(encoder):
    assert encoder([]).shape == (0, 384)


def test_hidden_states_come_with_their_mask(encoder):
    hidden, mask = encoder.tokens(["one", "one two three"])
    assert hidden.shape == (2, 5, 384) and mask.tolist() == [[True] * 3 + [False] * 2, [True] * 5]
    assert torch.allclose(encoder.pooled(hidden, mask), encoder(["one", "one two three"]), atol=1e-6)


def test_a_file_that_is_another_is_one_sentence(tmp_path):
    shutil.copy(zoo.path(sentence.RECORD) / "vocab.txt", tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match="cannot be read as sentence encoder"):
        sentence.read(tmp_path)


def test_another_vocabulary_is_refused(tmp_path):
    shutil.copy(zoo.path(sentence.RECORD) / "model.safetensors", tmp_path)
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\nface\n")
    with pytest.raises(CheckpointError, match="vocabulary is another"):
        sentence.read(tmp_path)


def test_missing_weights_say_how_to_get_them(monkeypatch, tmp_path):
    monkeypatch.setenv("WPLUS_HOME", str(tmp_path))
    sentence.load.cache_clear()
    with pytest.raises(WeightsMissing, match="zoo fetch"):
        sentence.load()
    sentence.load.cache_clear()
