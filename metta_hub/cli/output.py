"""What a command prints: data on stdout, talk on stderr."""

import contextlib
import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any, TextIO

from metta_hub.cli import progress
from metta_hub.errors import FileError

#: Marks at the beginning of a line, and their colours on terminals that want any.
_MARKS = {"✓": "32", "✗": "31"}
#: Characters that are written at once. A pipe takes their bytes all or none (PIPE_BUF); of more, an unbuffered stdout
#: (PYTHONUNBUFFERED) loses the rest when a signal comes between.
_PIECE = 1024
#: What JSON may hold as it is, and a terminal should not see.
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")


@dataclass(frozen=True, slots=True)
class Output:
    """Where a command's words go.

    Attributes:
        as_json: one JSON value on stdout instead of lines for people.
        quiet: only the most important value on stdout, and only errors on stderr.
    """

    as_json: bool
    quiet: bool

    @property
    def report(self) -> "Teller":
        """What library code is handed to report its steps to."""
        return Teller(self)

    def result(self, data: object, *, lines: Sequence[str], quiet: Sequence[str]) -> None:
        """The result: `data` as JSON, `lines` for people, or `quiet` for scripts."""
        if self.as_json:
            say(as_json(data))
        elif self.quiet:
            say(*quiet)
        else:
            say(*(_marked(printable(line)) for line in lines))

    def warn(self, text: str, hint: str = "") -> None:
        """Something that the user should know; the work goes on."""
        if not self.quiet:
            talk(f"{colored('Warning:', '33')} {printable(text)}{f'   Hint: {hint}' if hint else ''}")

    def failure(self, kind: str, sentence: str, hint: str) -> None:
        """An error: a sentence and a hint on stderr; with --json also a value on stdout."""
        talk(f"{colored('Error:', '31')} {printable(sentence)}")
        if hint and not self.quiet:
            talk(f"Hint: {printable(hint)}")
        if self.as_json:
            say(as_json({"error": {"type": kind, "message": sentence, "hint": hint}}))


@dataclass(frozen=True, slots=True)
class Teller:
    """Tells people on stderr what library code reports."""

    output: Output

    def __call__(self, verb: str, text: str) -> None:
        """Tell a step of the work."""
        if verb == "warning":
            self.output.warn(text)
        elif not (self.output.quiet or self.output.as_json):
            talk(f"  {verb:<7} {printable(text)}")

    def progress(self, verb: str, done: Callable[[], int], total: int) -> AbstractContextManager[None]:
        """Show how far long work is."""
        if self.output.quiet or self.output.as_json:
            return contextlib.nullcontext()
        return progress.bar(verb, done, total)

    def counting(self, verb: str, done: Callable[[], int], noun: str) -> AbstractContextManager[None]:
        """Show how many there were so far."""
        if self.output.quiet or self.output.as_json:
            return contextlib.nullcontext()
        return progress.counter(verb, done, noun)


def say(*lines: str) -> None:
    """Write lines of data, now.

    Raises:
        BrokenPipeError: nobody reads them.
        FileError: they cannot be written.
    """
    write("".join(f"{line}\n" for line in lines))


def write(text: str) -> None:
    """Write data, now.

    Raises:
        BrokenPipeError: nobody reads it.
        FileError: it cannot be written.
    """
    try:
        for at in range(0, len(text), _PIECE):
            sys.stdout.write(text[at : at + _PIECE])
        sys.stdout.flush()
    except OSError as error:
        # Keep the interpreter from trying, and complaining, once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise
        hint = "run the same command again, with its output to where there is room"
        raise FileError("standard output", f"cannot be written: {error.strerror}", hint=hint) from error


def talk(line: str) -> None:
    """Write a line for people; when nobody listens, the work goes on."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def as_json(data: object) -> str:
    """One line of strict JSON; what a terminal would act on is escaped."""
    text = json.dumps(_plain(data), ensure_ascii=False, allow_nan=False, separators=(", ", ": "))
    return _UNPRINTABLE.sub(lambda found: _escaped(found[0]), text)


def _escaped(character: str) -> str:
    return character if character.isprintable() else json.dumps(character)[1:-1]


def _plain(data: object) -> Any:  # noqa: ANN401  (JSON)
    if is_dataclass(data) and not isinstance(data, type):
        return {key: _plain(value) for key, value in asdict(data).items()}
    if isinstance(data, Mapping):
        return {str(key): _plain(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_plain(item) for item in data]
    return str(data) if isinstance(data, Path) else data


def _marked(line: str) -> str:
    """A line whose mark has its colour."""
    code = _MARKS.get(line[:1])
    return line if code is None else colored(line[0], code, stream=sys.stdout) + line[1:]


def colored(text: str, code: str, *, stream: TextIO | None = None) -> str:
    """Colour for terminals that want it."""
    return f"\033[{code}m{text}\033[0m" if _wants_colour(stream or sys.stderr) else text


def _wants_colour(stream: TextIO) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def table(rows: Sequence[Sequence[str]], *, right: frozenset[int] = frozenset()) -> list[str]:
    """Lines of columns under one another; columns in `right` are numbers."""
    if not rows:
        return []
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def printable(text: object) -> str:
    """A stranger's text without control characters, which a terminal would act on."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in str(text))
