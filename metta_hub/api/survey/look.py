"""What a file is, by its first bytes, and by its last where those tell. Of its weights nothing is read."""

import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import SEEK_CUR, SEEK_END, SEEK_SET, RawIOBase

from metta_hub import containers, formats
from metta_hub.api.survey import bundles
from metta_hub.api.survey.places import File
from metta_hub.containers import object_file, pickles, plain, safetensors, torch_legacy, torch_zip, zip_records
from metta_hub.containers.pickles import Beginning, Global
from metta_hub.containers.zips import Read
from metta_hub.errors import FormatError
from metta_hub.formats import bundle, bundle_spec, record, safetensors_file, state_dict, wrapped
from metta_hub.pickled import modules
from metta_hub.pickled.objects import class_of, entries, name_of

#: Bytes from the start of a file: of nearly every checkpoint they say all that a survey wants to know.
HEAD = 2048
#: Bytes of a zip's end records, and most bytes that are read for what its first ones don't tell.
_TAIL = zip_records.END.size + zip_records.LOCATOR64.size + zip_records.END64.size
MOST = 1 << 20
#: Longest header of a safetensors file that is read.
_HEADER = 64 << 10

TRAINER, PROGRAM, NOT_PLAIN, DAMAGED, UNKNOWN = "trainer state", "TorchScript", "not plain", "damaged", "unknown"
#: Endings of files that nobody gives to anything but checkpoints.
_OURS = (".pt", ".pth", ".ckpt", ".safetensors", ".mpt", ".pt.old")
_LFS = b"version https://git-lfs.github.com/spec/"


@dataclass(frozen=True, slots=True)
class Looked:
    """What a file is, as far as was looked.

    Attributes:
        format: its on-disk shape; "" when it is nothing that holds a checkpoint.
        era: when such files were written, where that is known.
        architecture: the class of the policy, where it says so early.
        epoch: where it says so early.
        trouble: why it is not read; "" when nothing speaks against it.
        unbuilt: why its policy is not built, though its class is one that is; "" when nothing speaks against it.
    """

    format: str
    era: str | None = None
    architecture: str | None = None
    epoch: int | None = None
    trouble: str = ""
    unbuilt: str = ""


def look(file: File, read: Read) -> Looked:
    """Look at a file.

    Raises:
        OSError: it cannot be read.
    """
    head = read(HEAD, 0)
    kind = containers.kind(head, file.size)
    if kind in _BY_KIND:
        return _BY_KIND[kind](file, head, read)
    if kind in formats.REASONS and kind != "tar":
        return Looked(kind, trouble=formats.REASONS[kind])
    return _unknown(file, head)


def _unknown(file: File, head: bytes) -> Looked:
    if head.startswith(_LFS):
        return Looked(UNKNOWN, trouble="it is git-lfs's pointer to a file, which 'git lfs pull' fetches")
    if not file.name.lower().endswith(_OURS):
        return Looked("")
    if not head:
        return Looked(DAMAGED, trouble="the file is empty")
    if file.name.endswith(".safetensors") and head[8:9] == b"{":
        return Looked(DAMAGED, trouble="the file is cut short")
    return Looked(UNKNOWN, trouble="it does not begin as a checkpoint does")


# --- pickles ---


def _torch_zip(file: File, head: bytes, read: Read) -> Looked:
    if not _has_end(file, read):
        return Looked(DAMAGED, trouble="the file is cut short: the directory at its end is missing")
    beginning = object_file.beginning_in(head)
    if beginning is None:  # the pickle stands elsewhere in it, or is compressed
        try:
            return of_beginning(pickles.beginning(torch_zip.object_pickle(_bounded(read, file), file.size, file.path)))
        except FormatError as error:
            return Looked(DAMAGED, trouble=error.reason)
    while _is_open(beginning) and len(head) < min(file.size, MOST):
        head += read(len(head), len(head))
        beginning = object_file.beginning_in(head) or beginning
    return of_beginning(beginning)


