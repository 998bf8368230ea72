"""migrate: old checkpoints into pairs. find → judge each → write each; the old files stay, unless they are to go."""

import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from pathlib import Path
from threading import Thread

from metta_hub import disk, metadata
from metta_hub.api import migrating, sources, targets
from metta_hub.api.migrating import Failed, Plan, Skipped, Way
from metta_hub.api.report import Report, silent, working
from metta_hub.checkpoint import Checkpoint, FileState
from metta_hub.containers import copying, torch_file
from metta_hub.errors import ConflictError, FileError, MettaHubError, UsageError
from metta_hub.formats import files, pair
from metta_hub.metadata import JSON

_CHANGED = "the file changed while it was being migrated; nothing was written"


@dataclass(frozen=True, slots=True)
class Migrated:
    """A checkpoint that was (or would be) migrated.

    Attributes:
        source: the old file.
        target: the `.pt` of the pair; its `.json` lies beside it.
        format: what the old file was.
        stripped: prefixes of compiled and distributed policies that are not in the pair's names.
        warnings: sentences about what is not in the pair.
    """

    source: Path
    target: Path
    format: str
    stripped: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Migration:
    """What became of a file or a tree; the fields of the `--json` output.

    Attributes:
        migrated: in the order of the tree.
        skipped: what needs no migration, or cannot have one, and why.
        failed: what should have been migrated, and why it was not.
    """

    migrated: tuple[Migrated, ...]
    skipped: tuple[Skipped, ...]
    failed: tuple[Failed, ...]


def migrate(
    path: Path | str,
    *,
    dry_run: bool = False,
    replace: bool = False,
    backup: bool = True,
    output: Path | str | None = None,
    jobs: int = 1,
    report: Report = silent,
) -> Migration:
    """Write old checkpoints anew as pairs; no pickle is run.

    Args:
        path: a file, or a folder that is searched all through.
        dry_run: read and judge everything, write nothing.
        replace: put each pair under the old file's name, once it was read again and found equal.
        backup: keep what is replaced as `NAME.pt.old`.
        output: write the pairs into this folder instead, in the folders that the old files lie in.
        jobs: how many processes work.
        report: told what is being done.

    Raises:
        NotFoundError: there is nothing at `path`.
        UsageError: the options contradict each other.
    """
    source = targets.source(path)
    if output is not None and not str(output).strip():
        raise UsageError("An empty text is no folder for the pairs.", hint="--output . writes them into this one")
    output = None if output is None else Path(output).expanduser()
    if output is not None and output.resolve() == (source if source.is_dir() else source.parent).resolve():
        raise UsageError("--output is the folder of the old files.", hint="leave it out, or name another folder")
    if replace and output is not None:
        raise UsageError("--replace and --output exclude each other.", hint="leave one of the two out")
    if not backup and not replace:
        raise UsageError("Without --replace nothing is replaced, and no backup made.", hint="leave out --no-backup")
    if jobs < 1:
        raise UsageError(f"{jobs} processes cannot work.", hint="--jobs 1, or more")
    way = Way(source, output=output, replace=replace, backup=backup, dry_run=dry_run)
    plans = list(migrating.judge(source, way))
    with _progress(report, plans):
        done = [*(item for item in plans if not isinstance(item, Plan)), *_work(plans, way, jobs)]
    place = {item.source: at for at, item in enumerate(plans)}
    done.sort(key=lambda item: place[item.source])
    return Migration(
        migrated=tuple(item for item in done if isinstance(item, Migrated)),
        skipped=tuple(item for item in done if isinstance(item, Skipped)),
        failed=tuple(item for item in done if isinstance(item, Failed)),
    )


def migrate_checkpoint(old: Path | str, new: Path | str | None = None) -> str:
    """Write one old checkpoint anew as a pair; what is there under the new name is replaced.

    Args:
        old: the file.
        new: the pair's `.pt`; `NAME.new.pt` beside the old file when not given.

    Returns:
        The pair's `.pt`.

    Raises:
        MettaHubError: it cannot be migrated, or is none that needs it.
    """
    source = targets.source(old)
    target = migrating.beside(source) if new is None else Path(new).expanduser()
    found = migrating.kind_of(source)
    if isinstance(found, Skipped):
        raise FileError(source, found.reason, hint="only old checkpoints are migrated")
    pair.tidy(target.parent)
    return str(_write(Plan(source, target, found), force=True).target)


def migrate_all_checkpoints_in_dir(
    checkpoint_dir: Path | str, policy_store: object = None, *, dry_run: bool = True
) -> list[tuple[str, str]]:
    """Write every old checkpoint below a folder anew, as Metta's document promises.

    Args:
        checkpoint_dir: the folder.
        policy_store: not needed: nothing is loaded. Metta's function had it.
        dry_run: only say what would be done.

    Returns:
        Old and new path of each.

    Raises:
        MettaHubError: one could not be migrated; the others were.
    """
    del policy_store
    done = migrate(checkpoint_dir, dry_run=dry_run)
    if done.failed:
        first = done.failed[0]
        sentence = f"{len(done.failed)} of {len(done.migrated) + len(done.failed)} were not migrated: {first.error}"
        raise MettaHubError(sentence, hint=first.hint)
    return [(str(item.source), str(item.target)) for item in done.migrated]


# --- many ---


