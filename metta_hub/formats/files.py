"""Writing files so that nobody ever sees half of one."""

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

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
        names = [e.name for e in entries if e.name.startswith(prefix) and e.name.endswith(SUFFIX)]
    return [target.with_name(name) for name in sorted(names)]


def new_token() -> str:
    """A token for the temporary files of one write."""
    return secrets.token_hex(4)


@contextlib.contextmanager
def owned(path: Path) -> Iterator[BinaryIO]:
    """Make a file and hold it: while the writer lives, `abandoned` says no for it.

    The file is left where it is; whoever made it renames or removes it.
    """
    with path.open("xb") as file:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield file


def abandoned(path: Path) -> bool:
    """Whether the writer of a temporary file is gone: the system drops a lock with its process."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except FileNotFoundError:
        return False
    return True


def sync(path: Path) -> None:
    """Have a file's bytes, or a folder's entries, on the disk before going on."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
