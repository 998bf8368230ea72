"""What the Hub is asked and answers: plain records, nothing of huggingface_hub's."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Account:
    """Who a token belongs to.

    Attributes:
        name: the user.
        role: what the token may do: "read", "write", "fineGrained", ...; "" when the Hub does not say.
    """

    name: str
    role: str


@dataclass(frozen=True, slots=True)
class RepoInfo:
    """A repo as the Hub describes it.

    Attributes:
        repo_id: as the Hub spells it.
        private: whether only readers see it.
        commit: the head of `main`.
    """

    repo_id: str
    private: bool
    commit: str


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file in a repo at one commit.

    Attributes:
        size: bytes.
        blob: git's sha1 of the blob (of the pointer, when the content is stored apart).
        sha256: of the content, when the Hub stores it apart from git (LFS, xet); None otherwise.
    """

    size: int
    blob: str
    sha256: str | None

    def holds(self, size: int, sha256: str, content: bytes | None) -> bool:
        """Whether this is a file of that size and hash; `content` settles it when the Hub knows only git's sha1."""
        if self.size != size:
            return False
        if self.sha256 is not None:
            return self.sha256 == sha256
        return content is not None and self.blob == git_blob_id(content)


def git_blob_id(content: bytes) -> str:
    """Git's id of a file: sha1 over `blob SIZE` NUL content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


@dataclass(frozen=True, slots=True)
class Upload:
    """A file to send: `path` in the repo, its content as bytes or a local file; size and sha256, known beforehand."""

    path: str
    content: bytes | Path
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Changes:
    """What one commit does: files sent, files copied on the server (source, target), files removed."""

    uploads: Sequence[Upload]
    copies: Sequence[tuple[str, str]]
    deletes: Sequence[str]

    def __bool__(self) -> bool:
        return bool(self.uploads or self.copies or self.deletes)


@dataclass(frozen=True, slots=True)
class Committed:
    """The result of a commit: its id, the page that shows it, and the pull request when one was opened."""

    commit: str
    url: str
    pull_request: str | None
