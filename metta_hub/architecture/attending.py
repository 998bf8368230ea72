"""Kinds of component that attend to tokens. Source: specification of Metta's checkpoints, sections 0 and 3.3."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

from metta_hub.architecture.nouns import Given, Output, Shape, require
from metta_hub.architecture.options import MAX_LAYERS, Options
from metta_hub.strict_json import JSON


@dataclass(frozen=True, slots=True)
class LatentAttention:
    """Learned queries that attend to tokens.

    Attributes:
        out: width of what comes out.
        queries: Q.
        query_width: D; None for the width of the tokens.
        key_width: None for D.
        value_width: None for D.
        heads: h.
        layers: how many.
        ratio: of the width inside its perceptrons to D.
        use_mask: whether padding is left out.
        first_only: whether only the first query comes out.
    """

    out: int
    queries: int
    query_width: int | None
    key_width: int | None
    value_width: int | None
    heads: int
    layers: int
    ratio: float
    use_mask: bool
    first_only: bool
    sources: ClassVar[int | None] = 1
    unseen: ClassVar[tuple[str, ...]] = ("num_heads", "use_mask", "use_cls_token")

    @classmethod
    def read(cls, options: Options) -> Self:
        """Read the options of `ObsLatentAttn`."""
        return cls(
            out=options.size("out_dim"),
            queries=options.size("num_query_tokens", 1),
            query_width=options.optional_size("query_token_dim"),
            key_width=options.optional_size("qk_dim"),
            value_width=options.optional_size("v_dim"),
            heads=options.size("num_heads", 1),
            layers=options.size("num_layers", 1, most=MAX_LAYERS),
            ratio=options.ratio("mlp_ratio", 4.0, least=0.001, most=1000),
            use_mask=options.flag("use_mask", default=False),
            first_only=options.flag("use_cls_token", default=False),
        )

    def widths(self, inside: int) -> tuple[int, int, int, int]:
        """D, those of keys and values, and that inside the perceptrons, for tokens of width `inside`."""
        query = self.query_width or inside
        return query, self.key_width or query, self.value_width or query, int(query * self.ratio)

    def infer(self, given: Given) -> Output:
        """[M, F] → [out] or [Q, out]."""
        tokens, inside = _tokens(given, use_mask=self.use_mask)
        query, key, value, between = self.widths(inside)
        require(key % self.heads == 0, f"cannot split its qk_dim {key} into {self.heads} heads")
        require(value % self.heads == 0, f"cannot split its v_dim {value} into {self.heads} heads")
        require(between > 0, f"has an mlp_ratio {self.ratio} that leaves nothing of {query}")
        require(self.layers == 1 or query == value, f"has several layers, and {query} is not its v_dim {value}")
        tensors: dict[str, Shape] = {
            "_q_token": (1, self.queries, query),
            **_norm("norm_kv", inside),
            "k_proj.weight": (key, inside),
            "v_proj.weight": (value, inside),
        }
        for layer in range(self.layers):
            tensors |= {
                f"layers.{layer}.q_proj.weight": (key, query),
                **_linear(f"layers.{layer}.attn_out_proj", query, value),
                **_norm(f"layers.{layer}.norm1", query),
                **_norm(f"layers.{layer}.norm2", query),
                **_linear(f"layers.{layer}.mlp.0", between, query),
                **_linear(f"layers.{layer}.mlp.2", query, between),
            }
        tensors |= _norm("final_norm", query)
        if query != self.out:
            tensors |= _linear("output_proj", self.out, query)
        work = tokens * (key + value + self.heads * self.queries) + self.queries * between
        return Output((self.out,) if self.first_only else (self.queries, self.out), tensors, work)

    @staticmethod
    def sized(config: Mapping[str, JSON], tensors: Mapping[str, Shape]) -> dict[str, JSON]:
        """All sizes show; heads, mask and which queries come out don't."""
        _, queries, query = tensors["_q_token"]
        between = tensors["layers.0.mlp.0.weight"][0]
        found: dict[str, JSON] = {
            "out_dim": tensors["output_proj.weight"][0] if "output_proj.weight" in tensors else query,
            "num_query_tokens": queries,
            "query_token_dim": query,
            "qk_dim": tensors["k_proj.weight"][0],
            "v_dim": tensors["v_proj.weight"][0],
            "num_layers": _count(tensors, "layers.{}.norm1.weight"),
        }
        ratio = config.get("mlp_ratio", 4.0)
        if not isinstance(ratio, int | float) or int(query * ratio) != between:
            found["mlp_ratio"] = between / query
        return {**config, **found}


