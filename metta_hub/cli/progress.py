"""How far long work is, on a terminal: one line on stderr that is gone when the work is done."""

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import Event, Thread

from metta_hub.api.report import count, megabytes

#: Seconds that work may take before anybody wonders; seconds between two looks.
PATIENCE, PACE = 1.0, 0.1
_LONGEST_BAR = 40
_ERASE = "\r\033[K"


def bar(verb: str, done: Callable[[], int], total: int) -> AbstractContextManager[None]:
    """Show a bar while the body runs, from its second second on; on a terminal that can, and nowhere else.

    Args:
        verb: what is being done.
        done: says how many bytes are; called from a thread of its own.
        total: how many there are to do; 0 when nobody knows.
    """
    return _shown(lambda columns: line(verb, done(), total, columns))


def counter(verb: str, done: Callable[[], int], noun: str) -> AbstractContextManager[None]:
    """The same where nobody knows how many there are to do: how many are done."""
    return _shown(lambda columns: f"  {verb:<7} {count(done(), noun)}"[: columns - 1])


@contextmanager
def _shown(said: Callable[[int], str]) -> Iterator[None]:
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb" or os.environ.get("HF_HUB_DISABLE_PROGRESS_BARS"):
        yield
        return
    finished = Event()
    thread = Thread(target=_draw, args=(said, finished), name="metta_hub-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()


def _draw(said: Callable[[int], str], finished: Event) -> None:
    drawn = False
    wait = PATIENCE
    while not finished.wait(wait):
        _show(_ERASE + said(shutil.get_terminal_size().columns))
        drawn, wait = True, PACE
    if drawn:
        _show(_ERASE)


def _show(text: str) -> None:
    with contextlib.suppress(OSError):
        sys.stderr.write(text)
        sys.stderr.flush()


def line(verb: str, done: int, total: int, columns: int) -> str:
    """The line as it stands at some moment, in at most `columns` columns."""
    if not total:
        return f"  {verb:<7} …"[: columns - 1]
    done = min(done, total)
    said = f"{megabytes(done)} of {megabytes(total)}"
    width = min(_LONGEST_BAR, columns - 1 - len(f"  {verb:<7}  {said}"))
    full = max(0, width) * done // total
    return f"  {verb:<7} {'━' * full}{'─' * (width - full)} {said}"[: columns - 1]
