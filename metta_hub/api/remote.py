"""A repo at one commit, and a repo folder, seen alike: which files there are, and how to get at them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from metta_hub import index as index_file
from metta_hub import names
from metta_hub.api import targets
from metta_hub.checkpoint import FileState
from metta_hub.containers import copying
from metta_hub.errors import FormatError, NotFoundError, NotPlainError
from metta_hub.formats import files
from metta_hub.formats import repo as repo_format
from metta_hub.index import Index
from metta_hub.names import Reference

if TYPE_CHECKING:
    from metta_hub.hub import Hub, RemoteFile


class RepoFiles(Protocol):
    """A repo's files, wherever they lie."""

    @property
    def label(self) -> str:
        """What to call it in messages."""

    @property
    def sizes(self) -> Mapping[str, int]:
        """Bytes of every file, by path."""

    @property
    def index(self) -> Index:
        """The index of its checkpoints."""

    def fetch(self, path: str) -> Path:
        """A local file with the content of `path`."""

    def document(self, path: str) -> bytes:
        """The content of a small file."""

    def folder(self, paths: Iterable[str]) -> Path:
        """A local repo folder that holds at least `paths`."""

    def prefix(self, path: str, size: int) -> bytes:
        """The first `size` bytes of a file, without the rest."""


@dataclass(frozen=True)
class RepoFolder:
    """A local repo folder."""

    path: Path

    @property
    def label(self) -> str:
        """The folder's path."""
        return str(self.path)

    @cached_property
    def sizes(self) -> Mapping[str, int]:
        """Bytes of every file, by path; what hides behind a dot (`.git`, `.cache`) is not part of a repo."""
        files = (path for path in self.path.rglob("*") if path.is_file())
        inside = ((path.relative_to(self.path), path.stat().st_size) for path in files)
        return {
            relative.as_posix(): size
            for relative, size in sorted(inside)
            if relative.parts[0] not in {".git", ".cache"}
        }

    @cached_property
    def index(self) -> Index:
        """The index of its checkpoints."""
        return repo_format.read_index(self.path)

    def fetch(self, path: str) -> Path:
        """The file itself.

        Raises:
            NotFoundError: it is not there.
        """
        found = self.path / path
        if not found.is_file():
            raise NotFoundError(path, f"{self.path} has no file {path}.")
        return found

    def document(self, path: str) -> bytes:
        """The content of a small file.

        Raises:
            NotFoundError: it is not there.
            FormatError: it is too large to be what it should be.
        """
        return files.read_document(self.fetch(path))

    def folder(self, paths: Iterable[str]) -> Path:
        """The folder itself."""
        del paths
        return self.path

    def prefix(self, path: str, size: int) -> bytes:
        """The first bytes of a file."""
        with self.fetch(path).open("rb") as file:
            return file.read(size)


