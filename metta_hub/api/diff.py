"""diff: two checkpoints side by side, of whatever formats, here or on a Hub."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from metta_hub import formats, history
from metta_hub.api import targets
from metta_hub.api.describe import at_hand
from metta_hub.api.pull import fetch
from metta_hub.api.remote import RepoCommit
from metta_hub.api.report import Report, silent, working
from metta_hub.checkpoint import Checkpoint, TensorInfo
from metta_hub.containers import copying, distance
from metta_hub.metadata import JSON
from metta_hub.strict_json import join

#: Says where a file lies, and differs for that alone.
_PLACE = "uri"


@dataclass(frozen=True, slots=True)
class Values:
    """What stands on each side; None also where nothing does."""

    a: JSON
    b: JSON


@dataclass(frozen=True, slots=True)
class ChangedTensor:
    """A tensor of both sides that is not the same.

    Attributes:
        name: its name.
        a: dtype and shape on the first side, as "F32 [2, 3]".
        b: on the second.
        moved: the length of the difference in lengths of the first; None when that is no number, or was not asked for.
    """

    name: str
    a: str
    b: str
    moved: float | None = None


@dataclass(frozen=True, slots=True)
class TensorDiff:
    """Which tensors differ.

    Attributes:
        added: names on the second side alone.
        removed: names on the first side alone.
        changed: of both sides, with another dtype or shape, or (when weights are read) other values.
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[ChangedTensor, ...]


@dataclass(frozen=True, slots=True)
class Diff:
    """Two checkpoints side by side; the fields of the `--json` output.

    Attributes:
        metadata: what differs, by RFC 6901 pointer.
        tensors: which tensors differ.
    """

    metadata: Mapping[str, Values]
    tensors: TensorDiff


def diff(
    a: Path | str,
    b: Path | str,
    *,
    weights: bool = False,
    token: str | None = None,
    cache_dir: Path | None = None,
    report: Report = silent,
) -> Diff:
    """Compare two checkpoints: metadata, names, dtypes and shapes; on request every value.

    Args:
        a: a path, or `[hf://]org/name[@revision][:selector]`.
        b: another.
        weights: read the weights, too, and say how far they moved.
        token: instead of the environment's or the stored one.
        cache_dir: huggingface_hub's cache.
        report: told what is being done.

    Raises:
        NotFoundError: there is no such thing.
        FormatError: one of them is damaged, or of no format that we know.
    """
    one, other = (_read(str(text), weights=weights, token=token, cache_dir=cache_dir, report=report) for text in (a, b))
    mine, theirs = ({**side.metadata.values, _PLACE: None} for side in (one, other))
    with working(report, "compare"):
        return Diff(metadata=dict(_values(mine, theirs, "")), tensors=_tensors(one, other, weights=weights))


def _read(text: str, *, weights: bool, token: str | None, cache_dir: Path | None, report: Report) -> Checkpoint:
    found = targets.parse(text, report=report)
    if isinstance(found, Path):
        return formats.read(found)
    repo = RepoCommit.open(found, "diff", typed=text, token=token, cache_dir=cache_dir)
    read = partial(fetch if weights else at_hand, repo)
    return read(history.select(repo.index, found.selector).entry)


def _values(mine: JSON, theirs: JSON, at: str) -> Iterator[tuple[str, Values]]:
    """Every difference, as deep as objects go."""
    if isinstance(mine, dict) and isinstance(theirs, dict):
        for key in dict.fromkeys([*mine, *theirs]):
            yield from _values(mine.get(key), theirs.get(key), join(at, key))
    elif mine != theirs or type(mine) is not type(theirs):
        yield at, Values(mine, theirs)


def _tensors(one: Checkpoint, other: Checkpoint, *, weights: bool) -> TensorDiff:
    mine, theirs = one.weights.by_name, other.weights.by_name
    return TensorDiff(
        added=tuple(name for name in theirs if name not in mine),
        removed=tuple(name for name in mine if name not in theirs),
        changed=tuple(_changed(one, other)) + (tuple(_moved(one, other)) if weights else ()),
    )


def _changed(one: Checkpoint, other: Checkpoint) -> Iterator[ChangedTensor]:
    for name, tensor in one.weights.by_name.items():
        twin = other.weights.by_name.get(name)
        if twin is not None and _kind(tensor) != _kind(twin):
            yield ChangedTensor(name, _kind(tensor), _kind(twin))


def _moved(one: Checkpoint, other: Checkpoint) -> Iterator[ChangedTensor]:
    mine, theirs = one.weights.by_name, other.weights.by_name
    for result in copying.compare(one.weights, other.weights):
        tensor, twin = mine.get(result.name), theirs.get(result.name)
        if result.equal or tensor is None or twin is None or _kind(tensor) != _kind(twin):
            continue
        moved = distance.relative(one.weights, tensor, other.weights, twin)
        yield ChangedTensor(result.name, _kind(tensor), _kind(twin), moved)


def _kind(tensor: TensorInfo) -> str:
    return f"{tensor.dtype} {list(tensor.shape)}"
