"""How library code says what it is doing, without printing: it calls a `Report` that its caller handed in."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Protocol, runtime_checkable

#: Called with a verb ("read", "clean", "prove", "send", "note") and a sentence about it.
Report = Callable[[str, str], None]


@runtime_checkable
class ShowsProgress(Protocol):
    """A `Report` that can also show how far work is."""

    def progress(self, verb: str, done: Callable[[], int], total: int) -> AbstractContextManager[None]:
        """Show it while the body runs; `done` says how many of `total` bytes are done, 0 when nobody knows."""

    def counting(self, verb: str, done: Callable[[], int], noun: str) -> AbstractContextManager[None]:
        """Show how many there were so far of what nobody knows the number of."""


def silent(verb: str, text: str) -> None:
    """A report that nobody reads."""


def working(
    report: Report, verb: str, growing: Callable[[], Iterable[Path]] = tuple, total: int = 0
) -> AbstractContextManager[None]:
    """Have a report that can show how far work is do so while the body runs.

    Args:
        report: told.
        verb: what is being done.
        growing: the files that the body writes, as far as they are there.
        total: bytes that they will have; 0 when nobody knows.
    """
    if isinstance(report, ShowsProgress):
        return report.progress(verb, lambda: sum(map(_size, growing())), total)
    return nullcontext()


def counting(report: Report, verb: str, done: Callable[[], int], noun: str) -> AbstractContextManager[None]:
    """Have a report that can do so show how many there were so far, while the body runs."""
    return report.counting(verb, done, noun) if isinstance(report, ShowsProgress) else nullcontext()


@contextmanager
def warnings_told(report: Report) -> Iterator[None]:
    """Have Python's warnings to users reported: on the command line nobody would see them."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield
    for one in caught:
        if issubclass(one.category, UserWarning):
            report("warning", str(one.message))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def count(number: int, noun: str, plural: str = "") -> str:
    """`1 tensor`, `12 tensors`."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def megabytes(size: int) -> str:
    """Bytes as a person reads them, in powers of ten as the Hub shows them."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} B"
