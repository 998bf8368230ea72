"""Writing files so that nobody ever sees half of one."""

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Literal

from metta_hub.errors import FormatError

SUFFIX = ".tmp"
#: Bytes that a document (metadata, config, index, recipe, card) has at most.
MAX_DOCUMENT = 64 << 20


def read_document(path: Path) -> bytes:
    """Read a small file whole.

    Raises:
        FormatError: it is too large to be what it should be.
    """
    with path.open("rb") as file:
        content = file.read(MAX_DOCUMENT + 1)
    if len(content) > MAX_DOCUMENT:
        raise FormatError(path, f"more than {MAX_DOCUMENT:,} bytes are not read")
    return content


def temporary_name(target: Path, token: str) -> Path:
    """Where the bytes of `target` stand until they are complete: hidden, beside it, told apart by `token`."""
    return target.with_name(f".{target.name}.{token}{SUFFIX}")


def leftovers(target: Path) -> list[Path]:
    """Temporary files for `target` that some writer left or is still writing, in a stable order."""
    prefix, names = f".{target.name}.", []
    with contextlib.suppress(OSError), os.scandir(target.parent) as entries:
        wanted = (entry for entry in entries if entry.name.startswith(prefix) and entry.name.endswith(SUFFIX))
        names = [entry.name for entry in wanted if entry.is_file(follow_symlinks=False)]
    # "model.pt" may be a checkpoint's name, too: what its files are called begins like those of "model".
    return [target.with_name(name) for name in sorted(names) if "." not in name[len(prefix) : -len(SUFFIX)]]


def new_token() -> str:
    """A token for the temporary files of one write."""
    return secrets.token_hex(4)


# --- who is at work -----------------------------------------------------------------------------------------------
#
# Whoever makes a temporary file holds a lock on it, which the system drops with the process, however that ends.
# Locks belong to files and not to names: who gets one looks whether the name still stands for that file.


@contextlib.contextmanager
def owned(path: Path) -> Iterator[BinaryIO]:
    """Make a file and hold it: while the writer lives, it is not among the `abandoned`.

    The file is left where it is; whoever made it renames or removes it.
    """
    with _held(path, "xb") as file:
        yield file


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep out everybody else who asks for this lock, threads and processes; the file at `path` is gone afterwards."""
    with _held(path, "ab"):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def abandoned(paths: Iterable[Path]) -> Iterator[list[Path]]:
    """Those of some temporary files whose writers are gone, held: nobody else takes them for abandoned meanwhile."""
    with contextlib.ExitStack() as held:
        yield [path for path in paths if _take(path, held)]


@contextlib.contextmanager
def _held(path: Path, mode: Literal["xb", "ab"]) -> Iterator[BinaryIO]:
    while True:
        with path.open(mode) as file:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(file.fileno(), fcntl.LOCK_EX)
            if _stands_for(path, file):
                yield file
                return
        # Between opening and locking somebody removed it: as abandoned, or done with it.


def _take(path: Path, held: contextlib.ExitStack) -> bool:
    """Hold a file that nobody holds; no for one that is held, is gone, is not ours, or where nobody can tell."""
    try:
        file = held.enter_context(path.open("r+b"))
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return _stands_for(path, file)


def _stands_for(path: Path, file: BinaryIO) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def sync(path: Path) -> None:
    """Have a file's bytes, or a folder's entries, on the disk before going on."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
