"""An object store, through fsspec: of a file only the ranges that are asked for are sent."""

import difflib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from importlib import import_module
from typing import Any

from metta_hub.api.survey.places import Batch, File, Folder, Notes
from metta_hub.containers.zips import Read
from metta_hub.errors import FileError, MissingDependencyError, NotFoundError, UsageError

#: Files that are looked at at once: most of the time of each is waiting for an answer.
JOBS = 16
#: Listings that are held at a time.
_LISTINGS = 8
_CHECK = "check the address, and the credentials in your environment"


class RemoteFolder:
    """What lies under a prefix, up to the next slash."""

    def __init__(self, place: "RemotePlace", path: str, *, is_top: bool) -> None:
        self.path = path
        self.is_top = is_top
        self._place = place

    def file(self, name: str, *, below: str = "") -> File | None:
        """A file directly in it, or in a folder of it."""
        return next((file for file in self.files_in(below) if file.name == name), None) if below else self._own(name)

    def files_in(self, name: str) -> Iterator[File]:
        """The files directly in a folder of it."""
        path = f"{self.path.rstrip('/')}/{name}" if name else self.path
        if not name or path in self._place.folders(self.path):
            yield from self._place.files(path).values()

    def entries(self) -> Iterator[tuple[str, bool]]:
        """All that lies in it, at any depth; a store has no links."""
        waiting = [self.path]
        while waiting:
            path = waiting.pop()
            folders = self._place.folders(path)
            waiting += folders
            for found in (*folders, *(file.path for file in self._place.files(path).values())):
                yield found.removeprefix(f"{self.path.rstrip('/')}/"), False

    def _own(self, name: str) -> File | None:
        return self._place.files(self.path).get(name)


class RemotePlace:
    """A prefix or an object of a store.

    Raises:
        MissingDependencyError: the package for this kind of store is not installed.
        UsageError: there is no such kind.
        NotFoundError: nothing is there.
        FileError: the store does not answer, or refuses.
    """

    jobs = JOBS

    def __init__(self, url: str) -> None:
        self._url = url
        self._fs, self._root = _opened(url)
        self._listing = lru_cache(_LISTINGS)(self._listed)
        try:
            self._info: Mapping[str, Any] = self._fs.info(self._root)
        except FileNotFoundError:
            raise NotFoundError(url, f"There is nothing at {url}.", hint=self._nearest() or _CHECK) from None
        except Exception as error:  # each store has errors of its own
            raise _refused(url, error) from error

    def single(self) -> tuple[Folder, File] | None:
        """The file that it is."""
        if self._info["type"] != "file":
            return None
        parent, _, name = self._url.rpartition("/")
        return RemoteFolder(self, parent, is_top=True), File(self._url, name, int(self._info["size"]))

    def batches(self, notes: Notes) -> Iterator[Batch]:
        """All files; of the tree only what lies beside a path is held."""
        top = self._url.rstrip("/")
        waiting = [iter([top])]
        while waiting:
            path = next(waiting[-1], None)
            if path is None:
                waiting.pop()
                continue
            notes.folder()
            try:
                files, folders = self._listing(path)
            except Exception as error:
                if path == top:
                    raise _refused(path, error) from error
                notes.unreadable_folder(path, _in_words(error))
                continue
            yield Batch(RemoteFolder(self, path, is_top=path == top), list(files.values()), first=True)
            waiting.append(iter(folders))

    def files(self, path: str) -> Mapping[str, File]:
        """The files directly in a folder, by name."""
        return self._listing(path)[0]

    def folders(self, path: str) -> list[str]:
        """The folders directly in a folder."""
        return self._listing(path)[1]

    @contextmanager
    def open(self, file: File) -> Iterator[Read]:
        """Have ranges of a file fetched."""
        path = self._fs._strip_protocol(file.path)  # noqa: SLF001  (fsspec's documented hook)

        def read(size: int, offset: int) -> bytes:
            end = min(offset + size, file.size)
            if end <= offset:
                return b""
            try:
                content: bytes = self._fs.cat_file(path, start=offset, end=end)
            except OSError:
                raise
            except Exception as error:
                raise OSError(0, _in_words(error), file.path) from error
            return content

        yield read

    def _listed(self, path: str) -> tuple[dict[str, File], list[str]]:
        stripped = self._fs._strip_protocol(path).rstrip("/")  # noqa: SLF001
        files: dict[str, File] = {}
        folders: list[str] = []
        for entry in sorted(self._fs.ls(stripped, detail=True), key=lambda entry: str(entry["name"])):
            found = str(entry["name"]).rstrip("/")
            name = found.rpartition("/")[2]
            if found == stripped or not name:  # the object that marks a folder
                continue
            where = f"{path.rstrip('/')}/{name}"
            if entry["type"] == "directory":
                folders.append(where)
            elif entry["type"] == "file":
                files[name] = File(where, name, int(entry["size"] or 0))
        return files, folders

    def _nearest(self) -> str:
        parent, _, name = self._url.rstrip("/").rpartition("/")
        try:
            files, folders = self._listed(parent)
        except Exception:  # noqa: BLE001  (it is a hint only)
            return ""
        there = [*files, *(path.rpartition("/")[2] for path in folders)]
        close = difflib.get_close_matches(name, there, n=1)
        return f"did you mean {parent}/{close[0]}?" if close else ""


def _opened(url: str) -> tuple[Any, str]:
    protocol = url.partition("://")[0]
    try:
        fsspec: Any = import_module("fsspec")
        # What was listed once is not kept: a survey sees everything, and sees it once.
        fs, path = fsspec.url_to_fs(url, use_listings_cache=False)
    except ImportError as error:
        package = error.name or _package_for(protocol)
        install = "'metta-hub[remote]'" if package in {"fsspec", "s3fs"} else package
        raise MissingDependencyError(package, f"Reading {protocol}://", install=install) from error
    except ValueError as error:
        hint = "name a folder, or an address as s3://BUCKET/FOLDER"
        raise UsageError(f"'{url}' is no address that can be surveyed: {error}.", hint=hint) from error
    return fs, str(path)


def _package_for(protocol: str) -> str:
    """The package that knows a kind of store, by fsspec's own list."""
    listed: Any = import_module("fsspec.registry").known_implementations
    return str(listed[protocol]["class"]).partition(".")[0]


def _refused(url: str, error: Exception) -> FileError:
    return FileError(url, f"cannot be listed: {_in_words(error)}", hint=_CHECK)


def _in_words(error: Exception) -> str:
    return " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__
