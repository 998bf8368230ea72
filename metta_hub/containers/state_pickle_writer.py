"""The pickle of a state dict, byte for byte as torch.save writes it: protocol 2, an OrderedDict of tensors.

Source: torch 2.13, `torch.serialization._save` and `torch.Tensor._reduce_ex_internal`; and CPython's pickler, for
its batches of 1,000 items and for what it puts into the memo.
"""

import math
from collections.abc import Mapping, Sequence
from struct import Struct

from metta_hub.checkpoint import TensorInfo
from metta_hub.containers.dtypes import BY_NAME, Dtype

_u8 = Struct("<B").pack
_u16 = Struct("<H").pack
_i32 = Struct("<i").pack
_u32 = Struct("<I").pack

_BATCH = 1000
_SHORT_TUPLES = (b")", b"\x85", b"\x86", b"\x87")


def dumps(tensors: Sequence[TensorInfo], storages: Mapping[str, tuple[str, int]]) -> bytes:
    """Pickle a state dict.

    Args:
        tensors: in the order of the dict.
        storages: for each storage key in `tensors`, the number that the file gives the storage, and its bytes.
    """
    writer = _Writer()
    writer.ordered_dict()
    for first in range(0, len(tensors), _BATCH):
        batch = tensors[first : first + _BATCH]
        writer.out += b"(" if len(batch) > 1 else b""
        for tensor in batch:
            number, size = storages[tensor.storage]
            writer.text(tensor.name)
            writer.tensor(tensor, BY_NAME[tensor.dtype], number, size)
        writer.out += b"u" if len(batch) > 1 else b"s"
    return bytes(writer.out + b".")


class _Writer:
    """Appends opcodes to `out`; what the pickler would find again in its memo is kept in `_memo`."""

    def __init__(self) -> None:
        self.out = bytearray(b"\x80\x02")
        self._memo: dict[str, int] = {}
        self._puts = 0

    def text(self, text: str) -> None:
        """A text that is not looked up in the memo."""
        raw = text.encode()
        self.out += b"X" + _u32(len(raw)) + raw
        self._put()

    def ordered_dict(self) -> None:
        """An empty OrderedDict."""
        self._shared("collections OrderedDict", b"ccollections\nOrderedDict\n")
        self.out += b")R"
        self._put()

    def tensor(self, tensor: TensorInfo, dtype: Dtype, number: str, size: int) -> None:
        """A tensor over the storage `number` of `size` bytes."""
        rebuild = "_rebuild_tensor_v2" if dtype.storage else "_rebuild_tensor_v3"
        self._global("torch._utils", rebuild)
        self.out += b"("
        self._storage(dtype, number, size)
        self._number(tensor.offset // dtype.itemsize)
        shape, stride = _as_torch_counts(tensor, dtype)
        self._tuple(shape)
        self._tuple(stride)
        self.out += b"\x89"
        self.ordered_dict()
        if not dtype.storage:
            self._global("torch", dtype.torch)
        self.out += b"t"
        self._put()
        self.out += b"R"
        self._put()

    def _storage(self, dtype: Dtype, number: str, size: int) -> None:
        self.out += b"("
        self._known_text("storage")
        if dtype.storage:
            self._global("torch", dtype.storage)
        else:
            self._global("torch.storage", "UntypedStorage")
        self._known_text(number)
        self._known_text("cpu")
        self._number(size // dtype.itemsize if dtype.storage else size)
        self.out += b"t"
        self._put()
        self.out += b"Q"

    def _known_text(self, text: str) -> None:
        raw = text.encode()
        self._shared(f"'{text}", b"X" + _u32(len(raw)) + raw)

    def _global(self, module: str, name: str) -> None:
        self._shared(f"{module} {name}", f"c{module}\n{name}\n".encode())

    def _shared(self, key: str, opcodes: bytes) -> None:
        """What the pickler writes once and then finds in its memo."""
        index = self._memo.get(key)
        if index is None:
            self._memo[key] = self._puts
            self.out += opcodes
            self._put()
        else:
            self.out += b"h" + _u8(index) if index < 1 << 8 else b"j" + _u32(index)

    def _put(self) -> None:
        self.out += b"q" + _u8(self._puts) if self._puts < 1 << 8 else b"r" + _u32(self._puts)
        self._puts += 1

    def _number(self, value: int) -> None:
        if value < 1 << 8:
            self.out += b"K" + _u8(value)
        elif value < 1 << 16:
            self.out += b"M" + _u16(value)
        elif value < 1 << 31:
            self.out += b"J" + _i32(value)
        else:
            raw = value.to_bytes(value.bit_length() // 8 + 1, "little")
            self.out += b"\x8a" + _u8(len(raw)) + raw

    def _tuple(self, values: Sequence[int]) -> None:
        short = len(values) < len(_SHORT_TUPLES)
        self.out += b"" if short else b"("
        for value in values:
            self._number(value)
        self.out += _SHORT_TUPLES[len(values)] if short else b"t"
        if values:
            self._put()


def _as_torch_counts(tensor: TensorInfo, dtype: Dtype) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shape and stride. In torch two 4-bit values are one element; they are contiguous."""
    if dtype.packed == 1:
        return tensor.shape, tensor.stride
    shape = (*tensor.shape[:-1], tensor.shape[-1] // dtype.packed)
    return shape, tuple(math.prod(shape[index + 1 :]) for index in range(len(shape)))
