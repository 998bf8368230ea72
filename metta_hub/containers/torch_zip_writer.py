"""Writes PyTorch zip files as torch.save would, streaming, in flat memory."""

import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from metta_hub.checkpoint import Storage, Weights
from metta_hub.containers import copying, inflating, state_pickle_writer, zip_records
from metta_hub.containers.blocks import BLOCK, Checksum, ChecksumsAhead, Part, Range, Written
from metta_hub.containers.dtypes import BY_NAME
from metta_hub.containers.zip_records import Member
from metta_hub.errors import FormatError


def write(weights: Weights, path: Path, *, archive_name: str, hashed: bool = True) -> Written:
    """Write a PyTorch zip as torch.save would, of an OrderedDict of tensors; the same table gives the same bytes.

    Names that share a storage in the table share it in the file, and every storage is written whole. There is no
    serialization id, which torch takes from a hash of its own.

    Args:
        weights: the table; tied names of a safetensors file must have been given one storage before.
        path: as `copying.write` takes it.
        archive_name: the folder that the members share; torch uses the file's stem.
        hashed: whether `Written.sha256` is wanted.

    Raises:
        FormatError: a storage is used in ways that torch cannot save.
        ChecksumError: a storage does not have its recorded checksum.
        SourceChangedError: a source file ended too early.
    """
    numbers: dict[str, tuple[str, int]] = {}
    for tensor in weights.tensors:
        numbers.setdefault(tensor.storage, (str(len(numbers)), weights.storages[tensor.storage].size))
    _check_dtypes(weights, path)
    pickle = state_pickle_writer.dumps(weights.tensors, numbers)
    unknown = [weights.storages[key] for key in numbers if _is_read_ahead(weights.storages[key])]
    with ChecksumsAhead(unknown) as ahead:
        return copying.write(_parts(weights, pickle, numbers, archive_name, ahead), path, hashed=hashed)


def _is_read_ahead(storage: Storage) -> bool:
    """Whether its checksum has to be found, and is worth a second reading; smaller ones are taken while copying."""
    return storage.crc32 is None and storage.deflated is None and storage.size >= BLOCK


def _check_dtypes(weights: Weights, path: Path) -> None:
    """A storage in torch has one dtype, and a whole number of elements; only new dtypes lie in untyped ones."""
    dtypes: dict[str, str] = {}
    for tensor in weights.tensors:
        if tensor.marked:
            raise FormatError(path, f"the tensor '{tensor.name}' is a negated or conjugated view, which is not written")
        dtype = BY_NAME[tensor.dtype]
        size = weights.storages[tensor.storage].size
        if dtypes.setdefault(tensor.storage, dtype.storage) != dtype.storage:
            raise FormatError(path, f"the tensor '{tensor.name}' shares bytes with one of another dtype")
        if size % dtype.itemsize or tensor.offset % dtype.itemsize:
            raise FormatError(path, f"the tensor '{tensor.name}' does not lie at whole elements of its storage")


def _parts(
    weights: Weights, pickle: bytes, numbers: Mapping[str, tuple[str, int]], root: str, ahead: ChecksumsAhead
) -> Iterator[Part]:
    """The file from its first byte to its last. Checksums become known while the storages are copied."""
    members: list[Member] = []
    small = {"data.pkl": pickle, ".format_version": b"1", ".storage_alignment": b"64", "byteorder": b"little"}
    for name, content in small.items():
        yield from _small_member(members, f"{root}/{name}", content)
    for key, (number, _) in numbers.items():
        yield from _storage_member(members, f"{root}/data/{number}", weights.storages[key], ahead)
    yield from _small_member(members, f"{root}/version", b"3\n")
    yield zip_records.directory(members, zip_records.end(members))


def _small_member(members: list[Member], name: str, content: bytes) -> Iterator[Part]:
    """A member, which is added to `members`."""
    member, header = zip_records.place(name, len(content), zlib.crc32(content), after=members)
    members.append(member)
    yield header + content + zip_records.descriptor(member)


def _storage_member(members: list[Member], name: str, storage: Storage, ahead: ChecksumsAhead) -> Iterator[Part]:
    """A storage as a member, which is added to `members` with the checksum that it turns out to have."""
    member, header = zip_records.place(name, storage.size, storage.crc32 or 0, after=members)
    yield header
    if storage.deflated is not None:
        crc32 = 0
        for block in inflating.blocks(storage):
            crc32 = zlib.crc32(block, crc32)
            yield block
        member = member._replace(crc32=crc32)
    elif _is_read_ahead(storage):
        yield Range(storage.source, storage.offset, storage.size)
        member = member._replace(crc32=ahead.next())
    else:
        checksum = Checksum(storage, name)
        yield Range(storage.source, storage.offset, storage.size, checksum, at_once=storage.crc32 is None)
        if storage.crc32 is None:
            member = member._replace(crc32=checksum.value)
    members.append(member)
    yield zip_records.descriptor(member)
