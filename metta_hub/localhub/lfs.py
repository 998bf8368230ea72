"""Large files of one repo: pointers in git, content on disk under its sha256."""

import contextlib
import hashlib
import os
import re
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from metta_hub.localhub.disk import make_folder, put_in_place
from metta_hub.localhub.errors import BadRequestError, TooLargeError, UnprocessableError
from metta_hub.localhub.scratch import Scratch

POINTER_MAX = 1024

_OID = re.compile(r"[0-9a-f]{64}")
#: The id of an upload in parts: of which object, and which of the uploads of that.
_UPLOAD = re.compile(r"[0-9a-f]{64}-[0-9a-f]{16}")
_POINTER = re.compile(rb"version https://git-lfs\.github\.com/spec/v1\noid sha256:([0-9a-f]{64})\nsize (\d{1,19})\n")


@dataclass(frozen=True, slots=True)
class Pointer:
    """What git stores instead of a large file.

    Attributes:
        oid: sha256 of the content, in hex.
        size: its bytes.
    """

    oid: str
    size: int

    @staticmethod
    def parse(blob: bytes) -> "Pointer | None":
        """Read a pointer; None for any other file."""
        found = _POINTER.fullmatch(blob) if len(blob) <= POINTER_MAX else None
        return Pointer(found[1].decode(), int(found[2])) if found else None

    def render(self) -> bytes:
        """The pointer file's bytes."""
        return f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.oid}\nsize {self.size}\n".encode()


def check_oid(oid: object) -> str:
    """Return `oid` if it is a sha256 in hex; it becomes part of a path."""
    if not isinstance(oid, str) or not _OID.fullmatch(oid):
        raise BadRequestError("oid must be 64 lower-case hex digits (sha256)")
    return oid


