"""try."""

from typing import TYPE_CHECKING, Annotated

import typer

from metta_hub.cli import options
from metta_hub.cli.get import HEADING
from metta_hub.cli.help import Command
from metta_hub.cli.output import Output, printable, table

if TYPE_CHECKING:
    from metta_hub.api.trying import Tried

#: Actions that are shown; --json has them all.
SHOWN = 12


def add_to(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command("try", cls=Command, rich_help_panel=HEADING)(try_)


def try_(
    target: Annotated[str, typer.Argument(metavar="PATH|REF", help="A local checkpoint, or a published one.")],
    assume_preset: options.AssumePreset = False,
    revision: options.Revision = None,
    token: options.Token = None,
    cache_dir: options.CacheDir = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """See what a policy does, how fast, and if rightly."""
    from metta_hub.api.trying import try_policy

    output = Output(as_json, quiet)
    tried = try_policy(
        target,
        revision=revision,
        token=token,
        cache_dir=cache_dir,
        assume_preset=assume_preset,
        report=output.report,
    )
    output.result(tried, lines=_lines(tried), quiet=[printable(tried.actions[0].name)] if tried.actions else [])
    if tried.probe is not None and not tried.probe.ok:
        raise typer.Exit(1)


def _lines(tried: "Tried") -> list[str]:
    rows = [[printable(action.name), f"{action.probability:.1%}"] for action in tried.actions[:SHOWN]]
    lines = [f"{tried.checkpoint}: what it does on its example observation"]
    lines += [f"  {line}" for line in table(rows, right=frozenset({1}))]
    if len(tried.actions) > SHOWN:
        lines.append(f"  … and {len(tried.actions) - SHOWN:,} more, less likely; --json has them all")
    if not tried.actions:
        lines.append("  it knows no actions yet: initialize_to_environment gives it some")
    lines.append(f"One step: {tried.step_ms:.2f} ms")
    verdict = "not known, for there is no probe (push --probe makes one)"
    if tried.probe is not None:
        said = "yes" if tried.probe.ok else "NO"
        verdict = f"{said} (largest difference {tried.probe.max_difference:.1e})"
    return [*lines, f"Same outputs as on the author's machine: {verdict}"]
