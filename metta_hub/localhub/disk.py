"""Files that survive a crash: written whole or not at all, and locked across threads and processes."""

import fcntl
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

STALE_SECONDS = 24 * 3600


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def put_in_place(temporary: Path, target: Path) -> None:
    """Rename a complete, synced file to its name, replacing what is there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary.replace(target)
    sync_folder(target.parent)


@contextmanager
def new_file(folder: Path, *, mode: int = 0o644) -> Iterator[tuple[IO[bytes], Path]]:
    """Open a fresh temporary file in `folder`; it is gone afterwards unless it was renamed."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"tmp-{secrets.token_hex(8)}"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "w+b") as file:
            yield file, path
    finally:
        path.unlink(missing_ok=True)


def write_atomic(path: Path, data: bytes, *, mode: int = 0o644, through: Path | None = None) -> None:
    """Write `data` under `path`, synced, whole or not at all.

    Args:
        path: the final name.
        data: the content.
        mode: permissions of a new file.
        through: the folder for the temporary file, on the same file system; by default that of `path`.
    """
    with new_file(through or path.parent, mode=mode) as (file, temporary):
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
        put_in_place(temporary, path)


def write_json(path: Path, value: object, *, mode: int = 0o644) -> None:
    """Write `value` as JSON with `write_atomic`."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    write_atomic(path, text.encode() + b"\n", mode=mode)


def read_json(path: Path) -> Any:  # noqa: ANN401 - JSON is any
    """Read a JSON file that `write_json` wrote."""
    return json.loads(path.read_bytes())


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file at `path`, against other threads and other processes.

    Raises:
        FileNotFoundError: its folder is not there, or went away while we waited.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        # flock belongs to the open file, so it also keeps out the other threads of this process.
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if not os.path.samestat(os.fstat(descriptor), path.stat()):
            raise FileNotFoundError(path)
        yield
    finally:
        os.close(descriptor)


def remove_stale(folder: Path, pattern: str = "tmp-*") -> None:
    """Remove what a crash left behind a day or more ago; what is younger may be in use."""
    oldest = time.time() - STALE_SECONDS
    for path in folder.glob(pattern):
        if path.stat().st_mtime >= oldest:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
