"""The command line: a command parses, calls one function of `metta_hub.api`, and prints.

`main` is the console entry. Errors meet one table here: a sentence, a hint, an exit code (1 failed, 2 wrong usage).
"""

import contextlib
import os
import sys
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from metta_hub.cli import get, look, publish, serve
from metta_hub.cli.output import Output
from metta_hub.errors import MettaHubError, UsageError

_EPILOG = """\b
Examples:
  metta-hub push checkpoints/model_0100.pt org/nav
  metta-hub pull org/nav@v1.0:best checkpoints
  metta-hub inspect checkpoints/model_0100.pt --json

\b
REF is [hf://]org/name[@revision][:selector]; a selector is latest, best,
best=METRIC, min=METRIC, epoch=N or a checkpoint's name. Without one it is
the repo's root. PATH is a .pt, .json or .safetensors file.
"""


class GroupedHelp(TyperGroup):
    """Lists commands under the heading that each was given, in the order in which they were added."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401  (typer's own click, which nobody imports)
        """Write one section a heading."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command: Any = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                panels.setdefault(command.rich_help_panel, []).append((name, command.get_short_help_str(70)))
        for heading, rows in panels.items():
            with formatter.section(heading):
                formatter.write_dl(rows)

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401  (as above)
        """In the order in which they were added."""
        del ctx
        return list(self.commands)


app = typer.Typer(
    name="metta-hub",
    cls=GroupedHelp,
    help="Publish Metta policy checkpoints to the Hugging Face Hub, and pull or inspect them anywhere."
    " No pickle is ever executed.",
    epilog=_EPILOG,
    no_args_is_help=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
for module in (publish, get, look, serve):
    module.add_to(app)


@app.callback(invoke_without_command=True)
def _start(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Show the version and exit."),
) -> None:
    if version:
        from metta_hub._version import __version__

        sys.stdout.write(f"metta-hub {__version__}\n")
        raise typer.Exit
    if context.invoked_subcommand is None:
        sys.stdout.write(context.get_help() + "\n")
        raise typer.Exit


def main() -> None:
    """Run the command line and exit."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started us
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  (for as long as we run)
        with contextlib.suppress(AttributeError, ValueError):
            getattr(sys, name).reconfigure(errors="replace")
    try:
        app()
    except Exception as error:
        if os.environ.get("HF_DEBUG"):
            raise
        sys.exit(_explain(error))


def _explain(error: Exception) -> int:
    # The command's own flags are not known here: it stopped before it returned.
    output = Output(as_json="--json" in sys.argv, quiet=bool({"-q", "--quiet"} & set(sys.argv)))
    if isinstance(error, BrokenPipeError):
        # Whoever read our output has had enough; keep the interpreter from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    if isinstance(error, MettaHubError):
        output.failure(error, str(error), error.hint)
        return 2 if isinstance(error, UsageError) else 1
    if isinstance(error, OSError) and error.filename is not None:
        output.failure(error, f"{error.filename}: {error.strerror}.", "")
        return 1
    hint = "HF_DEBUG=1 shows the whole traceback; please report it"
    output.failure(error, f"Unexpected {type(error).__name__}: {' '.join(str(error).split())[:500]}", hint)
    return 1
