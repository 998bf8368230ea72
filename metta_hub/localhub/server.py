"""The embedded Hub on a loopback port."""

import contextlib
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

import uvicorn
from starlette.types import ASGIApp

from metta_hub.errors import ConflictError
from metta_hub.localhub.asgi import app
from metta_hub.localhub.chaos import Breakable, Chaos, ChaosApp
from metta_hub.localhub.limits import Limits
from metta_hub.localhub.requestlog import LoggedRequest, RequestLog
from metta_hub.localhub.store import LocalHub

HOST = "127.0.0.1"
_BACKLOG = 256
_PATIENCE_SECONDS = 3


class Server:
    """A running Hub; also a context manager.

    Args:
        root: the folder of the store; made when it is not there.
        port: the port; 0 takes a free one at every start.
        user: the first user's name, see `LocalHub`.
        limits: bounds on what is taken and sent, see `LocalHub`.
        chaos: what shall go wrong, see `chaos.py`; nothing by default.

    Raises:
        ConflictError: the folder belongs to another user.

    Attributes:
        hub: the store.
    """

    def __init__(
        self,
        root: Path,
        port: int = 0,
        user: str | None = None,
        *,
        limits: Limits | None = None,
        chaos: Chaos | None = None,
    ) -> None:
        self.hub = LocalHub(Path(root), user=user, limits=limits)
        self._port = port
        self._chaos = chaos
        self._endpoint = ""
        self._log: RequestLog | None = None
        self._running: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def endpoint(self) -> str:
        """The address, without a slash at the end; empty before the first start."""
        return self._endpoint

    @property
    def root(self) -> Path:
        """The folder of the store."""
        return self.hub.root

    @property
    def user(self) -> str:
        """The first user's name."""
        return self.hub.user

    @property
    def token(self) -> str:
        """The first user's write token."""
        return self.hub.token

    @property
    def requests(self) -> deque[LoggedRequest]:
        """The last requests since the start, oldest first."""
        return self._log.requests if self._log else deque()

    def start(self) -> Self:
        """Listen and serve in a thread of its own; requests are taken when this returns.

        Raises:
            ConflictError: the port is in use.
        """
        listener = self._listen()
        self._endpoint = f"http://{HOST}:{listener.getsockname()[1]}"
        application: ASGIApp = app(self.hub, endpoint=self._endpoint)
        if self._chaos:
            application = ChaosApp(application, self._chaos)
        self._log = RequestLog(application)
        config = uvicorn.Config(
            self._log,
            http=Breakable,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=_PATIENCE_SECONDS,
        )
        self._running = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._serve, args=(self._running, listener), name="metta-hub-serve", daemon=True
        )
        # The socket listens already: whoever connects before the thread is up waits in its queue.
        self._thread.start()
        return self

    def stop(self) -> None:
        """Answer what is being answered, then close everything; nothing happens if it doesn't run."""
        if self._running is None or self._thread is None:
            return
        self._running.should_exit = True
        self._thread.join()
        self._running = self._thread = None

    def serve_forever(self, announce: Callable[[], None] = lambda: None) -> None:
        """Serve until SIGINT or SIGTERM, then return; only in the main thread, where Python delivers signals.

        Args:
            announce: called once requests are taken and the signals are caught.

        Raises:
            ConflictError: the port is in use.
        """
        asked_to_stop = threading.Event()

        def ask(_signal: int, _frame: FrameType | None) -> None:
            asked_to_stop.set()

        previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            if self._running is None:
                self.start()
            announce()
            asked_to_stop.wait()
        finally:
            self.stop()
            for number, handler in previous.items():
                signal.signal(number, handler)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _listen(self) -> socket.socket:
        # The protocol is named because asyncio sends small packets at once only where it sees TCP: 40 ms an answer.
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((HOST, self._port))
            listener.listen(_BACKLOG)
        except OSError as error:
            listener.close()
            raise ConflictError(
                str(self._port), f"Cannot listen on {HOST}:{self._port}: {error.strerror}.", hint="use port 0"
            ) from error
        return listener

    @staticmethod
    def _serve(server: uvicorn.Server, listener: socket.socket) -> None:
        with contextlib.closing(listener):
            server.run(sockets=[listener])
