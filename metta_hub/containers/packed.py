"""Weights that are a member of a zip: their table, without unpacking the zip.

A stored member is read where it lies. Of a deflated one only as much is inflated as the table needs: the header of a
safetensors file; all of a file of torch.save, whose directory stands at its end.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from metta_hub import containers
from metta_hub.checkpoint import Findings, Storage, Weights
from metta_hub.containers import inflating, safetensors, torch_file
from metta_hub.containers.torch_table import FREE_GROWTH, MAX_GROWTH, TorchFile
from metta_hub.containers.zip_records import Member
from metta_hub.containers.zips import Read
from metta_hub.errors import FormatError

#: The key of a storage that no tensor lies in: all bytes of the member, with the checksum that the zip records. No
#: tensor of a safetensors file can be called so.
WHOLE = "__metadata__"


@dataclass(frozen=True)
class Packed:
    """A file of weights in a zip that was looked at.

    Attributes:
        container: what `containers.sniff` calls such files.
        weights: the table; its storages lie in the zip.
        pt: the bytes of the file itself, if torch.save wrote it; else None.
        findings: what its pickle asks for; None when it has none.
        unused_bytes: bytes of its storages that no tensor uses.
        warnings: sentences that a user should see.
    """

    container: str
    weights: Weights
    pt: Storage | None = None
    findings: Findings | None = None
    unused_bytes: int = 0
    warnings: tuple[str, ...] = ()


def look(read: Read, member: Member, path: Path) -> Packed:
    """Look at weights in a zip; nothing in them is executed, and no tensor is read.

    Args:
        read: gives bytes of the zip.
        member: the file of weights.
        path: the zip.

    Raises:
        NotPlainError: a pickle asks for more than tensors.
        FormatError: they are of no kind that we read, damaged, or claim something impossible.
    """
    label = path / member.name
    _check_growth(member, label)
    head = _beginning(read, member, containers.HEAD, label)
    container = containers.kind(head, member.size)
    if container == safetensors.CONTAINER:
        start = _beginning(read, member, safetensors.header_size(head, member.size, label), label)
        return Packed(container, _placed(safetensors.parse_header(start, member.size, label), member, path))
    if container not in torch_file.CONTAINERS:
        raise FormatError(label, "it is neither a safetensors file nor one of torch.save")
    pt = _stored(path, member)
    found = look_at(pt, label)
    weights = _placed(found.weights, member, path)
    return Packed(container, weights, pt, found.findings, found.unused_bytes, found.warnings)


def look_at(pt: Storage, label: Path) -> TorchFile:
    """Look at a file of torch.save that lies in a zip.

    Args:
        pt: its bytes.
        label: what to call it in errors.

    Raises:
        FormatError: as `look`.
    """
    with _inside(pt) as read:
        return torch_file.look_in(read, pt.size, label)


def _check_growth(member: Member, label: Path) -> None:
    """What inflates to many times its size is taken for an attack, as in a `.pt`."""
    if member.packed is not None and member.size > MAX_GROWTH * member.packed + FREE_GROWTH:
        raise FormatError(label, f"its {member.packed:,} compressed bytes would be inflated to {member.size:,}")


def _beginning(read: Read, member: Member, count: int, label: Path) -> bytes:
    if member.packed is not None:
        return inflating.beginning(read, member, count, label)
    return read(min(count, member.size), member.offset)


@contextmanager
def _inside(storage: Storage) -> Iterator[Read]:
    """Gives bytes of what lies in a zip."""
    deflated = storage.deflated is not None
    descriptor = inflating.spilled(storage) if deflated else os.open(storage.path, os.O_RDONLY | os.O_CLOEXEC)
    start = 0 if deflated else storage.offset
    try:
        yield lambda count, at: os.pread(descriptor, max(0, min(count, storage.size - at)), start + at)
    finally:
        os.close(descriptor)


def _placed(weights: Weights, member: Member, path: Path) -> Weights:
    """The table of the member as one of the zip that it lies in."""
    whole = _stored(path, member)
    storages: Mapping[str, Storage]
    if member.packed is None:
        storages = {
            key: one._replace(path=path, offset=member.offset + one.offset) for key, one in weights.storages.items()
        }
        if whole.crc32 is not None and all(one.crc32 is None for one in storages.values()):
            storages = {**storages, _free(WHOLE, storages): whole}
        return Weights(weights.tensors, storages)
    if any(one.deflated is not None for one in weights.storages.values()):
        hint = "unpack the outer archive, and name the folder"
        raise FormatError(path / member.name, "it is compressed once more inside", hint=hint)
    storages = {key: one._replace(path=path, within=whole) for key, one in weights.storages.items()}
    return Weights(weights.tensors, storages)


def _free(key: str, taken: Mapping[str, Storage]) -> str:
    while key in taken:
        key += "_"
    return key


def _stored(path: Path, member: Member) -> Storage:
    return Storage(path, member.offset, member.size, member.crc32 or None, member.packed)
