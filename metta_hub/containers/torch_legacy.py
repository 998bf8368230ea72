"""PyTorch's stream of before 1.6: read, not written. `torch.save(..., _use_new_zipfile_serialization=False)` makes it.

Five pickles one after the other: a magic number, the version of the protocol, what the machine was like, the saved
object, and the keys of its storages; then for each key the number of elements, eight bytes, and the elements. So a
storage's place follows from all that lie before it. Look, judge and build are those of `torch_zip`. There are no
checksums, and `torch.load(mmap=True)` cannot open it. Source: torch 2.13, `torch.serialization._legacy_save` and
`_legacy_load`; and real files, two of them in the style of PyTorch 0.3 (`_rebuild_tensor`, Python 2).
"""

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar, NamedTuple, TypeGuard

from metta_hub.checkpoint import Findings, Storage, Weights
from metta_hub.containers import pickles, state_pickle, torch_table
from metta_hub.containers.dtypes import BY_NAME
from metta_hub.containers.pickles import Pickled
from metta_hub.containers.plain import NotPlain, judge_globals
from metta_hub.containers.state_pickle import StateDict
from metta_hub.containers.torch_table import TorchFile
from metta_hub.containers.zips import Read
from metta_hub.errors import FormatError

__all__ = ["CONTAINER", "TorchLegacy", "judge_pickle", "look", "object_pickle", "read"]

#: What `containers.sniff` and `Origin.container` call these files.
CONTAINER = "torch legacy"

#: torch.serialization.MAGIC_NUMBER and PROTOCOL_VERSION.
_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001

#: Bytes first read of the pickles, and by how much more they may be when that was not all of them.
_FIRST_BYTES = 1 << 20
_GROWTH = 8

#: Most storages.
MAX_STORAGES = 200_000

#: Bytes of a number of elements.
_COUNT = 8

#: What the third pickle says of the machine.
_MACHINE = frozenset({"protocol_version", "little_endian", "type_sizes"})
_TYPES = frozenset({"short", "int", "long"})


class _Stream(NamedTuple):
    """The five pickles of a file, and where they end."""

    machine: Pickled
    object: Pickled
    keys: Pickled
    pickle: bytes
    end: int


@dataclass(frozen=True)
class TorchLegacy(TorchFile):
    """A stream of before 1.6 that was looked at. `pickle` is the fourth of its pickles: the saved object."""

    container: ClassVar[str] = CONTAINER

    @property
    def warnings(self) -> tuple[str, ...]:
        """As of any file of torch, and that torch does not read what it writes: storages without a dtype."""
        tensors = self.table.tensors if self.table is not None else ()
        new = sorted({tensor.dtype for tensor in tensors if not BY_NAME[tensor.dtype].storage})
        if not new:
            return super().warnings
        unread = (
            f"torch.load reads no {', '.join(new)} from this old format; 'metta-hub pull --rebuild' writes another."
        )
        return (*super().warnings, unread)


