"""A folder to work in, in the system's folder for temporary files: gone afterwards, however the work ends.

A process that is killed cannot tidy up. So the folder holds a locked file, and whoever makes the next one removes
those of this user whose lock is free.
"""

import contextlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from metta_hub import disk
from metta_hub.errors import FileError
from metta_hub.formats import files

PREFIX = "metta-hub-work-"
OWNER = "owner.lock"
_NAME = re.compile(rf"{PREFIX}[a-z0-9_]{{8}}")


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """Make a folder that nobody else can look into; files in it are removed with it.

    Raises:
        FileError: there is no place for one.
    """
    with contextlib.ExitStack() as held:
        try:
            _remove_abandoned()
            made = _make(held)
        except OSError as error:
            place = error.filename or "temporary files"
            raise FileError(place, f"cannot be written: {error.strerror}", hint=disk.ELSEWHERE) from error
        try:
            yield made
        finally:
            _remove(made)


def _make(held: contextlib.ExitStack) -> Path:
    while True:
        made = Path(tempfile.mkdtemp(prefix=PREFIX))
        try:
            held.enter_context(files.owned(made / OWNER))
        except FileNotFoundError:  # taken for abandoned before it had an owner
            continue
        return made


def _remove_abandoned() -> None:
    for path in _folders():
        with files.abandoned([path / OWNER]) as free:
            if free:
                _remove(path)
        with contextlib.suppress(OSError):
            path.rmdir()  # of one that died before it had an owner; refused when there is anything in it


def _folders() -> list[Path]:
    """Folders of this user that have such a name."""
    with os.scandir(tempfile.gettempdir()) as entries:
        return [Path(entry.path) for entry in entries if _NAME.fullmatch(entry.name) and _is_own_folder(entry)]


def _is_own_folder(entry: os.DirEntry[str]) -> bool:
    try:
        state = entry.stat(follow_symlinks=False)
    except FileNotFoundError:  # its owner is done with it
        return False
    return stat.S_ISDIR(state.st_mode) and state.st_uid == os.geteuid()


def _remove(made: Path) -> None:
    """Remove a folder, its owner last: until then everybody can tell that it is one of these."""
    with contextlib.suppress(OSError):
        for path in made.iterdir():
            if path.name != OWNER:
                path.unlink()
    shutil.rmtree(made, ignore_errors=True)
