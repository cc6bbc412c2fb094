"""A frozen sentence encoder: all-MiniLM-L6-v2, a BERT of six layers trained to put like sentences side by side.

    encoder = load()
    encoder(["a smiling woman", "she laughs"])          # (2, 384), unit length
    hidden, mask = encoder.tokens(["a smiling woman"])  # (1, L, 384), (1, L)

BERT: Devlin et al., arXiv 1810.04805; MiniLM: Wang et al., arXiv 2002.10957; sentences as the mean of their tokens:
Reimers & Gurevych, arXiv 1908.10084.  WordPiece: lower case, no accents, every punctuation mark and every Chinese
character a word of its own, words cut greedily into the longest known pieces.  English only: of other scripts it knows
letters, not meanings.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stylegan2 import weights, zoo

RECORD = "all-minilm-l6-v2"
WIDTH, LAYERS, HEADS, HIDDEN, WORDS, PLACES = 384, 6, 12, 1536, 30522, 512
LONGEST = 128  # tokens of a sentence that are read, both ends included
PAD, UNKNOWN, FIRST, LAST = "[PAD]", "[UNK]", "[CLS]", "[SEP]"
LONGEST_WORD = 100  # characters; a longer word is unknown
BATCH = 64


# ----------------------------------------------------------------------------------------- words


def words(text: str) -> list[str]:
    """'Café, 안녕!' -> ['cafe', ',', '안녕' (decomposed), '!']"""
    spaced = "".join(f" {c} " if _chinese(c) else " " if c.isspace() else c for c in text if _kept(c))
    plain = unicodedata.normalize("NFD", spaced.lower())
    plain = "".join(c for c in plain if unicodedata.category(c) != "Mn")
    return "".join(f" {c} " if _punctuation(c) else c for c in plain).split()


def _kept(c: str) -> bool:
    return c in "\t\n\r" or not (ord(c) in (0, 0xFFFD) or unicodedata.category(c).startswith("C"))


def _chinese(c: str) -> bool:
    """In one of Unicode's blocks of CJK ideographs."""
    n = ord(c)
    return 0x4E00 <= n <= 0x9FFF or 0x3400 <= n <= 0x4DBF or 0xF900 <= n <= 0xFAFF or 0x20000 <= n <= 0x2FA1F


def _punctuation(c: str) -> bool:
    ascii_mark = c.isascii() and c.isprintable() and not c.isalnum() and not c.isspace()
    return ascii_mark or unicodedata.category(c).startswith("P")


def pieces(word: str, vocabulary: Mapping[str, int]) -> list[str]:
    """'unwrinkled' -> ['un', '##w', ...]; what cannot be cut into known pieces is UNKNOWN as a whole."""
    found, start = [], 0
    while start < len(word) <= LONGEST_WORD:
        prefix = "##" if start else ""
        end = next((e for e in range(len(word), start, -1) if prefix + word[start:e] in vocabulary), None)
        if end is None:
            return [UNKNOWN]
        found.append(prefix + word[start:end])
        start = end
    return found or [UNKNOWN]


def numbers(text: str, vocabulary: Mapping[str, int]) -> list[int]:
    """A sentence as numbers of its pieces, [CLS] and [SEP] around them, cut after LONGEST."""
    inner = [piece for word in words(text) for piece in pieces(word, vocabulary)][: LONGEST - 2]
    return [vocabulary[piece] for piece in (FIRST, *inner, LAST)]


# --------------------------------------------------------------------------------------- network


class Layer(nn.Module):
    """Self-attention and two linear maps, each added and normalised after (post-norm)."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.wide, self.narrow = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.after_attention, self.after = (nn.LayerNorm(width, eps=1e-12) for _ in range(2))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (B, L, C), mask (B, L) True where there is a token"""
        q, k, v = (
            part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None])  # (B, heads, L, C / heads)
        x = self.after_attention(x + self.out(seen.transpose(1, 2).flatten(2)))
        return self.after(x + self.narrow(F.gelu(self.wide(x))))


