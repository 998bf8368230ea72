"""pull: a reference → a local pair. fetch → read → write."""

import contextlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from metta_hub import disk, history
from metta_hub.api import targets
from metta_hub.api.remote import RepoCommit
from metta_hub.api.report import Report, silent, working
from metta_hub.checkpoint import Checkpoint, FileState
from metta_hub.containers import copying
from metta_hub.containers.copying import Written
from metta_hub.errors import ChecksumError, FormatError, HubUnreachableError
from metta_hub.formats import pair
from metta_hub.formats import repo as repo_format
from metta_hub.formats.files import leftovers
from metta_hub.index import Entry, FileRecord

DEFAULT_FOLDER = Path("checkpoints")


@dataclass(frozen=True, slots=True)
class PairHashes:
    """sha256 of both files of a pair."""

    pt: str
    json: str


@dataclass(frozen=True, slots=True)
class Pulled:
    """What a pull wrote; the fields of its `--json` output.

    Attributes:
        checkpoint: NAME.
        pt: the weights, absolute.
        json: the metadata, absolute.
        commit: the commit that they come from.
        sha256: of both files.
        identical: whether `pt` is byte for byte the author's file; False when it was made from the tensors:
            there was none, or `rebuild` was asked for.
    """

    checkpoint: str
    pt: Path
    json: Path
    commit: str
    sha256: PairHashes
    identical: bool


def pull(
    reference: str,
    folder: Path | str = DEFAULT_FOLDER,
    *,
    revision: str | None = None,
    force: bool = False,
    rebuild: bool = False,
    token: str | None = None,
    cache_dir: Path | None = None,
    report: Report = silent,
) -> Pulled:
    """Write a published checkpoint as a local pair.

    Args:
        reference: `[hf://]org/name[@revision][:selector]`; without a selector the root.
        folder: where; made when it is not there.
        revision: instead of one in the reference.
        force: replace other files of that name.
        rebuild: write the `.pt` from the tensors, whatever the author's file was like: one that any PyTorch since 1.6
            loads, maps into memory, and has on the CPU.
        token: instead of the environment's or the stored one.
        cache_dir: huggingface_hub's cache.
        report: told what is being done.

    Raises:
        NotFoundError: no such repo, revision or checkpoint.
        ChecksumError: a file is not what the repo's index says.
        NotPlainError: the `.pt` asks for more than tensors.
        ConflictError: other files are there, and `force` was not given.
        FileError: the pair, or what is downloaded for it, cannot be written; nothing is left half-written.
    """
    parsed = targets.reference(reference, revision=revision)
    repo = RepoCommit.open(parsed, "pull", token=token, cache_dir=cache_dir)
    choice = history.select(repo.index, parsed.selector)
    if parsed.selector and parsed.selector != choice.entry.name:
        report("note", choice.why)
    checkpoint = fetch(repo, choice.entry, original=not rebuild, report=report)
    target = Path(folder).expanduser()
    pt, size = target / f"{checkpoint.name}.pt", _size_of(checkpoint)
    with (
        disk.writing(pt, size, hint="name another folder: REF DIR"),
        working(report, "write", partial(leftovers, pt), size),
    ):
        written = pair.write(checkpoint, target, block=checkpoint.metadata.block, force=force)
    return Pulled(
        checkpoint=checkpoint.name,
        pt=written.pt,
        json=written.json,
        commit=str(repo.commit),
        sha256=PairHashes(written.weights.sha256, written.document.sha256),
        identical=written.identical,
    )


def fetch(
    repo: RepoCommit, entry: Entry, *, original: bool = True, again: bool = True, report: Report = silent
) -> Checkpoint:
    """Download what gives a checkpoint back, and read it.

    Args:
        repo: where it is.
        entry: which it is.
        original: with the author's own `.pt`, or what gives that back; else only its tensors.
        again: hash what was hashed before, too, though nobody wrote to it since.
        report: shown how far the work is.

    Raises:
        ChecksumError: a file is not what the repo's index says.
        FormatError: a file is damaged, or asks for more than tensors.
    """
    wanted = repo_format.needed_to_rebuild(entry, original=original)
    folder = repo.folder(wanted)
    for path in wanted:
        if not again and repo.is_verified(path, entry.files[path].sha256):
            continue
        with working(report, "check"):
            require_listed(repo, entry.files[path], folder / path, path)
    try:
        return repo_format.read(folder, entry.name, original=original)
    except FormatError as error:
        raise repo.relabelled(error, _in_repo(Path(error.path), folder)) from error


def require_listed(repo: RepoCommit, record: FileRecord, file: Path, path: str) -> None:
    """Make sure that a downloaded file is the one that the repo lists; a damaged one is downloaded again, in place.

    Raises:
        ChecksumError: it still is not.
    """
    state = FileState.of(file)
    difference = _difference(copying.digest(file), record)
    if difference:  # what lies in the cache may be damaged
        with contextlib.suppress(HubUnreachableError):
            again = repo.fetch(path, anew=True)
            state = FileState.of(again)
            difference = _difference(copying.digest(again), record)
    if difference:
        raise repo.relabelled(ChecksumError(path, path, difference), path)
    repo.note_verified(path, record.sha256, state)


def _in_repo(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name


def _size_of(checkpoint: Checkpoint) -> int:
    """Bytes of the `.pt` that a pull writes: those of the author's, as far as they are known."""
    if checkpoint.origin.pt is not None:
        return checkpoint.origin.pt.stat().st_size
    recorded = checkpoint.metadata.block.get("weights")
    size = recorded.get("size") if isinstance(recorded, dict) and checkpoint.origin.recipe else None
    return size if isinstance(size, int) else checkpoint.weights.nbytes


def _difference(written: Written, record: FileRecord) -> str:
    """How a file differs from its record; "" when it does not."""
    if written.size != record.size:
        return f"it has {written.size:,} bytes, the index says {record.size:,}"
    if written.sha256 != record.sha256:
        return f"its sha256 is {written.sha256[:12]}…, the index says {record.sha256[:12]}…"
    return ""
