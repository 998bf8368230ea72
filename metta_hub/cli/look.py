"""inspect, verify, list, diff, card."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metta_hub import disk
from metta_hub.cli import options
from metta_hub.cli.help import Command
from metta_hub.cli.output import Output, printable, table, write

if TYPE_CHECKING:
    from metta_hub.api.diff import Diff
    from metta_hub.api.inspect import Inspected
    from metta_hub.api.list import Listed
    from metta_hub.api.verify import Verified

HEADING = "Look"
#: Characters of a metadata value that are shown; --json has them all.
LONGEST = 150
#: Checks of which each is shown; of more, only those that did not pass.
MANY = 40
Target = Annotated[str, typer.Argument(metavar="PATH|REF", help="A local checkpoint, or a published one.")]


def add_to(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command("inspect", cls=Command, rich_help_panel=HEADING)(inspect)
    app.command("verify", cls=Command, rich_help_panel=HEADING)(verify)
    app.command("list", cls=Command, rich_help_panel=HEADING)(list_)
    app.command("ls", cls=Command, hidden=True)(list_)
    app.command("diff", cls=Command, rich_help_panel=HEADING)(diff)
    app.command("card", cls=Command, rich_help_panel=HEADING)(card)


def inspect(
    target: Target,
    revision: options.Revision = None,
    token: options.Token = None,
    cache_dir: options.CacheDir = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Show what is in a checkpoint; no weights are loaded."""
    from metta_hub.api.inspect import inspect as look

    output = Output(as_json, quiet)
    found = look(target, revision=revision, token=token, cache_dir=cache_dir, report=output.report)
    output.result(found, lines=_inspected(found), quiet=[printable(tensor.name) for tensor in found.tensors])


def _inspected(found: "Inspected") -> list[str]:
    from metta_hub.api.report import count, megabytes

    rows = [
        [
            printable(tensor.name),
            tensor.dtype,
            " × ".join(map(str, tensor.shape)) or "scalar",
            f"{tensor.bytes:,}",
        ]
        for tensor in found.tensors
    ]
    sizes = f"{count(len(rows), 'tensor')}, {count(found.parameters, 'parameter')}, {megabytes(found.bytes)}"
    lines = [f"{printable(found.name)}: {found.format} ({found.container}), {sizes}"]
    lines += [f"  {line}" for line in table(rows, right=frozenset({3}))]
    lines += [f"  tied: {', '.join(map(printable, group))}" for group in found.tied]
    lines += _metadata_lines(found.metadata, found.unknown)
    if found.pickle is not None:
        verdict = "plain" if found.pickle.plain else f"not plain: {found.pickle.reason}"
        lines.append(f"pickle: {verdict}; names {', '.join(map(printable, found.pickle.globals)) or 'nothing'}")
    return lines


def _metadata_lines(metadata: Any, unknown: tuple[str, ...]) -> list[str]:  # noqa: ANN401  (JSON)
    from metta_hub.cli.output import as_json

    shown = {key: value for key, value in metadata.items() if value is not None and key not in unknown}
    rows = [[printable(key), printable(as_json(value))] for key, value in shown.items()]
    rows += [[key, "unknown"] for key in unknown]
    lines = [f"  {key}: {value if len(value) <= LONGEST else value[:LONGEST] + '…'}" for key, value in rows]
    return ["metadata:", *lines] if lines else []


