"""The tensors of a pickle, as torch.save writes them, wherever in it they stand.

What is not spelled as torch spells it is refused, and not interpreted; `plain` has the names. Source: torch 2.13,
`torch._utils._rebuild_*`, `torch.Tensor._reduce_ex_internal`, `torch.serialization._save` and `_legacy_save`.
"""

from collections.abc import Iterable, Iterator, Mapping
from math import prod
from operator import mul
from pathlib import Path
from typing import Literal, NamedTuple, TypeGuard

from metta_hub.checkpoint import TensorInfo
from metta_hub.containers import marks
from metta_hub.containers.dtypes import BY_STORAGE, BY_TORCH, Dtype
from metta_hub.containers.pickles import Persistent, Pickled, Record
from metta_hub.containers.plain import ORDERED_DICT, PARAMETER, TENSOR, TENSOR_V2, TENSOR_V3, UNTYPED, NotPlain
from metta_hub.errors import FormatError

#: Most dimensions that torch allows, and the largest number in a shape, stride or offset.
_MAX_DIMENSIONS = 64
_MAX_NUMBER = (1 << 63) - 1

#: Most letters of the names of all tensors: they stand in cards and tables, too.
MAX_LETTERS = 4 << 20

#: Numbers that can be learned: torch makes no other tensor require gradients.
_WITH_GRADIENTS = ("float", "bfloat", "complex")

#: How a pickle names storages: the zip by texts, torch.package by numbers, the stream of before 1.6 also as parts.
Naming = Literal["zip", "package", "legacy"]


class _Place(NamedTuple):
    """The storage of a tensor, or the part of it that is the tensor's: key, first byte, bytes."""

    key: str
    start: int
    size: int


