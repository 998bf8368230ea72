"""The command line: a command parses, calls one function of `metta_hub.api`, and prints.

`main` is the console entry. Whatever stops a command meets one table, in `failures`: a sentence, a hint, an exit code
(0 done, 1 failed or not ok, 2 wrong usage, 128 + n stopped by signal n).
"""

import contextlib
import os
import sys
import warnings
from pathlib import Path

import typer

from metta_hub.cli import export, failures, fits, get, look, old, publish, serve, survey, trying
from metta_hub.cli.help import Group
from metta_hub.cli.output import write

_EPILOG = """\b
Examples:
  metta-hub push checkpoints/model_0100.pt org/nav
  metta-hub pull org/nav@v1.0:best checkpoints
  metta-hub inspect checkpoints/model_0100.pt --json
REF is [hf://]org/name[@revision][:selector]; a selector is latest, best,
best=METRIC, min=METRIC, epoch=N or a checkpoint's name; else the repo's root."""

app = typer.Typer(
    name="metta-hub",
    cls=Group,
    help="Publish Metta's policies to the Hugging Face Hub; pull, inspect, migrate them.",
    epilog=_EPILOG,
    no_args_is_help=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
for module in (publish, get, trying, fits, export, look, old, survey, serve):
    module.add_to(app)


@app.callback(invoke_without_command=True)
def _start(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Show the version and exit."),
) -> None:
    if version:
        from metta_hub._version import __version__

        write(f"metta-hub {__version__}\n")
        raise typer.Exit
    if context.invoked_subcommand is None:
        write(context.get_help() + "\n")
        raise typer.Exit


def main() -> None:
    """Run the command line and exit."""
    _mend_streams()
    if not sys.warnoptions:  # libraries warn their callers, not people
        warnings.simplefilter("ignore")
    try:
        failures.stop_on_signals()
        code = app(prog_name="metta-hub", standalone_mode=False)
    except SystemExit:
        raise
    except BaseException as error:  # noqa: BLE001  (the table has an answer to everything)
        code = failures.explain(error)
    failures.let_finish()
    sys.exit(code)


def _mend_streams() -> None:
    """Have two streams that take any text, whoever started us and however."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  (for as long as we run)
        with contextlib.suppress(AttributeError, ValueError):
            getattr(sys, name).reconfigure(errors="replace")
