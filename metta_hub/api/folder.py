"""The checkpoints directly in a folder, of whatever formats, described from metadata alone where there are any."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from metta_hub import formats, names
from metta_hub import index as index_file
from metta_hub.api.report import Report, silent
from metta_hub.checkpoint import Checkpoint, FileState, Origin
from metta_hub.errors import MettaHubError
from metta_hub.formats import bundle, pair, wrapped
from metta_hub.index import Entry, FileRecord
from metta_hub.metadata import Metadata

#: What files are called that may be a checkpoint by themselves.
_ENDINGS = frozenset({".pt", ".pth", ".safetensors"})


@dataclass(frozen=True, slots=True)
class Found:
    """A checkpoint in a folder.

    Attributes:
        path: what names it to `formats.read`.
        entry: its line in an index.
        metadata: all of its metadata.
        origin: its files, and how they were when they were read.
    """

    path: Path
    entry: Entry
    metadata: Metadata
    origin: Origin


def single(path: Path) -> Path:
    """The only checkpoint in a folder that is none itself; any other path as it is."""
    if not path.is_dir() or any(format_.sniff(path) for format_ in formats.FORMATS):
        return path
    there = [found.path for found in find(path, silent)]
    return there[0] if len(there) == 1 else path


def find(folder: Path, report: Report) -> Iterator[Found]:
    """Describe each checkpoint directly in a folder; what cannot be read is left out, and `report` told.

    Args:
        folder: no repo folder and no bundle.
        report: told what is left out, and why.
    """
    pairs = pair.find(folder)
    places: list[tuple[Path, Callable[[Path], Found]]] = [(pt, pair_at) for pt in pairs]
    places += [(one, bundle_at) for one in bundle.find(folder)]
    places += [(one, _file_at) for one in _others(folder, pairs)]
    for path, describe in places:
        try:
            yield describe(path)
        except MettaHubError as error:
            report("warning", f"{path.name} is left out: {error}")
        except OSError as error:
            report("warning", f"{path.name} is left out: {error.strerror}.")


def pair_at(pt: Path) -> Found:
    """Describe a pair by its JSON alone, given its `.pt`.

    Raises:
        MetadataError: the JSON cannot be what it says it is.
    """
    sources = {file: FileState.of(file) for file in (pt, pt.with_suffix(".json")) if file.exists()}
    known = pair.read_metadata(pt)
    files = {pt.name: FileRecord(pt.stat().st_size, "")}
    name = names.checkpoint_name(pt.stem)
    entry = index_file.entry_of(name, known, parameters=0, files=files, published_at="")
    return Found(pt, entry, known, Origin(pt, pair.FORMAT, "", sources))


def bundle_at(path: Path) -> Found:
    """Describe a bundle.

    Raises:
        MettaHubError: as `bundle.read`.
    """
    found = bundle.read(path)
    states = {source.name: state for source, state in found.origin.sources.items()}
    files = {name: FileRecord(state.size, "") for name, state in states.items() if name != bundle.TRAINER_STATE}
    return _found(path, found, files, parameters=0)


def _file_at(path: Path) -> Found:
    found = formats.read(path)
    files = {path.name: FileRecord(path.stat().st_size, "")}
    return _found(path, found, files, parameters=found.weights.parameters)


def _found(path: Path, read: Checkpoint, files: dict[str, FileRecord], *, parameters: int) -> Found:
    entry = index_file.entry_of(read.name, read.metadata, parameters=parameters, files=files, published_at="")
    return Found(path, entry, read.metadata, read.origin)


def _others(folder: Path, pairs: Sequence[Path]) -> list[Path]:
    """Files that are checkpoints by themselves, by name: of any other format."""
    named = (path for path in sorted(folder.iterdir()) if path.suffix in _ENDINGS and path not in pairs)
    return [path for path in named if path.is_file() and not _is_trainers(path)]


def _is_trainers(path: Path) -> bool:
    """Whether a file belongs to the trainer; of one that cannot be read, reading it will say so."""
    with suppress(OSError, MettaHubError):
        return wrapped.is_trainers(path)
    return False
