"""The files of a checkpoint must stay as they are while they are worked on."""

from collections.abc import Iterator
from contextlib import contextmanager

from metta_hub.checkpoint import Origin
from metta_hub.errors import SourceChangedError


@contextmanager
def unchanged(origin: Origin, reason: str) -> Iterator[None]:
    """Work on a checkpoint's files; when one changed meanwhile, that is the error, whatever else came of it.

    Args:
        origin: its files, and how they were when they were read.
        reason: the error's, as in "the file changed while it was being read".

    Raises:
        SourceChangedError: one was written to, replaced or removed.
    """
    try:
        yield
    except Exception:
        require_unchanged(origin, reason)
        raise
    require_unchanged(origin, reason)


def require_unchanged(origin: Origin, reason: str) -> None:
    """Make sure that a checkpoint's files are as they were when they were read.

    Raises:
        SourceChangedError: one was written to, replaced or removed.
    """
    path = origin.changed()
    if path is not None:
        raise SourceChangedError(path, reason, hint="run the same command again when nobody writes to it")
