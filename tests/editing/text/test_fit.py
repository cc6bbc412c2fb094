"""Training the reader: embedded sentences are kept, targets are what was asked, and it learns from little."""

import torch

from editing.text import fit, instructions, reading
from encoders import sentence

TEXTS = ["make her smile", "a man", "give him a beard and make him look much older, please"]


def test_kept_sentences_are_those_of_the_encoder(tmp_path, monkeypatch):
    first = fit.kept(TEXTS, tmp_path / "s.safetensors")
    hidden, mask = sentence.load().tokens([TEXTS[2]], reading.DEPTH)
    assert torch.allclose(first[2].float(), hidden[0][mask[0]], atol=2e-2)
    monkeypatch.setattr(fit, "embedded", lambda texts: [torch.zeros(1, 384).half() for _ in texts])
    again = fit.kept(TEXTS, tmp_path / "s.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not fit.kept(["other"], tmp_path / "s.safetensors")[0].any()  # other sentences are done anew


def test_targets_are_where_poles_are_asked_for():
    requests = [instructions.Request("a", {"older": 0.5}), instructions.Request("b", {})]
    assert fit.targets(requests, ["younger", "older"]).tolist() == [[0.0, 1.0], [0.0, 0.0]]


def test_it_learns_from_little(tmp_path, monkeypatch):
    monkeypatch.setattr(fit, "HELD", 100)
    monkeypatch.setattr(fit, "BATCH", 16)
    said = []
    found = fit.reader(500, 120, tmp_path / "s.safetensors", report=said.append)
    requests = [instructions.draw(__import__("numpy").random.default_rng((0, i))) for i in range(100, 300)]
    chances = found.chances([request.text for request in requests])
    asked = fit.targets(requests, found.names) > 0
    assert chances[asked].mean() > 4 * chances[~asked].mean()
    assert "understood exactly" in said[-1]


def test_what_is_not_understood_as_meant_is_listed():
    class Stub:
        def read(self, text):
            from editing.text.reading import Understanding

            return Understanding({"smiling": 1.0} if "smile" in text else {})

    rows = [
        {"text": "smile", "wants": {"smile": 1}}, {"text": "smile less", "wants": {"smile": -1}},
        {"text": "hello", "wants": {}}, {"text": "smile is a song", "wants": {}},
    ]  # fmt: skip
    assert [row["text"] for row, _ in fit.understood(Stub(), rows)] == ["smile less", "smile is a song"]
