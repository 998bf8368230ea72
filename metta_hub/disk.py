"""Disks that are full or may not be written to: which file it was and how much it needed, instead of a bare OSError."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from metta_hub.errors import FileError, NoRoomError

#: Where else what is made on the way can go.
ELSEWHERE = "TMPDIR names the folder for what is made on the way"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_REFUSED = frozenset(
    {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EIO}
)


@contextmanager
def writing(target: Path, size: int, *, what: str = "", hint: str = "") -> Iterator[None]:
    """Have what stops the writing of a file raise our errors.

    Args:
        target: the file, or the folder that it goes to.
        size: how many bytes the body writes, as far as known; 0 when they are not.
        what: what to call it, when it is not `target`.
        hint: where else it could go.

    Raises:
        NoRoomError: the disk, a quota or a limit has no room for it.
        FileError: nothing can be written there.
    """
    try:
        yield
    except OSError as error:
        name = f"{target} ({what})" if what else target
        if error.errno in _FULL:
            raise NoRoomError(name, size, f"{_free(target):,} are free", hint=hint) from error
        if error.errno == errno.EFBIG:
            limit = "files may not be that large here, see 'ulimit -f'"
            raise NoRoomError(name, size, limit, hint=hint) from error
        if error.errno in _REFUSED and _concerns(error.filename, target):
            folder = error.filename and Path(error.filename).absolute() in target.absolute().parents
            shown = error.filename if folder else name
            raise FileError(shown, f"cannot be written: {error.strerror}", hint=hint) from error
        raise


def _concerns(filename: object, target: Path) -> bool:
    """Whether an error is about the target, or a folder that it is in, and not about what is read for it."""
    if filename is None:
        return True
    place, path = Path(str(filename)).absolute(), target.absolute()
    return place in {path, *path.parents} or place.parent in {path, *path.parents}


def _free(place: Path) -> int:
    """Bytes that a user may still write at a place, which need not exist."""
    there = next(folder for folder in (place, *place.absolute().parents) if folder.exists())
    return shutil.disk_usage(there).free
