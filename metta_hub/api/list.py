"""list: the checkpoints of a run, best first, from metadata alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from metta_hub import history
from metta_hub.api import folder, targets
from metta_hub.api.remote import RepoCommit, RepoFolder
from metta_hub.api.report import Report, silent
from metta_hub.errors import NotFoundError
from metta_hub.formats import bundle
from metta_hub.formats import repo as repo_format
from metta_hub.index import Entry, Index
from metta_hub.metadata import JSON


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
        return Index(None, (folder.bundle_at(path).entry,))
    place = path if path.is_dir() else path.parent
    entries = tuple(found.entry for found in folder.find(place, report))
    if not entries:
        raise NotFoundError(
            str(place), f"{place} holds no checkpoint.", hint="'metta-hub inspect FILE' looks into one file"
        )
    return Index(None, entries)


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
