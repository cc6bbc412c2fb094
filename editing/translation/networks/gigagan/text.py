"""GigaGAN's text tower T (arXiv 2303.05511, section 3.2): learned attention on a frozen encoder's tokens.

t_local are its words, t_global is one token for the sentence.  The paper takes CLIP ViT-L/14's features of 77 tokens
(768 channels) and its end token; here the encoder may have any width (MiniLM: 384), and the sentence's token is one of
its own: a learned vector plus the mean of the words, which attends to all of them.
"""

from __future__ import annotations

from math import sqrt

import torch
from torch import Tensor, nn

from editing.translation.networks.gigagan.attention import Perceptron, heads_of, joined, normalised, split
from editing.translation.networks.gigagan.kernels import Linear


class Layer(nn.Module):
    """Tokens (B, T, C), mask (B, T) -> (B, T, C): self-attention and a perceptron, normalised before each."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = heads_of(width)
        self.to_qkv, self.to_out, self.perceptron = Linear(width, 3 * width), Linear(width, width), Perceptron(width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = (split(y, self.heads) for y in self.to_qkv(normalised(x)).chunk(3, -1))
        logits = (q @ k.transpose(-1, -2) / sqrt(q.shape[-1])).masked_fill(~mask[:, None, None], -torch.inf)
        x = x + self.to_out(joined(logits.softmax(-1) @ v))
        return x + self.perceptron(normalised(x))


class TextTower(nn.Module):
    """Encoder's tokens hidden (B, L, features), mask (B, L) -> t_local (B, L, width), t_global (B, width)"""

    def __init__(self, features: int, width: int, depth: int) -> None:
        super().__init__()
        self.enter = Linear(features, width)
        self.token = nn.Parameter(torch.zeros(width))
        self.layers = nn.ModuleList(Layer(width) for _ in range(depth))

    def forward(self, hidden: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        x = self.enter(normalised(hidden))
        share = mask.to(x) / mask.sum(1, keepdim=True).clamp_min(1)
        token = self.token + (share.unsqueeze(2) * x).sum(1)
        x = torch.cat([x, token.unsqueeze(1)], 1)  # (B, L + 1, width)
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
        for layer in self.layers:
            x = layer(x, mask)
        x = normalised(x)
        return x[:, :-1], x[:, -1]
