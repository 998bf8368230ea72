"""Files of whole pickled objects: what they hold besides tensors, and where the bytes of the tensors lie.

Two kinds: a PyTorch zip whose pickle is no plain state dict, and torch.package's archive, which has several pickles
and the source code of their classes. The code is data like everything else here: nobody runs it. Source for the
second: torch 2.13, `torch.package.package_exporter`.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from metta_hub import containers
from metta_hub.checkpoint import Storage, TensorInfo, Weights
from metta_hub.containers import copying, pickles, torch_table, torch_zip, zips
from metta_hub.containers.pickled_tensors import Naming, PickledTensors, check_names
from metta_hub.containers.pickles import Beginning, Pickled
from metta_hub.containers.zip_records import Member
from metta_hub.containers.zips import Archive, Read
from metta_hub.errors import FormatError, MetadataError

#: What `Origin.container` calls the archives of torch.package.
PACKAGE = "torch package"

#: Most pickles of a package that are read: Metta's have two.
_MAX_PICKLES = 16
#: Bytes from the start of a file in which its pickle usually begins, and says what it holds.
HEAD = 4096
_LOCAL_HEADER = 30
_STORAGE: Mapping[Naming, re.Pattern[str]] = {
    "zip": re.compile(r"data/(\d{1,20})"),
    "package": re.compile(r"\.data/(\d{1,20})\.storage"),
}


@dataclass(frozen=True)
class ObjectFile:
    """A file of pickled objects that was looked at.

    Attributes:
        path: the file.
        container: "torch zip" or "torch package".
        naming: how its pickles name storages.
        pickles: what they say, by their names in the archive.
        storages: where the bytes of tensors lie, by the keys that the pickles use.
    """

    path: Path
    container: str
    naming: Naming
    pickles: Mapping[str, Pickled]
    storages: Mapping[str, Storage]

    @property
    def globals(self) -> tuple[str, ...]:
        """Every `module.name` that its pickles ask for, sorted."""
        return _names(self.pickles.values())

    def tensors(self, name: str) -> PickledTensors:
        """The reader for the tensors of one of the pickles."""
        return PickledTensors(self.pickles[name], self.path, naming=self.naming)

    def weights(self, infos: Iterable[TensorInfo], reader: PickledTensors) -> Weights:
        """The table of some tensors that `reader` has read.

        Raises:
            FormatError: the file does not bear out what the pickle claims.
        """
        tensors = tuple(infos)
        marked = next((info.name for info in tensors if info.marked), None)
        if marked is not None:
            reason = f"its tensor '{marked}' is a negated or conjugated view, not its values"
            raise FormatError(self.path, reason, hint="call resolve_neg() and resolve_conj() before saving")
        check_names(tensors, self.path)
        sizes = {key: reader.size_of(key) for key in dict.fromkeys(info.storage for info in tensors)}
        storages = torch_table.claimed(sizes, self.storages, self.path)
        stored = sum(one.size if one.deflated is None else one.deflated for one in storages.values())
        torch_table.check_growth(tensors, storages, stored, self.path)
        return Weights(tensors, storages)


def look(path: Path) -> ObjectFile:
    """Look at a file; nothing in it is executed, and no tensor is read.

    Raises:
        FormatError: it is neither of the two kinds, or damaged, or claims something impossible.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _look(partial(os.pread, descriptor), os.fstat(descriptor).st_size, path)
    finally:
        os.close(descriptor)


@contextmanager
def opened(path: Path) -> Iterator[ObjectFile]:
    """Look at a file, and have errors of what is done with it say what its pickles ask for.

    Raises:
        FormatError: as `look`.
    """
    file = look(path)
    try:
        yield file
    except (FormatError, MetadataError) as error:
        error.globals = file.globals
        raise


