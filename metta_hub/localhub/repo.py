"""One repo of the Hub: a folder with settings, a git repository, large files and discussions."""

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypedDict

from dulwich.objects import ObjectID

from metta_hub.localhub.accounts import Caller
from metta_hub.localhub.attributes import ATTRIBUTES, DEFAULT_ATTRIBUTES
from metta_hub.localhub.disk import locked, read_json
from metta_hub.localhub.errors import RepoNotFoundError
from metta_hub.localhub.gitrepo import GitRepo, remove_stale_locks
from metta_hub.localhub.gitwriter import GitWriter
from metta_hub.localhub.lfs import LfsStore, Pointer
from metta_hub.localhub.scratch import Scratch

Gated = Literal["auto", "manual", False]


class Settings(TypedDict):
    """What `repo.json` holds."""

    id: str
    key: str
    private: bool
    gated: Gated
    created: float


class Repo:
    """A repo on disk. Cheap to make; nothing is kept open.

    Args:
        folder: where it is.
        scratch: where unfinished things are.

    Raises:
        RepoNotFoundError: there is none.
    """

    def __init__(self, folder: Path, scratch: Scratch) -> None:
        self.folder = folder
        self.scratch = scratch
        try:
            self.settings: Settings = read_json(folder / "repo.json")
        except (FileNotFoundError, NotADirectoryError):
            raise RepoNotFoundError("Repository not found") from None
        self.lfs = LfsStore(folder / "lfs", scratch)

    @staticmethod
    def create(folder: Path, scratch: Scratch, repo_id: str, *, private: bool, author: str) -> None:
        """Make a repo with its first commit at `folder`, which must not exist."""
        GitRepo.create(folder / "git")
        with GitWriter(folder / "git", scratch.name()) as git:
            git.write_first_commit({ATTRIBUTES: DEFAULT_ATTRIBUTES}, author=author, message="initial commit")
        settings: Settings = {
            "id": repo_id,
            "key": secrets.token_hex(12),
            "private": private,
            "gated": False,
            "created": time.time(),
        }
        scratch.write_json(folder / "repo.json", settings)

    @property
    def id(self) -> str:
        """`namespace/name`, in the letters of its creator."""
        written = self.settings["id"]
        place = f"{self.folder.parent.name}/{self.folder.name}"
        # A move that broke off between its two steps: the folder's name is what the repo is found under.
        return written if written.lower() == place else place

    @property
    def namespace(self) -> str:
        """The user or organisation."""
        return self.id.partition("/")[0]

    @property
    def key(self) -> str:
        """What tells this repo from another that had its name before."""
        return self.settings["key"]

    def can_read(self, caller: Caller | None) -> bool:
        """Whether `caller` may see that this repo exists."""
        return not self.settings["private"] or (caller is not None and caller.owns(self.namespace))

    def can_fetch(self, caller: Caller | None) -> bool:
        """Whether `caller` may read its files; differs from `can_read` for a gated repo."""
        return self.can_read(caller) and (
            not self.settings["gated"] or (caller is not None and caller.owns(self.namespace))
        )

    def update_settings(self, *, private: bool | None = None, gated: Gated | None = None) -> None:
        """Change the visibility or the gate; None leaves it."""
        with self.lock():
            settings: Settings = read_json(self.folder / "repo.json")
            if private is not None:
                settings["private"] = private
            if gated is not None:
                settings["gated"] = gated
            self.scratch.write_json(self.folder / "repo.json", settings)
        self.settings = settings

    def rename(self, repo_id: str) -> None:
        """Write down the id that the repo's folder was just moved to."""
        with self.lock():
            settings: Settings = read_json(self.folder / "repo.json")
            settings["id"] = repo_id
            self.scratch.write_json(self.folder / "repo.json", settings)
        self.settings = settings

    def git(self) -> GitRepo:
        """Open the git repository; use it as a context manager."""
        return GitRepo(self.folder / "git")

    def git_to_write(self) -> GitWriter:
        """Open the git repository, also for new objects; use it as a context manager."""
        return GitWriter(self.folder / "git", self.scratch.name())

    @contextmanager
    def lock(self, *, wait: bool = True) -> Iterator[None]:
        """Keep every other writer of this repo out, in this process and in others.

        Raises:
            RepoNotFoundError: the repo was deleted or moved while we waited; another may have its name now.
            BlockingIOError: somebody holds the lock, and we are not to wait.
        """
        try:
            with locked(self.folder / "lock", wait=wait):
                if read_json(self.folder / "repo.json")["key"] != self.key:
                    raise RepoNotFoundError("Repository not found")
                remove_stale_locks(self.folder / "git")
                yield
        except FileNotFoundError as error:
            if (self.folder / "repo.json").exists():
                raise
            raise RepoNotFoundError("Repository not found") from error

    def pointer(self, blob: bytes) -> Pointer | None:
        """The pointer in a file, if it is one and its large file is here."""
        pointer = Pointer.parse(blob)
        return pointer if self.lfs.holds(pointer) else None

    def file_id(self, sha: ObjectID, blob: bytes) -> str:
        """How clients know a file: sha256 of a large one, git's id of any other."""
        pointer = self.pointer(blob)
        return pointer.oid if pointer else sha.decode()