@dataclass(frozen=True)
class RepoCommit:
    """A repo on the Hub at one commit: whatever is published meanwhile, every call sees the same files.

    The commit is None for a repo that is still to be made: it has no files.
    """

    hub: "Hub"
    repo_id: str
    commit: str | None

    @classmethod
    def open(
        cls,
        reference: Reference,
        command: str,
        *,
        typed: str = "",
        token: str | None = None,
        cache_dir: Path | None = None,
        local_files_only: bool = False,
    ) -> "RepoCommit":
        """Connect to the Hub and resolve a reference's revision, once.

        Args:
            reference: the repo, and which state of it.
            command: what is being done, for the user agent.
            typed: what the user typed, when it could also have been a local path.
            token: instead of the environment's or the stored one.
            cache_dir: huggingface_hub's cache.
            local_files_only: whether to ask no Hub, and take what the cache holds.

        Raises:
            NotFoundError: no such repo or revision.
        """
        from metta_hub.hub import Hub  # only here: work on local files does without huggingface_hub

        hub = Hub(command, token=token, cache_dir=cache_dir, local_files_only=local_files_only)
        try:
            return cls(hub, reference.repo_id, hub.resolve(reference.repo_id, reference.revision))
        except NotFoundError as error:
            if error.what == reference.repo_id and typed and not typed.startswith(names.SCHEME):
                raise targets.neither(typed, reference, error) from error
            raise

    @property
    def label(self) -> str:
        """`org/name@commit`."""
        return f"{self.repo_id}@{str(self.commit)[:7]}"

    @cached_property
    def tree(self) -> Mapping[str, "RemoteFile"]:
        """Every file as the Hub knows it."""
        return self.hub.tree(self.repo_id, self.commit) if self.commit else {}

    @cached_property
    def sizes(self) -> Mapping[str, int]:
        """Bytes of every file, by path."""
        return {path: file.size for path, file in self.tree.items()}

    @cached_property
    def index(self) -> Index:
        """The index of its checkpoints.

        Raises:
            NotFoundError: the repo was not published with metta-hub.
            FormatError: it is not one that we can believe.
        """
        try:
            return index_file.parse(self._index_document())
        except NotFoundError as error:
            raise NotFoundError(
                self.repo_id,
                f"{self.label} has no {names.INDEX}: it was not published with metta-hub.",
                hint=f"'hf download {self.repo_id}' gets its files as they are",
            ) from error
        except FormatError as error:
            raise self.relabelled(error, names.INDEX) from error

    def _index_document(self) -> bytes:
        """The index: checked against the tree where that is known, believed where it would cost a request."""
        known = "tree" in self.__dict__
        return self.document(names.INDEX) if known else files.read_document(self.fetch(names.INDEX))

    def relabelled(self, error: FormatError, path: str) -> FormatError:
        """An error of a file in the cache, as one of a file of this repo."""
        hint = f"'metta-hub verify {self.repo_id}@{str(self.commit)[:7]}' checks every file"
        if isinstance(error, NotPlainError):
            hint = f"'metta-hub pull {self.repo_id}@{str(self.commit)[:7]} --rebuild' takes the tensors alone"
        return error.known_as(f"{self.label}/{path}", hint=hint)

    def index_if_any(self) -> Index:
        """The index, or an empty one for a repo without."""
        return self.index if names.INDEX in self.tree else Index(None, ())

    def document(self, path: str) -> bytes:
        """The content of a small file.

        Raises:
            NotFoundError: there is none at this commit.
            FormatError: it is too large to be what it should be.
        """
        content = files.read_document(self.fetch(path))
        known = self.tree.get(path)
        written = copying.digest_bytes(content)
        if known is None or known.holds(written.size, written.sha256, content):
            return content
        return files.read_document(self.fetch(path, anew=True))  # the copy in the cache is damaged

    def fetch(self, path: str, *, anew: bool = False) -> Path:
        """Download a file into the cache; `anew` replaces what lies there."""
        return self.hub.fetch(self.repo_id, str(self.commit), path, size=self._size(path), anew=anew)

    def is_verified(self, path: str, sha256: str) -> bool:
        """Whether the cached file was found to have this hash, and nobody wrote to it since."""
        from metta_hub.hub import verified

        return verified.is_noted(self.fetch(path), sha256)

    def note_verified(self, path: str, sha256: str, state: FileState) -> None:
        """Note in the cache that a file had this hash when it was in this state."""
        from metta_hub.hub import verified

        verified.note(self.fetch(path), sha256, state)

    def _size(self, path: str) -> int:
        """Bytes of a file as far as they are known without another request."""
        if path == names.INDEX or "index" not in self.__dict__:
            return 0
        return max((entry.files[path].size for entry in self.index.entries if path in entry.files), default=0)

    def folder(self, paths: Iterable[str]) -> Path:
        """Download files into the cache's snapshot of this commit, which has the layout of the repo."""
        folder: Path | None = None
        for path in paths:
            fetched = self.fetch(path)
            folder = fetched.parents[path.count("/")]
        if folder is None:
            raise NotFoundError(self.repo_id, f"{self.label} has no files.")
        return folder

    def prefix(self, path: str, size: int) -> bytes:
        """The first bytes of a file, by range request."""
        return self.hub.read_range(self.repo_id, str(self.commit), path, 0, size)
