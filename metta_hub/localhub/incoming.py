"""Objects on their way into a git repository: beside it until a reference needs them, or gone."""

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

from dulwich.object_store import DiskObjectStore
from dulwich.objects import Commit, ObjectID, ShaFile, Tag, Tree

from metta_hub.localhub.disk import make_folder, sync_folder


class Incoming:
    """Objects that nobody refers to yet. What is refused, or dies half-way, never reaches the repository.

    Args:
        repository: the bare repository that they may come to belong to.
        folder: where they are meanwhile; made here, must be on the repository's file system.

    Attributes:
        objects: reads them, and the repository's own objects as well.
    """

    def __init__(self, repository: Path, folder: Path) -> None:
        self._target = repository / "objects"
        self._folder = folder
        for name in ("info", "pack"):
            (folder / name).mkdir(parents=True)
        (folder / "info" / "alternates").write_bytes(os.fsencode(self._target.resolve()) + b"\n")
        self.objects = DiskObjectStore(str(folder))
        self.objects.fsync_object_files = True  # for the packs that a push brings

    def put(self, item: ShaFile) -> None:
        """Store an object, synced, unless it is here or there already."""
        if item.id in self.objects:
            return
        path = self._path(item.id)
        path.parent.mkdir(exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444), "wb") as file:
            file.write(item.as_legacy_object())
            file.flush()
            os.fsync(file.fileno())

    def put_pack(self, read: Callable[[int], bytes]) -> None:
        """Store what a push sends; raises almost anything when it is damaged."""
        self.objects.add_thin_pack(read, read)

    def accept(self, sha: ObjectID) -> None:
        """Give what `sha` needs of what is here to the repository, and packs whole: a reference may now lead there.

        Raises:
            FileNotFoundError: the repository was deleted or moved meanwhile.
        """
        # A pack counts from the moment that its index is there, so the index comes last.
        packs = [path for suffix in ("pack", "idx") for path in self._folder.glob(f"pack/*.{suffix}")]
        changed = set()
        for path in [*self._needed(sha), *packs]:
            folder = self._target / path.parent.name
            if folder not in changed:
                make_folder(folder, self._target)
                changed.add(folder)
            path.replace(folder / path.name)
        for folder in changed:
            sync_folder(folder)

    def _needed(self, sha: ObjectID) -> set[Path]:
        """The objects here that `sha` leads to; what the repository has already, it has with all that that needs."""
        found: set[Path] = set()
        open_shas = [sha]
        while open_shas:
            path = self._path(open_shas.pop())
            if path in found or not path.exists():
                continue
            found.add(path)
            item = ShaFile.from_path(str(path))
            if isinstance(item, Commit):
                open_shas += [item.tree, *item.parents]
            elif isinstance(item, Tree):
                open_shas += [sha for _, mode, sha in item.items() if stat.S_ISDIR(mode)]
                # Files lead nowhere, and may be large: they need not be read.
                files = (self._path(sha) for _, mode, sha in item.items() if not stat.S_ISDIR(mode))
                found.update(path for path in files if path.exists())
            elif isinstance(item, Tag):
                open_shas.append(item.object[1])
        return found

    def _path(self, sha: ObjectID) -> Path:
        name = sha.decode()
        return self._folder / name[:2] / name[2:]

    def discard(self) -> None:
        """Forget what was not accepted."""
        for store in (*self.objects.alternates, self.objects):
            store.close()
        shutil.rmtree(self._folder)
