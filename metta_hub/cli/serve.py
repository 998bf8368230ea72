"""serve."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from metta_hub import disk
from metta_hub.cli import options
from metta_hub.cli.output import Output, talk
from metta_hub.errors import MissingDependencyError

HEADING = "Try things"

_EPILOG = """\b
SPEC is a list of faults, with commas between:
  STATUS=RATE  answer with it, 400 to 599
  cut=RATE     break off, do nothing
  lost=RATE    do it, break off, no answer
  torn=RATE    do it, break off in the answer
  slow=RATE:S  wait S seconds first
  quota=N/S    N requests in S s, with headers
  burst=N      most faults in a row (2; 0: any)
  seed=N       same seed, same faults (0)
RATE is a probability; RATE@PART hits requests
that hold PART: "GET /org/nav/resolve/main/a".

\b
As in: 503=0.1,cut=0.05,quota=100/60,seed=7
"""


def add_to(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command("serve", rich_help_panel=HEADING, epilog=_EPILOG)(serve)


def serve(
    root: Annotated[Path, typer.Option("--root", metavar="DIR", help="Where the repos are kept.")] = Path("hub"),
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.", min=0, max=65535)] = 7860,
    user: Annotated[
        str | None, typer.Option("--user", metavar="NAME", help="Add this user, who owns only NAME/... .")
    ] = None,
    chaos: Annotated[str, typer.Option("--chaos", metavar="SPEC", help="Misbehave as asked, for tests.")] = "",
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Run a Hub of your own on loopback, to try things."""
    try:
        from metta_hub.localhub import Chaos, Server
    except ImportError as error:
        raise MissingDependencyError(str(error.name), "The embedded Hub", install="'metta-hub[serve]'") from error

    folder, faults = root.expanduser().resolve(), Chaos.parse(chaos) if chaos else None
    with disk.writing(folder, 0, hint="--root names another folder"):
        server = Server(folder, port, chaos=faults)
        name, token = server.user, server.token
        if user is not None:
            name, token = user, server.hub.add_user(user)

    def announce() -> None:
        facts = {"endpoint": server.endpoint, "token": token, "user": name, "root": str(server.root)}
        lines = [
            f"A Hub for trying things and for tests, at {server.endpoint} (Ctrl-C stops it)",
            f"  repos: {server.root}  user: {name}" + (f"  chaos: {chaos}" if chaos else ""),
            "Paste this where you want to use it:",
            f"  export HF_ENDPOINT={server.endpoint} HF_TOKEN={token} HF_HUB_DISABLE_XET=1",
        ]
        Output(as_json=json_, quiet=quiet).result(facts, lines=lines, quiet=[server.endpoint])
        sys.stdout.flush()

    server.serve_forever(announce)
    if not quiet:
        talk("Stopped; the repos are kept.")
