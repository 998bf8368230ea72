"""The pickle of a state dict, as torch.save writes it: judged, read, and written.

`read` takes the records that `pickles.parse` made. It knows the few names that a plain state dict needs; what is not
spelled as torch spells it is not plain, and is not interpreted. Source: torch 2.13, `torch._utils._rebuild_*`,
`torch.Tensor._reduce_ex_internal` and `torch.serialization._save`.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

from metta_hub.checkpoint import TensorInfo
from metta_hub.containers.dtypes import BY_STORAGE, BY_TORCH, DTYPES, Dtype
from metta_hub.containers.pickles import Persistent, Pickled, Record
from metta_hub.errors import FormatError

_ORDERED_DICT = "collections.OrderedDict"
_PARAMETER = "torch._utils._rebuild_parameter"
_TENSOR = "torch._utils._rebuild_tensor"
_TENSOR_V2 = "torch._utils._rebuild_tensor_v2"
_TENSOR_V3 = "torch._utils._rebuild_tensor_v3"
_UNTYPED = frozenset({"torch.storage.UntypedStorage", "torch.UntypedStorage"})

#: Every name that a plain pickle may ask for.
PLAIN_GLOBALS = frozenset(
    {
        _ORDERED_DICT,
        _PARAMETER,
        _TENSOR,
        _TENSOR_V2,
        _TENSOR_V3,
        *_UNTYPED,
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
    "torch._utils._rebuild_meta_tensor_no_storage": "meta tensors, which have no values",
    "torch._utils._rebuild_wrapper_subclass": "tensors of a class of their own",
    "torch._utils._rebuild_from_type_v2": "tensors of a class of their own, or with attributes",
    "torch._utils._rebuild_parameter_with_state": "parameters with attributes",
}

#: Most dimensions that torch allows, and the largest number in a shape, stride or offset.
_MAX_DIMENSIONS = 64
_MAX_NUMBER = (1 << 63) - 1

#: Deepest `_metadata`; torch's own is two levels.
_MAX_METADATA_DEPTH = 8


class NotPlain(Exception):  # noqa: N818 - never leaves the package: it becomes Findings or a NotPlainError
    """A pickle holds more than tensors; the message says what."""


@dataclass(frozen=True, slots=True)
class StateDict:
    """What the pickle of a plain state dict says; nothing of it has been compared with a file yet.

    Attributes:
        tensors: in the order of the dict.
        storages: the bytes that it claims for each storage that a tensor looks into.
    """

    tensors: tuple[TensorInfo, ...]
    storages: Mapping[str, int]


def judge_globals(names: Sequence[str]) -> str:
    """Why these names are not those of a plain pickle; empty when they are."""
    foreign = sorted((name for name in names if name not in PLAIN_GLOBALS), key=_is_common)
    if not foreign:
        return ""
    kinds = sorted({_WITHOUT_COUNTERPART[name] for name in foreign if name in _WITHOUT_COUNTERPART})
    if kinds and all(name in _WITHOUT_COUNTERPART for name in foreign):
        return f"it holds {' and '.join(kinds)}, which safetensors has no place for"
    shown = ", ".join(foreign[:5]) + (f" and {len(foreign) - 5} more" if len(foreign) > 5 else "")  # noqa: PLR2004
    return f"its pickle asks for {shown}"


def _is_common(name: str) -> bool:
    """Whether a name says little about the pickle that asks for it: others are shown first."""
    return name.startswith(("__builtin__.", "builtins.", "_codecs.", "collections.", "numpy.", "torch."))


def read(pickled: Pickled, path: Path | str) -> StateDict:
    """Read the tensors of a plain state dict.

    Raises:
        NotPlain: it holds anything else.
        FormatError: it claims something impossible.
    """
    reason = judge_globals(pickled.names)
    if reason:
        raise NotPlain(reason)
    if pickled.repeated is not None:
        raise FormatError(path, f"its pickle sets '{pickled.repeated}' twice")
    return _Reader(pickled, path).read()


class _Reader:
    """Reads one pickle. Globals are told apart by identity: a pickle has one object for each."""

    def __init__(self, pickled: Pickled, path: Path | str) -> None:
        self._root = pickled.root
        self._path = path
        self._names = {id(name): str(name) for name in pickled.globals}
        self._storages: dict[str, tuple[str, int]] = {}
        self._kinds: dict[tuple[int, int], tuple[str, Dtype, int]] = {}

    def read(self) -> StateDict:
        tensors = tuple(self._tensor(name, record) for name, record in self._entries())
        if len({tensor.name for tensor in tensors}) != len(tensors):
            raise FormatError(self._path, "its pickle names a tensor twice")
        try:
            "".join(tensor.name for tensor in tensors).encode()
        except UnicodeEncodeError:
            raise FormatError(self._path, "a name of a tensor is not text") from None
        return StateDict(tensors, {key: size for key, (_, size) in self._storages.items()})

    def _entries(self) -> Iterator[tuple[str, Record]]:
        root = self._root
        pairs: Iterable[tuple[object, object]]
        if type(root) is dict:
            pairs = root.items()
        elif type(root) is Record and self._is_ordered_dict(root):
            pairs = root.pairs
            self._check_state(root)
        else:
            raise NotPlain(f"it holds {_describe(root)}, not a dict of tensors")
        for name, value in pairs:
            if type(name) is not str:
                raise NotPlain(f"a key of its dict is {_describe(name)}, not a name")
            if type(value) is not Record:
                raise NotPlain(f"its entry '{name}' is {_describe(value)}, not a tensor")
            yield name, value

    def _name(self, value: object) -> str | None:
        return self._names.get(id(value))

    def _is_ordered_dict(self, record: Record) -> bool:
        return (
            self._names.get(id(record.callable)) == _ORDERED_DICT
            and record.args == ()
            and not record.kwargs
            and not record.items
        )

    # --- what torch adds to the root ---

    def _check_state(self, root: Record) -> None:
        """The root of `Module.state_dict()` has one attribute, `_metadata`: version numbers by module."""
        if not root.states:
            return
        state = root.states[0]
        if len(root.states) > 1 or type(state) is not dict or set(state) != {"_metadata"}:
            raise NotPlain("its dict has attributes of its own")
        if not self._is_plain_data(state["_metadata"], set(), _MAX_METADATA_DEPTH):
            raise NotPlain("its dict's attribute _metadata holds more than text and numbers")

    def _is_plain_data(self, value: object, seen: set[int], depth: int) -> bool:
        if value is None or type(value) in {str, int, float, bool}:
            return True
        if id(value) in seen:
            return True
        seen.add(id(value))
        if type(value) is dict:
            pairs: Iterable[tuple[object, object]] = value.items()
        elif type(value) is Record and self._is_ordered_dict(value) and not value.states:
            pairs = value.pairs
        else:
            return False
        return depth > 0 and all(type(key) is str and self._is_plain_data(item, seen, depth - 1) for key, item in pairs)

    # --- tensors ---

    def _tensor(self, name: str, record: Record) -> TensorInfo:
        made_by = self._names.get(id(record.callable))
        if made_by == _PARAMETER:
            record = self._inside_parameter(name, record)
            made_by = self._names.get(id(record.callable))
        args = _arguments(made_by, record.args)
        if args is None or record.items or record.pairs or record.states:
            raise NotPlain(f"its entry '{name}' is not a tensor as torch saves one")
        storage, offset, shape, stride, grad, hooks, kind, marks = args
        if type(grad) is not bool or not (hooks is None or self._is_empty(hooks)):
            raise NotPlain(f"the tensor '{name}' has hooks")
        if marks is not None:
            _check_marks(name, marks)
        key, dtype, size = self._storage(name, storage, kind)
        return _info(name, dtype, (key, size), (offset, shape, stride), self._path)

    def _inside_parameter(self, name: str, record: Record) -> Record:
        args = record.args
        if type(args) is tuple and len(args) == 3 and type(args[0]) is Record and self._is_empty(args[2]):  # noqa: PLR2004 - tensor, requires_grad, hooks
            return args[0]
        raise NotPlain(f"the parameter '{name}' is not one as torch saves it")

    def _is_empty(self, hooks: object) -> bool:
        return type(hooks) is Record and not hooks.pairs and not hooks.states and self._is_ordered_dict(hooks)

    def _storage(self, name: str, value: object, kind: object) -> tuple[str, Dtype, int]:
        """Key, dtype and bytes of a tensor's storage."""
        pid = value.pid if type(value) is Persistent else None
        if type(pid) is not tuple or len(pid) != 5 or pid[0] != "storage":  # noqa: PLR2004
            raise NotPlain(f"the tensor '{name}' does not lie in a storage as torch saves one")
        _, class_, key, device, count = pid
        if type(key) is not str or type(device) is not str or not _is_size(count):
            raise NotPlain(f"the tensor '{name}' does not lie in a storage as torch saves one")
        found = self._kinds.get((id(class_), id(kind)))
        if found is None:
            found = self._kinds[id(class_), id(kind)] = self._kind(name, class_, kind)
        class_name, dtype, itemsize = found
        claim = class_name, count * itemsize
        if self._storages.setdefault(key, claim) != claim:
            raise FormatError(self._path, f"its pickle describes the storage '{key}' in two ways")
        return key, dtype, count * itemsize

    def _kind(self, name: str, class_: object, kind: object) -> tuple[str, Dtype, int]:
        """Class of a storage, dtype of a tensor in it, and bytes of what the storage counts."""
        class_name = self._name(class_) or ""
        if kind is None:
            dtype = BY_STORAGE.get(class_name.removeprefix("torch."))
            itemsize = dtype.itemsize if dtype else 0
        else:
            dtype = BY_TORCH.get((self._name(kind) or "").removeprefix("torch."))
            itemsize = 1 if class_name in _UNTYPED else 0
        if dtype is None or not itemsize:
            raise NotPlain(f"the tensor '{name}' has a dtype that safetensors has no place for")
        return class_name.rpartition(".")[2], dtype, itemsize


