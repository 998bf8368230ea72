"""PyTorch zip files: what torch.save has written since 1.6.

Look, then judge, then build: `look` reads the zip's records and the pickle, and says whether they are plain; nothing
of the tensors is read, and a file that is not plain is looked at all the same. `TorchZip.weights` is the table of a
plain one. Writing is in `torch_zip_writer`.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

from metta_hub.checkpoint import Findings, Storage, Weights
from metta_hub.containers import copying, pickles, state_pickle, torch_table, zips
from metta_hub.containers.pickles import Pickled
from metta_hub.containers.plain import NotPlain, judge_globals
from metta_hub.containers.state_pickle import StateDict
from metta_hub.containers.torch_table import TorchFile
from metta_hub.containers.torch_zip_writer import write
from metta_hub.containers.zip_records import Member
from metta_hub.containers.zips import Archive, Read
from metta_hub.errors import FormatError

__all__ = [
    "CONTAINER",
    "TorchZip",
    "check_sums",
    "judge_pickle",
    "look",
    "look_in",
    "members_of",
    "object_pickle",
    "read",
    "stored",
    "write",
]

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

_STORAGE = re.compile(r"data/(\d{1,20})")


@dataclass(frozen=True)
class TorchZip(TorchFile):
    """A PyTorch zip that was looked at.

    Attributes:
        root: the folder that its members share.
        archive: its members.
        byteorder: "little", "big", or "" when it doesn't say.
    """

    container: ClassVar[str] = CONTAINER
    root: str
    archive: Archive
    byteorder: str


def look(path: Path) -> TorchZip:
    """Look at a file; nothing in it is executed, and no tensor is read.

    Raises:
        FormatError: it is not a PyTorch zip, or damaged, or claims something impossible.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with pickles.paused_gc():
            # In a call of its own: what it no longer needs is gone before the collector may look at it.
            return look_in(partial(os.pread, descriptor), os.fstat(descriptor).st_size, path)
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


def look_in(read: Read, size: int, path: Path) -> TorchZip:
    """Look at a file that lies within another.

    Args:
        read: gives bytes of it.
        size: how many it has.
        path: what to call it in errors, and in its storages.

    Raises:
        FormatError: as `look`.
    """
    archive = zips.look(read, size, path)
    root, members = members_of(archive, path)
    pickle = zips.read_member(read, archive, members["data.pkl"], path)
    pickled = pickles.parse(pickle, path)
    byteorder = _small(read, archive, members.get("byteorder"), path).decode("ascii", "replace")
    table, unused, reason = None, 0, ""
    try:
        _judge_members(read, archive, members, path)
        _judge_pickle(pickled, pickle, byteorder)
        table, unused = _build(state_pickle.read(pickled, path), members, path)
    except NotPlain as refusal:
        reason = str(refusal)
    return TorchZip(
        path=path,
        size=size,
        root=root,
        archive=archive,
        pickle=pickle,
        findings=Findings(pickled.names, plain=not reason, reason=reason),
        devices=torch_table.devices(pickled),
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


def object_pickle(read: Read, size: int, path: Path | str) -> bytes:
    """The bytes of data.pkl.

    Args:
        read: gives bytes of the file; of the storages none are asked for.
        size: of the file.
        path: the file, for errors.

    Raises:
        FormatError: it is not a PyTorch zip, or damaged.
    """
    archive = zips.look(read, size, path)
    _, members = members_of(archive, path)
    return zips.read_member(read, archive, members["data.pkl"], path)


def check_sums(path: Path) -> None:
    """Read every member and compare its checksum with the recorded one.

    Raises:
        ChecksumError: one differs.
        FormatError: it is not a PyTorch zip, or damaged.
    """
    copying.verify({member.name: stored(path, member) for member in look(path).archive.members})


# --- looking ---


def members_of(archive: Archive, path: Path | str) -> tuple[str, dict[str, Member]]:
    """The folder of data.pkl, and the members by their names in it; others keep their whole name.

    Raises:
        FormatError: there is not just one data.pkl.
    """
    named = (member.name for member in archive.members if member.name.endswith("/data.pkl"))
    pickles_found = [name for name in named if name.count("/") == 1]
    if len(pickles_found) != 1:
        if any(member.name.endswith("/.data/extern_modules") for member in archive.members):
            raise FormatError(path, "it is a torch.package, which holds source code, and not a state dict")
        count = "no data.pkl" if not pickles_found else f"{len(pickles_found)} pickles named data.pkl"
        hint = "it is an archive of something else; unpack it, and name the checkpoint inside"
        raise FormatError(path, f"it holds {count}: not a file that torch.save wrote", hint=hint)
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


# --- judging ---


def _judge_members(read: Read, archive: Archive, members: Mapping[str, Member], path: Path | str) -> None:
    """Only what torch.save writes may be there."""
    if "constants.pkl" in members and any(name.startswith("code/") for name in members):
        raise NotPlain("it is TorchScript, a program that torch.jit.save wrote, and not a state dict")
    for name, member in members.items():
        if name == "data.pkl" or (name.startswith("data/") and _STORAGE.fullmatch(name)):
            continue
        pattern = _SMALL_MEMBERS.get(name)
        if pattern is None or member.name == name:
            raise NotPlain(f"it holds '{member.name}', which torch.save does not write for a state dict")
        if not pattern.fullmatch(_small(read, archive, member, path)):
            raise NotPlain(f"its member '{name}' is not what torch.save writes there")


def _judge_pickle(pickled: Pickled, pickle: bytes, byteorder: str) -> None:
    reason = judge_globals(pickled.names)
    if reason:
        raise NotPlain(reason)
    if byteorder == "big":
        raise NotPlain("it was written on a big-endian machine; load it with torch and save it again")
    if pickled.size != len(pickle):
        raise NotPlain(f"{len(pickle) - pickled.size:,} bytes follow its pickle")


# --- building ---


def _build(state: StateDict, members: Mapping[str, Member], path: Path) -> tuple[Weights, int]:
    """The table of weights, once the file bears the pickle out; and how many bytes of storages it does not use."""
    named = {key: members.get(f"data/{key}") for key in state.storages}
    there = {key: stored(path, member) for key, member in named.items() if member is not None}
    storages = torch_table.claimed(state.storages, there, path)
    data = [member for name, member in members.items() if name.startswith("data/")]
    size = sum(member.size for member in data)
    taken = sum(member.size if member.packed is None else member.packed for member in data)
    return Weights(state.tensors, storages), size - torch_table.used(state.tensors, storages, taken, path)


def stored(path: Path, member: Member) -> Storage:
    """The bytes of a member, as tensors look into them.

    0 is no checksum: torch can be told to record none, or to leave room for bytes to come.
    """
    return Storage(path, member.offset, member.size, member.crc32 or None, member.packed)
