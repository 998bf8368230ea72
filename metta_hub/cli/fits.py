"""fits."""

from typing import TYPE_CHECKING, Annotated

import typer

from metta_hub.cli import options
from metta_hub.cli.get import HEADING
from metta_hub.cli.help import Command
from metta_hub.cli.output import Output, printable, table

if TYPE_CHECKING:
    from metta_hub.api.fits import Fit


def add_to(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command("fits", cls=Command, rich_help_panel=HEADING)(fits)


def fits(
    target: Annotated[str, typer.Argument(metavar="PATH|REF", help="A local checkpoint, or a published one.")],
    actions: Annotated[
        str | None, typer.Option("--actions", metavar="A,B,C", help="Names of the environment's actions.")
    ] = None,
    environment: Annotated[
        str | None, typer.Option("--environment", metavar="FILE", help="A JSON file that describes it.")
    ] = None,
    like: Annotated[
        str | None, typer.Option("--like", metavar="REF", help="A checkpoint that was trained in it.")
    ] = None,
    revision: options.Revision = None,
    token: options.Token = None,
    cache_dir: options.CacheDir = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Tell whether a policy fits an environment."""
    from metta_hub.api.fits import fits as compare

    output = Output(as_json, quiet)
    found = compare(
        target,
        actions=actions,
        environment=environment,
        like=like,
        revision=revision,
        token=token,
        cache_dir=cache_dir,
        report=output.report,
    )
    output.result(found, lines=_lines(found), quiet=["fits" if found.ok else "does not fit"])
    if not found.ok:
        raise typer.Exit(1)


def _lines(found: "Fit") -> list[str]:
    lines = []
    if found.differences:
        rows = [["", "policy", "environment"]]
        rows += [
            [printable(one.where), printable(one.policy or "-"), printable(one.environment or "-")]
            for one in found.differences
        ]
        lines += [f"  {line}" for line in table(rows, right=frozenset())]
    lines += [printable(note) for note in found.notes]
    return [*lines, "It fits" if found.ok else f"DOES NOT FIT: {len(found.differences)} differences"]
