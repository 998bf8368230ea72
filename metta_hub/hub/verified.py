"""Which files of huggingface_hub's cache were hashed already: a note beside the blobs, good until a file changes.

Only what one process of ours after another wants to know; whoever checks a repo hashes everything.
"""

import contextlib
import secrets
from pathlib import Path

from metta_hub.checkpoint import FileState

_FOLDER, _BLOBS = "verified", "blobs"


def is_noted(path: Path, sha256: str) -> bool:
    """Whether a cached file had this hash when it was last written to."""
    note = _note(path, sha256)
    if note is None:
        return False
    try:
        return note.read_text() == _words(FileState.of(path))
    except (OSError, ValueError):
        return False


def note(path: Path, sha256: str, state: FileState) -> None:
    """Note that a cached file had this hash when it was in this state; a read-only cache stays without."""
    target = _note(path, sha256)
    if target is None:
        return
    new = target.with_name(f"{target.name}.{secrets.token_hex(4)}.tmp")
    with contextlib.suppress(OSError):
        target.parent.mkdir(exist_ok=True)
        try:
            new.write_text(_words(state))
            new.replace(target)
        finally:
            new.unlink(missing_ok=True)


def _note(path: Path, sha256: str) -> Path | None:
    """Where the note of a file lies; None for files that are no links to blobs, as on file systems without links."""
    blob = path.resolve()
    return blob.parent.parent / _FOLDER / sha256 if blob.parent.name == _BLOBS else None


def _words(state: FileState) -> str:
    return f"{state.device} {state.inode} {state.size} {state.mtime_ns} {state.ctime_ns}"
