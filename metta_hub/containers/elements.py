"""The elements of a tensor as Python's numbers, without torch."""

import struct

#: The format characters of `struct`, by safetensors' names of the dtypes whose elements are numbers of their own.
_FORMATS = {
    "BOOL": "?", "I8": "b", "I16": "h", "I32": "i", "I64": "q", "U8": "B", "U16": "H", "U32": "I", "U64": "Q",
    "F16": "e", "F32": "f", "F64": "d",
}  # fmt: skip
_UPPER_HALF = "BF16"

#: The dtypes that can be decoded.
NUMBERS = frozenset({*_FORMATS, _UPPER_HALF})


def decode(data: bytes, dtype: str) -> tuple[float, ...]:
    """The numbers that some whole elements are.

    Args:
        data: their bytes, little-endian.
        dtype: one of `NUMBERS`.
    """
    if dtype == _UPPER_HALF:  # of a float32
        wide = bytearray(2 * len(data))
        wide[2::4], wide[3::4] = data[::2], data[1::2]
        return struct.unpack(f"<{len(data) // 2}f", wide)
    code = _FORMATS[dtype]
    return struct.unpack(f"<{len(data) // struct.calcsize(f'<{code}')}{code}", data)
