"""A wire between the official client and a Hub, on which things can happen at exact moments of a request."""

import http.client
import http.server
import re
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from socket import SHUT_RDWR
from threading import Lock, Thread
from urllib.parse import urlsplit

#: The moments of a request, in order: it has arrived here whole, the Hub has answered it, the client has the answer.
ASKED, ANSWERED, TOLD = "asked", "answered", "told"


@dataclass(frozen=True)
class Request:
    """What passes: the method and path, and which of all requests so far it is, counted from 1."""

    number: int
    method: str
    path: str

    def is_(self, pattern: str) -> bool:
        """Whether `METHOD /path` fits a pattern from its beginning."""
        return bool(re.match(pattern, f"{self.method} {self.path}"))


Act = Callable[[Request, str], None]


@contextmanager
def relay(endpoint: str | Callable[[], str], act: Act = lambda request, moment: None):
    """Pass requests on to a Hub, telling `act` of each moment; raising there cuts the client's connection.

    The Hub's address may be a function, for one that moves. Yields the address to use as HF_ENDPOINT; the Hub's own in
    its answers becomes that one, so that large files come this way, too.
    """
    server = _Server(("127.0.0.1", 0), _Handler)
    server.act, server.upstream = act, endpoint if callable(endpoint) else lambda: endpoint
    server.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    server.count, server.lock, server.connections = 0, Lock(), []
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server.endpoint
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        for connection in server.connections:  # a client keeps them for later
            with suppress(OSError):
                connection.shutdown(SHUT_RDWR)


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def process_request(self, request, client_address):
        self.connections.append(request)
        super().process_request(request, client_address)

    def handle_error(self, request, client_address):
        """A client that was killed, or whose connection was cut, is no news."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    def _pass_on(self):
        body = self._body()
        with self.server.lock:
            self.server.count += 1
            request = Request(self.server.count, self.command, self.path)
        self.server.act(request, ASKED)
        status, headers, content = self._ask(body)
        self.server.act(request, ANSWERED)
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()
        self.server.act(request, TOLD)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _pass_on  # noqa: N815  (the names that the server looks up)

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _ask(self, body):
        address = self.server.upstream()
        theirs, ours = address.encode(), self.server.endpoint.encode()
        upstream = http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)
        dropped = {"transfer-encoding", "content-length", "connection", "host"}
        headers = {name: value for name, value in self.headers.items() if name.lower() not in dropped}
        try:
            upstream.request(self.command, self.path, body=body or None, headers=headers)
            answer = upstream.getresponse()
            content = answer.read()
            if "json" in answer.headers.get("content-type", ""):
                content = content.replace(theirs, ours)
            kept = [
                (name, value.replace(theirs.decode(), ours.decode()))
                for name, value in answer.getheaders()
                if name.lower() not in {"transfer-encoding", "content-length", "connection"}
            ]
            size = answer.headers.get("content-length") if self.command == "HEAD" else None
            return answer.status, [*kept, ("Content-Length", size or str(len(content)))], content
        finally:
            upstream.close()

    def log_message(self, *_):
        """Tests say what matters."""
