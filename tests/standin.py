"""A loopback server that stands before a real Hub: it passes requests on, but answers some of them itself."""

import contextlib
import http.client
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

#: Of an answer that is passed on: what concerns one connection only.
_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


def answer(status, body=b"", **headers):
    """An answer of one's own: status, content, headers (`retry_after=3` is `Retry-After: 3`)."""
    content = body.encode() if isinstance(body, str) else body
    named = {name.replace("_", "-"): str(value) for name, value in headers.items()}

    def give(handler):
        handler.send_response(status)
        for name, value in named.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(content)

    return give


def hang_up(handler):
    """Close the connection without a word."""
    handler.close_connection = True
    handler.connection.close()


def babble(handler):
    """Answer something that is not HTTP."""
    handler.wfile.write(b"220 mail.example ESMTP ready\r\n\r\n")
    handler.close_connection = True


def sleep(handler):
    """Say nothing for longer than anybody waits."""
    time.sleep(3)
    handler.close_connection = True


class StandIn:
    """The server.

    Args:
        endpoint: of the Hub behind it.
    """

    def __init__(self, endpoint):
        self._behind = urlsplit(endpoint)
        self._answers = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    def say(self, method, part, give, after=False):
        """From now on answer requests whose path holds `part` by `give`; with `after` the Hub gets them, too."""
        self._answers.append((method, part, give, after))

    def forget(self):
        """Pass everything on again."""
        self._answers.clear()

    def _handler(standin):  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def handle_one_request(self):
                with contextlib.suppress(OSError):
                    return super().handle_one_request()
                self.close_connection = True
                return None

            def _any(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                for method, part, give, after in standin._answers:
                    if method in (self.command, "*") and part in self.path:
                        if after:
                            standin._pass_on(self, body)
                        return give(self)
                return standin._return(self, *standin._pass_on(self, body))

            do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _any  # noqa: N815

        return Handler

    def _pass_on(self, handler, body):
        connection = http.client.HTTPConnection(self._behind.hostname, self._behind.port, timeout=60)
        headers = {name: value for name, value in handler.headers.items() if name.lower() not in {*_HOP, "host"}}
        if body or handler.command in {"POST", "PUT"}:
            headers["Content-Length"] = str(len(body))
        with contextlib.closing(connection):
            connection.request(handler.command, handler.path, body, headers)
            given = connection.getresponse()
            return given.status, given.getheaders(), given.read(), given.getheader("Content-Length")

    @staticmethod
    def _return(handler, status, headers, content, length):
        handler.send_response(status)
        for name, value in headers:
            if name.lower() not in _HOP:
                handler.send_header(name, value)
        handler.send_header("Content-Length", length if handler.command == "HEAD" and length else str(len(content)))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(content)
