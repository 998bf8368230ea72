"""What a command prints: data on stdout, talk on stderr."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Output:
    """Where a command's words go.

    Attributes:
        as_json: one JSON value on stdout instead of lines for people.
        quiet: only the most important value on stdout, and only errors on stderr.
    """

    as_json: bool
    quiet: bool

    def report(self, verb: str, text: str) -> None:
        """A step of the work, as library code reports it."""
        if verb == "warning":
            self.warn(text)
        elif not (self.quiet or self.as_json):
            talk(f"  {verb:<7} {printable(text)}")

    def result(self, data: object, *, lines: Sequence[str], quiet: Sequence[str]) -> None:
        """The result: `data` as JSON, `lines` for people, or `quiet` for scripts."""
        if self.as_json:
            say(as_json(data))
            return
        for line in quiet if self.quiet else lines:
            say(line)

    def warn(self, text: str, hint: str = "") -> None:
        """Something that the user should know; the work goes on."""
        if not self.quiet:
            talk(f"{colored('Warning:', '33')} {printable(text)}{f'   Hint: {hint}' if hint else ''}")

    def failure(self, error: BaseException, sentence: str, hint: str) -> None:
        """An error: a sentence and a hint on stderr; with --json also a value on stdout."""
        talk(f"{colored('Error:', '31')} {printable(sentence)}")
        if hint and not self.quiet:
            talk(f"Hint: {printable(hint)}")
        if self.as_json:
            say(as_json({"error": {"type": type(error).__name__, "message": sentence, "hint": hint}}))


def say(line: str) -> None:
    """Write a line of data."""
    sys.stdout.write(f"{line}\n")


def talk(line: str) -> None:
    """Write a line for people."""
    sys.stderr.write(f"{line}\n")


def as_json(data: object) -> str:
    """One line of strict JSON."""
    return json.dumps(_plain(data), ensure_ascii=False, allow_nan=False, separators=(", ", ": "))


def _plain(data: object) -> Any:  # noqa: ANN401  (JSON)
    if is_dataclass(data) and not isinstance(data, type):
        return {key: _plain(value) for key, value in asdict(data).items()}
    if isinstance(data, Mapping):
        return {str(key): _plain(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_plain(item) for item in data]
    return str(data) if isinstance(data, Path) else data


def check_mark() -> str:
    """The mark before what went well."""
    return colored("✓", "32", stream=sys.stdout)


def colored(text: str, code: str, *, stream: Any = None) -> str:  # noqa: ANN401  (any text stream)
    """Colour for terminals that want it."""
    stream = stream or sys.stderr
    wanted = stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return f"\033[{code}m{text}\033[0m" if wanted else text


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
