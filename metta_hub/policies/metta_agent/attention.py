"""Attention of Metta's agents. Source: specification, section 3.3. R rows, K tokens, Q queries, h heads."""

import torch
from torch import Tensor, nn


def attend(queries: Tensor, keys: Tensor, values: Tensor, heads: int, mask: Tensor | None) -> Tensor:
    """Scaled dot products in several heads, each a contiguous part of the last axis.

    Args:
        queries: [R, Q, W].
        keys: [R, K, W].
        values: [R, K, V].
        heads: h.
        mask: [R, K], true where there is nothing to attend to; a row of nothing else attends to all alike.

    Returns:
        [R, Q, V].
    """
    query, key, value = (part.view(*part.shape[:2], heads, -1).transpose(1, 2) for part in (queries, keys, values))
    scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    if mask is not None:
        scores = scores + mask[:, None, None].to(scores.dtype) * torch.finfo(scores.dtype).min
    attended: Tensor = (scores.softmax(-1) @ value).transpose(1, 2).flatten(-2)
    return attended


class LatentLayer(nn.Module):
    """Queries that attend to the keys and values of tokens, and a perceptron behind."""

    def __init__(self, query: int, key: int, value: int, between: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(query, key, bias=False)
        self.attn_out_proj = nn.Linear(value, query)
        self.norm1 = nn.LayerNorm(query)
        self.norm2 = nn.LayerNorm(query)
        self.mlp = nn.Sequential(nn.Linear(query, between), nn.GELU(), nn.Linear(between, query))

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """[R, Q, D] → the same."""
        attended = attend(self.q_proj(self.norm1(queries)), keys, values, self.heads, mask)
        queries = queries + self.attn_out_proj(attended)
        moved: Tensor = queries + self.mlp(self.norm2(queries))
        return moved


class LatentAttention(nn.Module):
    """Learned queries that attend to tokens; keys and values are computed once for all layers."""

    def __init__(
        self,
        inside: int,
        out: int,
        *,
        queries: int,
        widths: tuple[int, int, int, int],
        heads: int,
        layers: int,
        use_mask: bool,
        first_only: bool,
    ) -> None:
        super().__init__()
        query, key, value, _ = widths
        self.use_mask, self.first_only = use_mask, first_only
        self._q_token = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, queries, query), std=0.02))
        self.norm_kv = nn.LayerNorm(inside)
        self.k_proj = nn.Linear(inside, key, bias=False)
        self.v_proj = nn.Linear(inside, value, bias=False)
        self.layers = nn.ModuleList(LatentLayer(*widths, heads) for _ in range(layers))
        self.final_norm = nn.LayerNorm(query)
        self.output_proj = nn.Identity() if query == out else nn.Linear(query, out)

    def forward(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """[R, K, F] → [R, out], or [R, Q, out]."""
        tokens = self.norm_kv(tokens)
        keys, values = self.k_proj(tokens), self.v_proj(tokens)
        queries = self._q_token.expand(len(tokens), -1, -1)
        for layer in self.layers:
            queries = layer(queries, keys, values, mask if self.use_mask else None)
        given: Tensor = self.output_proj(self.final_norm(queries))
        return given[:, 0] if self.first_only else given


class SelfAttention(nn.Module):
    """Tokens that attend to each other, perhaps with one learned token before them that alone comes out."""

    _cls_token: nn.Parameter | None

    def __init__(self, width: int, out: int, *, heads: int, layers: int, use_mask: bool, class_token: bool) -> None:
        super().__init__()
        self.heads, self.use_mask = heads, use_mask
        token = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, 1, width), std=0.02)) if class_token else None
        self.register_parameter("_cls_token", token)
        self.layer_norms_1 = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers))
        self.q_projs = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(layers))
        self.k_projs = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(layers))
        self.v_projs = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(layers))
        self.out_projs = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self._layer_norm_2 = nn.LayerNorm(width)
        self._final_proj = nn.Identity() if width == out else nn.Linear(width, out)

    def forward(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """[R, K, D] → [R, out], or [R, K, out]."""
        mask = mask if self.use_mask else None
        token = self._cls_token
        if token is not None:
            tokens = torch.cat([token.expand(len(tokens), -1, -1), tokens], 1)
            mask = None if mask is None else nn.functional.pad(mask, (1, 0))
        projections = zip(self.q_projs, self.k_projs, self.v_projs, strict=True)
        for norm, (query, key, value), out in zip(self.layer_norms_1, projections, self.out_projs, strict=True):
            normed = norm(tokens)
            tokens = tokens + out(attend(query(normed), key(normed), value(normed), self.heads, mask))
        given: Tensor = self._final_proj(self._layer_norm_2(tokens))
        return given if token is None else given[:, 0]