def peek(path: Path) -> Beginning | None:
    """How the pickle of a PyTorch zip begins; None when it is none, or does not say at its start.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        head, descriptor = file.read(HEAD), file.fileno()
        size = os.fstat(descriptor).st_size
        if containers.kind(head, size) != torch_zip.CONTAINER:
            return None
        found = beginning_in(head)
        if found is not None:
            return found
        try:  # the pickle stands elsewhere in it, or is compressed
            pickle = torch_zip.object_pickle(partial(os.pread, descriptor), size, path)
        except FormatError:
            return None
    return pickles.beginning(pickle[:HEAD])


def beginning_in(head: bytes) -> Beginning | None:
    """How the pickle of a PyTorch zip begins, when it does in the zip's first bytes, as torch.save writes it."""
    pickle = _pickle_at_start(head)
    return None if pickle is None else pickles.beginning(pickle)


def is_package(path: Path) -> bool:
    """Whether a zip file is an archive of torch.package."""
    with path.open("rb") as file:
        descriptor = file.fileno()
        try:
            archive = zips.look(partial(os.pread, descriptor), os.fstat(descriptor).st_size, path)
        except FormatError:
            return False
    return package_root(member.name for member in archive.members) is not None


def check_sums(path: Path) -> None:
    """Read every member and compare its checksum with the recorded one.

    Raises:
        ChecksumError: one differs.
        FormatError: it is no zip, or damaged.
    """
    with path.open("rb") as file:
        descriptor = file.fileno()
        archive = zips.look(partial(os.pread, descriptor), os.fstat(descriptor).st_size, path)
    copying.verify({member.name: torch_zip.stored(path, member) for member in archive.members})


def _pickle_at_start(head: bytes) -> bytes | None:
    """What there is of a stored `data.pkl` in the first bytes of a zip."""
    if not head.startswith(b"PK\3\4") or head[8:10] != b"\0\0":
        return None
    name_length, extra_length = (int.from_bytes(head[at : at + 2], "little") for at in (26, 28))
    name = head[_LOCAL_HEADER : _LOCAL_HEADER + name_length]
    start = _LOCAL_HEADER + name_length + extra_length
    is_pickle = name.endswith(b"/data.pkl") and name.count(b"/") == 1
    return head[start:] if is_pickle and start < len(head) else None


def _look(read: Read, size: int, path: Path) -> ObjectFile:
    archive = zips.look(read, size, path)
    root = package_root(member.name for member in archive.members)
    if root is None:
        root, members = torch_zip.members_of(archive, path)
        naming: Naming = "zip"
        wanted = ["data.pkl"]
    else:
        members = {member.name.removeprefix(f"{root}/"): member for member in archive.members}
        naming = "package"
        # The large ones last: what the others ask for is known when one of them is too large.
        wanted = sorted((name for name in members if name.endswith(".pkl")), key=lambda name: members[name].size)
    _check_byteorder(read, archive, members.get("byteorder"), path)
    if len(wanted) > _MAX_PICKLES:
        raise FormatError(path, f"it holds {len(wanted):,} pickles; {_MAX_PICKLES} is the limit")
    found: dict[str, Pickled] = {}
    try:
        for name in wanted:
            content = zips.read_member(read, archive, members[name], path)
            found[name] = pickles.parse(content, path, among=len(wanted))
    except FormatError as error:
        error.globals = _names(found.values(), error.globals)
        raise
    keys = ((_STORAGE[naming].fullmatch(name), member) for name, member in members.items())
    storages = {key[1]: torch_zip.stored(path, member) for key, member in keys if key}
    container = torch_zip.CONTAINER if naming == "zip" else PACKAGE
    return ObjectFile(path, container, naming, found, storages)


def package_root(members: Iterable[str]) -> str | None:
    """The folder that everything in an archive of torch.package lies in; None when these are no such members."""
    marks = (name.removesuffix("/.data/extern_modules") for name in members if name.endswith("/.data/extern_modules"))
    return next((root for root in marks if "/" not in root), None)


def _names(pickled: Iterable[Pickled], more: Iterable[str] = ()) -> tuple[str, ...]:
    return tuple(sorted({name for one in pickled for name in one.names} | set(more)))


def _check_byteorder(read: Read, archive: Archive, member: Member | None, path: Path) -> None:
    if member is not None and member.size < len("little") and zips.read_member(read, archive, member, path) == b"big":
        raise FormatError(path, "it was written on a big-endian machine; load it with torch there and save it again")
