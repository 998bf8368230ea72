"""A Hub that misbehaves as asked: for tests of clients, and of what they make of a bad day.

A specification is a list of words, separated by commas:

    STATUS=RATE    answer with this status, such as 503 or 429, and do nothing
    cut=RATE       break the connection off and do nothing
    lost=RATE      do what was asked, then break the connection off before anything is answered
    torn=RATE      do what was asked, and break the connection off when half of the answer's body was sent
    slow=RATE:S    wait S seconds first
    quota=N/S      no more than N requests in S seconds; every answer then has the headers that say how many are left
    burst=N        at most N faults in a row at one address, 2 by default; 0 for no such bound
    seed=N         another seed gives other faults, 0 by default

RATE is a probability. `RATE@PART` hits only requests whose method and address, such as `GET /org/nav/resolve/main/a`,
contain PART. What happens to a request is decided by the seed, its method, its address and how often that was asked
before, so that it does not depend on what else goes on.
"""

import asyncio
import math
import random
import re
import secrets
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import Self

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from metta_hub.errors import UsageError
from metta_hub.localhub.errors import RefusalError
from metta_hub.localhub.web import refused

_BREAKS = ("cut", "lost", "torn")
_ERRORS = range(400, 600)
_SHA = re.compile(r"[0-9a-f]{40,64}")
_ADDRESSES = 100_000


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that may go wrong with a request.

    Attributes:
        kind: `cut`, `lost`, `torn`, `slow` or a status.
        rate: how likely it is, 0 to 1.
        part: what method and address must contain.
        seconds: how long to wait, for `slow`.
    """

    kind: str
    rate: float
    part: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Chaos:
    """What goes wrong, how often; see this module's head.

    Attributes:
        faults: in the order in which they are tried.
        quota: requests that are answered in a window; None for all.
        window: its seconds.
        burst: faults in a row at one address; 0 for no bound.
        seed: of the choice.
    """

    faults: tuple[Fault, ...] = ()
    quota: int | None = None
    window: int = 1
    burst: int = 2
    seed: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a specification.

        Raises:
            UsageError: it is none; says which word is wrong.
        """
        faults: list[Fault] = []
        numbers: dict[str, int] = {}
        for word in filter(None, text.split(",")):
            key, _, value = word.partition("=")
            try:
                match key:
                    case "burst" | "seed":
                        numbers[key] = _natural(value)
                    case "quota":
                        quota, _, window = value.partition("/")
                        numbers.update(quota=_natural(quota), window=max(1, _natural(window)))
                    case _:
                        faults.append(_fault(key, value))
            except ValueError:
                raise UsageError(
                    f"'{word}' is no fault that a Hub can have.",
                    hint="for example 503=0.1,cut=0.05,slow=0.2:1,quota=100/60,seed=7; see metta-hub serve --help",
                ) from None
        return cls(tuple(faults), **numbers)


