"""What a survey found in all, counted as it goes; of the files themselves only a few examples are kept."""

from bisect import insort
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from threading import Lock
from typing import TypeVar

from metta_hub.api.survey.grouping import Candidate
from metta_hub.api.survey.judge import ScannedFile
from metta_hub.api.survey.places import Batch, File, Folder, Notes, Place
from metta_hub.containers.zips import Read
from metta_hub.formats import pair

#: Examples of each reason; most reasons and most kinds that are told apart, the rest is counted together.
EXAMPLES, MOST = 3, 200
#: Most files with several names of which is remembered that they were counted: some 30 MB.
MAX_LINKED = 250_000
_REST = "other reasons"
T = TypeVar("T", str, tuple[str, str])


@dataclass(frozen=True, slots=True)
class OfFormat:
    """Checkpoints of one format and era: how many, of how many files and bytes, and what can be done with how many."""

    format: str
    era: str | None
    checkpoints: int = 0
    files: int = 0
    bytes: int = 0
    publish: int = 0
    describe: int = 0
    run: int = 0


@dataclass(frozen=True, slots=True)
class Reason:
    """Why some cannot be published, or only not be run: how many, and the first of them by name."""

    reason: str
    publish: bool
    checkpoints: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Counted:
    """Files and their bytes."""

    files: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Unreadable:
    """What could not be looked at, and why the first of them, by name, could not."""

    folders: int
    files: int
    examples: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class ReadBytes:
    """What was read for it: bytes, in how many requests."""

    bytes: int
    requests: int


@dataclass(frozen=True, slots=True)
class Totals:
    """What a survey found; the field `totals` of `scan --json`.

    Attributes:
        complete: whether all was looked at.
        folders: folders.
        files: regular files, by their names.
        bytes: theirs; a file with several names is counted once.
        checkpoints: how many were found, or what only looks like one.
        publish: how many of them push takes, as far as was looked.
        describe: how many of them inspect describes.
        run: how many of them from_pretrained builds.
        migrate: how many of them migrate makes pairs of.
        first: the first by name that push takes, a pair if there is one; None when there is none.
        formats: by format and era.
        reasons: why not.
        other: files that belong to none.
        duplicates: further names of files that were counted, and what they would add; of the first 250,000 such files.
        links: symbolic links, which are not followed.
        special: pipes, sockets and devices, which are not opened.
        unreadable: what could not be looked at.
        read: what was read for it.
    """

    complete: bool
    folders: int
    files: int
    bytes: int
    checkpoints: int
    publish: int
    describe: int
    run: int
    migrate: int
    first: str | None
    formats: tuple[OfFormat, ...]
    reasons: tuple[Reason, ...]
    other: Counted
    duplicates: Counted
    links: int
    special: int
    unreadable: Unreadable
    read: ReadBytes


@dataclass(slots=True)
class _Count:
    checkpoints: int = 0
    files: int = 0
    bytes: int = 0
    publish: int = 0
    describe: int = 0
    run: int = 0


@dataclass(slots=True)
class _Reasoned:
    checkpoints: int = 0
    examples: list[str] = field(default_factory=list)


