"""The nouns in the middle: a checkpoint, its weights and where they came from. No torch object, no open file.

Every reader makes a `Checkpoint`, every writer takes one.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # listing tensors needs no metadata
    from metta_hub.metadata import Metadata

#: Bits an element takes, by the name that safetensors 0.8 gives a dtype.
BITS: Mapping[str, int] = {
    "BOOL": 8,
    "F4": 4,
    "F8_E4M3": 8,
    "F8_E5M2": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "U8": 8,
    "I8": 8,
    "U16": 16,
    "I16": 16,
    "F16": 16,
    "BF16": 16,
    "U32": 32,
    "I32": 32,
    "F32": 32,
    "U64": 64,
    "I64": 64,
    "F64": 64,
    "C64": 64,
}


# The next two are tuples: a table has as many of them as a checkpoint has tensors, and a frozen dataclass takes
# four times as long to make.


class Storage(NamedTuple):
    """A run of bytes in a file that one or more tensors look into.

    Attributes:
        path: the file.
        offset: where the bytes start in it.
        size: how many bytes.
        crc32: the checksum that the file records for them; None when it records none.
        deflated: how many bytes they take in the file, compressed; None when they stand there as they are.
        within: the deflated run of bytes that they are a part of; then `offset` counts in its inflated bytes.
    """

    path: Path
    offset: int
    size: int
    crc32: int | None = None
    deflated: int | None = None
    within: "Storage | None" = None

    @property
    def source(self) -> "Path | Storage":
        """What `offset` counts in: the file, or a deflated run of bytes."""
        return self.path if self.within is None else self.within


class TensorInfo(NamedTuple):
    """One named tensor: what it is and where its bytes lie.

    Attributes:
        name: its key in the state dict.
        dtype: safetensors' name of the dtype, a key of `BITS`.
        shape: sizes, outermost first; () is a scalar.
        stride: elements to step per dimension, as torch counts them.
        storage: key into `Weights.storages`.
        offset: bytes from the start of the storage to the first element.
        negated: whether the values are those of the storage with their signs flipped.
        conjugated: whether they are the complex conjugates of those of the storage.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    storage: str
    offset: int
    negated: bool = False
    conjugated: bool = False

    @property
    def elements(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the values when laid out contiguously."""
        return self.elements * BITS[self.dtype] // 8

    @property
    def contiguous(self) -> bool:
        """Whether the values lie in row-major order without gaps."""
        expected = 1
        for size, step in zip(reversed(self.shape), reversed(self.stride), strict=True):
            if size == 0:
                return True
            if size != 1 and step != expected:
                return False
            expected *= size
        return True

    @property
    def marked(self) -> bool:
        """Whether its values are other bytes than those in the storage."""
        return self.negated or self.conjugated


@dataclass(frozen=True)
class Weights:
    """Named tensors, in the order of the state dict, and the bytes under them."""

    tensors: tuple[TensorInfo, ...]
    storages: Mapping[str, Storage]

    @cached_property
    def by_name(self) -> Mapping[str, TensorInfo]:
        """The tensors by their names."""
        return {tensor.name: tensor for tensor in self.tensors}

    @cached_property
    def tied(self) -> tuple[tuple[str, ...], ...]:
        """Groups of names for one and the same tensor: same storage, offset, shape and stride; first-seen order."""
        groups: dict[object, list[str]] = {}
        for tensor in self.tensors:
            if tensor.elements:
                marks = (tensor.negated, tensor.conjugated)
                place = (tensor.storage, tensor.offset, tensor.dtype, tensor.shape, tensor.stride, marks)
                groups.setdefault(place, []).append(tensor.name)
        return tuple(tuple(names) for names in groups.values() if len(names) > 1)

    @cached_property
    def parameters(self) -> int:
        """Elements of all tensors, each tied group counted once."""
        repeated = {name for group in self.tied for name in group[1:]}
        return sum(tensor.elements for tensor in self.tensors if tensor.name not in repeated)

    @cached_property
    def nbytes(self) -> int:
        """Bytes of all tensors, each tied group counted once."""
        repeated = {name for group in self.tied for name in group[1:]}
        return sum(tensor.nbytes for tensor in self.tensors if tensor.name not in repeated)


@dataclass(frozen=True, slots=True)
class Findings:
    """What a pickle asks for.

    Attributes:
        globals: every `module.name` that it names, sorted.
        plain: whether it holds nothing but a state dict (design: only then is a `.pt` published as it is).
        reason: why it is not plain; empty when it is.
    """

    globals: tuple[str, ...]
    plain: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class FileState:
    """What the file system says of a file: equal states mean that nobody wrote to it in between."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, path: Path) -> "FileState":
        """Ask the file system.

        Raises:
            OSError: there is no such file.
        """
        stat = path.stat()
        return cls(stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)

    @classmethod
    def if_any(cls, path: Path) -> "FileState | None":
        """The state of a file that may be gone, or out of reach."""
        try:
            return cls.of(path)
        except OSError:
            return None


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a checkpoint was read from.

    Attributes:
        path: the file that holds the weights.
        format: the on-disk shape: "pair", "state dict", "safetensors", ...
        container: the bytes under it: "torch zip", "safetensors", ...
        sources: every file that was read, with its state before the first byte was.
        findings: what the pickle asks for; None when there is none.
        pt: a plain `.pt` whose very bytes are the checkpoint's; None when it came from something else.
        packed: such a `.pt` that lies in an archive; None when there is none.
        recipe: a file that gives the original `.pt` back together with the weights; None when there is none.
        unused_bytes: bytes of the `.pt`'s storages that no tensor uses: a place to hide things in.
        warnings: sentences that a user should see.
    """

    path: Path
    format: str
    container: str
    sources: Mapping[Path, FileState]
    findings: Findings | None = None
    pt: Path | None = None
    packed: Storage | None = None
    recipe: Path | None = None
    unused_bytes: int = 0
    warnings: tuple[str, ...] = ()

    @property
    def migrates(self) -> bool:
        """Whether it was taken out of whole pickled objects: what is published or kept of it is a pair made anew."""
        return self.findings is not None and not self.findings.plain

    def changed(self) -> Path | None:
        """A source that was written to, replaced or removed since it was read; None when all are as they were."""
        return next((path for path, state in self.sources.items() if FileState.if_any(path) != state), None)


@dataclass(frozen=True)
class Checkpoint:
    """A policy's weights and metadata, and where they came from.

    Attributes:
        name: NAME, checked (`names.checkpoint_name`).
        weights: the tensor table; the bytes stay in their files.
        metadata: clean metadata.
        origin: where it was read from.
    """

    name: str
    weights: Weights
    metadata: "Metadata"
    origin: Origin