def _arguments(made_by: str | None, args: object) -> tuple[object, ...] | None:
    """Storage, offset, shape, stride, requires_grad, hooks, dtype and marks of a tensor; None if it is none."""
    if type(args) is not tuple:
        return None
    if made_by == _TENSOR_V2 and len(args) in {6, 7}:
        return (*args[:6], None, args[6] if args[6:] else None)
    if made_by == _TENSOR_V3 and len(args) in {7, 8}:
        return (*args, None)[:8]
    if made_by == _TENSOR and len(args) == 4:  # noqa: PLR2004 - storage, offset, shape, stride
        return (*args, False, None, None, None)
    return None


def _check_marks(name: str, marks: object) -> None:
    """Marks that torch keeps beside the values, "negated" and "conjugated": a copy of the bytes would lose them."""
    if type(marks) is not dict or not set(marks) <= {"neg", "conj"}:
        raise NotPlain(f"the tensor '{name}' has attributes")
    if any(value is not False for value in marks.values()):
        raise NotPlain(
            f"the tensor '{name}' is a negated or conjugated view, whose bytes are not its values; "
            "call resolve_neg() and resolve_conj() before saving"
        )


def _is_size(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 <= value <= _MAX_NUMBER


def _describe(value: object) -> str:
    if type(value) is Record:
        return f"an object of {value.callable}" if not isinstance(value.callable, Record) else "an object"
    words = {dict: "a dict", list: "a list", tuple: "a tuple", str: "text", int: "a number", float: "a number"}
    return "None" if value is None else words.get(type(value), f"a {type(value).__name__}")


def _info(
    name: str, dtype: Dtype, storage: tuple[str, int], place: tuple[object, object, object], path: Path | str
) -> TensorInfo:
    """A tensor, once what it claims is possible: it must lie within its storage."""
    key, storage_size = storage
    offset, shape, stride = place
    if not (_is_size(offset) and _are_sizes(shape, stride)):
        raise FormatError(path, f"the tensor '{name}' has a shape, stride or offset that no tensor can have")
    sizes: tuple[int, ...] = shape  # type: ignore[assignment]  # as `_are_sizes` has found
    steps: tuple[int, ...] = stride  # type: ignore[assignment]
    start = offset * dtype.itemsize
    count, last = 1, 0
    for size, step in zip(sizes, steps, strict=True):
        count *= size
        last += (size - 1) * step
    if count == 0:
        start = 0
    elif start + (last + 1) * dtype.itemsize > storage_size:
        raise FormatError(path, f"the tensor '{name}' reaches beyond its storage of {storage_size:,} bytes")
    info = TensorInfo(name, dtype.name, sizes, steps, key, start)
    return _unpacked(info, dtype) if dtype.packed > 1 else info


def _are_sizes(shape: object, stride: object) -> bool:
    """Whether these are a shape and a stride: as many numbers each, and none that a tensor can't have."""
    if type(shape) is not tuple or type(stride) is not tuple or not len(shape) == len(stride) <= _MAX_DIMENSIONS:
        return False
    for number in shape + stride:  # noqa: SIM110 - all() takes three times as long
        if type(number) is not int or not 0 <= number <= _MAX_NUMBER:
            return False
    return True


def _unpacked(info: TensorInfo, dtype: Dtype) -> TensorInfo:
    """As safetensors counts 4-bit values: in torch two of them are one element."""
    if not info.shape or not info.contiguous:
        raise NotPlain(f"the tensor '{info.name}' is a strided view of 4-bit values, which safetensors cannot hold")
    shape = (*info.shape[:-1], info.shape[-1] * dtype.packed)
    stride = tuple(math.prod(shape[index + 1 :]) for index in range(len(shape)))
    return TensorInfo(info.name, info.dtype, shape, stride, info.storage, info.offset)
