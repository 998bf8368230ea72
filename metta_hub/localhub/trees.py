"""Trees of a git repository: look up, list, edit."""

import stat
from collections.abc import Iterator
from dataclasses import dataclass

from dulwich.object_store import BaseObjectStore
from dulwich.objects import ObjectID, Tree

from metta_hub.localhub.errors import EntryNotFoundError, UnprocessableError

FILE_MODE = 0o100644
FOLDER_MODE = 0o040000


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or folder of one revision.

    Attributes:
        path: from the repo's root, `/` between segments.
        mode: git's file mode.
        sha: id of the git object.
    """

    path: str
    mode: int
    sha: ObjectID

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder; symbolic links are files."""
        return stat.S_ISDIR(self.mode)


def find(objects: BaseObjectStore, tree: ObjectID, path: str) -> Entry | None:
    """The entry at `path`, or None; "" is the root."""
    entry = Entry("", FOLDER_MODE, tree)
    for segment in path.split("/") if path else ():
        if not entry.is_folder:
            return None
        found = _load(objects, entry.sha).get(segment.encode("utf-8", "replace"))
        if found is None:
            return None
        entry = Entry(path, *found)
    return entry


def walk(objects: BaseObjectStore, tree: ObjectID, prefix: str = "", *, recursive: bool) -> Iterator[Entry]:
    """The entries below `tree`, each folder before what it holds.

    Args:
        objects: where the trees are.
        tree: id of the tree.
        prefix: path of `tree`, "" for the root.
        recursive: whether to go into folders.
    """
    for name, (mode, sha) in _load(objects, tree).items():
        path = f"{prefix}/{name.decode()}" if prefix else name.decode()
        entry = Entry(path, mode, sha)
        yield entry
        if recursive and entry.is_folder:
            yield from walk(objects, sha, path, recursive=True)


def _load(objects: BaseObjectStore, sha: ObjectID) -> dict[bytes, tuple[int, ObjectID]]:
    tree = objects[sha]
    if not isinstance(tree, Tree):
        raise EntryNotFoundError(f"{sha.decode()} is not a folder")
    return {item.path: (item.mode, item.sha) for item in tree.items() if item.path and item.mode and item.sha}


class _Folder:
    """A folder being edited; its sub-folders stay (mode, sha) until something in them changes."""

    def __init__(self, items: dict[bytes, "tuple[int, ObjectID] | _Folder"]) -> None:
        self.items = items


class TreeEditor:
    """Changes to one tree, kept in memory until `finish`.

    Args:
        objects: where the trees are read from.
        tree: the tree to start from; None for an empty one.
    """

    def __init__(self, objects: BaseObjectStore, tree: ObjectID | None = None) -> None:
        self._objects = objects
        self._root = self._open(tree) if tree else _Folder({})

    def put(self, path: str, sha: ObjectID, mode: int | None = None) -> None:
        """Make `path` the file with this content; without a mode, an executable stays one.

        Raises:
            UnprocessableError: a folder of that name is there, or a file where a folder would be needed.
        """
        *parents, name = path.encode().split(b"/")
        folder = self._root
        for parent in parents:
            inner = self._enter(folder, parent, create=True)
            if inner is None:
                raise UnprocessableError(f"{parent.decode()} in {path} is a file, not a folder")
            folder = inner
        present = folder.items.get(name)
        if isinstance(present, _Folder) or (present and stat.S_ISDIR(present[0])):
            raise UnprocessableError(f"{path} is a folder")
        if mode is None:
            mode = present[0] if present and stat.S_ISREG(present[0]) else FILE_MODE
        folder.items[name] = (mode, sha)

    def remove(self, path: str) -> None:
        """Remove a file, or a folder with all it holds.

        Raises:
            EntryNotFoundError: nothing is there.
        """
        *parents, name = path.encode().split(b"/")
        folder: _Folder | None = self._root
        for parent in parents:
            folder = self._enter(folder, parent, create=False) if folder else None
        if folder is None or name not in folder.items:
            raise EntryNotFoundError(f"A file with this name doesn't exist: {path}")
        del folder.items[name]

    def finish(self) -> tuple[ObjectID, list[Tree]]:
        """The id of the edited tree, and every tree object that it may need."""
        made: list[Tree] = []
        return self._finish(self._root, made).id, made

    def _finish(self, folder: _Folder, made: list[Tree]) -> Tree:
        tree = Tree()
        for name, item in folder.items.items():
            if not isinstance(item, _Folder):
                tree.add(name, *item)
                continue
            inner = self._finish(item, made)
            if len(inner):  # git has no empty folders
                tree.add(name, FOLDER_MODE, inner.id)
        made.append(tree)
        return tree

    def _open(self, sha: ObjectID) -> _Folder:
        return _Folder(dict(_load(self._objects, sha)))

    def _enter(self, folder: _Folder, name: bytes, *, create: bool) -> _Folder | None:
        item = folder.items.get(name)
        if isinstance(item, _Folder):
            return item
        if item is None and not create:
            return None
        if item is not None and not stat.S_ISDIR(item[0]):
            return None
        inner = _Folder({}) if item is None else self._open(item[1])
        folder.items[name] = inner
        return inner