def look(path: Path) -> TorchLegacy:
    """Look at a file; nothing in it is executed, and no tensor is read.

    Raises:
        FormatError: it is not such a stream, or damaged, or claims something impossible.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with pickles.paused_gc():
            return look_in(partial(os.pread, descriptor), os.fstat(descriptor).st_size, path)
    finally:
        os.close(descriptor)


def read(path: Path) -> TorchLegacy:
    """Look at a file that must be plain.

    Raises:
        NotPlainError: it is not.
        FormatError: as `look`.
    """
    found = look(path)
    _ = found.weights
    return found


def object_pickle(read: Read, size: int, path: Path | str) -> bytes:
    """The bytes of the pickle of the saved object.

    Args:
        read: gives bytes of the file; of the storages none are asked for.
        size: of the file.
        path: the file, for errors.

    Raises:
        FormatError: it is not such a stream, or damaged.
    """
    return _stream(read, size, path).pickle


def judge_pickle(pickle: bytes, path: Path | str) -> Findings:
    """What the pickle of the saved object asks for, without the file that it came from.

    Raises:
        FormatError: it is damaged.
    """
    pickled = pickles.parse(pickle, path)
    try:
        state_pickle.read(pickled, path, naming="legacy")
    except NotPlain as refusal:
        return Findings(pickled.names, plain=False, reason=str(refusal))
    return Findings(pickled.names, plain=True)


# --- looking ---


def look_in(read: Read, size: int, path: Path) -> TorchLegacy:
    """Look at a stream that lies within another file; as `torch_zip.look_in`.

    Raises:
        FormatError: as `look`.
    """
    stream = _stream(read, size, path)
    table, unused, reason = None, 0, ""
    try:
        _judge(stream)
        state = state_pickle.read(stream.object, path, naming="legacy")
        table, unused = _build(read, size, stream, state, path)
    except NotPlain as refusal:
        reason = str(refusal)
    return TorchLegacy(
        path=path,
        size=size,
        pickle=stream.pickle,
        findings=Findings(stream.object.names, plain=not reason, reason=reason),
        devices=torch_table.devices(stream.object),
        unused_bytes=unused,
        table=table,
    )


def _stream(read: Read, size: int, path: Path | str) -> _Stream:
    """The pickles. Nothing says how long they are, so more is read until they end."""
    limit = _FIRST_BYTES
    while True:
        head = read(min(limit, size, pickles.MAX_BYTES), 0)
        try:
            return _pickles(head, path)
        except FormatError as error:
            if limit < min(size, pickles.MAX_BYTES):
                limit *= _GROWTH
            elif len(head) < size:
                raise
            else:
                hint = "if the file was copied or downloaded, it may be incomplete"
                raise FormatError(path, error.reason, hint=error.hint or hint) from None


def _pickles(head: bytes, path: Path | str) -> _Stream:
    found: list[Pickled] = []
    ends = [0]
    for _ in range(5):
        found.append(pickles.parse(head, path, start=ends[-1]))
        ends.append(ends[-1] + found[-1].size)
        if found[0].root != _MAGIC_NUMBER:
            raise FormatError(path, "it does not begin with the magic number of PyTorch's old format")
    _, protocol, machine, saved, keys = found
    if protocol.root != _PROTOCOL:
        raise FormatError(path, f"it is of a version of PyTorch's old format other than {_PROTOCOL}")
    return _Stream(machine, saved, keys, head[ends[3] : ends[4]], ends[5])


# --- judging ---


def _judge(stream: _Stream) -> None:
    reason = judge_globals(stream.object.names)
    if reason:
        raise NotPlain(reason)
    machine = stream.machine.root
    if stream.machine.globals or stream.keys.globals or not _is_machine(machine):
        raise NotPlain("its header holds more than torch.save writes there")
    if machine.get("little_endian") is not True:
        raise NotPlain("it was written on a big-endian machine; load it with torch and save it again")


def _is_machine(value: object) -> TypeGuard[dict[str, object]]:
    """Whether this is what torch says of a machine: byte order and sizes of C's types, no texts of anybody's."""
    if type(value) is not dict or not value.keys() <= _MACHINE:
        return False
    sizes = value.get("type_sizes", {})
    numbers = [value.get("protocol_version", 0), *sizes.values()] if type(sizes) is dict else [None]
    return all(type(number) is int for number in numbers) and sizes.keys() <= _TYPES


# --- building ---


def _build(read: Read, size: int, stream: _Stream, state: StateDict, path: Path) -> tuple[Weights, int]:
    """The table of weights, once the file bears the pickles out; and how many bytes of storages it does not use."""
    storages = _storages(read, size, stream, state, path)
    stored = sum(storage.size for storage in storages.values())
    return Weights(state.tensors, storages), stored - torch_table.used(state.tensors, storages, stored, path)


def _storages(read: Read, size: int, stream: _Stream, state: StateDict, path: Path) -> dict[str, Storage]:
    """Walk over the storages; their numbers of elements must be the pickle's, and the last must end the file."""
    storages: dict[str, Storage] = {}
    at = stream.end
    for key in _keys(stream.keys.root, state, path):
        start, length = at + _COUNT, state.storages[key]
        raw = read(_COUNT, at)
        count = int.from_bytes(raw, "little", signed=True)
        if len(raw) == _COUNT and count != state.counts[key]:
            claimed = f"{state.counts[key]:,} elements, of which the file has {count:,}"
            raise FormatError(path, f"its pickle claims that the storage '{key}' has {claimed}")
        if start + length > size:
            there = max(0, size - start)
            raise FormatError(
                path, f"the file is cut short: it has {there:,} of {length:,} bytes of the storage '{key}'"
            )
        storages[key] = Storage(path, start, length)
        at = start + length
    if at != size:
        raise FormatError(path, f"there are {size - at:,} bytes after its last storage")
    return storages


def _keys(listed: object, state: StateDict, path: Path) -> list[str]:
    """The keys in the order of the storages: each once, and those that the pickle speaks of, no other."""
    if type(listed) is not list or not all(type(key) is str for key in listed):
        raise FormatError(path, "its list of storages is not a list of texts")
    if len(listed) > MAX_STORAGES:
        raise FormatError(path, f"it claims {len(listed):,} storages; {MAX_STORAGES:,} is the limit")
    known = set(listed)
    if len(known) != len(listed):
        raise FormatError(path, "it lists a storage twice")
    for key in state.storages.keys() - known:
        raise FormatError(path, f"its pickle speaks of the storage '{key}', which is not there")
    for key in known - state.storages.keys():
        raise FormatError(path, f"it lists the storage '{key}', of which its pickle does not speak")
    return listed
