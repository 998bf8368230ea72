"""What migrate makes of a tree: which files are old checkpoints, where their pairs go, and why others stay."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from metta_hub import formats, names
from metta_hub.errors import MettaHubError, NotPlainError
from metta_hub.formats import bundle, pair, record, wrapped

#: The old formats, by what they are called.
FORMATS: Mapping[str, ModuleType] = {record.FORMAT: record, wrapped.FORMAT: wrapped, bundle.MPT: bundle}

#: What names of old checkpoints end in; the last is a backup that an earlier migration left.
ENDINGS = (".pt", ".pth", ".mpt", ".pt.old")
_MPT = ".mpt"
_BACKUP = ".old"


@dataclass(frozen=True, slots=True)
class Way:
    """How to migrate.

    Attributes:
        root: the file or folder that was named.
        output: the folder for the pairs; None puts them beside the old files.
        replace: whether they take the old files' names.
        backup: whether replaced files are kept.
        dry_run: whether nothing is written.
    """

    root: Path
    output: Path | None
    replace: bool
    backup: bool
    dry_run: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """An old checkpoint and the `.pt` of the pair that it becomes.

    Attributes:
        source: the old file.
        target: the `.pt`.
        format: what the old file is.
    """

    source: Path
    target: Path
    format: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that is left as it is, and why."""

    source: Path
    reason: str


@dataclass(frozen=True, slots=True)
class Failed:
    """A file that should have been migrated: what was wrong, and what to do."""

    source: Path
    error: str
    hint: str


def judge(path: Path, way: Way) -> Iterator[Plan | Skipped | Failed]:
    """Say of every file that could be a checkpoint what becomes of it, in the order of the tree.

    Nothing is written, except that what a killed migration left unfinished is finished when it is no dry run.
    """
    taken: dict[str, Path] = {}
    tidied: set[Path] = set()
    for source in _files(path):
        try:
            if not way.dry_run and (folder := _target_folder(source, way)) not in tidied:
                tidied.add(folder)
                pair.tidy(folder)
            found = _judge(source, way)
        except MettaHubError as error:
            found = Failed(source, str(error), error.hint)
        except OSError as error:
            found = Failed(source, f"{source}: {error.strerror}.", "")
        if isinstance(found, Plan):
            earlier = taken.setdefault(str(found.target).lower(), source)
            if earlier != source:
                found = Skipped(source, f"its pair would have the name of that of {earlier.name}")
        yield found


def kind_of(source: Path) -> str | Skipped:
    """Which old format a file has, or why it is none.

    Raises:
        FormatError: it is damaged.
    """
    if record.sniff(source):
        return record.FORMAT
    if wrapped.sniff(source):
        is_trainers = wrapped.is_trainers(source)
        return Skipped(source, "a trainer's state, and not a policy") if is_trainers else wrapped.FORMAT
    if source.suffix == _MPT and bundle.sniff(source):
        return bundle.MPT
    if pair.sniff(source):
        return Skipped(source, "a pair already")
    return Skipped(source, _no_old_format(source))


def _no_old_format(source: Path) -> str:
    """Why a sound file is not migrated.

    Raises:
        FormatError: it is damaged.
    """
    try:
        formats.read(source)
    except NotPlainError as error:
        return f"no policy of Metta's: {error.reason}"
    return "already a state dict"


def beside(source: Path) -> Path:
    """Where a pair goes that leaves the old file alone: `NAME.new.pt`.

    Raises:
        BadNameError: the file's name makes none for a checkpoint.
    """
    return source.with_name(f"{names.checkpoint_name(f'{names.stem(source)}.new')}.pt")


def backup_of(source: Path) -> Path:
    """What a replaced file is called."""
    return source.with_name(f"{source.name}{_BACKUP}")


def _files(path: Path) -> Iterator[Path]:
    """The file itself, or every file of a folder whose name is like a checkpoint's."""
    if not path.is_dir():
        yield path
        return
    for folder, folders, found in os.walk(path):
        folders.sort()
        for name in sorted(found):
            if name.endswith(ENDINGS) and not name.startswith("."):
                yield Path(folder, name)


def _judge(source: Path, way: Way) -> Plan | Skipped | Failed:
    found = kind_of(source)
    if isinstance(found, Skipped):
        return found
    if way.output is None and source.name.endswith(_BACKUP) and source.with_suffix("").exists():
        return Skipped(source, f"the backup of {source.with_suffix('').name}")
    target = _target(source, way)
    if target != source and pair.sniff(target):
        return Skipped(source, f"migrated already: {target.name}")
    in_the_way = _in_the_way(source, target)
    if in_the_way is not None:
        sentence = f"{in_the_way} is there already, and is not the pair of {source.name}."
        return Failed(source, sentence, "move it away, or write elsewhere with --output")
    return Plan(source, target, found)


def _target(source: Path, way: Way) -> Path:
    if way.output is None and not way.replace:
        return beside(source)
    return _target_folder(source, way) / f"{names.checkpoint_name(names.stem(source))}.pt"


def _target_folder(source: Path, way: Way) -> Path:
    if way.output is None:
        return source.parent
    return way.output / source.parent.relative_to(way.root) if way.root.is_dir() else way.output


def _in_the_way(source: Path, target: Path) -> Path | None:
    """What stands where the pair would, and is not the old file itself."""
    there = [path for path in (target, target.with_suffix(".json")) if path.exists() and path != source]
    return next(iter(there), None)
