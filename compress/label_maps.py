"""Label maps: a score for each label and place of a picture, pooled over regions, whose mean is the label's logit.

Places are the S tokens of a backbone's last features f, and for every label c the mean of M[c, s] over s is its logit
z_c. Averages over regions of the picture can therefore be compared between any two models, whatever their heads, widths
and resolutions, and the region that is the whole picture is the logit itself.

**A linear head** scores the mean of the tokens, so M[c, s] = w_c · f_s + b_c.

**ML-Decoder** gathers values v_s by attention a_h[c, s] in heads h, and scores what two norms and a feed-forward layer
make of them:

    u = q_c + W_o context + b_o,  context_h = Σ_s a_h[c, s] v_h[s]
    x = γ₂ ⊙ P u / σ₂ + β₂,       y = x + W_b (m ⊙ (W_a x + b_a)) + b_b
    z_c = w_c · (γ₃ ⊙ P y / σ₃ + β₃) + b_c

P subtracts the mean, σ₂ and σ₃ are the norms' deviations, and m is 1 where the ReLU passes. With σ₂, σ₃ and m as they
are for this picture, z_c is linear in the context. Its slope g_c is found from the end to the beginning:

    g₃ = P(γ₃ ⊙ w_c) / σ₃,  g₂ = g₃ + W_aᵀ (m ⊙ W_bᵀ g₃),  g_c = W_oᵀ P(γ₂ ⊙ g₂) / σ₂

so that z_c = Σ_s k[c, s] + rest_c, with k[c, s] = Σ_h a_h[c, s] (g_c,h · v_h[s]): value times attention, as the label's
own weights see it. In training g_c is held as well, so a map teaches the values, where each label looks, and through
rest_c the logit. What comes from no place (queries and biases) belongs to each alike: M[c, s] = S k[c, s] + rest_c.

Regions are those of 1×1, 2×2 and 4×4 grids, row by row: 21 values for each label. A place that lies in two regions
counts in each by its share, so maps of 7×7 and of 4×4 places are averaged over the same parts of the picture.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from edgepress.compress.heads import LinearHead, MLDecoderHead

SIDES = (1, 2, 4)
"""Regions for each side of the grids."""
REGIONS = sum(side * side for side in SIDES)


def regions_within(side: int) -> int:
    """Number of leading regions that a map of `side` × `side` places can tell apart, of `REGIONS`; at least one."""
    return sum(grid * grid for grid in SIDES if grid <= max(side, 1))


def averages(side: int) -> Tensor:
    """float32 `[REGIONS, side²]`: each region's mean over places, by the share of each place that lies in it."""
    rows = []
    for grid in SIDES:
        edges = torch.arange(grid + 1, dtype=torch.float64) * side / grid
        first, last = edges[:-1, None], edges[1:, None]
        place = torch.arange(side, dtype=torch.float64)
        share = (torch.minimum(last, place + 1) - torch.maximum(first, place)).clamp(min=0) * grid / side
        rows.append(torch.einsum("ij,kl->ikjl", share, share).reshape(grid * grid, side * side))
    return torch.cat(rows).float()


def mirrored(maps: Tensor) -> Tensor:
    """The maps `[B, C, REGIONS]` of the mirror images."""
    grids = maps.split([side * side for side in SIDES], dim=2)
    turned = [grid.unflatten(2, (side, side)).flip(3).flatten(2) for grid, side in zip(grids, SIDES, strict=True)]
    return torch.cat(turned, dim=2)


def side_of(positions: int) -> int:
    """Places on each side of a square map; 0 where the positions are no square map."""
    side = math.isqrt(positions)
    return side if side * side == positions else 0


def with_label_maps(
    head: MLDecoderHead | LinearHead, tokens: Tensor, regions: Tensor, label_wise: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits `[B, C]`, label-wise embeddings `[B, C, dim]` and label maps `[B, C, REGIONS]`.

    Args:
        tokens: `[B, S, in_features]`.
        regions: of `averages`, for S places.
        label_wise: whether embeddings are needed; otherwise they may have a width of 0.
    """
    if isinstance(head, MLDecoderHead):
        return _decoded(head, tokens, regions)
    logits, embeddings = head(tokens) if label_wise else (head.logits(tokens), None)
    maps = head.logits((regions.to(tokens.dtype) @ tokens).flatten(0, 1)[:, None])
    maps = maps.unflatten(0, (len(tokens), len(regions))).transpose(1, 2)
    return logits, logits.new_zeros((*logits.shape, 0)) if embeddings is None else embeddings, maps


def _decoded(head: MLDecoderHead, tokens: Tensor, regions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One pass of a head with a query per label, and the label maps; names are those of the derivation above."""
    enter, _, dropped, leave = head.feed_forward
    query, attention, values = head.attended(tokens)
    context = (attention @ values).transpose(1, 2).flatten(2)
    gathered = head.to_out(context)
    # The same dropout as without maps: masks are drawn in the order and in the shapes of a plain pass.
    kept_out = head.dropout(torch.ones_like(gathered))
    u = query + kept_out * gathered
    x = head.norm2(u)
    hidden = enter(x)
    passes = (hidden > 0) * dropped(torch.ones_like(hidden))
    fed = leave(hidden * passes)
    kept_fed = head.dropout(torch.ones_like(fed))
    y = x + kept_fed * fed
    embeddings = head.norm3(y)
    logits = head.score(embeddings)

    with torch.no_grad():
        slope = _centred(head.norm3.weight * head.weight) * _inverse_deviation(y, head.norm3)
        slope = slope + ((slope * kept_fed) @ leave.weight * passes) @ enter.weight
        slope = _centred(head.norm2.weight * slope) * _inverse_deviation(u, head.norm2)
        slope = (slope * kept_out) @ head.to_out.weight
    heads = slope.unflatten(2, (head.HEADS, -1)).transpose(1, 2)
    places = (attention * (heads @ values.transpose(-1, -2))).sum(dim=1)
    rest = logits - places.sum(dim=2)
    return logits, embeddings, rest[..., None] + tokens.shape[1] * (places @ regions.to(places.dtype).T)


def _centred(rows: Tensor) -> Tensor:
    return rows - rows.mean(dim=-1, keepdim=True)


def _inverse_deviation(rows: Tensor, norm: nn.LayerNorm) -> Tensor:
    return (rows.var(dim=-1, keepdim=True, correction=0) + norm.eps).rsqrt()
