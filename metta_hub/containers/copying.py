"""Bytes from files to a file, through one small buffer, digested and checked on the way.

Whatever is written (safetensors, a PyTorch zip, a restored `.pt`) is a sequence of parts: literal bytes, and ranges
of files. `blocks` has the machinery.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from metta_hub.checkpoint import Storage, TensorInfo, Weights
from metta_hub.containers import inflating, marks, strided
from metta_hub.containers.blocks import BLOCK, Block, Checksum, Files, Output, Part, Range, Written, blocks_of

__all__ = [
    "Comparison",
    "Part",
    "Range",
    "Written",
    "compare",
    "copy",
    "digest",
    "digest_bytes",
    "read_tensor",
    "tensor_parts",
    "unpack",
    "verify",
    "write",
]


def write(parts: Iterable[Part], path: Path, *, hashed: bool = True) -> Written:
    """Write `parts` to `path`, which is created or overwritten; neither synced nor renamed.

    Args:
        parts: made while they are written, so they may depend on checksums that passed `at_once`.
        path: a temporary file of the caller's; half written when something is raised.
        hashed: whether `Written.sha256` is wanted: it takes longer than copying.

    Raises:
        ChecksumError: a storage does not have its recorded checksum.
        SourceChangedError: a file ended too early.
        OSError: a file cannot be read, or `path` not be written.
    """
    with Files() as files, Output(path, hashed=hashed) as output:
        # Hashing fills the thread that digests; then there is time for checksums in this one.
        for block in blocks_of(parts, files, output.take, defer=not hashed):
            output.put(block)
        return output.finish()


def digest(path: Path) -> Written:
    """Size and sha256 of a file."""
    import hashlib  # as in `blocks`

    with path.open("rb", buffering=0) as file:
        sha256 = hashlib.file_digest(file, "sha256")
        return Written(file.tell(), sha256.hexdigest())


def _covers(tensor: TensorInfo, storage: Storage) -> bool:
    """Whether the values of `tensor`, in order, are all the bytes of its storage."""
    return tensor.nbytes == storage.size and tensor.contiguous and not tensor.marked


def tensor_parts(tensor: TensorInfo, storage: Storage) -> Iterable[Part]:
    """The values of `tensor`, which looks into `storage`, in row-major order.

    A recorded checksum is compared on the way when the values are the whole storage.
    """
    if storage.deflated is not None or tensor.marked or not tensor.contiguous:
        gather = strided.gather if storage.deflated is None and storage.within is None else inflating.values
        stored = gather(tensor, storage)
        return marks.resolved(tensor, stored) if tensor.marked else stored
    size = tensor.nbytes
    checked = storage.crc32 is not None and size == storage.size
    checksum = Checksum(storage, tensor.name) if checked else None
    return [Range(storage.source, storage.offset + tensor.offset, size, checksum)]


def verify(storages: Mapping[str, Storage]) -> None:
    """Read storages to the end and compare their checksums with the recorded ones.

    Raises:
        ChecksumError: one differs.
    """
    recorded = {key: storage for key, storage in storages.items() if storage.crc32 is not None}
    parts = [
        Range(storage.source, storage.offset, storage.size, Checksum(storage, key))
        for key, storage in recorded.items()
        if storage.deflated is None
    ]
    for storage in recorded.values():
        if storage.deflated is not None:
            deque(inflating.blocks(storage), maxlen=0)
    buffer = memoryview(bytearray(BLOCK))
    with Files() as files:
        for _ in blocks_of(parts, files, lambda: buffer, defer=False):
            pass


@dataclass(frozen=True, slots=True)
class Comparison:
    """One name of two weight tables.

    Attributes:
        name: the tensor's.
        equal: whether dtype, shape and every byte of the values are the same on both sides.
        detail: the first thing that differs; empty when equal.
    """

    name: str
    equal: bool
    detail: str = ""


def compare(one: Weights, other: Weights) -> list[Comparison]:
    """Compare values tensor by tensor, reading both sides once, in flat memory.

    Returns:
        A result for every name on either side: first those of `one`, in its order.
    """
    buffers = (memoryview(bytearray(BLOCK)), memoryview(bytearray(BLOCK)))
    results = []
    with Files() as files:
        for tensor in one.tensors:
            twin = other.by_name.get(tensor.name)
            detail = _table_difference(tensor, twin)
            if not detail and twin is not None:
                mine = blocks_of(
                    tensor_parts(tensor, one.storages[tensor.storage]), files, lambda: buffers[0], defer=True
                )
                theirs = blocks_of(
                    tensor_parts(twin, other.storages[twin.storage]), files, lambda: buffers[1], defer=True
                )
                detail = "" if _same_bytes(mine, theirs) else "the values differ"
            results.append(Comparison(tensor.name, not detail, detail))
    missing = [name for name in other.by_name if name not in one.by_name]
    return results + [Comparison(name, equal=False, detail="only on the second side") for name in missing]


def _table_difference(tensor: TensorInfo, twin: TensorInfo | None) -> str:
    if twin is None:
        return "only on the first side"
    if tensor.dtype != twin.dtype:
        return f"{tensor.dtype} on one side, {twin.dtype} on the other"
    if tensor.shape != twin.shape:
        return f"shape {list(tensor.shape)} on one side, {list(twin.shape)} on the other"
    return ""


def _same_bytes(mine: Iterator[Block], theirs: Iterator[Block]) -> bool:
    """Whether two streams of equal length agree."""
    pairs = zip(mine, theirs, strict=True)
    return all(_comparable(a.data) == _comparable(b.data) for a, b in pairs)


def _comparable(data: memoryview) -> object:
    """The same bytes as an object that compares ten times as fast as a memoryview; a full buffer needs no copy."""
    return data.obj if len(data) == BLOCK else bytes(data)


def copy(source: Path, target: Path) -> Written:
    """Copy a whole file, and hash it on the way.

    Raises:
        SourceChangedError: `source` became shorter meanwhile.
    """
    return write([Range(source, 0, source.stat().st_size)], target)


def unpack(stored: Storage, target: Path) -> Written:
    """Copy a file out of the zip that it lies in, and hash it on the way.

    Raises:
        ChecksumError: it does not have its recorded checksum.
        SourceChangedError: the zip became shorter meanwhile.
    """
    if stored.deflated is not None:
        return write(inflating.blocks(stored), target)
    return write([Range(stored.path, stored.offset, stored.size, Checksum(stored, target.name))], target)


def digest_bytes(content: bytes) -> Written:
    """Size and sha256 of bytes in memory."""
    import hashlib  # as in `blocks`

    return Written(len(content), hashlib.sha256(content).hexdigest())


def read_tensor(weights: Weights, tensor: TensorInfo) -> bytearray:
    """The values of a tensor in row-major order, in memory of their own.

    Raises:
        ChecksumError: they do not have the checksum that was recorded; views of a larger storage have none.
        SourceChangedError: the file ended too early.
    """
    storage = weights.storages[tensor.storage]
    values = bytearray(tensor.nbytes)
    left = memoryview(values)
    with Files() as files:
        for part in tensor_parts(tensor, storage):
            size = len(part) if isinstance(part, bytes) else part.size
            if isinstance(part, bytes):
                left[:size] = part
            else:
                files.read_into(left[:size], part.source, part.offset)
            left = left[size:]
    if storage.crc32 is not None and _covers(tensor, storage):
        Checksum(storage, tensor.name).update(memoryview(values))
    return values
