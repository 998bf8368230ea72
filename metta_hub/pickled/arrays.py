"""Numbers that numpy and torch pickled: scalars, arrays, small tensors. Neither library is needed.

Source: numpy 2.4, `numpy._core.multiarray.scalar` and `ndarray.__reduce__` (1.x: `numpy.core`); the formats of
elements are those of the array interface, version 3.
"""

import re
import struct
from collections.abc import Sequence
from math import prod

from metta_hub.checkpoint import TensorInfo, Weights
from metta_hub.containers import copying, elements
from metta_hub.containers.pickles import Record
from metta_hub.pickled.objects import class_of, name_of

#: Most elements of an array or tensor in metadata, and rows without any. Larger ones are data, and only spoken of.
MAX_ELEMENTS = 10_000
#: Most dimensions: numpy has 64, and so has the depth of JSON.
MAX_DIMENSIONS = 64

#: The format characters of `struct` by kind and bytes.
_FORMATS = {
    "b1": "?", "i1": "b", "i2": "h", "i4": "i", "i8": "q", "u1": "B", "u2": "H", "u4": "I", "u8": "Q",
    "f2": "e", "f4": "f", "f8": "d",
}  # fmt: skip
_SCALAR = frozenset({"numpy._core.multiarray.scalar", "numpy.core.multiarray.scalar"})
_ARRAY = frozenset({"numpy._core.multiarray._reconstruct", "numpy.core.multiarray._reconstruct"})
_ENCODE = "_codecs.encode"
_TEXT = re.compile(r"([US])(\d{1,9})", re.ASCII)


def is_numpy(value: object) -> bool:
    """Whether numpy would have made the object."""
    return class_of(value) in _SCALAR | _ARRAY


def numpy_value(value: Record) -> object:
    """A numpy scalar as a number or text, an array as nested lists.

    Raises:
        ValueError: it holds something else than numbers or text, or too much; says what.
    """
    if class_of(value) in _SCALAR:
        dtype, data = _arguments(value, 2)
        return _decoded(data, *_dtype(dtype), 1)[0]
    state = value.states[0] if len(value.states) == 1 else None
    match state:
        case (int(), tuple() as shape, Record() as dtype, bool(fortran), data):
            sizes = _sizes(shape)
            flat = _decoded(data, *_dtype(dtype), prod(sizes))
            return _nested(flat, sizes, fortran=fortran)
    raise ValueError("an array without its values")


def tensor_value(weights: Weights, info: TensorInfo) -> object:
    """A tensor's values as a number or nested lists.

    Raises:
        ValueError: it has too many elements, or a dtype that Python has no number for.
        ChecksumError: the file is damaged.
    """
    _check_elements("a tensor", info.shape)
    if info.dtype not in elements.NUMBERS:
        raise ValueError(f"a tensor of {info.dtype}")
    flat = elements.decode(bytes(copying.read_tensor(weights, info)), info.dtype)
    return _nested(flat, info.shape, fortran=False)


def _arguments(value: Record, count: int) -> tuple[object, ...]:
    if type(value.args) is not tuple or len(value.args) != count:
        raise ValueError("a numpy value without its parts")
    return value.args


def _dtype(value: object) -> tuple[str, str]:
    """Kind with bytes ("f8"), and the byte order ("<", ">", "|")."""
    if class_of(value) != "numpy.dtype" or type(value) is not Record or not value.states:
        raise ValueError("a numpy value without a dtype")
    match _arguments(value, 3)[0], value.states[0]:
        case (str(code), (int(), str(order), *_)):
            return code, order
    raise ValueError("a numpy value without a dtype")


def _bytes(value: object, size: int) -> bytes:
    """So many bytes, which protocols of before 3 spell as a call that encodes a text."""
    content = _content(value)
    if len(content) != size:
        raise ValueError("a numpy array whose bytes do not fit its shape")
    return content if type(content) is bytes else content.encode("latin-1")  # type: ignore[union-attr]


def _content(value: object) -> bytes | str:
    if type(value) is bytes:
        return value
    match value:
        case Record(callable=called, args=(str(text), "latin1" | "latin-1")) if name_of(called) == _ENCODE:
            return text
        case Record(callable=called, args=()) if name_of(called) == "builtins.bytes":
            return b""
    raise ValueError("a numpy array of objects")


def _decoded(data: object, code: str, order: str, count: int) -> list[object]:
    sign = ">" if order == ">" else "<"
    text = _TEXT.fullmatch(code)
    if text is not None:
        return _texts(data, text[1], int(text[2]), sign, count)
    known = _FORMATS.get(code)
    if known is None:
        raise ValueError(f"numpy's {code[:20]}")
    return list(struct.unpack(f"{sign}{count}{known}", _bytes(data, count * int(code[1:]))))


def _texts(data: object, kind: str, length: int, sign: str, count: int) -> list[object]:
    """Texts of a fixed length, four bytes a character or one, filled up with zeros."""
    width = length * (4 if kind == "U" else 1)
    encoding = {"<": "utf-32-le", ">": "utf-32-be"}[sign] if kind == "U" else "utf-8"
    content = _bytes(data, width * count)
    parts = (content[at : at + width] for at in range(0, len(content), width)) if width else [b""] * count
    return [part.decode(encoding, "replace").rstrip("\0") for part in parts]


def _sizes(shape: tuple[object, ...]) -> tuple[int, ...]:
    sizes = tuple(size for size in shape[:MAX_DIMENSIONS] if type(size) is int and 0 <= size < 1 << 63)
    if len(sizes) != len(shape):
        raise ValueError("an array of an impossible shape")
    _check_elements("an array", sizes)
    return sizes


def _check_elements(what: str, shape: Sequence[int]) -> None:
    count = prod(max(1, size) for size in shape)
    if count > MAX_ELEMENTS:
        raise ValueError(f"{what} of {count:,} elements" if prod(shape) else f"{what} of {count:,} empty rows")


def _nested(flat: Sequence[object], shape: Sequence[int], *, fortran: bool) -> object:
    """Nested lists of a shape; a scalar for none."""
    if not shape:
        return flat[0]
    if fortran:
        # Columns first: element (i, j, …) stands at i + j * rows + …
        return [_nested(flat[at :: shape[0]], shape[1:], fortran=True) for at in range(shape[0])]
    step = prod(shape[1:])
    return [_nested(flat[at * step : (at + 1) * step], shape[1:], fortran=False) for at in range(shape[0])]
