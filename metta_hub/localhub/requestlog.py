"""What was asked of the Hub: for tests that count requests and bytes."""

from collections import deque
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

KEPT = 10_000


@dataclass(slots=True)
class LoggedRequest:
    """One request. Headers are not kept: they hold tokens.

    Attributes:
        method: GET, POST, …
        path: as sent, percent-encoding and all, without the query.
        status: of the answer; 0 while there is none.
        received: bytes of the request's body.
        sent: bytes of the answer's body.
    """

    method: str
    path: str
    status: int = 0
    received: int = 0
    sent: int = 0


class RequestLog:
    """An ASGI application that notes the requests to another one.

    Args:
        application: the one that answers.

    Attributes:
        requests: the last ones, oldest first. An entry is complete before its answer's last byte is sent.
    """

    def __init__(self, application: ASGIApp) -> None:
        self._application = application
        self.requests: deque[LoggedRequest] = deque(maxlen=KEPT)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI has it."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        entry = LoggedRequest(scope["method"], scope["raw_path"].decode("latin-1"))
        self.requests.append(entry)

        async def counted_receive() -> Message:
            message = await receive()
            entry.received += len(message.get("body", b""))
            return message

        async def counted_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                entry.status = message["status"]
            elif entry.method != "HEAD":
                entry.sent += len(message.get("body", b""))
            await send(message)

        await self._application(scope, counted_receive, counted_send)