def _is_open(beginning: Beginning) -> bool:
    """Whether what follows such a beginning decides what the file is."""
    if beginning.complete:
        return False
    if record.era_of(beginning) is not None:
        return not _kind_of_policy(beginning)
    is_told = bool({key for key, _ in beginning.pairs} & {*wrapped.WEIGHTS})
    return not is_told and (beginning.root is None or wrapped.is_wrapper(beginning))


def _torch_legacy(file: File, head: bytes, _read: Read) -> Looked:
    at = 0
    try:
        for _ in range(3):  # a magic number, a version, the machine
            at += pickles.parse(head, file.path, start=at).size
    except FormatError as error:
        return Looked(DAMAGED, trouble=error.reason)
    found = of_beginning(pickles.beginning(head[at:]))
    if found.format in {record.FORMAT, wrapped.FORMAT}:
        return Looked(NOT_PLAIN, trouble="it is a pickled object in PyTorch's format of before 1.6; load and save it")
    return found


def of_beginning(beginning: Beginning) -> Looked:
    """What a file of torch.save is whose pickle begins so."""
    era = record.era_of(beginning)
    if era is not None:
        return _record(beginning, era)
    if wrapped.is_trainer_state(beginning):
        return Looked(TRAINER, trouble="it is what a trainer or its optimizer keeps, and not a policy")
    if wrapped.is_wrapper(beginning):
        return _wrapped(beginning)
    if (class_of(beginning.root) or name_of(beginning.root)).startswith("__torch__."):
        return Looked(PROGRAM, trouble="it is TorchScript, a program, and not a state dict")
    trouble = _why_not_plain(beginning)
    return Looked(NOT_PLAIN if trouble else state_dict.FORMAT, trouble=trouble)


def _record(beginning: Beginning, era: str) -> Looked:
    known = {key: item for key, item in beginning.pairs if type(key) is str}
    said = next((entries(known[key]) for key in record.METADATA if entries(known.get(key))), {})
    kind = _kind_of_policy(beginning)
    name = kind.rpartition(".")[2]
    # What a wrapper wraps comes long after it.
    is_wrapper = kind in modules.WRAPPERS or name in modules.WRAPPERS
    trouble = _without_policy(known) if beginning.complete and not _is_bare(era) else ""
    return Looked(record.FORMAT, era or None, None if is_wrapper else name or None, _whole(said.get("epoch")), trouble)


def _is_bare(era: str | None) -> bool:
    """Whether a module was pickled alone."""
    return era in {record.BARE, record.UNDATED}


def _without_policy(known: Mapping[str, object]) -> str:
    """Why there is no policy in a record whose pickle was read to its end; "" when there is one."""
    policy = next((known[key] for key in record.POLICY if known.get(key) is not None), None)
    return "" if modules.is_module(modules.unwrap(policy).module) else "it is a record without its policy"


def _kind_of_policy(beginning: Beginning) -> str:
    """The class of a record's policy; "" when the bytes do not go that far."""
    if _is_bare(record.era_of(beginning)):
        return class_of(beginning.root) or name_of(beginning.root)
    known = dict(beginning.pairs)
    return next(filter(None, (class_of(known.get(key)) or name_of(known.get(key)) for key in record.POLICY)), "")


def _wrapped(beginning: Beginning) -> Looked:
    known = dict(beginning.pairs)
    if not known.keys() & {*wrapped.WEIGHTS}:
        return Looked(NOT_PLAIN, trouble=f"it is a dict without weights under {' or '.join(wrapped.WEIGHTS)}")
    return Looked(wrapped.FORMAT, epoch=_whole(known.get("epoch")))


