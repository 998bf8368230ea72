"""What a plain pickle may ask for: the rule by which a `.pt` is published as it is, or refused with the reason."""

from collections.abc import Mapping, Sequence

from metta_hub.containers.dtypes import DTYPES

#: The names that a plain pickle calls.
ORDERED_DICT = "collections.OrderedDict"
#: What the names of all that makes tensors begin with.
REBUILDS = "torch._utils._rebuild_"
PARAMETER = "torch._utils._rebuild_parameter"
TENSOR = "torch._utils._rebuild_tensor"
TENSOR_V2 = "torch._utils._rebuild_tensor_v2"
TENSOR_V3 = "torch._utils._rebuild_tensor_v3"
#: Storages that have no dtype of their own, as different versions spell them.
UNTYPED = frozenset({"torch.storage.UntypedStorage", "torch.UntypedStorage"})

#: Every name that a plain pickle may ask for.
PLAIN_GLOBALS = frozenset(
    {
        ORDERED_DICT,
        PARAMETER,
        TENSOR,
        TENSOR_V2,
        TENSOR_V3,
        *UNTYPED,
        *(f"torch.{dtype.storage}" for dtype in DTYPES if dtype.storage),
        *(f"torch.{dtype.torch}" for dtype in DTYPES),
    }
)

#: What torch saves and safetensors has no place for, by a name that gives it away.
_WITHOUT_COUNTERPART: Mapping[str, str] = {
    "torch.ComplexDoubleStorage": "complex128 tensors",
    "torch.QInt8Storage": "quantized tensors",
    "torch.QInt32Storage": "quantized tensors",
    "torch.QUInt8Storage": "quantized tensors",
    "torch.QUInt4x2Storage": "quantized tensors",
    "torch.QUInt2x4Storage": "quantized tensors",
    "torch._utils._rebuild_qtensor": "quantized tensors",
    "torch.per_tensor_affine": "quantized tensors",
    "torch.per_channel_affine": "quantized tensors",
    "torch.per_channel_affine_float_qparams": "quantized tensors",
    "torch._utils._rebuild_sparse_tensor": "sparse tensors",
    "torch._utils._rebuild_sparse_csr_tensor": "sparse tensors",
    "torch._utils._rebuild_nested_tensor": "nested tensors",
    "torch._utils._rebuild_meta_tensor_no_storage": "meta tensors (without values)",
    "torch._utils._rebuild_wrapper_subclass": "tensors of a class of their own",
    "torch._utils._rebuild_from_type_v2": "tensors of a class of their own, or with attributes",
    "torch._utils._rebuild_parameter_with_state": "parameters with attributes",
}


#: What such tensors name besides.
_COMPANIONS = frozenset({"torch.Size", "torch.serialization._get_layout"})


class NotPlain(Exception):  # noqa: N818 - never leaves the package: it becomes Findings or a NotPlainError
    """A pickle holds more than tensors; the message says what."""


def judge_globals(names: Sequence[str]) -> str:
    """Why these names are not those of a plain pickle; empty when they are."""
    foreign = sorted((name for name in names if name not in PLAIN_GLOBALS), key=_is_common)
    if not foreign:
        return ""
    kinds = sorted({_WITHOUT_COUNTERPART[name] for name in foreign if name in _WITHOUT_COUNTERPART})
    if kinds and all(name in _WITHOUT_COUNTERPART or name in _COMPANIONS for name in foreign):
        return f"it holds {' and '.join(kinds)}, which safetensors has no place for"
    shown = ", ".join(foreign[:5]) + (f" and {len(foreign) - 5} more" if len(foreign) > 5 else "")  # noqa: PLR2004
    return f"its pickle asks for {shown}"


def _is_common(name: str) -> bool:
    """Whether a name says little about the pickle that asks for it: others are shown first."""
    return name.startswith(("__builtin__.", "builtins.", "_codecs.", "collections.", "numpy.", "torch."))