class PickledTensors:
    """Reads the tensors of one pickle. Globals are told apart by identity: a pickle has one object for each.

    Args:
        pickled: its records.
        path: the file, for errors.
        naming: how it names storages.
    """

    def __init__(self, pickled: Pickled, path: Path | str, *, naming: Naming = "zip") -> None:
        self._path = path
        self._key_type = int if naming == "package" else str
        self._has_views = naming == "legacy"
        self._id_length = 6 if self._has_views else 5
        self._views: dict[str, tuple[str, _Place]] = {}
        self._names = {id(name): str(name) for name in pickled.globals}
        self._storages: dict[str, tuple[str, int, int]] = {}
        self._kinds: dict[tuple[int, int], tuple[str, Dtype, int]] = {}

    @property
    def sizes(self) -> Mapping[str, int]:
        """The bytes that the pickle claims for each storage that a tensor looked into so far."""
        return {key: size for key, (_, size, _) in self._storages.items()}

    def size_of(self, key: str) -> int:
        """The bytes that the pickle claims for one of them."""
        return self._storages[key][1]

    @property
    def counts(self) -> Mapping[str, int]:
        """The elements that it claims for each of them."""
        return {key: count for key, (*_, count) in self._storages.items()}

    def check_keys(self) -> None:
        """Compare the keys of storages with those of their parts.

        Raises:
            FormatError: one is both.
        """
        if not self._views.keys().isdisjoint(self._storages):
            raise FormatError(self._path, "its pickle gives a storage and a part of one the same key")

    def is_ordered_dict(self, record: Record) -> bool:
        """Whether a record is an OrderedDict, whatever its attributes are."""
        return (
            self._names.get(id(record.callable)) == ORDERED_DICT
            and (record.args == () or _listed(record.args) is not None)
            and not record.kwargs
            and not record.items
        )

    def read(self, name: str, record: Record) -> TensorInfo:
        """Read one tensor; its storage may lie in the file or not.

        Raises:
            NotPlain: it is no tensor as torch saves one.
            FormatError: it claims something impossible.
        """
        made_by, learns = self._names.get(id(record.callable)), False
        if made_by == PARAMETER:
            record, learns = self._inside_parameter(name, record)
            made_by = self._names.get(id(record.callable))
        args = _arguments(made_by, record.args)
        if args is None or record.items or record.pairs or record.states:
            what = ", but a dict" if self.is_ordered_dict(record) else ""
            raise NotPlain(f"its entry '{name}' is not a tensor as torch saves one{what}")
        storage, offset, shape, stride, grad, hooks, kind, marked = args
        if type(grad) is not bool or not (hooks is None or self._is_empty(hooks)):
            raise NotPlain(f"the tensor '{name}' has hooks")
        place, dtype = self._storage(name, storage, kind)
        if (grad or learns) and not dtype.torch.startswith(_WITH_GRADIENTS):
            raise NotPlain(f"the tensor '{name}' of {dtype.name} requires gradients, which torch refuses to load")
        info = _info(name, dtype, place, (offset, shape, stride), self._path)
        return info if marked is None else _marked(info, marked)

    def _inside_parameter(self, name: str, record: Record) -> tuple[Record, bool]:
        """The tensor of a parameter, and whether it requires gradients."""
        match record.args:
            case (Record() as tensor, bool(learns), hooks) if self._is_empty(hooks):
                return tensor, learns
        raise NotPlain(f"the parameter '{name}' is not one as torch saves it")

    def _is_empty(self, hooks: object) -> bool:
        if type(hooks) is not Record or hooks.pairs or hooks.states or not self.is_ordered_dict(hooks):
            return False
        return not hooks.args or not _listed(hooks.args)

    def _storage(self, name: str, value: object, kind: object) -> tuple[_Place, Dtype]:
        """Where a tensor may lie, and its dtype."""
        pid = value.pid if type(value) is Persistent else None
        if type(pid) is not tuple or len(pid) != self._id_length or pid[0] != "storage":
            raise NotPlain(f"the tensor '{name}' does not lie in a storage as torch saves one")
        _, class_, key, device, count = pid[:5]
        if type(key) is not self._key_type or type(device) is not str or not _is_size(count):
            raise NotPlain(f"the tensor '{name}' does not lie in a storage as torch saves one")
        key = str(key)
        found = self._kinds.get((id(class_), id(kind)))
        if found is None:
            found = self._kinds[id(class_), id(kind)] = self._kind(name, class_, kind)
        class_name, dtype, itemsize = found
        claim = class_name, count * itemsize, count
        if self._storages.setdefault(key, claim) != claim:
            raise FormatError(self._path, f"its pickle describes the storage '{key}' in two ways")
        whole = _Place(key, 0, count * itemsize)
        if not self._has_views or pid[5] is None:
            return whole, dtype
        return self._view(name, pid[5], whole, found), dtype

    def _view(self, name: str, view: object, whole: _Place, kind: tuple[str, Dtype, int]) -> _Place:
        """A part of a storage, as PyTorch up to 0.3 names one: its own key, offset and elements."""
        class_name, _, itemsize = kind
        if type(view) is not tuple or list(map(type, view)) != [str, int, int] or not all(map(_is_size, view[1:])):
            raise NotPlain(f"the tensor '{name}' does not lie in a storage as torch saves one")
        key, offset, count = view
        part = _Place(whole.key, offset * itemsize, count * itemsize)
        if part.start + part.size > whole.size:
            raise FormatError(self._path, f"the tensor '{name}' lies in a part that reaches beyond its storage")
        if self._views.setdefault(key, (class_name, part)) != (class_name, part):
            raise FormatError(self._path, f"its pickle describes the storage '{key}' in two ways")
        return part

    def _kind(self, name: str, class_: object, kind: object) -> tuple[str, Dtype, int]:
        """Class of a storage, dtype of a tensor in it, and bytes of what the storage counts."""
        class_name = self._names.get(id(class_)) or ""
        if kind is None:
            dtype = BY_STORAGE.get(class_name.removeprefix("torch."))
            itemsize = dtype.itemsize if dtype else 0
        else:
            dtype = BY_TORCH.get((self._names.get(id(kind)) or "").removeprefix("torch."))
            itemsize = 1 if class_name in UNTYPED else 0
        if dtype is None or not itemsize:
            raise NotPlain(f"the tensor '{name}' has a dtype that safetensors has no place for")
        return class_name.rpartition(".")[2], dtype, itemsize


