"""push."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metta_hub.api import targets
from metta_hub.cli import options
from metta_hub.cli.help import Command
from metta_hub.cli.output import Output
from metta_hub.errors import UsageError

if TYPE_CHECKING:
    from metta_hub.api.push import Pushed

HEADING = "Publish"


def add_to(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command("push", cls=Command, rich_help_panel=HEADING)(push)


def push(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A pair, a plain .pt or a .safetensors file.")],
    repo: Annotated[str, typer.Argument(metavar="REPO", help="org/name; a bare name is yours.")],
    revision: Annotated[str | None, typer.Option(help="Branch to publish to; made if it is not there.")] = None,
    private: Annotated[
        bool | None,
        typer.Option("--private/--no-private", help="Visibility of a new repo; the Hub's default if not given."),
    ] = None,
    create_pr: Annotated[bool, typer.Option("--create-pr", help="Open a pull request instead.")] = False,
    commit_message: Annotated[str | None, typer.Option(help="Title of the commit.")] = None,
    commit_description: Annotated[str, typer.Option(help="Rest of the commit's message.")] = "",
    tag: Annotated[str | None, typer.Option(help="Make a tag at the commit.")] = None,
    license_id: options.License = None,
    template: options.Template = "default",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Fill in metadata; may be repeated."),
    ] = None,
    metadata_file: Annotated[
        Path | None, typer.Option("--metadata", help="A JSON file that fills in metadata.")
    ] = None,
    pt: Annotated[bool, typer.Option("--pt/--no-pt", help="Publish the original .pt beside the mirror.")] = True,
    promote: Annotated[bool, typer.Option("--promote/--no-promote", help="Make it the repo's root.")] = True,
    assume_preset: options.AssumePreset = False,
    probe: Annotated[bool, typer.Option("--probe", help="Publish what the policy puts out here, to compare.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Replace another run's checkpoint of that name.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Do everything but publish.")] = False,
    token: options.Token = None,
    cache_dir: options.CacheDir = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Publish a checkpoint: one safe commit."""
    from metta_hub.api.push import push as publish

    output = Output(as_json, quiet)
    _check_order(path, repo)
    pushed = publish(
        path,
        repo,
        revision=revision,
        private=private,
        create_pr=create_pr,
        commit_message=commit_message,
        commit_description=commit_description,
        token=token,
        cache_dir=cache_dir,
        tag=tag,
        dry_run=dry_run,
        pt=pt,
        promote=promote,
        probe=probe,
        assume_preset=assume_preset,
        replace=replace,
        template=template,
        license=license_id,
        settings=settings or (),
        metadata_file=metadata_file,
        report=output.report,
    )
    output.result(pushed, lines=_lines(pushed, dry_run=dry_run), quiet=[pushed.commit or pushed.repo_id])
    for warning in pushed.warnings:
        output.warn(warning)
    if pushed.license is None:
        output.warn("no licence, so nobody may reuse it.", "--license mit, or METTA_HUB_LICENSE")


def _check_order(path: str, repo: str) -> None:
    """Notice swapped arguments before anything is read or asked.

    Raises:
        UsageError: the second one is the path.
    """
    missing = not Path(path).expanduser().exists()
    second = Path(repo).expanduser().exists() or targets.looks_like_path(repo)
    if path.startswith("hf://") or (missing and repo and second and not targets.looks_like_path(path)):
        sentence = f"The path comes first, then the repo: not {path} {repo}."
        raise UsageError(sentence, hint=f"metta-hub push {shlex.join([repo, path])}")


def _lines(pushed: "Pushed", *, dry_run: bool) -> list[str]:
    from metta_hub.api.report import megabytes

    name, repo = pushed.checkpoint, pushed.repo_id
    if not pushed.changed:
        return [f"✓ Unchanged: {repo} already holds {name} ({str(pushed.commit)[:7]}); nothing sent."]
    if dry_run:
        files = [f"  {file.path}  {file.size:,}" for file in pushed.files]
        return [f"Would publish {name} to {repo} ({_kind(pushed)}): {megabytes(pushed.sent)} to send", *files]
    commit = str(pushed.commit)[:7]
    if "/discussions/" in pushed.url:
        return [f"✓ Proposed {name} to {repo}", f"  url: {pushed.url}  commit: {commit}"]
    root = f"{pushed.root} (just pushed)" if pushed.root == name else pushed.root
    selector = "" if pushed.root == name else f":{name}"
    return [
        f"✓ Published {name} to {repo} ({_kind(pushed)})",
        f"  url: {pushed.url}  commit: {commit}  root: {root}",
        f"  get: metta-hub pull {repo}@{commit}{selector}",
    ]


def _kind(pushed: "Pushed") -> str:
    visibility = {True: "private", False: "public", None: "the Hub's default visibility"}[pushed.private]
    return f"new repo, {visibility}" if pushed.created else visibility
