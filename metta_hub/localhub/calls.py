"""One request, as the handlers see it: who asks for what, and the body as it comes in."""

import base64
import binascii
import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any
from urllib.parse import parse_qsl, quote, urlencode

from anyio import from_thread
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from metta_hub.localhub.accounts import Caller
from metta_hub.localhub.errors import (
    BadRequestError,
    GatedRepoError,
    NotAllowedError,
    NotLoggedInError,
    RefusalError,
    RepoNotFoundError,
    TooLargeError,
)
from metta_hub.localhub.repo import Repo
from metta_hub.localhub.store import LocalHub

BASIC = {"WWW-Authenticate": 'Basic realm="metta_hub", charset="UTF-8"'}
_NUMBER = re.compile(r"[0-9]{1,9}")
_IN_MEMORY = 8 * 1024 * 1024


@dataclass(slots=True)
class Call:
    """A request on its way through a handler. Handlers run in worker threads and may block.

    Attributes:
        hub: the store.
        endpoint: this Hub's own address, without a slash at the end.
        request: the HTTP request.
        params: the decoded parts of the path.
        caller: who asks; None for the anonymous.
    """

    hub: LocalHub
    endpoint: str
    request: Request
    params: dict[str, str]
    caller: Caller | None

    # Who may do what

    def user(self) -> Caller:
        """The caller.

        Raises:
            NotLoggedInError: there is none.
        """
        if self.caller is None:
            raise NotLoggedInError("Invalid username or password: log in to do this", headers=BASIC)
        return self.caller

    def writer(self) -> Caller:
        """The caller, if their token may change anything at all.

        Raises:
            NotLoggedInError: anonymous.
            NotAllowedError: the token is for reading.
        """
        user = self.user()
        if user.role != "write":
            raise NotAllowedError("Forbidden: this token can only read; use one with the write role")
        return user

    def repo(self) -> Repo:
        """The repo in the path, if the caller may know of it.

        Raises:
            RepoNotFoundError: there is none, or it is private to others.
        """
        name = self.params["name"].removesuffix(".git")
        try:
            repo = self.hub.repo(self.params["ns"], name)
            visible = repo.can_read(self.caller)
        except RepoNotFoundError:
            visible = False
        if not visible:
            # git and git-lfs only ask for a password when told to; the official client goes by the code.
            anonymous = self.caller is None
            raise RepoNotFoundError(
                "Repository not found",
                status=401 if anonymous else 404,
                headers=BASIC if anonymous else None,
            )
        return repo

    def repo_for_files(self) -> Repo:
        """The repo in the path, if the caller may read its files.

        Raises:
            GatedRepoError: it is gated, and the caller has not been let in.
        """
        repo = self.repo()
        if not repo.can_fetch(self.caller):
            anonymous = self.caller is None
            raise GatedRepoError(
                f"Access to model {repo.id} is restricted and you are not in the authorized list",
                status=401 if anonymous else 403,
                headers=BASIC if anonymous else None,
            )
        return repo

    def repo_to_write(self) -> Repo:
        """The repo in the path, if the caller may change it.

        Raises:
            NotAllowedError: they may only read it.
        """
        repo = self.repo()
        if not self.writer().owns(repo.namespace):
            raise NotAllowedError(f"Forbidden: you don't have write access to {repo.id}")
        return repo

    # The query

    def query(self, name: str, default: str = "") -> str:
        """The last value of a query parameter."""
        values = self.queries(name)
        return values[-1] if values else default

    def queries(self, name: str) -> list[str]:
        """All values of a repeated query parameter; `name[]` is the same."""
        wanted = (name, f"{name}[]")
        return [value for key, value in self.request.query_params.multi_items() if key in wanted]

    def flag(self, name: str) -> bool:
        """Whether a query parameter says yes."""
        return self.query(name).lower() in ("1", "true", "yes")

    def number(self, name: str, default: int) -> int:
        """A query parameter that is a number, not negative."""
        text = self.query(name)
        if not text:
            return default
        if not _NUMBER.fullmatch(text):
            raise BadRequestError(f"{name} must be a number")
        return int(text)

    def next_page(self, path: str, **changed: object) -> dict[str, str]:
        """The `Link` header that leads to the next page: `path` with this query, changed."""
        keys = set(changed)
        query = [(key, value) for key, value in self.request.query_params.multi_items() if key not in keys]
        query += [(key, str(value)) for key, value in changed.items()]
        return {"Link": f'<{self.endpoint}{path}?{urlencode(query)}>; rel="next"'}

    # The body

    def chunks(self, limit: int) -> Iterator[bytes]:
        """The body, as it arrives.

        Raises:
            TooLargeError: it has more than `limit` bytes.
        """
        announced = self.request.headers.get("content-length", "0")
        if announced.isdigit() and int(announced) > limit:
            raise TooLargeError(f"The request body may have {limit} bytes, not {announced}")
        count = 0
        more = True
        while more:
            message = from_thread.run(self._receive)
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            chunk: bytes = message.get("body", b"")
            more = message.get("more_body", False)
            count += len(chunk)
            if count > limit:
                raise TooLargeError(f"The request body may have {limit} bytes")
            if chunk:
                yield chunk

    async def _receive(self) -> Message:
        return await self.request.receive()

    def body(self) -> bytes:
        """A small body, whole."""
        return b"".join(self.chunks(self.hub.limits.json_body))

    @contextmanager
    def spooled(self, limit: int) -> Iterator[IO[bytes]]:
        """The whole body as a file: in memory while small, else on disk."""
        with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY, dir=str(self.hub.scratch.folder)) as file:
            for chunk in self.chunks(limit):
                file.write(chunk)
            file.seek(0)
            yield file

    def json(self) -> dict[str, Any]:
        """A JSON object; an empty body is an empty object."""
        body = self.body()
        return parse_json(body) if body.strip() else {}

    def json_or_form(self) -> dict[str, Any]:
        """A JSON object, or a form whose every key has the list of its values."""
        if "json" in self.request.headers.get("content-type", ""):
            return self.json()
        form: dict[str, Any] = {}
        try:
            for key, value in parse_qsl(self.body().decode(), keep_blank_values=True, max_num_fields=20_000):
                form.setdefault(key, []).append(value)
        except ValueError as error:
            raise BadRequestError(f"Not a form: {error}") from None
        return form


