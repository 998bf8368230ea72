"""PyTorch zip files: what torch.save has written since 1.6.

Look, then judge, then build: `look` reads the zip's records and the pickle, and says whether they are plain; nothing
of the tensors is read, and a file that is not plain is looked at all the same. `TorchZip.weights` is the table of a
plain one. Writing is in `torch_zip_writer`.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from metta_hub.checkpoint import Findings, Storage, TensorInfo, Weights
from metta_hub.containers import copying, pickles, state_pickle, strided, zips
from metta_hub.containers.pickles import Pickled
from metta_hub.containers.state_pickle import NotPlain, StateDict
from metta_hub.containers.torch_zip_writer import write
from metta_hub.containers.zip_records import Member
from metta_hub.containers.zips import Archive, Read
from metta_hub.errors import FormatError, NotPlainError

__all__ = ["CONTAINER", "TorchZip", "check_sums", "judge_pickle", "look", "read", "write"]

#: What `containers.sniff` and `Origin.container` call these files.
CONTAINER = "torch zip"

#: What may stand beside the pickle and the storages, and what it looks like.
_SMALL_MEMBERS: Mapping[str, re.Pattern[bytes]] = {
    "version": re.compile(rb"\d{1,9}\n?"),
    "byteorder": re.compile(rb"little|big"),
    ".format_version": re.compile(rb"\d{1,9}"),
    ".storage_alignment": re.compile(rb"\d{1,9}"),
    ".data/serialization_id": re.compile(rb"\d{1,64}"),
}
_SMALL_SIZE = 64

#: Modules of Metta's classes, in the pickles of its records.
_METTA = ("metta.", "agent.")

_STORAGE = re.compile(r"data/(\d{1,20})")

#: A view that repeats its values takes more bytes in safetensors than here. Beyond this many times the size of the
#: file, and this many bytes, it is taken for an attack.
_MAX_GROWTH = 16
_FREE_GROWTH = 64 << 20


@dataclass(frozen=True)
class TorchZip:
    """A PyTorch zip that was looked at.

    Attributes:
        path: the file.
        size: its bytes.
        root: the folder that its members share.
        archive: its members.
        pickle: the bytes of data.pkl.
        findings: what the pickle asks for, and whether the whole file is plain.
        devices: where its storages were when it was saved, sorted: "cpu", "cuda:0".
        byteorder: "little", "big", or "" when it doesn't say.
        unused_bytes: bytes of storages that no tensor uses; 0 when it is not plain.
    """

    path: Path
    size: int
    root: str
    archive: Archive
    pickle: bytes = field(repr=False)
    findings: Findings
    devices: tuple[str, ...]
    byteorder: str
    unused_bytes: int
    table: Weights | None = field(repr=False)

    @property
    def weights(self) -> Weights:
        """The tensors.

        Raises:
            NotPlainError: the file is not plain.
        """
        if self.table is None:
            record = any(name.startswith(_METTA) for name in self.findings.globals)
            hint = (
                "a whole pickled object; reading those ('metta-hub migrate') is not in this version" if record else ""
            )
            raise NotPlainError(self.path, self.findings.reason, globals_=self.findings.globals, hint=hint)
        return self.table

    @property
    def root_object(self) -> object:
        """What the pickle holds, as inert records (`pickles`): for files that are not plain."""
        return pickles.parse(self.pickle, self.path).root

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences that a user should see."""
        found = []
        elsewhere = [device for device in self.devices if device != "cpu"]
        if elsewhere:
            where = ", ".join(elsewhere)
            found.append(f"Saved on {where}: elsewhere it loads only with map_location.")
        if self.unused_bytes:
            found.append(f"{self.unused_bytes:,} bytes of its storages belong to no tensor.")
        return tuple(found)


