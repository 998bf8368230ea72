"""export."""

from typing import Annotated

import typer

from metta_hub.cli import options
from metta_hub.cli.get import HEADING
from metta_hub.cli.help import Command
from metta_hub.cli.output import Output


def add_to(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command("export", cls=Command, rich_help_panel=HEADING)(export)


def export(
    target: Annotated[str, typer.Argument(metavar="PATH|REF", help="A local checkpoint, or a published one.")],
    bundle: Annotated[
        str, typer.Option("--bundle", metavar="OUT", help="A .zip, a folder called RUN:vN, or a folder for such ones.")
    ],
    run: Annotated[str | None, typer.Option(metavar="NAME", help="The run, if the metadata do not say.")] = None,
    epoch: Annotated[int | None, typer.Option(metavar="N", help="The epoch, if the metadata do not say.")] = None,
    class_path: Annotated[str | None, typer.Option(metavar="PATH", help="The class that runs the weights.")] = None,
    init_kwargs: Annotated[str | None, typer.Option(metavar="JSON|FILE", help="Its arguments.")] = None,
    architecture_spec: Annotated[
        str | None, typer.Option(metavar="TEXT|FILE", help="For Metta's own CheckpointPolicy: what makes its network.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace another bundle.")] = False,
    revision: options.Revision = None,
    token: options.Token = None,
    cache_dir: options.CacheDir = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write a checkpoint as today's Metta bundle."""
    from metta_hub.api import export as exporting
    from metta_hub.api.report import megabytes

    output = Output(as_json, quiet)
    exported = exporting.export(
        target,
        bundle,
        run=run,
        epoch=epoch,
        class_path=class_path,
        init_kwargs=None if init_kwargs is None else exporting.arguments_from(init_kwargs),
        architecture_spec=None if architecture_spec is None else exporting.architecture_from(architecture_spec),
        force=force,
        revision=revision,
        token=token,
        cache_dir=cache_dir,
        report=output.report,
    )
    lines = [f"✓ Exported {exported.path}"]
    lines += [f"  {file.path}: {megabytes(file.size)}" for file in exported.files]
    output.result(exported, lines=lines, quiet=[str(exported.path)])