@dataclass(frozen=True, slots=True)
class SelfAttention:
    """Tokens that attend to each other.

    Attributes:
        out: width of what comes out.
        heads: h.
        layers: how many.
        use_mask: whether padding is left out.
        class_token: whether a learned token is put before the others, and alone comes out.
    """

    out: int
    heads: int
    layers: int
    use_mask: bool
    class_token: bool
    sources: ClassVar[int | None] = 1
    unseen: ClassVar[tuple[str, ...]] = ("num_heads", "use_mask")

    @classmethod
    def read(cls, options: Options) -> Self:
        """Read the options of `ObsSelfAttn`."""
        return cls(
            out=options.size("out_dim"),
            heads=options.size("num_heads", 1),
            layers=options.size("num_layers", 1, most=MAX_LAYERS),
            use_mask=options.flag("use_mask", default=False),
            class_token=options.flag("use_cls_token", default=False),
        )

    def infer(self, given: Given) -> Output:
        """[M, D] → [out] or [M, out]."""
        tokens, width = _tokens(given, use_mask=self.use_mask)
        require(width % self.heads == 0, f"cannot split its width {width} into {self.heads} heads")
        tensors: dict[str, Shape] = {"_cls_token": (1, 1, width)} if self.class_token else {}
        for layer in range(self.layers):
            tensors |= _norm(f"layer_norms_1.{layer}", width)
        for kind in ("q", "k", "v"):
            tensors |= {f"{kind}_projs.{layer}.weight": (width, width) for layer in range(self.layers)}
        for layer in range(self.layers):
            tensors |= _linear(f"out_projs.{layer}", width, width)
        tensors |= _norm("_layer_norm_2", width)
        if width != self.out:
            tensors |= _linear("_final_proj", self.out, width)
        entries = tokens + self.class_token
        shape = (self.out,) if self.class_token else (tokens, self.out)
        work = entries * (4 * width + self.heads * entries)
        return Output(shape, tensors, work, masked=given.inputs[0].masked and not self.class_token)

    @staticmethod
    def sized(config: Mapping[str, JSON], tensors: Mapping[str, Shape]) -> dict[str, JSON]:
        """All sizes show, and whether there is a class token."""
        width = tensors["_layer_norm_2.weight"][0]
        return {
            **config,
            "out_dim": tensors["_final_proj.weight"][0] if "_final_proj.weight" in tensors else width,
            "num_layers": _count(tensors, "layer_norms_1.{}.weight"),
            "use_cls_token": "_cls_token" in tensors,
        }


def _tokens(given: Given, *, use_mask: bool) -> tuple[int, int]:
    [source] = given.inputs
    require(len(source.shape) == 2, f"needs tokens and gets {list(source.shape)}")  # noqa: PLR2004  (tokens, width)
    require(source.masked or not use_mask, "uses a mask, and what it gets has none")
    return source.shape[0], source.shape[1]


def _linear(name: str, out: int, inside: int) -> dict[str, Shape]:
    return {f"{name}.weight": (out, inside), f"{name}.bias": (out,)}


def _norm(name: str, width: int) -> dict[str, Shape]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _count(tensors: Mapping[str, Shape], pattern: str) -> int:
    return next(number for number in range(len(tensors) + 1) if pattern.format(number) not in tensors)