def _natural(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(text)
    return int(text)


def _fault(kind: str, value: str) -> Fault:
    value, _, part = value.partition("@")
    rate, colon, seconds = value.partition(":")
    known = kind in _BREAKS or (kind == "slow" and colon) or (kind.isdecimal() and int(kind) in _ERRORS)
    probability, wait = float(rate), float(seconds) if colon else 0.0
    if not known or (colon and kind != "slow") or not 0 <= probability <= 1 or not 0 <= wait < math.inf:
        raise ValueError(value)
    return Fault(kind, probability, part, wait)


@dataclass(slots=True)
class _Address:
    """What became of the requests to one address."""

    asked: int = 0
    faults_in_a_row: int = 0


class _Window:
    """Counts the requests of a window of time."""

    def __init__(self, quota: int, seconds: int) -> None:
        self._quota = quota
        self._seconds = seconds
        self._left = 0
        self._end = 0.0

    def take(self) -> tuple[bool, dict[str, str]]:
        """Count one request; whether there was room for it, and what its answer says of that."""
        now = time.monotonic()
        if now >= self._end:
            self._left, self._end = self._quota, now + self._seconds
        has_room = self._left > 0
        self._left -= has_room
        wait = math.ceil(self._end - now)
        headers = {
            "ratelimit": f'"api";r={self._left};t={wait}',
            "ratelimit-policy": f'"fixed window";"api";q={self._quota};w={self._seconds}',
        }
        return has_room, headers if has_room else headers | {"Retry-After": str(wait)}


class ChaosApp:
    """An ASGI application that answers as another one does, or not.

    Args:
        application: the one that answers.
        chaos: what goes wrong.
    """

    def __init__(self, application: ASGIApp, chaos: Chaos) -> None:
        self._application = application
        self._chaos = chaos
        self._addresses: dict[str, _Address] = {}
        self._window = None if chaos.quota is None else _Window(chaos.quota, chaos.window)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI has it, or don't."""
        if scope["type"] != "http":
            return
        if self._window:
            has_room, headers = self._window.take()
            send = _adding(headers, send)
            if not has_room:
                await _refusal(429)(scope, receive, send)
                return
        fault = self._fault(scope)
        match fault.kind if fault else "":
            case "":
                await self._application(scope, receive, send)
            case "slow":
                await asyncio.sleep(fault.seconds if fault else 0)
                await self._application(scope, receive, send)
            case "cut":
                await _break_off(scope, receive)
            case "lost":
                await self._application(scope, receive, _nowhere)
                await _break_off(scope, receive)
            case "torn":
                await self._application(scope, receive, _tearing(scope, receive, send))
            case status:
                await _refusal(int(status))(scope, receive, send)

    def _fault(self, scope: Scope) -> Fault | None:
        """What goes wrong with a request, if anything does."""
        what = f"{scope['method']} {scope['raw_path'].decode('latin-1')}"
        if len(self._addresses) > _ADDRESSES:
            self._addresses.clear()
        # Hashes differ from run to run, as commits have their time in them.
        name = _SHA.sub("*", what)
        address = self._addresses.setdefault(name, _Address())
        address.asked += 1
        dice = random.Random(f"{self._chaos.seed} {name} {address.asked}")  # noqa: S311 - to be repeated, not kept secret
        fault = next((fault for fault in self._chaos.faults if dice.random() < fault.rate and fault.part in what), None)
        if fault is None or fault.kind == "slow" or address.faults_in_a_row >= (self._chaos.burst or math.inf):
            address.faults_in_a_row = 0
            return fault if fault and fault.kind == "slow" else None
        address.faults_in_a_row += 1
        return fault


def _refusal(status: int) -> Response:
    headers = {"X-Request-Id": f"chaos-{secrets.token_hex(8)}"}
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        headers["Retry-After"] = "1"
    response = refused(RefusalError(f"This Hub was asked to answer with {status}", status=status))
    response.headers.update(headers)
    return response


def _adding(headers: dict[str, str], send: Send) -> Send:
    """A `send` that adds headers to the answer."""

    async def sender(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(headers)
        await send(message)

    return sender


async def _nowhere(_message: Message) -> None:
    """A `send` that loses everything."""


def _tearing(scope: Scope, receive: Receive, send: Send) -> Send:
    """A `send` that breaks the connection off when half of the body was sent, if there is a body."""
    left = 0

    async def sender(message: Message) -> None:
        nonlocal left
        if message["type"] == "http.response.start":
            left = int(Headers(raw=message["headers"]).get("content-length", 0)) // 2
        body = message.get("body", b"") if scope["method"] != "HEAD" else b""
        if len(body) <= left:
            left -= len(body)
            await send(message)
            return
        await send({**message, "body": body[:left], "more_body": True})
        await _break_off(scope, receive)

    return sender


async def _break_off(scope: Scope, receive: Receive) -> None:
    """Close the connection, and wait until everybody has noticed."""
    scope["state"]["break_off"]()
    while (await receive())["type"] != "http.disconnect":
        pass


class Breakable(H11Protocol):
    """uvicorn's side of a connection; the application can break it off with `scope["state"]["break_off"]()`."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn's own
        """Begin."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, "break_off": transport.close}
