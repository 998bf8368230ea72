"""Files and locks that survive a crash: renamed whole and synced, locked across threads and processes."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path, base: Path) -> None:
    """Make a folder and those between it and `base`, durably.

    Raises:
        FileNotFoundError: `base` is not there: what it belonged to was deleted or moved, and must not come back.
    """
    for level in range(1, len(folder.relative_to(base).parts) + 1):
        path = base.joinpath(*folder.relative_to(base).parts[:level])
        try:
            path.mkdir()
        except FileExistsError:
            continue
        sync_folder(path.parent)


def put_in_place(temporary: Path, target: Path, base: Path) -> None:
    """Rename a complete, synced file to its name, replacing what is there.

    Raises:
        FileNotFoundError: `base`, the folder that all this lies in, is gone.
    """
    make_folder(target.parent, base)
    temporary.replace(target)
    sync_folder(target.parent)


def read_json(path: Path) -> Any:  # noqa: ANN401 - JSON is any
    """Read a JSON file that `Scratch.write_json` wrote."""
    return json.loads(path.read_bytes())


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock file at `path`, against other threads and other processes.

    Raises:
        FileNotFoundError: its folder is not there, or went away while we waited.
        BlockingIOError: somebody holds it, and we are not to wait.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        lock(descriptor, path, wait=wait)
        yield
    finally:
        os.close(descriptor)


def lock(descriptor: int, path: Path, *, wait: bool = True) -> None:
    """Lock an open file or folder, as `locked` does; it stays so until the descriptor is closed."""
    # flock belongs to the open file, so it also keeps out the other threads of this process.
    fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    if not os.path.samestat(os.fstat(descriptor), path.stat()):
        raise FileNotFoundError(path)
