"""Attention of GigaGAN (arXiv 2303.05511, section 3.1): among a picture's places, and from them to words.

Self-attention takes minus the squared distance of queries and keys for their logit, and has one projection for both
(tied): unlike the dot product it is Lipschitz (Kim et al., arXiv 2006.04710).  Cross-attention is the usual one: the
picture asks, words have keys and values.  A residual gain of 0.3, normalised tokens without scale and shift before
each part, heads of 64 channels and four times as wide a perceptron after the two are assumptions (see `generator`).
"""

from __future__ import annotations

from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from editing.translation.networks.gigagan.kernels import Linear

HEAD, GAIN, WIDER = 64, 0.3, 4  # channels of a head; of a residual branch; of a perceptron's middle


def heads_of(channels: int) -> int:
    return max(1, channels // HEAD)


def split(x: Tensor, heads: int) -> Tensor:
    """(B, T, C) -> (B, heads, T, C / heads)"""
    return x.unflatten(2, (heads, -1)).transpose(1, 2)


def joined(x: Tensor) -> Tensor:
    """(B, heads, T, D) -> (B, T, heads * D)"""
    return x.transpose(1, 2).flatten(2)


def distance_logits(q: Tensor, k: Tensor) -> Tensor:
    """q (..., T, D), k (..., S, D) -> -|q - k|^2 / sqrt(D) (..., T, S)"""
    squares = q.square().sum(-1).unsqueeze(-1) + k.square().sum(-1).unsqueeze(-2)
    return (2 * q @ k.transpose(-1, -2) - squares) / sqrt(q.shape[-1])


def normalised(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:])


class L2Attention(nn.Module):
    """Tokens (B, T, C) -> (B, T, C)"""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = heads_of(channels)
        self.to_qk, self.to_v = Linear(channels, channels), Linear(channels, channels)
        self.to_out = Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        q, v = split(self.to_qk(x), self.heads), split(self.to_v(x), self.heads)
        return self.to_out(joined(distance_logits(q, q).softmax(-1) @ v))


class CrossAttention(nn.Module):
    """Tokens (B, T, C), words (B, L, width), their mask (B, L), True where there is one -> (B, T, C)"""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.heads = heads_of(channels)
        self.to_q, self.to_k, self.to_v = Linear(channels, channels), Linear(width, channels), Linear(width, channels)
        self.to_out = Linear(channels, channels)

    def forward(self, x: Tensor, words: Tensor, mask: Tensor) -> Tensor:
        q, k, v = (split(y, self.heads) for y in (self.to_q(x), self.to_k(words), self.to_v(words)))
        logits = q @ k.transpose(-1, -2) / sqrt(q.shape[-1])
        logits = logits.masked_fill(~mask[:, None, None], -torch.inf)
        return self.to_out(joined(logits.softmax(-1) @ v))


class Perceptron(nn.Module):
    """Tokens (B, T, C) -> (B, T, C), each by itself."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.wider, self.to_out = Linear(channels, WIDER * channels, act=True), Linear(WIDER * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.to_out(self.wider(x))


class Attention(nn.Module):
    """x (B, C, H, W) -> the same shape: self-attention, cross-attention if words have a width, perceptron."""

    def __init__(self, channels: int, width: int = 0) -> None:
        super().__init__()
        self.itself, self.perceptron = L2Attention(channels), Perceptron(channels)
        if width:
            self.words = CrossAttention(channels, width)

    def forward(self, x: Tensor, words: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        tokens, side = x.flatten(2).transpose(1, 2), x.shape[2:]
        tokens = tokens + GAIN * self.itself(normalised(tokens))
        if words is not None:
            tokens = tokens + GAIN * self.words(normalised(tokens), words, mask)
        tokens = tokens + GAIN * self.perceptron(normalised(tokens))
        return tokens.transpose(1, 2).unflatten(2, side)
