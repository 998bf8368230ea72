"""verify: do files, hashes, mirror and metadata agree, tensor by tensor? Everything is read and hashed anew."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from metta_hub import formats, history
from metta_hub.api import checks, targets
from metta_hub.api.checks import Check
from metta_hub.api.pull import fetch
from metta_hub.api.remote import RepoCommit, RepoFiles, RepoFolder
from metta_hub.api.report import Report, count, silent, working
from metta_hub.checkpoint import Checkpoint
from metta_hub.errors import MettaHubError
from metta_hub.formats import repo as repo_format
from metta_hub.formats import scratch
from metta_hub.index import Entry
from metta_hub.names import CARD, CONFIG, INDEX, Reference


@dataclass(frozen=True, slots=True)
class Verified:
    """The verdict; the fields of its `--json` output.

    Attributes:
        ok: whether no check failed.
        checks: every check; `ok` is None where there was nothing to compare.
        tied: groups of names for one tensor.
    """

    ok: bool
    checks: tuple[Check, ...]
    tied: tuple[tuple[str, ...], ...]


def verify(
    target: Path | str,
    other: Path | str | None = None,
    *,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: Path | None = None,
    report: Report = silent,
) -> Verified:
    """Check a checkpoint or a repo against all that is recorded of it, or two checkpoints against each other.

    Args:
        target: a path, or `[hf://]org/name[@revision][:selector]`; with a selector only that checkpoint is read.
        other: a second one; then the two are compared.
        revision: instead of one in the first reference.
        token: instead of the environment's or the stored one.
        cache_dir: huggingface_hub's cache; what lies there is hashed again, never believed.
        report: told what is being done.

    Raises:
        NotFoundError: there is no such thing.
    """
    connect = partial(RepoCommit.open, command="verify", token=token, cache_dir=cache_dir)
    found = targets.parse(str(target), revision=revision, report=report)
    if other is not None:
        second = targets.parse(str(other), report=report)
        one = _read(found, partial(connect, typed=str(target)))
        another = _read(second, partial(connect, typed=str(other)))
        with working(report, "check"):
            return _compare(one, another)
    if isinstance(found, Reference):
        return _verify_repo(connect(found, typed=str(target)), found.selector)
    with working(report, "check"):
        return _verify_repo(RepoFolder(found), None) if repo_format.sniff(found) else _verify_file(found)


def _read(target: Path | Reference, connect: Callable[[Reference], RepoCommit]) -> Checkpoint:
    if isinstance(target, Path):
        return formats.read(target)
    repo = connect(target)
    return fetch(repo, history.select(repo.index, target.selector).entry)


def _compare(one: Checkpoint, other: Checkpoint) -> Verified:
    made = (
        checks.check_weights_equal(one.weights, other.weights),
        checks.check_metadata_equal(one.metadata, other.metadata),
    )
    return _verdict(made, one.weights.tied)


def _verify_file(path: Path) -> Verified:
    made = tuple(checks.check_local(path))
    return _verdict(made, formats.read(path).weights.tied if made[0].ok else ())


def _verdict(made: Sequence[Check], tied: tuple[tuple[str, ...], ...]) -> Verified:
    return Verified(all(check.ok is not False for check in made), tuple(made), tied)


# --- a repo ---------------------------------------------------------------------------------------------------------


def _verify_repo(repo: RepoFiles, selector: str | None) -> Verified:
    try:
        if isinstance(repo, RepoCommit):
            repo.fetch(INDEX, anew=True)  # what lies in the cache decides nothing here
        index = repo.index
    except checks.NO_VERDICT:
        raise
    except MettaHubError as error:
        return _verdict([Check(INDEX, ok=False, detail=" ".join(str(error).split()))], ())
    entries = index.entries if selector is None else (history.select(index, selector).entry,)
    made: list[Check] = []
    if isinstance(repo, RepoCommit):
        wanted = _wanted(repo, entries, everything=selector is None)
        made += [checks.check_transfer(repo, path) for path in wanted if path in repo.tree]
    if all(check.ok for check in made):
        made += _verify_folder(repo, entries, selector)
    return _verdict(made, _tied(repo, entries, index.root) if all(check.ok is not False for check in made) else ())


def _wanted(repo: RepoCommit, entries: Sequence[Entry], *, everything: bool) -> list[str]:
    if everything:
        return sorted(repo.tree)
    return sorted({CONFIG, CARD, INDEX, *(path for entry in entries for path in entry.files)})


def _verify_folder(repo: RepoFiles, entries: Sequence[Entry], selector: str | None) -> Iterator[Check]:
    folder = repo.folder([INDEX])
    yield from checks.check_front(folder, whole=selector is None)
    known: set[str] = set()
    with scratch.folder() as restored:
        for entry in entries:
            known |= entry.files.keys()
            yield from (checks.check_file(folder, path, record) for path, record in sorted(entry.files.items()))
            yield from checks.check_checkpoint(folder, entry, restored / "original.pt")
            if entry.name == repo.index.root:
                yield checks.check_root(folder, entry)
    if selector is None:
        others = sorted(repo.sizes.keys() - known - {CONFIG, CARD, INDEX, checks.ATTRIBUTES})
        if others:
            yield Check(
                "other files",
                None,
                f"{count(len(others), 'file')} not published by metta-hub: {', '.join(others[:5])}",
            )


def _tied(repo: RepoFiles, entries: Sequence[Entry], root: str | None) -> tuple[tuple[str, ...], ...]:
    entry = next((entry for entry in entries if entry.name == root), entries[0])
    folder = repo.folder([*repo_format.needed_to_rebuild(entry), INDEX])
    return repo_format.read(folder, entry.name).weights.tied
