"""New objects for a git repository: files, trees, commits, tags."""

import time
from collections.abc import Iterable
from pathlib import Path

from dulwich.objects import Blob, Commit, ObjectID, ShaFile, Tag
from dulwich.refs import Ref

from metta_hub.localhub.gitrepo import MAIN, GitRepo
from metta_hub.localhub.incoming import Incoming
from metta_hub.localhub.trees import TreeEditor


class GitWriter(GitRepo):
    """An open git repository that can be written to.

    Writing objects needs no lock: they come into the repository when a reference moves, and those that no reference
    came to need are gone when it is closed.

    Args:
        folder: the bare repository.
        incoming: a path that nothing is at, for new objects, on the same file system.

    Attributes:
        incoming: the new objects; `objects` has them too.
    """

    def __init__(self, folder: Path, incoming: Path) -> None:
        super().__init__(folder)
        self.incoming = Incoming(folder, incoming)
        self.objects = self.incoming.objects

    def close(self) -> None:
        """Close all files; forget the objects that nothing refers to."""
        super().close()
        self.incoming.discard()

    def create_reference(self, name: Ref, sha: ObjectID) -> None:
        """Point a new reference at an object, new or not; see `GitRepo`."""
        self.incoming.accept(sha)
        super().create_reference(name, sha)

    def move_reference(self, name: Ref, old: ObjectID, new: ObjectID) -> None:
        """Compare and set; see `GitRepo`."""
        self.incoming.accept(new)
        super().move_reference(name, old, new)

    def put(self, item: ShaFile) -> ObjectID:
        """Store an object; storing it twice is fine."""
        self.incoming.put(item)
        return item.id

    def put_blob(self, data: bytes) -> ObjectID:
        """Store a file's content."""
        return self.put(Blob.from_string(data))

    def write_commit(self, tree: ObjectID, parents: Iterable[ObjectID], *, author: str, message: str) -> ObjectID:
        """Store a commit; no reference moves."""
        commit = Commit()
        commit.tree = tree
        commit.parents = list(parents)
        commit.author = commit.committer = person(author)
        commit.author_time = commit.commit_time = int(time.time())
        commit.author_timezone = commit.commit_timezone = 0
        commit.encoding = b"UTF-8"
        commit.message = encoded(message)
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
        editor = TreeEditor(self.objects)
        for path, content in files.items():
            editor.put(path, self.put_blob(content))
        sha = self.write_commit(self.write_tree(editor), [], author=author, message=message)
        self.create_reference(MAIN, sha)
        return sha


def encoded(message: str) -> bytes:
    """A commit message as git stores it."""
    return message.encode("utf-8", "replace")


def person(user: str) -> bytes:
    """A user as git names people."""
    return f"{user} <{user}@users.noreply.localhost>".encode()
