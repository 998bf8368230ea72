"""list: the checkpoints of a run, best first, from metadata alone."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from metta_hub import formats, history, names
from metta_hub import index as index_file
from metta_hub.api import targets
from metta_hub.api.remote import RepoCommit, RepoFolder
from metta_hub.api.report import Report, silent
from metta_hub.errors import MettaHubError, NotFoundError
from metta_hub.formats import bundle, pair, wrapped
from metta_hub.formats import repo as repo_format
from metta_hub.index import Entry, FileRecord, Index
from metta_hub.metadata import JSON

#: What files are called that may be a checkpoint by themselves.
_ENDINGS = frozenset({".pt", ".pth", ".safetensors"})


@dataclass(frozen=True)
class Listed:
    """One checkpoint; the fields of its `--json` output.

    Attributes:
        checkpoint: NAME.
        epoch: None when unknown, never 0.
        agent_step: environment steps over all agents; None when unknown.
        avg_reward: None when unknown.
        evals: as the metadata have them.
        bytes: of its files, in the repo or on disk.
        root: whether the repo stands for it.
    """

    checkpoint: str
    epoch: int | None
    agent_step: int | None
    avg_reward: float | None
    evals: Mapping[str, JSON]
    bytes: int
    root: bool


def list_checkpoints(
    target: Path | str,
    *,
    sort: str | None = None,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: Path | None = None,
    report: Report = silent,
) -> tuple[Listed, ...]:
    """List the checkpoints of a folder, of whatever formats, a repo folder or a repo, best first.

    Args:
        target: a folder, or `[hf://]org/name[@revision]`.
        sort: a metric to rank by instead, highest first; a path such as `evals.navigation` works.
        revision: instead of one in the reference.
        token: instead of the environment's or the stored one.
        cache_dir: huggingface_hub's cache.
        report: told what decided the order.

    Raises:
        NotFoundError: there is no such folder, repo or metric, or nothing in it.
    """
    found = targets.parse(str(target), revision=revision, report=report)
    if isinstance(found, Path):
        index = _index_of(found, report)
    else:
        targets.refuse_selector(found, "list shows all of them")
        index = RepoCommit.open(found, "list", typed=str(target), token=token, cache_dir=cache_dir).index
    if sort is not None:
        history.select(index, f"best={sort}")  # says which metrics there are when this is none
    return tuple(_listed(entry, index) for entry in history.ranked(index.entries, sort))


def _index_of(path: Path, report: Report) -> Index:
    if repo_format.sniff(path):
        return RepoFolder(path).index
    if bundle.sniff(path):
        return Index(None, (_entry_of_bundle(path),))
    folder = path if path.is_dir() else path.parent
    pairs = pair.find(folder)
    found: list[tuple[Path, Callable[[Path], Entry]]] = [(pt, _entry_of_pair) for pt in pairs]
    found += [(one, _entry_of_bundle) for one in bundle.find(folder)]
    found += [(one, _entry_of_file) for one in _others(folder, pairs)]
    entries = []
    for one, describe in found:
        try:
            entries.append(describe(one))
        except MettaHubError as error:
            report("warning", f"{one.name} is left out: {error}")
        except OSError as error:
            report("warning", f"{one.name} is left out: {error.strerror}.")
    if not entries:
        raise NotFoundError(
            str(folder), f"{folder} holds no checkpoint.", hint="'metta-hub inspect FILE' looks into one file"
        )
    return Index(None, tuple(entries))


def _entry_of_bundle(path: Path) -> Entry:
    found = bundle.read(path)
    states = {source.name: state for source, state in found.origin.sources.items()}
    files = {name: FileRecord(state.size, "") for name, state in states.items() if name != bundle.TRAINER_STATE}
    return index_file.entry_of(found.name, found.metadata, parameters=0, files=files, published_at="")


def _others(folder: Path, pairs: Sequence[Path]) -> list[Path]:
    """Files that are checkpoints by themselves, by name: of any other format."""
    named = (path for path in sorted(folder.iterdir()) if path.suffix in _ENDINGS and path not in pairs)
    return [path for path in named if path.is_file() and not _is_trainers(path)]


def _is_trainers(path: Path) -> bool:
    """Whether a file belongs to the trainer; of one that cannot be read, reading it will say so."""
    with suppress(OSError, MettaHubError):
        return wrapped.is_trainers(path)
    return False


def _entry_of_file(path: Path) -> Entry:
    found = formats.read(path)
    files = {path.name: FileRecord(path.stat().st_size, "")}
    return index_file.entry_of(
        found.name, found.metadata, parameters=found.weights.parameters, files=files, published_at=""
    )


def _entry_of_pair(pt: Path) -> Entry:
    known = pair.read_metadata(pt)
    files = {pt.name: FileRecord(pt.stat().st_size, "")}
    return index_file.entry_of(names.checkpoint_name(pt.stem), known, parameters=0, files=files, published_at="")


def _listed(entry: Entry, index: Index) -> Listed:
    return Listed(
        checkpoint=entry.name,
        epoch=entry.epoch,
        agent_step=entry.agent_step,
        avg_reward=entry.avg_reward,
        evals=entry.evals,
        bytes=sum(file.size for file in entry.files.values()),
        root=entry.name == index.root,
    )
