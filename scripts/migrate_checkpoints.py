#!/usr/bin/env python3
"""Migrate old checkpoints into pairs, by the name and the options of Metta's document: `metta-hub migrate` has more."""

import sys
from typing import Annotated

try:
    import typer

    from metta_hub.cli import failures, old
except ModuleNotFoundError as missing:
    sys.exit(f"Error: {missing.name} is not installed for this Python.\nHint: pip install . in the clone of metta-hub")


def migrate(
    path: Annotated[str, typer.Argument(metavar="PATH", help="An old checkpoint, or a folder of them.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read everything, write nothing.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Put each pair under the old file's name.")] = False,
    device: Annotated[str, typer.Option("--device", help="Not needed: nothing is loaded onto any device.")] = "cpu",
) -> None:
    """Write old checkpoints anew as pairs; no pickle is run."""
    del device
    old.migrate(path, dry_run=dry_run, replace=replace)


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(migrate)
    failures.stop_on_signals()
    try:
        code = app(standalone_mode=False)
    except BaseException as error:  # noqa: BLE001  (the table has an answer to everything)
        code = failures.explain(error)
    sys.exit(code)
