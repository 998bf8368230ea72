"""Unfinished things: one folder a process, under a lock that says that the process lives."""

import contextlib
import json
import os
import secrets
import shutil
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from metta_hub.localhub.disk import lock, put_in_place


class Scratch:
    """A folder of this process's own, on the file system where finished things lie.

    The kernel drops the lock on the folder when its process ends, however it ends. So what the dead left behind is
    known as theirs at once, and removed by the next process that starts; what the living use is never touched.

    Args:
        parent: where every process that serves this store has its folder; made when it is not there.

    Attributes:
        folder: the folder; removed with all that is in it when this object or the process goes away.
    """

    def __init__(self, parent: Path) -> None:
        parent.mkdir(exist_ok=True)
        remove_the_deads(parent)
        self.folder, descriptor = _claim(parent)
        weakref.finalize(self, _give_up, self.folder, descriptor, os.getpid())

    def name(self) -> Path:
        """A path that nothing is at."""
        return self.folder / secrets.token_hex(8)

    @contextmanager
    def file(self, *, mode: int = 0o644) -> Iterator[tuple[IO[bytes], Path]]:
        """Open a fresh file; it is gone afterwards unless it was renamed."""
        path = self.name()
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
        try:
            with os.fdopen(descriptor, "w+b") as file:
                yield file, path
        finally:
            path.unlink(missing_ok=True)

    def write(self, path: Path, data: bytes, *, mode: int = 0o644) -> None:
        """Write `data` under `path`, synced, whole or not at all; its folder must be there."""
        with self.file(mode=mode) as (file, temporary):
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            put_in_place(temporary, path, path.parent)

    def write_json(self, path: Path, value: object, *, mode: int = 0o644) -> None:
        """Write `value` as JSON with `write`."""
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
        self.write(path, text.encode() + b"\n", mode=mode)


def remove_the_deads(parent: Path) -> None:
    """Remove what processes that are no more left behind."""
    for path in parent.iterdir():
        if not path.is_dir():
            path.unlink(missing_ok=True)
            continue
        with contextlib.suppress(FileNotFoundError, BlockingIOError), _open(path) as descriptor:
            lock(descriptor, path, wait=False)
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _open(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _claim(parent: Path) -> tuple[Path, int]:
    while True:
        path = parent / secrets.token_hex(8)
        path.mkdir(mode=0o700)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:  # another process took it for a dead one's before it was locked
            continue
        try:
            lock(descriptor, path)
        except FileNotFoundError:  # the same, a moment later
            os.close(descriptor)
            continue
        return path, descriptor


def _give_up(folder: Path, descriptor: int, owner: int) -> None:
    if os.getpid() != owner:  # a fork of it: the folder is the parent's
        return
    shutil.rmtree(folder, ignore_errors=True)
    os.close(descriptor)
