"""inspect: what is in a checkpoint. Weights are neither loaded nor downloaded, and no code of theirs is run."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from metta_hub import containers, formats, history
from metta_hub.api import targets
from metta_hub.api.describe import at_hand, describe
from metta_hub.api.remote import RepoCommit, RepoFolder
from metta_hub.api.report import Report, silent
from metta_hub.checkpoint import Checkpoint, Findings
from metta_hub.containers import object_file
from metta_hub.containers.plain import judge_globals
from metta_hub.errors import FormatError, MetadataError, NotPlainError
from metta_hub.formats import repo as repo_format
from metta_hub.metadata import JSON


@dataclass(frozen=True, slots=True)
class InspectedTensor:
    """A tensor: name, safetensors dtype, shape, bytes of its values."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int


@dataclass(frozen=True, slots=True)
class InspectedPickle:
    """What a pickle asks for, and whether that is nothing but tensors; `reason` says why not."""

    globals: tuple[str, ...]
    plain: bool
    reason: str


@dataclass(frozen=True)
class Inspected:
    """What is in a checkpoint; the fields of its `--json` output.

    Attributes:
        name: NAME; the file's name when the file cannot be read as a checkpoint.
        format: the on-disk shape.
        container: the bytes under it.
        parameters: elements of all tensors, tied ones counted once.
        bytes: of their values.
        tensors: in the order of the state dict; empty when the file is not plain.
        tied: groups of names for one tensor.
        metadata: clean metadata.
        unknown: which of the required four nobody knows.
        pickle: what the pickle asks for; None when there is none at hand.
    """

    name: str
    format: str
    container: str
    parameters: int
    bytes: int
    tensors: tuple[InspectedTensor, ...]
    tied: tuple[tuple[str, ...], ...]
    metadata: Mapping[str, JSON]
    unknown: tuple[str, ...]
    pickle: InspectedPickle | None


def inspect(
    target: Path | str,
    *,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: Path | None = None,
    report: Report = silent,
) -> Inspected:
    """Look into a local checkpoint or a published one.

    Args:
        target: a path, or `[hf://]org/name[@revision][:selector]`.
        revision: instead of one in the reference.
        token: instead of the environment's or the stored one.
        cache_dir: huggingface_hub's cache.
        report: told what is being done.

    Raises:
        NotFoundError: there is no such thing.
        FormatError: it is damaged, or of no format that we know.
    """
    found = targets.parse(str(target), revision=revision, report=report)
    if isinstance(found, Path):
        return _inspect_path(found)
    repo = RepoCommit.open(found, "inspect", typed=str(target), token=token, cache_dir=cache_dir)
    return _inspected(at_hand(repo, history.select(repo.index, found.selector).entry))


def _inspect_path(path: Path) -> Inspected:
    if repo_format.sniff(path):
        folder = RepoFolder(path)
        return _inspected(describe(folder, history.select(folder.index, None).entry))
    try:
        return _inspected(formats.read(path))
    except NotPlainError as error:
        inside = Path(error.path)  # of a bundle's folder the weights
        return _not_plain(inside if inside.is_file() else path, error.globals, error.reason)
    except (FormatError, MetadataError) as error:
        asked_for = error.globals or _asked_for_first(path)
        if not judge_globals(asked_for):
            raise
        return _not_plain(path, asked_for, error.reason)


def _asked_for_first(path: Path) -> tuple[str, ...]:
    """What a pickle that is too large to be read asks for in its first bytes."""
    beginning = object_file.peek(path) if path.is_file() else None
    return () if beginning is None else beginning.names


def _inspected(checkpoint: Checkpoint) -> Inspected:
    weights, origin = checkpoint.weights, checkpoint.origin
    return Inspected(
        name=checkpoint.name,
        format=origin.format,
        container=origin.container,
        parameters=weights.parameters,
        bytes=weights.nbytes,
        tensors=tuple(InspectedTensor(t.name, t.dtype, t.shape, t.nbytes) for t in weights.tensors),
        tied=weights.tied,
        metadata=checkpoint.metadata.values,
        unknown=checkpoint.metadata.unknown,
        pickle=_pickle(origin.findings),
    )


def _not_plain(path: Path, asked_for: tuple[str, ...], reason: str) -> Inspected:
    """A file that asks for more than tensors, and is no policy that we can take apart: say what it asks for."""
    return Inspected(
        name=path.stem,
        format="not plain",
        container=containers.sniff(path),
        parameters=0,
        bytes=path.stat().st_size,
        tensors=(),
        tied=(),
        metadata={},
        unknown=(),
        pickle=_pickle(Findings(asked_for, plain=False, reason=reason)),
    )


def _pickle(findings: Findings | None) -> InspectedPickle | None:
    return None if findings is None else InspectedPickle(findings.globals, findings.plain, findings.reason)
