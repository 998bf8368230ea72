"""pull."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from metta_hub.api import targets
from metta_hub.cli import options
from metta_hub.cli.help import Command
from metta_hub.cli.output import Output
from metta_hub.errors import UsageError

HEADING = "Get and run"


def add_to(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command("pull", cls=Command, rich_help_panel=HEADING)(pull)


def pull(
    reference: Annotated[str, typer.Argument(metavar="REF", help="[hf://]org/name[@revision][:selector].")],
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Where to write the pair.")] = "checkpoints",
    revision: options.Revision = None,
    force: Annotated[bool, typer.Option("--force", help="Replace other files of that name.")] = False,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Make the .pt from the tensors: for the CPU, in today's container.")
    ] = False,
    token: options.Token = None,
    cache_dir: options.CacheDir = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write a published checkpoint as a local pair."""
    from metta_hub.api.pull import pull as fetch

    output = Output(as_json, quiet)
    _check_order(reference, folder)
    pulled = fetch(
        reference,
        folder,
        revision=revision,
        force=force,
        rebuild=rebuild,
        token=token,
        cache_dir=cache_dir,
        report=output.report,
    )
    bytes_ = "the author's own bytes" if pulled.identical else "made from the mirror, every tensor equal"
    lines = [
        f"✓ Pulled {pulled.checkpoint} ({pulled.commit[:7]}): {bytes_}",
        f"  pt:   {_near(pulled.pt)}",
        f"  json: {_near(pulled.json)}",
    ]
    output.result(pulled, lines=lines, quiet=[str(pulled.pt)])


def _check_order(reference: str, folder: str) -> None:
    """Notice swapped arguments before anything is asked.

    Raises:
        UsageError: the second one is the reference.
    """
    local = "/" not in reference.rstrip("/") or targets.looks_like_path(reference)
    is_reference = folder.startswith("hf://") or ("/" in folder and not targets.looks_like_path(folder))
    if local and Path(reference).is_dir() and is_reference and not Path(folder).exists():
        sentence = f"The reference comes first, then the folder: not {reference} {folder}."
        raise UsageError(sentence, hint=f"metta-hub pull {shlex.join([folder, reference])}")


def _near(path: Path) -> str:
    """A path as the user would type it."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
