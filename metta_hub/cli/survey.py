"""scan."""

import shlex
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from metta_hub import interrupts
from metta_hub.cli import failures, options
from metta_hub.cli.help import Command
from metta_hub.cli.output import Output, as_json, printable, say, table, talk, write

if TYPE_CHECKING:
    from metta_hub.api.scan import Scan, ScannedFile, Totals

HEADING = "Old files"
#: Entries that are written at once.
AT_ONCE = 256


def add_to(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command("scan", cls=Command, rich_help_panel=HEADING)(scan)


def scan(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A folder, a file, or an address as s3://BUCKET/FOLDER.")],
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Survey a tree: what is there, and what can be done."""
    from metta_hub.api.scan import scan as survey

    output = Output(as_json, quiet)
    found = survey(path, report=output.report)
    stopped = _write_json(found) if as_json else _tell(found, path, output)
    if stopped is not None:  # stdout has what was found until then
        raise typer.Exit(failures.explain(stopped, as_json=False)) from stopped
    totals = found.totals
    for sentence in _unseen(totals):
        output.warn(sentence)
    if not (as_json or quiet):
        for command in _next(totals, path):
            talk(f"Next: {command}")


# --- for scripts ---


def _write_json(found: "Scan") -> BaseException | None:
    """One JSON value, written as it comes, and whole when something stops the survey: that is returned."""
    opening = '{"files": ['
    stopped: BaseException | None = None
    try:
        for some in _by_many(_parts(found)):
            with interrupts.held():  # half an entry has no end
                text, opening = opening + some, ""
                write(text)
    except BrokenPipeError:
        raise
    except BaseException as error:  # noqa: BLE001  (whatever it was, the value must have its end)
        stopped = error
    write(f'{opening}], "totals": {as_json(found.totals)}}}\n')
    return stopped


def _by_many(parts: Iterator[str]) -> Iterator[str]:
    while some := "".join(islice(parts, AT_ONCE)):
        yield some


def _parts(found: Iterable["ScannedFile"]) -> Iterator[str]:
    """The entries, with what stands between them."""
    between = ""
    for file in found:
        yield between + as_json(file)
        between = ", "


# --- for people ---


def _tell(found: "Scan", path: str, output: Output) -> BaseException | None:
    """What was found, also when something stops the survey: that is returned."""
    stopped: BaseException | None = None
    try:
        for file in found:
            if output.quiet and file.publish:
                say(printable(file.path))
    except BrokenPipeError:
        raise
    except BaseException as error:  # noqa: BLE001  (what was found until then is shown)
        stopped = error
    totals = found.totals
    if stopped is None or totals.files:
        output.result(totals, lines=_lines(totals, path), quiet=())
    return stopped


def _lines(totals: "Totals", path: str) -> list[str]:
    from metta_hub.api.report import count, megabytes

    so_far = "" if totals.complete else " so far"
    where = f" in {count(totals.folders, 'folder')}" if totals.folders else ""
    sizes = f"{count(totals.files, 'file')}{where}, {megabytes(totals.bytes)}"
    lines = [f"{path}: {count(totals.checkpoints, 'checkpoint')}{so_far} in {sizes}"]
    lines += [f"  {line}" for line in _by_format(totals)]
    for title, publish in (("cannot be published", False), ("can be published, but not run", True)):
        reasons = [one for one in totals.reasons if one.publish is publish]
        if reasons:
            lines.append(f"{title}:")
        for one in reasons:
            shown = ", ".join(_within(path, example) for example in one.examples)
            shown += ", …" if one.checkpoints > len(one.examples) else ""
            lines.append(f"  {one.checkpoints:,} × {one.reason}: {shown}")
    lines += [f"besides: {'; '.join(said)}" for said in [_besides(totals)] if said]
    named = totals.bytes + totals.duplicates.bytes
    share = f" ({totals.read.bytes / named:.2%})" if named else ""
    return [*lines, f"read: {megabytes(totals.read.bytes)}{share} in {count(totals.read.requests, 'request')}"]


def _within(path: str, file: str) -> str:
    """A file's path from the folder on that was asked for."""
    return file.removeprefix(path.rstrip("/")).removeprefix("/") or file


def _by_format(totals: "Totals") -> list[str]:
    from metta_hub.api.report import megabytes

    if not totals.formats:
        return []
    rows = [["format", "written", "checkpoints", "files", "size", "publish", "describe", "run"]]
    rows += [
        [
            one.format,
            one.era or "",
            f"{one.checkpoints:,}",
            f"{one.files:,}",
            megabytes(one.bytes),
            f"{one.publish:,}",
            f"{one.describe:,}",
            f"{one.run:,}",
        ]
        for one in totals.formats
    ]
    left = 2
    if not any(one.era for one in totals.formats):
        rows, left = [[row[0], *row[2:]] for row in rows], 1
    return table(rows, right=frozenset(range(left, len(rows[0]))))


def _besides(totals: "Totals") -> list[str]:
    from metta_hub.api.report import count, megabytes

    said = []
    if totals.other.files:
        said.append(f"{count(totals.other.files, 'other file')} ({megabytes(totals.other.bytes)})")
    if totals.duplicates.files:
        names = count(totals.duplicates.files, "further name")
        said.append(f"{names} of files that were counted already ({megabytes(totals.duplicates.bytes)} more)")
    if totals.links:
        said.append(f"{count(totals.links, 'symbolic link')}, not followed")
    if totals.special:
        said.append(f"{count(totals.special, 'pipe, socket or device', 'pipes, sockets or devices')}, not opened")
    return said


def _unseen(totals: "Totals") -> list[str]:
    from metta_hub.api.report import count

    unreadable = totals.unreadable
    counts = [(unreadable.folders, "folder"), (unreadable.files, "file")]
    said = " and ".join(count(number, noun) for number, noun in counts if number)
    examples = ", ".join(f"{path}: {reason}" for path, reason in unreadable.examples)
    return [f"{said} could not be read ({examples})."] if said else []


def _next(totals: "Totals", path: str) -> list[str]:
    """What to type next."""
    if "://" in path:
        return []
    commands = []
    if totals.migrate:
        commands.append(f"metta-hub migrate {_typed(path)} --dry-run")
    if totals.first is not None:
        commands.append(f"metta-hub push {_typed(totals.first)} org/NAME")
    return [printable(command) for command in commands]


def _typed(path: str) -> str:
    """A path as it can be typed, also one that looks like an option."""
    return shlex.quote(f"./{path}" if path.startswith("-") else path)
