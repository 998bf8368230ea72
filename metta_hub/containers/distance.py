"""How far the values of one tensor are from those of another, without torch, in flat memory."""

import math
import struct
from collections.abc import Iterator

from metta_hub.checkpoint import TensorInfo, Weights
from metta_hub.containers.blocks import BLOCK, Files, blocks_of
from metta_hub.containers.copying import tensor_parts

#: The format characters of `struct` for the dtypes whose values are numbers of their own.
FORMATS = {
    "I8": "b", "I16": "h", "I32": "i", "I64": "q", "U8": "B", "U16": "H", "U32": "I", "U64": "Q",
    "F16": "e", "F32": "f", "F64": "d",
}  # fmt: skip
_UPPER_HALF = "BF16"


def relative(one: Weights, tensor: TensorInfo, other: Weights, twin: TensorInfo) -> float | None:
    """The length of the difference in lengths of the first, |b - a| / |a|, in the Euclidean norm.

    Args:
        one: the weights that `tensor` is of.
        tensor: a.
        other: the weights that `twin` is of.
        twin: b, of the same dtype and shape.

    Returns:
        None when it is no number: for dtypes that are no numbers, values that are not finite, and from zero.

    Raises:
        ChecksumError: a file is damaged.
        SourceChangedError: a file ended too early.
    """
    if tensor.dtype not in FORMATS and tensor.dtype != _UPPER_HALF:
        return None
    moved = length = 0.0
    for mine, theirs in zip(_numbers(one, tensor), _numbers(other, twin), strict=True):
        moved += sum((b - a) * (b - a) for a, b in zip(mine, theirs, strict=True))
        length += sum(a * a for a in mine)
    found = math.sqrt(moved / length) if length and moved >= 0 else math.nan
    return found if math.isfinite(found) else None


def _numbers(weights: Weights, tensor: TensorInfo) -> Iterator[tuple[float, ...]]:
    buffer = memoryview(bytearray(BLOCK))
    with Files() as files:
        parts = tensor_parts(tensor, weights.storages[tensor.storage])
        for block in blocks_of(parts, files, lambda: buffer, defer=False):
            yield _decoded(bytes(block.data), tensor.dtype)


def _decoded(data: bytes, dtype: str) -> tuple[float, ...]:
    if dtype == _UPPER_HALF:  # of a float32
        wide = bytearray(2 * len(data))
        wide[2::4], wide[3::4] = data[::2], data[1::2]
        return struct.unpack(f"<{len(data) // 2}f", wide)
    code = FORMATS[dtype]
    return struct.unpack(f"<{len(data) // struct.calcsize(f'<{code}')}{code}", data)
