"""Options that several commands share, named as in `hf`."""

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON value.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only the most important value.")]
AssumePreset = Annotated[
    bool,
    typer.Option("--assume-preset", help="Take a shipped agent's options where nothing shows the policy's own."),
]
Revision = Annotated[str | None, typer.Option(help="Branch, tag, pull request or commit.")]
Token = Annotated[
    str | None,
    typer.Option(help="A token; prefer 'hf auth login' or HF_TOKEN: this one stays in your shell's history."),
]
CacheDir = Annotated[Path | None, typer.Option(help="huggingface_hub's cache folder.")]
License = Annotated[
    str | None,
    typer.Option("--license", envvar="METTA_HUB_LICENSE", help="The Hub's id of a licence, as 'mit'."),
]
Template = Annotated[
    str, typer.Option("--template", envvar="METTA_HUB_TEMPLATE", help="Name or file of a card template.")
]
