"""Where policies are: a uri → the policies that it names."""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import unquote

from metta_hub import formats, history, metadata, names
from metta_hub import index as index_file
from metta_hub.api import folder, pull, targets
from metta_hub.api.folder import Found
from metta_hub.api.remote import RepoCommit
from metta_hub.api.report import Report
from metta_hub.checkpoint import Origin
from metta_hub.errors import BadValueError, FormatError, NoRecordsError, NotARecordError
from metta_hub.formats import files, pair
from metta_hub.index import Entry
from metta_hub.metadata import JSON, Metadata
from metta_hub.store.choosing import Candidate, newest_first
from metta_hub.store.policy_record import FILE

HUB, PYTORCH, WANDB = names.SCHEME, "pytorch://", "wandb://"
SCHEMES = (FILE, HUB, PYTORCH)


@dataclass(frozen=True, slots=True)
class Access:
    """How to get at a Hub, and whom to tell what is being done."""

    token: str | None
    cache_dir: Path | None
    report: Report


@dataclass(frozen=True, slots=True)
class Place:
    """What a uri names.

    Attributes:
        candidates: the policies, newest first.
        origins: uri → the files of a local one, and how they were when they were read.
    """

    candidates: Sequence[Candidate]
    origins: dict[str, Origin]


def local_path(uri: str) -> Path | None:
    """The path that a uri names; None when it is not on this machine.

    Raises:
        BadValueError: no such scheme (a ValueError).
    """
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return _path(uri)
    if f"{scheme}://" in {FILE, PYTORCH}:
        return _path(rest)
    if f"{scheme}://" == HUB:
        return None
    if f"{scheme}://" == WANDB:
        raise BadValueError("uri", f"{uri} is not loaded from here: W&B is not asked.", hint=_from_wandb(rest))
    hint = f"a policy is a path, or at one of {', '.join(SCHEMES)}"
    raise BadValueError("uri", f"Policies are not loaded from '{scheme}://'.", hint=hint)


def _path(text: str) -> Path:
    """A path as it is written, or as mettagrid writes it, with ':' as %3A."""
    path = Path(text).expanduser()
    plain = Path(unquote(text)).expanduser()
    found = plain if not path.exists() and plain.exists() else path
    return found.parent.resolve() / found.name if found.name else found.resolve()


def _from_wandb(rest: str) -> str:
    named = rest.removeprefix("run/").removeprefix("sweep/")
    artifact = named if ":" in named else f"{named}:latest"
    return (
        f"'wandb artifact get {shlex.quote(artifact)} --root policy' downloads it (with entity and project before the "
        f"name), then {FILE}policy/model.pt"
    )


def look(uri: str, access: Access) -> Place:
    """Find the policies that a uri names, and describe them; none is loaded.

    Raises:
        BadValueError: no such scheme (a ValueError).
        NoRecordsError: there is a place, and no policy in it (a ValueError).
        NotARecordError: a file is none (a ValueError).
        NotFoundError: nothing is there.
        MettaHubError: a file or the Hub cannot be read.
    """
    if not uri:
        raise BadValueError("uri", "An empty text is no uri.", hint=f"a path, or one of {', '.join(SCHEMES)}")
    path = local_path(uri)
    found = _published(uri, access) if path is None else _local(uri, targets.source(path), access.report)
    if not found.candidates:
        raise NoRecordsError(uri, f"No policy records found at {uri}", hint=_instead(path))
    return found


def _instead(path: Path | None) -> str:
    return f"'metta-hub scan {shlex.quote(str(path))}' says what is there" if path else "push a checkpoint to it first"


# --- here ---


def _local(uri: str, path: Path, report: Report) -> Place:
    scheme = PYTORCH if uri.startswith(PYTORCH) else FILE
    if path.is_dir() and not any(format_.sniff(path) for format_ in formats.FORMATS):
        found = list(folder.find(path, report))
    else:
        found = [describe(path)]
    candidates = [_candidate(one, scheme) for one in found]
    origins = {candidate.uri: one.origin for candidate, one in zip(candidates, found, strict=True)}
    return Place(newest_first(candidates), origins)


def describe(path: Path) -> Found:
    """Describe the checkpoint at a path, of whatever format; of a pair the JSON alone is read.

    Raises:
        NotARecordError: it is none (a ValueError).
    """
    with _records_alone():
        if path.suffix == ".pt" and pair.sniff(path):
            return folder.pair_at(path)
        read = formats.read(path)
    entry = index_file.entry_of(read.name, read.metadata, parameters=0, files={}, published_at="")
    return Found(path, entry, read.metadata, read.origin)


@contextmanager
def _records_alone() -> Iterator[None]:
    try:
        yield
    except FormatError as error:
        again = NotARecordError(error.path, error.reason, hint=error.hint)
        again.globals = error.globals
        raise again from error


def _candidate(found: Found, scheme: str) -> Candidate:
    known = found.metadata
    return Candidate(f"{scheme}{found.path}", found.entry, known.values, lambda: known)


# --- on the Hub ---


def _published(uri: str, access: Access) -> Place:
    reference = targets.reference(uri)
    repo = RepoCommit.open(reference, "store", token=access.token, cache_dir=access.cache_dir)
    entries = repo.index.entries
    if reference.selector is not None and entries:
        entries = (_selected(repo, reference.selector, access.report),)
    return Place(newest_first([_of_repo(repo, entry) for entry in entries]), {})


def one_of_repo(uri: str, access: Access) -> Candidate:
    """The one policy that a reference names: with no selector the root of the repo.

    Raises:
        MettaHubError: as `look`.
    """
    reference = targets.reference(uri)
    repo = RepoCommit.open(reference, "store", token=access.token, cache_dir=access.cache_dir)
    return _of_repo(repo, _selected(repo, reference.selector, access.report))


def _selected(repo: RepoCommit, selector: str | None, report: Report) -> Entry:
    choice = history.select(repo.index, selector)
    if selector and selector != choice.entry.name:
        report("note", choice.why)
    return choice.entry


def _of_repo(repo: RepoCommit, entry: Entry) -> Candidate:
    """A published policy, at the commit that was found: later publications don't change what its uri names."""
    values: dict[str, JSON] = {key: getattr(entry, key) for key in _CHOOSING}
    return Candidate(f"{HUB}{repo.repo_id}@{repo.commit}:{entry.name}", entry, values, partial(_metadata, repo, entry))


_CHOOSING = ("run_name", "epoch", "agent_step", "score", "avg_reward", "reward_sem", "evals", "eval_scores")


def _metadata(repo: RepoCommit, entry: Entry) -> Metadata:
    path = names.metadata_file(entry.name)
    file = repo.fetch(path)
    pull.require_listed(repo, entry.files[path], file, path)
    return metadata.parse(files.read_document(file), path)
