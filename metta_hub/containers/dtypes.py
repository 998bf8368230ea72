"""The dtypes that both PyTorch and safetensors know, and the names they have on each side.

Sources: safetensors 0.8 (`Dtype` of its Rust crate: names, and the order its writer sorts tensors by) and
torch 2.13 (`torch.storage._dtype_to_storage_type_map`, `torch.storage._new_dtypes`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from metta_hub.checkpoint import BITS


@dataclass(frozen=True, slots=True)
class Dtype:
    """One dtype.

    Attributes:
        name: safetensors' name, a key of `checkpoint.BITS`.
        torch: its name in the module torch.
        storage: the class in the module torch of a storage that holds it; empty when torch pickles the
            tensor over an UntypedStorage instead (`torch._utils._rebuild_tensor_v3`).
        itemsize: bytes of one element as torch counts elements.
        packed: elements as safetensors counts them in one of torch's.
    """

    name: str
    torch: str
    storage: str
    itemsize: int
    packed: int = 1


def _dtype(name: str, torch: str, storage: str = "") -> Dtype:
    bits = BITS[name]
    packed = max(1, 8 // bits)
    return Dtype(name, torch, storage, bits * packed // 8, packed)


#: In the order by which safetensors' writer sorts, smallest first; the writer puts the largest first.
DTYPES: tuple[Dtype, ...] = (
    _dtype("BOOL", "bool", "BoolStorage"),
    _dtype("F4", "float4_e2m1fn_x2"),
    _dtype("U8", "uint8", "ByteStorage"),
    _dtype("I8", "int8", "CharStorage"),
    _dtype("F8_E5M2", "float8_e5m2"),
    _dtype("F8_E4M3", "float8_e4m3fn"),
    _dtype("F8_E8M0", "float8_e8m0fnu"),
    _dtype("F8_E4M3FNUZ", "float8_e4m3fnuz"),
    _dtype("F8_E5M2FNUZ", "float8_e5m2fnuz"),
    _dtype("I16", "int16", "ShortStorage"),
    _dtype("U16", "uint16"),
    _dtype("F16", "float16", "HalfStorage"),
    _dtype("BF16", "bfloat16", "BFloat16Storage"),
    _dtype("I32", "int32", "IntStorage"),
    _dtype("U32", "uint32"),
    _dtype("F32", "float32", "FloatStorage"),
    _dtype("C64", "complex64", "ComplexFloatStorage"),
    _dtype("F64", "float64", "DoubleStorage"),
    _dtype("I64", "int64", "LongStorage"),
    _dtype("U64", "uint64"),
)

BY_NAME: Mapping[str, Dtype] = {dtype.name: dtype for dtype in DTYPES}
BY_TORCH: Mapping[str, Dtype] = {dtype.torch: dtype for dtype in DTYPES}
BY_STORAGE: Mapping[str, Dtype] = {dtype.storage: dtype for dtype in DTYPES if dtype.storage}
RANK: Mapping[str, int] = {dtype.name: rank for rank, dtype in enumerate(DTYPES)}

#: What torch has besides, and safetensors has no place for: named in refusals.
STORAGES_WITHOUT_COUNTERPART: Mapping[str, str] = {
    "ComplexDoubleStorage": "complex128",
    "QInt8Storage": "quantized (qint8)",
    "QInt32Storage": "quantized (qint32)",
    "QUInt8Storage": "quantized (quint8)",
    "QUInt4x2Storage": "quantized (quint4x2)",
    "QUInt2x4Storage": "quantized (quint2x4)",
}