class LfsStore:
    """The LFS objects of one repo.

    Clients send objects first and the commit that needs them afterwards. So an object waits, known only by its id,
    until a commit with its pointer is published; when none comes in time, it goes.

    Args:
        folder: where they are; made when needed, in a folder that must be there.
        scratch: where they are while they come in.
    """

    def __init__(self, folder: Path, scratch: Scratch) -> None:
        self._folder = folder
        self._waiting = folder / "waiting"
        self._scratch = scratch

    def path(self, oid: str) -> Path:
        """Where the object is, kept or waiting; where it would be kept when it is neither."""
        return next((path for path in self._places(oid) if path.exists()), self._kept(oid))

    def size(self, oid: str) -> int | None:
        """Bytes of an object that is here, kept or waiting; None when it is not."""
        for path in self._places(oid):
            with contextlib.suppress(FileNotFoundError):
                return path.stat().st_size
        return None

    def holds(self, pointer: Pointer | None) -> bool:
        """Whether the object that a pointer names is here, with that size."""
        return pointer is not None and self.size(pointer.oid) == pointer.size

    def total(self) -> int:
        """Bytes of all kept objects."""
        return sum(path.stat().st_size for path in self._folder.glob("??/??/*"))

    def keep(self, oids: Iterable[str]) -> None:
        """Keep objects that a commit needs; only with the repo's lock held, just before the commit is published.

        Raises:
            UnprocessableError: one is not here: it waited too long.
        """
        for oid in oids:
            waiting = self._waiting / check_oid(oid)
            if waiting.exists():
                put_in_place(waiting, self._kept(oid), self._folder.parent)
            elif not self._kept(oid).exists():
                raise UnprocessableError(f"LFS object {oid} is not here any more: upload it again")

    def renew(self, oid: str) -> None:
        """Have an object, if it waits, wait anew: somebody who needs it was told that it is here already."""
        with contextlib.suppress(FileNotFoundError):
            os.utime(self._waiting / check_oid(oid))

    def receive(self, chunks: Iterable[bytes], *, oid: str, size: int) -> None:
        """Take an object in, hashing it on the way.

        Raises:
            BadRequestError: the bytes have another sha256 or number; nothing is stored.
            TooLargeError: more bytes came than announced.
        """
        digest = hashlib.sha256()
        count = 0
        with self._scratch.file() as (file, temporary):
            for chunk in chunks:
                count += len(chunk)
                if count > size:
                    raise TooLargeError(f"More than the announced {size} bytes")
                digest.update(chunk)
                file.write(chunk)
            _check(digest.hexdigest(), count, oid=oid, size=size)
            file.flush()
            os.fsync(file.fileno())
            self._have_wait(temporary, oid)

    # Uploads in parts: one file that every part is written into at its place. It is kept with the repo, so that an
    # upload goes on when the server was started anew, or with another server of the same store.

    def receive_part(self, chunks: Iterable[bytes], *, upload: str, offset: int, size: int) -> str:
        """Write one part of an upload; return its ETag.

        Raises:
            BadRequestError: not `size` bytes came.
        """
        digest = hashlib.sha256()
        count = 0
        make_folder(self._folder, self._folder.parent)
        descriptor = os.open(self._upload_path(upload), os.O_WRONLY | os.O_CREAT, 0o644)
        with os.fdopen(descriptor, "wb") as file:
            file.seek(offset)
            for chunk in chunks:
                count += len(chunk)
                if count > size:
                    raise TooLargeError(f"More than the part's {size} bytes")
                digest.update(chunk)
                file.write(chunk)
            if count != size:
                raise BadRequestError(f"The part has {count} bytes, not {size}")
            file.flush()
            os.fsync(file.fileno())
        return digest.hexdigest()

    def complete_parts(self, etags: list[str], *, upload: str, part_size: int, oid: str, size: int) -> None:
        """Check an upload in parts against its ETags and its sha256, then take the object in.

        Raises:
            BadRequestError: something is missing or differs; the upload is thrown away.
        """
        path = self._upload_path(upload)
        if self.size(oid) == size:  # the completion is asked for again after a lost answer, or another one was faster
            self.remove_uploads(oid)
            return
        if not path.exists():
            raise BadRequestError("No part of this upload has arrived")
        try:
            whole = hashlib.sha256()
            found = []
            with path.open("rb") as file:
                while part := file.read(part_size):
                    whole.update(part)
                    found.append(hashlib.sha256(part).hexdigest())
            if found != etags:
                raise BadRequestError("The parts are not the ones that were uploaded")
            _check(whole.hexdigest(), path.stat().st_size, oid=oid, size=size)
            self._have_wait(path, oid)
        finally:
            path.unlink(missing_ok=True)
        self.remove_uploads(oid)

    def new_upload(self, oid: str) -> str:
        """The id of one more upload of an object in parts."""
        return f"{check_oid(oid)}-{secrets.token_hex(8)}"

    def remove_uploads(self, oid: str) -> None:
        """Remove the parts of an object that is here: what killed uploads left, and what nobody needs now."""
        for path in self._folder.glob(f"upload-{check_oid(oid)}-*"):
            path.unlink(missing_ok=True)

    def remove_expired(self, link_seconds: int) -> None:
        """Remove what came for a commit that never did: parts and objects that nobody went on with.

        Only with the repo's lock held.

        Args:
            link_seconds: how long links are good, and objects wait.
        """
        oldest = time.time() - link_seconds
        for path in (*self._folder.glob("upload-*"), *self._waiting.glob("*")):
            if path.stat().st_mtime < oldest:
                path.unlink(missing_ok=True)

    def _have_wait(self, path: Path, oid: str) -> None:
        """Give a whole, synced file its name among those that wait, unless the object is kept already."""
        if not self._kept(oid).exists():
            put_in_place(path, self._waiting / oid, self._folder.parent)

    def _places(self, oid: str) -> tuple[Path, ...]:
        """Where to look, in this order: an object that is not found waiting may have been kept since the first look."""
        kept = self._kept(oid)
        return kept, self._waiting / oid, kept

    def _kept(self, oid: str) -> Path:
        check_oid(oid)
        return self._folder / oid[:2] / oid[2:4] / oid

    def _upload_path(self, upload: str) -> Path:
        if not _UPLOAD.fullmatch(upload):
            raise BadRequestError("No such upload")
        return self._folder / f"upload-{upload}"


def _check(found: str, count: int, *, oid: str, size: int) -> None:
    if count != size:
        raise BadRequestError(f"{count} bytes arrived, not the announced {size}")
    if found != oid:
        raise BadRequestError(f"The content has sha256 {found}, not {oid}")
