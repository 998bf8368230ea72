"""What a download that was killed leaves in huggingface_hub's cache: it is never used again, nor ever removed.

The client downloads to `blobs/ETAG.TOKEN.incomplete`, asks for the permissions of new files with an empty
`blobs/tmp_UUID`, tries with a folder `tmpNAME` whether links work, and holds a lock below `.locks` all the while.
"""

import contextlib
import fcntl
import re
import shutil
from pathlib import Path

from huggingface_hub.file_download import repo_folder_name

_DOWNLOAD = re.compile(r"[^.]+\.[0-9a-f]{8}\.incomplete|tmp_[0-9a-f-]{36}")
_PROBE = re.compile(r"tmp[a-z0-9_]{8}")


def remove_partial(cache: Path, repo_id: str) -> None:
    """Remove what killed downloads of a model repo left, unless one is going on."""
    folder = cache / repo_folder_name(repo_id=repo_id, repo_type="model")
    # In this order: whoever made one of these files and still lives has held its lock ever since.
    left = [*_named(folder / "blobs", _DOWNLOAD), *_named(folder, _PROBE)]
    if not left or not all(_is_free(lock) for lock in (cache / ".locks" / folder.name).glob("*.lock")):
        return
    for path in left:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink()


def _named(folder: Path, pattern: re.Pattern[str]) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if pattern.fullmatch(path.name) and not path.is_symlink()]
    except OSError:
        return []


def _is_free(lock: Path) -> bool:
    """Whether nobody holds a lock; no where locks keep nobody out, as on some network file systems."""
    try:
        with lock.open("r+b") as file, lock.open("r+b") as again:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                fcntl.flock(again.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
    except OSError:
        return False
    return False