def check_names(tensors: Iterable[TensorInfo], path: Path | str) -> None:
    """Look at the names of all tensors together.

    Raises:
        FormatError: one is no text that can be written, or they are too long.
    """
    names = "".join(tensor.name for tensor in tensors)
    if len(names) > MAX_LETTERS:
        raise FormatError(path, f"the names of its tensors have {len(names):,} letters; {MAX_LETTERS:,} is the limit")
    try:
        names.encode()
    except UnicodeEncodeError:
        raise FormatError(path, "a name of a tensor is not text") from None


def _listed(args: object) -> list[list[object]] | None:
    """The pairs that Python 2 gives an OrderedDict as its argument, a list of lists; None if it is none."""
    listed = args[0] if type(args) is tuple and len(args) == 1 else None
    if type(listed) is list and all(type(pair) is list and len(pair) == 2 for pair in listed):  # noqa: PLR2004 - key, value
        return listed
    return None


def pairs_of(record: Record) -> Iterator[tuple[object, object]]:
    """The keys and values of an OrderedDict."""
    yield from ((key, value) for key, value in _listed(record.args) or ())
    yield from record.pairs


def _arguments(made_by: str | None, args: object) -> tuple[object, ...] | None:
    """Storage, offset, shape, stride, requires_grad, hooks, dtype and marks of a tensor; None if it is none."""
    if type(args) is not tuple:
        return None
    if made_by == TENSOR_V2 and len(args) in {6, 7}:
        return (*args[:6], None, args[6] if args[6:] else None)
    if made_by == TENSOR_V3 and len(args) in {7, 8} and args[6] is not None:  # torch would take its default dtype
        return (*args, None)[:8]
    if made_by == TENSOR and len(args) == 4:  # noqa: PLR2004 - storage, offset, shape, stride
        return (*args, False, None, None, None)
    return None


def _marked(info: TensorInfo, value: object) -> TensorInfo:
    """With the marks that torch keeps beside the values, "neg" and "conj": a copy of the bytes would lose them."""
    if (
        type(value) is not dict
        or not value.keys() <= {"neg", "conj"}
        or not all(type(v) is bool for v in value.values())
    ):
        raise NotPlain(f"the tensor '{info.name}' has attributes")
    if not any(value.values()):
        return info
    marked = info._replace(negated=value.get("neg", False), conjugated=value.get("conj", False))
    if not marks.can_resolve(marked):
        raise NotPlain(
            f"the tensor '{info.name}' is a negated or conjugated view of {info.dtype}, not its values; "
            "call resolve_neg() and resolve_conj() before saving"
        )
    return marked


def _is_size(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 <= value <= _MAX_NUMBER


def _info(name: str, dtype: Dtype, place: _Place, claim: tuple[object, object, object], path: Path | str) -> TensorInfo:
    """A tensor, once what it claims is possible: it must lie within its storage."""
    offset, shape, stride = claim
    if not (_is_size(offset) and _are_sizes(shape, stride)):
        raise FormatError(path, f"the tensor '{name}' has a shape, stride or offset that no tensor can have")
    sizes: tuple[int, ...] = shape  # type: ignore[assignment]  # as `_are_sizes` has found
    steps: tuple[int, ...] = stride  # type: ignore[assignment]
    start = offset * dtype.itemsize
    last = sum(map(mul, sizes, steps)) - sum(steps)  # elements from the first to the last: (size - 1) steps each way
    if not prod(sizes):
        start = 0
    elif start + (last + 1) * dtype.itemsize > place.size:
        raise FormatError(path, f"the tensor '{name}' reaches beyond its storage of {place.size:,} bytes")
    info = TensorInfo(name, dtype.name, sizes, steps, place.key, place.start + start)
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
    stride = tuple(prod(shape[index + 1 :]) for index in range(len(shape)))
    return TensorInfo(info.name, info.dtype, shape, stride, info.storage, info.offset)
