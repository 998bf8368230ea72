"""migrate."""

from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from metta_hub.cli import options
from metta_hub.cli.help import Command
from metta_hub.cli.output import Output

if TYPE_CHECKING:
    from metta_hub.api.migrate import Migration

HEADING = "Old files"


def add_to(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command("migrate", cls=Command, rich_help_panel=HEADING)(migrate)


def migrate(
    path: Annotated[str, typer.Argument(metavar="PATH", help="An old checkpoint, or a folder of them.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read everything, write nothing.")] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Put each pair under the old file's name, once it was found equal.")
    ] = False,
    backup: Annotated[bool, typer.Option("--backup/--no-backup", help="Keep what is replaced as NAME.pt.old.")] = True,
    output_folder: Annotated[
        str | None, typer.Option("--output", metavar="DIR", help="Write the pairs there, in the same folders.")
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", metavar="N", help="How many processes work.")] = 1,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write old checkpoints anew as pairs; no pickle is run."""
    from metta_hub.api.migrate import migrate as write_anew

    output = Output(as_json, quiet)
    done = write_anew(
        path,
        dry_run=dry_run,
        replace=replace,
        backup=backup,
        output=output_folder,
        jobs=jobs,
        report=output.report,
    )
    output.result(done, lines=_lines(done, dry_run=dry_run), quiet=[str(item.target) for item in done.migrated])
    if quiet and not as_json:
        for failed in done.failed:
            output.failure("Failed", failed.error, failed.hint)
    if done.failed:
        raise typer.Exit(1)


def _lines(done: "Migration", *, dry_run: bool) -> list[str]:
    from metta_hub.api.report import count

    lines = []
    for item in done.migrated:
        stripped = f", without '{''.join(item.stripped)}'" if item.stripped else ""
        lines.append(f"  {item.source} → {item.target} ({item.format}{stripped})")
        lines += [f"    {warning}" for warning in item.warnings]
    lines += [f"  {count(number, 'file')} left: {reason}" for reason, number in _reasons(done).most_common()]
    for failed in done.failed:
        lines.append(f"✗ {failed.source}: {failed.error.removeprefix(f'{failed.source}: ')}")
        lines += [f"    {failed.hint}"] if failed.hint else []
    migrated = count(len(done.migrated), "checkpoint")
    if done.failed:
        lines.append(f"NOT OK: {len(done.failed)} failed, and stay as they are; {migrated} migrated")
        return lines
    return [*lines, f"Would migrate {migrated}" if dry_run else f"✓ Migrated {migrated}"]


def _reasons(done: "Migration") -> Counter[str]:
    """Why files were left; what is said of one name is said of all."""
    return Counter(item.reason.partition(":")[0] for item in done.skipped)