class SentenceEncoder(nn.Module):
    """Sentences -> what they mean.  Frozen; the same sentence gives the same numbers whatever stands beside it, to
    rounding."""

    def __init__(self, vocabulary: Mapping[str, int], width: int = WIDTH, layers: int = LAYERS, heads: int = HEADS,
                 hidden: int = HIDDEN, places: int = PLACES) -> None:  # fmt: skip
        super().__init__()
        self.vocabulary = vocabulary
        self.word, self.place, self.kind = (
            nn.Embedding(len(vocabulary), width),
            nn.Embedding(places, width),
            nn.Embedding(2, width),
        )
        self.first = nn.LayerNorm(width, eps=1e-12)
        self.layers = nn.ModuleList(Layer(width, heads, hidden) for _ in range(layers))

    def forward(self, sentences: Sequence[str]) -> Tensor:
        """-> (B, C), unit length: the mean of the tokens"""
        return torch.cat([self.pooled(*self.tokens(some)) for some in batches(sentences)] or [self.word.weight[:0]])

    @staticmethod
    def pooled(hidden: Tensor, mask: Tensor) -> Tensor:
        """Tokens (B, L, C), mask (B, L) -> (B, C), unit length"""
        counted = mask[..., None].to(hidden)
        return F.normalize((hidden * counted).sum(1) / counted.sum(1), dim=1)

    @torch.no_grad()
    def tokens(self, sentences: Sequence[str], depth: int | None = None) -> tuple[Tensor, Tensor]:
        """-> hidden (B, L, C) after all layers or the first `depth`, and mask (B, L) bool, True where there is a token;
        L as the longest needs."""
        rows = [numbers(text, self.vocabulary) for text in sentences]
        longest, device = max(map(len, rows), default=0), self.word.weight.device
        padded = [row + [self.vocabulary[PAD]] * (longest - len(row)) for row in rows]
        ids = torch.tensor(padded, device=device, dtype=torch.long).reshape(len(rows), longest)
        mask = torch.arange(longest, device=device) < torch.tensor([len(row) for row in rows], device=device)[:, None]
        x = self.first(self.word(ids) + self.place.weight[:longest] + self.kind.weight[0])
        for layer in self.layers[:depth]:
            x = layer(x, mask)
        return x, mask


def batches(sentences: Sequence[str]) -> list[Sequence[str]]:
    return [sentences[start : start + BATCH] for start in range(0, len(sentences), BATCH)]


# ----------------------------------------------------------------------------------------- files


_NAMES = {  # ours -> the published file's
    "query": "attention.self.query", "key": "attention.self.key", "value": "attention.self.value",
    "out": "attention.output.dense", "after_attention": "attention.output.LayerNorm", "wide": "intermediate.dense",
    "narrow": "output.dense", "after": "output.LayerNorm",
}  # fmt: skip
_FIRST = {
    "word": "word_embeddings",
    "place": "position_embeddings",
    "kind": "token_type_embeddings",
    "first": "LayerNorm",
}


def published(name: str) -> str:
    """'layers.3.query.weight' -> 'encoder.layer.3.attention.self.query.weight'"""
    *path, last = name.split(".")
    if path[0] == "layers":
        return f"encoder.layer.{path[1]}.{_NAMES[path[2]]}.{last}"
    return f"embeddings.{_FIRST[path[0]]}.{last}"


def read(folder: Path) -> SentenceEncoder:
    """From a folder of `model.safetensors` and `vocab.txt`.  CheckpointError if they are not this model's."""
    stored = weights.read(folder / "model.safetensors", "sentence encoder")
    text = (folder / "vocab.txt").read_text(encoding="utf-8")
    vocabulary = {word: number for number, word in enumerate(text.removesuffix("\n").split("\n"))}
    with weights.described(folder, "the sentence encoder"):
        known = dict.fromkeys((PAD, UNKNOWN, FIRST, LAST))
        if len(vocabulary) != WORDS or not known.keys() <= vocabulary.keys():
            raise ValueError("its vocabulary is another")
        with torch.device("meta"):
            names = list(SentenceEncoder(vocabulary).state_dict())
        return weights.filled(lambda: SentenceEncoder(vocabulary), {name: stored[published(name)] for name in names})


@lru_cache(maxsize=1)
def load() -> SentenceEncoder:
    """The encoder of the weight cache, read once.  WeightsMissing, with the command that fetches it."""
    return read(zoo.path(RECORD))
