"""A commit over HTTP: lines of JSON in, one git commit out, all or nothing."""

import base64
import binascii
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import IO, Any

from dulwich.objects import ObjectID

from metta_hub.localhub.attributes import ATTRIBUTES, LargeFiles, lfs_line
from metta_hub.localhub.calls import parse_json, text_of
from metta_hub.localhub.errors import (
    BadRequestError,
    ParentMovedError,
    TooLargeError,
    UnprocessableError,
)
from metta_hub.localhub.gitrepo import MOVED
from metta_hub.localhub.gitwriter import GitWriter
from metta_hub.localhub.lfs import Pointer, check_oid
from metta_hub.localhub.limits import Limits
from metta_hub.localhub.names import check_path
from metta_hub.localhub.repo import Repo
from metta_hub.localhub.trees import TreeEditor, find

_PARENT = re.compile(r"[0-9a-f]{5,40}")
Change = Callable[[TreeEditor], None]


@dataclass(slots=True)
class Changes:
    """A commit that was read and checked; its files are stored, and nothing points to them yet.

    Attributes:
        message: of the commit.
        parent: the commit that the sender saw as head, possibly shortened; "" for whatever is there.
        edits: to be applied to the head's tree, in order.
        large: paths that became large files.
        objects: the LFS objects that the commit needs.
    """

    message: str = ""
    parent: str = ""
    edits: list[Change] = field(default_factory=list)
    large: list[str] = field(default_factory=list)
    objects: set[str] = field(default_factory=set)

    def check_parent(self, head: ObjectID) -> None:
        """Refuse when the sender saw another head.

        Raises:
            ParentMovedError: they did.
        """
        if self.parent and not head.decode().startswith(self.parent):
            raise ParentMovedError(MOVED)

    def apply(self, git: GitWriter, head: ObjectID) -> ObjectID:
        """The tree that the changes make of the head's.

        Raises:
            RefusalError: one of them cannot be made.
        """
        editor = TreeEditor(git.objects, git.tree(head))
        for edit in self.edits:
            edit(editor)
        tree = git.write_tree(editor)
        return self._track(git, tree) if self.large else tree

    def _track(self, git: GitWriter, tree: ObjectID) -> ObjectID:
        """Have `.gitattributes` name the large files that it doesn't know, as the Hub does for clones."""

        def read(path: str) -> bytes | None:
            entry = find(git.objects, tree, path)
            return None if entry is None or entry.is_folder else git.blob(entry.sha)

        known = LargeFiles(read)
        lines = [lfs_line(path) for path in self.large if find(git.objects, tree, path) and not known.includes(path)]
        if not lines:
            return tree
        present = read(ATTRIBUTES) or b""
        separator = b"" if not present or present.endswith(b"\n") else b"\n"
        editor = TreeEditor(git.objects, tree)
        editor.put(ATTRIBUTES, git.put_blob(present + separator + b"".join(lines)))
        return git.write_tree(editor)


def read_changes(file: IO[bytes], repo: Repo, git: GitWriter, limits: Limits) -> Changes:
    """Read a commit's NDJSON body and store the files in it.

    Raises:
        RefusalError: a line is malformed, too large, or names what isn't there.
    """
    changes = Changes()
    for line in _lines(file, limits):
        value = line.get("value")
        if not isinstance(value, dict):
            raise BadRequestError('Every line needs a "value" object')
        _read_line(str(line.get("key")), value, changes, repo, git, limits)
    if not changes.message:
        raise BadRequestError("The commit has no header with a summary")
    return changes


def _lines(file: IO[bytes], limits: Limits) -> Iterator[dict[str, Any]]:
    count = 0
    while line := file.readline(limits.commit_line + 1):
        if len(line) > limits.commit_line:
            raise TooLargeError(f"A line of the commit has over {limits.commit_line} bytes; send the file as LFS")
        if not line.strip():
            continue
        count += 1
        if count > limits.commit_lines:
            raise TooLargeError(f"The commit has over {limits.commit_lines} lines")
        yield parse_json(line)


def _read_line(key: str, value: dict[str, Any], changes: Changes, repo: Repo, git: GitWriter, limits: Limits) -> None:
    match key:
        case "header":
            _read_header(value, changes)
        case "file":
            changes.edits.append(_regular_file(value, changes, repo, git, limits))
        case "lfsFile":
            changes.edits.append(_large_file(value, changes, repo, git))
        case "deletedFile" | "deletedFolder":
            path = check_path(text_of(value, "path").removesuffix("/"))
            changes.edits.append(lambda editor: editor.remove(path))
        case _:
            raise BadRequestError(f"Unknown key in a commit: {key[:50]!r}")


def _read_header(value: dict[str, Any], changes: Changes) -> None:
    summary = text_of(value, "summary")
    if not summary.strip():
        raise BadRequestError("The commit's summary is empty")
    description = text_of(value, "description", "")
    changes.message = f"{summary}\n\n{description}" if description else summary
    changes.parent = text_of(value, "parentCommit", "").lower()
    if changes.parent and not _PARENT.fullmatch(changes.parent):
        raise BadRequestError('"parentCommit" must be 5 to 40 hex digits')


def _regular_file(value: dict[str, Any], changes: Changes, repo: Repo, git: GitWriter, limits: Limits) -> Change:
    path = check_path(text_of(value, "path"))
    content = text_of(value, "content")
    if text_of(value, "encoding", "utf-8") == "base64":
        try:
            data = base64.b64decode(content, validate=True)
        except (binascii.Error, ValueError):
            raise UnprocessableError(f"The content of {path} is not base64") from None
    else:
        data = content.encode()
    if len(data) > limits.regular_file:
        raise UnprocessableError(f"{path} has over {limits.regular_file} bytes: send it as LFS")
    if pointer := repo.pointer(data):
        changes.objects.add(pointer.oid)
    sha = git.put_blob(data)
    return lambda editor: editor.put(path, sha)


def _large_file(value: dict[str, Any], changes: Changes, repo: Repo, git: GitWriter) -> Change:
    path = check_path(text_of(value, "path"))
    oid = check_oid(value.get("oid"))
    stored = repo.lfs.size(oid)
    if stored is None:
        raise UnprocessableError(f"LFS object {oid} of {path} is not stored in this repo: upload it first")
    size = value.get("size")
    if size is not None and size != stored:
        raise UnprocessableError(f"LFS object {oid} of {path} has {stored} bytes, not {size}")
    changes.large.append(path)
    changes.objects.add(oid)
    sha = git.put_blob(Pointer(oid, stored).render())
    return lambda editor: editor.put(path, sha)
