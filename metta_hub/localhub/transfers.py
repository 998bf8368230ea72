"""Sending files, whole or in ranges."""

import re
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import IO, Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from metta_hub.localhub.errors import RangeError

_BLOCK = 1024 * 1024
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


class FileStream(StreamingResponse):
    """A part of an open file as the body of an answer. The file is closed afterwards, also when the client is gone.

    Args:
        file: the file.
        start: its first byte to send.
        end: the byte after the last one.
        options: status, headers and type, as for any response.
    """

    def __init__(self, file: IO[bytes], start: int, end: int, **options: Any) -> None:  # noqa: ANN401 - passed on
        super().__init__(_blocks(file, start, end), **options)
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, as ASGI has it."""
        with self._file:
            await super().__call__(scope, receive, send)


def file_response(request: Request, content: Path | bytes, headers: Mapping[str, str]) -> Response:
    """Answer GET or HEAD with a file, or with the range of it that was asked for.

    Raises:
        RangeError: the range lies outside.
    """
    size = len(content) if isinstance(content, bytes) else content.stat().st_size
    asked = _asked_range(request.headers.get("range", ""), size)
    start, end = asked or (0, size)
    all_headers = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes", **headers}
    all_headers["Content-Length"] = str(end - start)
    if asked:
        all_headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    status = 206 if asked else 200
    if request.method == "HEAD":
        return Response(status_code=status, headers=all_headers)
    file = BytesIO(content) if isinstance(content, bytes) else content.open("rb")
    return FileStream(file, start, end, status_code=status, headers=all_headers)


def _asked_range(header: str, size: int) -> tuple[int, int] | None:
    """First byte and byte after the last; None for the whole file, also when several ranges are asked for."""
    found = _RANGE.fullmatch(header.replace(" ", ""))
    if not found or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if first:
        start, end = int(first), min(int(last) + 1 if last else size, size)
    else:
        start, end = max(0, size - int(last)), size
    if start >= end:
        raise RangeError("Requested range not satisfiable", headers={"Content-Range": f"bytes */{size}"})
    return start, end


def _blocks(file: IO[bytes], start: int, end: int) -> Iterator[bytes]:
    file.seek(start)
    while start < end and (block := file.read(min(_BLOCK, end - start))):
        start += len(block)
        yield block
