"""Views that torch marks "negated" or "conjugated" instead of changing their bytes: resolved by flipping sign bits.

That is IEEE 754's negation. torch 2.13's own resolve_neg() of complex tensors was seen to give +0 for 0 and other bits
for some NaNs: equal numbers, of which a few have other bits.
"""

from collections.abc import Iterable, Iterator

from metta_hub.checkpoint import BITS, TensorInfo

#: Numbers with a sign bit of their own, highest in their last byte.
_FLOATS = frozenset({"F16", "BF16", "F32", "F64"})
_COMPLEX = "C64"
_SIGN = 0x80


def can_resolve(tensor: TensorInfo) -> bool:
    """Whether flipping bits gives the values that the marks of a tensor mean."""
    return tensor.dtype == _COMPLEX or (tensor.dtype in _FLOATS and not tensor.conjugated)


def resolved(tensor: TensorInfo, parts: Iterable[bytes]) -> Iterator[bytes]:
    """The values of a marked tensor, of which `parts` are the bytes as stored, in row-major order."""
    unit = _flips(tensor)
    at = 0
    for part in parts:
        phase = at % len(unit)
        mask = (unit * (len(part) // len(unit) + 2))[phase : phase + len(part)]
        flipped = int.from_bytes(part, "little") ^ int.from_bytes(mask, "little")
        yield flipped.to_bytes(len(part), "little")
        at += len(part)


def _flips(tensor: TensorInfo) -> bytes:
    """What to flip in each element: of a complex one, conjugation flips the second number's sign, negation both."""
    unit = bytearray(BITS[tensor.dtype] // 8)
    if tensor.negated:
        unit[-1] ^= _SIGN
        if tensor.dtype == _COMPLEX:
            unit[len(unit) // 2 - 1] ^= _SIGN
    if tensor.conjugated:
        unit[-1] ^= _SIGN
    return bytes(unit)
