"""Heads: from a backbone's tokens to logits and label-wise embeddings."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MLDecoderHead(nn.Module):
    """Queries attend to the picture's tokens; with one query per label its output is the label-wise embedding.

    Ridnik et al., "ML-Decoder", WACV 2023 (arXiv 2111.12933), with frozen random queries and one layer, as in the
    published distillation recipe: the width is 768 with a feed-forward of 2,048 (6.5 M parameters on 1,280 input
    features); other widths keep that ratio. The queries' time grows with their number, and each label has one by
    default. With K query groups (section 3.3, "group fully-connected"), each query answers for the next ⌈C/K⌉ labels by
    a matrix of its own, in the order of the labels; such labels have no embeddings.

    Args:
        query_groups: K, at most the number of labels; None for a query per label.
    """

    HEADS = 8

    def __init__(
        self, in_features: int, num_classes: int, width: int, dropout: float = 0.1, query_groups: int | None = None
    ) -> None:
        super().__init__()
        self.in_features, self.num_classes = in_features, num_classes
        self.each = 1 if query_groups is None else -(-num_classes // query_groups)
        """Number of labels per query; the last query may have fewer, and some of the last none."""
        queries = num_classes if query_groups is None else query_groups
        hidden = -(-2048 * width // 768 // 64) * 64
        self.embed = nn.Linear(in_features, width)
        self.queries = nn.Parameter(torch.randn(queries, width), requires_grad=False)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_query, self.to_key = nn.Linear(width, width), nn.Linear(width, width)
        self.to_value, self.to_out = nn.Linear(width, width), nn.Linear(width, width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, width)
        )
        self.dropout = nn.Dropout(dropout)
        weight = nn.init.xavier_normal_(torch.empty(queries * self.each, width))
        if query_groups is not None:
            weight = weight.unflatten(0, (queries, self.each)).transpose(1, 2).contiguous()
        self.weight = nn.Parameter(weight)
        """`[C, width]`, a vector per label; with query groups `[K, width, each]`, a matrix per query."""
        self.bias = nn.Parameter(torch.zeros(num_classes))
        self.register_buffer("query_of", torch.arange(num_classes) // self.each, persistent=False)

    @property
    def embedding_dim(self) -> int:
        """Width of the label-wise embeddings; 0 where labels share queries."""
        return self.weight.shape[1] if self.weight.ndim == 2 else 0

    @property
    def memory_dim(self) -> int:
        """Width of the memory."""
        return self.embed.out_features

    def embeddings(self, tokens: Tensor) -> Tensor:
        """Turn tokens `[B, S, in_features]` into the queries' outputs `[B, K, width]`: one per label by default."""
        return self._attend(tokens)[0]

    def _attend(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The queries' outputs `[B, K, width]` and the weights that gathered them, `[B, HEADS, K, S]`."""
        query, attention, values = self.attended(tokens)
        context = (attention @ values).transpose(1, 2).flatten(2)
        x = self.norm2(query + self.dropout(self.to_out(context)))
        return self.norm3(x + self.dropout(self.feed_forward(x))), attention

    def attended(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries `[K, width]`, their attention `[B, HEADS, K, S]` and the values `[B, HEADS, S, width / HEADS]`
        that it weighs."""
        memory = self.memory(tokens)
        query = self.norm1(self.queries)
        # The queries do not depend on the picture, so their side of the attention is computed only once.
        q = self._split(self.to_query(query)[None]) * (query.shape[1] // self.HEADS) ** -0.5
        attention = (q @ self._split(self.to_key(memory)).transpose(-1, -2)).softmax(dim=-1)
        return query, attention, self._split(self.to_value(memory))

    def memory(self, tokens: Tensor) -> Tensor:
        """Turn tokens `[B, S, in_features]` into what the queries attend to, `[B, S, width]`."""
        return self.embed(tokens).relu()

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.HEADS, x.shape[2] // self.HEADS)).transpose(1, 2)

    def logits(self, tokens: Tensor) -> Tensor:
        """Turn tokens `[B, S, in_features]` into logits `[B, C]`."""
        return self.score(self.embeddings(tokens))

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits `[B, C]` and label-wise embeddings `[B, C, width]`; `[B, C, 0]` where labels share queries."""
        embeddings = self.embeddings(tokens)
        logits = self.score(embeddings)
        return logits, embeddings if self.embedding_dim else logits.new_zeros((*logits.shape, 0))

    def with_attention(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits `[B, C]` and the attention of each label's query `[B, C, S]`, as a mean over its heads."""
        embeddings, attention = self._attend(tokens)
        attention = attention.mean(dim=1)
        return self.score(embeddings), attention if self.embedding_dim else attention[:, self.query_of]

    def score(self, embeddings: Tensor) -> Tensor:
        """Turn the queries' outputs `[B, K, width]` into logits `[B, C]`."""
        # A dot product per label, as a batched product: OpenVINO 2026.4 on a CPU fuses a multiplication by [C, width]
        # into the preceding norm and answers wrongly for every batch above 1.
        if self.weight.ndim == 2:
            return (embeddings.unsqueeze(2) @ self.weight.unsqueeze(2)).flatten(1) + self.bias
        return (embeddings.unsqueeze(2) @ self.weight).flatten(1)[:, : self.num_classes] + self.bias


class LinearHead(nn.Module):
    """The smallest head: a mean over positions and one weight vector per label.

    Its label-wise embedding is what label c looks at, e[i,c] = Σ_s softmax_s(w_c · f_s) f_s, computed only in training.

    Args:
        bottleneck: width of a factorised head, for labels by the thousand: features are first projected to it, so the
            matrix of the labels has so many columns; None without one.
    """

    def __init__(self, in_features: int, num_classes: int, bottleneck: int | None = None) -> None:
        super().__init__()
        self.in_features = in_features
        self.project = None if bottleneck is None else nn.Linear(in_features, bottleneck, bias=False)
        width = in_features if bottleneck is None else bottleneck
        self.weight = nn.Parameter(nn.init.trunc_normal_(torch.empty(num_classes, width), std=0.02))
        self.bias = nn.Parameter(torch.zeros(num_classes))

    @property
    def embedding_dim(self) -> int:
        """Width of the label-wise embeddings."""
        return self.weight.shape[1]

    @property
    def memory_dim(self) -> int:
        """Width of the memory, which is that of the embeddings."""
        return self.embedding_dim

    def memory(self, tokens: Tensor) -> Tensor:
        """Turn tokens `[B, S, in_features]` into what the labels' weights score, `[B, S, embedding_dim]`."""
        return tokens if self.project is None else self.project(tokens)

    def logits(self, tokens: Tensor) -> Tensor:
        """Turn tokens `[B, S, in_features]` into logits `[B, C]`."""
        return nn.functional.linear(self.memory(tokens.mean(dim=1)), self.weight, self.bias)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits `[B, C]` and label-wise embeddings `[B, C, embedding_dim]`."""
        logits, attention = self.with_attention(tokens)
        return logits, attention @ self.memory(tokens)

    def with_attention(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits `[B, C]` and the softmax over positions of each label's score there, `[B, C, S]`."""
        scores = nn.functional.linear(self.memory(tokens), self.weight)
        return self.logits(tokens), scores.softmax(dim=1).transpose(1, 2)
