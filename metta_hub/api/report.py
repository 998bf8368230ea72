"""How library code says what it is doing, without printing: it calls a `Report` that its caller handed in."""

from collections.abc import Callable

#: Called with a verb ("read", "clean", "prove", "send", "note") and a sentence about it.
Report = Callable[[str, str], None]


def silent(verb: str, text: str) -> None:
    """A report that nobody reads."""


def count(number: int, noun: str) -> str:
    """`1 tensor`, `12 tensors`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def megabytes(size: int) -> str:
    """Bytes as a person reads them, in powers of ten as the Hub shows them."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} B"
