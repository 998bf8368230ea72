"""One bare git repository: objects, revisions, commits and references."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from dulwich.errors import NotCommitError, NotGitRepository
from dulwich.object_store import BaseObjectStore
from dulwich.objects import Commit, ObjectID, Tag
from dulwich.refs import Ref
from dulwich.repo import Repo as DulwichRepo
from dulwich.walk import Walker

from metta_hub.localhub.errors import (
    EntryNotFoundError,
    ParentMovedError,
    RepoNotFoundError,
    RevisionNotFoundError,
    TakenError,
)
from metta_hub.localhub.names import DEFAULT_BRANCH
from metta_hub.localhub.trees import Entry, find

HEADS = "refs/heads/"
TAGS = "refs/tags/"
PULLS = "refs/pr/"
MAIN = Ref(f"{HEADS}{DEFAULT_BRANCH}".encode())
MOVED = "The branch was updated since you opened this page. Please refresh and try again."

_FULL_SHA = re.compile(r"[0-9a-f]{40}")
_SHORT_SHA = re.compile(r"[0-9a-f]{5,39}")


class GitRepo:
    """An open git repository; use it as a context manager.

    Hold the repo's lock to move references. New objects are for `GitWriter`.

    Args:
        folder: the bare repository.

    Raises:
        RepoNotFoundError: it is not there.

    Attributes:
        raw: dulwich's view of the repository.
        objects: the objects.
    """

    def __init__(self, folder: Path) -> None:
        try:
            self.raw = DulwichRepo(str(folder))
        except NotGitRepository:
            raise RepoNotFoundError("Repository not found") from None
        self.objects: BaseObjectStore = self.raw.object_store

    @staticmethod
    def create(folder: Path) -> None:
        """Make an empty bare repository at `folder`, which must not exist."""
        folder.mkdir(parents=True)
        DulwichRepo.init_bare(str(folder), default_branch=DEFAULT_BRANCH.encode()).close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all files."""
        self.raw.close()

    # Objects

    def blob(self, sha: ObjectID) -> bytes:
        """A file's content."""
        return self.objects.get_raw(sha)[1]

    def read_file(self, commit: ObjectID, path: str) -> bytes | None:
        """The content of the file at `path` in a commit, or None."""
        entry = find(self.objects, self.tree(commit), path)
        return None if entry is None or entry.is_folder else self.blob(entry.sha)

    # Revisions

    def resolve(self, revision: str) -> ObjectID:
        """The commit of a branch, tag, `refs/...`, full or short sha, or `HEAD`, which is the main branch.

        Raises:
            RevisionNotFoundError: there is none, or a short sha has several.
        """
        if revision == "HEAD":
            revision = DEFAULT_BRANCH
        if _FULL_SHA.fullmatch(revision):
            found = self._peel(ObjectID(revision.encode()))
            if found:
                return found
        for name in (revision, HEADS + revision, TAGS + revision):
            sha = self.reference(name) if name.startswith("refs/") else None
            commit = self._peel(sha) if sha else None
            if commit:
                return commit
        if _SHORT_SHA.fullmatch(revision):
            matches = {found for sha in self.objects.iter_prefix(revision.encode()) if (found := self._peel(sha))}
            if len(matches) == 1:
                return matches.pop()
        raise RevisionNotFoundError(f"Invalid rev id: {revision}")

    def _peel(self, sha: ObjectID) -> ObjectID | None:
        """The commit that an object is or a tag stands for; None for a tree, a blob or nothing."""
        try:
            item = self.objects[sha]
            while isinstance(item, Tag):
                sha = item.object[1]
                item = self.objects[sha]
        except KeyError:
            return None
        return sha if isinstance(item, Commit) else None

    def commit(self, sha: ObjectID) -> Commit:
        """A commit by its id."""
        item = self.objects[sha]
        if not isinstance(item, Commit):
            raise NotCommitError(sha)
        return item

    def commits(self, start: Sequence[ObjectID], *, without: Sequence[ObjectID] = ()) -> Iterator[Commit]:
        """The commits that lead to `start`, newest first, but for those that lead to `without`."""
        return (item.commit for item in Walker(self.objects, start, exclude=without))

    def tree(self, commit: ObjectID) -> ObjectID:
        """The root tree of a commit."""
        tree: ObjectID = self.commit(commit).tree
        return tree

    def entry(self, commit: ObjectID, path: str) -> Entry:
        """What is at `path` in a commit.

        Raises:
            EntryNotFoundError: nothing; the answer names the commit, so that clients can remember it.
        """
        found = find(self.objects, self.tree(commit), path)
        if found is None:
            raise EntryNotFoundError(f"Entry not found: {path}", headers={"X-Repo-Commit": commit.decode()})
        return found

    # References

    def reference(self, name: str) -> ObjectID | None:
        """What a full reference name points to, or None."""
        try:
            return self.raw.refs[Ref(name.encode("utf-8", "replace"))]
        except (KeyError, ValueError, OSError):  # not there, not a name, a folder on disk
            return None

    def references(self, prefix: str) -> dict[str, ObjectID]:
        """Names below `prefix` (without it) and the commits they stand for."""
        found: dict[str, ObjectID] = {}
        for name in sorted(self.raw.refs.subkeys(Ref(prefix.encode()))):
            sha = self.reference(prefix + name.decode())
            commit = self._peel(sha) if sha else None
            if commit:
                found[name.decode()] = commit
        return found

    def create_reference(self, name: Ref, sha: ObjectID) -> None:
        """Point a new reference at an object.

        Raises:
            TakenError: it, or one that it would be a folder of, is there.
        """
        try:
            made = self.raw.refs.add_if_new(name, sha)
        except OSError:  # `a` beside `a/b`: one would be file and folder at once
            made = False
        if not made:
            raise TakenError(f"Reference {name.decode()} already exists")

    def move_reference(self, name: Ref, old: ObjectID, new: ObjectID) -> None:
        """Compare and set.

        Raises:
            ParentMovedError: the reference is not at `old`.
        """
        if not self.raw.refs.set_if_equals(name, old, new):
            raise ParentMovedError(MOVED)

    def delete_reference(self, name: Ref) -> None:
        """Remove a reference that is there."""
        self.raw.refs.remove_if_equals(name, None)


def remove_stale_locks(folder: Path) -> None:
    """Remove lock files of references that a crashed process left; only with the repo's lock held."""
    for path in (*folder.glob("*.lock"), *(folder / "refs").rglob("*.lock")):
        path.unlink(missing_ok=True)