def _why_not_plain(beginning: Beginning) -> str:
    """Why a pickle holds more than tensors under names; "" when it does not, as far as it goes."""
    if type(beginning.root) is not dict and class_of(beginning.root) != plain.ORDERED_DICT:
        kind = class_of(beginning.root) or name_of(beginning.root) or type(beginning.root).__name__
        return f"it is {'an object of ' if '.' in kind else 'a '}{kind[:80]}, and not a state dict"
    if foreign := plain.judge_globals(beginning.names):
        return foreign
    *whole, last = [value for _, value in beginning.pairs] or [None]
    if all(map(_is_tensor, whole)) and (last is None or type(last) is Global or _is_tensor(last)):
        return ""
    return "it holds more than tensors under names"


def _is_tensor(value: object) -> bool:
    return class_of(value).startswith(plain.REBUILDS)


def _whole(value: object) -> int | None:
    return value if type(value) is int else None


# --- zips and safetensors ---


def _zip(file: File, _head: bytes, read: Read) -> Looked:
    """A zip that torch.save did not write: an archive of torch.package, a bundle, or something else."""
    bounded = _bounded(read, file)
    try:
        with zipfile.ZipFile(_Ranges(bounded, file.size)) as archive:
            members = frozenset(archive.namelist())
    except (zipfile.BadZipFile, FormatError, NotImplementedError, ValueError, EOFError):
        is_ours = file.name.lower().endswith(_OURS)
        return Looked(DAMAGED, trouble="the zip is damaged or cut short") if is_ours else Looked("")
    if object_file.package_root(members) is not None:
        return Looked(record.FORMAT, record.PACKAGED)
    if not members & {bundle_spec.SPEC, bundle_spec.ARCHITECTURE}:
        return _unknown(file, b"PK")
    found = bundles.in_zip(file, _bounded(read, file))
    era = bundles.SINCE if found.format == bundle.FORMAT else bundles.BEFORE
    return Looked(found.format, era, found.policy or None, trouble=found.trouble)


def _has_end(file: File, read: Read) -> bool:
    """Whether a zip has its last record, and the directory lies right before it."""
    tail = read(_TAIL, max(0, file.size - _TAIL))
    end = tail[-zip_records.END.size :]
    if len(end) < zip_records.END.size or end[:4] != zip_records.END_SIGNATURE:
        return False
    length, start = zip_records.END.unpack(end)[5:7]
    is_wide = zip_records.MAX32 in {length, start} or zip_records.LOCATOR64_SIGNATURE in tail
    return is_wide or start + length == file.size - zip_records.END.size


def _safetensors(file: File, head: bytes, read: Read) -> Looked:
    try:
        size = safetensors.header_size(head, file.size, file.path)
        if size <= _HEADER:
            whole = head if size <= len(head) else head + read(size - len(head), len(head))
            safetensors.parse(whole[:size], file.size, file.path)
    except FormatError as error:
        return Looked(DAMAGED, trouble=re.sub(r"'[^']*'|[\d,]+", "…", error.reason))
    return Looked(safetensors_file.FORMAT)


_BY_KIND: Mapping[str, Callable[[File, bytes, Read], Looked]] = {
    torch_zip.CONTAINER: _torch_zip,
    torch_legacy.CONTAINER: _torch_legacy,
    safetensors.CONTAINER: _safetensors,
    "zip": _zip,
}


# --- reading no more than that ---


def _bounded(read: Read, file: File) -> Read:
    """The same, but for a file that would have much of it read."""
    left = MOST

    def bounded(size: int, offset: int) -> bytes:
        nonlocal left
        left -= min(size, max(0, file.size - offset)) + 1
        if left < 0:
            raise FormatError(file.path, "its first bytes do not say what it is")
        return read(size, offset)

    return bounded


class _Ranges(RawIOBase):
    """What `zipfile` wants of a file."""

    def __init__(self, read: Read, size: int) -> None:
        super().__init__()
        self._read = read
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = SEEK_SET) -> int:
        self._at = max(0, offset + {SEEK_SET: 0, SEEK_CUR: self._at, SEEK_END: self._size}[whence])
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1) -> bytes:
        wanted = self._size - self._at if size < 0 else size
        content = self._read(wanted, self._at) if wanted > 0 else b""
        self._at += len(content)
        return content
