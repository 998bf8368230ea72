"""A tree of files on a disk: links are not followed, and what is no regular file is never opened."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path

from metta_hub.api.survey.places import Batch, File, Folder, Notes
from metta_hub.containers.zips import Read
from metta_hub.formats import bundle

#: Names of one folder that are held at a time; folders of no more are in order.
AT_ONCE = 8192

_Steps = Iterator[tuple[Batch, list[str]]]


@dataclass(frozen=True, slots=True)
class LocalFolder:
    """A folder on a disk."""

    path: str
    is_top: bool

    def file(self, name: str, *, below: str = "") -> File | None:
        """A regular file directly in it, or in a folder of it."""
        path = os.path.join(self.path, below, name)  # noqa: PTH118  (half of a survey's time would go into Path)
        try:
            found = _regular(path, name, os.lstat(path))
            return None if below and os.path.islink(os.path.dirname(path)) else found  # noqa: PTH114, PTH120
        except (OSError, ValueError):
            return None

    def files_in(self, name: str) -> Iterator[File]:
        """The regular files directly in a folder of it."""
        path = os.path.join(self.path, name) if name else self.path  # noqa: PTH118
        with suppress(OSError):
            if name and not stat.S_ISDIR(os.lstat(path).st_mode):
                return
            with os.scandir(path) as entries:
                for entry in entries:
                    found = _regular(entry.path, entry.name, entry.stat(follow_symlinks=False))
                    if found is not None:
                        yield found

    def entries(self) -> Iterator[tuple[str, bool]]:
        """All that lies in it, at any depth."""
        return bundle.entries_in(Path(self.path))


class LocalPlace:
    """A folder or a file on a disk."""

    jobs = 1

    def __init__(self, root: Path) -> None:
        self._root = root

    def single(self) -> tuple[Folder, File] | None:
        """The file that it is; a link to one is followed."""
        state = self._root.stat()
        path = str(self._root)
        file = _regular(path, self._root.name, state)
        return None if file is None else (LocalFolder(str(self._root.parent), is_top=True), file)

    def batches(self, notes: Notes) -> Iterator[Batch]:
        """All files; depth first, so that only what lies beside a path is held."""
        if not self._root.is_dir():
            notes.special()
            return
        waiting = [_steps(str(self._root), notes, is_top=True)]
        while waiting:
            step = next(waiting[-1], None)
            if step is None:
                waiting.pop()
                continue
            batch, folders = step
            yield batch
            if folders:
                waiting.append(chain.from_iterable(_steps(path, notes) for path in folders))

    @contextmanager
    def open(self, file: File) -> Iterator[Read]:
        """Have a file's bytes read; one that became a pipe meanwhile is not waited for."""
        descriptor = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "is no longer a regular file", file.path)
            yield partial(os.pread, descriptor)
        finally:
            os.close(descriptor)


def _steps(path: str, notes: Notes, *, is_top: bool = False) -> _Steps:
    """The files of a folder, and the folders in it."""
    folder, first = LocalFolder(path, is_top), True
    notes.folder()
    try:
        with os.scandir(path) as entries:
            while True:
                some = sorted(islice(entries, AT_ONCE), key=lambda entry: entry.name)
                if len(some) < AT_ONCE:
                    entries.close()  # or a deep tree would hold as many folders open
                files, folders = _sorted_out(some, notes)
                yield Batch(folder, files, first), folders
                if len(some) < AT_ONCE:
                    return
                first = False
    except OSError as error:
        notes.unreadable_folder(path, error.strerror or type(error).__name__)


def _sorted_out(entries: list[os.DirEntry[str]], notes: Notes) -> tuple[list[File], list[str]]:
    files, folders = [], []
    for entry in entries:
        try:
            if entry.is_symlink():
                notes.link()
            elif entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            elif found := _regular(entry.path, entry.name, entry.stat(follow_symlinks=False)):
                files.append(found)
            else:
                notes.special()
        except OSError:  # it was there a moment ago
            continue
    return files, folders


def _regular(path: str, name: str, state: os.stat_result) -> File | None:
    if not stat.S_ISREG(state.st_mode):
        return None
    return File(path, name, state.st_size, state.st_dev << 64 | state.st_ino if state.st_nlink > 1 else None)