def _progress(report: Report, plans: Sequence[Plan | Skipped | Failed]) -> AbstractContextManager[None]:
    """Show how many bytes of pairs there are; old files are about as large."""
    wanted = [item for item in plans if isinstance(item, Plan)]
    states = [FileState.if_any(item.source) for item in wanted]
    total = sum(state.size for state in states if state is not None)
    return working(report, "migrate", lambda: [item.target for item in wanted], total)


def _work(plans: Sequence[Plan | Skipped | Failed], way: Way, jobs: int) -> Iterator[Migrated | Failed]:
    wanted = [item for item in plans if isinstance(item, Plan)]
    work = partial(_one, way=way)
    if jobs == 1 or len(wanted) < 2:  # noqa: PLR2004  (nothing to share)
        yield from map(work, wanted)
        return
    with ProcessPoolExecutor(min(jobs, len(wanted)), get_context("spawn"), _belong_to_parent) as pool:
        try:
            yield from pool.map(work, wanted, chunksize=max(1, min(16, len(wanted) // (4 * jobs))))
        except BrokenProcessPool:
            hint = "run the same command again: what is done is not done twice; --jobs 1 shows which file it is"
            raise MettaHubError("A process that migrates was killed, perhaps for lack of memory.", hint=hint) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _belong_to_parent() -> None:
    """Leave it to the parent to stop: signals go to all processes of a terminal. When it is killed, go too."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    parent = parent_process()
    if parent is not None:
        Thread(target=_go_with, args=(parent.sentinel,), daemon=True).start()


def _go_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


def _one(plan: Plan, way: Way) -> Migrated | Failed:
    try:
        if way.dry_run:
            return _as_planned(plan, _read(plan))
        return _replace(plan, way) if way.replace else _write(plan)
    except MettaHubError as error:
        return Failed(plan.source, str(error), error.hint)
    except OSError as error:
        return migrating.refused(plan.source, error)


def _as_planned(plan: Plan, checkpoint: Checkpoint) -> Migrated:
    stripped = checkpoint.metadata.block.get("stripped")
    lost = [
        f"{one.pointer} is not kept as it was: {one.was}."
        for one in checkpoint.metadata.repairs
        if not one.certain or checkpoint.metadata.at(one.pointer) is None
    ]
    return Migrated(
        source=plan.source,
        target=plan.target,
        format=plan.format,
        stripped=tuple(map(str, stripped)) if isinstance(stripped, list) else (),
        warnings=(*checkpoint.origin.warnings, *lost),
    )


# --- one ---


def _write(plan: Plan, *, force: bool = False) -> Migrated:
    (checkpoint, block), target = _look(plan), plan.target
    with disk.writing(target, checkpoint.weights.nbytes), sources.unchanged(checkpoint.origin, _CHANGED):
        target.parent.mkdir(parents=True, exist_ok=True)
        pair.write_one(checkpoint, target, block=block, force=force)
    return _as_planned(plan, checkpoint)


def _look(plan: Plan) -> tuple[Checkpoint, dict[str, JSON]]:
    """Read the old file, and hash it meanwhile; what the pair's block says of it."""
    with ThreadPoolExecutor(1) as pool:
        hashed = pool.submit(migrating.source_of, plan.source)
        checkpoint = _read(plan)
        return checkpoint, metadata.block_for(checkpoint.metadata, {migrating.MADE_OF: hashed.result()})


def _read(plan: Plan) -> Checkpoint:
    checkpoint: Checkpoint = migrating.FORMATS[plan.format].read(plan.source)
    return checkpoint


def _replace(plan: Plan, way: Way) -> Migrated:
    """Write a pair in place of the old file: written, read again, compared, and only then renamed."""
    checkpoint, block = _look(plan)

    def prove(pt: Path, document: Path) -> None:
        sources.require_unchanged(checkpoint.origin, _CHANGED)
        _prove(checkpoint, pt, document)
        if way.backup and plan.target == plan.source:
            _back_up(plan.source)

    with disk.writing(plan.target, checkpoint.weights.nbytes):
        pair.write_one(checkpoint, plan.target, block=block, force=True, before=prove)
    return _as_planned(plan, checkpoint)


def _prove(checkpoint: Checkpoint, pt: Path, document: Path) -> None:
    """Read what was written, and compare it with what it was made from.

    Raises:
        FileError: something differs.
    """
    compared = copying.compare(checkpoint.weights, torch_file.read(pt).weights)
    wrong = next((one for one in compared if not one.equal), None)
    if wrong is not None:
        raise FileError(pt, f"read again, its tensor '{wrong.name}' is not the old file's: {wrong.detail}")
    known = metadata.parse(files.read_document(document), document).values
    expected = dict.fromkeys(metadata.REQUIRED) | dict(checkpoint.metadata.values)
    if {**known, "uri": None} != {**expected, "uri": None}:
        raise FileError(document, "read again, its metadata are not the old file's")


def _back_up(source: Path) -> None:
    """Give the old file a second name; without it the old one would be gone with the rename.

    Raises:
        ConflictError: another file has that name.
    """
    backup = migrating.backup_of(source)
    try:
        backup.hardlink_to(source)
    except FileExistsError:
        if not backup.samefile(source):
            sentence = f"{backup} is there already, and is another file."
            raise ConflictError(str(backup), sentence, hint="move it away, or --no-backup") from None
    files.sync(source.parent)