class Tally:
    """Counts what a survey meets."""

    def __init__(self) -> None:
        self.files = self.bytes = 0
        self.complete = False
        self._folders = self._links = self._special = 0
        self._of_checkpoints = Counted()
        self._duplicates = Counted()
        self._linked: set[int] = set()
        self._kinds: dict[tuple[str, str | None], _Count] = {}
        self._reasons: dict[tuple[str, bool], _Reasoned] = {}
        self._unreadable_folders = self._unreadable_files = 0
        self._unreadable: list[tuple[str, str]] = []
        self._first: tuple[bool, str] | None = None
        self._migrate = 0
        self.read = Meter()

    # --- what is met ---

    def folder(self) -> None:
        """A folder that is walked."""
        self._folders += 1

    def link(self) -> None:
        """A symbolic link."""
        self._links += 1

    def special(self) -> None:
        """A pipe, a socket or a device."""
        self._special += 1

    def unreadable_folder(self, path: str, reason: str) -> None:
        """A folder that cannot be listed."""
        self._unreadable_folders += 1
        _keep(self._unreadable, (path, reason))

    def file(self, file: File) -> int:
        """A regular file; how many of its bytes were not counted yet."""
        self.files += 1
        if file.key is None or self._is_new(file.key):
            self.bytes += file.size
            return file.size
        self._duplicates = _plus(self._duplicates, 1, file.size)
        return 0

    def _is_new(self, key: int) -> bool:
        if key in self._linked:
            return False
        if len(self._linked) < MAX_LINKED:
            self._linked.add(key)
        return True

    # --- what it is ---

    def unreadable(self, candidate: Candidate, reason: str) -> None:
        """Files that cannot be read."""
        self._unreadable_files += candidate.files
        self._of_checkpoints = _plus(self._of_checkpoints, candidate.files, candidate.fresh)
        _keep(self._unreadable, (candidate.main.path, reason))

    def found(self, candidate: Candidate, file: ScannedFile) -> None:
        """A checkpoint."""
        self._of_checkpoints = _plus(self._of_checkpoints, candidate.files, candidate.fresh)
        key = (file.format, file.era)
        if key not in self._kinds and len(self._kinds) >= MOST:
            key = ("other formats", None)
        kind = self._kinds.setdefault(key, _Count())
        kind.checkpoints += 1
        kind.files += candidate.files
        kind.bytes += candidate.fresh
        kind.publish += file.publish
        kind.describe += file.describe
        kind.run += file.run
        self._migrate += file.migrate
        if file.publish and file.path.isprintable():
            mine = (file.format != pair.FORMAT, file.path)
            self._first = min(self._first or mine, mine)
        if file.reason is not None:
            self._because(file.reason, file)

    def _because(self, reason: str, file: ScannedFile) -> None:
        key = (reason, file.publish)
        if key not in self._reasons and len(self._reasons) >= MOST:
            key = (_REST, file.publish)
        found = self._reasons.setdefault(key, _Reasoned())
        found.checkpoints += 1
        _keep(found.examples, file.path)

    # --- in all ---

    def totals(self) -> Totals:
        """All of it, as far as the survey has come."""
        kinds = [
            OfFormat(format_, era, one.checkpoints, one.files, one.bytes, one.publish, one.describe, one.run)
            for (format_, era), one in self._kinds.items()
        ]
        reasons = [Reason(*key, one.checkpoints, tuple(one.examples)) for key, one in self._reasons.items()]
        return Totals(
            complete=self.complete,
            folders=self._folders,
            files=self.files,
            bytes=self.bytes,
            checkpoints=sum(kind.checkpoints for kind in kinds),
            publish=sum(kind.publish for kind in kinds),
            describe=sum(kind.describe for kind in kinds),
            run=sum(kind.run for kind in kinds),
            migrate=self._migrate,
            first=None if self._first is None else self._first[1],
            formats=tuple(sorted(kinds, key=lambda kind: (not kind.publish, kind.format, kind.era or ""))),
            reasons=tuple(sorted(reasons, key=lambda one: (one.publish, -one.checkpoints, one.reason))),
            other=Counted(self.files - self._of_checkpoints.files, self.bytes - self._of_checkpoints.bytes),
            duplicates=self._duplicates,
            links=self._links,
            special=self._special,
            unreadable=Unreadable(self._unreadable_folders, self._unreadable_files, tuple(self._unreadable)),
            read=ReadBytes(self.read.bytes, self.read.requests),
        )


class Meter:
    """Counts what is read."""

    def __init__(self) -> None:
        self.bytes = self.requests = 0
        self._lock = Lock()

    def add(self, size: int) -> None:
        """One request, and the bytes that it gave."""
        with self._lock:
            self.bytes += size
            self.requests += 1


class Metered:
    """A place of which is counted what is read."""

    def __init__(self, place: Place, meter: Meter) -> None:
        self.jobs = place.jobs
        self._place = place
        self._meter = meter

    def batches(self, notes: Notes) -> Iterator[Batch]:
        """As the place has them."""
        return self._place.batches(notes)

    def single(self) -> tuple[Folder, File] | None:
        """As the place has it."""
        return self._place.single()

    @contextmanager
    def open(self, file: File) -> Iterator[Read]:
        """The same, counted."""
        with self._place.open(file) as read:
            yield partial(self._counted, read)

    def _counted(self, read: Read, size: int, offset: int) -> bytes:
        content = read(size, offset)
        self._meter.add(len(content))
        return content


def _plus(counted: Counted, files: int, size: int) -> Counted:
    return Counted(counted.files + files, counted.bytes + size)


def _keep(kept: list[T], one: T) -> None:
    """Keep the first few by name, whatever order they come in."""
    insort(kept, one)
    del kept[EXAMPLES:]