def look(path: Path) -> TorchZip:
    """Look at a file; nothing in it is executed, and no tensor is read.

    Raises:
        FormatError: it is not a PyTorch zip, or damaged, or claims something impossible.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with pickles.paused_gc():
            # In a call of its own: what it no longer needs is gone before the collector may look at it.
            return _look(partial(os.pread, descriptor), os.fstat(descriptor).st_size, path)
    finally:
        os.close(descriptor)


def read(path: Path) -> TorchZip:
    """Look at a file that must be plain.

    Raises:
        NotPlainError: it is not.
        FormatError: as `look`.
    """
    found = look(path)
    _ = found.weights
    return found


def _look(read: Read, size: int, path: Path) -> TorchZip:
    archive = zips.look(read, size, path)
    root, members = _members(archive, path)
    pickle = zips.read_member(read, archive, members["data.pkl"], path)
    pickled = pickles.parse(pickle, path)
    byteorder = _small(read, archive, members.get("byteorder"), path).decode("ascii", "replace")
    table, unused, reason = None, 0, ""
    try:
        _judge_members(read, archive, members, path)
        _judge_pickle(pickled, pickle, byteorder)
        table, unused = _build(state_pickle.read(pickled, path), archive, members, path)
    except NotPlain as refusal:
        reason = str(refusal)
    return TorchZip(
        path=path,
        size=size,
        root=root,
        archive=archive,
        pickle=pickle,
        findings=Findings(pickled.names, plain=not reason, reason=reason),
        devices=_devices(pickled),
        byteorder=byteorder,
        unused_bytes=unused,
        table=table,
    )


def judge_pickle(pickle: bytes, path: Path | str = "data.pkl") -> Findings:
    """What a data.pkl asks for, without the file that it came from.

    Raises:
        FormatError: it is damaged.
    """
    pickled = pickles.parse(pickle, path)
    try:
        _judge_pickle(pickled, pickle, "")
        state_pickle.read(pickled, path)
    except NotPlain as refusal:
        return Findings(pickled.names, plain=False, reason=str(refusal))
    return Findings(pickled.names, plain=True)


def check_sums(path: Path) -> None:
    """Read every member and compare its checksum with the recorded one.

    Raises:
        ChecksumError: one differs.
        FormatError: it is not a PyTorch zip, or damaged.
    """
    archive = look(path).archive
    copying.verify({member.name: _stored(path, archive, member) for member in archive.members})


# --- looking ---


def _members(archive: Archive, path: Path | str) -> tuple[str, dict[str, Member]]:
    """The folder of data.pkl, and the members by their names in it; others keep their whole name."""
    named = (member.name for member in archive.members if member.name.endswith("/data.pkl"))
    pickles_found = [name for name in named if name.count("/") == 1]
    if len(pickles_found) != 1:
        count = "no data.pkl" if not pickles_found else f"{len(pickles_found)} pickles named data.pkl"
        raise FormatError(path, f"it holds {count}: not a file that torch.save wrote")
    root = pickles_found[0].removesuffix("/data.pkl")
    prefix = root + "/"
    return root, {member.name.removeprefix(prefix): member for member in archive.members}


def _small(read: Read, archive: Archive, member: Member | None, path: Path | str) -> bytes:
    """The content of a member that should be small; its beginning when it is not."""
    if member is None:
        return b""
    if member.size > _SMALL_SIZE:
        return read(_SMALL_SIZE + 1, member.offset)
    return zips.read_member(read, archive, member, path)


def _devices(pickled: Pickled) -> tuple[str, ...]:
    found = set()
    for reference in pickled.persistent:
        match reference.pid:
            case ("storage", _, _, str(device), *_):
                found.add(device)
    return tuple(sorted(found))


# --- judging ---


def _judge_members(read: Read, archive: Archive, members: Mapping[str, Member], path: Path | str) -> None:
    """Only what torch.save writes may be there."""
    for name, member in members.items():
        if name == "data.pkl" or (name.startswith("data/") and _STORAGE.fullmatch(name)):
            continue
        pattern = _SMALL_MEMBERS.get(name)
        if pattern is None or member.name == name:
            raise NotPlain(f"it holds '{member.name}', which torch.save does not write for a state dict")
        if not pattern.fullmatch(_small(read, archive, member, path)):
            raise NotPlain(f"its member '{name}' is not what torch.save writes there")


def _judge_pickle(pickled: Pickled, pickle: bytes, byteorder: str) -> None:
    reason = state_pickle.judge_globals(pickled.names)
    if reason:
        raise NotPlain(reason)
    if byteorder == "big":
        raise NotPlain("it was written on a big-endian machine; load it with torch and save it again")
    if pickled.size != len(pickle):
        raise NotPlain(f"{len(pickle) - pickled.size:,} bytes follow its pickle")


# --- building ---


def _build(state: StateDict, archive: Archive, members: Mapping[str, Member], path: Path) -> tuple[Weights, int]:
    """The table of weights, once the file bears the pickle out; and how many bytes of storages it does not use."""
    storages: dict[str, Storage] = {}
    for key, size in state.storages.items():
        member = members.get(f"data/{key}")
        if member is None:
            raise FormatError(path, f"its pickle speaks of the storage '{key}', which is not there")
        if member.size != size:
            claimed = f"{size:,} bytes, of which the file has {member.size:,}"
            raise FormatError(path, f"its pickle claims that the storage '{key}' has {claimed}")
        storages[key] = _stored(path, archive, member)
    stored = sum(member.size for name, member in members.items() if name.startswith("data/"))
    used, written_out = _used(state.tensors, storages)
    if written_out > _MAX_GROWTH * stored + _FREE_GROWTH:
        raise FormatError(path, f"its tensors repeat {stored:,} bytes until they take {written_out:,}")
    return Weights(state.tensors, storages), stored - used


def _stored(path: Path, archive: Archive, member: Member) -> Storage:
    return Storage(path, member.offset, member.size, member.crc32 if archive.checksummed else None)


def _used(tensors: Sequence[TensorInfo], storages: Mapping[str, Storage]) -> tuple[int, int]:
    """Bytes of storages that at least one tensor uses, and bytes of all tensors when each is written out."""
    whole: dict[str, int] = {}
    partial: dict[str, list[TensorInfo]] = {}
    written_out = 0
    for tensor in tensors:
        size = tensor.nbytes
        written_out += size
        if size == storages[tensor.storage].size and tensor.contiguous:
            whole[tensor.storage] = size
        else:
            partial.setdefault(tensor.storage, []).append(tensor)
    rest = sum(_union(of_storage) for key, of_storage in partial.items() if key not in whole)
    return sum(whole.values()) + rest, written_out


def _union(tensors: Sequence[TensorInfo]) -> int:
    """Bytes of one storage that at least one of `tensors` uses."""
    total = reached = 0
    for start, stop in sorted(stretch for tensor in tensors for stretch in strided.stretches(tensor)):
        total += max(0, stop - max(start, reached))
        reached = max(reached, stop)
    return total
