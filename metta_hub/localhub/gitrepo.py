"""One bare git repository: objects, revisions, commits and references."""

import re
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from dulwich.errors import NotCommitError
from dulwich.objects import Blob, Commit, ObjectID, ShaFile, Tag, Tree
from dulwich.refs import Ref
from dulwich.repo import Repo as DulwichRepo

from metta_hub.localhub.disk import write_atomic
from metta_hub.localhub.errors import (
    EntryNotFoundError,
    ParentMovedError,
    RevisionNotFoundError,
    TakenError,
)
from metta_hub.localhub.names import DEFAULT_BRANCH
from metta_hub.localhub.trees import Entry, TreeEditor, find

HEADS = "refs/heads/"
TAGS = "refs/tags/"
PULLS = "refs/pr/"
MAIN = Ref(f"{HEADS}{DEFAULT_BRANCH}".encode())
MOVED = "The branch was updated since you opened this page. Please refresh and try again."

_FULL_SHA = re.compile(r"[0-9a-f]{40}")
_SHORT_SHA = re.compile(r"[0-9a-f]{5,39}")
_EMPTY_TREE = Tree()


class GitRepo:
    """An open git repository; use it as a context manager.

    Writing objects needs no lock. Moving references does: hold the repo's lock.

    Args:
        folder: the bare repository.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.raw = DulwichRepo(str(folder))
        self.objects = self.raw.object_store
        self.objects.fsync_object_files = True  # for the packs that a push brings

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
        self.raw.close()

    # Objects

    def put(self, item: ShaFile) -> ObjectID:
        """Store an object, synced; storing it twice is fine."""
        sha = item.id
        name = sha.decode()
        path = self.folder / "objects" / name[:2] / name[2:]
        if not path.exists() and sha not in self.objects:
            # Not dulwich's own writer: its lock file would outlive a crash and block this object for good.
            write_atomic(path, item.as_legacy_object(), mode=0o444, through=self.folder / "tmp")
        return sha

    def put_blob(self, data: bytes) -> ObjectID:
        """Store a file's content."""
        return self.put(Blob.from_string(data))

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

    # Commits

    def write_commit(self, tree: ObjectID, parents: Iterable[ObjectID], *, author: str, message: str) -> ObjectID:
        """Store a commit; no reference moves."""
        commit = Commit()
        commit.tree = tree
        commit.parents = list(parents)
        commit.author = commit.committer = person(author)
        commit.author_time = commit.commit_time = int(time.time())
        commit.author_timezone = commit.commit_timezone = 0
        commit.encoding = b"UTF-8"
        commit.message = message.encode("utf-8", "replace")
        return self.put(commit)

    def write_tag(self, name: str, commit: ObjectID, *, author: str, message: str) -> ObjectID:
        """Store an annotated tag; no reference moves."""
        tag = Tag()
        tag.name = name.encode()
        tag.object = (Commit, commit)
        tag.tagger = person(author)
        tag.tag_time = int(time.time())
        tag.tag_timezone = 0
        tag.message = f"{message}\n".encode()
        return self.put(tag)

    def write_tree(self, editor: TreeEditor) -> ObjectID:
        """Store what was edited; the root tree's id."""
        sha, trees = editor.finish()
        for tree in trees:
            self.put(tree)
        return sha

    def write_first_commit(self, files: dict[str, bytes], *, author: str, message: str) -> ObjectID:
        """Give an empty repository its first commit on the default branch."""
        editor = TreeEditor(self.objects, self.put(_EMPTY_TREE))
        for path, content in files.items():
            editor.put(path, self.put_blob(content))
        sha = self.write_commit(self.write_tree(editor), [], author=author, message=message)
        self.create_reference(MAIN, sha)
        return sha


def person(user: str) -> bytes:
    """A user as git names people."""
    return f"{user} <{user}@users.noreply.localhost>".encode()


def remove_stale_locks(folder: Path) -> None:
    """Remove lock files of references that a crashed process left; only with the repo's lock held."""
    for path in (folder / "refs").rglob("*.lock"):
        path.unlink(missing_ok=True)
