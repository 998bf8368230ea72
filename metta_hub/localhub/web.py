"""From a request to its handler and back: routing, loopback check, errors as the Hub words them."""

import errno
import json
import logging
import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from urllib.parse import unquote

from anyio import CapacityLimiter, to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from metta_hub.localhub.calls import BASIC, Call, credentials
from metta_hub.localhub.errors import (
    BadRequestError,
    ForeignHostError,
    NoSpaceError,
    NotLoggedInError,
    NotServedError,
    RefusalError,
    RepoNotFoundError,
)
from metta_hub.localhub.names import RESERVED_NAMESPACES
from metta_hub.localhub.store import LocalHub

Handler = Callable[[Call], Response]

_LOGGER = logging.getLogger(__name__)
_NOT_IN_HEADER = re.compile(r"[^ -~]")
_LONGEST_HEADER = 1000
# What follows the id of a repo in the API's paths. After a single name it says that the namespace is missing.
_AFTER_AN_ID = {
    "auth-check", "branch", "commit", "commits", "discussions", "paths-info", "preupload", "refs", "revision",
    "settings", "super-squash", "tag", "tree", "xet-read-token", "xet-write-token",
}  # fmt: skip
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_THREADS = 200
_PORT = re.compile(r":\d{1,5}$")


@dataclass(frozen=True, slots=True)
class Route:
    """A method, a path with `{names}`, of which the last may be `{name...}`: the rest, and who answers."""

    method: str
    path: str
    handler: Handler

    def match(self, segments: list[str]) -> dict[str, str] | None:
        """The values of the `{names}` if a path fits; its segments are decoded already."""
        pattern = self.path[1:].split("/")
        params: dict[str, str] = {}
        if pattern[-1].endswith("...}"):
            if len(segments) < len(pattern):
                return None
            rest = "/".join(segments[len(pattern) - 1 :])
            params[pattern.pop()[1:-4]] = rest
            segments = segments[: len(pattern)]
        if len(pattern) != len(segments):
            return None
        for part, segment in zip(pattern, segments, strict=True):
            if part.startswith("{"):
                params[part[1:-1]] = segment
            elif part != segment:
                return None
        return params


class Json(Response):
    """A JSON answer: strict, and readable when somebody looks."""

    media_type = "application/json"

    def render(self, content: object) -> bytes:
        """The JSON text."""
        return json.dumps(content, ensure_ascii=False, allow_nan=False).encode()


class Application:
    """The ASGI application: every request is answered, and every refusal in the Hub's form."""

    def __init__(self, hub: LocalHub, endpoint: str, routes: Iterable[Route]) -> None:
        self._hub = hub
        self._endpoint = endpoint
        self._routes = tuple(routes)
        self._threads: CapacityLimiter | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI has it."""
        if scope["type"] != "http":
            return
        # A thread a request, also while its body comes in. Too few, and some slow uploads would keep everybody out.
        self._threads = self._threads or CapacityLimiter(_THREADS)  # belongs to the event loop that runs now
        request_id = scope["request_id"] = f"local-{secrets.token_hex(8)}"
        try:
            response = await to_thread.run_sync(self._answer, Request(scope, receive), limiter=self._threads)
        except ClientDisconnect:
            return
        response.headers["X-Request-Id"] = request_id
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        await response(scope, receive, send)

    def _answer(self, request: Request) -> Response:
        params: dict[str, str] = {}
        try:
            check_host(request.headers.get("host", ""))
            handler, params = self._find(request)
            header = request.headers.get("authorization")
            caller = self._hub.authenticate(credentials(header)) if header else None
            return handler(Call(self._hub, self._endpoint, request, params, caller))
        except RefusalError as refusal:
            return refused(refusal)
        except ClientDisconnect:
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno in _NO_SPACE:
                return refused(NoSpaceError(f"This Hub has no room for that: {error.strerror}"))
            if self._is_gone(params):
                return refused(RepoNotFoundError("Repository not found: it was deleted or moved meanwhile"))
            _LOGGER.exception("%s %s failed", request.method, request.url.path)
            return refused(RefusalError("Internal error of the embedded Hub", status=500))

    def _is_gone(self, params: dict[str, str]) -> bool:
        """Whether the repo in a path is no more; then whatever failed, failed for that."""
        try:
            self._hub.repo(params.get("ns", ""), params.get("name", "").removesuffix(".git"))
        except RepoNotFoundError:
            return "ns" in params
        return False

    def _find(self, request: Request) -> tuple[Handler, dict[str, str]]:
        # A revision may hold slashes, sent as %2F: split first, decode then.
        raw: bytes = request.scope["raw_path"].partition(b"?")[0]
        try:
            segments = [unquote(part, errors="strict") for part in raw.decode("ascii")[1:].split("/")]
        except UnicodeDecodeError:
            raise BadRequestError("The path is not valid UTF-8") from None
        method = "GET" if request.method == "HEAD" else request.method
        reserved = segments[0] in RESERVED_NAMESPACES
        for route in self._routes:
            if route.method != method or (reserved and route.path.startswith("/{")):
                continue
            params = route.match(segments)
            if params is not None:
                return route.handler, params
        raise _unknown(segments)


def _unknown(segments: list[str]) -> RefusalError:
    """Why no route fits: the client must see a missing repo where it asked for one."""
    match segments:
        case ["api", "datasets" | "spaces" | "kernels", _, *_] | ["datasets" | "spaces" | "kernels", _, *_]:
            return RepoNotFoundError("This Hub has models only: no datasets, spaces or kernels")
        case ["api", "models", _] | [_, "resolve" | "raw", *_]:
            return RepoNotFoundError("Repository not found: ids are namespace/name")
        case ["api", "models", _, word, *_] if word in _AFTER_AN_ID:
            return RepoNotFoundError("Repository not found: ids are namespace/name")
        case _:
            return NotServedError("Sorry, this Hub has no such page or endpoint")


def check_host(header: str) -> None:
    """Refuse requests meant for another name: that is how a web page elsewhere reaches a loopback server.

    Raises:
        ForeignHostError: the Host header is not loopback.
    """
    host = _PORT.sub("", header)
    if host.lower() == "localhost":
        return
    try:
        if ip_address(host.removeprefix("[").removesuffix("]")).is_loopback:
            return
    except ValueError:
        pass
    raise ForeignHostError("This Hub answers on 127.0.0.1 and localhost only")


def refused(refusal: RefusalError) -> Response:
    """An error as the Hub sends it."""
    message = str(refusal)
    headers = dict(refusal.headers)
    headers["X-Error-Message"] = _NOT_IN_HEADER.sub("?", message)[:_LONGEST_HEADER].strip()
    if refusal.code:
        headers["X-Error-Code"] = refusal.code
    if isinstance(refusal, NotLoggedInError):
        headers.update(BASIC)
    body: Mapping[str, Any] = {"error": message, **refusal.extra}
    return Json(body, status_code=refusal.status, headers=headers)