def parse_json(data: bytes) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        BadRequestError: it is none.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise BadRequestError("The request body is not JSON") from None
    if not isinstance(value, dict):
        raise BadRequestError("The request body is not a JSON object")
    return value


def text_of(body: dict[str, Any], key: str, default: str | None = None) -> str:
    """A text in a JSON body; missing without a default is an error.

    Raises:
        BadRequestError: it is missing or something else.
    """
    value = body.get(key)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise BadRequestError(f'"{key}" must be a string')
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadRequestError(f'"{key}" is not valid Unicode') from None
    return value


def list_of(body: dict[str, Any], key: str, kind: type, most: int) -> list[Any]:
    """A list in a JSON body, of at most `most` values of one kind.

    Raises:
        BadRequestError: it is missing or something else.
    """
    value = body.get(key)
    if not isinstance(value, list) or len(value) > most or not all(isinstance(item, kind) for item in value):
        raise BadRequestError(f'"{key}" must be a list of at most {most} values of type {kind.__name__}')
    return value


def credentials(header: str) -> str:
    """The token in an Authorization header: a bearer's, or the password that git sends.

    Raises:
        RefusalError: the header is neither.
    """
    scheme, _, value = header.partition(" ")
    if scheme.lower() == "bearer" and value:
        return value.strip()
    if scheme.lower() == "basic":
        try:
            name, _, password = base64.b64decode(value, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            name = password = ""
        # `git clone http://TOKEN@…` sends the token as the name.
        if password or name:
            return password or name
    raise RefusalError("Invalid credentials in Authorization header", status=401, headers=BASIC)


def in_url(text: str) -> str:
    """One path segment: nothing is safe, not even a slash."""
    return quote(text, safe="")
