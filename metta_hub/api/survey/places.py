"""What a survey asks of the place that it walks, whether that is a disk or an object store."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from metta_hub.containers.zips import Read


@dataclass(frozen=True, slots=True)
class File:
    """A regular file.

    Attributes:
        path: as a user would type it.
        name: its last part.
        size: in bytes.
        key: the same for all names of one file; None of a file that has no other.
    """

    path: str
    name: str
    size: int
    key: int | None = None


class Folder(Protocol):
    """A folder of the place."""

    @property
    def path(self) -> str:
        """As a user would type it."""

    @property
    def is_top(self) -> bool:
        """Whether the survey begins here: what lies above is not looked at."""

    def file(self, name: str, *, below: str = "") -> File | None:
        """A regular file directly in it, or in a folder of it; None when there is none of that name."""

    def files_in(self, name: str) -> Iterator[File]:
        """The regular files directly in a folder of it, or in itself (""); none when that is not there."""

    def entries(self) -> Iterator[tuple[str, bool]]:
        """All that lies in it, at any depth: each path from here on, and whether it is a link that leads out."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Some of the files directly in a folder; `first` once a folder."""

    folder: Folder
    files: list[File]
    first: bool


class Notes(Protocol):
    """Told what is met that is no regular file."""

    def folder(self) -> None:
        """A folder that is walked."""

    def link(self) -> None:
        """A symbolic link, which is not followed."""

    def special(self) -> None:
        """A pipe, a socket or a device, which is not opened."""

    def unreadable_folder(self, path: str, reason: str) -> None:
        """A folder that cannot be listed."""


class Place(Protocol):
    """What is surveyed.

    Attributes:
        jobs: how many files are looked at at once.
    """

    jobs: int

    def batches(self, notes: Notes) -> Iterator[Batch]:
        """All files, folder by folder."""

    def single(self) -> tuple[Folder, File] | None:
        """The file that it is, if it is one, and its folder."""

    def open(self, file: File) -> AbstractContextManager[Read]:
        """Have a file's bytes read.

        Raises:
            OSError: it cannot be opened or read.
        """