def verify(
    target: Target,
    other: Annotated[str | None, typer.Argument(metavar="REF", help="Compare with this one.")] = None,
    revision: options.Revision = None,
    token: options.Token = None,
    cache_dir: options.CacheDir = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Check files, hashes, mirror and metadata; or compare."""
    from metta_hub.api.verify import verify as check

    output = Output(as_json, quiet)
    found = check(target, other, revision=revision, token=token, cache_dir=cache_dir, report=output.report)
    output.result(found, lines=_verified(found), quiet=["ok" if found.ok else "not ok"])
    if not found.ok:
        raise typer.Exit(1)


def _verified(found: "Verified") -> list[str]:
    from metta_hub.api.report import count

    marks = {True: "✓", False: "✗", None: "-"}
    shown = [check for check in found.checks if not check.ok or len(found.checks) <= MANY]
    lines = [f"{marks[check.ok]} {printable(check.name)}: {printable(check.detail)}" for check in shown]
    if len(shown) < len(found.checks):
        lines.append(f"{marks[True]} {count(len(found.checks) - len(shown), 'check')} passed; --json lists them")
    failed = sum(check.ok is False for check in found.checks)
    lines.append("ok" if found.ok else f"NOT OK: {failed} of {len(found.checks)} checks failed")
    return lines


def list_(
    target: Annotated[str, typer.Argument(metavar="DIR|REF", help="A folder of pairs, or a repo.")],
    sort: Annotated[str | None, typer.Option(metavar="METRIC", help="Rank by this, highest first.")] = None,
    revision: options.Revision = None,
    token: options.Token = None,
    cache_dir: options.CacheDir = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """List the checkpoints of a run, best first."""
    from metta_hub.api.list import list_checkpoints

    output = Output(as_json, quiet)
    found = list_checkpoints(
        target, sort=sort, revision=revision, token=token, cache_dir=cache_dir, report=output.report
    )
    output.result(found, lines=_listed(found), quiet=[item.checkpoint for item in found])


def _listed(found: tuple["Listed", ...]) -> list[str]:
    from metta_hub.api.report import megabytes

    def shown(number: float | None) -> str:
        if number is None:
            return "unknown"
        return f"{number:,}" if isinstance(number, int) else f"{number:g}"

    rows = [
        [
            f"{item.checkpoint}{' *' if item.root else ''}",
            shown(item.epoch),
            shown(item.agent_step),
            shown(item.avg_reward),
            megabytes(item.bytes),
        ]
        for item in found
    ]
    head = ["checkpoint", "epoch", "agent steps", "reward", "size"]
    lines = table([head, *rows], right=frozenset({1, 2, 3, 4}))
    return [*lines, "* the root"] if any(item.root for item in found) else lines


def diff(
    first: Annotated[str, typer.Argument(metavar="A", help="A checkpoint, local or published.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Another.")],
    weights: Annotated[bool, typer.Option("--weights", help="Read the weights, too: how far they moved.")] = False,
    token: options.Token = None,
    cache_dir: options.CacheDir = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Show two checkpoints side by side."""
    from metta_hub.api.diff import diff as compare

    output = Output(as_json, quiet)
    found = compare(first, second, weights=weights, token=token, cache_dir=cache_dir, report=output.report)
    changed = [item.name for item in found.tensors.changed]
    names = [*found.metadata, *found.tensors.removed, *found.tensors.added, *changed]
    output.result(found, lines=_diff_lines(found, weights=weights), quiet=[printable(name) for name in names])


def _diff_lines(found: "Diff", *, weights: bool) -> list[str]:
    lines = []
    for pointer, values in found.metadata.items():
        lines.append(f"  {printable(pointer)}: {_short(values.a)} → {_short(values.b)}")
    lines += [f"- {printable(name)}" for name in found.tensors.removed]
    lines += [f"+ {printable(name)}" for name in found.tensors.added]
    for item in found.tensors.changed:
        kinds = item.a if item.a == item.b else f"{item.a} → {item.b}"
        moved = "" if item.moved is None else f", moved by {item.moved:.2%} of its length"
        lines.append(f"  {printable(item.name)}: {kinds}{moved}")
    if lines:
        return lines
    return ["Equal, every value" if weights else "Equal, but for values: --weights reads them"]


def _short(value: Any) -> str:  # noqa: ANN401  (JSON)
    from metta_hub.cli.output import as_json

    text = printable(as_json(value))
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"


def card(
    target: Target,
    template: options.Template = "default",
    license_id: options.License = None,
    output_file: Annotated[Path | None, typer.Option("--output", help="Write it to this file.")] = None,
    revision: options.Revision = None,
    token: options.Token = None,
    cache_dir: options.CacheDir = None,
    quiet: options.Quiet = False,
) -> None:
    """Show the card that a push would publish."""
    from metta_hub.api.card import card as render

    output = Output(as_json=False, quiet=quiet)
    text = render(
        target,
        template=template,
        license=license_id,
        revision=revision,
        token=token,
        cache_dir=cache_dir,
        report=output.report,
    )
    if output_file is None:
        # To a terminal without what it would act on: the card may be a stranger's. Elsewhere as it is.
        write("".join(f"{printable(line)}\n" for line in text.splitlines()) if sys.stdout.isatty() else text)
    else:
        with disk.writing(output_file, len(text.encode()), hint="--output takes a file in a folder that is there"):
            output_file.write_text(text, encoding="utf-8")
