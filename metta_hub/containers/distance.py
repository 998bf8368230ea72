"""How far the values of one tensor are from those of another, without torch, in flat memory."""

import math
from collections.abc import Iterator

from metta_hub.checkpoint import TensorInfo, Weights
from metta_hub.containers import elements
from metta_hub.containers.blocks import BLOCK, Files, blocks_of
from metta_hub.containers.copying import tensor_parts

#: Numbers to Python, and none to anybody else.
_NO_LENGTH = "BOOL"


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
    if tensor.dtype not in elements.NUMBERS or tensor.dtype == _NO_LENGTH:
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
            yield elements.decode(bytes(block.data), tensor.dtype)
