"""What migrate makes of a tree: which files are old checkpoints, where their pairs go, and why others stay."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from metta_hub import formats, names
from metta_hub.containers import copying
from metta_hub.errors import MettaHubError, NotPlainError
from metta_hub.formats import bundle, pair, record, state_dict, wrapped
from metta_hub.strict_json import JSON

#: The old formats, by what they are called.
FORMATS: Mapping[str, ModuleType] = {record.FORMAT: record, wrapped.FORMAT: wrapped, bundle.MPT: bundle}

#: What names of old checkpoints end in; the last is a backup that an earlier migration left.
ENDINGS = (".pt", ".pth", bundle.MPT, ".pt.old")
#: What is appended to the name of a file that was replaced.
BACKUP = ".old"

#: Where a pair's block says which file it was made of.
MADE_OF = "made_of"


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


def refused(source: Path, error: OSError) -> Failed:
    """What the system did not let us do with a file or folder."""
    is_forbidden = isinstance(error, PermissionError)
    hint = "ask its owner, or copy it to where you may read it" if is_forbidden else ""
    return Failed(source, f"{error.filename or source}: {error.strerror}.", hint)


def judge(path: Path, way: Way) -> Iterator[Plan | Skipped | Failed]:
    """Say of every file that could be a checkpoint what becomes of it, in the order of the tree.

    Nothing is written, except that what a killed migration left unfinished is finished when it is no dry run.
    """
    taken: dict[Path, Path] = {}
    tidied: set[Path] = set()
    for source in _files(path):
        if isinstance(source, Failed):
            yield source
            continue
        try:
            if not way.dry_run and (folder := _target_folder(source, way)) not in tidied:
                tidied.add(folder)
                pair.tidy(folder)
            found = _judge(source, way)
        except MettaHubError as error:
            found = Failed(source, str(error), error.hint)
        except OSError as error:
            found = refused(source, error)
        if isinstance(found, Plan):
            earlier = taken.setdefault(found.target, source)
            if earlier != source:
                sentence = f"The pair of {source} would have the name of that of {earlier.name}."
                found = Failed(source, sentence, "rename one of the two")
        yield found


def looks_old(name: str) -> bool:
    """Whether a file is called as old checkpoints are, and so looked into."""
    return name.lower().endswith(ENDINGS) and not name.startswith(".")


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
    if source.suffix.lower() == bundle.MPT and bundle.sniff(source):
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
        found = formats.read(source)
    except NotPlainError as error:
        return f"no policy of Metta's: {error.reason}"
    is_bare = found.origin.format == state_dict.FORMAT
    return "already a state dict" if is_bare else f"{found.origin.format}: no old format"


def beside(source: Path) -> Path:
    """Where a pair goes that leaves the old file alone: `NAME.new.pt`."""
    return source.with_name(f"{names.stem(source)}.new.pt")


def backup_of(source: Path) -> Path:
    """What a replaced file is called."""
    return source.with_name(f"{source.name}{BACKUP}")


def _files(path: Path) -> Iterator[Path | Failed]:
    """The file itself, or every file of a folder whose name is like a checkpoint's; and folders that cannot be read."""
    if not path.is_dir():
        yield path.resolve() if path.is_symlink() else path
        return
    unlisted: list[OSError] = []
    for folder, folders, found in os.walk(path, onerror=unlisted.append):
        folders.sort()
        yield from (Path(folder, name) for name in sorted(found) if looks_old(name))
    yield from (refused(Path(error.filename), error) for error in unlisted)


def _judge(source: Path, way: Way) -> Plan | Skipped | Failed:
    if source.is_symlink():
        return Skipped(source, "a symbolic link: what it leads to is migrated where it lies")
    found = kind_of(source)
    if isinstance(found, Skipped):
        return found
    if _is_backup(source, way):
        return Skipped(source, f"a backup: of {source.with_suffix('').name}")
    target = _target(source, way)
    if target != source and pair.sniff(target):
        return _migrated_already(source, target)
    return _hindered(source, target, way) or Plan(source, target, found)


def _is_backup(source: Path, way: Way) -> bool:
    """Whether a file is what an earlier migration kept, and what it is of is still there, or is migrated itself."""
    kept_of = source.with_suffix("")
    if not source.name.endswith(BACKUP) or not kept_of.exists():
        return False
    return way.output is None or not isinstance(kind_of(kept_of), Skipped)


def _migrated_already(source: Path, target: Path) -> Skipped | Failed:
    """Whether a pair that stands where a file's own would go was made of that file, as it is now.

    A pair that says nothing of its source, as Metta's own, is taken for it.
    """
    made_of = pair.read_metadata(target).block.get(MADE_OF)
    if made_of is None or made_of == source_of(source):
        return Skipped(source, f"migrated already: {target.name}")
    sentence = f"{target} is the pair of another file than {source.name} is now."
    return Failed(source, sentence, "move it away, or write elsewhere with --output")


def source_of(source: Path) -> dict[str, JSON]:
    """What a pair says of the file that it was made of: its name, its bytes, their sha256."""
    written = copying.digest(source)
    return {"file": source.name, "size": written.size, "sha256": written.sha256}


def _target(source: Path, way: Way) -> Path:
    if way.output is None and not way.replace:
        return beside(source)
    return _target_folder(source, way) / f"{names.stem(source)}.pt"


def _target_folder(source: Path, way: Way) -> Path:
    if way.output is None:
        return source.parent
    return way.output / source.parent.relative_to(way.root) if way.root.is_dir() else way.output


def _hindered(source: Path, target: Path, way: Way) -> Failed | None:
    """What keeps a pair from being written, as far as that shows beforehand."""
    in_the_way = _in_the_way(source, target, way)
    if in_the_way is not None:
        sentence = f"{in_the_way} is there already, and is not the pair of {source.name}."
        if in_the_way == backup_of(source):
            sentence = f"{in_the_way} is there already, and is another file."
        return Failed(source, sentence, "move it away, or write elsewhere with --output")
    if (closed := _closed(target)) is not None:
        return Failed(source, f"{closed} cannot be written to: Permission denied.", "--output DIR writes elsewhere")
    return None


def _in_the_way(source: Path, target: Path, way: Way) -> Path | None:
    """What stands where the pair or the backup would, and is not the old file itself."""
    wanted = [target, target.with_suffix(".json")]
    if way.replace and way.backup and target == source:
        wanted.append(backup_of(source))
    there = [path for path in wanted if (path.exists() or path.is_symlink()) and path != source]
    return next((path for path in there if not path.exists() or not path.samefile(source)), None)


def _closed(target: Path) -> Path | None:
    """The folder that keeps a pair from being written, of those that are there already."""
    folder = next(folder for folder in target.absolute().parents if folder.exists())
    return None if os.access(folder, os.W_OK | os.X_OK) else folder
